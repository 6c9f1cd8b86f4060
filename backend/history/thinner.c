/* SPDX-License-Identifier: MIT */
#include "backend/history/thinner_internal.h"

#include "backend/history/apply_internal.h"
#include "backend/history/merge.h"
#include "backend/history/pin.h"
#include "backend/history/stored_run.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

#define DUE_NEVER UINT64_MAX

static uint64_t boot_ms(const struct thinner *t)
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
    t->vault = (struct doclog_vault){.world = config->world,
                                     .target = config->targets[0],
                                     .keys = config->keys,
                                     .vm = history_vault(h)->name,
                                     .id = history_vault(h)->vm};
    policy_log_begin(&t->policies, &t->vault);
    t->look_at_ms = 0;
    t->sweep_at_ms = boot_ms(t) + THINNER_SWEEP_GRACES * t->policy.grace_ms;
    t->compact_at_ms = boot_ms(t) + THINNER_COMPACT_MS;
    t->compacted_merges = UINT64_MAX;
    *out = TAKE(t);
    return true;
}

void thinner_close(struct thinner **t)
{
    if (!*t)
        return;
    thinner_sweep_release(&(*t)->sweep);
    thinner_compact_release(&(*t)->compact);
    object_set_release(&(*t)->damaged);
    free((*t)->pins.list);
    free(*t);
    *t = NULL;
}

void thinner_hurry(struct thinner *t)
{
    t->look_at_ms = t->sweep_at_ms = t->compact_at_ms = 0;
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
        *w = (struct watched){.notice = n, .since_ms = boot_ms(t)};
}

/* Whether the grace period of what is watched is over: by our own watching, or by both clocks. */
bool thinner_ripe(const struct thinner *t, const struct watched *w)
{
    uint64_t grace = t->policy.grace_ms;
    uint64_t clock = t->world->ops->realtime_ns(t->world) / 1000000;
    return w->notice.record == 0 || boot_ms(t) - w->since_ms >= grace ||
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
    t->look_at_ms = boot_ms(t) +
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

/* --- 3. merging --- */

/* How many of the runs, from the newest on, become one: as long as the next one is not much larger
 * than all of them, so that a block is rewritten a number of times that grows with the logarithm.
 */
static size_t merge_width(const struct merge_range *m)
{
    uint64_t bytes = m->run_count > 0 ? m->runs[0].run.bytes : 0;
    size_t n = 1;
    if (bytes > MERGE_BYTES_MAX)
        return 1;
    for (; n < m->run_count && n < MERGE_RUNS; n++) {
        uint64_t next = m->runs[n].run.bytes;
        if (bytes + next > MERGE_BYTES_MAX || (next > MERGE_SMALL && next > bytes * MERGE_RATIO))
            break;
        bytes += next;
    }
    return n;
}

struct merging {
    struct stored_run *stored;      /* newest first */
    struct run_merge_input *inputs; /* oldest first */
    char (*selves)[RUN_SEGMENT_NAME_MAX];
    size_t count, opened;
};

static void merging_release(struct merging *m)
{
    for (size_t i = 0; i < m->opened; i++)
        stored_run_close(&m->stored[i]);
    free(m->stored);
    free(m->inputs);
    free(m->selves);
}

static bool merging_open(struct thinner *t, const struct merge_range *range, struct merging *m,
                         struct err *err)
{
    m->stored = calloc(m->count, sizeof *m->stored);
    m->inputs = calloc(m->count, sizeof *m->inputs);
    m->selves = calloc(m->count, sizeof *m->selves);
    if (m->stored == NULL || m->inputs == NULL || m->selves == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    for (size_t i = 0; i < m->count; i++) {
        size_t input = m->count - 1 - i;
        if (!stored_run_open(t->history, &range->runs[i], t->config->targets[0], t->config->keys,
                             &m->stored[i], err))
            return false;
        m->opened++;
        /* Behind the VM's name. */
        segment_name_format(m->selves[input], 0, m->stored[i].key + strlen(t->vault.vm) + 1);
        m->inputs[input] =
            (struct run_merge_input){.run = m->stored[i].run, .self = m->selves[input]};
    }
    return true;
}

/* What was put opens and can be read to its end. */
static bool run_check(struct thinner *t, const char *hex, const struct sha256 *digest, size_t bytes,
                      struct err *err)
{
    struct buf there AUTO_BUF = BUF_NONE;
    struct run *run AUTO_RUN = NULL;
    struct run_entry entry;
    bool found = true;
    char key[KEY_MAX];

    key_segment(key, t->vault.vm, hex);
    if (!store_load(t->config->targets[0], key, STORE_OBJECT_MAX, &there, err))
        return err_wrap(err, "reading back a run");
    struct span stored =
        span_part(buf_span(&there), 0, bytes < there.length ? bytes : there.length);
    struct sha256 back = sha256_of(stored);
    if (!digests_equal(&back, digest, sizeof back))
        return err_set(err, ERR_CORRUPT, "%s in %s is not what was put there", key,
                       t->config->targets[0]->url);
    if (!run_open(t->config->keys, t->vault.id, run_in_memory(&stored), &run, err))
        return err_wrap(err, "a run that was put");
    struct run_cursor cursor = {.run = run};
    while (found)
        if (!run_next(&cursor, &entry, &found, err))
            return err_wrap(err, "a run that was put");
    return true;
}

bool thinner_run_put(struct thinner *t, struct run_builder *b, const struct run_head *head,
                     const struct sha256 *salt, struct record_run *out, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt seal;
    char hex[2 * SHA256_BYTES + 1];

    if (!salt_make(t->config->keys, SEAL_HISTORY, t->world, head->generation_id, head->epoch_last,
                   t->at, salt, &seal, err) ||
        !run_builder_finish(b, t->config->keys, &seal, &bytes, err))
        return false;
    if (bytes.length > APPLY_OBJECT_BYTES)
        return err_set(err, ERR_CORRUPT,
                       "the run of epochs %llu to %llu is too large for an object",
                       (unsigned long long)head->epoch_first, (unsigned long long)head->epoch_last);
    *out = (struct record_run){.epoch_first = head->epoch_first,
                               .epoch_last = head->epoch_last,
                               .bytes = bytes.length,
                               .digest = sha256_of(buf_span(&bytes))};
    return apply_object_put(t->config, t->history, 0, &bytes, hex, err) &&
           run_check(t, hex, &out->digest, (size_t)out->bytes, err) &&
           hex_parse(hex, out->object.bytes, SHA256_BYTES);
}

/* Writes the newest `m->count` runs as one. */
static bool merged_put(struct thinner *t, const struct merge_range *range, struct merging *m,
                       struct record_run *out, struct err *err)
{
    struct run_builder *b AUTO_RUN_BUILDER = NULL;
    struct run_head head = {.generation_id = range->generation.id,
                            .epoch_first = range->runs[m->count - 1].run.epoch_first,
                            .epoch_last = range->runs[0].run.epoch_last};
    struct sha256 salt = sha256_of(span_of(&range->last, sizeof range->last));

    memcpy(head.vm, t->vault.id, VM_ID_BYTES);
    return merging_open(t, range, m, err) && run_builder_make(&head, &b, err) &&
           run_merge(m->inputs, (uint32_t)m->count, b, err) &&
           thinner_run_put(t, b, &head, &salt, out, err);
}

/* The runs that the range has from now on: one, and those that stay as they are. When some cannot
 * be merged (one is damaged, say) all stay, and count together. */
static bool range_write(struct thinner *t, const struct merge_range *range, struct record *r,
                        struct err *err)
{
    struct merging m CLEANUP(merging_release) = {.count = merge_width(range)};
    r->runs = calloc(range->run_count + 1, sizeof *r->runs);
    if (r->runs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    if (m.count > 1) {
        if (merged_put(t, range, &m, &r->runs[0], err)) {
            r->run_count = 1;
        } else if (err->kind != ERR_CORRUPT) {
            return false;
        } else {
            log_warning("%s: runs up to epoch %llu stay apart: %s", t->vault.vm,
                        (unsigned long long)range->last, err->text);
            m.count = 0;
        }
    } else {
        m.count = 0;
    }
    for (size_t i = m.count; i < range->run_count; i++)
        r->runs[r->run_count++] = range->runs[i].run;
    return true;
}

static void cleanup_range(struct merge_range *m)
{
    free(m->runs);
}

/* One merge; IDLE: there is none. */
static enum thinner_result merge_one(struct thinner *t, struct err *err)
{
    struct merge_range range CLEANUP(cleanup_range) = {.runs = NULL};
    struct record r CLEANUP(record_release) = {.kind = RECORD_MERGE};
    bool found = false;

    /* Listed after the grace period: a pin that is put now is of somebody who was told. */
    if (t->pins_for != t->thin.notice.record) {
        if (!thinner_pins_load(t, err))
            return THINNER_FAILED;
        t->pins_for = t->thin.notice.record;
    }
    if (!history_merge_next(t->history, &t->pins, &range, &found, err))
        return THINNER_FAILED;
    if (!found)
        return THINNER_IDLE;
    r.generation = range.generation;
    r.merge_first = range.first;
    r.merge_last = range.last;
    if (!range_write(t, &range, &r, err))
        return THINNER_FAILED;
    enum thinner_result result = thinner_append(t, &r, err);
    if (result == THINNER_WORKED) {
        t->report.points += range.points;
        t->report.merges++;
        uint64_t due = boot_ms(t) + THINNER_SWEEP_GRACES * t->policy.grace_ms;
        if (t->sweep_at_ms > due)
            t->sweep_at_ms = due;
    }
    return result;
}

/* --- a step --- */

static enum thinner_result thin(struct thinner *t, bool *waits, struct err *err)
{
    enum thinner_result result = THINNER_IDLE;
    bool left = history_leaving(t->history) > 0;

    if (left && !t->only_looks) {
        *waits = !thinner_ripe(t, &t->thin);
        if (*waits)
            return THINNER_IDLE;
        result = merge_one(t, err);
        if (result != THINNER_IDLE)
            return result;
        /* What is left was pinned meanwhile: the next choice lists it again. */
    }
    return left || boot_ms(t) >= t->look_at_ms ? choose(t, err) : THINNER_IDLE;
}

static bool pack_due(const struct thinner *t)
{
    return !t->only_looks && boot_ms(t) >= t->pack_at_ms && history_pack_due(t->history);
}

/* Nothing depends on it: what fails is tried again much later. */
static enum thinner_result pack(struct thinner *t)
{
    struct err why = ERR_NONE;
    if (history_pack(t->history, &why))
        return THINNER_WORKED;
    log_warning("%s", why.text);
    t->pack_at_ms = boot_ms(t) + THINNER_PACK_MS;
    return THINNER_IDLE;
}

/* So an idle processor asks the store nothing more. */
static bool nothing_due(const struct thinner *t, bool leaving)
{
    uint64_t now_ms = boot_ms(t);
    if (thinner_sweeping(&t->sweep) || thinner_compacting(&t->compact) || now_ms >= t->look_at_ms ||
        now_ms >= t->sweep_at_ms || now_ms >= t->compact_at_ms)
        return false;
    if (pack_due(t))
        return false;
    return !leaving || (t->thin.notice.record == history_notice(t->history, RECORD_THIN).record &&
                        !thinner_ripe(t, &t->thin));
}

enum thinner_result thinner_step(struct thinner *t, struct err *err)
{
    struct err own;
    bool waits = false, leaving = history_leaving(t->history) > 0;

    if (!err)
        err = &own;
    if (nothing_due(t, leaving))
        return leaving || t->sweep_waits ? THINNER_WAITS : THINNER_IDLE;
    if (!history_refresh(t->history, err) || (!t->policy_given && boot_ms(t) >= t->look_at_ms &&
                                              !policy_poll(&t->policies, &t->policy, err)))
        return THINNER_FAILED;
    t->at = history_head(t->history).next_record;
    if (history_generations(t->history) == 0)
        return THINNER_IDLE;
    watch(t, RECORD_THIN, &t->thin);
    watch(t, RECORD_DROP, &t->drop);
    enum thinner_result result = thin(t, &waits, err);
    if (result == THINNER_IDLE && (thinner_sweeping(&t->sweep) || boot_ms(t) >= t->sweep_at_ms))
        result = thinner_sweep_step(t, err);
    if (result == THINNER_IDLE && !t->only_looks &&
        (thinner_compacting(&t->compact) || boot_ms(t) >= t->compact_at_ms))
        result = thinner_compact_step(t, err);
    if (result == THINNER_IDLE && pack_due(t))
        result = pack(t);
    return result == THINNER_IDLE && (waits || t->sweep_waits) ? THINNER_WAITS : result;
}
