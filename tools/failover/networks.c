/* SPDX-License-Identifier: MIT
 * What stands in a network's XML, and the mapping between networks. */
#include "tools/failover/networks_internal.h"

#include <arpa/inet.h>
#include <stdio.h>

static bool corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the XML of the network cannot be read: %s", what);
}

static bool take_attr(xmlNodePtr node, const char *name, char *out, size_t size, struct err *err)
{
    return dom_attr(node, name, out, size) || corrupt(err, "a name or number in it is too long");
}

/* --- addresses as bytes --- */

bool ip_parse(const char *text, struct ip *out)
{
    *out = (struct ip){.length = 4};
    if (inet_pton(AF_INET, text, out->bytes) == 1)
        return true;
    out->length = 16;
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static void ip_text(const struct ip *a, char out[VIRT_ADDRESS_MAX + 1])
{
    if (inet_ntop(a->length == 4 ? AF_INET : AF_INET6, a->bytes, out, VIRT_ADDRESS_MAX + 1) == NULL)
        out[0] = '\0';
}

static void ip_mask(struct ip *a, unsigned prefix)
{
    for (unsigned i = 0; i < a->length; i++) {
        unsigned bits = prefix > i * 8 ? prefix - i * 8 : 0;
        if (bits < 8)
            a->bytes[i] = (uint8_t)(a->bytes[i] & (0xff00u >> bits));
    }
}

static bool in_subnet(const struct subnet *s, const char *address)
{
    struct ip a, b;
    if (!ip_parse(address, &a) || !ip_parse(s->gateway, &b) || a.length != b.length)
        return false;
    ip_mask(&a, s->prefix);
    ip_mask(&b, s->prefix);
    return memcmp(a.bytes, b.bytes, a.length) == 0;
}

uint32_t ip4_number(const char *text)
{
    struct in_addr a;
    return inet_pton(AF_INET, text, &a) == 1 ? ntohl(a.s_addr) : 0;
}

void ip4_text(uint32_t number, char out[VIRT_ADDRESS_MAX + 1])
{
    struct ip a = {.length = 4};
    uint32_t big = htonl(number);
    memcpy(a.bytes, &big, sizeof big);
    ip_text(&a, out);
}

uint32_t ip4_mask(unsigned prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

/* --- reading --- */

/* prefix='24' or netmask='255.255.255.0'; without either libvirt takes the address's old class. */
static bool read_prefix(xmlNodePtr ip, struct subnet *s, struct err *err)
{
    char text[VIRT_ADDRESS_MAX + 1];
    unsigned most = s->ipv6 ? 128 : 32;
    char *end;

    if (!take_attr(ip, "prefix", text, sizeof text, err))
        return false;
    if (text[0] != '\0') {
        unsigned long n = strtoul(text, &end, 10);
        s->prefix = (unsigned)n;
        return (text[0] >= '0' && text[0] <= '9' && *end == '\0' && n <= most) ||
               corrupt(err, "a prefix in it is none");
    }
    if (!take_attr(ip, "netmask", text, sizeof text, err))
        return false;
    if (text[0] == '\0') {
        uint32_t first = ip4_number(s->gateway) >> 24;
        s->prefix = s->ipv6 ? 64 : first < 128 ? 8 : first < 192 ? 16 : 24;
        return true;
    }
    uint32_t mask = ip4_number(text);
    for (s->prefix = 0; s->prefix < 32 && ip4_mask(s->prefix) != mask;)
        s->prefix++;
    return ip4_mask(s->prefix) == mask || corrupt(err, "a netmask in it is none");
}

static bool read_ranges(xmlNodePtr dhcp, struct subnet *s, struct err *err)
{
    for (xmlNodePtr n = dom_child(dhcp, "range"); n != NULL; n = dom_next(n, "range")) {
        if (s->range_count == NETWORK_RANGES_MAX)
            return corrupt(err, "it has too many DHCP ranges");
        struct network_range *r = &s->ranges[s->range_count++];
        if (!take_attr(n, "start", r->first, sizeof r->first, err) ||
            !take_attr(n, "end", r->last, sizeof r->last, err))
            return false;
        if (!in_subnet(s, r->first) || !in_subnet(s, r->last))
            return corrupt(err, "a DHCP range in it lies outside its subnet");
    }
    return true;
}

/* Reservations by name or client id alone are no business of ours. */
static bool read_hosts(xmlNodePtr dhcp, struct network *out, int ip_index, struct err *err)
{
    for (xmlNodePtr n = dom_child(dhcp, "host"); n != NULL; n = dom_next(n, "host")) {
        struct network_host h = {.ip_index = ip_index};
        struct ip address;
        char mac[64];
        if (!take_attr(n, "mac", mac, sizeof mac, err) ||
            !take_attr(n, "ip", h.address, sizeof h.address, err))
            return false;
        if (!ip_parse(h.address, &address))
            continue;
        if (mac[0] != '\0' && !mac_parse(mac, h.mac))
            return corrupt(err, "a MAC in it is none");
        if (out->host_count == NETWORK_HOSTS_MAX)
            return corrupt(err, "it has too many DHCP reservations");
        struct network_host *grown =
            reallocarray(out->hosts, out->host_count + 1, sizeof *out->hosts);
        if (grown == NULL)
            return err_set(err, ERR_FULL, "out of memory");
        out->hosts = grown;
        out->hosts[out->host_count++] = h;
    }
    return true;
}

_Static_assert(sizeof((struct subnet *)0)->cidr <= sizeof((struct subnet *)0)->name,
               "a CIDR is a name");

/* The name that farshore's metadata gives to this CIDR. */
static bool read_name(xmlNodePtr root, struct subnet *s, struct err *err)
{
    xmlNodePtr n = dom_child(dom_farshore(root, "network"), "subnet");
    while (n != NULL && !dom_attr_is(n, "cidr", s->cidr))
        n = dom_next(n, "subnet");
    if (!take_attr(n, "name", s->name, sizeof s->name, err))
        return false;
    if (s->name[0] == '\0')
        memcpy(s->name, s->cidr, sizeof s->cidr);
    return true;
}

static bool read_ip(xmlNodePtr ip, struct network *out, int ip_index, struct err *err)
{
    char base_text[VIRT_ADDRESS_MAX + 1];
    struct ip base;

    if (out->subnet_count == NETWORK_SUBNETS_MAX)
        return corrupt(err, "it has too many subnets");
    struct subnet *s = &out->subnets[out->subnet_count++];
    s->ip_index = ip_index;
    if (!take_attr(ip, "address", s->gateway, sizeof s->gateway, err))
        return false;
    if (!ip_parse(s->gateway, &base))
        return corrupt(err, "an address in it is none");
    s->ipv6 = base.length == 16;
    if (!read_prefix(ip, s, err))
        return false;
    ip_mask(&base, s->prefix);
    ip_text(&base, base_text);
    snprintf(s->cidr, sizeof s->cidr, "%s/%u", base_text, s->prefix);
    xmlNodePtr dhcp = dom_child(ip, "dhcp");
    s->dhcp = dhcp != NULL;
    return read_name(xmlDocGetRootElement(ip->doc), s, err) && read_ranges(dhcp, s, err) &&
           read_hosts(dhcp, out, ip_index, err);
}

bool network_read(xmlDocPtr doc, struct network *out, struct err *err)
{
    xmlNodePtr root = xmlDocGetRootElement(doc), forward = dom_child(root, "forward");
    int ip_index = 0;

    *out = (struct network){.host_count = 0};
    if (!dom_text(dom_child(root, "name"), out->name, sizeof out->name) ||
        !dom_text(dom_child(root, "uuid"), out->uuid, sizeof out->uuid) || out->name[0] == '\0')
        return corrupt(err, "its name is too long, or missing");
    if (!take_attr(dom_child(root, "bridge"), "name", out->bridge, sizeof out->bridge, err) ||
        !take_attr(forward, "mode", out->forward, sizeof out->forward, err) ||
        !take_attr(dom_farshore(root, "network"), "group", out->group, sizeof out->group, err))
        return false;
    if (forward != NULL && out->forward[0] == '\0')
        snprintf(out->forward, sizeof out->forward, "nat"); /* libvirt's default */
    if (strcmp(out->forward, "none") == 0)
        out->forward[0] = '\0';
    for (xmlNodePtr n = dom_child(root, "ip"); n != NULL; n = dom_next(n, "ip"))
        if (!read_ip(n, out, ip_index++, err))
            return false;
    return true;
}

bool network_parse(struct span xml, struct network *out, struct err *err)
{
    xmlDocPtr doc AUTO_DOM = NULL;

    *out = (struct network){.host_count = 0};
    if (!dom_parse(xml, "network", "the network", &doc, err))
        return false;
    if (network_read(doc, out, err))
        return true;
    network_release(out);
    return false;
}

void network_release(struct network *n)
{
    free(n->hosts);
    *n = (struct network){.host_count = 0};
}

bool network_load(struct virt *v, const char *name, struct network *out, struct err *err)
{
    char *xml AUTO_FREE = NULL;
    *out = (struct network){.host_count = 0};
    return virt_network_xml(v, name, &xml, err) && network_parse(span_of_text(xml), out, err);
}

const struct subnet *network_subnet_of(const struct network *n, const char *address)
{
    for (size_t i = 0; i < n->subnet_count; i++)
        if (in_subnet(&n->subnets[i], address))
            return &n->subnets[i];
    return NULL;
}

const struct subnet *network_pick_subnet(const struct network *n, const char *name)
{
    for (size_t i = 0; i < n->subnet_count; i++)
        if (strcmp(n->subnets[i].name, name) == 0 || strcmp(n->subnets[i].cidr, name) == 0)
            return &n->subnets[i];
    return n->subnet_count > 0 ? &n->subnets[0] : NULL;
}

/* --- mapping --- */

const struct network_place *network_map_find(const struct network_map *rows, size_t count,
                                             const struct network_place *from, bool back)
{
    const struct network_place *whole = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct network_place *near = back ? &rows[i].target : &rows[i].source;
        const struct network_place *far = back ? &rows[i].source : &rows[i].target;
        if (strcmp(near->network, from->network) != 0)
            continue;
        if (near->subnet[0] != '\0' && strcmp(near->subnet, from->subnet) == 0)
            return far;
        if (near->subnet[0] == '\0' && whole == NULL)
            whole = far;
    }
    return whole;
}
