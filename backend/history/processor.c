/* SPDX-License-Identifier: MIT
 * One step: read the history's head, gather the epochs behind it, apply them, then tidy the cache
 * and say how far we are. */
#include "backend/history/processor.h"

#include "backend/history/apply.h"
#include "backend/history/claim.h"
#include "backend/history/logs.h"
#include "backend/history/progress.h"
#include "backend/history/sweep.h"
#include "common/log.h"
#include "common/parallel.h"

#include <errno.h>
#include <stdio.h>

struct processor {
    struct processor_config config;
    char vm[VM_NAME_MAX + 1];
    struct history *history, *own_history;

    struct record_log records;

    struct generation begun; /* the one whose entry 0 has the digest `entry0` */
    struct sha256 entry0;

    uint64_t fenced_for; /* id of the generation whose claim is settled: see claim.h */

    struct sweep sweep;
    unsigned batches_since_sweep;
    unsigned idle_polls;

    struct processor_progress told; /* as it was last left in the cache */
    bool told_known;
    uint64_t progress_number;
    unsigned progress_puts;
    char failure[PROCESSOR_HEALTH_MAX]; /* why the last step failed; empty: it did not */
};

struct batch {
    struct epoch_decoded epochs[PROCESSOR_BATCH_EPOCHS];
    size_t count;
    uint64_t bytes;
};

unsigned processor_threads(const struct processor_config *config)
{
    return config->fetches == 0                     ? 1
           : config->fetches < PARALLEL_THREADS_MAX ? config->fetches
                                                    : PARALLEL_THREADS_MAX;
}

static void batch_release(struct batch **b)
{
    if (!*b)
        return;
    for (size_t i = 0; i < (*b)->count; i++)
        epoch_decoded_release(&(*b)->epochs[i]);
    free(*b);
    *b = NULL;
}

bool processor_open(const struct processor_config *config, struct processor **out, struct err *err)
{
    struct err unused;
    struct processor *p CLEANUP(processor_close) = calloc(1, sizeof *p);

    if (!err)
        err = &unused;
    if (!p)
        return err_errno(err, ENOMEM, "opening the processor of %s", config->vm);
    assert(config->store_count > 0);
    if (!config->history && (!history_open(config->world, config->targets[0], config->vm,
                                           config->keys, &p->own_history, err) ||
                             !history_remember(p->own_history, config->id, config->state, err)))
        return false;
    p->history = config->history ? config->history : p->own_history;
    memcpy(p->vm, config->vm, strlen(config->vm) + 1); /* history_open has checked it */
    p->config = *config;
    p->config.vm = p->vm;
    record_log_init(&p->records, p->config.targets[0], p->vm);
    sweep_init(&p->sweep, &p->config, p->history);
    *out = TAKE(p);
    return true;
}

struct history_head processor_head(const struct processor *p)
{
    return history_head(p->history);
}

struct history *processor_history(struct processor *p)
{
    return p->history;
}

void processor_close(struct processor **p)
{
    if (!*p)
        return;
    history_close(&(*p)->own_history);
    free(*p);
    *p = NULL;
}

/* --- what waits --- */

/* Whether another processor has gone on since `head` was read. */
static enum processor_result overtaken(struct processor *p, const struct history_head *head,
                                       struct err *err)
{
    struct err now = ERR_NONE;
    if (!history_refresh(p->history, &now)) {
        *err = now;
        return PROCESSOR_FAILED;
    }
    return history_head(p->history).next_record != head->next_record ? PROCESSOR_AGAIN
                                                                     : PROCESSOR_FAILED;
}

/* A seed is applied from a staging store; its newest entry comes to the cache when it is whole. */
static bool being_seeded(struct processor *p, const struct history_head *head)
{
    size_t index = history_index(p->history, head->generation, head->epoch);
    if (index == HISTORY_NONE)
        return false;
    struct record_epoch e = history_epoch(p->history, index, NULL);
    return e.kind == EPOCH_PASS && strcmp(e.label, EPOCH_SEED_LABEL) == 0;
}

/* The newest applied entry is gone from the cache or is another one, and nobody went on. */
static enum processor_result head_lost(struct processor *p, const struct history_head *head,
                                       struct err *err)
{
    char key[KEY_MAX];
    uint64_t bytes;

    *err = ERR_NONE;
    enum processor_result result = overtaken(p, head, err);
    if (result != PROCESSOR_FAILED || err->kind != ERR_OK)
        return result;
    key_epoch(key, p->vm, head->generation, head->epoch);
    bool there = store_size(p->config.caches[0], key, &bytes, err);
    if (!there && err->kind == ERR_NOT_FOUND && being_seeded(p, head)) {
        *err = ERR_NONE;
        return PROCESSOR_IDLE;
    }
    if (there)
        err_set(err, ERR_CORRUPT,
                "fork at epoch %llu: %s is another entry than the one that was applied",
                (unsigned long long)head->epoch, key);
    else if (err->kind == ERR_NOT_FOUND)
        err_set(err, ERR_CORRUPT,
                "%s, the newest applied entry, is gone: something other than farshore removed it; "
                "disable the VM on its source and enable it under another name; its points stay",
                key);
    return PROCESSOR_FAILED;
}

static bool disks_same(const struct epoch_entry *a, const struct epoch_entry *b)
{
    if (a->disk_count != b->disk_count)
        return false;
    for (size_t i = 0; i < a->disk_count; i++)
        if (strcmp(a->disks[i].name, b->disks[i].name) != 0 ||
            a->disks[i].disk != b->disks[i].disk || a->disks[i].store != b->disks[i].store ||
            a->disks[i].size_bytes != b->disks[i].size_bytes)
            return false;
    return true;
}

/* What is known of the entry before the one that is looked at. */
struct chain {
    struct sha256 digest;
    uint64_t point_ms; /* newest point so far */
};

/* An authentic entry that may not follow what is applied is refused by name. */
static bool entry_follows(const struct epoch_entry *e, const struct chain *before, struct err *err)
{
    if (!digests_equal(&e->previous, &before->digest, SHA256_BYTES))
        return err_set(err, ERR_CORRUPT, "fork at epoch %llu: it follows from another epoch %llu",
                       (unsigned long long)e->epoch, (unsigned long long)e->epoch - 1);
    if (e->kind == EPOCH_OPEN)
        return err_set(err, ERR_CORRUPT, "epoch %llu opens a log that is open",
                       (unsigned long long)e->epoch);
    if (e->kind == EPOCH_CUT && e->point_ms <= before->point_ms)
        return err_set(err, ERR_CORRUPT,
                       "epoch %llu is a point that is not later than the one before",
                       (unsigned long long)e->epoch);
    return true;
}

static uint64_t entry_bytes(const struct epoch_entry *e)
{
    uint64_t bytes = e->run.length;
    for (uint32_t i = 0; i < e->part_count; i++)
        bytes += e->parts[i].bytes;
    return bytes;
}

enum gathered { GATHERED_ONE, GATHERED_END, GATHERED_LOST, GATHERED_FAILED };

/* Entry n by its slot alone, without the look back that reads the head's entry again, whole and
 * across regions. It would catch a slot that was used and removed; here such a slot is in the
 * history, for nothing is removed before, and so the put of our record finds its own slot taken.
 * An idle processor looks back now and then: that is how it learns that its head is gone. */
static enum numlog_result entry_read(struct processor *p, struct epoch_log *log, uint64_t n,
                                     const struct chain *chain, bool first, struct buf *stored,
                                     struct err *err)
{
    enum numlog_result result = numlog_read(&log->log, n, NULL, stored, err);
    if (result == NUMLOG_ABSENT && first && p->idle_polls++ % PROCESSOR_LOOK_BACK_POLLS == 0)
        result = numlog_read(&log->log, n, &chain->digest, stored, err);
    return result;
}

/* Reads entry `n` into the batch. GATHERED_END: it is absent, seals the log, or must wait. */
static enum gathered gather_one(struct processor *p, struct epoch_log *log, uint64_t n,
                                struct chain *chain, struct batch *b, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};

    switch (entry_read(p, log, n, chain, b->count == 0, &stored, err)) {
    case NUMLOG_DONE:
        break;
    case NUMLOG_ABSENT:
        return GATHERED_END;
    case NUMLOG_OVERTAKEN:
        return GATHERED_LOST;
    default:
        return GATHERED_FAILED;
    }
    if (!epoch_decode(buf_span(&stored), p->config.keys, history_vault(p->history)->vm,
                      log->generation, n, &d, err)) {
        err_wrap(err, "epoch %llu", (unsigned long long)n);
        return GATHERED_FAILED;
    }
    if (!entry_follows(&d.entry, chain, err))
        return GATHERED_FAILED;
    uint64_t bytes = entry_bytes(&d.entry);
    if (d.entry.kind == EPOCH_FENCE ||
        (b->count > 0 &&
         (b->bytes + bytes > PROCESSOR_BATCH_BYTES || !disks_same(&b->epochs[0].entry, &d.entry))))
        return GATHERED_END;
    chain->digest = d.digest;
    if (d.entry.kind == EPOCH_CUT)
        chain->point_ms = d.entry.point_ms;
    b->bytes += bytes;
    b->epochs[b->count++] = d;
    d = (struct epoch_decoded){.memory = BUF_NONE};
    return GATHERED_ONE;
}

/* Where the chain stands at the head. */
static bool chain_start(struct processor *p, const struct history_head *head, struct chain *chain,
                        struct err *err)
{
    *chain = (struct chain){.digest = head->entry, .point_ms = head->newest_ms};
    if (head->epoch > 0)
        return true;
    if (p->begun.id != head->generation.id) {
        if (!history_entry0(p->config.caches[0], p->vm, history_vault(p->history)->vm,
                            head->generation, p->config.keys, &p->entry0, err))
            return err_wrap(err, "the beginning of the generation");
        p->begun = head->generation;
    }
    chain->digest = p->entry0;
    return true;
}

/* The log of a generation beyond the first may be opened later than its record was made: by who has
 * the cache in reach (claim.h). */
static bool not_opened_yet(struct processor *p, const struct history_head *head,
                           const struct err *err)
{
    struct generation first = history_generation(p->history, 0).generation;
    return err->kind == ERR_NOT_FOUND && head->epoch == 0 && head->generation.id != first.id;
}

/* Fills the batch with what waits. What stops it after the first epoch is met again, as the first,
 * by the next step. APPLIED here means that there is something. */
static enum processor_result gather(struct processor *p, const struct history_head *head,
                                    struct batch *b, struct err *err)
{
    struct epoch_log log;
    struct chain chain;
    enum gathered last = GATHERED_ONE;
    bool kept;
    /* Of a vault that is full only whether something waits. */
    size_t most = history_room(p->history, &kept) > 0 ? PROCESSOR_BATCH_EPOCHS : 1;

    if (head->generation.id == 0)
        return PROCESSOR_IDLE; /* enable has not come to its end yet */
    epoch_log_init(&log, p->config.caches[0], p->vm, head->generation);
    if (!chain_start(p, head, &chain, err)) {
        if (!not_opened_yet(p, head, err))
            return overtaken(p, head, err);
        *err = ERR_NONE;
        return PROCESSOR_IDLE;
    }
    while (last == GATHERED_ONE && b->count < most && b->bytes < PROCESSOR_BATCH_BYTES)
        last = gather_one(p, &log, head->epoch + b->count + 1, &chain, b, err);
    if (b->count > 0)
        return PROCESSOR_APPLIED;
    switch (last) {
    case GATHERED_LOST:
        return head_lost(p, head, err);
    case GATHERED_FAILED:
        return overtaken(p, head, err);
    default:
        return PROCESSOR_IDLE;
    }
}

/* --- applying --- */

static enum processor_result record_append(struct processor *p, const struct history_head *head,
                                           const struct batch *b, size_t count,
                                           struct record_epoch *epochs, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt;
    const struct epoch_entry *last = &b->epochs[count - 1].entry;
    struct record r = {
        .kind = RECORD_APPLY,
        .number = head->next_record,
        .previous = head->last_record,
        .written_ms = p->config.world->ops->realtime_ns(p->config.world) / 1000000,
        .generation = head->generation,
        .disk_count = last->disk_count,
        .epoch_count = (uint32_t)count,
        .epochs = epochs,
    };

    memcpy(r.vm, last->vm, VM_ID_BYTES);
    memcpy(r.disks, last->disks, sizeof r.disks);
    if (!salt_make(p->config.keys, SEAL_HISTORY, p->config.world, head->generation.id, last->epoch,
                   r.number, &b->epochs[count - 1].digest, &salt, err) ||
        !record_encode(&r, p->config.keys, &salt, &bytes, err))
        return PROCESSOR_FAILED;
    switch (numlog_put(&p->records.log, r.number, buf_span(&bytes), &r.previous, NULL, err)) {
    case NUMLOG_DONE:
        if (history_refresh(p->history, err))
            return PROCESSOR_APPLIED;
        break;
    case NUMLOG_TAKEN:
    case NUMLOG_OVERTAKEN:
        return PROCESSOR_AGAIN;
    default:
        break;
    }
    /* It may be there all the same: then the next step finds nothing to apply, but to remove. */
    p->sweep.due = true;
    err_wrap(err, "appending to the history of %s", p->vm);
    return PROCESSOR_FAILED;
}

/* Applies the batch, or what precedes its first damaged epoch. *applied: how many. */
static enum processor_result apply(struct processor *p, const struct history_head *head,
                                   const struct batch *b, size_t *applied, struct err *err)
{
    struct record_epoch *epochs AUTO_FREE = calloc(b->count, sizeof *epochs);
    bool kept;
    size_t bad = 0, room = history_room(p->history, &kept);

    *applied = 0;
    if (!epochs) {
        err_errno(err, ENOMEM, "applying to %s", p->vm);
        return PROCESSOR_FAILED;
    }
    size_t count = b->count < room ? b->count : room;
    if (count == 0) {
        err_set(err, ERR_FULL,
                kept ? "keep fewer points of %s (farshore policy): its vault in %s holds all that "
                       "it can. What is shipped waits in the cache until some have gone"
                     : "protect %s anew (farshore disable, then enable with another --target): its "
                       "vault in %s has all the epochs that it can have. Its points stay, and what "
                       "is shipped waits in the cache",
                p->vm, p->config.targets[0]->url);
        return PROCESSOR_FAILED;
    }
    if (!apply_write(&p->config, p->history, b->epochs, count, epochs, &bad, err)) {
        if (bad == count)
            return PROCESSOR_FAILED;
        if (bad == 0)
            return overtaken(p, head, err);
        count = bad; /* what is damaged, or gone to another processor in the middle of it */
        if (!apply_write(&p->config, p->history, b->epochs, count, epochs, &bad, err))
            return bad == count ? PROCESSOR_FAILED : overtaken(p, head, err);
    }
    enum processor_result result = record_append(p, head, b, count, epochs, err);
    if (result == PROCESSOR_APPLIED)
        *applied = count;
    return result;
}

/* --- after applying: the cache, and what we say --- */

static bool progress_same(const struct processor_progress *a, const struct processor_progress *b)
{
    return a->generation.id == b->generation.id && a->applied_epoch == b->applied_epoch &&
           a->applied_point_ms == b->applied_point_ms && strcmp(a->health, b->health) == 0;
}

static void health_text(const struct processor *p, char out[PROCESSOR_HEALTH_MAX])
{
    bool kept;
    size_t room = history_room(p->history, &kept);
    const char *text = p->failure[0] ? p->failure : p->sweep.fork;
    if (text[0])
        snprintf(out, PROCESSOR_HEALTH_MAX, "%s", text);
    else if (room < PROCESSOR_ROOM_SAID)
        snprintf(out, PROCESSOR_HEALTH_MAX,
                 "the vault has room for %zu more epochs: before that %s", room,
                 kept
                     ? "keep fewer points (farshore policy)"
                     : "protect the VM anew (farshore disable, then enable with another --target)");
    else
        snprintf(out, PROCESSOR_HEALTH_MAX, "ok");
}

/* Leaves a progress object when there is something new to say. */
static bool tell(struct processor *p, struct err *err)
{
    struct history_head head = history_head(p->history);
    if (p->config.branch.id != 0)
        return true; /* of the head's line another processor tells */
    struct processor_progress now = {
        .generation = head.generation,
        .applied_epoch = head.epoch,
        .applied_point_ms = head.point_ms,
        .written_ms = p->config.world->ops->realtime_ns(p->config.world) / 1000000,
    };

    health_text(p, now.health);
    if (!p->told_known) {
        if (!progress_newest(p->config.caches[0], p->vm, p->config.keys, &p->told,
                             &p->progress_number, err) &&
            err->kind != ERR_NOT_FOUND)
            return false;
        p->told_known = true;
    }
    if (head.generation.id == 0 || (p->progress_number > 0 && progress_same(&p->told, &now)))
        return true;
    if (!progress_put(&p->config, &now, &p->progress_number, err)) {
        p->told_known = false; /* in doubt: look again */
        return false;
    }
    p->told = now;
    return p->progress_puts++ % PROGRESS_TIDY_PUTS != 0 ||
           progress_tidy(p->config.caches[0], p->vm, err);
}

/* What the ended generation left of epochs that are applied. */
static bool sweep_ended(struct processor *p, struct err *err)
{
    size_t generations = history_generations(p->history);
    struct history_head ended;
    struct sweep once;

    sweep_init(&once, &p->config, p->history);
    return !history_line(p->history, history_generation(p->history, generations - 2).generation,
                         &ended) ||
           sweep_listed(&once, &ended, err);
}

/* Whoever claimed the VM could not reach the cache then, or was killed: we can. */
static bool settle_claim(struct processor *p, const struct history_head *head, struct err *err)
{
    struct claim_config config = {.world = p->config.world,
                                  .target = p->config.targets[0],
                                  .cache = p->config.caches[0],
                                  .vm = p->vm,
                                  .keys = p->config.keys};
    struct claim_result result;

    if (!p->config.fences || p->config.branch.id != 0 || p->fenced_for == head->generation.id ||
        history_generations(p->history) < 2)
        return true;
    if (!history_fence_in(&config, p->history, &result, err))
        return false;
    if (result.fence_pending) {
        log_debug("%s: the fence is pending: %s", p->vm, result.reason);
        return true;
    }
    if (!sweep_ended(p, err))
        return false;
    p->fenced_for = head->generation.id;
    return true;
}

/* Removes what the history holds now. In the order of safety: record, progress, parts, entries. */
static bool tidy(struct processor *p, const struct history_head *was, const struct batch *b,
                 size_t applied, struct err *err)
{
    struct history_head head = *was;

    if (head.generation.id != 0 && !history_line(p->history, was->generation, &head))
        return true;
    if (!tell(p, err))
        return false;
    if (head.generation.id == 0)
        return true;
    if (!settle_claim(p, &head, err))
        return false;
    if (applied > 0 && ++p->batches_since_sweep >= PROCESSOR_SWEEP_BATCHES)
        p->sweep.due = true;
    if (p->sweep.due || p->sweep.generation != head.generation.id) {
        if (!sweep_listed(&p->sweep, &head, err))
            return false;
        p->batches_since_sweep = 0;
        return tell(p, err);
    }
    return applied == 0 || sweep_applied(&p->sweep, &head, b->epochs, applied, err);
}

static void failure_note(struct processor *p, enum processor_result result, const struct err *err)
{
    if (result != PROCESSOR_FAILED)
        p->failure[0] = '\0';
    else if (err->kind != ERR_TRANSIENT && err->kind != ERR_CANCELLED)
        snprintf(p->failure, sizeof p->failure, "%.*s", (int)sizeof p->failure - 1, err->text);
}

enum processor_result processor_step(struct processor *p, struct err *err)
{
    struct batch *b CLEANUP(batch_release) = calloc(1, sizeof *b);
    struct err own = ERR_NONE;
    struct err after = ERR_NONE;
    enum processor_result result = PROCESSOR_FAILED;
    size_t applied = 0;

    if (!err)
        err = &own;
    if (!b) {
        err_errno(err, ENOMEM, "stepping the processor of %s", p->vm);
        return PROCESSOR_FAILED;
    }
    if (!history_refresh(p->history, err)) {
        failure_note(p, result, err);
        if (err->kind != ERR_TRANSIENT && !tell(p, &after))
            log_warning("%s: %s", p->vm, after.text);
        return result;
    }
    struct history_head head = history_head(p->history);
    if (p->config.branch.id != 0 && !history_line(p->history, p->config.branch, &head)) {
        err_set(err, ERR_NOT_FOUND, "%s has no such generation", p->vm);
        return result;
    }
    result = gather(p, &head, b, err);
    if (result == PROCESSOR_APPLIED)
        result = apply(p, &head, b, &applied, err);
    if (result == PROCESSOR_AGAIN)
        return result;
    failure_note(p, result, err);
    if (result == PROCESSOR_FAILED && err->kind == ERR_TRANSIENT)
        return result;
    if (!tidy(p, &head, b, applied, &after)) {
        /* What is left in the cache is found by the next step, which looks at all of it. */
        p->sweep.due = true;
        log_warning("%s: tidying the cache: %s", p->vm, after.text);
        if (result == PROCESSOR_IDLE) {
            *err = after;
            return PROCESSOR_FAILED;
        }
    }
    return result;
}
