/* SPDX-License-Identifier: MIT
 * The libvirt domain of a VM on this host, made from the source's own. */
#include "tools/failover/runner_private.h"

#include "tools/failover/nvram.h"

void runner_name(const struct runner *r, const char *drill, char out[PROTECTION_NAME_MAX])
{
    struct machine *m AUTO_MACHINE = NULL;
    struct err ignored = ERR_NONE; /* a text that is no domain is refused when it is made */
    const char *name = target_setting(&r->protection->settings, "name");
    bool home = strcmp(r->host.name, r->protection->home_host) == 0;

    if (name == NULL || home)
        name = r->vm->settings.name;
    if ((home || !target_setting(&r->protection->settings, "name")) &&
        r->protection->xml.length > 0 && machine_parse(buf_span(&r->protection->xml), &m, &ignored))
        name = machine_facts(m)->name;
    if (drill)
        snprintf(out, PROTECTION_NAME_MAX, "%.90s-test-%.20s", name, drill);
    else
        snprintf(out, PROTECTION_NAME_MAX, "%s", name);
}

/* Another machine of that name or uuid is left alone; ours has our resource group. */
bool runner_name_free(struct runner *r, const char *name, struct err *err)
{
    char group[PROTECTION_NAME_MAX];
    char *xml AUTO_FREE = NULL;
    struct machine *there AUTO_MACHINE = NULL;
    if (!virt_xml(r->virt, name, VIRT_DEFINED, &xml, err)) {
        if (err->kind != ERR_NOT_FOUND)
            return false;
        *err = ERR_NONE;
        return true;
    }
    runner_group(r, group, sizeof group);
    if (!machine_parse(span_of_text(xml), &there, err))
        return false;
    return strcmp(machine_facts(there)->group, group) == 0 ||
           strcmp(r->host.name, r->protection->home_host) == 0 ||
           err_set(err, ERR_EXISTS,
                   "this host has another domain %s already: farshore set %s target.name=NAME "
                   "gives the one that is failed over another name",
                   name, r->vm->settings.name);
}

static bool has_disk(const struct settings *s, const char *target)
{
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (strcmp(s->disks[i].name, target) == 0)
            return true;
    return false;
}

/* Excluded disks are not here; the rest are images below the mount. */
static bool set_disks(struct machine *m, const struct runner *r, const struct runner_machine *what,
                      struct buf *notes, struct err *err)
{
    const struct settings *s = &r->vm->settings;
    const struct machine_facts *f = machine_facts(m);
    char path[PATH_BYTES_MAX];
    for (size_t i = f->disk_count; i-- > 0;) {
        char target[MACHINE_WORD_MAX + 1];
        snprintf(target, sizeof target, "%s", f->disks[i].target);
        if (has_disk(s, target))
            continue;
        if (!runner_note(notes, err, "disk %s is not replicated and left out", target) ||
            !machine_remove_disk(m, target, err))
            return false;
        f = machine_facts(m);
    }
    for (uint16_t i = 0; i < s->disk_count; i++) {
        snprintf(path, sizeof path, "%s/%s.img", what->folder, s->disks[i].name);
        if (!machine_set_disk(m, s->disks[i].name, MACHINE_FILE, path, err) ||
            !machine_stop_on_error(m, s->disks[i].name, err))
            return err_wrap(err, "disk %s", s->disks[i].name);
    }
    return true;
}

/* A drill runs beside its original: nothing that must be unique stays. */
static bool new_identity(struct machine *m, const struct runner *r,
                         const struct runner_machine *what, struct err *err)
{
    struct world *w = r->vm->call->world;
    char uuid[UUID_CHARS + 1], title[PROTECTION_NAME_MAX + 64];
    snprintf(title, sizeof title, "Test failover of %s", r->vm->settings.name);
    return uuid_random(w, uuid, err) && machine_set_uuid(m, uuid, err) &&
           machine_set_title(m, title, err) && machine_beside(m, err) &&
           machine_move_logs(m, what->logs, err);
}

static bool set_nics(struct machine *m, struct runner *r, const struct runner_machine *what,
                     struct protection_nic *nics, struct buf *notes, struct err *err)
{
    const struct protection *p = r->protection;
    const struct machine_facts *f = machine_facts(m);
    if (f->nic_count != p->nic_count)
        return err_set(err, ERR_CORRUPT, "the machine of %s has %zu NICs and its document %u",
                       r->vm->settings.name, f->nic_count, p->nic_count);
    for (uint16_t i = 0; i < p->nic_count; i++) {
        char mac[MAC_CHARS + 1];
        snprintf(mac, sizeof mac, "%s", p->nics[i].mac);
        if (what->drill && !mac_random(r->vm->call->world, mac, err))
            return false;
        nics[i] = p->nics[i];
        snprintf(nics[i].mac, sizeof nics[i].mac, "%s", mac);
        if (!what->drill && !runner_connect(r, i, mac, &nics[i], notes, err))
            return err_wrap(err, "NIC %u", i);
    }
    if (what->drill && !runner_isolate(r, what, nics, notes, err))
        return false;
    for (uint16_t i = 0; i < p->nic_count; i++)
        if (!machine_set_nic(m, i, nics[i].network, nics[i].mac, err))
            return err_wrap(err, "NIC %u", i);
    return true;
}

static bool set_nvram(struct machine *m, const struct runner *r, const struct runner_machine *what,
                      struct err *err)
{
    char path[PATH_BYTES_MAX], state[PATH_BYTES_MAX];
    if (machine_facts(m)->nvram[0] == '\0')
        return true;
    path_state(r->vm->call->paths, r->vm->settings.name, state);
    snprintf(path, sizeof path, "%.800s/nvram/%.128s_VARS.fd", state, what->name);
    return (r->protection->nvram.length == 0 ||
            nvram_write(r->vm->call->world, path, buf_span(&r->protection->nvram), err)) &&
           machine_set_nvram(m, path, err);
}

static bool make_domain(struct runner *r, const struct runner_machine *what,
                        struct protection_nic *nics, struct buf *notes, struct err *err)
{
    struct machine *m AUTO_MACHINE = NULL;
    char group[PROTECTION_NAME_MAX];
    char *xml AUTO_FREE = NULL;

    runner_group(r, group, sizeof group);
    return machine_parse(buf_span(&r->protection->xml), &m, err) && machine_can_move(m, err) &&
           machine_leave_host(m, notes, err) && runner_name_free(r, what->name, err) &&
           machine_set_name(m, what->name, err) && machine_set_group(m, group, err) &&
           (what->drill == NULL || new_identity(m, r, what, err)) &&
           set_disks(m, r, what, notes, err) && set_nics(m, r, what, nics, notes, err) &&
           set_nvram(m, r, what, err) && machine_write(m, &xml, err) &&
           virt_define(r->virt, xml, err);
}

bool runner_make(struct runner *r, const struct runner_machine *m,
                 struct protection_nic nics[PROTECTION_NICS_MAX], struct buf *notes,
                 struct err *err)
{
    if (r->virt == NULL) {
        memcpy(nics, r->protection->nics, sizeof r->protection->nics);
        return true;
    }
    return make_domain(r, m, nics, notes, err) || err_wrap(err, "making domain %s", m->name);
}
