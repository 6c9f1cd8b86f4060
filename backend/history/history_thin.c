/* SPDX-License-Identifier: MIT
 * What retention did, taken in from its records; and what it can do next, seen from what is held.
 * The rules by which a record is refused here are those by which thinner.c writes it. */
#include "backend/history/history_internal.h"
#include "backend/history/thin_plan.h"

#include <errno.h>

static struct notice notice_of(const struct record *r)
{
    return (struct notice){
        .record = r->number, .written_ms = r->written_ms, .newest_ms = r->newest_ms};
}

static size_t head_tip(const struct history *h)
{
    return h->line_count > 0 ? history_line_tip(h, h->line_count - 1) : HISTORY_NONE;
}

/* --- taking in --- */

static bool leaving_find(const struct history *h, const struct record *r, size_t line, size_t *out,
                         struct err *err)
{
    for (uint32_t i = 0; i < r->thin_count; i++) {
        out[i] = history_epoch_find(h, line, r->thin[i]);
        if (out[i] == HISTORY_NONE || h->epochs[out[i]].kind != EPOCH_CUT || h->epochs[out[i]].gone)
            return history_damaged(h, r, "lets a point go that there is not", err);
    }
    return true;
}

bool history_absorb_thin(struct history *h, const struct record *r, struct err *err)
{
    size_t *leaving AUTO_FREE = calloc((size_t)r->thin_count + 1, sizeof *leaving);

    if (leaving == NULL)
        return err_errno(err, ENOMEM, "reading the history");
    if (!leaving_find(h, r, history_line_find(h, r->generation), leaving, err))
        return false;
    for (size_t i = 0; i < h->leaving_count; i++)
        h->epochs[h->leaving[i]].leaving = false;
    for (uint32_t i = 0; i < r->thin_count; i++)
        h->epochs[leaving[i]].leaving = true;
    free(h->leaving);
    h->leaving = TAKE(leaving);
    h->leaving_count = r->thin_count;
    h->thin = notice_of(r);
    return history_points_collect(h, head_tip(h), err);
}

/* The epoch on its line before those that the record merges. */
static bool merge_check(const struct history *h, const struct record *r, size_t line, size_t last,
                        size_t *before, struct err *err)
{
    if (last == HISTORY_NONE || h->epochs[last].kind != EPOCH_CUT || h->epochs[last].gone)
        return history_damaged(h, r, "merges into a point that there is not", err);
    size_t i = h->epochs[last].before;
    for (; i != HISTORY_NONE && h->epochs[i].line == line && h->epochs[i].epoch >= r->merge_first;
         i = h->epochs[i].before)
        if (h->epochs[i].fork)
            return history_damaged(h, r, "merges an epoch that a generation goes on from", err);
    bool same = i != HISTORY_NONE && h->epochs[i].line == line;
    if ((same ? h->epochs[i].epoch : 0) + 1 != r->merge_first)
        return history_damaged(h, r, "merges from the middle of a merge", err);
    *before = i;
    return true;
}

size_t history_points_below_locked(const struct history *h, size_t index)
{
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

/* Points that are gone leave the list; it holds those between `first` and `last` of its own line
 * only when it holds them at all. */
static void points_forget(struct history *h, size_t first, size_t last)
{
    size_t low = history_points_below_locked(h, first), kept = low;
    for (size_t i = low; i < h->point_count; i++)
        if (h->points[i] > last || !h->epochs[h->points[i]].gone)
            h->points[kept++] = h->points[i];
    h->point_count = kept;
}

bool history_absorb_merge(struct history *h, const struct record *r, struct err *err)
{
    size_t line = history_line_find(h, r->generation);
    size_t last = history_epoch_find(h, line, r->merge_last);
    size_t before = HISTORY_NONE, first = last;

    if (!merge_check(h, r, line, last, &before, err))
        return false;
    struct held_epoch *into = &h->epochs[last];
    struct record_run *runs = malloc((size_t)r->run_count * sizeof *runs + 1);
    if (runs == NULL)
        return err_errno(err, ENOMEM, "reading the history");
    if (r->run_count > 0)
        memcpy(runs, r->runs, r->run_count * sizeof *runs);
    free(into->runs);
    into->runs = runs;
    into->run_count = r->run_count;
    for (size_t i = into->before; i != before; i = h->epochs[i].before) {
        struct held_epoch *e = &h->epochs[i];
        if (e->kind == EPOCH_CUT)
            into->point_bytes += e->point_bytes;
        e->gone = true;
        e->leaving = false;
        free(e->runs);
        e->runs = NULL;
        e->run_count = 0;
        first = i;
    }
    into->before = before;
    points_forget(h, first, last);
    h->merges++;
    return true;
}

bool history_absorb_drop(struct history *h, const struct record *r, struct err *err)
{
    for (uint32_t i = 0; i < r->drop_count; i++)
        if (!object_set_add(&h->dropped, &r->drops[i], err))
            return false;
    h->drop = notice_of(r);
    return true;
}

/* --- what can be done --- */

struct notice history_notice(struct history *h, enum record_kind kind)
{
    LOCK_SCOPE(&h->lock);
    assert(kind == RECORD_THIN || kind == RECORD_DROP);
    return kind == RECORD_THIN ? h->thin : h->drop;
}

uint64_t history_merges(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return h->merges;
}

size_t history_leaving(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    size_t count = 0;
    for (size_t i = 0; i < h->leaving_count; i++)
        count += h->epochs[h->leaving[i]].leaving;
    return count;
}

static bool pinned(const struct thin_pins *pins, struct generation g, uint64_t epoch)
{
    for (size_t i = 0; i < pins->count; i++)
        if (pins->list[i].generation.id == g.id && pins->list[i].generation.number == g.number &&
            pins->list[i].epoch == epoch)
            return true;
    return false;
}

static bool pinned_index(const struct history *h, const struct thin_pins *pins, size_t i)
{
    return pins->count > 0 &&
           pinned(pins, h->lines[h->epochs[i].line].generation, h->epochs[i].epoch);
}

bool history_pins_stand(struct history *h, const struct thin_pins *pins)
{
    LOCK_SCOPE(&h->lock);
    for (size_t i = 0; i < pins->count; i++) {
        size_t line = history_line_find(h, pins->list[i].generation);
        size_t index = history_epoch_find(h, line, pins->list[i].epoch);
        if (index != HISTORY_NONE && h->epochs[index].gone)
            return false;
    }
    return true;
}

/* The points of one generation, oldest first, and where they are. */
struct line_points {
    struct retention_point *points;
    size_t *indices;
    size_t count;
};

static void line_points_release(struct line_points *p)
{
    free(p->points);
    free(p->indices);
}

static bool line_points(const struct history *h, size_t line, const struct thin_pins *pins,
                        struct line_points *out, struct err *err)
{
    size_t count = 0;
    size_t last = h->lines[line].last;
    for (size_t i = last; i != HISTORY_NONE && h->epochs[i].line == line; i = h->epochs[i].before)
        count += h->epochs[i].kind == EPOCH_CUT;
    out->points = calloc(count + 1, sizeof *out->points);
    out->indices = calloc(count + 1, sizeof *out->indices);
    if (out->points == NULL || out->indices == NULL)
        return err_errno(err, ENOMEM, "choosing the points that stay");
    out->count = count;
    for (size_t i = last; i != HISTORY_NONE && h->epochs[i].line == line; i = h->epochs[i].before) {
        const struct held_epoch *e = &h->epochs[i];
        if (e->kind != EPOCH_CUT)
            continue;
        out->points[--count] = (struct retention_point){
            .ms = e->point_ms,
            .application = e->point_kind == POINT_APPLICATION,
            .damaged = e->verdict == POINT_DAMAGED,
            .needed = e->fork || pinned_index(h, pins, i),
        };
        out->indices[count] = i;
    }
    return true;
}

bool history_victims(struct history *h, const struct retention *policy, uint64_t now_ms,
                     const struct thin_pins *pins, struct thin_victims *out, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    out->count = out->total = 0;
    for (size_t line = 0; line < h->line_count; line++) {
        struct line_points p CLEANUP(line_points_release) = {.count = 0};
        if (!line_points(h, line, pins, &p, err))
            return false;
        retention_choose(policy, now_ms, p.points, p.count);
        bool ours = out->count == 0; /* one record speaks of one generation */
        for (size_t i = 0; i < p.count; i++) {
            if (p.points[i].stays)
                continue;
            out->total++;
            if (ours && out->count < RECORD_RUNS_MAX) {
                out->generation = h->lines[line].generation;
                out->epochs[out->count++] = h->epochs[p.indices[i]].epoch;
            }
        }
    }
    return true;
}

/* Whether epoch `i` is merged into what follows it. */
static bool may_go(const struct history *h, const struct thin_pins *pins, size_t i)
{
    const struct held_epoch *e = &h->epochs[i];
    return !e->fork && (e->kind != EPOCH_CUT || (e->leaving && !pinned_index(h, pins, i)));
}

static size_t epoch_runs_count(const struct held_epoch *e)
{
    return e->runs != NULL ? e->run_count : e->run_bytes > 0;
}

/* The epochs of the line from behind the last one that stays in front of `victim`, on to the first
 * point that stays; ascending. `next`: by index, the live epoch behind it. */
static bool range_of(const struct history *h, const struct thin_pins *pins, size_t victim,
                     const size_t *next, struct merge_range *out)
{
    uint32_t line = h->epochs[victim].line;
    size_t first = victim, last = HISTORY_NONE, runs = 0;

    for (size_t i = h->epochs[victim].before;
         i != HISTORY_NONE && h->epochs[i].line == line && may_go(h, pins, i);
         i = h->epochs[i].before)
        first = i;
    for (size_t i = first; i != HISTORY_NONE; i = next[i]) {
        const struct held_epoch *e = &h->epochs[i];
        runs += epoch_runs_count(e);
        if (runs > RECORD_RUNS_MAX || (last != HISTORY_NONE && runs > MERGE_RUNS))
            break;
        if (e->kind == EPOCH_CUT && i != first)
            last = i; /* as far as we know */
        if (!may_go(h, pins, i))
            break;
    }
    if (last == HISTORY_NONE || h->epochs[last].epoch <= h->epochs[victim].epoch)
        return false;
    size_t before = h->epochs[first].before;
    bool same = before != HISTORY_NONE && h->epochs[before].line == line;
    out->generation = h->lines[line].generation;
    out->first = (same ? h->epochs[before].epoch : 0) + 1;
    out->last = h->epochs[last].epoch;
    out->points = 0;
    out->newest = last;
    out->before = before;
    for (size_t i = h->epochs[last].before; i != before; i = h->epochs[i].before)
        out->points += h->epochs[i].kind == EPOCH_CUT;
    return true;
}

static size_t *next_make(const struct history *h, uint32_t line)
{
    size_t *next = malloc((h->epoch_count + 1) * sizeof *next);
    if (next == NULL)
        return NULL;
    size_t after = HISTORY_NONE;
    for (size_t i = h->lines[line].last; i != HISTORY_NONE && h->epochs[i].line == line;
         i = h->epochs[i].before) {
        next[i] = after;
        after = i;
    }
    return next;
}

bool history_merge_next(struct history *h, const struct thin_pins *pins, struct merge_range *out,
                        bool *found, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    size_t *next AUTO_FREE = NULL;

    *found = false;
    for (size_t i = 0; i < h->leaving_count && !*found; i++) {
        size_t victim = h->leaving[i];
        if (!h->epochs[victim].leaving || !may_go(h, pins, victim))
            continue;
        if (next == NULL && (next = next_make(h, h->epochs[victim].line)) == NULL)
            return err_errno(err, ENOMEM, "choosing what to merge");
        *found = range_of(h, pins, victim, next, out);
    }
    return !*found ||
           history_runs_locked(h, out->newest, out->before, &out->runs, &out->run_count, err);
}

bool history_epoch_own(struct history *h, size_t index, struct merge_range *out, bool *replaceable,
                       struct err *err)
{
    LOCK_SCOPE(&h->lock);
    const struct held_epoch *e = &h->epochs[index];
    bool same = e->before != HISTORY_NONE && h->epochs[e->before].line == e->line;
    *out = (struct merge_range){.generation = h->lines[e->line].generation,
                                .first = (same ? h->epochs[e->before].epoch : 0) + 1,
                                .last = e->epoch,
                                .newest = index,
                                .before = e->before};
    *replaceable = e->kind == EPOCH_CUT && !e->gone && !e->leaving;
    return e->gone || history_runs_locked(h, index, e->before, &out->runs, &out->run_count, err);
}

bool history_live_runs(struct history *h, struct run_place **out, size_t *count, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    size_t room = 0;
    for (size_t i = 0; i < h->epoch_count; i++)
        room += h->epochs[i].gone ? 0 : epoch_runs_count(&h->epochs[i]);
    struct run_place *list = calloc(room + 1, sizeof *list);
    if (list == NULL)
        return err_errno(err, ENOMEM, "listing runs");
    *count = 0;
    for (size_t i = 0; i < h->epoch_count; i++)
        if (!h->epochs[i].gone)
            *count += history_epoch_runs_locked(h, i, list + *count);
    *out = list;
    return true;
}
