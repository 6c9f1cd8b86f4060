/* SPDX-License-Identifier: MIT
 * reprotect, on the host where the VM runs: it is replicated the other way, into the vault of the
 * other region, and goes on running meanwhile. The new document there is written before anything
 * else is changed; a repeat goes on where the last one stopped. */
#include "tools/failover/handlers.h"

#include "backend/history/claim.h"
#include "fs/disk/seed.h"
#include "tools/disk_lock.h"
#include "tools/failover/flow.h"
#include "tools/failover/local_disks.h"
#include "tools/failover/other_vault.h"

#include <time.h>

#define SEED_CLAIM_S   30u
#define FIRST_POINT_MS 1000u /* between looks */
#define ANSWER_MS      10000u

struct reprotect {
    struct flow *flow;
    struct vm other; /* the VM in its next vault */
    struct doclog_vault vault;
    struct vault_stores stores;
    struct generation generation;
};

static void reprotect_release(struct reprotect *r)
{
    vm_release(&r->other);
}

/* --- the next vault --- */

/* Higher than any that either vault knows. */
static bool first_generation(struct flow *f, struct generation *out, struct err *err)
{
    return flow_history(f, err) && claim_generation(f->vm->history, out, err);
}

/* A vault that is there already goes on behind what it has. */
static bool claim_next(struct reprotect *r, struct err *err)
{
    struct vm *vm = &r->other;
    struct history_head head = history_head(vm->history);
    struct claim_result result;
    char label[POINT_LABEL_MAX + 1];
    if (!claim_generation(vm->history, &r->generation, err))
        return false;
    snprintf(label, sizeof label, "reprotected from host %s", r->flow->host.name);
    const struct claim_config config = {.world = r->flow->call->world,
                                        .target = vm->targets[0],
                                        .cache = vm->caches[0],
                                        .vm = vm->settings.name,
                                        .keys = vm->keys,
                                        .label = label};
    const struct claim claim = {.generation = r->generation,
                                .ends = head.generation,
                                .parent = head.generation,
                                .parent_epoch = head.epoch};
    return history_begin_generation_in(&config, vm->history, &claim, &result, err) &&
           (!result.fence_pending || err_set(err, ERR_TRANSIENT, "%s", result.reason));
}

/* The document of the next vault says, once written, which generation is ours. */
struct next {
    const struct reprotect *reprotect;
    const struct protection *now;
};

static bool change_next(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct next *n = context;
    const struct protection *now = n->now;
    const struct flow *f = n->reprotect->flow;
    const struct vault_stores *back = &f->vm->settings.stores[0];
    (void)same;

    if (!protection_copy(p, now, err))
        return false;
    p->state = PROTECTION_REPROTECTING;
    snprintf(p->source_host, sizeof p->source_host, "%s", f->host.name);
    snprintf(p->target_host, sizeof p->target_host, "%s", now->failover.from);
    p->failover.generation = n->reprotect->generation;
    memset(&p->successor, 0, sizeof p->successor);
    return target_setting_set(&p->settings, "back-cache", back->cache, err) &&
           target_setting_set(&p->settings, "back-target", back->target, err);
}

static bool name_next(const struct reprotect *r, struct err *err)
{
    struct next n = {.reprotect = r, .now = r->flow->protection};
    return protection_change(&r->vault, change_next, &n, NULL, err);
}

static bool change_state(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct reprotect *r = context;
    (void)same;
    if (p->state != PROTECTION_REPROTECTING && !flow_allows(r->flow, STATES_REPROTECT, p, err))
        return false;
    p->state = PROTECTION_REPROTECTING;
    p->successor = r->stores;
    return true;
}

/* A repeat finds the document and its generation. */
static bool begin_next(struct reprotect *r, struct err *err)
{
    struct flow *f = r->flow;
    struct protection *there AUTO_PROTECTION = NULL;
    struct generation first;
    bool made;

    if (!other_vault_stores(f, &r->stores, err) || !first_generation(f, &first, err) ||
        !other_vault_open(f, &r->stores, &first, &r->other, &made, err))
        return err_wrap(err, "the stores of the way back");
    r->vault = vm_vault(&r->other);
    r->generation = history_head(r->other.history).generation;
    if (!protection_load(&r->vault, &there, err))
        return false;
    if (there->state == PROTECTION_REPROTECTING && there->successor.target[0] == '\0' &&
        there->failover.generation.id == r->generation.id)
        return flow_change(f, change_state, r, err);
    return (made || claim_next(r, err)) && name_next(r, err) &&
           flow_change(f, change_state, r, err);
}

/* --- the old source's disks --- */

/* What is there already need not cross. Without that host all of it does. */
static bool seed_there(struct reprotect *r, struct err *err)
{
    struct flow *f = r->flow;
    struct err why = ERR_NONE;
    cJSON *args AUTO_JSON = NULL;
    const char *host = f->protection->failover.from;
    char generation[GENERATION_NAME_MAX];

    if (host[0] == '\0')
        return flow_step(f, "seed", err, "the old source is not known: all blocks are sent");
    generation_name(r->generation, generation);
    if (!json_make(&args, err) || !json_add_text(args, "cache", r->stores.cache, err) ||
        !json_add_text(args, "target", r->stores.target, err) ||
        !json_add_text(args, "generation", generation, err) ||
        !flow_step(f, "seed", err, "from the old disks on host %s", host))
        return false;
    const struct dispatch d = {
        .verb = "seed", .host = host, .args = args, .claim_s = SEED_CLAIM_S, .quiet = true};
    if (dispatch(f->call, f->vm, &d, NULL, &why))
        return true;
    /* What there is of it stays in a generation of its own, and whoever still writes it finds that
     * another one has begun: our log must not go on behind entries that are not ours. */
    return flow_step(f, "seed", err, "not whole, what it lacks is sent: %s", why.text) &&
           history_refresh(r->other.history, err) && claim_next(r, err) && name_next(r, err);
}

/* --- shipping --- */

static bool adopt(struct reprotect *r, struct err *err)
{
    struct settings *s = &r->other.settings;
    char state[PATH_BYTES_MAX];
    struct seed_config config = {.world = r->flow->call->world,
                                 .vm = s->name,
                                 .keys = r->other.keys,
                                 .encrypt = s->encrypted,
                                 .targets = r->other.targets,
                                 .store_count = s->store_count,
                                 .cache = r->other.caches[0]};
    path_state(r->flow->call->paths, s->name, state);
    return seed_adopt(&config, state, err);
}

/* Meanwhile hydration may have ended and disks have grown, which only the settings of now tell. */
static bool write_settings(struct reprotect *r, struct err *err)
{
    const struct verb_call *call = r->flow->call;
    struct settings *s = &r->other.settings;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    if (!settings_retake(call->world, call->paths, s, &now, &lock, err))
        return false;
    s->generation = r->generation;
    s->replicate = true;
    if (now.origin.generation.number == 0)
        s->origin.generation = now.origin.generation;
    for (uint16_t i = 0; i < s->disk_count && i < now.disk_count; i++)
        if (s->disks[i].number == now.disks[i].number)
            s->disks[i].size_bytes = now.disks[i].size_bytes;
    return settings_save_locked(call->world, call->paths, s, err);
}

/* From the worker's next start on it ships there. */
static bool ship(struct reprotect *r, struct err *err)
{
    struct flow *f = r->flow;
    struct settings *s = &r->other.settings;
    if (s->replicate && s->generation.id == r->generation.id)
        return true; /* an earlier try came so far */
    return flow_step(f, "adopt", err, "what the other vault has of the disks") && adopt(r, err) &&
           write_settings(r, err) && flow_step(f, "ship", err, "what differs") &&
           vm_restart(f->call, f->vm->settings.name, err);
}

/* The generation whose first point ends it, in the vault that has it. */
struct waiting {
    struct flow *flow;
    struct history *history;
    const struct doclog_vault *vault;
    struct generation generation;
    const char *target;
};

static bool change_protected(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct waiting *w = context;
    (void)err;
    *same = p->state != PROTECTION_REPROTECTING || p->failover.generation.id != w->generation.id;
    if (!*same)
        protection_settle(p);
    return true;
}

static bool has_point(const struct waiting *w, bool *out, struct err *err)
{
    if (!history_refresh(w->history, err))
        return false;
    size_t count = history_points(w->history);
    *out = count > 0 && history_point(w->history, count - 1).generation.id == w->generation.id;
    return true;
}

/* The first point of the new direction, applied over there. */
static bool wait_protected(struct waiting *w, struct err *err)
{
    const struct timespec pause = {.tv_sec = FIRST_POINT_MS / 1000};
    for (bool there = false; !there;) {
        if (!flow_step(w->flow, "protect", err,
                       "until a host that has joined %s applies the first point", w->target) ||
            !has_point(w, &there, err))
            return false;
        if (!there)
            nanosleep(&pause, NULL);
    }
    return protection_change(w->vault, change_protected, w, NULL, err);
}

bool reprotect_result(const struct vault_stores *stores, struct generation generation,
                      cJSON **values, struct err *err)
{
    char name[GENERATION_NAME_MAX];
    generation_name(generation, name);
    return json_make(values, err) && json_add_text(*values, "cache", stores->cache, err) &&
           json_add_text(*values, "target", stores->target, err) &&
           json_add_text(*values, "generation", name, err);
}

static bool turn_round(struct flow *f, cJSON **values, struct err *err)
{
    struct reprotect r CLEANUP(reprotect_release) = {.flow = f, .other = VM_NONE};
    if (!flow_alone(f, err) || !flow_step(f, "vault", err, "of the way back") ||
        !begin_next(&r, err) || !seed_there(&r, err) || !history_refresh(r.other.history, err) ||
        !ship(&r, err))
        return false;
    flow_let_go(f); /* waiting may take long, and makes nothing here */
    struct waiting w = {.flow = f,
                        .history = r.other.history,
                        .vault = &r.vault,
                        .generation = r.generation,
                        .target = r.stores.target};
    return wait_protected(&w, err) && reprotect_result(&r.stores, r.generation, values, err);
}

/* The worker began before the settings said that it ships, and nothing has told it since. */
static bool worker_is_old(struct flow *f, bool *out, struct err *err)
{
    cJSON *answer AUTO_JSON = NULL;
    char at[PATH_MAX], ours[GENERATION_NAME_MAX];
    const char *state, *generation;
    *out = false;
    if (!vm_locked(f->call->paths, f->vm->settings.name, at))
        return true; /* its next mount reads them */
    if (!flow_worker_status(f, ANSWER_MS, &answer, err) ||
        !json_text(answer, "state", &state, err) ||
        !json_text(answer, "generation", &generation, err))
        return false;
    generation_name(f->vm->settings.generation, ours);
    *out = strcmp(state, "not-replicating") == 0 || strcmp(generation, ours) != 0;
    return true;
}

/* It is to ship into the next vault already, which is therefore the one that was opened. */
static bool wait_only(struct flow *f, cJSON **values, struct err *err)
{
    struct settings *s = &f->vm->settings;
    bool old;
    if (!flow_alone(f, err) || !worker_is_old(f, &old, err) ||
        (old && !vm_restart(f->call, f->vm->settings.name, err)) || !flow_history(f, err))
        return false;
    flow_let_go(f);
    struct waiting w = {.flow = f,
                        .history = f->vm->history,
                        .vault = &f->vault,
                        .generation = s->generation,
                        .target = s->stores[0].target};
    return wait_protected(&w, err) && reprotect_result(&s->stores[0], s->generation, values, err);
}

/* It was given before, and came to its end: what brought the VM here is protected. So it is again
 * once a failover away was cancelled. */
static bool is_protected(const struct flow *f)
{
    const struct protection *p = f->protection;
    const struct protection_failover *o = &p->failover;
    const struct settings *s = &f->vm->settings;
    bool stayed = o->host[0] == '\0' && local_disks_ours(s);
    bool came = strcmp(o->host, f->host.name) == 0 && strcmp(o->from, f->host.name) != 0;
    return (p->state == PROTECTION_NONE || p->state == PROTECTION_TEST_RUNNING) &&
           s->role == ROLE_SOURCE && s->replicate && s->generation.id == o->generation.id &&
           (came || stayed);
}

static bool run_reprotect(const struct verb_call *call, struct vm *vm, struct job_run *job,
                          cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    if (!flow_open(call, vm, job, &f, err))
        return false;
    if (is_protected(&f))
        return reprotect_result(&vm->settings.stores[0], vm->settings.generation, values, err);
    if (!flow_check(&f, STATES_REPROTECT, err))
        return false;
    if (vm->settings.role != ROLE_SOURCE)
        return err_set(err, ERR_INVALID, "%s does not run on host %s", vm->settings.name,
                       f.host.name);
    return vm->settings.replicate ? wait_only(&f, values, err) : turn_round(&f, values, err);
}

const struct handler handler_reprotect = {
    .verb = "reprotect", .resumable = true, .decides = true, .run = run_reprotect};
