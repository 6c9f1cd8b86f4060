/* SPDX-License-Identifier: MIT */
#include "fs/disk/ship.h"

#include "backend/history/processor.h"
#include "common/log.h"

#include <assert.h>
#include <stdio.h>

#define RETRY_FIRST_MS 1000u
#define RETRY_MAX_MS   30000u
#define LOOK_MIN_MS    2000u
#define LOOK_MAX_MS    10000u
#define SLOT_READS_MAX 3u
#define LOOK_IDLE_MS   60000u /* a look costs requests, and nothing is waited for */

uint64_t ship_stall(struct shipper *s, const struct err *err)
{
    s->retry_ms = s->retry_ms == 0 ? RETRY_FIRST_MS : s->retry_ms * 2;
    if (s->retry_ms > RETRY_MAX_MS)
        s->retry_ms = RETRY_MAX_MS;
    if (s->seen.state != REPLICATION_STALLED || strcmp(s->seen.reason, err->text) != 0)
        log_warning("%s: replication is stalled, the guest is not: %s", s->vm, err->text);
    s->seen.state = REPLICATION_STALLED;
    snprintf(s->seen.reason, sizeof s->seen.reason, "%s", err->text);
    return s->retry_ms;
}

void ship_fence(struct shipper *s, const char *why)
{
    struct err err = ERR_NONE;
    s->cut_ticket = 0; /* it is answered below, by its right name */
    if (s->phase == SHIP_DRAIN || s->phase == SHIP_TAKE || s->phase == SHIP_PUT)
        ship_abandon(s, why);
    s->phase = SHIP_FENCED;
    snprintf(s->state.fenced, sizeof s->state.fenced, "%s", why);
    log_error("%s: fenced: %s. The guest goes on locally and nothing more is shipped", s->vm, why);
    if (!ship_state_save(s->config.world, s->folder, &s->state, &err))
        log_error("%s: the fence could not be recorded: %s", s->vm, err.text);
    err_set(&err, ERR_FENCED, "replication is fenced: %s", why);
    ship_answer(s, UINT64_MAX, 0, 0, &err);
}

void ship_answer(struct shipper *s, uint64_t ticket, uint64_t point_ms, uint64_t epoch,
                 const struct err *err)
{
    LOCK_SCOPE(&s->lock);
    struct point_result *r = &s->results[s->result_count++ % POINT_RESULTS_MAX];
    *r = (struct point_result){.ticket = ticket, .point_ms = point_ms, .epoch = epoch};
    if (err != NULL)
        r->err = *err;
    s->answered_ticket = ticket;
    pthread_cond_broadcast(&s->change);
}

void ship_fill_disks(const struct shipper *s, struct epoch_entry *entry)
{
    const struct source *source = s->config.source;
    entry->disk_count = (uint16_t)source_disks(source);
    for (size_t i = 0; i < source_disks(source); i++) {
        struct epoch_disk *d = &entry->disks[i];
        snprintf(d->name, sizeof d->name, "%s", source_disk_name(source, i));
        d->disk = source_disk_number(source, i);
        d->store = source_disk_store(source, i);
        d->size_bytes = source_disk_bytes(source, i);
    }
}

/* The slot after our head holds this attempt of ours: the replica now has what it says. */
static bool settle_ours(struct shipper *s, const struct journal_attempt *a, struct err *err)
{
    struct ship_state next = s->state;
    next.epoch = journal_slot(s->journal);
    next.digest = a->digest;
    if (a->kind == EPOCH_CUT) {
        next.point_ms = a->point_ms;
        next.point_epoch = next.epoch;
        next.initial_done = true;
        next.pass_open = false;
    } else if (a->kind == EPOCH_PASS) {
        next.pass_open = true;
    }
    /* Digest files first, then the head, then the journal goes: stopped in between, the next
     * settling does it again. The other order would believe digests that were never written. */
    if (!changes_use(a->changes, CHANGES_APPLY, s->config.source, err) ||
        !ship_state_save(s->config.world, s->folder, &next, err))
        return false;
    s->state = next; /* at once: whoever saves the state must not take it back */
    s->last_entry_ms = s->slot_seen_ms = ship_now_ms(s);
    return journal_clear(s->journal, err);
}

static bool settle_absent(struct shipper *s, struct err *err)
{
    for (size_t i = 0; i < journal_attempts(s->journal); i++) {
        struct span changes = journal_attempt(s->journal, i)->changes;
        if (changes.length > 0 && !changes_use(changes, CHANGES_VOID, s->config.source, err))
            return false;
    }
    journal_voided(s->journal);
    return true;
}

static const struct journal_attempt *find_ours(const struct shipper *s, struct span stored)
{
    struct sha256 digest = sha256_of(stored);
    for (size_t i = 0; i < journal_attempts(s->journal); i++)
        if (digests_equal(&journal_attempt(s->journal, i)->digest, &digest, sizeof digest))
            return journal_attempt(s->journal, i);
    return NULL;
}

/* What the slot holds. *ours: which attempt of ours that is, NULL for another source's entry, which
 * is believed when it comes twice: one bit flipped on the way fences nobody. */
static enum numlog_result read_slot(struct shipper *s, uint64_t slot,
                                    const struct journal_attempt **ours, struct buf *stored,
                                    struct err *err)
{
    struct sha256 digest, before = {{0}};
    for (unsigned i = 0; i < SLOT_READS_MAX; i++) {
        enum numlog_result result = numlog_read(&s->log, slot, &s->state.digest, stored, err);
        if (result != NUMLOG_DONE)
            return result;
        *ours = find_ours(s, buf_span(stored));
        digest = sha256_of(buf_span(stored));
        if (*ours != NULL || (i > 0 && digests_equal(&digest, &before, sizeof digest)))
            return NUMLOG_DONE;
        before = digest;
    }
    err_set(err, ERR_TRANSIENT, "epoch %llu in the cache store reads differently each time",
            (unsigned long long)slot);
    return NUMLOG_DOUBT;
}

/* Recorded at once: of a mount that found nothing to ship no entry would say that there was one,
 * and who has not begun does not ask what was done to the disks since the clean stop. */
static bool begin_log(struct shipper *s, struct err *err)
{
    if (s->state.begun)
        return true;
    if (!history_entry0(s->caches[0], s->vm, s->config.vm_id, s->state.generation, s->config.keys,
                        &s->state.digest, err))
        return false;
    s->state.begun = true;
    return ship_state_save(s->config.world, s->folder, &s->state, err);
}

/* Another's entry has our slot: the fence of who claimed the VM, whose label says where it has
 * gone, or a source that ships as if it were this one. */
static void fence_foreign(struct shipper *s, uint64_t slot, struct span stored)
{
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct err unused = ERR_NONE;
    char why[sizeof s->state.fenced];
    if (epoch_decode(stored, s->config.keys, s->config.vm_id, s->state.generation, slot, &d,
                     &unused) &&
        d.entry.kind == EPOCH_FENCE)
        snprintf(why, sizeof why,
                 "%.100s; do not start the VM here: its disks stay as they are, for "
                 "`farshore reprotect`",
                 d.entry.label[0] != '\0' ? d.entry.label : "the VM was claimed by another host");
    else
        snprintf(why, sizeof why, "epoch %llu in the cache store was written by another source",
                 (unsigned long long)slot);
    ship_fence(s, why);
}

static void fence_overtaken(struct shipper *s)
{
    char why[160];
    snprintf(why, sizeof why,
             "our newest entry, epoch %llu, is gone from the cache store or differs",
             (unsigned long long)s->state.epoch);
    ship_fence(s, why);
}

/* A slot of ours that is empty was freed when the target has gone beyond it: not with ours. */
static void fence_behind(struct shipper *s)
{
    char why[160];
    snprintf(why, sizeof why,
             "the target has applied epoch %llu, and ours end at %llu: another source ships as "
             "this one",
             (unsigned long long)s->seen.applied_epoch, (unsigned long long)s->state.epoch);
    ship_fence(s, why);
}

uint64_t ship_settle(struct shipper *s)
{
    struct err err = ERR_NONE;
    if (!begin_log(s, &err)) {
        if (err.kind != ERR_NOT_FOUND)
            return ship_stall(s, &err);
        ship_fence(s, "the log in the cache store has no beginning any more, so this host has lost "
                      "its state; to protect the disks anew, disable the VM and enable it under "
                      "another name: the points of this one stay");
        return 0;
    }
    if (journal_slot(s->journal) != 0 && journal_slot(s->journal) <= s->state.epoch)
        if (!journal_clear(s->journal, &err))
            return ship_stall(s, &err);
    uint64_t slot = s->state.epoch + 1;
    const struct journal_attempt *ours = NULL;
    struct buf stored AUTO_BUF = BUF_NONE;
    enum numlog_result result = read_slot(s, slot, &ours, &stored, &err);
    bool ok = true, was_cut;
    switch (result) {
    case NUMLOG_DONE:
        if (ours == NULL) {
            fence_foreign(s, slot, buf_span(&stored));
            return 0;
        }
        was_cut = ours->kind == EPOCH_CUT;
        ok = settle_ours(s, ours, &err);
        if (s->state.epoch == slot && was_cut)
            ship_point_made(s);
        break;
    case NUMLOG_ABSENT:
        if (ship_is_behind(s)) {
            fence_behind(s);
            return 0;
        }
        ok = settle_absent(s, &err);
        break;
    case NUMLOG_OVERTAKEN:
        fence_overtaken(s);
        return 0;
    case NUMLOG_TAKEN:
    case NUMLOG_DOUBT:
    case NUMLOG_FAILED:
        ok = false;
        break;
    }
    if (!ok)
        return ship_stall(s, &err);
    /* Where a cut failed it is the next one that tells whether all is well again. */
    if (s->next_cut_ms > 0 || source_dirty_blocks(s->config.source) == 0) {
        s->seen.state = REPLICATION_PROTECTED;
        s->seen.reason[0] = '\0';
    }
    s->slot_seen_ms = ship_now_ms(s);
    s->phase = SHIP_IDLE;
    return 0;
}

static void fill_entry(struct shipper *s, enum epoch_kind kind, struct epoch_entry *entry)
{
    *entry = (struct epoch_entry){.kind = kind,
                                  .generation = s->state.generation,
                                  .epoch = s->state.epoch + 1,
                                  .previous = s->state.digest,
                                  .clock_ms = s->cut_clock_ms,
                                  .point_kind = s->cut_kind};
    memcpy(entry->vm, s->config.vm_id, sizeof entry->vm);
    if (kind != EPOCH_PASS)
        entry->point_ms = s->cut_point_ms;
    if (kind == EPOCH_CUT)
        snprintf(entry->label, sizeof entry->label, "%s", s->cut_label);
    ship_fill_disks(s, entry);
}

/* Puts the encoded entry into the next slot. The attempt is durable in the journal before that:
 * whoever comes after a crash must be able to tell our entry from a foreign one. */
static enum numlog_result put_entry(struct shipper *s, enum epoch_kind kind, struct span body,
                                    struct span changes, struct buf *other, struct err *err)
{
    struct journal_attempt attempt = {.attempt = pack_attempt(s->pack),
                                      .digest = sha256_of(body),
                                      .kind = kind,
                                      .point_ms = s->cut_point_ms,
                                      .changes = changes};
    uint64_t slot = s->state.epoch + 1;
    if (!journal_add(s->journal, slot, &attempt, err))
        return NUMLOG_FAILED;
    enum numlog_result result = numlog_put(&s->log, slot, body, &s->state.digest, other, err);
    if (result == NUMLOG_FAILED)
        journal_refused(s->journal);
    if (result == NUMLOG_TAKEN && find_ours(s, buf_span(other)) != NULL)
        result = NUMLOG_DOUBT; /* an earlier attempt of ours: settling will find it */
    return result;
}

/* What to do about an entry that did not get its slot. The open cut, if any, is given up. */
static uint64_t put_failed(struct shipper *s, enum numlog_result result, struct span other,
                           const struct err *err)
{
    if (result == NUMLOG_TAKEN) {
        fence_foreign(s, s->state.epoch + 1, other);
        return 0;
    }
    if (result == NUMLOG_OVERTAKEN) {
        fence_overtaken(s);
        return 0;
    }
    if (s->phase == SHIP_PUT)
        ship_abandon(s, err->text);
    s->phase = SHIP_SETTLE;
    ship_note_room(s, err);
    return ship_stall(s, err);
}

static uint64_t put_kind(struct shipper *s, enum epoch_kind kind)
{
    struct buf body AUTO_BUF = BUF_NONE, other AUTO_BUF = BUF_NONE;
    struct epoch_entry entry;
    struct err err = ERR_NONE;
    fill_entry(s, kind, &entry);
    enum numlog_result result = NUMLOG_FAILED;
    if (pack_finish(s->pack, &entry, &body, &err))
        result = put_entry(s, kind, buf_span(&body), pack_changes(s->pack), &other, &err);
    if (result != NUMLOG_DONE)
        return put_failed(s, result, buf_span(&other), &err);
    s->seen.shipped_bytes += pack_stored_bytes(s->pack);
    uploads_count(s->uploads, (struct uploads_done){.plain_bytes = pack_waiting_bytes(s->pack),
                                                    .stored_bytes = body.length});
    size_t last = journal_attempts(s->journal) - 1;
    if (!settle_ours(s, journal_attempt(s->journal, last), &err)) {
        /* It is in the log, but we could not write that down: settling does it later. */
        if (s->phase == SHIP_PUT)
            ship_abandon(s, err.text);
        s->phase = SHIP_SETTLE;
        return ship_stall(s, &err);
    }
    pack_release(&s->pack);
    return 0;
}

uint64_t ship_put(struct shipper *s)
{
    return put_kind(s, s->pass ? EPOCH_PASS : EPOCH_CUT);
}

uint64_t ship_heartbeat(struct shipper *s, uint64_t clock_ms)
{
    struct err err = ERR_NONE;
    if (!ship_begin_pack(s, &err))
        return ship_stall(s, &err);
    ship_set_time(s, clock_ms);
    s->cut_kind = POINT_CRASH;
    uint64_t wait = put_kind(s, EPOCH_HEARTBEAT);
    pack_release(&s->pack);
    return wait;
}

/* While the target lacks something, news is asked for at the pace of the cuts. */
static uint64_t look_pause_ms(const struct shipper *s)
{
    uint64_t pace = s->config.cut_interval_ms;
    return s->unapplied_count == 0 ? LOOK_IDLE_MS
           : pace < LOOK_MIN_MS    ? LOOK_MIN_MS
           : pace > LOOK_MAX_MS    ? LOOK_MAX_MS
                                   : pace;
}

static void take_progress(struct shipper *s)
{
    struct processor_progress progress;
    struct err err = ERR_NONE;
    if (!progress_read(s->caches[0], s->vm, s->config.keys, &progress, &err)) {
        if (err.kind != ERR_NOT_FOUND)
            log_debug("%s: no news from the processor: %s", s->vm, err.text);
        return;
    }
    if (progress.generation.id != s->state.generation.id)
        return;
    s->seen.applied_epoch = progress.applied_epoch;
    s->seen.applied_ms = progress.applied_point_ms;
    snprintf(s->seen.processor, sizeof s->seen.processor, "%s", progress.health);
    size_t done = 0;
    while (done < s->unapplied_count && s->unapplied[done].epoch <= progress.applied_epoch)
        done++;
    s->unapplied_count -= done;
    memmove(s->unapplied, s->unapplied + done, s->unapplied_count * sizeof *s->unapplied);
}

void ship_look(struct shipper *s)
{
    take_progress(s);
    s->next_look_ms = ship_now_ms(s) + look_pause_ms(s);
}

bool ship_is_behind(const struct shipper *s)
{
    return s->seen.applied_epoch > s->state.epoch;
}

void ship_look_soon(struct shipper *s)
{
    uint64_t next_ms = ship_now_ms(s) + look_pause_ms(s);
    if (next_ms < s->next_look_ms)
        s->next_look_ms = next_ms;
}
