/* SPDX-License-Identifier: MIT */
#include "tools/failover/target_show.h"

#include "tools/failover/machine.h"

#include <stdio.h>
#include <string.h>

#define VALUE_MAX 2200u /* two URLs and some words */

/* Which side of the mapping the VM is on. */
static bool is_home(const struct protection *p)
{
    return strcmp(p->source_host, p->home_host) == 0;
}

/* The row for the NIC's subnet, before one for its whole network. */
static const struct protection_mapping *find_row(const struct protection *p,
                                                 const struct protection_nic *nic)
{
    const struct protection_mapping *whole = NULL;
    for (uint16_t i = 0; i < p->mapping_count; i++) {
        const struct protection_mapping *m = &p->mappings[i];
        const char *network = is_home(p) ? m->home_network : m->away_network;
        const char *subnet = is_home(p) ? m->home_subnet : m->away_subnet;
        if (strcmp(network, nic->network) != 0)
            continue;
        if (subnet[0] != '\0' && strcmp(subnet, nic->subnet) == 0)
            return m;
        if (subnet[0] == '\0')
            whole = m;
    }
    return whole;
}

void target_show_place(const struct protection *p, unsigned nic, char network[PROTECTION_NAME_MAX],
                       char subnet[PROTECTION_NAME_MAX])
{
    const struct protection_nic *n = &p->nics[nic];
    const struct protection_mapping *m = find_row(p, n);
    const char *to = is_home(p) ? target_setting_nic(&p->settings, "network", nic) : NULL;
    const char *in = is_home(p) ? target_setting_nic(&p->settings, "subnet", nic) : NULL;
    if (to == NULL && m != NULL)
        to = is_home(p) ? m->away_network : m->home_network;
    if (in == NULL && m != NULL)
        in = is_home(p) ? m->away_subnet : m->home_subnet;
    snprintf(network, PROTECTION_NAME_MAX, "%s", to ? to : n->network);
    snprintf(subnet, PROTECTION_NAME_MAX, "%s", in && in[0] ? in : n->subnet);
}

static void show_nic(const struct protection *p, unsigned i, target_show_fn *show, void *context)
{
    const struct protection_nic *n = &p->nics[i];
    char network[PROTECTION_NAME_MAX], subnet[PROTECTION_NAME_MAX], value[VALUE_MAX];
    const char *address = is_home(p) ? target_setting_nic(&p->settings, "address", i) : NULL;
    const char *kept = address ? address : n->address;
    target_show_place(p, i, network, subnet);
    if (n->network[0] == '\0' && network[0] == '\0') {
        snprintf(value, sizeof value, "%s: on no libvirt network, needs target.network.%u", n->mac,
                 i);
    } else {
        snprintf(value, sizeof value, "%s: %s%s%s -> %s%s%s, %s%s", n->mac, n->network,
                 n->subnet[0] ? "/" : "", n->subnet, network, subnet[0] ? "/" : "", subnet,
                 kept[0] ? kept : "any address", kept[0] ? " when it is free, else the next" : "");
    }
    show(context, "nic", value);
}

static void show_setting(const struct protection *p, const char *key, const char *otherwise,
                         target_show_fn *show, void *context)
{
    const char *given = target_setting(&p->settings, key);
    if (given != NULL || otherwise != NULL)
        show(context, key, given ? given : otherwise);
}

static void show_name(const struct protection *p, const struct settings *s, target_show_fn *show,
                      void *context)
{
    struct machine *m AUTO_MACHINE = NULL;
    struct err ignored = ERR_NONE; /* then it is called like the VM */
    bool known = p->xml.length > 0 && machine_parse(buf_span(&p->xml), &m, &ignored);
    show_setting(p, "name", known ? machine_facts(m)->name : s->name, show, context);
}

static void show_disk(const struct settings *s, const struct settings_disk *d, target_show_fn *show,
                      void *context)
{
    char value[VALUE_MAX];
    const struct vault_stores *pair = &s->stores[d->store];
    snprintf(value, sizeof value, "%s: cache %s, target %s", d->name, pair->cache, pair->target);
    show(context, "disk", value);
}

void target_show(const struct protection *p, const struct settings *s, target_show_fn *show,
                 void *context)
{
    char group[VM_NAME_MAX + 16], hosts[VM_NAME_MAX + 64];
    const char *in = target_setting(&p->settings, "resource-group");
    char folder[PROTECTION_NAME_MAX + VM_NAME_MAX + 64], mount[VM_NAME_MAX + 64];
    snprintf(group, sizeof group, "farshore-%s", s->name);
    snprintf(hosts, sizeof hosts, "none yet: farshore set %s target.hosts=NAME,...", s->name);
    snprintf(folder, sizeof folder, "disks/%.128s%s%s in the target host's STATE", in ? in : "",
             in ? "/" : "", s->name);
    snprintf(mount, sizeof mount, "mounts/%s in the target host's STATE", s->name);
    show_setting(p, "hosts", hosts, show, context);
    show_setting(p, "resource-group", group, show, context);
    show_setting(p, "availability-set", "none", show, context);
    show_name(p, s, show, context);
    for (unsigned i = 0; i < p->nic_count; i++)
        show_nic(p, i, show, context);
    if (p->nic_count > 0)
        show_setting(p, "test-network", "one for each drill, isolated", show, context);
    show_setting(p, "folder", folder, show, context);
    show_setting(p, "mount", mount, show, context);
    show_setting(p, "back-cache", NULL, show, context);
    show_setting(p, "back-target", NULL, show, context);
    for (uint16_t i = 0; i < s->disk_count; i++)
        show_disk(s, &s->disks[i], show, context);
}
