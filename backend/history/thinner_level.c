/* SPDX-License-Identifier: MIT
 * Levels. Runs that are too long for a merge gather on a point, the oldest most of all, and each
 * keeps what newer ones say otherwise: without end. So, when the newer ones have become as long as
 * the oldest, all of them are merged into runs of disjoint blocks, its new level. A block's entry
 * is rewritten once for each time that so much was written as there is.
 * One run of it is put in a step, and a record says in the end that they count. Until then nothing
 * names them: a sweep of another thinner may drop them, or others rewrite what they were made of;
 * then it was for nothing. This one's merges go on meanwhile, in front of what is becoming a level
 * (thinner_merge.c), also when the point becomes part of a later one, or an older one of it. */
#include "backend/history/thinner_internal.h"

#include "common/log.h"

#include <errno.h>

#define VOIDS_MAX 6u /* times in a row that the pause doubles */

void thinner_level_release(struct thinner_level *l)
{
    run_merging_release(&l->merging);
    for (size_t i = 0; i < l->open_count; i++)
        stored_run_close(&l->opened[i].opened.stored);
    free(l->opened);
    free(l->inputs);
    free(l->runs);
    free(l->out);
    *l = (struct thinner_level){.merging = NULL};
}

bool thinner_leveling(const struct thinner *t)
{
    return t->level.merging != NULL;
}

bool thinner_level_due(const struct thinner *t)
{
    if (thinner_leveling(t))
        return true;
    return !t->only_looks && !thinner_sweeping(&t->sweep) && !thinner_compacting(&t->compact) &&
           history_merges(t->history) != t->leveled_merges && thinner_boot_ms(t) >= t->level_at_ms;
}

/* What was put is garbage. No other is begun for so long. */
static void give_up(struct thinner *t, uint64_t ms)
{
    if (t->level.out_count > 0)
        t->sweep_at_ms = 0;
    t->level_at_ms = thinner_boot_ms(t) + ms;
    thinner_level_release(&t->level);
}

/* Others rewrote what it was made of, or dropped it: they may be at the same work. */
static enum thinner_result give_way(struct thinner *t)
{
    give_up(t, (uint64_t)THINNER_EVERY_MS << t->level_voids);
    t->level_voids += t->level_voids < VOIDS_MAX;
    return THINNER_IDLE;
}

/* --- the point as it is now --- */

static bool is_stretch(const struct thinner_level *l, const struct merge_range *now, size_t at)
{
    for (size_t i = 0; i < l->count; i++)
        if (!record_run_same_place(&now->runs[at + i].run, &l->runs[i].run))
            return false;
    return true;
}

/* *at: where the runs that were taken are among the point's; HISTORY_NONE: they are not. */
static bool point_now(struct thinner *t, struct merge_range *now, size_t *at, struct err *err)
{
    const struct thinner_level *l = &t->level;
    size_t index = history_holder(t->history, l->generation, l->epoch);
    bool replaceable;
    *at = HISTORY_NONE;
    if (index == HISTORY_NONE)
        return true;
    if (!history_epoch_own(t->history, index, now, &replaceable, err))
        return false;
    for (size_t i = 0; i + l->count <= now->run_count && *at == HISTORY_NONE; i++)
        if (is_stretch(l, now, i))
            *at = i;
    return true;
}

/* What is damaged stays as it is, and so does what cannot be written as a level; not so what others
 * rewrote and removed meanwhile. */
static enum thinner_result leave(struct thinner *t, const struct err *why)
{
    struct merge_range now AUTO_MERGE_RANGE = {.runs = NULL};
    const struct run_place *oldest = &t->level.runs[t->level.count - 1];
    struct err unused;
    size_t at = 0;

    if (history_refresh(t->history, &unused) && point_now(t, &now, &at, &unused) &&
        at == HISTORY_NONE)
        return give_way(t);
    log_warning("%s: the runs of epoch %llu stay many: %s", t->vault.vm,
                (unsigned long long)t->level.epoch, why->text);
    bool kept = object_set_add(&t->unleveled, &oldest->run.object, &unused);
    give_up(t, kept ? 0 : THINNER_COMPACT_MS);
    return THINNER_AGAIN; /* the history was read anew; others may have theirs */
}

static enum thinner_result failed(struct thinner *t, struct err *err)
{
    if (err->kind == ERR_CORRUPT && t->level.count > 0)
        return leave(t, err);
    give_up(t, err->kind == ERR_TRANSIENT ? THINNER_EVERY_MS : THINNER_COMPACT_MS);
    err_wrap(err, "merging the runs of %s", t->vault.vm);
    return THINNER_FAILED;
}

/* --- reading --- */

/* Runs of the same epochs are one input, of which one is open. */
static bool next_beside(void *context, struct run_merge_input *input, struct err *err)
{
    struct level_input *in = context;
    stored_run_close(&in->opened.stored);
    input->run = NULL;
    return ++in->at == in->end ||
           thinner_input_open(in->t, &in->t->level.runs[in->at], &in->opened, input, err);
}

/* Where the input begins that ends in front of `end`. */
static size_t input_start(const struct thinner_level *l, size_t end)
{
    size_t start = end - 1;
    while (start > 0 && record_run_same_epochs(&l->runs[start - 1].run, &l->runs[start].run))
        start--;
    return start;
}

/* How many inputs there are; what is newer than LEVEL_INPUTS waits for the next level. */
static size_t oldest_take(struct thinner_level *l)
{
    size_t inputs = 0, start = l->count;
    for (; start > 0 && inputs < LEVEL_INPUTS; inputs++)
        start = input_start(l, start);
    l->count -= start;
    memmove(l->runs, l->runs + start, l->count * sizeof *l->runs);
    return inputs;
}

static bool inputs_open(struct thinner *t, struct err *err)
{
    struct thinner_level *l = &t->level;
    size_t count = oldest_take(l);

    l->opened = calloc(count, sizeof *l->opened);
    l->inputs = calloc(count, sizeof *l->inputs);
    if (l->opened == NULL || l->inputs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    for (size_t end = l->count; l->open_count < count; l->open_count++) {
        struct level_input *in = &l->opened[l->open_count];
        struct run_merge_input *input = &l->inputs[l->open_count];
        *in = (struct level_input){.t = t, .at = input_start(l, end), .end = end};
        end = in->at;
        input->next = next_beside;
        input->context = in;
        if (!thinner_input_open(t, &l->runs[in->at], &in->opened, input, err))
            return false;
    }
    return run_merging_make(l->inputs, (uint32_t)count, &l->merging, err);
}

static enum thinner_result begin(struct thinner *t, struct err *err)
{
    struct thinner_level *l = &t->level;
    struct merge_range range = {.runs = NULL};
    uint64_t bytes = 0;
    bool found = false;

    if (!history_level_next(t->history, &t->limits.level, &t->unleveled, &range, &found, err))
        return failed(t, err);
    if (!found) {
        t->leveled_merges = history_merges(t->history);
        return THINNER_IDLE;
    }
    l->generation = range.generation;
    l->epoch = range.last;
    l->runs = range.runs;
    l->count = range.run_count;
    l->more = true;
    if (!inputs_open(t, err))
        return failed(t, err);
    for (size_t i = 0; i < l->count; i++)
        bytes += l->runs[i].run.bytes;
    l->bytes = bytes / LEVEL_PARTS;
    if (l->bytes < t->limits.level_run_bytes)
        l->bytes = t->limits.level_run_bytes;
    return THINNER_WORKED;
}

/* --- writing --- */

static bool output(struct thinner *t, struct err *err)
{
    struct thinner_level *l = &t->level;
    struct thinner_output o = {
        .runs = l->runs, .count = l->count, .number = l->out_count, .bytes = l->bytes};

    if (l->out_count == LEVEL_RUNS_MOST)
        return err_set(err, ERR_CORRUPT, "they would be more than %u", LEVEL_RUNS_MOST);
    struct record_run *bigger = realloc(l->out, (l->out_count + 1) * sizeof *bigger);
    if (bigger == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    l->out = bigger;
    if (!thinner_output_put(t, l->merging, &o, &l->out[l->out_count], &l->more, err))
        return false;
    l->out_count++;
    return true;
}

/* A sweep that did not know them may have dropped some; no record may name those. */
static bool outputs_stand(const struct thinner *t)
{
    for (size_t i = 0; i < t->level.out_count; i++)
        if (history_dropped(t->history, &t->level.out[i].object))
            return false;
    return true;
}

/* The runs of the point, those from `at` on replaced. */
static bool record_fill(const struct thinner_level *l, const struct merge_range *now, size_t at,
                        struct record *r, struct err *err)
{
    size_t others = now->run_count - l->count;
    if (others + l->out_count > RECORD_RUNS_MAX)
        return err_set(err, ERR_CORRUPT, "they would be more than %u", RECORD_RUNS_MAX);
    r->generation = now->generation;
    r->merge_first = now->first;
    r->merge_last = now->last;
    r->runs = calloc(others + l->out_count + 1, sizeof *r->runs);
    if (r->runs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    for (size_t i = 0; i < at; i++)
        r->runs[r->run_count++] = now->runs[i].run;
    for (size_t i = 0; i < l->out_count; i++)
        r->runs[r->run_count++] = l->out[i];
    for (size_t i = at + l->count; i < now->run_count; i++)
        r->runs[r->run_count++] = now->runs[i].run;
    return true;
}

static enum thinner_result say(struct thinner *t, struct err *err)
{
    struct merge_range now AUTO_MERGE_RANGE = {.runs = NULL};
    struct record r CLEANUP(record_release) = {.kind = RECORD_MERGE};
    struct thinner_level *l = &t->level;
    size_t at;

    if (!point_now(t, &now, &at, err))
        return failed(t, err);
    if (at == HISTORY_NONE || !outputs_stand(t))
        return give_way(t);
    if (!record_fill(l, &now, at, &r, err))
        return failed(t, err);
    enum thinner_result result = thinner_append(t, &r, err);
    if (result == THINNER_WORKED) {
        t->report.leveled += l->count;
        t->level_voids = 0;
        thinner_level_release(l);
        thinner_sweep_soon(t);
    }
    if (result != THINNER_FAILED || err->kind == ERR_TRANSIENT)
        return result; /* said again in the next step, if it still stands */
    return failed(t, err);
}

enum thinner_result thinner_level_step(struct thinner *t, struct err *err)
{
    if (!thinner_leveling(t))
        return begin(t, err);
    if (!t->level.more)
        return say(t, err);
    return output(t, err) ? THINNER_WORKED : failed(t, err);
}
