/* SPDX-License-Identifier: MIT
 * commit and cancel: what becomes of a failover. */
#include "tools/failover/handlers.h"

#include "backend/history/claim.h"
#include "tools/failover/takeover.h"

/* One that was committed before stays so. One that has not come to its end has nothing to keep yet.
 */
static bool change_commit(void *context, struct protection *p, bool *same, struct err *err)
{
    struct flow *f = context;
    *same = p->state == PROTECTION_COMMITTED;
    if (*same)
        return true;
    if (!flow_allows(f, STATES_COMMIT, p, err))
        return false;
    if (p->failover.started_ms == 0)
        return err_set(
            err, ERR_BUSY,
            "the failover of %s to host %s is not done, or half cancelled: when it was cut off, "
            "farshore failover %s goes on, or farshore cancel %s",
            f->vm->settings.name, p->failover.host, f->vm->settings.name, f->vm->settings.name);
    p->state = PROTECTION_COMMITTED;
    return true;
}

static bool run_commit(const struct verb_call *call, struct vm *vm, struct job_run *job,
                       cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    return flow_open(call, vm, job, &f, err) && flow_change(&f, change_commit, &f, err) &&
           json_make(values, err) &&
           json_add_text(*values, "point", f.protection->failover.point, err);
}

const struct handler handler_commit = {
    .verb = "commit", .resumable = true, .decides = true, .run = run_commit};

/* --- cancel: the old source goes on where it was, in a generation of its own --- */

struct back {
    struct flow *flow;
    struct generation generation;
    uint64_t parent_epoch;
};

/* From here on there may be nothing left of the failover here: it cannot be committed. */
static bool change_ending(void *context, struct protection *p, bool *same, struct err *err)
{
    struct back *b = context;
    if (!flow_allows(b->flow, STATES_CANCEL, p, err))
        return false;
    *same = p->failover.started_ms == 0;
    p->failover.started_ms = 0;
    return true;
}

/* The document holds the generation that the old source gets, and where it goes on from, before it
 * is begun, so that a repeat says the same. */
static bool change_back(void *context, struct protection *p, bool *same, struct err *err)
{
    struct back *b = context;
    struct protection_failover *o = &p->failover;
    *same = o->started_ms == 0 && o->host[0] == '\0';
    if (*same)
        return true;
    if (!flow_allows(b->flow, STATES_CANCEL, p, err))
        return false;
    snprintf(p->source_host, sizeof p->source_host, "%s", o->from);
    o->host[0] = '\0';
    o->started_ms = 0;
    o->parent = o->ends;
    o->parent_epoch = b->parent_epoch;
    o->generation = b->generation;
    return true;
}

static bool change_none(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct back *b = context;
    (void)err;
    *same = p->failover.generation.id != b->generation.id;
    if (!*same)
        protection_settle(p);
    return true;
}

/* Behind the newest epoch that was applied of the old source's own. */
static bool choose_back(struct flow *f, struct back *b, struct err *err)
{
    struct history_head tip;
    if (!flow_history(f, err))
        return false;
    if (!history_line(f->vm->history, f->protection->failover.ends, &tip))
        return err_set(err, ERR_CORRUPT, "the vault knows nothing of the generation that %s had",
                       f->vm->settings.name);
    b->parent_epoch = tip.epoch;
    return claim_generation(f->vm->history, &b->generation, err);
}

static bool begin_back(struct flow *f, struct err *err)
{
    const struct protection_failover *o = &f->protection->failover;
    struct claim_result result;
    struct vm *vm = f->vm;

    if (!flow_history(f, err))
        return false;
    if (!flow_caches(f, err))
        return err_wrap(err, "the old source cannot go on without its cache store");
    const struct claim_config config = {.world = f->call->world,
                                        .target = vm->targets[0],
                                        .cache = vm->caches[0],
                                        .vm = vm->settings.name,
                                        .keys = vm->keys,
                                        .label = "failover cancelled"};
    const struct claim claim = {.generation = o->generation,
                                .ends = history_head(vm->history).generation,
                                .parent = o->parent,
                                .parent_epoch = o->parent_epoch};
    return history_begin_generation_in(&config, vm->history, &claim, &result, err) &&
           (!result.fence_pending || err_set(err, ERR_TRANSIENT, "%s", result.reason));
}

/* Its host may be away: then the job waits there for it. */
static bool post_resume(struct flow *f, const char *argument, const char *value, struct err *err)
{
    char id[JOB_ID_MAX];
    cJSON *args AUTO_JSON = NULL;
    if (!json_make(&args, err) || !json_add_text(args, argument, value, err))
        return false;
    const struct job_request r = {.verb = "resume-source",
                                  .host = f->protection->source_host,
                                  .by = f->host.name,
                                  .args = args};
    return job_post(&f->vault, &r, id, err) &&
           flow_step(f, "resume", err, "job %s for host %s", id, r.host);
}

/* --- cancel: of a planned failover that has only told the source to stop --- */

static bool is_leaving(const struct protection *p)
{
    return p->leaving.job[0] != '\0' && p->state != PROTECTION_FAILED_OVER &&
           p->state != PROTECTION_FAILING_BACK;
}

/* From here on that failover cannot begin. The job stays until the source goes on. */
static bool change_stay(void *context, struct protection *p, bool *same, struct err *err)
{
    struct flow *f = context;
    if (!is_leaving(p))
        return err_set(err, ERR_BUSY, "the failover of %s has begun just now: give it again",
                       f->vm->settings.name);
    *same = p->leaving.host[0] == '\0';
    p->leaving.host[0] = '\0';
    return true;
}

static bool result(const struct flow *f, cJSON **values, struct err *err)
{
    return json_make(values, err) &&
           json_add_text(*values, "source", f->protection->source_host, err);
}

static bool cancel_leaving(struct flow *f, cJSON **values, struct err *err)
{
    return flow_change(f, change_stay, f, err) &&
           post_resume(f, "leaving", f->protection->leaving.job, err) && result(f, values, err);
}

/* --- cancel: the verb --- */

/* What the failover made on its host. A host that will not come back is done without: what it has
 * is removed by its agent, if it does. */
static bool end_there(struct flow *f, struct err *err)
{
    const char *there = f->protection->failover.host;
    if (strcmp(there, f->host.name) == 0)
        return takeover_undo(f, err);
    if (flow_arg(f, "force")[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "%s was failed over to host %s: only --force does without it",
                       f->vm->settings.name, there);
    return flow_step(f, "stop", err, "left out: host %s must not run it any more", there) &&
           takeover_forgo(f, err);
}

/* It was given before, and came to its end. */
static bool is_cancelled(const struct protection *p)
{
    return (p->state == PROTECTION_NONE || p->state == PROTECTION_TEST_RUNNING) &&
           p->failover.host[0] == '\0' && p->failover.generation.number != 0;
}

static bool run_cancel(const struct verb_call *call, struct vm *vm, struct job_run *job,
                       cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct back b = {.flow = &f};
    char name[GENERATION_NAME_MAX];
    bool half;

    if (!flow_open(call, vm, job, &f, err))
        return false;
    if (is_leaving(f.protection))
        return cancel_leaving(&f, values, err);
    if (!flow_alone(&f, err))
        return false;
    if (is_cancelled(f.protection))
        return result(&f, values, err);
    if (!flow_check(&f, STATES_CANCEL, err))
        return false;
    half = f.protection->failover.host[0] == '\0'; /* an earlier cancel came so far */
    if (half)
        b.generation = f.protection->failover.generation;
    else if (f.protection->failover.from[0] == '\0')
        return err_set(err, ERR_INVALID, "it is not known where %s ran before", vm->settings.name);
    else if (!flow_change(&f, change_ending, &b, err) || !end_there(&f, err) ||
             !choose_back(&f, &b, err) || !flow_change(&f, change_back, &b, err))
        return false;
    generation_name(b.generation, name);
    return flow_step(&f, "claim", err, "for host %s", f.protection->source_host) &&
           begin_back(&f, err) && post_resume(&f, "generation", name, err) &&
           flow_change(&f, change_none, &b, err) && result(&f, values, err);
}

const struct handler handler_cancel = {
    .verb = "cancel", .resumable = true, .decides = true, .run = run_cancel};
