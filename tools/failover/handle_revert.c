/* SPDX-License-Identifier: MIT
 * revert, on the source host: the VM goes on from an earlier point, in place. What it is now
 * becomes the last point of a branch, and is in the vault before anything changes. */
#include "tools/failover/handlers.h"

#include "backend/history/claim.h"
#include "common/rfc3339.h"
#include "fs/disk/seed.h"
#include "fs/disk/ship_state.h"
#include "tools/disk_lock.h"
#include "tools/failover/drain.h"
#include "tools/failover/source_end.h"
#include "tools/failover/takeover.h"

#define APPLY_S 600u

struct reverting {
    struct flow *flow;
    struct protection_failover failover;
};

/* A revert is a failover to the same host: the document says how far it is. */
static bool change_begin(void *context, struct protection *p, bool *same, struct err *err)
{
    struct reverting *r = context;
    (void)same;
    if (!flow_allows(r->flow, STATES_REVERT, p, err))
        return false;
    p->failover = r->failover;
    return true;
}

static bool is_its_point(struct flow *f)
{
    const struct protection_failover *o = &f->protection->failover;
    struct history_point point;
    struct err other = ERR_NONE; /* one that is on a branch by now */
    return history_resolve(f->vm->history, flow_arg(f, "point"), &point, &other) &&
           point.generation.id == o->parent.id && point.epoch == o->parent_epoch;
}

/* One that was begun goes on to the point that it began with, and finds the VM as it left it. */
static bool goes_on(struct flow *f, bool *out, struct err *err)
{
    const struct protection_failover *o = &f->protection->failover;
    const struct settings *s = &f->vm->settings;
    char at[PATH_MAX];
    *out = protection_reverts(f->protection, f->host.name);
    if (!*out)
        return true;
    if (!flow_history(f, err))
        return false;
    if (strcmp(o->job, job_run_job(f->job)->id) != 0 && !is_its_point(f))
        return err_set(err, ERR_INVALID,
                       "a revert of %s to %s was begun: farshore revert %s --point %s goes on with "
                       "it",
                       s->name, o->point, s->name, o->point);
    return s->generation.id == o->generation.id || !vm_locked(f->call->paths, s->name, at) ||
           err_set(err, ERR_BUSY,
                   "%s was mounted again since its revert to %s was begun: what was written since "
                   "then is in no point, and stays only in the disks' files of now; stop the guest "
                   "and farshore unmount %s, then the same command goes on",
                   s->name, o->point, at[0] ? at : s->name);
}

static bool fill(struct reverting *r, const struct history_point *p, struct err *err)
{
    struct flow *f = r->flow;
    struct protection_failover *o = &r->failover;
    snprintf(o->host, sizeof o->host, "%s", f->host.name);
    snprintf(o->from, sizeof o->from, "%s", f->host.name);
    snprintf(o->job, sizeof o->job, "%s", job_run_job(f->job)->id);
    point_time_format(p->ms, o->point);
    o->planned = true;
    o->parent = p->generation;
    o->parent_epoch = p->epoch;
    o->ends = history_head(f->vm->history).generation;
    o->begun_ms = f->call->world->ops->realtime_ns(f->call->world) / 1000000;
    return claim_generation(f->vm->history, &o->generation, err);
}

/* Stops the guest, and has its last state applied: from then on the present is kept. */
static bool keep_present(struct flow *f, struct err *err)
{
    struct source_end end;
    struct history_point last;
    return source_end(f, "before a revert", &end, err) &&
           flow_step(f, "apply", err, "the present state, as a branch") && flow_caches(f, err) &&
           drain_cache(f->vm, APPLY_S, err) &&
           history_point_at(f->vm->history, end.generation, end.epoch, &last, err);
}

static bool begin(struct flow *f, struct err *err)
{
    struct reverting *r AUTO_FREE = calloc(1, sizeof *r);
    struct history_point point;
    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    r->flow = f;
    if (!flow_check(f, STATES_REVERT, err))
        return false;
    if (f->vm->settings.role != ROLE_SOURCE)
        return err_set(err, ERR_INVALID, "%s does not run on host %s", f->vm->settings.name,
                       f->host.name);
    return flow_history(f, err) &&
           history_resolve(f->vm->history, flow_arg(f, "point"), &point, err) &&
           ((keep_present(f, err) && fill(r, &point, err) &&
             flow_step(f, "point", err, "%s", r->failover.point) &&
             flow_change(f, change_begin, r, err)) ||
            err_wrap(
                err,
                "nothing is reverted, and the guest may be off (the same command goes on, or mount "
                "and start it again)"));
}

/* Once it has begun with these disks all is the shipper's: they may have been written since. */
static bool is_adopted(const struct flow *f, const char *state)
{
    struct ship_state ship;
    struct err none = ERR_NONE;
    return ship_state_load(f->call->world, state, f->vm->settings.generation, &ship, &none) &&
           ship.begun;
}

/* The replica is the point itself: only what is written from now on is shipped. */
static bool adopt(struct flow *f, struct err *err)
{
    struct vm *vm = f->vm;
    char state[PATH_BYTES_MAX], at[PATH_MAX];
    struct seed_config config = {.world = f->call->world,
                                 .vm = vm->settings.name,
                                 .keys = vm->keys,
                                 .encrypt = vm->settings.encrypted,
                                 .targets = vm->targets,
                                 .store_count = vm->settings.store_count,
                                 .equal = true};
    path_state(f->call->paths, vm->settings.name, state);
    if (vm_locked(f->call->paths, vm->settings.name, at) || is_adopted(f, state))
        return true;
    if (!flow_caches(f, err))
        return false;
    config.cache = vm->caches[0];
    return seed_adopt(&config, state, err);
}

static bool result(const struct flow *f, cJSON **values, struct err *err)
{
    return json_make(values, err) &&
           json_add_text(*values, "point", f->protection->failover.point, err);
}

/* By this job before its process died, or by another process, of the same command, which this one
 * has waited for. */
static bool is_done(struct flow *f, bool *done, struct err *err)
{
    const struct protection_failover *o = &f->protection->failover;
    *done = flow_done(f);
    if (*done || o->started_ms < job_run_job(f->job)->posted_ms || o->started_ms == 0 ||
        strcmp(o->host, f->host.name) != 0 || strcmp(o->from, f->host.name) != 0)
        return true;
    if (!flow_history(f, err))
        return false;
    *done = is_its_point(f);
    return true;
}

static bool run_revert(const struct verb_call *call, struct vm *vm, struct job_run *job,
                       cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    bool pending = false, done, begun;
    uint64_t resumed_ms;
    if (!flow_open(call, vm, job, &f, err) || !flow_alone(&f, err) || !is_done(&f, &done, err))
        return false;
    if (done)
        return result(&f, values, err);
    if (!goes_on(&f, &begun, err) || !(begun || begin(&f, err)) ||
        !takeover_claim(&f, &pending, err))
        return false;
    if (pending)
        return err_set(err, ERR_TRANSIENT,
                       "the cache store does not answer: the same command goes on");
    return takeover_disks(&f, true, err) && adopt(&f, err) &&
           takeover_start(&f, &resumed_ms, err) && result(&f, values, err);
}

const struct handler handler_revert = {
    .verb = "revert", .resumable = true, .decides = true, .run = run_revert};
