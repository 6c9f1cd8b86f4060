/* SPDX-License-Identifier: MIT
 * Networks made from others. */
#include "tools/failover/networks_internal.h"

#include <stdio.h>

static bool set_identity(struct world *w, xmlNodePtr root, const char *name, const char *group,
                         struct err *err)
{
    char uuid[UUID_CHARS + 1];
    xmlNodePtr node;

    if (name[0] == '\0' || strlen(name) > NETWORK_NAME_MAX || strchr(name, '/') != NULL ||
        !dom_text_ok(name) || (group != NULL && !dom_text_ok(group)))
        return err_set(err, ERR_INVALID, "\"%.100s\" is no name for a network of libvirt", name);
    return uuid_random(w, uuid, err) && dom_ensure(root, "name", &node, err) &&
           dom_set_text(node, name, err) && dom_ensure(root, "uuid", &node, err) &&
           dom_set_text(node, uuid, err) && dom_farshore_ensure(root, "network", &node, err) &&
           (group == NULL || dom_set_attr(node, "group", group, err));
}

/* --- like another --- */

/* Modes in which libvirt itself makes the network; the others use what the host has. */
static bool made_by_libvirt(const struct network *n)
{
    static const char *const modes[] = {"", "nat", "route", "open"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(n->forward, modes[i]) == 0)
            return true;
    return false;
}

/* Devices, addresses and files that the other host alone has. */
static void leave_host(xmlNodePtr root)
{
    xmlNodePtr forward = dom_child(root, "forward");

    dom_unset_attr(root, "connections");
    dom_remove_all(root, "mac");
    dom_unset_attr(dom_child(root, "bridge"), "name");
    dom_unset_attr(dom_child(root, "bridge"), "zone");
    dom_unset_attr(forward, "dev");
    if (forward != NULL)
        dom_remove_all(forward, "interface");
    dom_remove(dom_path(forward, "nat/address"));
    for (xmlNodePtr ip = dom_child(root, "ip"); ip != NULL; ip = dom_next(ip, "ip")) {
        xmlNodePtr dhcp = dom_child(ip, "dhcp");
        dom_remove_all(ip, "tftp");
        if (dhcp == NULL)
            continue;
        dom_remove_all(dhcp, "host");
        dom_remove_all(dhcp, "bootp");
    }
}

bool network_like(struct world *w, struct span source, const char *name, const char *group,
                  char **out, struct err *err)
{
    struct network n AUTO_NETWORK = {.host_count = 0};
    xmlDocPtr doc AUTO_DOM = NULL;

    *out = NULL;
    if (!dom_parse(source, "network", "the network", &doc, err) || !network_read(doc, &n, err))
        return false;
    if (!made_by_libvirt(&n))
        return err_set(err, ERR_INVALID,
                       "network %s is a way to a %s of its own host, so none like it can be made "
                       "here: make the network by hand, or choose one that is here",
                       n.name, n.bridge[0] != '\0' ? "bridge" : "network device");
    leave_host(xmlDocGetRootElement(doc));
    return set_identity(w, xmlDocGetRootElement(doc), name, group, err) && dom_write(doc, out, err);
}

/* --- for a test --- */

#define DNSMASQ_NS "http://libvirt.org/schemas/network/dnsmasq/1.0"

static bool add_option(xmlNodePtr options, const char *value, struct err *err)
{
    xmlNodePtr option;
    if (!dom_add(options, "option", &option, err) || !dom_set_attr(option, "value", value, err))
        return false;
    xmlSetNs(option, options->ns);
    return true;
}

/* libvirt's own <dhcp> wants an address of the host with the subnet's mask, and so a route. Given
 * by hand, the name server needs neither. */
static bool add_subnet(xmlNodePtr root, xmlNodePtr options, const struct subnet *s, struct err *err)
{
    char mask[VIRT_ADDRESS_MAX + 1], base[VIRT_ADDRESS_MAX + 1], line[256];
    xmlNodePtr ip;

    if (!dom_add(root, "ip", &ip, err) || !dom_set_attr(ip, "address", s->gateway, err) ||
        !dom_set_attr(ip, "prefix", "32", err))
        return false;
    ip4_text(ip4_mask(s->prefix), mask);
    for (size_t i = 0; i < s->range_count; i++) {
        snprintf(line, sizeof line, "dhcp-range=%s,%s,%s", s->ranges[i].first, s->ranges[i].last,
                 mask);
        if (!add_option(options, line, err))
            return false;
    }
    ip4_text(ip4_number(s->gateway) & ip4_mask(s->prefix), base);
    snprintf(line, sizeof line, "dhcp-range=%s,static,%s", base, mask);
    return s->range_count > 0 || add_option(options, line, err);
}

static bool add_host(xmlNodePtr options, const struct network_host *h, struct err *err)
{
    char mac[MAC_CHARS + 1], line[256];
    struct ip address;
    if (!mac_parse(h->mac, mac) || !ip_parse(h->address, &address) || address.length != 4)
        return err_set(err, ERR_INVALID, "\"%s %s\" is no MAC and IPv4 address", h->mac,
                       h->address);
    snprintf(line, sizeof line, "dhcp-host=%s,%s", mac, h->address);
    return add_option(options, line, err);
}

static bool fill_isolated(xmlNodePtr root, const struct network *source,
                          const struct network_host *hosts, size_t host_count, struct err *err)
{
    xmlNodePtr options = dom_child(root, "options");
    bool any = false;

    for (size_t i = 0; i < source->subnet_count; i++) {
        if (source->subnets[i].ipv6)
            continue;
        any = true;
        if (!add_subnet(root, options, &source->subnets[i], err))
            return false;
    }
    if (!any) { /* nothing to serve: a bridge that leads nowhere */
        dom_remove(options);
        return true;
    }
    for (size_t i = 0; i < host_count; i++)
        if (!add_host(options, &hosts[i], err))
            return false;
    return true;
}

bool network_isolated(struct world *w, struct span source, const char *name, const char *group,
                      const struct network_host *hosts, size_t host_count, char **out,
                      struct err *err)
{
    static const char empty[] =
        "<network xmlns:dnsmasq='" DNSMASQ_NS "'><name/><uuid/><bridge stp='on' delay='0'/>"
        "<dnsmasq:options><dnsmasq:option value='port=0'/>"
        "<dnsmasq:option value='dhcp-authoritative'/></dnsmasq:options></network>";
    struct network n AUTO_NETWORK = {.host_count = 0};
    xmlDocPtr doc AUTO_DOM = NULL;

    *out = NULL;
    if (!network_parse(source, &n, err) ||
        !dom_parse(span_of_text(empty), "network", "the network", &doc, err))
        return false;
    xmlNodePtr root = xmlDocGetRootElement(doc);
    return set_identity(w, root, name, group, err) &&
           fill_isolated(root, &n, hosts, host_count, err) && dom_write(doc, out, err);
}
