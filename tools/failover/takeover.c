/* SPDX-License-Identifier: MIT */
#include "tools/failover/takeover.h"

#include "backend/history/claim.h"
#include "backend/history/pin.h"
#include "common/rfc3339.h"
#include "tools/failover/local_disks.h"

#define STOP_MS 60000u

static void hold_name(const struct generation *g, char out[PIN_NAME_MAX + 1])
{
    char generation[GENERATION_NAME_MAX];
    generation_name(*g, generation);
    snprintf(out, PIN_NAME_MAX + 1, "failover-%s", generation);
}

static bool parent_point(struct flow *f, struct history_point *out, struct err *err)
{
    const struct protection_failover *w = &f->protection->failover;
    return flow_history(f, err) &&
           history_point_at(f->vm->history, w->parent, w->parent_epoch, out, err);
}

/* The generation that ours follows. Whoever else takes the VM changes the document first: when it
 * is still ours after the head was read, that head is the one we know of. */
static bool head_to_end(struct flow *f, struct generation *out, struct err *err)
{
    struct protection *now AUTO_PROTECTION = NULL;
    *out = history_head(f->vm->history).generation;
    if (!protection_load(&f->vault, &now, err))
        return false;
    return now->failover.generation.id == f->protection->failover.generation.id ||
           err_set(err, ERR_FENCED, "another failover of %s has begun meanwhile",
                   f->vm->settings.name);
}

bool takeover_claim(struct flow *f, bool *fence_pending, struct err *err)
{
    const struct protection_failover *w = &f->protection->failover;
    char label[POINT_LABEL_MAX + 1], hold[PIN_NAME_MAX + 1];
    struct history_point point;
    struct claim_result result;
    struct err cache = ERR_NONE;
    struct vm *vm = f->vm;

    struct generation ends;
    if (!parent_point(f, &point, err) || !head_to_end(f, &ends, err))
        return false;
    hold_name(&w->generation, hold);
    if (!pin_hold(f->call->world, vm->targets[0], vm->history, vm->keys, hold, &point, err))
        return err_wrap(err, "keeping the point");
    snprintf(label, sizeof label, "failed over to host %s", w->host);
    bool reachable = !f->cache_silent && flow_caches(f, &cache);
    const struct claim_config config = {.world = f->call->world,
                                        .target = vm->targets[0],
                                        .cache = reachable ? vm->caches[0] : NULL,
                                        .vm = vm->settings.name,
                                        .keys = vm->keys,
                                        .label = label};
    const struct claim claim = {.generation = w->generation,
                                .ends = ends,
                                .parent = w->parent,
                                .parent_epoch = w->parent_epoch};
    if (!history_begin_generation_in(&config, vm->history, &claim, &result, err))
        return false;
    *fence_pending = result.fence_pending;
    if (result.fence_pending)
        return flow_step(f, "claim", err, "the old source is not fenced yet: %s",
                         reachable         ? result.reason
                         : f->cache_silent ? "its cache store does not answer"
                                           : cache.text);
    return result.tail_epochs == 0 ||
           flow_step(f, "claim", err,
                     "%llu epochs that the old source had shipped besides stay as a branch",
                     (unsigned long long)result.tail_epochs);
}

/* --- settings --- */

static bool settings_apply(struct flow *f, const struct history_point *point, bool replicate,
                           struct err *err)
{
    struct settings *s = &f->vm->settings;
    const struct protection_failover *w = &f->protection->failover;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    char mount[PATH_BYTES_MAX];
    const char *given = target_setting(&f->protection->settings, "mount");
    bool home = strcmp(f->host.name, f->protection->home_host) == 0;

    if (!settings_retake(f->call->world, f->call->paths, s, &now, &lock, err))
        return false;
    s->role = ROLE_SOURCE;
    s->generation = w->generation;
    s->replicate = replicate;
    s->origin.generation = point->generation;
    s->origin.epoch = point->epoch;
    s->origin.point_ms = point->ms;
    s->origin.target_count = s->store_count;
    for (uint16_t i = 0; i < s->store_count; i++)
        snprintf(s->origin.targets[i], STORE_URL_MAX, "%s", s->stores[i].target);
    if (given && !home)
        snprintf(s->machine->mount, sizeof s->machine->mount, "%s", given);
    flow_mount_point(f, mount);
    snprintf(s->machine->mount, sizeof s->machine->mount, "%.*s", (int)sizeof s->machine->mount - 1,
             mount);
    return settings_save_locked(f->call->world, f->call->paths, s, err);
}

bool takeover_disks(struct flow *f, bool replicate, struct err *err)
{
    struct settings *s = &f->vm->settings;
    const struct protection_failover *w = &f->protection->failover;
    struct history_point point;
    if (s->role == ROLE_SOURCE && s->generation.id == w->generation.id)
        /* An earlier try came so far: the files may be in use. It may have ended before this. */
        return moved_remove(f->call->world, f->call->paths, s->name, err);
    return parent_point(f, &point, err) && local_disks_make(f, &point, err) &&
           local_disks_forget(f, err) && settings_apply(f, &point, replicate, err) &&
           moved_remove(f->call->world, f->call->paths, s->name, err);
}

/* --- machine --- */

/* What was learnt of networks and addresses goes into the document when the failover is recorded.
 */
struct started {
    struct flow *flow;
    uint64_t resumed_ms;
    uint16_t nic_count;
    struct protection_nic nics[PROTECTION_NICS_MAX];
};

static bool map_network(struct protection *p, const struct protection_nic *was,
                        const struct protection_nic *now, bool home)
{
    struct protection_mapping row;
    memset(&row, 0, sizeof row);
    const struct protection_nic *h = home ? now : was, *a = home ? was : now;
    snprintf(row.home_network, sizeof row.home_network, "%s", h->network);
    snprintf(row.home_subnet, sizeof row.home_subnet, "%s", h->subnet);
    snprintf(row.away_network, sizeof row.away_network, "%s", a->network);
    snprintf(row.away_subnet, sizeof row.away_subnet, "%s", a->subnet);
    for (uint16_t i = 0; i < p->mapping_count; i++)
        if (memcmp(&p->mappings[i], &row, sizeof row) == 0)
            return true;
    if (p->mapping_count == PROTECTION_MAPPINGS_MAX)
        return false;
    p->mappings[p->mapping_count++] = row;
    return true;
}

static bool change_started(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct started *s = context;
    const struct flow *f = s->flow;
    bool home = strcmp(f->host.name, p->home_host) == 0;
    (void)same;
    if (p->failover.generation.id != f->protection->failover.generation.id)
        return err_set(err, ERR_FENCED, "another failover of %s has begun meanwhile",
                       f->vm->settings.name);
    for (uint16_t i = 0; i < s->nic_count; i++)
        if (s->nics[i].network[0] != '\0' && !map_network(p, &p->nics[i], &s->nics[i], home))
            return err_set(err, ERR_FULL, "more than %u rows of network mapping",
                           PROTECTION_MAPPINGS_MAX);
    p->nic_count = s->nic_count;
    memcpy(p->nics, s->nics, sizeof p->nics);
    snprintf(p->source_host, sizeof p->source_host, "%s", f->host.name);
    p->failover.started_ms = s->resumed_ms;
    p->failover.disk_count = f->vm->settings.disk_count;
    for (uint16_t i = 0; i < p->failover.disk_count; i++) {
        const struct settings_disk *d = &f->vm->settings.disks[i];
        snprintf(p->failover.disks[i].name, sizeof p->failover.disks[i].name, "%s", d->name);
        snprintf(p->failover.disks[i].path, sizeof p->failover.disks[i].path, "%.*s",
                 (int)sizeof p->failover.disks[i].path - 1, d->path);
    }
    return true;
}

/* The domain as it stands here, for the settings: hook and agent know it by that name. */
static bool set_domain(void *context, struct settings *now)
{
    snprintf(now->machine->domain, sizeof now->machine->domain, "%s", (const char *)context);
    return true;
}

static bool note_domain(struct flow *f, const char *name, struct err *err)
{
    struct settings *s = &f->vm->settings;
    if (strcmp(s->machine->domain, name) == 0)
        return true;
    set_domain((void *)name, s);
    return settings_change(f->call->world, f->call->paths, s->name, set_domain, (void *)name, err);
}

bool takeover_start(struct flow *f, uint64_t *resumed_ms, struct err *err)
{
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    struct runner *r = &m.runner;
    struct buf notes AUTO_BUF = BUF_NONE;
    const char *name = m.machine.name;
    struct started *s AUTO_FREE = calloc(1, sizeof *s);

    if (s == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    s->flow = f;
    s->nic_count = f->protection->nic_count;
    if (!flow_machine_open(f, &m, err) || !flow_step(f, "mount", err, "at %s", m.folder) ||
        !flow_mount(f, err) ||
        !flow_step(f, "machine", err, "%s", r->virt ? name : "by the start command") ||
        !runner_make(r, &m.machine, s->nics, &notes, err) || !flow_notes(f, &notes, err) ||
        !(r->virt == NULL || note_domain(f, name, err)) ||
        !flow_step(f, "start", err, "%s", name) ||
        !runner_start(r, &m.machine, &s->resumed_ms, err) ||
        !flow_change(f, change_started, s, err))
        return false;
    *resumed_ms = s->resumed_ms;
    return true;
}

/* --- undoing --- */

static bool stop_machine(struct flow *f, struct err *err)
{
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    return flow_machine_open(f, &m, err) &&
           runner_stop(&m.runner, &m.machine, true, STOP_MS, err) &&
           runner_remove(&m.runner, &m.machine, err);
}

static bool settings_target(struct flow *f, struct err *err)
{
    struct settings *s = &f->vm->settings;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    if (!settings_retake(f->call->world, f->call->paths, s, &now, &lock, err))
        return false;
    s->role = ROLE_TARGET;
    s->generation = (struct generation){.number = 0};
    s->replicate = true;
    s->origin.generation = (struct generation){.number = 0};
    s->origin.target_count = 0;
    for (uint16_t i = 0; i < s->disk_count; i++)
        s->disks[i].path[0] = '\0';
    return settings_save_locked(f->call->world, f->call->paths, s, err);
}

/* By the settings: they name the generation whose files and hold these are, and so change last. */
static bool undo_here(struct flow *f, struct err *err)
{
    char hold[PIN_NAME_MAX + 1];
    struct settings *s = &f->vm->settings;
    hold_name(&s->generation, hold);
    return flow_step(f, "stop", err, "the machine here") && stop_machine(f, err) &&
           flow_unmount(f, false, err) && local_disks_remove(f, err) &&
           local_disks_forget(f, err) && pin_remove(f->vm->targets[0], s->name, hold, err) &&
           settings_target(f, err);
}

bool takeover_undo(struct flow *f, struct err *err)
{
    char hold[PIN_NAME_MAX + 1];
    struct settings *s = &f->vm->settings;
    hold_name(&f->protection->failover.generation, hold);
    if (s->role == ROLE_SOURCE && !s->replicate && !undo_here(f, err))
        return false;
    return pin_remove(f->vm->targets[0], s->name, hold, err);
}

bool takeover_forgo(struct flow *f, struct err *err)
{
    char hold[PIN_NAME_MAX + 1];
    const struct settings *s = &f->vm->settings;
    const struct generation *g = &f->protection->failover.generation;
    if (s->role == ROLE_SOURCE && s->generation.id == g->id)
        return true;
    hold_name(g, hold);
    return pin_remove(f->vm->targets[0], s->name, hold, err);
}

bool takeover_stale(const struct flow *f)
{
    const struct settings *s = &f->vm->settings;
    return s->role == ROLE_SOURCE && !s->replicate &&
           s->generation.id != f->protection->failover.generation.id;
}

bool takeover_left(const struct settings *s, const struct protection *p, const char *host)
{
    const struct protection_failover *o = &p->failover;
    return s->role == ROLE_SOURCE && !s->replicate && strcmp(o->host, host) != 0 &&
           strcmp(p->source_host, host) != 0 && o->generation.number > s->generation.number;
}
