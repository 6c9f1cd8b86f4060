/* SPDX-License-Identifier: MIT */
#include "backend/history/thinner_internal.h"

#include "backend/history/pin.h"
#include "common/log.h"

#include <errno.h>

uint64_t thinner_boot_ms(const struct thinner *t)
{
    return t->world->ops->boottime_ns(t->world) / 1000000;
}

bool thinner_open(const struct processor_config *config, struct history *h,
                  const struct retention *policy, struct thinner **out, struct err *err)
{
    struct thinner *t CLEANUP(thinner_close) = calloc(1, sizeof *t);

    if (!t)
        return err_errno(err, ENOMEM, "opening the retention of %s", config->vm);
    t->config = config;
    t->history = h;
    t->world = config->world;
    t->policy = policy != NULL ? *policy : retention_default();
    t->policy_given = policy != NULL;
    t->limits = (struct thinner_limits){.merge_bytes = MERGE_BYTES_MAX,
                                        .merge_small = MERGE_SMALL,
                                        .level_run_bytes = LEVEL_RUN_BYTES,
                                        .level = {.bytes = LEVEL_BYTES, .runs = LEVEL_RUNS}};
    t->vault = (struct doclog_vault){.world = config->world,
                                     .target = config->targets[0],
                                     .keys = config->keys,
                                     .vm = history_vault(h)->name,
                                     .id = history_vault(h)->vm};
    policy_log_begin(&t->policies, &t->vault);
    t->look_at_ms = 0;
    t->sweep_at_ms = thinner_boot_ms(t) + THINNER_SWEEP_GRACES * t->policy.grace_ms;
    t->compact_at_ms = thinner_boot_ms(t) + THINNER_COMPACT_MS;
    t->compacted_merges = UINT64_MAX;
    *out = TAKE(t);
    return true;
}

void thinner_close(struct thinner **t)
{
    if (!*t)
        return;
    thinner_level_release(&(*t)->level);
    thinner_sweep_release(&(*t)->sweep);
    thinner_compact_release(&(*t)->compact);
    object_set_release(&(*t)->damaged);
    object_set_release(&(*t)->unleveled);
    free((*t)->pins.list);
    free(*t);
    *t = NULL;
}

void thinner_hurry(struct thinner *t)
{
    t->look_at_ms = t->merge_at_ms = t->sweep_at_ms = t->compact_at_ms = 0;
}

void thinner_only_look(struct thinner *t)
{
    t->only_looks = true;
}

struct thinner_report thinner_report(const struct thinner *t)
{
    return t->report;
}

/* --- time --- */

/* The earlier of two witnesses, this host and the source: nothing expires early because one of them
 * jumped. 0: there is no point yet. */
uint64_t thinner_now_ms(const struct thinner *t)
{
    uint64_t newest = history_head(t->history).point_ms;
    uint64_t clock = t->world->ops->realtime_ns(t->world) / 1000000;
    return newest < clock ? newest : clock;
}

static void watch(const struct thinner *t, enum record_kind kind, struct watched *w)
{
    struct notice n = history_notice(t->history, kind);
    if (w->notice.record != n.record)
        *w = (struct watched){.notice = n, .since_ms = thinner_boot_ms(t)};
}

/* Whether the grace period of what is watched is over: by our own watching, or by both clocks. */
bool thinner_ripe(const struct thinner *t, const struct watched *w)
{
    uint64_t grace = t->policy.grace_ms;
    uint64_t clock = t->world->ops->realtime_ns(t->world) / 1000000;
    return w->notice.record == 0 || thinner_boot_ms(t) - w->since_ms >= grace ||
           (clock >= w->notice.written_ms + grace &&
            history_head(t->history).point_ms >= w->notice.newest_ms + grace);
}

/* --- pins --- */

static bool pin_take(void *context, const struct pin *pin)
{
    struct thinner *t = context;
    uint64_t now_ms = thinner_now_ms(t);
    if (pin->kind == PIN_LEASE && now_ms > 0 && pin->end_ms + THINNER_LEASE_SLACK_MS < now_ms)
        return true;
    if (t->pins.count == t->pins.room) {
        size_t room = t->pins.room * 2 + 16;
        struct thin_pin *bigger = realloc(t->pins.list, room * sizeof *bigger);
        if (bigger == NULL) {
            t->pins_short = true;
            return false;
        }
        t->pins.list = bigger;
        t->pins.room = room;
    }
    t->pins.list[t->pins.count++] =
        (struct thin_pin){.generation = pin->generation, .epoch = pin->epoch};
    return true;
}

bool thinner_pins_load(struct thinner *t, struct err *err)
{
    t->pins.count = 0;
    t->pins_short = false;
    t->pins_for = 0;
    return pin_list(t->config->targets[0], t->vault.vm, t->vault.id, t->config->keys, pin_take, t,
                    err) &&
           (!t->pins_short || err_errno(err, ENOMEM, "listing pins"));
}

/* --- appending --- */

enum thinner_result thinner_append(struct thinner *t, struct record *r, struct err *err)
{
    switch (history_append(t->history, t->at, r, err)) {
    case NUMLOG_DONE:
        return THINNER_WORKED;
    case NUMLOG_TAKEN:
    case NUMLOG_OVERTAKEN:
        return THINNER_AGAIN;
    default:
        err_wrap(err, "appending to the history of %s", t->vault.vm);
        return THINNER_FAILED;
    }
}

/* --- 1. which points leave --- */

static enum thinner_result let_go(struct thinner *t, struct thin_victims *v, struct err *err)
{
    struct record r = {.kind = RECORD_THIN,
                       .generation =
                           v->count > 0 ? v->generation : history_head(t->history).generation,
                       .newest_ms = history_head(t->history).point_ms,
                       .thin_count = (uint32_t)v->count,
                       .thin = v->epochs};
    enum thinner_result result = thinner_append(t, &r, err);
    if (result == THINNER_WORKED) {
        t->report.leaving += v->count;
        log_debug("%s: %zu points leave", t->vault.vm, v->count);
    }
    return result;
}

static enum thinner_result choose(struct thinner *t, struct err *err)
{
    struct thin_victims *v AUTO_FREE = malloc(sizeof *v);
    uint64_t now_ms = thinner_now_ms(t);
    size_t leaving = history_leaving(t->history);

    if (v == NULL) {
        err_errno(err, ENOMEM, "choosing the points that stay");
        return THINNER_FAILED;
    }
    t->pins.count = 0;
    if (!history_victims(t->history, &t->policy, now_ms, &t->pins, v, err))
        return THINNER_FAILED;
    if (v->total > 0 || leaving > 0) {
        if (!thinner_pins_load(t, err) ||
            !history_victims(t->history, &t->policy, now_ms, &t->pins, v, err))
            return THINNER_FAILED;
    }
    t->look_at_ms = thinner_boot_ms(t) +
                    (t->policy.grace_ms < THINNER_EVERY_MS ? t->policy.grace_ms : THINNER_EVERY_MS);
    if (t->only_looks) {
        t->report.leaving = v->total;
        return THINNER_IDLE;
    }
    struct sha256 digest = sha256_of(span_of(v->epochs, v->count * sizeof v->epochs[0]));
    if (v->count == 0 ? leaving == 0
                      : leaving == v->count && digests_equal(&digest, &t->chosen, sizeof digest))
        return THINNER_IDLE; /* nothing, or nothing that can be merged */
    t->chosen = digest;
    return let_go(t, v, err);
}

/* --- a step --- */

/* A merge found no room: what none needs goes first, then it is tried again. */
static void no_room(struct thinner *t)
{
    uint64_t now_ms = thinner_boot_ms(t);
    uint64_t sweep_ms = t->swept_at_ms + THINNER_SWEEP_GRACES * t->policy.grace_ms;
    t->merge_at_ms =
        now_ms + (t->policy.grace_ms > THINNER_EVERY_MS ? t->policy.grace_ms : THINNER_EVERY_MS);
    if (t->swept_at_ms == 0 || sweep_ms < now_ms)
        sweep_ms = now_ms;
    if (t->sweep_at_ms > sweep_ms)
        t->sweep_at_ms = sweep_ms;
}

static bool may_merge(const struct thinner *t)
{
    return thinner_ripe(t, &t->thin) && thinner_boot_ms(t) >= t->merge_at_ms;
}

static enum thinner_result thin(struct thinner *t, bool *waits, struct err *err)
{
    enum thinner_result result = THINNER_IDLE;
    bool left = history_leaving(t->history) > 0;

    if (left && !t->only_looks) {
        *waits = !may_merge(t);
        if (*waits)
            return THINNER_IDLE;
        result = thinner_merge_step(t, err);
        if (result == THINNER_FAILED && err->kind == ERR_FULL)
            no_room(t);
        if (result != THINNER_IDLE)
            return result;
        /* What is left was pinned meanwhile: the next choice lists it again. */
    }
    return left || thinner_boot_ms(t) >= t->look_at_ms ? choose(t, err) : THINNER_IDLE;
}

static bool pack_due(const struct thinner *t)
{
    return !t->only_looks && thinner_boot_ms(t) >= t->pack_at_ms && history_pack_due(t->history);
}

/* Nothing depends on it: what fails is tried again much later. */
static enum thinner_result pack(struct thinner *t)
{
    struct err why = ERR_NONE;
    if (history_pack(t->history, &why))
        return THINNER_WORKED;
    log_warning("%s", why.text);
    t->pack_at_ms = thinner_boot_ms(t) + THINNER_PACK_MS;
    return THINNER_IDLE;
}

/* So an idle processor asks the store nothing more. */
static bool nothing_due(const struct thinner *t, bool leaving)
{
    uint64_t now_ms = thinner_boot_ms(t);
    if (thinner_level_due(t) || thinner_sweeping(&t->sweep) || thinner_compacting(&t->compact) ||
        now_ms >= t->look_at_ms || now_ms >= t->sweep_at_ms || now_ms >= t->compact_at_ms)
        return false;
    if (pack_due(t))
        return false;
    return !leaving || (t->thin.notice.record == history_notice(t->history, RECORD_THIN).record &&
                        !may_merge(t));
}

enum thinner_result thinner_step(struct thinner *t, struct err *err)
{
    struct err own;
    bool waits = false, leaving = history_leaving(t->history) > 0;

    if (!err)
        err = &own;
    if (nothing_due(t, leaving))
        return leaving || t->sweep_waits ? THINNER_WAITS : THINNER_IDLE;
    if (!history_refresh(t->history, err) ||
        (!t->policy_given && thinner_boot_ms(t) >= t->look_at_ms &&
         !policy_poll(&t->policies, &t->policy, err)))
        return THINNER_FAILED;
    t->at = history_head(t->history).next_record;
    if (history_generations(t->history) == 0)
        return THINNER_IDLE;
    watch(t, RECORD_THIN, &t->thin);
    watch(t, RECORD_DROP, &t->drop);
    enum thinner_result result = thin(t, &waits, err);
    if (result == THINNER_IDLE && thinner_level_due(t))
        result = thinner_level_step(t, err);
    if (result == THINNER_IDLE &&
        (thinner_sweeping(&t->sweep) || thinner_boot_ms(t) >= t->sweep_at_ms))
        result = thinner_sweep_step(t, err);
    if (result == THINNER_IDLE && !t->only_looks &&
        (thinner_compacting(&t->compact) || thinner_boot_ms(t) >= t->compact_at_ms))
        result = thinner_compact_step(t, err);
    if (result == THINNER_IDLE && pack_due(t))
        result = pack(t);
    return result == THINNER_IDLE && (waits || t->sweep_waits) ? THINNER_WAITS : result;
}
