/* SPDX-License-Identifier: MIT
 * Changes of single facts: names, disks, network cards, firmware variables, logs. */
#include "tools/failover/machine_internal.h"

#include <stdio.h>

static bool refuse(struct err *err, const char *what, const char *value)
{
    return err_set(err, ERR_INVALID, "\"%.200s\" is no %s", value, what);
}

static bool path_ok(const char *path, struct err *err)
{
    return (path[0] == '/' && strlen(path) < PATH_MAX && dom_text_ok(path)) ||
           refuse(err, "absolute path", path);
}

static bool name_ok(const char *name, struct err *err)
{
    return (name[0] != '\0' && strlen(name) <= MACHINE_NAME_MAX && dom_text_ok(name) &&
            strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) ||
           refuse(err, "name for libvirt", name);
}

/* --- identity --- */

static bool set_child(struct machine *m, const char *name, const char *value, struct err *err)
{
    xmlNodePtr node;
    return dom_ensure(m->root, name, &node, err) && dom_set_text(node, value, err) &&
           machine_refresh(m, err);
}

bool machine_set_name(struct machine *m, const char *name, struct err *err)
{
    return name_ok(name, err) && set_child(m, "name", name, err);
}

/* The SMBIOS tables may repeat it, and libvirt wants them to agree. */
static bool set_smbios_uuid(struct machine *m, const char *uuid, struct err *err)
{
    for (xmlNodePtr s = dom_child(m->root, "sysinfo"); s != NULL; s = dom_next(s, "sysinfo"))
        for (xmlNodePtr e = dom_child(dom_child(s, "system"), "entry"); e != NULL;
             e = dom_next(e, "entry"))
            if (dom_attr_is(e, "name", "uuid") && !dom_set_text(e, uuid, err))
                return false;
    return true;
}

bool machine_set_uuid(struct machine *m, const char *uuid, struct err *err)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    bool good = strlen(uuid) == UUID_CHARS;
    for (size_t i = 0; good && i < UUID_CHARS; i++)
        good = form[i] == '-' ? uuid[i] == '-' : strchr("0123456789abcdefABCDEF", uuid[i]) != NULL;
    return (good || refuse(err, "UUID", uuid)) && set_smbios_uuid(m, uuid, err) &&
           set_child(m, "uuid", uuid, err);
}

bool machine_set_title(struct machine *m, const char *title, struct err *err)
{
    if (title == NULL) {
        dom_remove_all(m->root, "title");
        return true;
    }
    return (dom_text_ok(title) || refuse(err, "title", title)) && set_child(m, "title", title, err);
}

bool machine_set_group(struct machine *m, const char *group, struct err *err)
{
    xmlNodePtr vm;
    if (group == NULL) {
        dom_unset_attr(dom_farshore(m->root, "vm"), "group");
        return machine_refresh(m, err);
    }
    return name_ok(group, err) && dom_farshore_ensure(m->root, "vm", &vm, err) &&
           dom_set_attr(vm, "group", group, err) && machine_refresh(m, err);
}

/* --- disks --- */

static xmlNodePtr find_disk(const struct machine *m, const char *target, struct err *err)
{
    xmlNodePtr n = NULL;
    while ((n = machine_disk_node(m, n)) != NULL)
        if (dom_attr_is(dom_child(n, "target"), "dev", target))
            return n;
    err_set(err, ERR_NOT_FOUND, "%s has no disk %.60s", m->facts.name, target);
    return NULL;
}

/* What has no counterpart in a raw file that is there already. */
static bool disk_ok(const struct machine *m, xmlNodePtr disk, const char *target, bool block,
                    struct err *err)
{
    xmlNodePtr source = dom_child(disk, "source");
    const char *wrong = NULL;
    if (dom_child(disk, "encryption") != NULL || dom_child(source, "encryption") != NULL)
        wrong = "is encrypted by QEMU; encrypt in the guest instead, farshore encrypts what it "
                "ships";
    else if (dom_attr_is(disk, "device", "lun") && !block)
        wrong = "is a SCSI LUN that is passed through; make it device='disk'";
    else if (dom_child(disk, "transient") != NULL)
        wrong = "is transient: nothing that is written to it stays";
    return wrong == NULL ||
           err_set(err, ERR_INVALID, "disk %s of %s %s", target, m->facts.name, wrong);
}

bool machine_set_disk(struct machine *m, const char *target, enum machine_source file_or_block,
                      const char *path, struct err *err)
{
    bool block = file_or_block == MACHINE_BLOCK;
    xmlNodePtr source, driver, disk = find_disk(m, target, err);

    assert(block || file_or_block == MACHINE_FILE);
    if (disk == NULL || !path_ok(path, err) || !disk_ok(m, disk, target, block, err))
        return false;
    dom_remove_all(disk, "source");
    dom_remove_all(disk, "backingStore");
    dom_remove_all(disk, "mirror");
    dom_remove_all(disk, "auth");
    if (!dom_set_attr(disk, "type", block ? "block" : "file", err) ||
        !dom_add(disk, "source", &source, err) ||
        !dom_set_attr(source, block ? "dev" : "file", path, err) ||
        !dom_ensure(disk, "driver", &driver, err) || !dom_set_attr(driver, "name", "qemu", err) ||
        !dom_set_attr(driver, "type", "raw", err))
        return false;
    dom_remove_all(driver, "metadata_cache"); /* of qcow2 */
    dom_unset_attr(driver, "discard_no_unref");
    dom_unset_attr(disk, "snapshot");
    return machine_refresh(m, err);
}

bool machine_remove_disk(struct machine *m, const char *target, struct err *err)
{
    xmlNodePtr disk = find_disk(m, target, err);
    dom_remove(disk);
    return disk != NULL && machine_refresh(m, err);
}

bool machine_stop_on_error(struct machine *m, const char *target, struct err *err)
{
    xmlNodePtr driver, disk = find_disk(m, target, err);
    return disk != NULL && dom_ensure(disk, "driver", &driver, err) &&
           dom_set_attr(driver, "error_policy", "stop", err) &&
           dom_set_attr(driver, "rerror_policy", "stop", err);
}

/* --- network cards --- */

static xmlNodePtr find_nic(const struct machine *m, size_t index)
{
    xmlNodePtr n = dom_child(dom_child(m->root, "devices"), "interface");
    while (n != NULL && index-- > 0)
        n = dom_next(n, "interface");
    return n;
}

static bool set_mac(xmlNodePtr nic, const char *mac, struct err *err)
{
    char lower[MAC_CHARS + 1];
    xmlNodePtr node;
    return (mac_parse(mac, lower) || refuse(err, "MAC address", mac)) &&
           dom_ensure(nic, "mac", &node, err) && dom_set_attr(node, "address", lower, err);
}

bool machine_set_nic(struct machine *m, size_t index, const char *network, const char *mac,
                     struct err *err)
{
    /* All of these describe the connection, not the card. */
    static const char *const connection[] = {"source",  "virtualport", "vlan",        "target",
                                             "backend", "actual",      "portForward", "bandwidth"};
    xmlNodePtr source, nic = find_nic(m, index);

    if (nic == NULL)
        return err_set(err, ERR_NOT_FOUND, "%s has no network card number %zu", m->facts.name,
                       index + 1);
    if (!name_ok(network, err) || (mac != NULL && !set_mac(nic, mac, err)))
        return false;
    for (size_t i = 0; i < sizeof connection / sizeof *connection; i++)
        dom_remove_all(nic, connection[i]);
    return dom_set_attr(nic, "type", "network", err) && dom_add(nic, "source", &source, err) &&
           dom_set_attr(source, "network", network, err) && machine_refresh(m, err);
}

/* --- firmware --- */

bool machine_set_nvram(struct machine *m, const char *path, struct err *err)
{
    xmlNodePtr os = dom_child(m->root, "os"), nvram;

    if (dom_child(os, "loader") == NULL && dom_child(os, "nvram") == NULL &&
        !dom_attr_is(os, "firmware", "efi"))
        return err_set(err, ERR_INVALID, "%s has no firmware that keeps variables", m->facts.name);
    if (!path_ok(path, err) || !dom_ensure(os, "nvram", &nvram, err))
        return false;
    dom_unset_attr(nvram, "type");
    return dom_set_text(nvram, path, err) && machine_refresh(m, err);
}

/* --- logs --- */

struct logs {
    const char *folder;
    size_t count;
    struct {
        char from[PATH_MAX], to[PATH_MAX];
    } * rows;
};

#define LOGS_MAX 32u

/* Two files that had one name in different folders are told apart by a number. */
static bool new_log_path(struct logs *l, const char *from, const char **to, struct err *err)
{
    const char *base = strrchr(from, '/');
    bool taken = false;

    base = base != NULL ? base + 1 : from;
    for (size_t i = 0; i < l->count; i++) {
        *to = l->rows[i].to;
        if (strcmp(l->rows[i].from, from) == 0)
            return true;
        taken |= strcmp(*to + strlen(l->folder) + 1, base) == 0;
    }
    if (l->count == LOGS_MAX)
        return err_set(err, ERR_INVALID, "the machine has more than %u logs", LOGS_MAX);
    snprintf(l->rows[l->count].from, PATH_MAX, "%s", from);
    char number[16] = "";
    if (taken)
        snprintf(number, sizeof number, "%zu-", l->count);
    int length = snprintf(l->rows[l->count].to, PATH_MAX, "%s/%s%s", l->folder, number, base);
    *to = l->rows[l->count++].to;
    return length < PATH_MAX || refuse(err, "path that fits", l->folder);
}

static bool move_log(struct logs *l, xmlNodePtr node, const char *attribute, struct err *err)
{
    char from[PATH_MAX];
    const char *to;
    if (!dom_attr(node, attribute, from, sizeof from) || from[0] == '\0')
        return true;
    return new_log_path(l, from, &to, err) && dom_set_attr(node, attribute, to, err);
}

static void logs_release(struct logs *l)
{
    free(l->rows);
}

bool machine_move_logs(struct machine *m, const char *folder, struct err *err)
{
    static const char *const ports[] = {"serial", "console", "parallel", "channel"};
    struct logs l CLEANUP(logs_release) = {.folder = folder};
    xmlNodePtr devices = dom_child(m->root, "devices");

    l.rows = calloc(LOGS_MAX, sizeof *l.rows);
    if (l.rows == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!path_ok(folder, err))
        return false;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        for (xmlNodePtr n = dom_child(devices, ports[i]); n != NULL; n = dom_next(n, ports[i])) {
            if (dom_attr_is(n, "type", "file") &&
                !move_log(&l, dom_child(n, "source"), "path", err))
                return false;
            if (!move_log(&l, dom_child(n, "log"), "file", err))
                return false;
        }
    return true;
}
