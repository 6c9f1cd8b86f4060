/* SPDX-License-Identifier: MIT
 * seed, on the host that was the source before a failover: its old disks, held against everybody,
 * become the beginning of the other vault's new generation, and this host a target of that vault.
 * The old disks are only read; they stay as they were, with what was never replicated. */
#include "tools/failover/handlers.h"

#include "fs/disk/seed.h"
#include "tools/disk_lock.h"
#include "tools/failover/flow.h"
#include "tools/failover/other_vault.h"
#include "tools/seed_copies.h"
#include "tools/tree.h"

#include <errno.h>

#define STOP_MS 60000u

struct seeding {
    struct flow *flow;
    struct vm other;
};

static void seeding_release(struct seeding *s)
{
    vm_release(&s->other);
}

/* The VM may have gone on here, fenced or not: it runs elsewhere now. */
static bool stop_here(struct flow *f, struct err *err)
{
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    char at[PATH_MAX];
    const struct settings *s = &f->vm->settings;
    struct moved moved = {.ms = f->call->world->ops->realtime_ns(f->call->world) / 1000000};

    snprintf(moved.host, sizeof moved.host, "%s", job_run_job(f->job)->by);
    snprintf(moved.reason, sizeof moved.reason, "failed over, and protected from there");
    if (!moved_write(f->call->world, f->call->paths, s->name, &moved, err))
        return false;
    if (!vm_locked(f->call->paths, s->name, at))
        return true;
    return flow_machine_open(f, &m, err) &&
           flow_step(f, "stop", err, "%s, which still runs here", m.machine.name) &&
           runner_stop(&m.runner, &m.machine, true, STOP_MS, err) && flow_unmount(f, false, err);
}

static void show(void *context, uint64_t done, uint64_t total)
{
    struct flow *f = context;
    struct err taken_over = ERR_NONE; /* found out at the next step as well */
    if (!job_step(f->job, "seed", done, total, &taken_over, "the old disks are read"))
        return;
}

static bool write_seed(struct seeding *s, struct err *err)
{
    const struct flow *f = s->flow;
    const struct settings *old = &f->vm->settings;
    struct seed_copies copies CLEANUP(seed_copies_release) = {.count = 0};
    struct store *staging AUTO_STORE = NULL;
    char folder[PATH_BYTES_MAX], url[PATH_BYTES_MAX + 32], generation[GENERATION_NAME_MAX];
    struct seed_config config = {.world = f->call->world,
                                 .vm = old->name,
                                 .keys = s->other.keys,
                                 .encrypt = old->encrypted,
                                 .targets = s->other.targets,
                                 .store_count = s->other.settings.store_count,
                                 .cache = s->other.caches[0],
                                 .generation = flow_arg(f, "generation")};

    for (uint16_t i = 0; i < old->disk_count; i++)
        if (!seed_copies_add(&copies, f->call->world, &old->disks[i], old->disks[i].path, err))
            return false;
    /* By generation: a repeat goes on with what it finds, another seed does not. */
    generation_name(history_head(s->other.history).generation, generation);
    snprintf(folder, sizeof folder, "%.900s/seeds/%s/%s", f->call->paths->state, old->name,
             generation);
    snprintf(url, sizeof url, "file://%.1000s/staging", folder);
    return dir_make(f->call->world, folder, 0700, err) &&
           store_open(&f->call->host, url, true, &staging, err) &&
           seed_write(&config, copies.rows, copies.count, staging, folder, show, s->flow, err) &&
           tree_remove(folder, err);
}

/* A source that has begun to ship there, or waits no longer, needs no seed. */
static bool seed_if_wanted(struct seeding *s, struct err *err)
{
    struct err why = ERR_NONE;
    if (s->flow->vm->settings.origin.generation.number != 0)
        return flow_step(s->flow, "seed", err, "left out: the local disks are not whole");
    if (write_seed(s, &why))
        return true;
    if (why.kind == ERR_EXISTS)
        return flow_step(s->flow, "seed", err, "left out: %s", why.text);
    *err = why;
    return false;
}

static bool become_target(struct seeding *s, struct err *err)
{
    struct settings *t = &s->other.settings;
    const struct verb_call *call = s->flow->call;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    if (!settings_retake(call->world, call->paths, t, &now, &lock, err))
        return false;
    t->role = ROLE_TARGET;
    t->generation = (struct generation){.number = 0};
    t->replicate = true;
    t->origin.generation = (struct generation){.number = 0};
    t->origin.target_count = 0;
    for (uint16_t i = 0; i < t->disk_count; i++)
        t->disks[i].path[0] = '\0';
    return settings_save_locked(call->world, call->paths, t, err);
}

static bool seed_and_turn(struct flow *f, struct err *err)
{
    struct seeding s CLEANUP(seeding_release) = {.flow = f, .other = VM_NONE};
    struct vault_stores stores;
    struct err why = ERR_NONE;
    bool made;
    snprintf(stores.cache, sizeof stores.cache, "%s", flow_arg(f, "cache"));
    snprintf(stores.target, sizeof stores.target, "%s", flow_arg(f, "target"));
    if (!other_vault_open(f, &stores, NULL, &s.other, &made, err))
        return false;
    if (f->vm->settings.role == ROLE_SOURCE && !stop_here(f, err))
        return false;
    /* Also without a whole seed this host is the one that applies what comes. */
    bool seeded = f->vm->settings.role != ROLE_SOURCE || seed_if_wanted(&s, &why);
    if ((seeded && !flow_step(f, SEED_TURN_STEP, err, "a target of the other vault from now on")) ||
        !become_target(&s, err))
        return false;
    if (!seeded)
        *err = why;
    return seeded;
}

/* A job left over from an earlier round must not stop a VM that has come back since. */
static bool runs_elsewhere(const struct flow *f, struct err *err)
{
    return strcmp(f->protection->source_host, f->host.name) != 0 ||
           err_set(err, ERR_CANCELLED, "%s runs on this host, %s, by now", f->vm->settings.name,
                   f->host.name);
}

static bool run_seed(const struct verb_call *call, struct vm *vm, struct job_run *job,
                     cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    (void)values;
    return flow_open(call, vm, job, &f, err) && flow_alone(&f, err) && runs_elsewhere(&f, err) &&
           seed_and_turn(&f, err);
}

const struct handler handler_seed = {.verb = "seed", .resumable = true, .run = run_seed};
