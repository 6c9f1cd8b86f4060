/* SPDX-License-Identifier: MIT
 * What ties a machine to its host: found, refused or taken out. */
#include "tools/failover/machine_internal.h"

#include <stdio.h>

/* --- what cannot move --- */

static bool each_named(xmlNodePtr devices, const char *name, const char *attribute,
                       const char *value, xmlNodePtr *found)
{
    for (xmlNodePtr n = dom_child(devices, name); n != NULL; n = dom_next(n, name))
        if (attribute == NULL || dom_attr_is(n, attribute, value)) {
            *found = n;
            return true;
        }
    return false;
}

/* "pci 0000:03:00.0", or whatever the device's source says of itself. */
static void describe(xmlNodePtr device, char *out, size_t size)
{
    static const char *const attributes[] = {"type", "model", "mode"};
    char word[64];
    size_t used = 0;
    xmlNodePtr address = dom_path(device, "source/address");

    out[0] = '\0';
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (dom_attr(device, attributes[i], word, sizeof word) && word[0] != '\0' && used < size)
            used += (size_t)snprintf(out + used, size - used, " %s", word);
    char bus[16], slot[16], function[16];
    if (used < size && dom_attr(address, "bus", bus, sizeof bus) &&
        dom_attr(address, "slot", slot, sizeof slot) &&
        dom_attr(address, "function", function, sizeof function) && slot[0] != '\0')
        snprintf(out + used, size - used, " %s:%s.%s", bus, slot, function);
}

bool machine_can_move(const struct machine *m, struct err *err)
{
    static const struct {
        const char *device, *attribute, *value, *what;
    } tied[] = {
        {"hostdev", NULL, NULL, "a device of its host is passed through to it"},
        {"interface", "type", "hostdev", "a network device of its host is passed through to it"},
        {"interface", "type", "vdpa", "a network device of its host is passed through to it"},
        {"filesystem", NULL, NULL, "a folder of its host is shared with it, and is not replicated"},
        {"shmem", NULL, NULL, "it shares memory with others on its host"},
        {"input", "type", "passthrough", "an input device of its host is passed through to it"},
        {"input", "type", "evdev", "an input device of its host is passed through to it"},
        {"smartcard", "mode", "host", "a smart card of its host is passed through to it"},
        {"memory", "model", "nvdimm", "it has persistent memory in a file that is no disk"},
    };
    xmlNodePtr found, devices = dom_child(m->root, "devices");
    char which[256];

    for (size_t i = 0; i < sizeof tied / sizeof *tied; i++)
        if (each_named(devices, tied[i].device, tied[i].attribute, tied[i].value, &found)) {
            describe(found, which, sizeof which);
            return err_set(err, ERR_INVALID,
                           "%s cannot run on another host: %s (<%s>%s); take it out of the "
                           "domain",
                           m->facts.name, tied[i].what, tied[i].device, which);
        }
    if (dom_attr_is(dom_path(devices, "tpm/backend"), "type", "passthrough"))
        return err_set(err, ERR_INVALID,
                       "%s cannot run on another host: the TPM of its host is passed through to "
                       "it; take it out of the domain",
                       m->facts.name);
    return true;
}

/* --- what goes when it leaves --- */

static void note(struct buf *notes, const char *text, const char *detail)
{
    if (notes == NULL)
        return;
    buf_put(notes, text, strlen(text));
    if (detail != NULL && detail[0] != '\0') {
        buf_put(notes, ": ", 2);
        buf_put(notes, detail, strlen(detail));
    }
    buf_put(notes, "\n", 1);
}

/* Aliases that libvirt gave, and the indexes of a running machine's sources. */
static void leave_aliases(xmlNodePtr device)
{
    char name[64];
    for (xmlNodePtr n = dom_child(device, NULL), next; n != NULL; n = next) {
        next = dom_next(n, NULL);
        bool users_own = dom_attr(n, "name", name, sizeof name) && strncmp(name, "ua-", 3) == 0;
        if ((dom_is(n, "alias") && !users_own) || dom_is(n, "backingStore") ||
            dom_is(n, "mirror") || dom_is(n, "privateData")) {
            dom_remove(n);
        } else if (dom_is(n, "source")) {
            dom_unset_attr(n, "index");
            dom_unset_attr(n, "portid");
            dom_remove_all(n, "seclabel");
            dom_remove_all(n, "privateData");
        }
    }
}

static void leave_labels(xmlNodePtr root)
{
    for (xmlNodePtr n = dom_child(root, "seclabel"), next; n != NULL; n = next) {
        next = dom_next(n, "seclabel");
        if (!dom_attr_is(n, "type", "none") && !dom_attr_is(n, "type", "static"))
            dom_remove(n);
    }
    dom_unset_attr(root, "id");
    if (dom_path(root, "resource/partition") != NULL)
        dom_remove_all(root, "resource");
}

static void leave_pinning(xmlNodePtr root, struct buf *notes)
{
    static const char *const pins[] = {"vcpupin", "emulatorpin", "iothreadpin", "cachetune",
                                       "memorytune"};
    xmlNodePtr vcpu = dom_child(root, "vcpu"), cputune = dom_child(root, "cputune");
    char set[256];
    bool pinned = dom_attr(vcpu, "cpuset", set, sizeof set) ? set[0] != '\0' : true;

    dom_unset_attr(vcpu, "cpuset");
    for (size_t i = 0; i < sizeof pins / sizeof *pins; i++) {
        pinned |= dom_child(cputune, pins[i]) != NULL;
        if (cputune != NULL)
            dom_remove_all(cputune, pins[i]);
    }
    if (pinned)
        note(notes, "it is no longer bound to certain CPUs", NULL);
    if (dom_child(root, "numatune") != NULL)
        note(notes, "its memory is no longer bound to certain NUMA nodes", NULL);
    dom_remove_all(root, "numatune");
    xmlNodePtr backing = dom_child(root, "memoryBacking");
    if (dom_child(backing, "hugepages") != NULL) {
        note(notes, "its memory no longer lies in huge pages", NULL);
        dom_remove_all(backing, "hugepages");
    }
}

static bool of_every_host(const char *address)
{
    static const char *const every[] = {"", "127.0.0.1", "0.0.0.0", "::1", "::", "localhost"};
    for (size_t i = 0; i < sizeof every / sizeof *every; i++)
        if (strcmp(address, every[i]) == 0)
            return true;
    return false;
}

static bool listen_here(xmlNodePtr node, const char *attribute, struct buf *notes, struct err *err)
{
    char address[128];
    if (dom_attr(node, attribute, address, sizeof address) && of_every_host(address))
        return true;
    note(notes, "its console listens on 127.0.0.1, no longer on", address);
    return dom_set_attr(node, attribute, "127.0.0.1", err);
}

static bool leave_console(xmlNodePtr graphics, struct buf *notes, struct err *err)
{
    if (dom_attr_is(graphics, "autoport", "yes")) {
        dom_unset_attr(graphics, "port");
        dom_unset_attr(graphics, "tlsPort");
    }
    if (!listen_here(graphics, "listen", notes, err))
        return false;
    for (xmlNodePtr n = dom_child(graphics, "listen"); n != NULL; n = dom_next(n, "listen")) {
        if (dom_attr_is(n, "type", "network")) { /* a network of the old host */
            dom_unset_attr(n, "network");
            if (!dom_set_attr(n, "type", "address", err) ||
                !dom_set_attr(n, "address", "127.0.0.1", err))
                return false;
        } else if (dom_attr_is(n, "type", "address") && !listen_here(n, "address", notes, err)) {
            return false;
        }
    }
    return true;
}

/* Sockets and terminals that libvirt makes at each start. */
static void leave_port(xmlNodePtr port)
{
    char path[PATH_MAX];
    xmlNodePtr source = dom_child(port, "source");
    bool long_path = !dom_attr(source, "path", path, sizeof path);

    if (dom_attr_is(port, "type", "pty")) {
        dom_unset_attr(port, "tty");
        dom_remove(source);
    } else if (dom_attr_is(port, "type", "unix") && !long_path &&
               (strncmp(path, "/var/lib/libvirt/", 17) == 0 ||
                strncmp(path, "/run/libvirt/", 13) == 0 ||
                strncmp(path, "/var/run/libvirt/", 17) == 0)) {
        dom_remove(source);
    }
}

static void leave_drive(xmlNodePtr disk, struct buf *notes)
{
    char path[PATH_MAX];
    xmlNodePtr source = dom_child(disk, "source");
    if (source == NULL ||
        (!dom_attr_is(disk, "device", "cdrom") && !dom_attr_is(disk, "device", "floppy")))
        return;
    if (!dom_attr(source, "file", path, sizeof path))
        path[0] = '\0';
    note(notes, "the medium is taken out of a removable drive", path);
    dom_remove(source);
}

static void leave_nic(xmlNodePtr nic, struct buf *notes)
{
    static const char *const common[] = {"clean-traffic", "no-", "allow-", "qemu-announce"};
    char name[128];
    bool stays = false;
    xmlNodePtr target = dom_child(nic, "target"), filter = dom_child(nic, "filterref");

    if (dom_attr(target, "dev", name, sizeof name) &&
        (strncmp(name, "vnet", 4) == 0 || strncmp(name, "macvtap", 7) == 0))
        dom_remove(target);
    if (filter == NULL)
        return;
    if (!dom_attr(filter, "filter", name, sizeof name))
        name[0] = '\0';
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        stays |= strncmp(name, common[i], strlen(common[i])) == 0;
    if (!stays) {
        note(notes, "a network card loses its filter, which libvirt does not bring along", name);
        dom_remove(filter);
    }
}

bool machine_leave_host(struct machine *m, struct buf *notes, struct err *err)
{
    xmlNodePtr devices = dom_child(m->root, "devices");

    leave_labels(m->root);
    leave_pinning(m->root, notes);
    for (xmlNodePtr n = dom_child(devices, NULL); n != NULL; n = dom_next(n, NULL)) {
        leave_aliases(n);
        if (dom_is(n, "graphics") && !leave_console(n, notes, err))
            return false;
        if (dom_is(n, "disk"))
            leave_drive(n, notes);
        else if (dom_is(n, "interface"))
            leave_nic(n, notes);
        else
            leave_port(n);
    }
    if (m->facts.tpm)
        note(notes, "its TPM begins empty: what is sealed in it does not come along", NULL);
    return machine_refresh(m, err) && (notes == NULL || buf_ok(notes, err));
}

/* --- beside its original --- */

bool machine_beside(struct machine *m, struct err *err)
{
    xmlNodePtr genid = dom_child(m->root, "genid"), devices = dom_child(m->root, "devices");

    for (xmlNodePtr n = dom_child(devices, NULL); n != NULL; n = dom_next(n, NULL)) {
        if (dom_is(n, "graphics") && !dom_attr_is(n, "port", "")) {
            dom_unset_attr(n, "port");
            dom_unset_attr(n, "tlsPort");
            if (!dom_set_attr(n, "autoport", "yes", err))
                return false;
        } else if (dom_is(n, "vsock")) {
            xmlNodePtr cid = dom_child(n, "cid");
            dom_unset_attr(cid, "address");
            if (cid != NULL && !dom_set_attr(cid, "auto", "yes", err))
                return false;
        } else if (dom_is(n, "interface")) {
            dom_remove_all(n, "target");
        }
    }
    /* Empty: libvirt gives a new one, by which the guest sees that it is a copy. */
    return (genid == NULL || dom_set_text(genid, "", err)) && machine_refresh(m, err);
}
