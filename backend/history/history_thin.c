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

/* --- taking in --- */

static bool is_point(const struct history *h, size_t index)
{
    const struct held_epoch *e = index != HISTORY_NONE ? epoch_at(h, index) : NULL;
    return e != NULL && e->kind == EPOCH_CUT;
}

static bool leaving_find(const struct history *h, const struct record *r, size_t line, size_t *out,
                         struct err *err)
{
    for (uint32_t i = 0; i < r->thin_count; i++) {
        out[i] = history_epoch_find(h, line, r->thin[i]);
        if (!is_point(h, out[i]))
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
        if (epoch_at(h, h->leaving[i]) != NULL)
            epoch_at(h, h->leaving[i])->leaving = false;
    for (uint32_t i = 0; i < r->thin_count; i++)
        epoch_at(h, leaving[i])->leaving = true;
    free(h->leaving);
    h->leaving = TAKE(leaving);
    h->leaving_count = r->thin_count;
    h->thin = notice_of(r);
    h->points_stale = true;
    return true;
}

/* The epoch on its line before those that the record merges. */
static bool merge_check(const struct history *h, const struct record *r, size_t line, size_t last,
                        size_t *before, struct err *err)
{
    if (!is_point(h, last))
        return history_damaged(h, r, "merges into a point that there is not", err);
    size_t i = epoch_at(h, last)->before;
    for (; i != HISTORY_NONE && epoch_at(h, i)->line == line &&
           epoch_at(h, i)->epoch >= r->merge_first;
         i = epoch_at(h, i)->before)
        if (epoch_at(h, i)->fork)
            return history_damaged(h, r, "merges an epoch that a generation goes on from", err);
    bool same = i != HISTORY_NONE && epoch_at(h, i)->line == line;
    if ((same ? epoch_at(h, i)->epoch : 0) + 1 != r->merge_first)
        return history_damaged(h, r, "merges from the middle of a merge", err);
    *before = i;
    return true;
}

bool history_absorb_merge(struct history *h, const struct record *r, struct err *err)
{
    size_t line = history_line_find(h, r->generation);
    size_t last = history_epoch_find(h, line, r->merge_last);
    size_t before = HISTORY_NONE;

    if (!merge_check(h, r, line, last, &before, err))
        return false;
    struct held_epoch *into = epoch_at(h, last);
    struct record_run *runs = malloc((size_t)r->run_count * sizeof *runs + 1);
    if (runs == NULL)
        return err_errno(err, ENOMEM, "reading the history");
    if (r->run_count > 0)
        memcpy(runs, r->runs, r->run_count * sizeof *runs);
    free(into->runs);
    into->runs = runs;
    into->run_count = r->run_count;
    for (size_t i = into->before; i != before;) {
        const struct held_epoch *e = epoch_at(h, i);
        size_t next = e->before;
        if (e->kind == EPOCH_CUT)
            into->point_bytes += e->point_bytes;
        history_epoch_forget(h, i);
        i = next;
    }
    into->before = before;
    h->points_stale = true;
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

static bool is_leaving(const struct history *h, size_t index)
{
    return epoch_at(h, index) != NULL && epoch_at(h, index)->leaving;
}

size_t history_leaving(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    size_t count = 0;
    for (size_t i = 0; i < h->leaving_count; i++)
        count += is_leaving(h, h->leaving[i]);
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
           pinned(pins, h->lines[epoch_at(h, i)->line].generation, epoch_at(h, i)->epoch);
}

bool history_pins_stand(struct history *h, const struct thin_pins *pins)
{
    LOCK_SCOPE(&h->lock);
    for (size_t i = 0; i < pins->count; i++) {
        size_t line = history_line_find(h, pins->list[i].generation);
        size_t index = history_epoch_find(h, line, pins->list[i].epoch);
        if (index != HISTORY_NONE && epoch_at(h, index) == NULL)
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
    for (size_t i = last; i != HISTORY_NONE && epoch_at(h, i)->line == line;
         i = epoch_at(h, i)->before)
        count += epoch_at(h, i)->kind == EPOCH_CUT;
    out->points = calloc(count + 1, sizeof *out->points);
    out->indices = calloc(count + 1, sizeof *out->indices);
    if (out->points == NULL || out->indices == NULL)
        return err_errno(err, ENOMEM, "choosing the points that stay");
    out->count = count;
    for (size_t i = last; i != HISTORY_NONE && epoch_at(h, i)->line == line;
         i = epoch_at(h, i)->before) {
        const struct held_epoch *e = epoch_at(h, i);
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
                out->epochs[out->count++] = epoch_at(h, p.indices[i])->epoch;
            }
        }
    }
    return true;
}

/* Whether epoch `i` is merged into what follows it. */
static bool may_go(const struct history *h, const struct thin_pins *pins, size_t i)
{
    const struct held_epoch *e = epoch_at(h, i);
    return !e->fork && (e->kind != EPOCH_CUT || (e->leaving && !pinned_index(h, pins, i)));
}

static size_t epoch_runs_count(const struct held_epoch *e)
{
    return e->runs != NULL ? e->run_count : e->run_bytes > 0;
}

/* Runs of the same epochs, one behind another, are a level. */
static bool is_beside(const struct record_run *runs, size_t i)
{
    return i > 0 && record_run_same_epochs(&runs[i], &runs[i - 1]);
}

/* The same, a level counted as one. */
static size_t epoch_levels_count(const struct held_epoch *e)
{
    size_t count = epoch_runs_count(e);
    for (size_t i = 1; e->runs != NULL && i < e->run_count; i++)
        count -= is_beside(e->runs, i);
    return count;
}

/* The epochs of the line from behind the last one that stays in front of `victim`, on to the first
 * point that stays; ascending. `next`: by index, the live epoch behind it. */
static bool range_of(const struct history *h, const struct thin_pins *pins, size_t victim,
                     const size_t *next, struct merge_range *out)
{
    uint32_t line = epoch_at(h, victim)->line;
    size_t first = victim, last = HISTORY_NONE, runs = 0, levels = 0;
    bool enough = false; /* the victim would go */

    for (size_t i = epoch_at(h, victim)->before;
         i != HISTORY_NONE && epoch_at(h, i)->line == line && may_go(h, pins, i);
         i = epoch_at(h, i)->before)
        first = i;
    for (size_t i = first; i != HISTORY_NONE; i = next[i]) {
        const struct held_epoch *e = epoch_at(h, i);
        runs += epoch_runs_count(e);
        levels += epoch_levels_count(e);
        if (runs > RECORD_RUNS_MAX || (enough && levels > MERGE_RUNS))
            break;
        if (e->kind == EPOCH_CUT && i != first)
            last = i; /* as far as we know */
        enough = last != HISTORY_NONE && epoch_at(h, last)->epoch > epoch_at(h, victim)->epoch;
        if (!may_go(h, pins, i))
            break;
    }
    if (!enough)
        return false;
    size_t before = epoch_at(h, first)->before;
    bool same = before != HISTORY_NONE && epoch_at(h, before)->line == line;
    out->generation = h->lines[line].generation;
    out->first = (same ? epoch_at(h, before)->epoch : 0) + 1;
    out->last = epoch_at(h, last)->epoch;
    out->points = 0;
    out->newest = last;
    out->before = before;
    for (size_t i = epoch_at(h, last)->before; i != before; i = epoch_at(h, i)->before)
        out->points += epoch_at(h, i)->kind == EPOCH_CUT;
    return true;
}

static size_t *next_make(const struct history *h, uint32_t line)
{
    size_t *next = malloc((h->epoch_count + 1) * sizeof *next);
    if (next == NULL)
        return NULL;
    size_t after = HISTORY_NONE;
    for (size_t i = h->lines[line].last; i != HISTORY_NONE && epoch_at(h, i)->line == line;
         i = epoch_at(h, i)->before) {
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
        if (!is_leaving(h, victim) || !may_go(h, pins, victim))
            continue;
        if (next == NULL && (next = next_make(h, epoch_at(h, victim)->line)) == NULL)
            return err_errno(err, ENOMEM, "choosing what to merge");
        *found = range_of(h, pins, victim, next, out);
    }
    return !*found ||
           history_runs_locked(h, out->newest, out->before, &out->runs, &out->run_count, err);
}

static bool epoch_own(const struct history *h, size_t index, struct merge_range *out,
                      struct err *err)
{
    const struct held_epoch *e = epoch_at(h, index);
    bool same = e->before != HISTORY_NONE && epoch_at(h, e->before)->line == e->line;
    *out = (struct merge_range){.generation = h->lines[e->line].generation,
                                .first = (same ? epoch_at(h, e->before)->epoch : 0) + 1,
                                .last = e->epoch,
                                .newest = index,
                                .before = e->before};
    return history_runs_locked(h, index, e->before, &out->runs, &out->run_count, err);
}

bool history_epoch_own(struct history *h, size_t index, struct merge_range *out, bool *replaceable,
                       struct err *err)
{
    LOCK_SCOPE(&h->lock);
    const struct held_epoch *e = epoch_at(h, index);
    *replaceable = e != NULL && e->kind == EPOCH_CUT && !e->leaving;
    if (e != NULL)
        return epoch_own(h, index, out, err);
    *out = (struct merge_range){.runs = NULL};
    return true;
}

size_t history_holder(struct history *h, struct generation g, uint64_t epoch)
{
    LOCK_SCOPE(&h->lock);
    size_t line = history_line_find(h, g), index;
    while ((index = history_epoch_find(h, line, epoch)) != HISTORY_NONE &&
           epoch_at(h, index) == NULL)
        epoch++;
    return index;
}

/* Whether the runs of a point are to become a new level. */
static bool wants_level(const struct held_epoch *e, const struct level_rule *rule)
{
    uint64_t newer = 0, level = 0;
    size_t i = e->run_count;
    for (bool more = true; more && i-- > 0; more = is_beside(e->runs, i))
        level += e->runs[i].bytes;
    for (size_t k = 0; k < i; k++)
        newer += e->runs[k].bytes;
    return epoch_levels_count(e) - 1 > rule->runs || (newer > rule->bytes && newer > level);
}

bool history_level_next(struct history *h, const struct level_rule *rule,
                        const struct object_set *without, struct merge_range *out, bool *found,
                        struct err *err)
{
    LOCK_SCOPE(&h->lock);
    *found = false;
    for (size_t i = 0; i < h->epoch_count && !*found; i++) {
        const struct held_epoch *e = epoch_at(h, i);
        if (e == NULL || e->runs == NULL || e->run_count < 2)
            continue;
        *found =
            wants_level(e, rule) && !object_set_has(without, &e->runs[e->run_count - 1].object);
        if (*found && !epoch_own(h, i, out, err))
            return false;
    }
    return true;
}

bool history_live_runs(struct history *h, struct run_place **out, size_t *count, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    size_t room = 0;
    for (size_t i = 0; i < h->epoch_count; i++)
        room += epoch_at(h, i) != NULL ? epoch_runs_count(epoch_at(h, i)) : 0;
    struct run_place *list = calloc(room + 1, sizeof *list);
    if (list == NULL)
        return err_errno(err, ENOMEM, "listing runs");
    *count = 0;
    for (size_t i = 0; i < h->epoch_count; i++)
        if (epoch_at(h, i) != NULL)
            *count += history_epoch_runs_locked(h, i, list + *count);
    *out = list;
    return true;
}
