/* SPDX-License-Identifier: MIT */
#include "tools/failover/machine_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

/* Where one of these stands it fits, or the machine is refused. */
static bool too_long(const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the XML of the machine cannot be read: its %s is too long",
                   what);
}

static bool take_attr(xmlNodePtr node, const char *name, char *out, size_t size, struct err *err)
{
    return dom_attr(node, name, out, size) || too_long(name, err);
}

static bool take_text(xmlNodePtr node, const char *name, char *out, size_t size, struct err *err)
{
    return dom_text(dom_path(node, name), out, size) || too_long(name, err);
}

/* --- memory and processors --- */

static uint64_t unit_bytes(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1024},
                 {"b", 1},
                 {"bytes", 1},
                 {"KB", 1000},
                 {"k", 1024},
                 {"KiB", 1024},
                 {"MB", 1000000},
                 {"M", 1ull << 20},
                 {"MiB", 1 << 20},
                 {"GB", 1000000000},
                 {"G", 1ull << 30},
                 {"GiB", 1ull << 30},
                 {"TB", 1000000000000},
                 {"T", 1ull << 40},
                 {"TiB", 1ull << 40}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcasecmp(unit, units[i].name) == 0)
            return units[i].bytes;
    return 0;
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    while (isspace((unsigned char)*text))
        text++;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    while (isspace((unsigned char)*end))
        end++;
    return errno == 0 && *end == '\0' && *out <= most;
}

static bool read_size(xmlNodePtr root, struct machine_facts *f, struct err *err)
{
    char text[32], unit[16];
    uint64_t n = 0;
    xmlNodePtr memory = dom_child(root, "memory");

    if (!dom_text(memory, text, sizeof text) || !dom_attr(memory, "unit", unit, sizeof unit) ||
        unit_bytes(unit) == 0 || !number(text, UINT64_MAX / unit_bytes(unit), &n))
        return err_set(err, ERR_CORRUPT, "the XML of the machine has no <memory> that is a size");
    f->memory_kib = n * unit_bytes(unit) / 1024;
    n = 1;
    if (!dom_text(dom_child(root, "vcpu"), text, sizeof text) ||
        (text[0] != '\0' && !number(text, 65535, &n)))
        return err_set(err, ERR_CORRUPT, "the XML of the machine has a <vcpu> that is no number");
    f->vcpus = (unsigned)n;
    return true;
}

/* --- firmware --- */

/* The path stands in the element, or, since libvirt 8.5, in a <source> below it. */
static bool read_firmware(xmlNodePtr root, struct machine_facts *f, struct err *err)
{
    xmlNodePtr os = dom_child(root, "os"), nvram = dom_child(os, "nvram");
    xmlNodePtr source = dom_child(nvram, "source");

    return take_text(os, "loader", f->loader, sizeof f->loader, err) &&
           (source != NULL ? take_attr(source, "file", f->nvram, sizeof f->nvram, err)
                           : take_text(os, "nvram", f->nvram, sizeof f->nvram, err)) &&
           take_attr(nvram, "template", f->nvram_template, sizeof f->nvram_template, err);
}

/* --- disks --- */

xmlNodePtr machine_disk_node(const struct machine *m, xmlNodePtr after)
{
    xmlNodePtr n =
        after != NULL ? dom_next(after, "disk") : dom_child(dom_child(m->root, "devices"), "disk");
    while (n != NULL && (dom_attr_is(n, "device", "cdrom") || dom_attr_is(n, "device", "floppy")))
        n = dom_next(n, "disk");
    return n;
}

static bool read_source(xmlNodePtr disk, struct machine_disk *d, struct err *err)
{
    char type[16], one[PATH_MAX / 2], two[PATH_MAX / 2 - 1];
    xmlNodePtr source = dom_child(disk, "source");

    if (!take_attr(disk, "type", type, sizeof type, err))
        return false;
    if (strcmp(type, "file") == 0) {
        d->source = MACHINE_FILE;
        return take_attr(source, "file", d->path, sizeof d->path, err);
    }
    if (strcmp(type, "block") == 0) {
        d->source = MACHINE_BLOCK;
        return take_attr(source, "dev", d->path, sizeof d->path, err);
    }
    bool volume = strcmp(type, "volume") == 0;
    d->source = volume                         ? MACHINE_VOLUME
                : strcmp(type, "network") == 0 ? MACHINE_NETWORK
                                               : MACHINE_OTHER;
    if (d->source == MACHINE_OTHER)
        return true;
    if (!take_attr(source, volume ? "pool" : "protocol", one, sizeof one, err) ||
        !take_attr(source, volume ? "volume" : "name", two, sizeof two, err))
        return false;
    snprintf(d->path, sizeof d->path, "%s%s%s", one, volume ? "/" : ":", two);
    return true;
}

static bool read_disk(xmlNodePtr node, struct machine_disk *d, struct err *err)
{
    xmlNodePtr target = dom_child(node, "target");

    if (!take_attr(target, "dev", d->target, sizeof d->target, err) ||
        !take_attr(target, "bus", d->bus, sizeof d->bus, err) ||
        !take_attr(dom_child(node, "driver"), "type", d->format, sizeof d->format, err) ||
        !take_text(node, "serial", d->serial, sizeof d->serial, err) || !read_source(node, d, err))
        return false;
    if (d->target[0] == '\0')
        return err_set(err, ERR_CORRUPT, "the XML of the machine has a disk without a target");
    if (d->format[0] == '\0')
        snprintf(d->format, sizeof d->format, "raw");
    if (dom_child(node, "source") == NULL)
        d->source = MACHINE_NOTHING;
    d->readonly = dom_child(node, "readonly") != NULL;
    d->shareable = dom_child(node, "shareable") != NULL;
    return true;
}

static bool read_disks(const struct machine *m, struct machine_facts *f, struct err *err)
{
    for (xmlNodePtr n = NULL; (n = machine_disk_node(m, n)) != NULL;) {
        if (f->disk_count == MACHINE_DISKS_MAX)
            return err_set(err, ERR_CORRUPT, "the machine has more than %u disks",
                           MACHINE_DISKS_MAX);
        struct machine_disk *d = &f->disks[f->disk_count];
        if (!read_disk(n, d, err))
            return false;
        for (size_t i = 0; i < f->disk_count; i++)
            if (strcmp(f->disks[i].target, d->target) == 0)
                return err_set(err, ERR_CORRUPT, "the machine has two disks %s", d->target);
        f->disk_count++;
    }
    return true;
}

/* --- network cards --- */

static bool read_nic(xmlNodePtr node, struct machine_nic *nic, struct err *err)
{
    xmlNodePtr source = dom_child(node, "source");
    char mac[64];

    nic->link = dom_attr_is(node, "type", "network")  ? MACHINE_ON_NETWORK
                : dom_attr_is(node, "type", "bridge") ? MACHINE_ON_BRIDGE
                                                      : MACHINE_ON_OTHER;
    if (!take_attr(source, "network", nic->network, sizeof nic->network, err) ||
        !take_attr(source, "portgroup", nic->portgroup, sizeof nic->portgroup, err) ||
        !take_attr(source, "bridge", nic->bridge, sizeof nic->bridge, err) ||
        !take_attr(dom_child(node, "model"), "type", nic->model, sizeof nic->model, err) ||
        !take_attr(dom_child(node, "mac"), "address", mac, sizeof mac, err))
        return false;
    if (mac[0] != '\0' && !mac_parse(mac, nic->mac))
        return err_set(err, ERR_CORRUPT, "the machine has a network card whose MAC is none");
    return true;
}

static bool read_nics(xmlNodePtr devices, struct machine_facts *f, struct err *err)
{
    for (xmlNodePtr n = dom_child(devices, "interface"); n != NULL; n = dom_next(n, "interface")) {
        if (f->nic_count == MACHINE_NICS_MAX)
            return err_set(err, ERR_CORRUPT, "the machine has more than %u network cards",
                           MACHINE_NICS_MAX);
        if (!read_nic(n, &f->nics[f->nic_count], err))
            return false;
        f->nic_count++;
    }
    return true;
}

/* --- the whole --- */

static bool has_agent(xmlNodePtr devices)
{
    for (xmlNodePtr n = dom_child(devices, "channel"); n != NULL; n = dom_next(n, "channel"))
        if (dom_attr_is(dom_child(n, "target"), "name", "org.qemu.guest_agent.0"))
            return true;
    return false;
}

static bool read_facts(const struct machine *m, struct machine_facts *f, struct err *err)
{
    xmlNodePtr devices = dom_child(m->root, "devices");

    if (!take_text(m->root, "name", f->name, sizeof f->name, err) ||
        !take_text(m->root, "uuid", f->uuid, sizeof f->uuid, err) ||
        !take_attr(dom_farshore(m->root, "vm"), "group", f->group, sizeof f->group, err) ||
        !read_size(m->root, f, err) || !read_firmware(m->root, f, err) || !read_disks(m, f, err) ||
        !read_nics(devices, f, err))
        return false;
    if (f->name[0] == '\0')
        return err_set(err, ERR_CORRUPT, "the XML of the machine has no name in it");
    f->tpm = dom_attr_is(dom_path(devices, "tpm/backend"), "type", "emulator");
    f->agent = has_agent(devices);
    return true;
}

bool machine_refresh(struct machine *m, struct err *err)
{
    struct machine_facts *f AUTO_FREE = calloc(1, sizeof *f);
    if (f == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!read_facts(m, f, err))
        return false;
    m->facts = *f;
    return true;
}

bool machine_parse(struct span text, struct machine **out, struct err *err)
{
    struct machine *m AUTO_MACHINE = calloc(1, sizeof *m);

    *out = NULL;
    if (m == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!dom_parse(text, "domain", "the machine", &m->doc, err))
        return false;
    m->root = xmlDocGetRootElement(m->doc);
    if (!machine_refresh(m, err))
        return false;
    *out = TAKE(m);
    return true;
}

void machine_release(struct machine **m)
{
    if (*m != NULL)
        dom_release(&(*m)->doc);
    free(*m);
    *m = NULL;
}

const struct machine_facts *machine_facts(const struct machine *m)
{
    return &m->facts;
}

const struct machine_disk *machine_disk(const struct machine *m, const char *target)
{
    for (size_t i = 0; i < m->facts.disk_count; i++)
        if (strcmp(m->facts.disks[i].target, target) == 0)
            return &m->facts.disks[i];
    return NULL;
}

bool machine_write(const struct machine *m, char **out, struct err *err)
{
    return dom_write(m->doc, out, err);
}

/* --- identities --- */

static bool random_bytes(struct world *w, uint8_t *out, size_t length, struct err *err)
{
    int result = w->ops->random(w, out, length);
    return result == 0 || err_errno(err, -result, "no random numbers");
}

/* RFC 4122, version 4. */
bool uuid_random(struct world *w, char out[UUID_CHARS + 1], struct err *err)
{
    uint8_t b[16];
    size_t at = 0;
    if (!random_bytes(w, b, sizeof b, err))
        return false;
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof b; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[at++] = '-';
        at += (size_t)snprintf(out + at, 3, "%02x", b[i]);
    }
    return true;
}

bool mac_random(struct world *w, char out[MAC_CHARS + 1], struct err *err)
{
    uint8_t b[3];
    if (!random_bytes(w, b, sizeof b, err))
        return false;
    snprintf(out, MAC_CHARS + 1, "52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
    return true;
}

bool mac_parse(const char *text, char out[MAC_CHARS + 1])
{
    char mac[MAC_CHARS + 1];
    for (size_t i = 0; i < MAC_CHARS; i++) {
        bool good = i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char)text[i]) != 0;
        if (!good)
            return false;
        mac[i] = (char)tolower((unsigned char)text[i]);
    }
    if (text[MAC_CHARS] != '\0')
        return false;
    memcpy(out, mac, MAC_CHARS);
    out[MAC_CHARS] = '\0';
    return true;
}
