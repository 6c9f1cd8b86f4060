/* SPDX-License-Identifier: MIT
 * Networks of the host. */
#include "tools/failover/dom.h"
#include "tools/failover/virt_libvirt.h"

bool libvirt_networks(struct virt *v, virt_list_fn *each, void *context, struct err *err)
{
    virNetworkPtr *networks = NULL;
    bool more = true;
    int count = virConnectListAllNetworks(libvirt_of(v)->connection, &networks, 0);

    if (count < 0)
        return libvirt_error(err, "the list of networks");
    for (int i = 0; i < count; i++) {
        const char *name = virNetworkGetName(networks[i]);
        more = more && name != NULL && each(context, name, virNetworkIsActive(networks[i]) == 1);
        virNetworkFree(networks[i]);
    }
    free(networks);
    return true;
}

bool libvirt_network_xml(struct virt *v, const char *network, char **out, struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;
    if (!libvirt_net(v, network, &n, err))
        return false;
    *out = virNetworkGetXMLDesc(n, VIR_NETWORK_XML_INACTIVE);
    if (*out == NULL && libvirt_code() == VIR_ERR_INVALID_ARG) /* one that knows no difference */
        *out = virNetworkGetXMLDesc(n, 0);
    return *out != NULL || libvirt_error(err, "the XML of network %s", network);
}

/* libvirt would change one that is there, when the text has its uuid. */
static bool check_new(struct virt *v, const char *xml, struct err *err)
{
    xmlDocPtr doc AUTO_DOM = NULL;
    virNetworkPtr n AUTO_NET = NULL;
    struct err why = ERR_NONE;
    char name[256];

    if (!dom_parse(span_of_text(xml), "network", "the network", &doc, err))
        return false;
    if (!dom_text(dom_child(xmlDocGetRootElement(doc), "name"), name, sizeof name) ||
        name[0] == '\0')
        return err_set(err, ERR_INVALID, "the network has no name, or too long a one");
    if (libvirt_net(v, name, &n, &why))
        return err_set(err, ERR_EXISTS, "network %s is there already", name);
    return why.kind == ERR_NOT_FOUND || err_set(err, why.kind, "%s", why.text);
}

bool libvirt_network_make(struct virt *v, const char *xml, bool autostart, struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;

    if (!check_new(v, xml, err))
        return false;
    n = virNetworkDefineXML(libvirt_of(v)->connection, xml);
    if (n == NULL)
        return libvirt_error(err, "libvirt does not take the network");
    if (virNetworkCreate(n) == 0 && virNetworkSetAutostart(n, autostart) == 0)
        return true;
    libvirt_error(err, "network %s does not start", virNetworkGetName(n));
    (void)virNetworkDestroy(n); /* the error above is the one to tell */
    (void)virNetworkUndefine(n);
    return false;
}

bool libvirt_network_start(struct virt *v, const char *network, struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;
    return libvirt_net(v, network, &n, err) &&
           (virNetworkIsActive(n) == 1 || virNetworkCreate(n) == 0 ||
            libvirt_error(err, "network %s does not start", network));
}

bool libvirt_network_remove(struct virt *v, const char *network, struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;
    struct err why = ERR_NONE;

    if (!libvirt_net(v, network, &n, &why))
        return why.kind == ERR_NOT_FOUND || err_set(err, why.kind, "%s", why.text);
    if (virNetworkIsActive(n) == 1 && virNetworkDestroy(n) < 0)
        return libvirt_error(err, "network %s cannot be stopped", network);
    return virNetworkIsPersistent(n) != 1 || virNetworkUndefine(n) == 0 ||
           libvirt_code() == VIR_ERR_NO_NETWORK ||
           libvirt_error(err, "network %s cannot be removed", network);
}

bool libvirt_network_host(struct virt *v, const char *network, int ip_index, const char *host_xml,
                          bool add, struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;
    if (!libvirt_net(v, network, &n, err))
        return false;
    unsigned flags = virNetworkIsPersistent(n) == 1 ? VIR_NETWORK_UPDATE_AFFECT_CONFIG : 0u;
    if (virNetworkIsActive(n) == 1)
        flags |= VIR_NETWORK_UPDATE_AFFECT_LIVE;
    return virNetworkUpdate(
               n, add ? VIR_NETWORK_UPDATE_COMMAND_ADD_LAST : VIR_NETWORK_UPDATE_COMMAND_DELETE,
               VIR_NETWORK_SECTION_IP_DHCP_HOST, ip_index, host_xml, flags) == 0 ||
           libvirt_error(err, "the DHCP reservations of network %s", network);
}

bool libvirt_leases(struct virt *v, const char *network, virt_address_fn *each, void *context,
                    struct err *err)
{
    virNetworkPtr n AUTO_NET = NULL;
    virNetworkDHCPLeasePtr *leases = NULL;
    bool more = true;

    if (!libvirt_net(v, network, &n, err))
        return false;
    int count = virNetworkGetDHCPLeases(n, NULL, &leases, 0);
    if (count < 0 &&
        (libvirt_code() == VIR_ERR_NO_SUPPORT || libvirt_code() == VIR_ERR_OPERATION_INVALID))
        count = 0; /* not running, or no DHCP: nobody has one */
    if (count < 0)
        return libvirt_error(err, "the DHCP leases of network %s", network);
    for (int i = 0; i < count; i++) {
        more = more && (leases[i]->mac == NULL || each(context, leases[i]->mac, leases[i]->ipaddr));
        virNetworkDHCPLeaseFree(leases[i]);
    }
    free(leases);
    return true;
}
