/* SPDX-License-Identifier: MIT */
#include "fs/disk/shipper.h"

#include "common/deadline.h"
#include "common/log.h"
#include "fs/disk/ship.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BACKLOG_CUTS 6u /* a lag of so many cut intervals is a backlog */
#define COUNT_MS     2000u
#define LATE_MS      3600000u

const char *replication_state_name(enum replication_state state)
{
    static const char *const names[] = {
        [REPLICATION_INITIAL] = "initial-replication",
        [REPLICATION_PROTECTED] = "protected",
        [REPLICATION_BACKLOG] = "backlog",
        [REPLICATION_NOT_CONVERGING] = "not-converging",
        [REPLICATION_PAUSED] = "paused",
        [REPLICATION_RESYNC] = "resync",
        [REPLICATION_STALLED] = "stalled",
        [REPLICATION_FENCED] = "fenced",
    };
    return names[state];
}

static void log_key(void *context, uint64_t n, char *out)
{
    const struct shipper *s = context;
    key_epoch(out, s->vm, s->config.generation, n);
}

static void begin_resync(struct shipper *s, const char *why)
{
    s->state.initial_done = false;
    snprintf(s->resync_reason, sizeof s->resync_reason, "%s", why);
    log_warning("%s: resync: %s; every block is compared with the replica", s->vm, why);
}

/* What happened to the local files while they were not ours (design 6.8). */
static bool check_local(struct shipper *s, struct err *err)
{
    struct source *source = s->config.source;
    enum clean_record clean;
    char why[200];
    bool replaced = false;
    /* A cancel or a reprotect may have made the state anew below the mount: nothing is held there.
     */
    bool anew = s->state.compare_all || !s->state.begun;
    if (source_adopted(source))
        return (!anew || held_record_make(s->config.world, s->folder, source, err)) &&
               clean_record_void(s->config.world, s->folder, err);
    if (!s->state.begun) /* an older record would be believed later */
        return held_record_make(s->config.world, s->folder, source, err) &&
               clean_record_void(s->config.world, s->folder, err);
    if (!clean_record_compare(s->config.world, s->folder, source, &s->state, &clean, why, err) ||
        (clean == CLEAN_ABSENT &&
         !held_record_compare(s->config.world, s->folder, source, &replaced, why, err)))
        return false;
    if (replaced)
        clean = CLEAN_DIFFERS;
    for (size_t i = 0; clean == CLEAN_ABSENT && i < source_disks(source); i++) {
        struct world_stat st;
        if (!source_disk_stat(source, i, &st) ||
            !(st.block_device || source_written_behind(source, i, &st)))
            continue;
        clean = CLEAN_DIFFERS;
        snprintf(why, sizeof why, "disk %s %s", source_disk_name(source, i),
                 st.block_device ? "is a block device that was not held all the time"
                                 : "was written after the mount that held it died");
    }
    if (clean == CLEAN_DIFFERS) {
        if (!source_mark_all(source, err))
            return false;
        begin_resync(s, why);
        if (!ship_state_save(s->config.world, s->folder, &s->state, err))
            return false;
    }
    /* After the marks: the records are all that tell of the difference until they are durable. */
    return held_record_make(s->config.world, s->folder, source, err) &&
           clean_record_void(s->config.world, s->folder, err);
}

/* The digests were adopted from a vault: nothing is known of which blocks differ from them. The
 * marks are durable before that is forgotten. */
static bool check_adopted(struct shipper *s, struct err *err)
{
    if (!s->state.compare_all)
        return true;
    if (!source_mark_all(s->config.source, err))
        return false;
    s->state.compare_all = false;
    return ship_state_save(s->config.world, s->folder, &s->state, err);
}

static bool open_machine(struct shipper *s, struct err *err)
{
    const struct shipper_config *c = &s->config;
    char path[sizeof s->folder + 16];
    snprintf(path, sizeof path, "%s/journal", s->folder);
    s->chunk = malloc((size_t)CUT_TAKE_BLOCKS_MAX * BLOCK_BYTES);
    if (s->chunk == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!ship_state_load(c->world, s->folder, c->generation, &s->state, err) ||
        !journal_open(c->world, path, c->generation, &s->journal, err) ||
        !uploads_make(c->world, c->uploads_max, &s->uploads, err) || !check_local(s, err) ||
        !check_adopted(s, err))
        return false;
    source_checked(c->source);
    s->log = (struct numlog){
        .store = s->caches[0], .bytes_max = EPOCH_BYTES_MAX, .key = log_key, .context = s};
    s->phase = s->state.fenced[0] != '\0' ? SHIP_FENCED : SHIP_SETTLE;
    s->requests.paused = s->state.paused;
    s->last_entry_ms = ship_now_ms(s);
    if (s->state.point_epoch > 0) /* until progress says that it is applied */
        ship_note_unapplied(s, s->state.point_epoch, s->last_entry_ms);
    ship_publish(s);
    return true;
}

bool shipper_open(const struct shipper_config *config, struct shipper **out, struct err *err)
{
    assert(config->cache_count > 0 && config->cache_count <= VM_DISKS_MAX + 1);
    assert(config->cut_interval_ms >= CUT_INTERVAL_MIN_MS &&
           config->cut_interval_ms <= CUT_INTERVAL_MAX_MS);
    struct shipper *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    s->config = *config;
    memcpy(s->caches, config->caches, config->cache_count * sizeof *s->caches);
    snprintf(s->vm, sizeof s->vm, "%s", config->vm);
    snprintf(s->folder, sizeof s->folder, "%s", config->state_folder);
    pthread_mutex_init(&s->lock, NULL);
    deadline_cond_init(&s->change);
    if (!open_machine(s, err)) {
        shipper_close(&s);
        return false;
    }
    *out = s;
    return true;
}

void shipper_close(struct shipper **shipper)
{
    struct shipper *s = *shipper;
    if (s == NULL)
        return;
    assert(!s->running);
    *shipper = NULL;
    pack_release(&s->pack);
    uploads_release(&s->uploads);
    journal_close(&s->journal);
    free(s->chunk);
    pthread_cond_destroy(&s->change);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint64_t shipper_step(struct shipper *s)
{
    uint64_t wait_ms = ship_step(s);
    ship_publish(s);
    return wait_ms;
}

static struct timespec bounded_deadline(uint64_t ms)
{
    return deadline_after(ms < LATE_MS ? ms : LATE_MS);
}

static void *ship_thread(void *context)
{
    struct shipper *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        uint64_t seen = s->requests.asked;
        pthread_mutex_unlock(&s->lock);
        uint64_t wait_ms = shipper_step(s);
        struct timespec until = bounded_deadline(wait_ms);
        pthread_mutex_lock(&s->lock);
        /* A request cuts the wait short, but not a step that polls something. */
        if (wait_ms > 0 && !s->stopping && s->requests.asked == seen)
            pthread_cond_timedwait(&s->change, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool shipper_start(struct shipper *s, struct err *err)
{
    assert(!s->running);
    int rc = pthread_create(&s->thread, NULL, ship_thread, s);
    if (rc != 0)
        return err_errno(err, rc, "cannot start the shipper's thread");
    s->running = true;
    return true;
}

static void cancel_stores(struct shipper *s, bool cancelled)
{
    for (size_t i = 0; i < s->config.cache_count; i++)
        store_cancel(s->caches[i], cancelled);
}

/* The bound of a stop: when it passes, store calls that still wait are ended. */
struct stop_bound {
    struct shipper *shipper;
    pthread_t thread;
    bool running;
    bool over; /* guarded by the shipper's lock */
    struct timespec until;
};

static void *watch_stop(void *context)
{
    struct stop_bound *b = context;
    struct shipper *s = b->shipper;
    pthread_mutex_lock(&s->lock);
    int rc = 0;
    while (!b->over && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&s->change, &s->lock, &b->until);
    bool late = !b->over;
    pthread_mutex_unlock(&s->lock);
    if (late)
        cancel_stores(s, true);
    return NULL;
}

/* Without a thread to spare, a store that does not answer ends by its own time-outs. */
static void stop_bound_begin(struct stop_bound *b, struct shipper *s, uint64_t timeout_ms)
{
    *b = (struct stop_bound){.shipper = s, .until = bounded_deadline(timeout_ms)};
    b->running = pthread_create(&b->thread, NULL, watch_stop, b) == 0;
}

static void stop_bound_end(struct stop_bound *b)
{
    struct shipper *s = b->shipper;
    if (!b->running)
        return;
    pthread_mutex_lock(&s->lock);
    b->over = true;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    pthread_join(b->thread, NULL);
    cancel_stores(s, false);
}

static void join(struct shipper *s)
{
    if (!s->running)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->running = false;
}

static bool all_shipped(const struct shipper *s)
{
    return s->phase == SHIP_IDLE && source_dirty_blocks(s->config.source) == 0 && s->passes == 0 &&
           s->state.initial_done;
}

/* Steps on until nothing is dirty, the time is over, or nothing more can be shipped. */
static bool ship_rest(struct shipper *s, uint64_t timeout_ms, struct err *err)
{
    uint64_t end = ship_now_ms(s) + timeout_ms;
    s->final = true;
    while (!all_shipped(s)) {
        if (s->phase == SHIP_FENCED)
            return err_set(err, ERR_FENCED, "replication is fenced: %s", s->state.fenced);
        if (s->state.paused)
            return err_set(err, ERR_INVALID,
                           "replication is paused; what is left ships after "
                           "`farshore resume`");
        if (ship_now_ms(s) >= end)
            return err_set(
                err, ERR_TRANSIENT,
                "%llu bytes could not be shipped in time%s%s; they ship after the next "
                "mount",
                (unsigned long long)(source_dirty_blocks(s->config.source) * BLOCK_BYTES),
                s->seen.reason[0] ? ": " : "", s->seen.reason);
        uint64_t wait_ms = shipper_step(s);
        uint64_t now = ship_now_ms(s);
        uint64_t left_ms = end > now ? end - now : 0;
        if (wait_ms > left_ms)
            wait_ms = left_ms;
        if (wait_ms > 0) {
            struct timespec pause = {.tv_sec = (time_t)(wait_ms / 1000),
                                     .tv_nsec = (long)(wait_ms % 1000) * 1000000};
            nanosleep(&pause, NULL);
        }
    }
    return true;
}

static void end_open_cut(struct shipper *s)
{
    while (s->phase == SHIP_DRAIN)
        shipper_step(s);
    if (s->phase == SHIP_TAKE || s->phase == SHIP_PUT)
        ship_abandon(s, "the mount ends");
}

bool shipper_stop(struct shipper *s, bool final_cut, uint64_t timeout_ms, struct err *err)
{
    struct stop_bound bound;
    stop_bound_begin(&bound, s, final_cut ? timeout_ms : 0);
    join(s);
    bool shipped = !final_cut || ship_rest(s, timeout_ms, err);
    end_open_cut(s);
    stop_bound_end(&bound);
    /* The clean record is worth making also when something is left to ship: marks cover that. A
     * fenced source clears none: what it shipped may count for nobody. */
    struct err local = ERR_NONE;
    if (!source_sync(s->config.source, &local) ||
        (s->phase != SHIP_FENCED && !source_sweep(s->config.source, true, &local)) ||
        !clean_record_make(s->config.world, s->folder, s->config.source, &s->state, &local)) {
        log_warning("%s: the stop is not recorded as clean: %s", s->vm, local.text);
        if (shipped)
            *err = local;
        return false;
    }
    return shipped;
}

static bool fenced_locked(const struct shipper *s, struct err *err)
{
    return s->status.state == REPLICATION_FENCED &&
           !err_set(err, ERR_FENCED, "replication is fenced: %s", s->status.reason);
}

bool shipper_request_point(struct shipper *s, enum point_kind kind, const char *label,
                           uint64_t *ticket, struct err *err)
{
    LOCK_SCOPE(&s->lock);
    if (fenced_locked(s, err))
        return false;
    if (s->requests.paused)
        return err_set(err, ERR_INVALID, "replication is paused; run `farshore resume %s` first",
                       s->vm);
    if (strlen(label) > POINT_LABEL_MAX)
        return err_set(err, ERR_INVALID, "a label has at most %u bytes", POINT_LABEL_MAX);
    if (!label_valid(label))
        return err_set(err, ERR_INVALID,
                       "a label is UTF-8 text without control characters: give another one");
    if (kind == POINT_APPLICATION || s->requests.kind != POINT_APPLICATION)
        s->requests.kind = kind;
    if (label[0] != '\0')
        snprintf(s->requests.label, sizeof s->requests.label, "%s", label);
    *ticket = ++s->requests.ticket;
    s->requests.asked++;
    pthread_cond_broadcast(&s->change);
    return true;
}

/* The first answer that covers the ticket; NULL while there is none. */
static const struct point_result *answer_locked(const struct shipper *s, uint64_t ticket)
{
    size_t kept = s->result_count < POINT_RESULTS_MAX ? s->result_count : POINT_RESULTS_MAX;
    for (size_t i = s->result_count - kept; i < s->result_count; i++)
        if (s->results[i % POINT_RESULTS_MAX].ticket >= ticket)
            return &s->results[i % POINT_RESULTS_MAX];
    return NULL;
}

bool shipper_wait_cut(struct shipper *s, uint64_t ticket, uint64_t timeout_ms, struct err *err)
{
    struct timespec until = bounded_deadline(timeout_ms);
    bool late = false;
    LOCK_SCOPE(&s->lock);
    while (s->requests.cut_ticket < ticket && !late && !s->stopping)
        late = pthread_cond_timedwait(&s->change, &s->lock, &until) == ETIMEDOUT;
    if (s->requests.cut_ticket >= ticket)
        return true;
    if (s->requests.late_ticket < ticket)
        s->requests.late_ticket = ticket;
    return err_set(err, ERR_TRANSIENT,
                   "no cut could be made in that time (state %s%s%s): the point will be "
                   "crash-consistent only",
                   replication_state_name(s->status.state), s->status.reason[0] ? ": " : "",
                   s->status.reason);
}

bool shipper_wait_point(struct shipper *s, uint64_t ticket, uint64_t timeout_ms, uint64_t *point_ms,
                        uint64_t *epoch, struct err *err)
{
    struct timespec until = bounded_deadline(timeout_ms);
    LOCK_SCOPE(&s->lock);
    const struct point_result *r;
    while ((r = answer_locked(s, ticket)) == NULL) {
        if (s->stopping)
            return err_set(err, ERR_CANCELLED, "the mount ends before the point was made");
        if (pthread_cond_timedwait(&s->change, &s->lock, &until) == ETIMEDOUT &&
            answer_locked(s, ticket) == NULL)
            return err_set(err, ERR_TRANSIENT,
                           "the point is not durable in the cache store yet (state %s%s%s); it is "
                           "made as soon as it can be",
                           replication_state_name(s->status.state), s->status.reason[0] ? ": " : "",
                           s->status.reason);
    }
    if (r->err.kind != ERR_OK) {
        *err = r->err;
        return false;
    }
    *point_ms = r->point_ms;
    *epoch = r->epoch;
    return true;
}

bool shipper_pause(struct shipper *s, bool paused, struct err *err)
{
    LOCK_SCOPE(&s->lock);
    if (fenced_locked(s, err))
        return false;
    s->requests.paused = paused;
    s->requests.pause_changed = true;
    s->requests.asked++;
    pthread_cond_broadcast(&s->change);
    return true;
}

bool shipper_resync(struct shipper *s, struct err *err)
{
    LOCK_SCOPE(&s->lock);
    if (fenced_locked(s, err))
        return false;
    s->requests.resync = true;
    s->requests.asked++;
    pthread_cond_broadcast(&s->change);
    return true;
}

bool shipper_wait_asked(struct shipper *s, uint64_t timeout_ms, struct err *err)
{
    struct timespec until = bounded_deadline(timeout_ms);
    LOCK_SCOPE(&s->lock);
    uint64_t asked = s->requests.asked;
    bool late = false;
    while (s->requests.taken < asked && !late && !s->stopping && !fenced_locked(s, err))
        late = pthread_cond_timedwait(&s->change, &s->lock, &until) == ETIMEDOUT;
    if (s->requests.taken >= asked)
        return true;
    if (fenced_locked(s, err))
        return false;
    if (s->stopping)
        return err_set(err, ERR_CANCELLED,
                       "the mount ends, perhaps before this was recorded: give "
                       "the command again after the next one");
    return err_set(err, ERR_TRANSIENT,
                   "this is not recorded yet (state %s%s%s): it will be as soon as it can be; give "
                   "the command again to be sure",
                   replication_state_name(s->status.state), s->status.reason[0] ? ": " : "",
                   s->status.reason);
}

void shipper_set_cut_interval(struct shipper *s, uint64_t ms)
{
    assert(ms >= CUT_INTERVAL_MIN_MS && ms <= CUT_INTERVAL_MAX_MS);
    LOCK_SCOPE(&s->lock);
    s->requests.cut_interval_ms = ms;
    s->requests.asked++;
    pthread_cond_broadcast(&s->change);
}

static uint64_t age_seconds(uint64_t now_ms, uint64_t first_ms)
{
    return first_ms == 0 || first_ms >= now_ms ? 0 : (now_ms - first_ms) / 1000;
}

static void judge_state(const struct shipper *s, struct shipper_status *out)
{
    if (s->phase == SHIP_FENCED) {
        out->state = REPLICATION_FENCED;
        snprintf(out->reason, sizeof out->reason, "%s", s->state.fenced);
    } else if (s->state.paused) {
        out->state = REPLICATION_PAUSED;
    } else if (s->retry_ms > 0 && s->seen.state == REPLICATION_STALLED) {
        out->state = REPLICATION_STALLED;
    } else if (s->resync_reason[0] != '\0') {
        out->state = REPLICATION_RESYNC;
        snprintf(out->reason, sizeof out->reason, "%s", s->resync_reason);
    } else if (!s->state.initial_done) {
        out->state = REPLICATION_INITIAL;
    } else {
        out->state = REPLICATION_PROTECTED; /* or what judge_ages and judge_pace make of it */
    }
}

/* A scan of the maps: too dear for every step while a huge disk is dirty as a whole. */
static void count_dirty(struct shipper *s, uint64_t now)
{
    if (s->phase != SHIP_IDLE && now < s->counted_ms + COUNT_MS)
        return;
    s->dirty_bytes = source_dirty_blocks(s->config.source) * BLOCK_BYTES;
    s->counted_ms = now;
}

/* The ages are those of the moment of asking: the machine may sleep for an hour, or wait for a
 * store, while the guest writes. */
static void judge_ages(struct shipper *s, struct shipper_status *out)
{
    uint64_t backlog = s->config.cut_interval_ms * BACKLOG_CUTS / 1000;
    uint64_t now = ship_now_ms(s), written = source_first_write_ms(s->config.source);
    uint64_t waiting = ship_oldest(written, s->cache_lacks_ms);
    out->cache_lag_seconds = age_seconds(now, waiting);
    out->rpo_seconds = age_seconds(now, ship_oldest(waiting, s->target_lacks_ms));
    if (out->state == REPLICATION_PROTECTED && out->cache_lag_seconds > backlog)
        out->state = REPLICATION_BACKLOG;
}

static struct pace_counts counts_of(struct shipper *s)
{
    struct uploads_done done = uploads_done(s->uploads);
    return (struct pace_counts){.changed = source_changed_bytes(s->config.source),
                                .dirtied = source_dirtied_bytes(s->config.source),
                                .shipped = done.plain_bytes - s->given_up_bytes,
                                .stored = done.stored_bytes};
}

void ship_pace_cut(struct shipper *s, uint64_t dirty_bytes)
{
    LOCK_SCOPE(&s->lock);
    struct pace_counts counts = counts_of(s);
    pace_cut(&s->pace, dirty_bytes, &counts);
}

void ship_pace_abandon(struct shipper *s)
{
    LOCK_SCOPE(&s->lock);
    uint64_t shipped = counts_of(s).shipped;
    s->given_up_bytes += shipped - s->pace.at_cut.shipped;
}

static void explain_locked(const struct shipper *s, struct shipper_status *out)
{
    char pace[PACE_TEXT_MAX];
    pace_explain(&out->forecast, pace);
    snprintf(out->reason, sizeof out->reason, "%s%s", pace,
             s->undo_short ? "; there is no room in the state folder to keep old blocks while a "
                             "cut is read, so changes ship without a point"
                           : "");
}

static void judge_pace_locked(struct shipper *s, struct shipper_status *out)
{
    uint64_t now = ship_now_ms(s);
    struct pace_counts counts = counts_of(s);
    pace_note(&s->pace, now, &counts);
    pace_judge(&s->pace, now, &counts, s->busy, out->cache_lag_seconds * 1000, &out->forecast);
    switch (out->state) {
    case REPLICATION_PROTECTED:
    case REPLICATION_BACKLOG:
        if (out->forecast.hopeless)
            out->state = REPLICATION_NOT_CONVERGING;
        else if (s->undo_short)
            out->state = REPLICATION_BACKLOG;
        if (out->state == REPLICATION_PROTECTED)
            out->forecast.quiet_seconds = out->forecast.catch_up_seconds = 0;
        else
            explain_locked(s, out);
        break;
    case REPLICATION_PAUSED:
    case REPLICATION_STALLED:
    case REPLICATION_FENCED:
        out->forecast.quiet_seconds = out->forecast.catch_up_seconds = PACE_UNKNOWN;
        break;
    default:
        break;
    }
}

void ship_publish(struct shipper *s)
{
    struct shipper_status out = s->seen;
    bool open = s->phase == SHIP_DRAIN || s->phase == SHIP_TAKE || s->phase == SHIP_PUT;
    uint64_t now = ship_now_ms(s);
    count_dirty(s, now);
    out.generation = s->state.generation;
    out.epoch = s->state.epoch;
    out.point_ms = s->state.point_ms;
    size_t first = 0;
    while (first < s->unapplied_count && s->unapplied[first].first_write_ms == 0)
        first++; /* a point without a write in it */
    out.dirty_bytes = s->dirty_bytes;
    out.undo_bytes = source_undo_bytes(s->config.source);
    uint64_t pass_ms = now - s->pass_began_ms;
    if (s->pass && open && pass_ms > 0)
        out.rate_bytes_per_second = out.pass_bytes_done * 1000 / pass_ms;
    judge_state(s, &out);
    LOCK_SCOPE(&s->lock);
    if (out.state == REPLICATION_FENCED && s->status.state != REPLICATION_FENCED)
        pthread_cond_broadcast(&s->change); /* nothing that is waited for comes any more */
    s->status = out;
    s->cache_lacks_ms = ship_oldest(s->pending_first_ms, open ? s->cut_first_ms : 0);
    s->target_lacks_ms = first < s->unapplied_count ? s->unapplied[first].first_write_ms : 0;
    s->busy = open || s->passes > 0;
    s->undo_short = s->lost_cuts > 0;
    struct pace_counts counts = counts_of(s);
    pace_note(&s->pace, now, &counts);
}

void shipper_status(struct shipper *s, struct shipper_status *out)
{
    struct err why = ERR_NONE;
    bool failed = uploads_failed(s->uploads, &why);
    LOCK_SCOPE(&s->lock);
    *out = s->status;
    if (failed && out->state == REPLICATION_PROTECTED) { /* the machine waits for other parts */
        out->state = REPLICATION_STALLED;
        snprintf(out->reason, sizeof out->reason, "%s", why.text);
    }
    judge_ages(s, out);
    judge_pace_locked(s, out);
}
