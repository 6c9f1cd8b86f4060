/* SPDX-License-Identifier: MIT
 * failover, on the target host. Until the protection document says so nothing has happened; from
 * then on the same command goes on where it stopped. */
#include "tools/failover/handlers.h"

#include "backend/history/claim.h"
#include "common/rfc3339.h"
#include "tools/failover/drain.h"
#include "tools/failover/takeover.h"
#include "tools/failover/validate.h"

#define DRAIN_PLANNED_S   3600u
#define DRAIN_UNPLANNED_S 60u

/* What is decided before the document is changed. */
struct wish {
    struct flow *flow;
    enum states_verb verb;
    struct protection_failover failover;
};

static uint64_t now_ms(const struct flow *f)
{
    return f->call->world->ops->realtime_ns(f->call->world) / 1000000;
}

/* --- planned: the source stops, and says what its last point is --- */

/* Noted before the source is told: it stops for nobody else, and cancel lets it go on. */
static bool change_leaving(void *context, struct protection *p, bool *same, struct err *err)
{
    struct flow *f = context;
    struct protection_leaving *l = &p->leaving;
    const char *job = job_run_job(f->job)->id, *vm = f->vm->settings.name;
    (void)same;
    if (!flow_allows(f, STATES_FAILOVER_PLANNED, p, err))
        return false;
    if (l->host[0] != '\0' && strcmp(l->host, f->host.name) != 0)
        return err_set(
            err, ERR_INVALID,
            "a planned failover of %s to host %s was begun: it goes on there, or farshore "
            "cancel %s ends it first",
            vm, l->host, vm);
    if (l->host[0] != '\0' && strcmp(l->job, job) > 0)
        return err_set(err, ERR_CANCELLED, "job %s, which is newer, goes on with it", l->job);
    snprintf(l->host, sizeof l->host, "%s", f->host.name);
    snprintf(l->job, sizeof l->job, "%s", job);
    l->asked++;
    return true;
}

/* Of a command that was killed a shutdown may be left, which must not run behind ours. */
static bool shutdown_on(struct flow *f, const char *host, struct job **done, struct err *err)
{
    cJSON *args AUTO_JSON = NULL;
    char asked[PROTECTION_ASKED_MAX];
    if (!flow_change(f, change_leaving, f, err))
        return false;
    protection_asked(&f->protection->leaving, asked);
    if (!json_make(&args, err) || !json_add_text(args, "asked", asked, err))
        return false;
    const struct dispatch d = {.verb = "shutdown", .host = host, .args = args, .quiet = true};
    return dispatch(f->call, f->vm, &d, done, err);
}

static bool shut_source_down(struct flow *f, struct generation *generation, uint64_t *epoch,
                             struct err *err)
{
    char source[HOST_NAME_CHARS_MAX + 1]; /* the document is read anew */
    const char *name;
    struct job *done AUTO_JOB = NULL;

    snprintf(source, sizeof source, "%s", f->protection->source_host);
    if (source[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "it is not known on which host %s runs: fail over unplanned, without "
                       "--planned",
                       f->vm->settings.name);
    if (!flow_step(f, "shutdown", err, "on host %s", source) || !shutdown_on(f, source, &done, err))
        return err_wrap(err,
                        "nothing is failed over, and the guest may be off (the same command goes "
                        "on; farshore cancel %s starts it again where it was)",
                        f->vm->settings.name);
    if (done->values == NULL || !json_text(done->values, "generation", &name, err) ||
        !json_u64(done->values, "epoch", epoch, err))
        return err_wrap(err, "what host %s answered", source);
    return generation_parse(name, generation) ||
           err_set(err, ERR_CORRUPT, "host %s answered with no generation", source);
}

/* Applies all that lies in the cache. Unplanned, what is out of reach is done without. */
static bool drain(struct flow *f, bool planned, struct err *err)
{
    struct err why = ERR_NONE;
    uint64_t wait_s = planned ? DRAIN_PLANNED_S : DRAIN_UNPLANNED_S;

    if (!flow_step(f, "apply", err, "what waits in the cache store"))
        return false;
    if (flow_caches(f, &why) && drain_cache(f->vm, wait_s, &why))
        return true;
    if (planned) {
        *err = why;
        return false;
    }
    f->cache_silent = why.kind == ERR_TRANSIENT;
    return flow_step(f, "apply", err, "left out: %s", why.text) && flow_history(f, err);
}

static bool planned_point(struct flow *f, struct history_point *out, struct err *err)
{
    struct generation generation;
    uint64_t epoch;
    const char *vm = f->vm->settings.name;
    if (!shut_source_down(f, &generation, &epoch, err))
        return false;
    return (flow_history(f, err) && drain(f, true, err) &&
            history_point_at(f->vm->history, generation, epoch, out, err)) ||
           err_wrap(err,
                    "%s is shut down, and not failed over (the same command goes on; farshore "
                    "cancel %s starts it again where it was)",
                    vm, vm);
}

/* The one that was asked for; else the newest that was read whole and found right, else the newest.
 */
static bool unplanned_point(struct flow *f, struct history_point *out, struct err *err)
{
    const char *asked = flow_arg(f, "point");
    struct err none = ERR_NONE;
    if (!flow_history(f, err) || !drain(f, false, err))
        return false;
    if (asked[0] != '\0')
        return history_resolve(f->vm->history, asked, out, err);
    return history_resolve(f->vm->history, "latest-verified", out, &none) ||
           history_resolve(f->vm->history, "latest", out, err);
}

/* The RPO that was met: what was written after this moment is not in the point. */
static uint64_t lost_seconds(struct flow *f, const struct history_point *p)
{
    struct history_head head = history_head(f->vm->history);
    uint64_t holds_ms = p->ms == head.newest_ms && p->until_ms > p->ms ? p->until_ms : p->ms;
    uint64_t now = now_ms(f);
    return now > holds_ms ? (now - holds_ms + 999) / 1000 : 0;
}

static bool fill(struct wish *w, bool planned, const struct history_point *p, struct err *err)
{
    struct flow *f = w->flow;
    struct protection_failover *o = &w->failover;
    const struct job *job = job_run_job(f->job);

    w->verb = planned ? STATES_FAILOVER_PLANNED : STATES_FAILOVER;
    snprintf(o->host, sizeof o->host, "%s", f->host.name);
    snprintf(o->from, sizeof o->from, "%s", f->protection->source_host);
    snprintf(o->job, sizeof o->job, "%s", job->id);
    point_time_format(p->ms, o->point);
    o->planned = planned;
    o->parent = p->generation;
    o->parent_epoch = p->epoch;
    o->ends = history_head(f->vm->history).generation;
    o->begun_ms = now_ms(f);
    o->lost_seconds = planned ? 0 : lost_seconds(f, p);
    return claim_generation(f->vm->history, &o->generation, err);
}

static bool change_begin(void *context, struct protection *p, bool *same, struct err *err)
{
    struct wish *w = context;
    const char *host = w->flow->host.name;
    (void)same;
    if (!flow_allows(w->flow, w->verb, p, err))
        return false;
    if (w->failover.planned &&
        (strcmp(p->leaving.host, host) != 0 || strcmp(p->leaving.job, w->failover.job) != 0))
        return err_set(err, ERR_CANCELLED,
                       "it was cancelled meanwhile, or a newer command goes on with it");
    p->failover = w->failover;
    p->leaving = (struct protection_leaving){.host = ""};
    p->state = strcmp(host, p->home_host) == 0 ? PROTECTION_FAILING_BACK : PROTECTION_FAILED_OVER;
    snprintf(p->target_host, sizeof p->target_host, "%s", host);
    return true;
}

static bool begin(struct flow *f, struct err *err)
{
    struct wish *w AUTO_FREE = calloc(1, sizeof *w);
    bool planned = strcmp(flow_arg(f, "planned"), "yes") == 0;
    struct history_point point;

    if (w == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    w->flow = f;
    if (!flow_check(f, planned ? STATES_FAILOVER_PLANNED : STATES_FAILOVER, err))
        return false;
    if (f->vm->settings.role != ROLE_TARGET &&
        !takeover_left(&f->vm->settings, f->protection, f->host.name))
        return err_set(err, ERR_INVALID,
                       "%s runs on this host, %s: give the verb on a target host, or name one with "
                       "--host",
                       f->vm->settings.name, f->host.name);
    /* A source is not shut down for a target that cannot start it. An emergency does not wait. */
    return (!planned || validate_refuse(f, err)) &&
           (planned ? planned_point(f, &point, err) : unplanned_point(f, &point, err)) &&
           fill(w, planned, &point, err) && flow_step(f, "point", err, "%s", w->failover.point) &&
           flow_change(f, change_begin, w, err);
}

/* --- values for people and scripts --- */

static bool result(struct flow *f, uint64_t resumed_ms, cJSON **values, struct err *err)
{
    const struct protection_failover *o = &f->protection->failover;
    const struct job *job = job_run_job(f->job);
    char generation[GENERATION_NAME_MAX];
    generation_name(o->generation, generation);
    uint64_t rto_ms = resumed_ms > job->posted_ms ? resumed_ms - job->posted_ms : 0;
    return json_make(values, err) && json_add_text(*values, "point", o->point, err) &&
           json_add_text(*values, "host", o->host, err) &&
           json_add_text(*values, "generation", generation, err) &&
           json_add_bool(*values, "planned", o->planned, err) &&
           json_add_u64(*values, "lost_seconds", o->lost_seconds, err) &&
           json_add_u64(*values, "rto_ms", rto_ms, err) &&
           json_add_bool(*values, "fence_pending", o->fence_pending, err);
}

struct fenced {
    bool pending;
};

static bool change_fence(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct fenced *x = context;
    (void)err;
    *same = p->failover.fence_pending == x->pending;
    p->failover.fence_pending = x->pending;
    return true;
}

/* The rest, which goes on after a kill as well. */
static bool go_on(struct flow *f, cJSON **values, struct err *err)
{
    struct fenced fence = {.pending = false};
    uint64_t resumed_ms;
    if (takeover_stale(f) && !takeover_undo(f, err))
        return false;
    return flow_step(f, "claim", err, "generation %u", f->protection->failover.generation.number) &&
           takeover_claim(f, &fence.pending, err) && flow_change(f, change_fence, &fence, err) &&
           flow_step(f, "disks", err, "local files over the point") &&
           takeover_disks(f, false, err) && takeover_start(f, &resumed_ms, err) &&
           result(f, resumed_ms, values, err);
}

static bool is_ours(const struct flow *f)
{
    const struct protection *p = f->protection;
    return (p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK) &&
           strcmp(p->failover.host, f->host.name) == 0 && p->failover.started_ms == 0;
}

/* The choice that was made, by us or before, on this host alone. Another process that was faster
 * may have come to its end: that is ours as well. */
static bool carry_out(struct flow *f, cJSON **values, struct err *err)
{
    struct generation wanted = f->protection->failover.generation;
    if (!flow_alone(f, err))
        return false;
    const struct protection_failover *o = &f->protection->failover;
    if (o->generation.id != wanted.id || strcmp(o->host, f->host.name) != 0)
        return err_set(err, ERR_FENCED, "another failover of %s has begun meanwhile",
                       f->vm->settings.name);
    return o->started_ms > 0 ? result(f, o->started_ms, values, err) : go_on(f, values, err);
}

/* A repeat that names a point names the one that was begun with; *same false: it does not. */
static bool same_point(struct flow *f, bool *same, struct err *err)
{
    const struct protection_failover *o = &f->protection->failover;
    const char *asked = flow_arg(f, "point");
    struct history_point point;
    *same = true;
    if (asked[0] == '\0')
        return true;
    if (!flow_history(f, err) || !history_resolve(f->vm->history, asked, &point, err))
        return false;
    *same = point.generation.id == o->parent.id && point.epoch == o->parent_epoch;
    return true;
}

static bool goes_on(struct flow *f, struct err *err)
{
    bool same;
    if (!same_point(f, &same, err))
        return false;
    return same ||
           err_set(err, ERR_INVALID,
                   "a failover of %s to point %s was begun and cut off: farshore failover "
                   "%s without a point goes on, then farshore change-point takes another",
                   f->vm->settings.name, f->protection->failover.point, f->vm->settings.name);
}

/* It was given before, and came to its end. One that lost something is not what --planned asks. */
static bool is_done(struct flow *f, bool *done, struct err *err)
{
    const struct protection *p = f->protection;
    bool asked_planned = strcmp(flow_arg(f, "planned"), "yes") == 0;
    *done = (p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK) &&
            strcmp(p->failover.host, f->host.name) == 0 && p->failover.started_ms > 0 &&
            (p->failover.planned || !asked_planned);
    return !*done || same_point(f, done, err);
}

static bool run_failover(const struct verb_call *call, struct vm *vm, struct job_run *job,
                         cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    bool done;
    if (!flow_open(call, vm, job, &f, err) || !is_done(&f, &done, err))
        return false;
    if (done)
        return result(&f, f.protection->failover.started_ms, values, err);
    return (is_ours(&f) ? goes_on(&f, err) : begin(&f, err)) &&
           (carry_out(&f, values, err) ||
            err_wrap(err, "the failover is not done, the same command goes on"));
}

const struct handler handler_failover = {
    .verb = "failover", .resumable = true, .decides = true, .run = run_failover};

/* --- change-point: another point before the commit --- */

static bool change_again(void *context, struct protection *p, bool *same, struct err *err)
{
    struct wish *w = context;
    (void)same;
    if (!flow_allows(w->flow, STATES_CHANGE_POINT, p, err))
        return false;
    p->failover = w->failover;
    return true;
}

static bool choose_again(struct flow *f, struct err *err)
{
    struct wish *w AUTO_FREE = calloc(1, sizeof *w);
    struct history_point point;
    struct protection_failover was = f->protection->failover;

    if (w == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    w->flow = f;
    if (!flow_history(f, err) ||
        !history_resolve(f->vm->history, flow_arg(f, "point"), &point, err) ||
        !fill(w, was.planned, &point, err))
        return false;
    /* What began with the first choice stays: the source that is left, and since when. */
    memcpy(w->failover.from, was.from, sizeof was.from);
    w->failover.ends = was.ends;
    w->failover.begun_ms = was.begun_ms;
    w->failover.lost_seconds = was.begun_ms > point.ms ? (was.begun_ms - point.ms + 999) / 1000 : 0;
    /* The document first: from then on a commit waits for what follows. */
    return flow_step(f, "point", err, "%s", w->failover.point) && takeover_forgo(f, err) &&
           flow_change(f, change_again, w, err);
}

static bool run_change_point(const struct verb_call *call, struct vm *vm, struct job_run *job,
                             cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    bool same = false; /* as the one that was begun and cut off, which is what is repeated */
    if (!flow_open(call, vm, job, &f, err) || !flow_check(&f, STATES_CHANGE_POINT, err))
        return false;
    if (flow_done(&f))
        return result(&f, f.protection->failover.started_ms, values, err);
    return (!is_ours(&f) || same_point(&f, &same, err)) && (same || choose_again(&f, err)) &&
           carry_out(&f, values, err);
}

const struct handler handler_change_point = {
    .verb = "change-point", .resumable = true, .decides = true, .run = run_change_point};
