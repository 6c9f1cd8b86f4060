/* SPDX-License-Identifier: MIT */
#include "tools/failover/source_domain.h"

#include "tools/failover/nvram.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void source_domain_release(struct source_domain *d)
{
    free(TAKE(d->xml));
    machine_release(&d->machine);
    for (uint16_t i = 0; i < d->network_count; i++)
        buf_release(&d->networks[i].xml);
    buf_release(&d->nvram);
    buf_release(&d->notes);
}

void source_domain_note(struct source_domain *d, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (n < 0)
        return;
    size_t length = strlen(line);
    line[length++] = '\n';
    buf_put(&d->notes, line, length);
}

/* --- the disks --- */

static bool is_excluded(const struct source_ask *ask, const char *target)
{
    for (size_t i = 0; i < ask->excluded_count; i++)
        if (strcmp(ask->excluded[i], target) == 0)
            return true;
    return false;
}

static const struct machine_disk *find_disk(const struct machine_facts *f, const char *target)
{
    for (size_t i = 0; i < f->disk_count; i++)
        if (strcmp(f->disks[i].target, target) == 0)
            return &f->disks[i];
    return NULL;
}

static bool check_excluded(const struct machine_facts *f, const struct source_ask *ask,
                           struct err *err)
{
    for (size_t i = 0; i < ask->excluded_count; i++)
        if (find_disk(f, ask->excluded[i]) == NULL)
            return err_set(err, ERR_INVALID, "domain %s has no disk %.60s to exclude", f->name,
                           ask->excluded[i]);
    return true;
}

static bool check_kind(const struct machine_facts *f, const struct machine_disk *d, struct err *err)
{
    const char *what = d->source == MACHINE_NETWORK  ? "a network disk"
                       : d->source == MACHINE_VOLUME ? "a volume of a storage pool"
                       : d->source == MACHINE_OTHER  ? "of a kind that farshore does not know"
                       : d->shareable                ? "shared with other machines"
                                                     : NULL;
    if (what != NULL)
        return err_set(err, ERR_INVALID,
                       "domain %s: disk %s is %s, which cannot be replicated: --exclude %s leaves "
                       "it out",
                       f->name, d->target, what, d->target);
    return disk_name_valid(d->target) ||
           err_set(err, ERR_INVALID,
                   "domain %s: disk %.40s has a name that farshore cannot take: --exclude it",
                   f->name, d->target);
}

static bool check_format(const struct machine_facts *f, const struct machine_disk *d, bool convert,
                         struct err *err)
{
    if (d->format[0] == '\0' || strcmp(d->format, "raw") == 0)
        return true;
    if (strcmp(d->format, "qcow2") == 0 && convert)
        return true;
    if (strcmp(d->format, "qcow2") == 0)
        return err_set(err, ERR_INVALID,
                       "domain %s: disk %s is a qcow2 image: --convert makes it a raw one; by "
                       "hand, with the domain off: qemu-img convert -O raw %s %s.raw",
                       f->name, d->target, d->path, d->path);
    return err_set(err, ERR_INVALID,
                   "domain %s: disk %s is a %s image, farshore takes raw and qcow2: --exclude %s "
                   "leaves it out",
                   f->name, d->target, d->format, d->target);
}

/* "/srv/web.qcow2" -> "/srv/web.farshore.raw", or in `folder`. */
static bool new_file(const char *path, const char *folder, char out[PATH_MAX], struct err *err)
{
    static const char *const endings[] = {".img", ".raw", ".qcow2"};
    const char *base = strrchr(path, '/') + 1;
    size_t length = strlen(base);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (length > n && strcmp(base + length - n, endings[i]) == 0) {
            length -= n;
            break;
        }
    }
    int n = folder ? snprintf(out, PATH_MAX, "%s/%.*s.farshore.raw", folder, (int)length, base)
                   : snprintf(out, PATH_MAX, "%.*s.farshore.raw",
                              (int)((size_t)(base - path) + length), path);
    return (n > 0 && n < PATH_MAX) || err_set(err, ERR_INVALID, "%.80s... is too long", path);
}

static bool check_new_names(const struct source_domain *d, const char *local, struct err *err)
{
    for (uint16_t i = 0; i < d->disk_count; i++)
        for (uint16_t j = 0; j < i; j++)
            if (strcmp(d->disks[i].local, d->disks[j].local) == 0)
                return err_set(err, ERR_INVALID,
                               "disks %s and %s would both be %s: give another folder than %s "
                               "with --local",
                               d->disks[j].name, d->disks[i].name, d->disks[i].local,
                               local ? local : "theirs");
    return true;
}

static bool plan_disk(const struct machine_facts *f, const struct machine_disk *d, bool running,
                      const struct source_ask *ask, struct source_disk *out, struct err *err)
{
    if (!check_kind(f, d, err) || !check_format(f, d, ask->convert, err))
        return false;
    if (d->path[0] != '/')
        return err_set(err, ERR_INVALID, "domain %s: disk %s has no file", f->name, d->target);
    *out = (struct source_disk){.device = d->source == MACHINE_BLOCK,
                                .qcow2 = strcmp(d->format, "qcow2") == 0};
    snprintf(out->name, sizeof out->name, "%s", d->target);
    snprintf(out->path, sizeof out->path, "%s", d->path);
    if (!running && !out->qcow2) {
        memcpy(out->local, out->path, sizeof out->local);
        return true;
    }
    if (out->device && ask->local == NULL)
        return err_set(err, ERR_INVALID,
                       "domain %s: disk %s is the block device %s, and must move to a file while "
                       "the domain runs: say in which folder with --local DIR, or shut it down",
                       f->name, d->target, d->path);
    return new_file(d->path, ask->local, out->local, err);
}

bool source_domain_plan(const struct machine_facts *defined, const struct machine_facts *live,
                        const struct source_ask *ask, struct source_domain *out, struct err *err)
{
    snprintf(out->name, sizeof out->name, "%s", defined->name);
    out->running = live != NULL;
    out->disk_count = 0;
    if (!check_excluded(defined, ask, err))
        return false;
    for (size_t i = 0; i < defined->disk_count; i++) {
        const struct machine_disk *d = &defined->disks[i];
        if (is_excluded(ask, d->target) || d->source == MACHINE_NOTHING)
            continue;
        const struct machine_disk *now = live ? find_disk(live, d->target) : d;
        if (now == NULL || strcmp(now->path, d->path) != 0)
            return err_set(err, ERR_INVALID,
                           "domain %s runs with another disk %s than it is defined with: restart "
                           "it, or end its snapshot or block job, first",
                           defined->name, d->target);
        if (out->disk_count == VM_DISKS_MAX)
            return err_set(err, ERR_INVALID, "more than %u disks", VM_DISKS_MAX);
        if (!plan_disk(defined, d, out->running, ask, &out->disks[out->disk_count], err))
            return false;
        out->disk_count++;
    }
    return (out->disk_count > 0 ||
            err_set(err, ERR_INVALID, "domain %s has no disk to replicate", defined->name)) &&
           check_new_names(out, ask->local, err);
}

/* --- the rest of the machine --- */

static bool read_nic(struct virt *v, const char *domain, const struct machine_nic *nic,
                     struct protection_nic *out, struct err *err)
{
    char address[VIRT_ADDRESS_MAX + 1] = "";
    enum address_from from;
    struct network network AUTO_NETWORK = {.hosts = NULL};
    struct err ignored = ERR_NONE;

    *out = (struct protection_nic){.network = ""};
    snprintf(out->mac, sizeof out->mac, "%s", nic->mac);
    if (nic->link != MACHINE_ON_NETWORK)
        return true;
    snprintf(out->network, sizeof out->network, "%s", nic->network);
    if (!nic_address(v, domain, nic, address, &from, err))
        return false;
    snprintf(out->address, sizeof out->address, "%s", address);
    /* A network that cannot be read has no subnets to speak of: the mapping is by its name. */
    if (!network_load(v, nic->network, &network, &ignored))
        return true;
    const struct subnet *s = address[0] ? network_subnet_of(&network, address) : NULL;
    if (s != NULL)
        snprintf(out->subnet, sizeof out->subnet, "%s", s->name);
    return true;
}

/* What one like it is made from at the target. One that is not there is made by hand, or not at
 * all: the mapping says. */
static bool read_network(struct virt *v, const char *name, struct source_domain *out,
                         struct err *err)
{
    char *xml AUTO_FREE = NULL;
    if (name[0] == '\0')
        return true;
    for (uint16_t i = 0; i < out->network_count; i++)
        if (strcmp(out->networks[i].name, name) == 0)
            return true;
    if (out->network_count == PROTECTION_NETWORKS_MAX)
        return err_set(err, ERR_INVALID, "it is on more than %u networks", PROTECTION_NETWORKS_MAX);
    if (!virt_network_xml(v, name, &xml, err)) {
        if (err->kind != ERR_NOT_FOUND)
            return false;
        *err = ERR_NONE;
        return true;
    }
    struct protection_network *n = &out->networks[out->network_count++];
    snprintf(n->name, sizeof n->name, "%s", name);
    buf_put(&n->xml, xml, strlen(xml));
    return buf_ok(&n->xml, err);
}

static bool read_nics(struct virt *v, const struct machine_facts *f, struct source_domain *out,
                      struct err *err)
{
    for (size_t i = 0; i < f->nic_count && i < PROTECTION_NICS_MAX; i++)
        if (!read_nic(v, f->name, &f->nics[i], &out->nics[out->nic_count++], err) ||
            !read_network(v, out->nics[i].network, out, err))
            return err_wrap(err, "NIC %zu of domain %s", i, f->name);
    return true;
}

static bool read_nvram(struct world *w, const struct machine_facts *f, struct source_domain *out,
                       struct err *err)
{
    if (f->nvram[0] == '\0' || nvram_read(w, f->nvram, &out->nvram, err))
        return true;
    if (err->kind != ERR_NOT_FOUND)
        return err_wrap(err, "firmware variables of domain %s", f->name);
    *err = ERR_NONE; /* it has not run yet: libvirt makes them from the template */
    return true;
}

/* What runs now; false with *out NULL only on an error. */
static bool read_live(struct virt *v, const char *domain, struct machine **out, struct err *err)
{
    char *xml AUTO_FREE = NULL;
    return virt_xml(v, domain, VIRT_LIVE, &xml, err) && machine_parse(span_of_text(xml), out, err);
}

static bool check_state(struct virt *v, const char *domain, bool *running, struct err *err)
{
    struct virt_status s;
    if (!virt_status(v, domain, &s, err))
        return false;
    if (!s.persistent)
        return err_set(err, ERR_INVALID,
                       "domain %s is not defined, it would be gone at its end: virsh define it",
                       domain);
    *running = s.state == VIRT_RUNNING || s.state == VIRT_PAUSED;
    if (s.io_error)
        return err_set(err, ERR_INVALID, "domain %s is paused because a disk failed: see to that",
                       domain);
    return *running || s.state == VIRT_OFF || s.state == VIRT_CRASHED ||
           err_set(err, ERR_BUSY, "domain %s is %s: try again when it is not", domain,
                   virt_state_name(s.state));
}

bool source_domain_read(struct world *w, struct virt *v, const struct source_ask *ask,
                        struct source_domain *out, struct err *err)
{
    struct machine *live AUTO_MACHINE = NULL;
    bool running = false;

    if (!check_state(v, ask->domain, &running, err) ||
        !virt_xml(v, ask->domain, VIRT_DEFINED, &out->xml, err) ||
        !machine_parse(span_of_text(out->xml), &out->machine, err) ||
        (running && !read_live(v, ask->domain, &live, err)) || !machine_can_move(out->machine, err))
        return false;
    const struct machine_facts *f = machine_facts(out->machine);
    if (!source_domain_plan(f, live ? machine_facts(live) : NULL, ask, out, err) ||
        !source_domain_measure(out, err) || !read_nics(v, f, out, err) ||
        !read_nvram(w, f, out, err))
        return false;
    for (size_t i = 0; i < ask->excluded_count; i++)
        source_domain_note(out, "disk %s of domain %s is left out: it is not at the target",
                           ask->excluded[i], out->name);
    if (f->tpm)
        source_domain_note(out, "domain %s has a TPM, whose state is not replicated", out->name);
    return buf_ok(&out->notes, err);
}

bool source_domain_look(struct world *w, struct virt *v, const struct settings *s,
                        struct source_domain *out, struct err *err)
{
    if (!virt_xml(v, s->machine->domain, VIRT_DEFINED, &out->xml, err) ||
        !machine_parse(span_of_text(out->xml), &out->machine, err) ||
        !machine_can_move(out->machine, err))
        return false;
    const struct machine_facts *f = machine_facts(out->machine);
    snprintf(out->name, sizeof out->name, "%s", f->name);
    for (uint16_t i = 0; i < s->disk_count; i++) {
        struct source_disk *d = &out->disks[out->disk_count++];
        *d = (struct source_disk){.size_bytes = s->disks[i].size_bytes};
        snprintf(d->name, sizeof d->name, "%s", s->disks[i].name);
        if (machine_disk(out->machine, d->name) == NULL)
            return err_set(err, ERR_INVALID, "domain %s has no disk %s any more, which %s protects",
                           out->name, d->name, s->name);
    }
    return read_nics(v, f, out, err) && read_nvram(w, f, out, err);
}

/* --- into the protection document --- */

static bool map_to_namesake(struct protection *p, const struct protection_nic *nic, struct err *err)
{
    if (nic->network[0] == '\0')
        return true;
    for (uint16_t i = 0; i < p->mapping_count; i++)
        if (strcmp(p->mappings[i].home_network, nic->network) == 0 &&
            strcmp(p->mappings[i].home_subnet, nic->subnet) == 0)
            return true;
    if (p->mapping_count == PROTECTION_MAPPINGS_MAX)
        return err_set(err, ERR_FULL, "more than %u networks", PROTECTION_MAPPINGS_MAX);
    struct protection_mapping *m = &p->mappings[p->mapping_count++];
    snprintf(m->home_network, sizeof m->home_network, "%s", nic->network);
    snprintf(m->home_subnet, sizeof m->home_subnet, "%s", nic->subnet);
    snprintf(m->away_network, sizeof m->away_network, "%s", nic->network);
    snprintf(m->away_subnet, sizeof m->away_subnet, "%s", nic->subnet);
    return true;
}

/* The XML as the target will need it: without what is not replicated. */
static bool protected_xml(const struct source_domain *d, char **out, struct err *err)
{
    struct machine *m AUTO_MACHINE = NULL;
    if (!machine_parse(span_of_text(d->xml), &m, err))
        return false;
    const struct machine_facts *all = machine_facts(d->machine);
    for (size_t i = 0; i < all->disk_count; i++) {
        bool kept = false;
        for (uint16_t k = 0; k < d->disk_count; k++)
            kept = kept || strcmp(d->disks[k].name, all->disks[i].target) == 0;
        if (!kept && !machine_remove_disk(m, all->disks[i].target, err))
            return false;
    }
    return machine_write(m, out, err);
}

bool source_domain_register(const struct source_domain *d, struct protection *p, struct err *err)
{
    char *xml AUTO_FREE = NULL;
    bool mapped = p->mapping_count > 0;
    if (!protected_xml(d, &xml, err))
        return false;
    if (strlen(xml) > PROTECTION_XML_MAX)
        return err_set(err, ERR_INVALID, "the XML of domain %s is longer than %u bytes", d->name,
                       PROTECTION_XML_MAX);
    buf_clear(&p->xml);
    buf_put(&p->xml, xml, strlen(xml));
    buf_clear(&p->nvram);
    buf_put(&p->nvram, d->nvram.data, d->nvram.length);
    p->nic_count = d->nic_count;
    memcpy(p->nics, d->nics, sizeof p->nics);
    for (uint16_t i = 0; !mapped && i < d->nic_count; i++)
        if (!map_to_namesake(p, &d->nics[i], err))
            return false;
    for (uint16_t i = 0; i < d->network_count; i++)
        if (!protection_network_add(p, d->networks[i].name, buf_span(&d->networks[i].xml), err))
            return false;
    return buf_ok(&p->xml, err) && buf_ok(&p->nvram, err);
}
