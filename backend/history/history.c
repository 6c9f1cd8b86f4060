/* SPDX-License-Identifier: MIT */
#include "backend/history/history_internal.h"

#include "backend/history/ahead.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

#define VAULT_BYTES_MAX (1u << 20)
#define APPEND_TRIES    8u
#define PACK_TRIES      2u
#define AHEAD_AFTER     4u /* records that came one by one: then more will */
#define AHEAD_FIRST     8u /* asked for together, then twice as many each time */

/* Room for `extra` more items of `size` bytes in the array at `*items`. */
static bool grow(void *items, size_t *room, size_t count, size_t extra, size_t size,
                 struct err *err)
{
    if (count + extra <= *room)
        return true;
    size_t wanted = *room * 2 > count + extra ? *room * 2 : count + extra + 16;
    void *bigger = realloc(*(void **)items, wanted * size);
    if (!bigger)
        return err_errno(err, ENOMEM, "reading the history");
    *(void **)items = bigger;
    *room = wanted;
    return true;
}

size_t history_line_find(const struct history *h, struct generation g)
{
    for (size_t i = h->line_count; i-- > 0;)
        if (h->lines[i].generation.id == g.id && h->lines[i].generation.number == g.number)
            return i;
    return HISTORY_NONE;
}

size_t history_epoch_find(const struct history *h, size_t line, uint64_t epoch)
{
    size_t i = line == HISTORY_NONE ? HISTORY_NONE : h->lines[line].last;
    if (i == HISTORY_NONE || epoch == 0 || epoch > epoch_at(h, i)->epoch)
        return HISTORY_NONE;
    return h->lines[line].indices[epoch - 1];
}

size_t history_line_tip(const struct history *h, size_t line)
{
    const struct line *l = &h->lines[line];
    return l->last != HISTORY_NONE ? l->last : l->fork;
}

/* --- taking in records --- */

static bool disk_sets_equal(const struct disk_set *a, const struct record *r)
{
    if (a->count != r->disk_count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct epoch_disk *x = &a->disks[i];
        const struct epoch_disk *y = &r->disks[i];
        if (strcmp(x->name, y->name) != 0 || x->disk != y->disk || x->store != y->store ||
            x->size_bytes != y->size_bytes)
            return false;
    }
    return true;
}

static bool disk_set_add(struct history *h, const struct record *r, struct err *err)
{
    if (h->set_count > 0 && disk_sets_equal(h->disk_sets[h->set_count - 1], r))
        return true;
    if (!grow(&h->disk_sets, &h->set_room, h->set_count, 1, sizeof *h->disk_sets, err))
        return false;
    struct disk_set *set = calloc(1, sizeof *set);
    if (!set)
        return err_errno(err, ENOMEM, "reading the history");
    set->count = r->disk_count;
    memcpy(set->disks, r->disks, sizeof set->disks);
    h->disk_sets[h->set_count++] = set;
    return true;
}

bool history_damaged(const struct history *h, const struct record *r, const char *what,
                     struct err *err)
{
    return err_set(err, ERR_CORRUPT, "history record %llu of %s in %s %s",
                   (unsigned long long)r->number, h->vm, h->target->url, what);
}

static bool absorb_generation(struct history *h, const struct record *r, struct err *err)
{
    size_t fork = HISTORY_NONE;
    if (history_line_find(h, r->generation) != HISTORY_NONE)
        return history_damaged(h, r, "begins a generation twice", err);
    if (r->parent.id != 0) {
        size_t parent = history_line_find(h, r->parent);
        if (parent == HISTORY_NONE)
            return history_damaged(h, r, "names an unknown parent generation", err);
        fork = r->parent_epoch > 0 ? history_epoch_find(h, parent, r->parent_epoch)
                                   : h->lines[parent].fork;
        if (r->parent_epoch > 0 && fork == HISTORY_NONE)
            return history_damaged(h, r, "forks at an epoch that was never applied", err);
        if (fork != HISTORY_NONE && epoch_at(h, fork) == NULL)
            return history_damaged(h, r, "forks at an epoch that is gone", err);
    }
    if (h->line_count >= HISTORY_GENERATIONS_MAX)
        return history_damaged(h, r, "is one generation too many", err);
    if (!grow(&h->lines, &h->line_room, h->line_count, 1, sizeof *h->lines, err))
        return false;
    h->points_stale = true;
    h->lines[h->line_count++] = (struct line){.generation = r->generation,
                                              .parent = r->parent,
                                              .parent_epoch = r->parent_epoch,
                                              .fork = fork,
                                              .last = HISTORY_NONE};
    if (fork != HISTORY_NONE)
        epoch_at(h, fork)->fork = true;
    return true;
}

bool history_run_object_parse(const char *key, struct sha256 *out)
{
    size_t prefix = strlen(SEGMENT_PREFIX);
    return strncmp(key, SEGMENT_PREFIX, prefix) == 0 &&
           hex_parse(key + prefix, out->bytes, SHA256_BYTES);
}

static void held_free(struct held_epoch **held)
{
    struct held_epoch *e = *held;
    if (e == NULL)
        return;
    free(e->label);
    free(e->runs);
    free(e);
    *held = NULL;
}

void history_epoch_forget(struct history *h, size_t index)
{
    held_free(&h->epochs[index].held);
    h->held_count--;
}

static bool held_make(struct history *h, const struct record *r, const struct record_epoch *e,
                      struct held_epoch **out, struct err *err)
{
    struct held_epoch *held CLEANUP(held_free) = malloc(sizeof *held);
    if (held == NULL)
        return err_errno(err, ENOMEM, "reading the history");
    *held = (struct held_epoch){
        .epoch = e->epoch,
        .point_ms = e->point_ms,
        .clock_ms = e->clock_ms,
        .until_ms = e->point_ms,
        .data_bytes = e->data_bytes,
        .run_offset = e->run_offset,
        .run_bytes = e->run_bytes,
        .entry_digest = e->entry_digest,
        .run_digest = e->run_digest,
        .kind = (uint8_t)e->kind,
        .point_kind = (uint8_t)e->point_kind,
    };
    memcpy(held->cut_id, e->cut_id, sizeof held->cut_id);
    if (e->run_bytes > 0 && !history_run_object_parse(e->run_key, &held->run_object))
        return history_damaged(h, r, "names no segment for a run", err);
    if (e->run_bytes > STORE_OBJECT_MAX || e->run_offset > STORE_OBJECT_MAX - e->run_bytes)
        return history_damaged(h, r, "places a run outside its object", err);
    if (e->label[0] != '\0' && !(held->label = strdup(e->label)))
        return err_errno(err, ENOMEM, "reading the history");
    *out = TAKE(held);
    return true;
}

/* Adds one epoch behind `line`'s tip; room is there. */
static bool absorb_epoch(struct history *h, const struct record *r, size_t line,
                         const struct record_epoch *e, struct err *err)
{
    struct line *l = &h->lines[line];
    size_t tip = history_line_tip(h, line);
    const struct held_epoch *before = tip != HISTORY_NONE ? epoch_at(h, tip) : NULL;
    size_t point = before ? before->point : HISTORY_NONE;
    struct held_epoch *held = NULL;

    if (e->epoch != (l->last == HISTORY_NONE ? 0 : epoch_at(h, l->last)->epoch) + 1)
        return history_damaged(h, r, "leaves a gap between epochs", err);
    if (e->kind == EPOCH_CUT && point != HISTORY_NONE &&
        e->point_ms <= epoch_at(h, point)->point_ms)
        return history_damaged(h, r, "holds a point that is not later than the one before", err);
    if (!held_make(h, r, e, &held, err))
        return false;
    held->before = tip;
    held->line = (uint32_t)line;
    held->disks = (uint32_t)(h->set_count - 1);
    held->point = e->kind == EPOCH_CUT ? h->epoch_count : point;
    held->point_bytes = e->data_bytes;
    if (before && before->kind != EPOCH_CUT)
        held->point_bytes += before->point_bytes;
    l->last = h->epoch_count;
    l->indices[e->epoch - 1] = (uint32_t)h->epoch_count;
    if (e->kind == EPOCH_CUT && line == h->line_count - 1 && !h->points_stale)
        h->points[h->point_count++] = h->epoch_count;
    h->epochs[h->epoch_count++] =
        (struct epoch_slot){.held = held, .entry_head = load_u64(e->entry_digest.bytes)};
    h->held_count++;
    return true;
}

static void heartbeats_count(struct history *h, size_t from)
{
    for (size_t i = from; i < h->epoch_count; i++) {
        const struct held_epoch *e = epoch_at(h, i);
        /* One of a line that was left says nothing of a point that another line goes on from. */
        if (e->kind != EPOCH_HEARTBEAT || e->point == HISTORY_NONE || e->line != h->line_count - 1)
            continue;
        if (e->point_ms > epoch_at(h, e->point)->until_ms)
            epoch_at(h, e->point)->until_ms = e->point_ms;
    }
}

/* Takes the newest `count` epochs of `line` away again: a record counts whole or not at all. */
static void epochs_undo(struct history *h, size_t line, size_t count)
{
    for (; count > 0; count--) {
        size_t newest = --h->epoch_count;
        const struct held_epoch *e = epoch_at(h, newest);
        if (!h->points_stale && h->point_count > 0 && h->points[h->point_count - 1] == newest)
            h->point_count--;
        h->lines[line].last = e->before != HISTORY_NONE && epoch_at(h, e->before)->line == line
                                  ? e->before
                                  : HISTORY_NONE;
        history_epoch_forget(h, newest);
    }
}

static bool absorb_apply(struct history *h, const struct record *r, struct err *err)
{
    size_t line = history_line_find(h, r->generation);
    size_t first = h->epoch_count;

    if (line == HISTORY_NONE)
        return history_damaged(h, r, "applies epochs to an unknown generation", err);
    bool kept;
    if (r->epoch_count > history_room_locked(h, &kept))
        return err_set(err, ERR_FULL, "%s has more epochs in %s than farshore reads", h->vm,
                       h->target->url);
    struct line *l = &h->lines[line];
    size_t applied = l->last == HISTORY_NONE ? 0 : (size_t)epoch_at(h, l->last)->epoch;
    if (!grow(&l->indices, &l->index_room, applied, r->epoch_count, sizeof *l->indices, err) ||
        !grow(&h->epochs, &h->epoch_room, h->epoch_count, r->epoch_count, sizeof *h->epochs, err) ||
        !grow(&h->points, &h->point_room, h->held_count, r->epoch_count, sizeof *h->points, err) ||
        !disk_set_add(h, r, err))
        return false;
    for (uint32_t i = 0; i < r->epoch_count; i++)
        if (!absorb_epoch(h, r, line, &r->epochs[i], err)) {
            epochs_undo(h, line, i);
            return false;
        }
    heartbeats_count(h, first);
    return true;
}

static void absorb_verdict(struct history *h, const struct record *r)
{
    size_t i = history_epoch_find(h, history_line_find(h, r->generation), r->judged_epoch);
    struct held_epoch *e = i != HISTORY_NONE ? epoch_at(h, i) : NULL;
    if (e != NULL && e->kind == EPOCH_CUT)
        e->verdict = r->kind == RECORD_DAMAGED ? POINT_DAMAGED : POINT_VERIFIED;
}

static bool absorb(struct history *h, const struct record *r, struct err *err)
{
    if ((r->kind == RECORD_OPEN) != (r->number == 0))
        return history_damaged(h, r, "is not of a kind that belongs there", err);
    switch (r->kind) {
    case RECORD_OPEN:
        return true;
    case RECORD_GENERATION:
        return absorb_generation(h, r, err);
    case RECORD_APPLY:
        return absorb_apply(h, r, err);
    case RECORD_VERIFIED:
    case RECORD_DAMAGED:
        absorb_verdict(h, r);
        return true;
    case RECORD_THIN:
        return history_absorb_thin(h, r, err);
    case RECORD_MERGE:
        return history_absorb_merge(h, r, err);
    case RECORD_DROP:
        return history_absorb_drop(h, r, err);
    }
    return history_damaged(h, r, "is of an unknown kind", err);
}

bool history_take(struct history *h, struct span stored, struct err *err)
{
    struct record r CLEANUP(record_release) = {.epochs = NULL};

    if (!record_decode(stored, h->keys, h->vault.vm, h->next_record, &r, err))
        return err_wrap(err, "history record %llu of %s in %s", (unsigned long long)h->next_record,
                        h->vm, h->target->url);
    if (h->next_record > 0 && !digests_equal(&r.previous, &h->last_record, SHA256_BYTES))
        return history_damaged(h, &r, "does not follow from the one before", err);
    LOCK_SCOPE(&h->lock);
    if (!absorb(h, &r, err))
        return false;
    h->next_record++;
    h->last_record = sha256_of(stored);
    return true;
}

/* Takes in what lies behind the records that were read, without the look back at each: every record
 * says which one it follows, and the newest is read as ever. So is one that is not there, or long.
 */
static bool read_ahead(struct history *h, struct err *err)
{
    for (size_t count = AHEAD_FIRST;; count = count < AHEAD_MOST ? count * 2 : count) {
        struct ahead a AUTO_AHEAD = {.store = h->target,
                                     .vm = h->vm,
                                     .key = key_history,
                                     .first = h->next_record,
                                     .step = 1,
                                     .bytes_max = AHEAD_BYTES_MAX};
        bool answered = ahead_load(&a, count, err);
        for (size_t i = 0; i < count; i++) {
            if (!a.there[i])
                return answered || err_wrap(err, "reading the history of %s", h->vm);
            if (!history_take(h, buf_span(&a.objects[i]), err))
                return false;
        }
    }
}

static bool refresh_locked(struct history *h, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    bool waits = store_waits(h->target);

    for (unsigned row = 0;; row++) {
        if (waits && row == AHEAD_AFTER) {
            row = 0;
            if (!read_ahead(h, err))
                return false;
        }
        const struct sha256 *previous = h->next_record > 0 ? &h->last_record : NULL;
        switch (numlog_read(&h->records.log, h->next_record, previous, &stored, err)) {
        case NUMLOG_DONE:
            if (!history_take(h, buf_span(&stored), err))
                return false;
            break;
        case NUMLOG_ABSENT:
            return true;
        case NUMLOG_OVERTAKEN:
            return err_set(err, ERR_CORRUPT,
                           "history record %llu of %s in %s is gone or other than it was: the "
                           "vault was rolled back or damaged; restore its objects",
                           (unsigned long long)h->next_record - 1, h->vm, h->target->url);
        default:
            return err_wrap(err, "reading the history of %s", h->vm);
        }
    }
}

bool history_refresh(struct history *h, struct err *err)
{
    struct err unused;
    LOCK_SCOPE(&h->refresh_lock);
    if (!refresh_locked(h, err ? err : &unused))
        return false;
    seen_keep(&h->seen, h->next_record, &h->last_record);
    return true;
}

bool history_remember(struct history *h, const uint8_t *vm, const char *folder, struct err *err)
{
    struct err unused;
    LOCK_SCOPE(&h->refresh_lock);
    if (!err)
        err = &unused;
    if (vm && memcmp(h->vault.vm, vm, VM_ID_BYTES) != 0)
        return err_set(err, ERR_CORRUPT,
                       "the vault of %s in %s is another VM's than the one that this host knows by "
                       "that name",
                       h->vm, h->target->url);
    if (!seen_begin(&h->seen, h->world, folder, "history", h->target->url, h->vault.vm, err))
        return false;
    /* Another process of this host may have seen what was added since the history was opened. */
    if ((h->seen.known && h->seen.number >= h->next_record && !refresh_locked(h, err)) ||
        !seen_check(&h->seen, &h->records.log, h->next_record, &h->last_record, err))
        return false;
    seen_keep(&h->seen, h->next_record, &h->last_record);
    return true;
}

static bool vault_load(struct history *h, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];

    key_vault(key, h->vm);
    if (!store_load(h->target, key, VAULT_BYTES_MAX, &stored, err)) {
        if (err->kind == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND,
                           "no VM %s in %s: it was never enabled there, or the URL is another's",
                           h->vm, h->target->url);
        return err_wrap(err, "reading the vault of %s", h->vm);
    }
    if (!vault_decode(buf_span(&stored), h->keys, &h->vault, err))
        return err_wrap(err, "%s in %s", key, h->target->url);
    if (strcmp(h->vault.name, h->vm) != 0)
        return err_set(err, ERR_CORRUPT, "%s in %s is the vault of %s", key, h->target->url,
                       h->vault.name);
    return true;
}

static bool history_make(struct world *w, struct store *target, const char *vm,
                         const struct keys *keys, struct history **out, struct err *err)
{
    struct history *h = calloc(1, sizeof *h);
    if (!h)
        return err_errno(err, ENOMEM, "opening the history of %s", vm);
    h->epochs_max = HISTORY_EPOCHS_MAX;
    h->held_max = HISTORY_HELD_MAX;
    h->pack_records = PACK_RECORDS;
    h->world = w;
    h->target = target;
    h->keys = keys;
    memcpy(h->vm, vm, strlen(vm) + 1);
    record_log_init(&h->records, target, h->vm);
    pthread_mutex_init(&h->refresh_lock, NULL);
    pthread_mutex_init(&h->lock, NULL);
    *out = h;
    return true;
}

bool history_open(struct world *w, struct store *target, const char *vm, const struct keys *keys,
                  struct history **out, struct err *err)
{
    struct err unused;
    struct history *h CLEANUP(history_close) = NULL;

    if (!err)
        err = &unused;
    if (!vm_name_valid(vm))
        return err_set(err, ERR_INVALID, "'%s' is not a VM name", vm);
    /* Packs twice: they may be read wrong once. Then the records, which alone say what it is. */
    for (unsigned tries = 0; tries <= PACK_TRIES; tries++) {
        bool packs = tries < PACK_TRIES;
        history_close(&h);
        *err = ERR_NONE;
        if (!history_make(w, target, vm, keys, &h, err) || !vault_load(h, err))
            return false;
        h->packs_wrong = !packs;
        if ((!packs || history_packs_read(h, err)) && history_refresh(h, err))
            break;
        if (!h->from_packs || (err->kind != ERR_CORRUPT && err->kind != ERR_WRONG_KEY))
            return false;
        log_warning("%s: its packs are of no use: %s", vm, err->text);
    }
    *out = TAKE(h);
    return true;
}

void history_close(struct history **h)
{
    struct history *x = *h;
    if (!x)
        return;
    for (size_t i = 0; i < x->epoch_count; i++)
        held_free(&x->epochs[i].held);
    for (size_t i = 0; i < x->line_count; i++)
        free(x->lines[i].indices);
    for (size_t i = 0; i < x->set_count; i++)
        free(x->disk_sets[i]);
    free(x->epochs);
    free(x->points);
    free(x->left);
    free(x->leaving);
    object_set_release(&x->dropped);
    free(x->lines);
    free(x->disk_sets);
    pthread_mutex_destroy(&x->lock);
    pthread_mutex_destroy(&x->refresh_lock);
    free(x);
    *h = NULL;
}

/* --- appending --- */

/* Under the refresh lock. */
static enum numlog_result append_locked(struct history *h, struct record *r, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt = {{0}};

    r->number = h->next_record;
    r->previous = h->last_record;
    r->written_ms = h->world->ops->realtime_ns(h->world) / 1000000;
    memcpy(r->vm, h->vault.vm, VM_ID_BYTES);
    struct sha256 content = sha256_of(span_of(&r->kind, sizeof r->kind));
    if (!salt_make(h->keys, SEAL_HISTORY, h->world, r->generation.id, 0, r->number, &content, &salt,
                   err) ||
        !record_encode(r, h->keys, &salt, &bytes, err))
        return NUMLOG_FAILED;
    return numlog_put(&h->records.log, r->number, buf_span(&bytes), &r->previous, NULL, err);
}

enum numlog_result history_append(struct history *h, uint64_t at, struct record *r, struct err *err)
{
    struct err unused;
    LOCK_SCOPE(&h->refresh_lock);
    if (!err)
        err = &unused;
    if (h->next_record != at)
        return NUMLOG_TAKEN;
    enum numlog_result result = append_locked(h, r, err);
    if (result == NUMLOG_DONE && !refresh_locked(h, err))
        return NUMLOG_DOUBT;
    return result;
}

bool history_append_verdict(struct history *h, const struct history_point *p,
                            enum point_verdict verdict, struct err *err)
{
    struct err unused;
    LOCK_SCOPE(&h->refresh_lock);
    if (!err)
        err = &unused;
    for (unsigned tries = 0; tries < APPEND_TRIES; tries++) {
        struct history_point now;
        struct record r = {.kind = verdict == POINT_DAMAGED ? RECORD_DAMAGED : RECORD_VERIFIED,
                           .generation = p->generation,
                           .judged_epoch = p->epoch};

        if (!refresh_locked(h, err) || !history_point_at(h, p->generation, p->epoch, &now, err))
            return false;
        if (now.verdict == verdict)
            return true;
        r.disk_count = (uint16_t)history_disks(h, p->index, r.disks);
        enum numlog_result result = append_locked(h, &r, err);
        if (result == NUMLOG_DOUBT || result == NUMLOG_FAILED)
            return err_wrap(err, "recording what was found in the point");
    }
    return err_set(err, ERR_BUSY, "others keep writing to the history of %s in %s; try again",
                   h->vm, h->target->url);
}
