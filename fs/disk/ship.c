/* SPDX-License-Identifier: MIT */
#include "fs/disk/ship.h"

#include "common/log.h"

#include <assert.h>
#include <stdio.h>

#define STEP_CHUNKS   64u /* at most 16 MiB are read in one step */
#define SWEEP_MS      60000u
#define DRAIN_POLL_MS 1u

uint64_t ship_now_ms(const struct shipper *s)
{
    return s->config.world->ops->boottime_ns(s->config.world) / 1000000;
}

static uint64_t clock_ms(const struct shipper *s)
{
    return s->config.world->ops->realtime_ns(s->config.world) / 1000000;
}

void ship_set_time(struct shipper *s, uint64_t now_ms)
{
    s->cut_clock_ms = now_ms;
    s->cut_point_ms = now_ms > s->state.point_ms ? now_ms : s->state.point_ms + 1;
}

void ship_abandon(struct shipper *s, const char *why)
{
    struct err ignored; /* parts of a cut that is given up */
    pack_release(&s->pack);
    if (!uploads_wait(s->uploads, &ignored))
        log_debug("%s: a part of an abandoned cut: %s", s->vm, ignored.text);
    ship_pace_abandon(s);
    source_cut_abandon(s->config.source);
    s->seen.abandoned_cuts++;
    log_warning("%s: a cut was abandoned, its blocks ship with the next one: %s", s->vm, why);
    if (s->cut_ticket != 0) {
        struct err err;
        err_set(&err, ERR_TRANSIENT, "the cut for this point was abandoned: %s; ask again", why);
        ship_answer(s, s->cut_ticket, 0, 0, &err);
    }
    s->cut_ticket = 0;
    s->next_cut_ms = 0; /* its blocks have waited already */
    s->phase = SHIP_SETTLE;
}

/* Takes over what was asked for since the last look; true when a point is wanted. */
static bool take_requests(struct shipper *s)
{
    LOCK_SCOPE(&s->lock);
    if (s->requests.ticket <= s->answered_ticket)
        return false;
    s->cut_ticket = s->requests.ticket;
    s->cut_kind = s->requests.kind;
    snprintf(s->cut_label, sizeof s->cut_label, "%s", s->requests.label);
    s->requests.kind = POINT_CRASH;
    s->requests.label[0] = '\0';
    return true;
}

static bool point_wanted(struct shipper *s)
{
    LOCK_SCOPE(&s->lock);
    return s->requests.ticket > s->answered_ticket;
}

/* The cut is made: who kept a guest quiet for it may let it go. It is decided here, and nowhere
 * later, whether the guest was quiet still. */
static void tell_cut(struct shipper *s)
{
    LOCK_SCOPE(&s->lock);
    if (s->cut_ticket == 0)
        return;
    if (s->cut_ticket <= s->requests.late_ticket)
        s->cut_kind = POINT_CRASH;
    s->requests.cut_ticket = s->cut_ticket;
    pthread_cond_broadcast(&s->change);
}

static void begin_cut(struct shipper *s, uint64_t dirty_bytes, uint64_t now)
{
    struct source *source = s->config.source;
    s->pass = dirty_bytes > s->config.pass_above_bytes || s->pass_next;
    s->pass_next = false;
    s->cut_ticket = 0;
    s->cut_kind = POINT_CRASH;
    s->cut_label[0] = '\0';
    if (!s->pass)
        take_requests(s);
    if (s->pass && s->passes == 0)
        s->pass_began_ms = now;
    /* Before the cut: the point shows all that was acknowledged by its time. */
    ship_set_time(s, clock_ms(s));
    ship_pace_cut(s, dirty_bytes);
    source_cut(source, !s->pass);
    tell_cut(s);
    s->cut_first_ms = source_cut_first_write_ms(source); /* until it has drained */
    s->at_disk = 0;
    s->at_block = 0;
    s->next_cut_ms = now + s->config.cut_interval_ms;
    s->seen.pass_bytes_total = s->pass ? dirty_bytes : 0;
    s->seen.pass_bytes_done = 0;
    s->phase = SHIP_DRAIN;
}

/* A proof for the intent marks: what is clean now is durable in the cache store, and is synced
 * here after it was written. */
static void sweep(struct shipper *s)
{
    struct err err = ERR_NONE;
    if (!source_sync(s->config.source, &err) || !source_sweep(s->config.source, false, &err))
        log_warning("%s: intent marks stay set: %s", s->vm, err.text);
    s->next_sweep_ms = ship_now_ms(s) + SWEEP_MS;
}

/* The machine's thread alone changes it, others read it under the lock. */
static void take_cut_interval_locked(struct shipper *s)
{
    uint64_t now = ship_now_ms(s), ms = s->requests.cut_interval_ms;
    if (ms == 0)
        return;
    s->requests.cut_interval_ms = 0;
    s->config.cut_interval_ms = ms;
    if (s->next_cut_ms > now + ms)
        s->next_cut_ms = now + ms;
}

static void give_up_cut(struct shipper *s, const char *why)
{
    if (s->phase == SHIP_TAKE || s->phase == SHIP_PUT)
        ship_abandon(s, why);
}

/* The open cut would call known what is to be compared. */
static bool take_resync(struct shipper *s, struct err *err)
{
    give_up_cut(s, "everything is compared anew");
    if (!source_mark_all(s->config.source, err))
        return false;
    s->state.initial_done = false;
    snprintf(s->resync_reason, sizeof s->resync_reason, "asked for");
    s->next_cut_ms = 0;
    return true;
}

static bool record_requests(struct shipper *s, const struct ship_requests *r, struct err *err)
{
    if (!r->pause_changed && !r->resync)
        return true;
    if (r->resync && !take_resync(s, err))
        return false;
    if (r->pause_changed)
        s->state.paused = r->paused;
    return ship_state_save(s->config.world, s->folder, &s->state, err);
}

/* What fails is tried again by the next step. A pause waits for no open cut, of which there may be
 * hours; who asked for it need not wait for what is on its way up either. */
static bool apply_requests(struct shipper *s, struct err *err)
{
    struct ship_requests r;
    {
        LOCK_SCOPE(&s->lock);
        take_cut_interval_locked(s);
        r = s->requests;
        s->requests.pause_changed = false;
        s->requests.resync = false;
    }
    bool good = record_requests(s, &r, err);
    {
        LOCK_SCOPE(&s->lock);
        if (good && s->requests.taken != r.asked) {
            s->requests.taken = r.asked;
            pthread_cond_broadcast(&s->change);
        } else if (!good) {
            s->requests.pause_changed |= r.pause_changed;
            s->requests.resync |= r.resync;
        }
    }
    if (good && s->state.paused)
        give_up_cut(s, "replication is paused");
    return good;
}

/* The target's progress, and whether we are fenced, is looked at meanwhile, however long the cut
 * interval is. */
static uint64_t idle_wait(const struct shipper *s, uint64_t now, uint64_t wait_ms)
{
    if (wait_ms > HEARTBEAT_MS)
        wait_ms = HEARTBEAT_MS;
    uint64_t look_ms = s->next_look_ms > now ? s->next_look_ms - now : 1;
    return s->unapplied_count > 0 && look_ms < wait_ms ? look_ms : wait_ms;
}

static uint64_t step_idle(struct shipper *s)
{
    struct err err = ERR_NONE;
    uint64_t now = ship_now_ms(s);
    if (!source_distrust(s->config.source, &err))
        return ship_stall(s, &err);
    if (now >= s->next_look_ms)
        ship_look(s);
    /* Who ships nothing for long, because it is paused or cuts seldom, must learn all the same that
     * the VM was claimed elsewhere: settling looks at the slot. A heartbeat would meet the fence.
     */
    if (ship_is_behind(s) || now >= s->slot_seen_ms + HEARTBEAT_MS + HEARTBEAT_MS / 10) {
        s->phase = SHIP_SETTLE;
        return 0;
    }
    if (s->state.paused)
        return idle_wait(s, now, s->config.cut_interval_ms);
    uint64_t clock = clock_ms(s); /* before the look at what is dirty: a heartbeat vouches for it */
    uint64_t dirty_bytes = source_dirty_blocks(s->config.source) * BLOCK_BYTES;
    bool wanted = point_wanted(s);
    bool first = s->state.point_epoch == 0 || !s->state.initial_done || s->state.pass_open;
    bool due = now >= s->next_cut_ms || s->passes > 0 || s->final;
    if (wanted || (due && (dirty_bytes > 0 || first))) {
        begin_cut(s, dirty_bytes, now);
        return 0;
    }
    if (dirty_bytes == 0 && now >= s->next_sweep_ms)
        sweep(s);
    if (now >= s->last_entry_ms + HEARTBEAT_MS && dirty_bytes == 0)
        return ship_heartbeat(s, clock);
    return idle_wait(s, now,
                     now < s->next_cut_ms ? s->next_cut_ms - now : s->config.cut_interval_ms);
}

static uint64_t step_drain(struct shipper *s)
{
    if (!source_cut_drained(s->config.source))
        return DRAIN_POLL_MS;
    s->cut_first_ms = source_cut_first_write_ms(s->config.source);
    s->phase = SHIP_TAKE;
    return 0;
}

bool ship_begin_pack(struct shipper *s, struct err *err)
{
    struct pack_config config = {.world = s->config.world,
                                 .keys = s->config.keys,
                                 .encrypt = s->config.encrypt,
                                 .vm = s->vm,
                                 .generation = s->state.generation,
                                 .caches = s->caches,
                                 .cache_count = s->config.cache_count,
                                 .uploads = s->uploads};
    memcpy(config.vm_id, s->config.vm_id, sizeof config.vm_id);
    return pack_begin(&config, s->state.epoch + 1, &s->pack, err);
}

/* Takes and packs the next chunk; *more false at the end of the last disk. */
static bool take_chunk(struct shipper *s, bool *more, struct err *err)
{
    struct source *source = s->config.source;
    struct extent e;
    bool found = false;
    *more = true;
    while (s->at_disk < source_disks(source)) {
        if (!source_cut_next(source, s->at_disk, s->at_block, &e, &found, err))
            return false;
        if (found)
            break;
        s->at_disk++;
        s->at_block = 0;
    }
    *more = found;
    if (!found)
        return true;
    struct pack_disk disk = {.number = source_disk_number(source, s->at_disk),
                             .store = source_disk_store(source, s->at_disk),
                             .digests = source_digests(source, s->at_disk)};
    struct mspan data = mspan_of(s->chunk, e.count * BLOCK_BYTES);
    uint64_t unreadable;
    if (!source_cut_take(source, s->at_disk, e, data, &unreadable, err))
        return false;
    s->at_block = extent_end(e);
    if (s->pass)
        s->seen.pass_bytes_done += data.length;
    return pack_add(s->pack, &disk, e, span_of_mspan(data), unreadable, err);
}

void ship_note_room(struct shipper *s, const struct err *err)
{
    s->little_room = err->kind == ERR_FULL;
    s->pass_next = s->pass_next || s->little_room;
}

static uint64_t fail_cut(struct shipper *s, const struct err *err)
{
    ship_abandon(s, err->text);
    ship_note_room(s, err);
    return ship_stall(s, err);
}

/* A pass commits an epoch now and then, so that its run and journal stay bounded. */
static bool pass_full(const struct shipper *s)
{
    return s->pass &&
           (pack_plain_bytes(s->pack) >= (s->little_room ? SMALL_EPOCH_BYTES : PASS_EPOCH_BYTES) ||
            pack_entries(s->pack) >= PASS_EPOCH_ENTRIES);
}

static uint64_t step_take(struct shipper *s)
{
    struct err err = ERR_NONE;
    bool more = true, full = false;
    if (s->pack == NULL && !ship_begin_pack(s, &err))
        return fail_cut(s, &err);
    for (unsigned i = 0; i < STEP_CHUNKS && more && !full; i++) {
        if (!take_chunk(s, &more, &err))
            return fail_cut(s, &err);
        full = pass_full(s);
    }
    if (source_cut_lost(s->config.source)) {
        ship_abandon(s, "no room is left to keep old blocks while it is read");
        /* The same cut again would be lost again; a pass needs no room, and leaves less to cut. */
        s->pass_next = true;
        s->lost_cuts++;
        return 0;
    }
    if (!more || full)
        s->phase = SHIP_PUT;
    return 0;
}

void ship_note_unapplied(struct shipper *s, uint64_t epoch, uint64_t first_write_ms)
{
    /* Beyond the bound the newest stand for each other, with the age of the oldest among them. */
    if (s->unapplied_count == SHIP_UNAPPLIED_MAX)
        first_write_ms =
            ship_oldest(first_write_ms, s->unapplied[--s->unapplied_count].first_write_ms);
    s->unapplied[s->unapplied_count++] =
        (struct unapplied){.epoch = epoch, .first_write_ms = first_write_ms};
    ship_look_soon(s);
}

uint64_t ship_oldest(uint64_t a_ms, uint64_t b_ms)
{
    if (a_ms == 0 || b_ms == 0)
        return a_ms + b_ms;
    return a_ms < b_ms ? a_ms : b_ms;
}

void ship_point_made(struct shipper *s)
{
    ship_note_unapplied(s, s->state.epoch, ship_oldest(s->pending_first_ms, s->cut_first_ms));
    s->pending_first_ms = 0;
    s->passes = 0;
    s->lost_cuts = 0;
    s->resync_reason[0] = '\0';
}

static void end_pass(struct shipper *s)
{
    s->pending_first_ms = ship_oldest(s->pending_first_ms, s->cut_first_ms);
    s->passes++;
}

static void end_point(struct shipper *s, bool made)
{
    if (made)
        ship_point_made(s);
    if (s->cut_ticket != 0) {
        ship_publish(s); /* who waited for the point finds it in the status */
        ship_answer(s, s->cut_ticket, s->state.point_ms, s->state.point_epoch, NULL);
    }
    s->cut_ticket = 0;
}

/* Nothing that was dirty differs from the replica, and nobody asked for a point. */
static bool nothing_to_say(const struct shipper *s)
{
    if (!pack_empty(s->pack))
        return false;
    return s->pass || (s->cut_ticket == 0 && s->state.initial_done && !s->state.pass_open);
}

static uint64_t step_put(struct shipper *s)
{
    bool whole = s->at_disk == source_disks(s->config.source);
    bool silent = nothing_to_say(s);
    if (silent) {
        struct err ignored; /* an empty pack uploaded nothing */
        uploads_count(s->uploads,
                      (struct uploads_done){.plain_bytes = pack_waiting_bytes(s->pack)});
        pack_release(&s->pack);
        if (!uploads_wait(s->uploads, &ignored))
            return fail_cut(s, &ignored);
    } else {
        uint64_t wait = ship_put(s);
        if (s->phase != SHIP_PUT)
            return wait;
    }
    s->retry_ms = 0;
    s->little_room = false;
    s->seen.state = REPLICATION_PROTECTED;
    s->seen.reason[0] = '\0';
    if (!whole) {
        s->phase = SHIP_TAKE; /* the pass goes on in the next epoch */
        return 0;
    }
    source_cut_commit(s->config.source);
    if (!s->pass)
        end_point(s, !silent);
    else if (s->state.pass_open) /* else the newest point still holds: nothing waits for one */
        end_pass(s);
    s->phase = SHIP_IDLE;
    if (ship_now_ms(s) >= s->next_sweep_ms)
        sweep(s);
    return 0;
}

uint64_t ship_step(struct shipper *s)
{
    struct err err = ERR_NONE;
    /* Also while the store is out of reach: what was asked for is durable all the same. */
    if (s->phase != SHIP_FENCED && s->phase != SHIP_DRAIN && !apply_requests(s, &err))
        return ship_stall(s, &err);
    switch (s->phase) {
    case SHIP_SETTLE:
        return ship_settle(s);
    case SHIP_IDLE:
        return step_idle(s);
    case SHIP_DRAIN:
        return step_drain(s);
    case SHIP_TAKE:
        return step_take(s);
    case SHIP_PUT:
        return step_put(s);
    case SHIP_FENCED:
        break;
    }
    return s->config.cut_interval_ms;
}
