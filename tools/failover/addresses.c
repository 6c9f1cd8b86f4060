/* SPDX-License-Identifier: MIT
 * Addresses: kept where they can be, chosen where not, and found out. */
#include "tools/failover/networks_internal.h"

#include <stdio.h>

#define TAKEN_MAX     (NETWORK_HOSTS_MAX + 16384u)
#define RESERVE_TRIES 4u /* others may take what we chose */

/* --- what is taken --- */

struct taken {
    const char *mac; /* whose own do not count */
    size_t count;
    uint32_t *numbers;
    bool full;
};

static void taken_release(struct taken *t)
{
    free(t->numbers);
}

static void taken_add(struct taken *t, const char *address)
{
    uint32_t number = ip4_number(address);
    if (number == 0)
        return;
    t->full |= t->count == TAKEN_MAX;
    if (!t->full)
        t->numbers[t->count++] = number;
}

static bool take_lease(void *context, const char *mac, const char *address)
{
    struct taken *t = context;
    if (mac == NULL || strcasecmp(mac, t->mac) != 0)
        taken_add(t, address);
    return true;
}

static bool taken_collect(struct virt *v, const struct network *n, struct taken *t, struct err *err)
{
    t->numbers = calloc(TAKEN_MAX, sizeof *t->numbers);
    if (t->numbers == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < n->subnet_count; i++)
        taken_add(t, n->subnets[i].gateway);
    for (size_t i = 0; i < n->host_count; i++)
        if (strcmp(n->hosts[i].mac, t->mac) != 0)
            taken_add(t, n->hosts[i].address);
    if (!virt_leases(v, n->name, take_lease, t, err))
        return false;
    return !t->full || err_set(err, ERR_FULL, "network %s has too many addresses in use", n->name);
}

static bool is_taken(const struct taken *t, uint32_t number)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->numbers[i] == number)
            return true;
    return false;
}

/* --- choosing --- */

struct interval {
    uint32_t first, last;
};

/* At most one step for each that is taken, and one more. */
static uint32_t first_free(const struct taken *t, struct interval a, struct interval b)
{
    uint32_t last = a.last < b.last ? a.last : b.last;
    for (uint64_t n = a.first > b.first ? a.first : b.first; n <= last; n++)
        if (!is_taken(t, (uint32_t)n))
            return (uint32_t)n;
    return 0;
}

/* Without the network's own address and the broadcast's. */
static struct interval usable(const struct subnet *s)
{
    uint32_t mask = ip4_mask(s->prefix), base = ip4_number(s->gateway) & mask;
    uint32_t ends = s->prefix < 31 ? 1 : 0;
    return (struct interval){base + ends, (base | ~mask) - ends};
}

/* The next behind `after`, and round again from the start: of the DHCP ranges, then of all. */
static uint32_t next_free(const struct subnet *s, const struct taken *t, uint32_t after)
{
    struct interval all = usable(s);
    struct interval rounds[] = {{after < UINT32_MAX ? after + 1 : after, UINT32_MAX}, {0, after}};
    uint32_t found = 0;

    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < s->range_count && found == 0; i++) {
            struct interval range = {ip4_number(s->ranges[i].first), ip4_number(s->ranges[i].last)};
            found = first_free(t, rounds[r], range);
        }
    for (size_t r = 0; r < 2 && found == 0; r++)
        found = first_free(t, rounds[r], all);
    return found;
}

static const char *reserved_address(const struct network *n, const char *mac, int ip_index)
{
    for (size_t i = 0; i < n->host_count; i++)
        if (n->hosts[i].ip_index == ip_index && strcmp(n->hosts[i].mac, mac) == 0)
            return n->hosts[i].address;
    return NULL;
}

static bool choose(const struct network *n, const struct subnet *s, const struct taken *t,
                   const char *wanted, char out[VIRT_ADDRESS_MAX + 1], struct err *err)
{
    struct interval all = usable(s);
    uint32_t number = ip4_number(wanted);
    bool inside = number >= all.first && number <= all.last;
    const char *has = reserved_address(n, t->mac, s->ip_index);

    if (inside && !is_taken(t, number)) {
        ip4_text(number, out);
        return true;
    }
    if (has != NULL) {
        snprintf(out, VIRT_ADDRESS_MAX + 1, "%s", has);
        return true;
    }
    number = next_free(s, t, inside ? number : all.first - 1);
    if (number == 0)
        return err_set(err, ERR_FULL,
                       "subnet %s of network %s has no free address: remove reservations "
                       "(virsh net-update), or choose another subnet",
                       s->name, n->name);
    ip4_text(number, out);
    return true;
}

static bool find_subnet(const struct network *n, const char *name, const struct subnet **out,
                        struct err *err)
{
    *out = network_pick_subnet(n, name);
    if (*out == NULL || (strcmp((*out)->name, name) != 0 && strcmp((*out)->cidr, name) != 0))
        return err_set(err, ERR_NOT_FOUND, "network %s has no subnet %s", n->name, name);
    return !(*out)->ipv6 ||
           err_set(err, ERR_INVALID, "subnet %s of network %s is none of IPv4", name, n->name);
}

bool network_would_reserve(struct virt *v, const struct network *n, const char *subnet,
                           const char *mac, const char *wanted, char out[VIRT_ADDRESS_MAX + 1],
                           bool *kept, struct err *err)
{
    char lower[MAC_CHARS + 1];
    struct taken t CLEANUP(taken_release) = {.mac = lower};
    const struct subnet *s;

    if (!mac_parse(mac, lower))
        return err_set(err, ERR_INVALID, "\"%.60s\" is no MAC address", mac);
    if (!find_subnet(n, subnet, &s, err) || !taken_collect(v, n, &t, err) ||
        !choose(n, s, &t, wanted, out, err))
        return false;
    if (kept != NULL)
        *kept = strcmp(out, wanted) == 0;
    return true;
}

/* --- reserving --- */

static bool host_change(struct virt *v, const struct network *n, const struct network_host *h,
                        bool add, struct err *err)
{
    char xml[256];
    snprintf(xml, sizeof xml, "<host mac='%s' ip='%s'/>", h->mac, h->address);
    return virt_network_host(v, n->name, h->ip_index, xml, add, err);
}

/* One MAC has one reservation in a network. */
static bool replace_host(struct virt *v, const struct network *n, const struct network_host *h,
                         struct err *err)
{
    for (size_t i = 0; i < n->host_count; i++) {
        if (strcmp(n->hosts[i].mac, h->mac) != 0)
            continue;
        if (strcmp(n->hosts[i].address, h->address) == 0)
            return true;
        if (!host_change(v, n, &n->hosts[i], false, err))
            return false;
    }
    return host_change(v, n, h, true, err);
}

static bool reserve_once(struct virt *v, const char *network, const char *subnet, const char *mac,
                         const char *wanted, char out[VIRT_ADDRESS_MAX + 1], bool *kept,
                         struct err *err)
{
    struct network n AUTO_NETWORK = {.host_count = 0};
    struct network_host h = {.ip_index = 0};
    const struct subnet *s;

    if (!network_load(v, network, &n, err) ||
        !network_would_reserve(v, &n, subnet, mac, wanted, out, kept, err) ||
        !find_subnet(&n, subnet, &s, err) || !mac_parse(mac, h.mac))
        return false;
    if (!s->dhcp)
        return true;
    h.ip_index = s->ip_index;
    snprintf(h.address, sizeof h.address, "%s", out);
    return replace_host(v, &n, &h, err);
}

bool network_reserve(struct virt *v, const char *network, const char *subnet, const char *mac,
                     const char *wanted, char out[VIRT_ADDRESS_MAX + 1], bool *kept,
                     struct err *err)
{
    struct err why = ERR_NONE;
    for (unsigned i = 0; i < RESERVE_TRIES; i++) {
        why = ERR_NONE;
        if (reserve_once(v, network, subnet, mac, wanted, out, kept, &why))
            return true;
        /* libvirt says so when another took the address meanwhile. */
        if (strstr(why.text, "existing dhcp host") == NULL)
            break;
    }
    return err_set(err, why.kind, "%s", why.text);
}

bool network_unreserve(struct virt *v, const char *network, const char *mac, struct err *err)
{
    struct network n AUTO_NETWORK = {.host_count = 0};
    struct err why = ERR_NONE;
    char lower[MAC_CHARS + 1];

    if (!mac_parse(mac, lower))
        return err_set(err, ERR_INVALID, "\"%.60s\" is no MAC address", mac);
    if (!network_load(v, network, &n, &why))
        return why.kind == ERR_NOT_FOUND || err_set(err, why.kind, "%s", why.text);
    for (size_t i = 0; i < n.host_count; i++)
        if (strcmp(n.hosts[i].mac, lower) == 0 && !host_change(v, &n, &n.hosts[i], false, err))
            return false;
    return true;
}

/* --- finding out --- */

const char *address_from_name(enum address_from from)
{
    static const char *const names[] = {
        [ADDRESS_UNKNOWN] = "unknown",
        [ADDRESS_RESERVED] = "reservation",
        [ADDRESS_LEASED] = "lease",
        [ADDRESS_AGENT] = "guest agent",
    };
    return names[from];
}

struct seek {
    const struct network *network; /* its subnets go first */
    const char *mac;
    char *out;
    bool best;
};

static bool seek_address(void *context, const char *mac, const char *address)
{
    struct seek *s = context;
    struct ip a;
    if (mac == NULL || strcasecmp(mac, s->mac) != 0 || !ip_parse(address, &a) || a.length != 4 ||
        a.bytes[0] == 127 || (a.bytes[0] == 169 && a.bytes[1] == 254))
        return true;
    s->best = network_subnet_of(s->network, address) != NULL;
    if (s->best || s->out[0] == '\0')
        snprintf(s->out, VIRT_ADDRESS_MAX + 1, "%s", address);
    return !s->best;
}

bool nic_address(struct virt *v, const char *domain, const struct machine_nic *nic,
                 char out[VIRT_ADDRESS_MAX + 1], enum address_from *from, struct err *err)
{
    struct network n AUTO_NETWORK = {.host_count = 0};
    struct seek s = {.network = &n, .mac = nic->mac, .out = out};
    struct err why = ERR_NONE;

    out[0] = '\0';
    *from = ADDRESS_UNKNOWN;
    if (nic->mac[0] == '\0')
        return true;
    if (nic->network[0] != '\0' && !network_load(v, nic->network, &n, &why) &&
        why.kind != ERR_NOT_FOUND)
        return err_set(err, why.kind, "%s", why.text);
    for (size_t i = 0; i < n.host_count; i++)
        if (strcmp(n.hosts[i].mac, nic->mac) == 0 &&
            !seek_address(&s, nic->mac, n.hosts[i].address))
            break;
    if (out[0] != '\0') {
        *from = ADDRESS_RESERVED;
        return true;
    }
    /* What these two cannot tell is unknown, not wrong: no lease file, no agent. */
    if (n.name[0] != '\0' && virt_leases(v, n.name, seek_address, &s, &why) && out[0] != '\0')
        *from = ADDRESS_LEASED;
    else if (virt_addresses(v, domain, VIRT_FROM_AGENT, seek_address, &s, &why) && out[0] != '\0')
        *from = ADDRESS_AGENT;
    return true;
}
