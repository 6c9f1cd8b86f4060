/* SPDX-License-Identifier: MIT */
#include "backend/history/claim.h"

#include "backend/history/begin_internal.h"
#include "backend/history/logs.h"
#include "backend/history/processor.h"
#include "common/log.h"

#include <stdio.h>

#define APPEND_TRIES 8u
#define FENCE_TRIES  64u /* each that fails costs the old writer an epoch */
#define WALK_TRIES   8u

struct claimer {
    const struct claim_config *config;
    struct history *history;
    bool vault_failed; /* the last failure was the vault's, not the cache's */
};

static void cleanup_history(struct history **h)
{
    history_close(h);
}

static bool same(struct generation a, struct generation b)
{
    return a.id == b.id && a.number == b.number;
}

static bool refresh(struct claimer *c, struct err *err)
{
    c->vault_failed = !history_refresh(c->history, err);
    return !c->vault_failed;
}

/* --- the end of a generation's log --- */

struct log_end {
    struct history_tail tail;
    bool unopened;          /* there is no entry 0, and nothing was applied */
    uint64_t next;          /* the empty slot */
    struct sha256 previous; /* of the entry before it */
    struct sha256 odd;      /* what `next` read as, that is no entry; counted in odd_reads */
    unsigned odd_reads;
};

#define ODD_READS_MAX 4u

enum walk { WALK_END, WALK_LOST, WALK_FAILED };

/* Takes one stored entry into account. One that cannot be read is no reason to leave its writer
 * unfenced: what follows it carries the digest of its bytes whatever they are. But it counts only
 * when it reads the same twice: a bit flipped on the way would make the log look lost. */
static void walk_entry(const struct claimer *c, struct generation g, struct span stored,
                       struct log_end *end)
{
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct err why = ERR_NONE;

    if (!epoch_decode(stored, c->config->keys, history_vault(c->history)->vm, g, end->next, &d,
                      &why)) {
        struct sha256 odd = sha256_of(stored);
        bool again = end->odd_reads++ == 0 || !digests_equal(&odd, &end->odd, sizeof odd);
        end->odd = odd;
        if (again)
            return;
        log_warning("%s: an epoch that waits in the cache cannot be read: %s", c->config->vm,
                    why.text);
    } else if (d.entry.kind == EPOCH_FENCE) {
        end->tail.fenced = true;
        return;
    } else if (d.entry.kind == EPOCH_CUT) {
        end->tail.points++;
        end->tail.newest_ms = d.entry.point_ms;
    }
    end->tail.epochs++;
    end->previous = sha256_of(stored);
    end->odd_reads = 0;
    end->next++;
}

/* From behind the newest applied epoch to the first empty slot, or a fence. */
static enum walk walk_once(const struct claimer *c, struct generation g, struct log_end *end,
                           struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct history_head head;
    struct epoch_log log;

    *end = (struct log_end){.unopened = false};
    if (!history_line(c->history, g, &head)) {
        err_set(err, ERR_NOT_FOUND, "%s has no such generation", c->config->vm);
        return WALK_FAILED;
    }
    end->next = head.epoch + 1;
    end->previous = head.entry;
    if (head.epoch == 0 &&
        !history_entry0(c->config->cache, c->config->vm, history_vault(c->history)->vm, g,
                        c->config->keys, &end->previous, err)) {
        end->unopened = err->kind == ERR_NOT_FOUND;
        return end->unopened ? WALK_END : WALK_FAILED;
    }
    epoch_log_init(&log, c->config->cache, c->config->vm, g);
    while (!end->tail.fenced && end->tail.epochs < HISTORY_EPOCHS_MAX) {
        switch (numlog_read(&log.log, end->next, &end->previous, &stored, err)) {
        case NUMLOG_DONE:
            walk_entry(c, g, buf_span(&stored), end);
            if (end->odd_reads < ODD_READS_MAX)
                break;
            err_set(err, ERR_TRANSIENT, "epoch %llu in the cache store reads differently each time",
                    (unsigned long long)end->next);
            return WALK_FAILED;
        case NUMLOG_ABSENT:
            return WALK_END;
        case NUMLOG_OVERTAKEN:
            return WALK_LOST;
        default:
            return WALK_FAILED;
        }
    }
    return WALK_END;
}

/* A processor may apply and remove meanwhile: then the newest applied epoch is another one. When it
 * is not, the cache has lost what was in it, and no writer can go on behind an entry that is gone.
 */
static bool walk(struct claimer *c, struct generation g, struct log_end *end, struct err *err)
{
    for (unsigned tries = 0; tries < WALK_TRIES; tries++) {
        struct history_head before, after;
        bool known = history_line(c->history, g, &before);
        switch (walk_once(c, g, end, err)) {
        case WALK_END:
            return true;
        case WALK_FAILED:
            return false;
        case WALK_LOST:
            break;
        }
        if (!refresh(c, err))
            return false;
        if (known && history_line(c->history, g, &after) && after.epoch == before.epoch) {
            end->tail.lost = true;
            return true;
        }
    }
    return err_set(err, ERR_BUSY, "the log of %s moves on all the time; try again", c->config->vm);
}

/* --- entry 0 and fence --- */

/* The disks as the generation finds them: those of the epoch that it goes on from. */
static void disks_at(const struct claimer *c, struct generation parent, uint64_t epoch,
                     struct epoch_disk disks[VM_DISKS_MAX], uint16_t *count)
{
    const struct vault *vault = history_vault(c->history);
    size_t generations = history_generations(c->history);

    for (size_t i = generations; i-- > 0 && epoch == 0;) {
        struct history_generation g = history_generation(c->history, i);
        if (!same(g.generation, parent) || g.parent.id == 0)
            continue;
        parent = g.parent; /* its record is an older one */
        epoch = g.parent_epoch;
    }
    size_t index = history_index(c->history, parent, epoch);
    if (index != HISTORY_NONE) {
        *count = (uint16_t)history_disks(c->history, index, disks);
        return;
    }
    memcpy(disks, vault->disks, sizeof vault->disks);
    *count = vault->disk_count;
}

static bool open_log(const struct claimer *c, struct generation g, struct generation parent,
                     uint64_t parent_epoch, struct err *err)
{
    struct epoch_disk disks[VM_DISKS_MAX];
    struct log_opening o = {.world = c->config->world,
                            .cache = c->config->cache,
                            .vm = c->config->vm,
                            .vm_id = history_vault(c->history)->vm,
                            .generation = g,
                            .keys = c->config->keys,
                            .disks = disks};
    disks_at(c, parent, parent_epoch, disks, &o.disk_count);
    return log_open_put(&o, err);
}

static bool fence_encode(const struct claimer *c, struct generation g, const struct log_end *end,
                         struct buf *out, struct err *err)
{
    char name[GENERATION_NAME_MAX];
    struct seal_salt salt = {{0}};
    struct world *w = c->config->world;
    struct epoch_entry e = {.kind = EPOCH_FENCE,
                            .generation = g,
                            .epoch = end->next,
                            .previous = end->previous,
                            .clock_ms = w->ops->realtime_ns(w) / 1000000};

    memcpy(e.vm, history_vault(c->history)->vm, sizeof e.vm);
    disks_at(c, g, end->next - 1, e.disks, &e.disk_count);
    generation_name(history_head(c->history).generation, name);
    if (c->config->label != NULL)
        snprintf(e.label, sizeof e.label, "%s", c->config->label);
    else
        snprintf(e.label, sizeof e.label, "claimed as generation %s", name);
    return salt_make(c->config->keys, SEAL_HISTORY, w, g.id, e.epoch, 0, &end->previous, &salt,
                     err) &&
           epoch_encode(&e, c->config->keys, &salt, out, err);
}

/* Closes the log of an older generation. The old writer may put an epoch into the slot at the same
 * moment: one of both has it. Then the fence goes behind that epoch, which is part of the tail. */
static bool fence_log(struct claimer *c, struct history_generation g, struct history_tail *tail,
                      struct err *err)
{
    struct epoch_log log;
    struct log_end end;

    epoch_log_init(&log, c->config->cache, c->config->vm, g.generation);
    for (unsigned tries = 0; tries < FENCE_TRIES; tries++) {
        struct buf bytes AUTO_BUF = BUF_NONE;
        if (!walk(c, g.generation, &end, err))
            return false;
        *tail = end.tail;
        if (end.tail.fenced || end.tail.lost)
            return true;
        if (end.unopened) { /* a log that is opened later would have no fence */
            if (!open_log(c, g.generation, g.parent, g.parent_epoch, err))
                return false;
            continue;
        }
        if (!fence_encode(c, g.generation, &end, &bytes, err))
            return false;
        switch (numlog_put(&log.log, end.next, buf_span(&bytes), &end.previous, NULL, err)) {
        case NUMLOG_DONE:
            tail->fenced = true;
            return true;
        case NUMLOG_TAKEN:
        case NUMLOG_OVERTAKEN:
            break;
        default:
            return false;
        }
    }
    return err_set(err, ERR_BUSY, "the old writer of %s ships faster than it can be fenced",
                   c->config->vm);
}

/* Older generations from the oldest that has no fence on, in this order: so one that is fenced says
 * the same of all before it, and a repeat need not look at those. */
static bool fence_older(struct claimer *c, struct history_tail *newest, struct err *err)
{
    size_t last = history_generations(c->history) - 1; /* the newest: not fenced */
    size_t first = last;
    struct log_end end = {.unopened = false};

    while (first > 0) {
        struct history_generation g = history_generation(c->history, first - 1);
        if (!walk(c, g.generation, &end, err))
            return false;
        if (first == last)
            *newest = end.tail;
        if (end.tail.fenced)
            break;
        first--;
    }
    for (size_t i = first; i < last; i++)
        if (!fence_log(c, history_generation(c->history, i), newest, err))
            return false;
    return true;
}

static bool open_newest(struct claimer *c, struct err *err)
{
    struct history_generation g =
        history_generation(c->history, history_generations(c->history) - 1);
    struct sha256 digest;
    struct err why = ERR_NONE;

    if (g.epoch > 0 ||
        history_entry0(c->config->cache, c->config->vm, history_vault(c->history)->vm, g.generation,
                       c->config->keys, &digest, &why))
        return true;
    if (why.kind == ERR_NOT_FOUND)
        return open_log(c, g.generation, g.parent, g.parent_epoch, err);
    if (err)
        *err = why;
    return false;
}

/* Both, for the newest generation. What the cache does wrong is pending, and no failure. */
static bool settle(struct claimer *c, struct claim_result *out, struct err *err)
{
    struct history_tail tail = {.epochs = 0};
    struct err why = ERR_NONE;

    *out = (struct claim_result){.fence_pending = false};
    c->vault_failed = false;
    if (history_generations(c->history) < 2)
        return true;
    if (c->config->cache == NULL)
        err_set(&why, ERR_TRANSIENT, "the cache store is out of reach");
    else if (open_newest(c, &why) && fence_older(c, &tail, &why))
        why = ERR_NONE;
    out->tail_epochs = tail.epochs;
    out->tail_points = tail.points;
    if (why.kind == ERR_OK)
        return true;
    if (c->vault_failed) {
        *err = why;
        return false;
    }
    out->fence_pending = true;
    snprintf(out->reason, sizeof out->reason, "%s", why.text);
    return true;
}

bool history_fence_in(const struct claim_config *config, struct history *h,
                      struct claim_result *out, struct err *err)
{
    struct err unused;
    struct claimer c = {.config = config, .history = h};
    return settle(&c, out, err ? err : &unused);
}

bool history_fence(const struct claim_config *config, struct claim_result *out, struct err *err)
{
    struct history *h CLEANUP(cleanup_history) = NULL;
    return history_open(config->world, config->target, config->vm, config->keys, &h, err) &&
           history_fence_in(config, h, out, err);
}

bool history_tail(const struct claim_config *config, struct history *h,
                  struct generation generation, struct history_tail *out, struct err *err)
{
    struct err unused;
    struct claimer c = {.config = config, .history = h};
    struct log_end end;

    if (!err)
        err = &unused;
    if (config->cache == NULL)
        return err_set(err, ERR_TRANSIENT, "the cache store is out of reach");
    if (!walk(&c, generation, &end, err))
        return false;
    *out = end.tail;
    return true;
}

/* --- the record --- */

/* One more could not be read. */
static bool has_room(struct history *h, struct err *err)
{
    return history_generations(h) < HISTORY_GENERATIONS_MAX ||
           err_set(err, ERR_FULL,
                   "%s has as many generations as a vault can have (%u): protect it anew (farshore "
                   "disable, then enable with another --target)",
                   history_vault(h)->name, HISTORY_GENERATIONS_MAX);
}

bool claim_generation(struct history *h, struct generation *out, struct err *err)
{
    struct world *w = history_world(h);
    uint32_t number = 0;
    uint64_t id = 0;

    if (!has_room(h, err))
        return false;
    for (size_t i = 0; i < history_generations(h); i++) {
        struct generation g = history_generation(h, i).generation;
        number = g.number > number ? g.number : number;
    }
    while (id == 0) {
        int rc = w->ops->random(w, &id, sizeof id);
        if (rc < 0)
            return err_errno(err, -rc, "cannot make a generation's name");
    }
    *out = (struct generation){.number = number + 1, .id = id};
    return true;
}

/* Whether the claim's record is there already. */
static bool claimed(const struct claimer *c, const struct claim *claim, bool *there,
                    struct err *err)
{
    char name[GENERATION_NAME_MAX];
    size_t count = history_generations(c->history);

    *there = false;
    for (size_t i = 0; i < count; i++) {
        struct history_generation g = history_generation(c->history, i);
        if (!same(g.generation, claim->generation))
            continue;
        if (!same(g.parent, claim->parent) || g.parent_epoch != claim->parent_epoch)
            return err_set(err, ERR_EXISTS,
                           "this generation of %s was begun from another epoch than is said now",
                           c->config->vm);
        *there = true;
        if (i + 1 == count)
            return true;
        generation_name(history_generation(c->history, count - 1).generation, name);
        return err_set(err, ERR_FENCED,
                       "%s was claimed again meanwhile: generation %s has followed this one",
                       c->config->vm, name);
    }
    return true;
}

static bool may_claim(const struct claimer *c, const struct claim *claim, struct err *err)
{
    char name[GENERATION_NAME_MAX];
    struct history_head head = history_head(c->history), parent;

    generation_name(head.generation, name);
    if (!same(head.generation, claim->ends))
        return err_set(err, ERR_EXISTS,
                       "%s was claimed by another one meanwhile: its newest generation is %s now; "
                       "look at its state and decide again",
                       c->config->vm, name);
    generation_name(claim->parent, name);
    if (!history_line(c->history, claim->parent, &parent))
        return err_set(err, ERR_NOT_FOUND, "%s has no generation %s", c->config->vm, name);
    size_t index = history_index(c->history, claim->parent, claim->parent_epoch);
    if (claim->parent_epoch > 0 && (index == HISTORY_NONE || history_gone(c->history, index)))
        return err_set(err, ERR_NOT_FOUND, "epoch %llu of generation %s of %s %s",
                       (unsigned long long)claim->parent_epoch, name, c->config->vm,
                       index == HISTORY_NONE ? "was never applied"
                                             : "is gone: retention has thinned it out");
    if (!has_room(c->history, err))
        return false;
    if (claim->generation.id == 0 || claim->generation.number <= head.generation.number)
        return err_set(err, ERR_INVALID, "the new generation of %s has no number of its own",
                       c->config->vm);
    return true;
}

static enum numlog_result record_put(const struct claimer *c, const struct claim *claim,
                                     struct err *err)
{
    struct history_head head = history_head(c->history);
    struct record_log records;
    struct seal_salt salt = {{0}};
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct world *w = c->config->world;
    struct record r = {.kind = RECORD_GENERATION,
                       .number = head.next_record,
                       .previous = head.last_record,
                       .written_ms = w->ops->realtime_ns(w) / 1000000,
                       .generation = claim->generation,
                       .parent = claim->parent,
                       .parent_epoch = claim->parent_epoch};

    memcpy(r.vm, history_vault(c->history)->vm, VM_ID_BYTES);
    disks_at(c, claim->parent, claim->parent_epoch, r.disks, &r.disk_count);
    record_log_init(&records, c->config->target, c->config->vm);
    if (!salt_make(c->config->keys, SEAL_HISTORY, w, claim->generation.id, 0, r.number,
                   &head.last_record, &salt, err) ||
        !record_encode(&r, c->config->keys, &salt, &bytes, err))
        return NUMLOG_FAILED;
    return numlog_put(&records.log, r.number, buf_span(&bytes), &r.previous, NULL, err);
}

static bool record_begin(struct claimer *c, const struct claim *claim, struct err *err)
{
    for (unsigned tries = 0; tries < APPEND_TRIES; tries++) {
        bool there = false;
        if (!refresh(c, err) || !claimed(c, claim, &there, err))
            return false;
        if (there)
            return true;
        if (!may_claim(c, claim, err))
            return false;
        switch (record_put(c, claim, err)) {
        case NUMLOG_DONE: /* the next turn reads it */
        case NUMLOG_TAKEN:
        case NUMLOG_OVERTAKEN:
            break;
        default:
            return err_wrap(err, "claiming %s", c->config->vm);
        }
    }
    return err_set(err, ERR_BUSY, "others keep writing to the history of %s in %s; try again",
                   c->config->vm, c->config->target->url);
}

bool history_begin_generation_in(const struct claim_config *config, struct history *h,
                                 const struct claim *claim, struct claim_result *out,
                                 struct err *err)
{
    struct err unused;
    struct claimer c = {.config = config, .history = h};
    if (!err)
        err = &unused;
    return record_begin(&c, claim, err) && settle(&c, out, err);
}

bool history_begin_generation(const struct claim_config *config, const struct claim *claim,
                              struct claim_result *out, struct err *err)
{
    struct history *h CLEANUP(cleanup_history) = NULL;
    return history_open(config->world, config->target, config->vm, config->keys, &h, err) &&
           history_begin_generation_in(config, h, claim, out, err);
}
