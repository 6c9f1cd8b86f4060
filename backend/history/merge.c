/* SPDX-License-Identifier: MIT
 * A sweep over all runs at once: every step emits the longest piece that starts at the lowest
 * block not yet passed and comes from one entry. */
#include "backend/history/merge.h"

#include "backend/history/history.h"

#include <errno.h>

/* One input in the sweep: its first entry that ends behind the sweep's position. */
struct input {
    struct run_merge_input *from;
    struct run_cursor cursor;
    struct run_entry entry;
    bool has_entry;
    uint32_t *segments; /* index in the builder of each segment of the run, or SEGMENT_UNKNOWN */
};

#define SEGMENT_UNKNOWN UINT32_MAX

struct run_merging {
    struct input *inputs; /* oldest first */
    uint32_t count;
};

void run_merging_release(struct run_merging **merging)
{
    struct run_merging *m = *merging;
    if (m == NULL)
        return;
    for (uint32_t i = 0; m->inputs != NULL && i < m->count; i++)
        free(m->inputs[i].segments);
    free(m->inputs);
    free(m);
    *merging = NULL;
}

/* No builder has any of its segments. */
static void input_forget(struct input *in)
{
    memset(in->segments, 0xff, ((size_t)run_segments(in->cursor.run) + 1) * sizeof *in->segments);
}

/* Begins to read the input's run. */
static bool input_open(struct input *in, struct err *err)
{
    free(in->segments);
    in->segments = malloc(((size_t)run_segments(in->from->run) + 1) * sizeof *in->segments);
    if (in->segments == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    in->cursor = (struct run_cursor){.run = in->from->run};
    run_in_order(in->from->run);
    input_forget(in);
    return true;
}

/* On to the next entry, of the runs behind this one, too. */
static bool input_next(struct input *in, struct err *err)
{
    for (;;) {
        if (!run_next(&in->cursor, &in->entry, &in->has_entry, err))
            return false;
        if (in->has_entry || in->from->next == NULL)
            return true;
        if (!in->from->next(in->from->context, in->from, err))
            return false;
        if (in->from->run == NULL)
            return true;
        if (!input_open(in, err))
            return false;
    }
}

bool run_merging_make(struct run_merge_input *inputs, uint32_t count, struct run_merging **out,
                      struct err *err)
{
    assert(count <= RUN_MERGE_MAX);
    struct run_merging *m AUTO_RUN_MERGING = calloc(1, sizeof *m);
    if (m == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    m->inputs = calloc((size_t)count + 1, sizeof *m->inputs);
    if (m->inputs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    m->count = count;
    for (uint32_t i = 0; i < count; i++) {
        m->inputs[i].from = &inputs[i];
        if (!input_open(&m->inputs[i], err) || !input_next(&m->inputs[i], err))
            return false;
    }
    *out = TAKE(m);
    return true;
}

static uint64_t entry_end(const struct run_entry *e)
{
    return e->first + e->count;
}

/* The input with the lowest block; of several the newest. NULL: all are at their end. */
static struct input *merge_lowest(const struct run_merging *m)
{
    struct input *lowest = NULL;
    for (uint32_t i = 0; i < m->count; i++) {
        struct input *in = &m->inputs[i];
        const struct run_entry *e = &in->entry;
        if (in->has_entry && (lowest == NULL || e->disk < lowest->entry.disk ||
                              (e->disk == lowest->entry.disk && e->first <= lowest->entry.first)))
            lowest = in;
    }
    return lowest;
}

/* Where the winner's piece ends: with its entry, or where a newer run begins to speak. */
static uint64_t piece_end(const struct run_merging *m, const struct input *winner)
{
    uint64_t end = entry_end(&winner->entry);
    for (const struct input *in = winner + 1; in < m->inputs + m->count; in++)
        if (in->has_entry && in->entry.disk == winner->entry.disk && in->entry.first < end)
            end = in->entry.first;
    return end;
}

static bool piece_emit(const struct input *in, uint64_t end, struct run_builder *b, struct err *err)
{
    struct run_entry piece = in->entry;
    bool some = run_entry_clip(&piece, piece.first, end - piece.first);
    assert(some);
    (void)some;
    if (piece.kind == RUN_DATA) {
        uint32_t *segment = &in->segments[piece.segment];
        const char *name = run_segment_name(in->cursor.run, piece.segment);
        if (in->from->self != NULL && strcmp(name, RUN_SEGMENT_SELF) == 0)
            name = in->from->self;
        if (*segment == SEGMENT_UNKNOWN && !run_builder_segment(b, name, segment, err))
            return false;
        piece.segment = *segment;
    }
    return run_builder_add(b, &piece, err);
}

/* Drops what lies before (disk, end) from every input. */
static bool merge_pass(struct run_merging *m, uint16_t disk, uint64_t end, struct err *err)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct input *in = &m->inputs[i];
        while (in->has_entry && in->entry.disk == disk && in->entry.first < end) {
            if (run_entry_clip(&in->entry, end, DISK_BYTES_MAX))
                break;
            if (!input_next(in, err))
                return false;
        }
    }
    return true;
}

bool run_merging_step(struct run_merging *m, struct run_builder *b, uint64_t bytes, bool *more,
                      struct err *err)
{
    assert(run_builder_entries(b) == 0);
    const struct input *in;
    for (uint32_t i = 0; i < m->count; i++)
        if (m->inputs[i].has_entry)
            input_forget(&m->inputs[i]);
    while ((in = merge_lowest(m)) != NULL && !run_builder_full(b, bytes)) {
        uint64_t end = piece_end(m, in);
        uint16_t disk = in->entry.disk;
        if (!piece_emit(in, end, b, err) || !merge_pass(m, disk, end, err))
            return false;
    }
    *more = in != NULL;
    return true;
}
