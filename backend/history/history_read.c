/* SPDX-License-Identifier: MIT
 * What is held of a history, for who asks: points, epochs, lines, and names. */
#include "backend/history/history_internal.h"

#include "common/rfc3339.h"

#include <errno.h>
#include <stdio.h>

/* --- reading what is held --- */

const struct vault *history_vault(const struct history *h)
{
    return &h->vault;
}

struct world *history_world(const struct history *h)
{
    return h->world;
}

static bool is_listed(const struct held_epoch *e)
{
    return e->kind == EPOCH_CUT && !e->leaving;
}

void history_points_fresh(struct history *h)
{
    size_t tip = h->line_count > 0 ? history_line_tip(h, h->line_count - 1) : HISTORY_NONE;
    size_t count = 0;
    if (!h->points_stale)
        return;
    for (size_t i = tip; i != HISTORY_NONE; i = epoch_at(h, i)->before)
        count += is_listed(epoch_at(h, i));
    assert(count <= h->point_room);
    h->point_count = count;
    for (size_t i = tip; i != HISTORY_NONE; i = epoch_at(h, i)->before)
        if (is_listed(epoch_at(h, i)))
            h->points[--count] = i;
    h->points_stale = false;
}

size_t history_points(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    history_points_fresh(h);
    return h->point_count;
}

static void label_copy(const struct held_epoch *e, char out[POINT_LABEL_MAX + 1])
{
    out[0] = '\0';
    if (e->label)
        memcpy(out, e->label, strlen(e->label) + 1);
}

static struct history_point point_locked(const struct history *h, size_t index)
{
    const struct held_epoch *e = epoch_at(h, index);
    struct history_point p = {
        .ms = e->point_ms,
        .until_ms = e->until_ms,
        .generation = h->lines[e->line].generation,
        .epoch = e->epoch,
        .kind = (enum point_kind)e->point_kind,
        .data_bytes = e->point_bytes,
        .verdict = (enum point_verdict)e->verdict,
        .leaving = e->leaving,
        .index = index,
    };
    label_copy(e, p.label);
    return p;
}

struct history_point history_point(struct history *h, size_t i)
{
    LOCK_SCOPE(&h->lock);
    history_points_fresh(h);
    if (i >= h->point_count)
        return (struct history_point){.ms = 0};
    return point_locked(h, h->points[i]);
}

size_t history_points_below(struct history *h, size_t index)
{
    LOCK_SCOPE(&h->lock);
    history_points_fresh(h);
    size_t low = 0, high = h->point_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (h->points[middle] < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool history_find(struct history *h, uint64_t at_ms, bool exact, struct history_point *out)
{
    LOCK_SCOPE(&h->lock);
    history_points_fresh(h);
    size_t low = 0;
    size_t high = h->point_count; /* points below low are <= at_ms, from high on they are later */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (epoch_at(h, h->points[middle])->point_ms <= at_ms)
            low = middle + 1;
        else
            high = middle;
    }
    while (!exact && low > 0 && epoch_at(h, h->points[low - 1])->verdict == POINT_DAMAGED)
        low--;
    if (low == 0 || (exact && epoch_at(h, h->points[low - 1])->point_ms != at_ms))
        return false;
    *out = point_locked(h, h->points[low - 1]);
    return true;
}

bool history_resolve(struct history *h, const char *text, struct history_point *out,
                     struct err *err)
{
    return history_resolve_at(h, h->world->ops->realtime_ns(h->world) / 1000000, text, out, err);
}

size_t history_epochs(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return h->epoch_count;
}

size_t history_room_locked(const struct history *h, bool *kept)
{
    size_t all = h->epochs_max - h->epoch_count, held = h->held_max - h->held_count;
    *kept = held < all;
    return *kept ? held : all;
}

size_t history_room(struct history *h, bool *kept)
{
    LOCK_SCOPE(&h->lock);
    return history_room_locked(h, kept);
}

struct record_epoch history_epoch(struct history *h, size_t index, struct generation *generation)
{
    LOCK_SCOPE(&h->lock);
    assert(index < h->epoch_count);
    const struct held_epoch *e = epoch_at(h, index);
    if (e == NULL) {
        if (generation)
            *generation = (struct generation){.id = 0};
        return (struct record_epoch){.epoch = 0};
    }
    struct record_epoch r = {
        .kind = (enum epoch_kind)e->kind,
        .epoch = e->epoch,
        .entry_digest = e->entry_digest,
        .point_ms = e->point_ms,
        .clock_ms = e->clock_ms,
        .point_kind = (enum point_kind)e->point_kind,
        .data_bytes = e->data_bytes,
        .run_offset = e->run_offset,
        .run_bytes = e->run_bytes,
        .run_digest = e->run_digest,
    };
    memcpy(r.cut_id, e->cut_id, sizeof r.cut_id);
    label_copy(e, r.label);
    if (e->run_bytes > 0) {
        memcpy(r.run_key, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX));
        hex_of(e->run_object.bytes, SHA256_BYTES, r.run_key + strlen(SEGMENT_PREFIX));
    }
    if (generation)
        *generation = h->lines[e->line].generation;
    return r;
}

size_t history_disks(struct history *h, size_t index, struct epoch_disk out[VM_DISKS_MAX])
{
    LOCK_SCOPE(&h->lock);
    assert(index < h->epoch_count);
    if (epoch_at(h, index) == NULL)
        return 0;
    const struct disk_set *set = h->disk_sets[epoch_at(h, index)->disks];
    memcpy(out, set->disks, sizeof set->disks);
    return set->count;
}

unsigned history_disk_numbers(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    unsigned next = 0;
    for (size_t i = 0; i < h->set_count; i++)
        for (uint16_t k = 0; k < h->disk_sets[i]->count; k++)
            if (h->disk_sets[i]->disks[k].disk >= next)
                next = h->disk_sets[i]->disks[k].disk + 1u;
    return next;
}

size_t history_before(struct history *h, size_t index)
{
    LOCK_SCOPE(&h->lock);
    assert(index < h->epoch_count && epoch_at(h, index) != NULL);
    return epoch_at(h, index)->before;
}

size_t history_index(struct history *h, struct generation generation, uint64_t epoch)
{
    LOCK_SCOPE(&h->lock);
    return history_epoch_find(h, history_line_find(h, generation), epoch);
}

bool history_gone(struct history *h, size_t index)
{
    LOCK_SCOPE(&h->lock);
    assert(index < h->epoch_count);
    return epoch_at(h, index) == NULL;
}

bool history_entry_is(struct history *h, size_t index, const struct sha256 *digest)
{
    LOCK_SCOPE(&h->lock);
    assert(index < h->epoch_count);
    const struct held_epoch *e = epoch_at(h, index);
    return e != NULL ? digests_equal(&e->entry_digest, digest, SHA256_BYTES)
                     : h->epochs[index].entry_head == load_u64(digest->bytes);
}

size_t history_epoch_runs_locked(const struct history *h, size_t index, struct run_place *out)
{
    const struct held_epoch *e = epoch_at(h, index);
    struct generation generation = h->lines[e->line].generation;
    if (out == NULL)
        return e->runs != NULL ? e->run_count : e->run_bytes > 0;
    for (size_t i = 0; e->runs != NULL && i < e->run_count; i++)
        out[i] = (struct run_place){.generation = generation, .run = e->runs[i]};
    if (e->runs != NULL)
        return e->run_count;
    if (e->run_bytes == 0)
        return 0;
    out[0] = (struct run_place){.generation = generation,
                                .run = {.epoch_first = e->epoch,
                                        .epoch_last = e->epoch,
                                        .object = e->run_object,
                                        .offset = e->run_offset,
                                        .bytes = e->run_bytes,
                                        .digest = e->run_digest}};
    return 1;
}

bool history_runs_locked(const struct history *h, size_t from, size_t until, struct run_place **out,
                         size_t *count, struct err *err)
{
    size_t total = 0;
    for (size_t i = from; i != until; i = epoch_at(h, i)->before)
        total += history_epoch_runs_locked(h, i, NULL);
    struct run_place *list = calloc(total + 1, sizeof *list);
    if (list == NULL)
        return err_errno(err, ENOMEM, "listing runs");
    *count = 0;
    for (size_t i = from; i != until; i = epoch_at(h, i)->before)
        *count += history_epoch_runs_locked(h, i, list + *count);
    *out = list;
    return true;
}

bool history_runs(struct history *h, size_t index, struct run_place **out, size_t *count,
                  struct err *err)
{
    LOCK_SCOPE(&h->lock);
    assert(index == HISTORY_NONE || index < h->epoch_count);
    if (index != HISTORY_NONE && epoch_at(h, index) == NULL)
        return err_set(err, ERR_NOT_FOUND, "the recovery point was thinned out meanwhile");
    return history_runs_locked(h, index, HISTORY_NONE, out, count, err);
}

bool history_dropped(struct history *h, const struct sha256 *digest)
{
    LOCK_SCOPE(&h->lock);
    return object_set_has(&h->dropped, digest);
}

static struct history_head line_head_locked(const struct history *h, size_t line)
{
    struct history_head head = {.next_record = h->next_record, .last_record = h->last_record};
    if (line == HISTORY_NONE)
        return head;
    const struct line *l = &h->lines[line];
    size_t tip = history_line_tip(h, line);
    size_t point = tip != HISTORY_NONE ? epoch_at(h, tip)->point : HISTORY_NONE;
    head.generation = l->generation;
    if (l->last != HISTORY_NONE) {
        head.epoch = epoch_at(h, l->last)->epoch;
        head.entry = epoch_at(h, l->last)->entry_digest;
    }
    if (point != HISTORY_NONE) {
        head.newest_ms = epoch_at(h, point)->point_ms;
        head.point_ms = epoch_at(h, point)->until_ms;
    }
    return head;
}

struct history_head history_head(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return line_head_locked(h, h->line_count > 0 ? h->line_count - 1 : HISTORY_NONE);
}

bool history_line(struct history *h, struct generation generation, struct history_head *out)
{
    LOCK_SCOPE(&h->lock);
    size_t line = history_line_find(h, generation);
    *out = line_head_locked(h, line);
    return line != HISTORY_NONE;
}

size_t history_tip(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return h->line_count > 0 ? history_line_tip(h, h->line_count - 1) : HISTORY_NONE;
}

size_t history_generations(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return h->line_count;
}

struct history_generation history_generation(struct history *h, size_t i)
{
    LOCK_SCOPE(&h->lock);
    assert(i < h->line_count);
    const struct line *l = &h->lines[i];
    return (struct history_generation){
        .generation = l->generation,
        .parent = l->parent,
        .parent_epoch = l->parent_epoch,
        .epoch = l->last != HISTORY_NONE ? epoch_at(h, l->last)->epoch : 0,
    };
}

/* --- points beside the line of the head --- */

/* Indices in `points` rise, as a newer epoch of a line has a larger one: one walk tells which
 * points are on that line. Twice: to count by generation, then to place. */
static bool left_walk_locked(struct history *h, size_t *next, size_t *list)
{
    size_t on_line = 0, found = 0;
    history_points_fresh(h);
    for (size_t i = 0; i < h->epoch_count; i++) {
        const struct held_epoch *e = epoch_at(h, i);
        if (e == NULL || e->kind != EPOCH_CUT || e->leaving)
            continue;
        if (on_line < h->point_count && h->points[on_line] == i) {
            on_line++;
            continue;
        }
        found++;
        if (list != NULL)
            list[next[e->line]++] = i;
        else
            next[e->line + 1]++;
    }
    return found > 0;
}

static bool left_make_locked(struct history *h)
{
    size_t *next AUTO_FREE = NULL;
    if (h->left != NULL && h->left_record == h->next_record)
        return true;
    next = calloc(h->line_count + 2, sizeof *next);
    size_t *list = NULL;
    if (next == NULL)
        return false;
    bool any = left_walk_locked(h, next, NULL);
    for (size_t i = 1; i <= h->line_count; i++)
        next[i] += next[i - 1];
    size_t count = any ? next[h->line_count] : 0;
    list = calloc(count + 1, sizeof *list);
    if (list == NULL)
        return false;
    if (any)
        left_walk_locked(h, next, list);
    free(h->left);
    h->left = list;
    h->left_count = count;
    h->left_record = h->next_record;
    return true;
}

bool history_branches(struct history *h, struct history_point **out, size_t *count, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    struct history_point *list = NULL;
    if (left_make_locked(h))
        list = calloc(h->left_count + 1, sizeof *list);
    if (list == NULL)
        return err_errno(err, ENOMEM, "listing branches");
    for (size_t i = 0; i < h->left_count; i++)
        list[i] = point_locked(h, h->left[i]);
    *out = list;
    *count = h->left_count;
    return true;
}

bool history_branch_point(struct history *h, struct generation generation, size_t i,
                          struct history_point *out)
{
    LOCK_SCOPE(&h->lock);
    size_t line = history_line_find(h, generation);
    if (line == HISTORY_NONE || !left_make_locked(h))
        return false;
    size_t low = 0, high = h->left_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (epoch_at(h, h->left[middle])->line < line)
            low = middle + 1;
        else
            high = middle;
    }
    if (i >= h->left_count - low || epoch_at(h, h->left[low + i])->line != line)
        return false;
    *out = point_locked(h, h->left[low + i]);
    return true;
}

bool history_point_at(struct history *h, struct generation generation, uint64_t epoch,
                      struct history_point *out, struct err *err)
{
    char name[GENERATION_NAME_MAX];
    LOCK_SCOPE(&h->lock);
    size_t index = history_epoch_find(h, history_line_find(h, generation), epoch);
    const struct held_epoch *e = index != HISTORY_NONE ? epoch_at(h, index) : NULL;
    if (e != NULL && e->kind == EPOCH_CUT) {
        *out = point_locked(h, index);
        return true;
    }
    generation_name(generation, name);
    return err_set(err, ERR_NOT_FOUND,
                   "epoch %llu of generation %s is no recovery point in %s, or none any more",
                   (unsigned long long)epoch, name, h->target->url);
}

bool history_find_in(struct history *h, struct generation generation, uint64_t ms,
                     struct history_point *out)
{
    LOCK_SCOPE(&h->lock);
    size_t line = history_line_find(h, generation);
    size_t i = line != HISTORY_NONE ? h->lines[line].last : HISTORY_NONE;
    for (; i != HISTORY_NONE && epoch_at(h, i)->line == line; i = epoch_at(h, i)->before)
        if (epoch_at(h, i)->kind == EPOCH_CUT && epoch_at(h, i)->point_ms == ms &&
            !epoch_at(h, i)->leaving) {
            *out = point_locked(h, i);
            return true;
        }
    return false;
}

/* --- names --- */

void segment_name_format(char out[RUN_SEGMENT_NAME_MAX], uint16_t store, const char *key)
{
    int length = snprintf(out, RUN_SEGMENT_NAME_MAX, "%u:%s", store, key);
    assert(length > 0 && (unsigned)length < RUN_SEGMENT_NAME_MAX);
    (void)length;
}

bool segment_name_parse(const char *name, uint16_t *store, char key[RUN_SEGMENT_NAME_MAX])
{
    char again[RUN_SEGMENT_NAME_MAX];
    struct sha256 digest;
    char *colon = NULL;

    if (name[0] < '0' || name[0] > '9' || strlen(name) >= RUN_SEGMENT_NAME_MAX)
        return false;
    unsigned long number = strtoul(name, &colon, 10);
    if (*colon != ':' || number > VM_DISKS_MAX || !history_run_object_parse(colon + 1, &digest))
        return false;
    /* One spelling only: no leading zero, no upper case. */
    memcpy(again, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX));
    hex_of(digest.bytes, SHA256_BYTES, again + strlen(SEGMENT_PREFIX));
    segment_name_format(key, (uint16_t)number, again);
    if (strcmp(key, name) != 0)
        return false;
    *store = (uint16_t)number;
    memcpy(key, again, strlen(again) + 1);
    return true;
}

void history_point_name(const struct history_point *p, char out[POINT_NAME_MAX])
{
    char generation[GENERATION_NAME_MAX], id[POINT_TIME_CHARS + 1];
    generation_name(p->generation, generation);
    point_time_format(p->ms, id);
    snprintf(out, POINT_NAME_MAX, "%s/%s", generation, id);
}
