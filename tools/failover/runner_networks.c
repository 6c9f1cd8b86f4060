/* SPDX-License-Identifier: MIT
 * Networks of a machine on this host. The mapping has a home side and an away side, and is read in
 * the direction in which the VM moves. */
#include "tools/failover/runner_private.h"

#include "common/buf.h"

static bool at_home(const struct runner *r)
{
    return strcmp(r->host.name, r->protection->home_host) == 0;
}

static bool same_subnet(const char *row, const char *nic)
{
    return row[0] == '\0' || strcmp(row, nic) == 0;
}

/* A row for the subnet wins over one for the whole network. */
static const struct protection_mapping *find_mapping(const struct protection *p, bool home,
                                                     const struct protection_nic *nic)
{
    const struct protection_mapping *whole = NULL;
    for (uint16_t i = 0; i < p->mapping_count; i++) {
        const struct protection_mapping *m = &p->mappings[i];
        const char *network = home ? m->away_network : m->home_network;
        const char *subnet = home ? m->away_subnet : m->home_subnet;
        if (strcmp(network, nic->network) != 0 || !same_subnet(subnet, nic->subnet))
            continue;
        if (subnet[0] != '\0')
            return m;
        whole = m;
    }
    return whole;
}

void runner_place(const struct runner *r, uint16_t i, struct network_place *out)
{
    const struct protection *p = r->protection;
    const struct protection_nic *nic = &p->nics[i];
    bool home = at_home(r);
    const struct protection_mapping *m = find_mapping(p, home, nic);
    const char *network = home ? NULL : target_setting_nic(&p->settings, "network", i);
    const char *subnet = home ? NULL : target_setting_nic(&p->settings, "subnet", i);

    if (network == NULL)
        network = m == NULL ? nic->network : home ? m->home_network : m->away_network;
    if (subnet == NULL && m != NULL)
        subnet = home ? m->home_subnet : m->away_subnet;
    if (subnet == NULL || subnet[0] == '\0')
        subnet = nic->subnet;
    snprintf(out->network, sizeof out->network, "%s", network);
    snprintf(out->subnet, sizeof out->subnet, "%s", subnet);
}

/* The XML of a network like that of NIC `i`: this host's own where it has it, else as the source
 * described it. */
static bool model_of(struct runner *r, uint16_t i, const char *network, char **out, struct err *err)
{
    if (virt_network_xml(r->virt, network, out, err))
        return true;
    if (err->kind != ERR_NOT_FOUND)
        return false;
    *err = ERR_NONE;
    const struct buf *xml = protection_network(r->protection, r->protection->nics[i].network);
    if (xml == NULL)
        return err_set(err, ERR_NOT_FOUND,
                       "there is no network %s on this host, and none is known to make it like: "
                       "make one, or name another: farshore set %s target.network.%u=NETWORK",
                       network, r->vm->settings.name, i);
    *out = strndup((const char *)xml->data, xml->length);
    return *out != NULL || err_set(err, ERR_FULL, "out of memory");
}

static bool ensure_network(struct runner *r, uint16_t i, const char *network, struct buf *notes,
                           struct err *err)
{
    char *xml AUTO_FREE = NULL, *made AUTO_FREE = NULL;
    char group[PROTECTION_NAME_MAX];
    if (virt_network_start(r->virt, network, err))
        return true;
    if (err->kind != ERR_NOT_FOUND)
        return false;
    *err = ERR_NONE;
    runner_group(r, group, sizeof group);
    if (!model_of(r, i, network, &xml, err) ||
        !network_like(r->vm->call->world, span_of_text(xml), network, group, &made, err) ||
        !virt_network_make(r->virt, made, true, err))
        return err_wrap(err, "network %s", network);
    return runner_note(notes, err, "network %s made", network);
}

static bool take_address(struct runner *r, uint16_t i, const struct network_place *place,
                         const char *mac, struct protection_nic *nic, struct buf *notes,
                         struct err *err)
{
    struct network n AUTO_NETWORK = {.subnet_count = 0};
    const char *given = target_setting_nic(&r->protection->settings, "address", i);
    const char *wanted = given && !at_home(r) ? given : r->protection->nics[i].address;
    bool kept = false;

    if (!network_load(r->virt, place->network, &n, err))
        return false;
    const struct subnet *subnet = network_pick_subnet(&n, place->subnet);
    if (subnet == NULL || wanted[0] == '\0')
        return true; /* a network without addresses of its own, or none known */
    snprintf(nic->subnet, sizeof nic->subnet, "%s", subnet->name);
    if (subnet->ipv6)
        return true;
    if (!network_reserve(r->virt, place->network, subnet->name, mac, wanted, nic->address, &kept,
                         err))
        return false;
    return runner_note(notes, err, "NIC %u: network %s, subnet %s, address %s%s", i, place->network,
                       subnet->name, nic->address,
                       kept ? " kept" : " (the one it had is not free here)");
}

bool runner_connect(struct runner *r, uint16_t i, const char *mac, struct protection_nic *nic,
                    struct buf *notes, struct err *err)
{
    struct network_place place;
    runner_place(r, i, &place);
    *nic = r->protection->nics[i];
    snprintf(nic->network, sizeof nic->network, "%s", place.network);
    snprintf(nic->mac, sizeof nic->mac, "%s", mac);
    return ensure_network(r, i, place.network, notes, err) &&
           take_address(r, i, &place, mac, nic, notes, err);
}

/* --- drills --- */

/* The networks of a drill: the setting or farshore-test-VM-ID, the second and further ones with
 * their number. */
static void drill_network(const struct runner *r, const struct runner_machine *m, unsigned n,
                          char out[NETWORK_NAME_MAX + 1])
{
    const char *given = target_setting(&r->protection->settings, "test-network");
    char number[12] = "";
    if (n > 0)
        snprintf(number, sizeof number, "-%u", n);
    if (given)
        snprintf(out, NETWORK_NAME_MAX + 1, "%.40s%s", given, number);
    else
        snprintf(out, NETWORK_NAME_MAX + 1, "farshore-test-%.32s-%.8s%s", r->vm->settings.name,
                 m->drill, number);
}

/* NICs that share a network in the machine share one in the drill. */
static bool isolate_one(struct runner *r, const struct runner_machine *m, unsigned n,
                        const char *network, struct protection_nic *nics, struct err *err)
{
    const struct protection *p = r->protection;
    struct network_host hosts[PROTECTION_NICS_MAX];
    char name[NETWORK_NAME_MAX + 1], group[PROTECTION_NAME_MAX];
    char *xml AUTO_FREE = NULL, *made AUTO_FREE = NULL;
    struct network_place place;
    size_t count = 0;
    uint16_t first = PROTECTION_NICS_MAX;

    drill_network(r, m, n, name);
    runner_group(r, group, sizeof group);
    for (uint16_t i = 0; i < p->nic_count; i++) {
        if (strcmp(p->nics[i].network, network) != 0)
            continue;
        first = first == PROTECTION_NICS_MAX ? i : first;
        snprintf(nics[i].network, sizeof nics[i].network, "%s", name);
        if (p->nics[i].address[0] == '\0')
            continue;
        snprintf(hosts[count].mac, sizeof hosts[count].mac, "%s", nics[i].mac);
        snprintf(hosts[count].address, sizeof hosts[count].address, "%s", p->nics[i].address);
        count++;
    }
    runner_place(r, first, &place);
    if (!model_of(r, first, place.network, &xml, err) ||
        !network_isolated(r->vm->call->world, span_of_text(xml), name, group, hosts, count, &made,
                          err))
        return false;
    if (virt_network_make(r->virt, made, false, err))
        return true;
    if (err->kind != ERR_EXISTS)
        return false;
    *err = ERR_NONE; /* an earlier try made it, or several drills share it by the setting */
    return virt_network_start(r->virt, name, err);
}

bool runner_isolate(struct runner *r, const struct runner_machine *m, struct protection_nic *nics,
                    struct buf *notes, struct err *err)
{
    const struct protection *p = r->protection;
    unsigned made = 0;
    for (uint16_t i = 0; i < p->nic_count; i++) {
        bool seen = false;
        for (uint16_t j = 0; j < i; j++)
            seen = seen || strcmp(p->nics[j].network, p->nics[i].network) == 0;
        if (seen)
            continue;
        if (!isolate_one(r, m, made, p->nics[i].network, nics, err))
            return err_wrap(err, "the isolated network");
        if (!runner_note(notes, err, "isolated network %s", nics[i].network))
            return false;
        made++;
    }
    return true;
}

/* One that another drill uses stays. */
bool runner_remove_networks(struct runner *r, const struct runner_machine *m, struct err *err)
{
    char name[NETWORK_NAME_MAX + 1];
    bool shared = target_setting(&r->protection->settings, "test-network") != NULL &&
                  r->protection->test_count > 1;
    for (unsigned n = 0; !shared && n < r->protection->nic_count; n++) {
        drill_network(r, m, n, name);
        if (!virt_network_remove(r->virt, name, err))
            return false;
    }
    return true;
}

bool runner_release_addresses(struct runner *r, const char *xml, struct err *err)
{
    struct machine *machine AUTO_MACHINE = NULL;
    if (!machine_parse(span_of_text(xml), &machine, err))
        return false;
    const struct machine_facts *f = machine_facts(machine);
    for (size_t i = 0; i < f->nic_count; i++)
        if (f->nics[i].link == MACHINE_ON_NETWORK &&
            !network_unreserve(r->virt, f->nics[i].network, f->nics[i].mac, err))
            return false;
    return true;
}
