/* SPDX-License-Identifier: MIT
 * A sweep over all runs at once: every step emits the longest piece that starts at the lowest
 * block not yet passed and comes from one entry. */
#include "backend/history/merge.h"

#include "backend/history/history.h"

/* One run in the sweep: its first entry that ends behind the sweep's position. */
struct input {
    struct run_cursor cursor;
    const char *self;
    struct run_entry entry;
    bool has_entry;
    uint32_t *segments; /* index in the builder of each segment of the run, or SEGMENT_UNKNOWN */
};

#define SEGMENT_UNKNOWN UINT32_MAX

struct merge {
    struct input *inputs; /* oldest first */
    uint32_t count;
};

static void merge_release(struct merge *m)
{
    for (uint32_t i = 0; m->inputs != NULL && i < m->count; i++)
        free(m->inputs[i].segments);
    free(m->inputs);
}

static bool input_open(struct input *in, const struct run_merge_input *from, struct err *err)
{
    uint32_t count = run_segments(from->run);
    in->cursor = (struct run_cursor){.run = from->run};
    in->self = from->self;
    in->segments = malloc(((size_t)count + 1) * sizeof *in->segments);
    if (in->segments == NULL)
        return err_set(err, ERR_FULL, "out of memory for a merge of runs");
    memset(in->segments, 0xff, ((size_t)count + 1) * sizeof *in->segments);
    return run_next(&in->cursor, &in->entry, &in->has_entry, err);
}

static bool merge_open(struct merge *m, const struct run_merge_input *inputs, uint32_t count,
                       struct err *err)
{
    m->inputs = calloc((size_t)count + 1, sizeof *m->inputs);
    if (m->inputs == NULL)
        return err_set(err, ERR_FULL, "out of memory for a merge of runs");
    m->count = count;
    for (uint32_t i = 0; i < count; i++)
        if (!input_open(&m->inputs[i], &inputs[i], err))
            return false;
    return true;
}

static uint64_t entry_end(const struct run_entry *e)
{
    return e->first + e->count;
}

/* The input with the lowest block; of several the newest. NULL: all are at their end. */
static struct input *merge_lowest(const struct merge *m)
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
static uint64_t piece_end(const struct merge *m, const struct input *winner)
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
        if (in->self != NULL && strcmp(name, RUN_SEGMENT_SELF) == 0)
            name = in->self;
        if (*segment == SEGMENT_UNKNOWN && !run_builder_segment(b, name, segment, err))
            return false;
        piece.segment = *segment;
    }
    return run_builder_add(b, &piece, err);
}

/* Drops what lies before (disk, end) from every input. */
static bool merge_pass(struct merge *m, uint16_t disk, uint64_t end, struct err *err)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct input *in = &m->inputs[i];
        while (in->has_entry && in->entry.disk == disk && in->entry.first < end) {
            if (run_entry_clip(&in->entry, end, DISK_BYTES_MAX))
                break;
            if (!run_next(&in->cursor, &in->entry, &in->has_entry, err))
                return false;
        }
    }
    return true;
}

bool run_merge(const struct run_merge_input *inputs, uint32_t count, struct run_builder *b,
               struct err *err)
{
    assert(count <= RUN_MERGE_MAX && run_builder_entries(b) == 0);
    struct merge m CLEANUP(merge_release) = {.inputs = NULL};
    if (!merge_open(&m, inputs, count, err))
        return false;
    for (const struct input *in; (in = merge_lowest(&m)) != NULL;) {
        uint64_t end = piece_end(&m, in);
        uint16_t disk = in->entry.disk;
        if (!piece_emit(in, end, b, err) || !merge_pass(&m, disk, end, err))
            return false;
    }
    return true;
}
