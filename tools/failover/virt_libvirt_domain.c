/* SPDX-License-Identifier: MIT
 * Domains as they are defined, and the host that they run on. */
#include "tools/failover/virt_libvirt.h"

static void free_name(char **text)
{
    free(*text);
}

bool libvirt_capacity(struct virt *v, struct virt_capacity *out, struct err *err)
{
    virConnectPtr connection = libvirt_of(v)->connection;
    virNodeMemoryStats stats[16];
    int count = 0;
    virNodeInfo info;

    if (virNodeGetInfo(connection, &info) < 0)
        return libvirt_error(err, "the memory and CPUs of the host");
    out->memory_kib = info.memory;
    out->cpus = info.cpus;
    unsigned long long free_bytes = virNodeGetFreeMemory(connection);
    out->memory_free_kib = free_bytes / 1024;
    uint64_t available = 0;
    if (virNodeGetMemoryStats(connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, NULL, &count, 0) == 0 &&
        count > 0 && count <= 16 &&
        virNodeGetMemoryStats(connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, stats, &count, 0) == 0)
        for (int i = 0; i < count; i++) {
            if (strcmp(stats[i].field, VIR_NODE_MEMORY_STATS_TOTAL) == 0)
                out->memory_kib = stats[i].value; /* as of now: memory can be plugged in */
            else
                available += stats[i].value; /* free, buffers, cached */
        }
    if (available > out->memory_free_kib)
        out->memory_free_kib = available;
    if (out->memory_free_kib > out->memory_kib)
        out->memory_free_kib = out->memory_kib;
    char *capabilities CLEANUP(free_name) = virConnectGetCapabilities(connection);
    out->kvm = capabilities != NULL && strstr(capabilities, "<domain type='kvm'") != NULL;
    return true;
}

bool libvirt_list(struct virt *v, virt_list_fn *each, void *context, struct err *err)
{
    virDomainPtr *domains = NULL;
    bool more = true;
    int count = virConnectListAllDomains(libvirt_of(v)->connection, &domains, 0);

    if (count < 0)
        return libvirt_error(err, "the list of domains");
    for (int i = 0; i < count; i++) {
        const char *name = virDomainGetName(domains[i]);
        more = more && name != NULL && each(context, name, virDomainIsActive(domains[i]) == 1);
        virDomainFree(domains[i]);
    }
    free(domains);
    return true;
}

bool libvirt_xml(struct virt *v, const char *domain, enum virt_xml which, char **out,
                 struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    if (!libvirt_domain(v, domain, &d, err))
        return false;
    *out = virDomainGetXMLDesc(d, VIR_DOMAIN_XML_SECURE |
                                      (which == VIRT_DEFINED ? VIR_DOMAIN_XML_INACTIVE : 0u));
    return *out != NULL || libvirt_error(err, "the XML of %s", domain);
}

bool libvirt_status(struct virt *v, const char *domain, struct virt_status *out, struct err *err)
{
    static const enum virt_state states[] = {
        [VIR_DOMAIN_NOSTATE] = VIRT_OTHER,   [VIR_DOMAIN_RUNNING] = VIRT_RUNNING,
        [VIR_DOMAIN_BLOCKED] = VIRT_RUNNING, [VIR_DOMAIN_PAUSED] = VIRT_PAUSED,
        [VIR_DOMAIN_SHUTDOWN] = VIRT_ENDING, [VIR_DOMAIN_SHUTOFF] = VIRT_OFF,
        [VIR_DOMAIN_CRASHED] = VIRT_CRASHED, [VIR_DOMAIN_PMSUSPENDED] = VIRT_PAUSED,
    };
    virDomainPtr d AUTO_DOMAIN = NULL;
    int state, reason, autostart = 0;

    if (!libvirt_domain(v, domain, &d, err))
        return false;
    if (virDomainGetState(d, &state, &reason, 0) < 0)
        return libvirt_error(err, "the state of %s", domain);
    out->state =
        state >= 0 && (size_t)state < sizeof states / sizeof *states ? states[state] : VIRT_OTHER;
    out->io_error = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
    out->persistent = virDomainIsPersistent(d) == 1;
    out->autostart = out->persistent && virDomainGetAutostart(d, &autostart) == 0 && autostart != 0;
    return true;
}

bool libvirt_define(struct virt *v, const char *xml, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = virDomainDefineXML(libvirt_of(v)->connection, xml);
    return d != NULL || libvirt_error(err, "libvirt does not take the domain");
}

/* Hypervisors without firmware or snapshots refuse the flags for them. */
static bool undefine_now(virDomainPtr d, bool nvram_too)
{
    unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                     VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
    flags |= nvram_too ? VIR_DOMAIN_UNDEFINE_NVRAM : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
    if (virDomainUndefineFlags(d, flags) == 0)
        return true;
    int code = libvirt_code();
    return (code == VIR_ERR_INVALID_ARG || code == VIR_ERR_NO_SUPPORT) && virDomainUndefine(d) == 0;
}

bool libvirt_undefine(struct virt *v, const char *domain, bool nvram_too, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    struct err why = ERR_NONE;

    if (!libvirt_domain(v, domain, &d, &why))
        return why.kind == ERR_NOT_FOUND || err_set(err, why.kind, "%s", why.text);
    if (virDomainIsActive(d) == 1)
        return err_set(err, ERR_INVALID, "%s runs: it cannot be undefined", domain);
    return undefine_now(d, nvram_too) || libvirt_code() == VIR_ERR_NO_DOMAIN ||
           libvirt_error(err, "%s cannot be undefined", domain);
}

bool libvirt_set_autostart(struct virt *v, const char *domain, bool on, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    return libvirt_domain(v, domain, &d, err) &&
           (virDomainSetAutostart(d, on) == 0 || libvirt_error(err, "the autostart of %s", domain));
}

bool libvirt_addresses(struct virt *v, const char *domain, enum virt_address_from from,
                       virt_address_fn *each, void *context, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    virDomainInterfacePtr *cards = NULL;
    bool more = true;

    if (!libvirt_domain(v, domain, &d, err))
        return false;
    int count = virDomainInterfaceAddresses(d, &cards,
                                            from == VIRT_FROM_AGENT
                                                ? VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
                                                : VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
                                            0);
    if (count < 0)
        return libvirt_error(err, "the addresses of %s", domain);
    for (int i = 0; i < count; i++) {
        for (unsigned a = 0; more && cards[i]->hwaddr != NULL && a < cards[i]->naddrs; a++)
            more = each(context, cards[i]->hwaddr, cards[i]->addrs[a].addr);
        virDomainInterfaceFree(cards[i]);
    }
    free(cards);
    return true;
}
