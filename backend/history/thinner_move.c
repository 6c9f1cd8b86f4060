/* SPDX-License-Identifier: MIT
 * Compaction's second half: the runs of one epoch are written anew, with the frames that leave in
 * new segments. Frames are fetched and placed in the order in which they lie, so each object is
 * read once for a run. */
#include "backend/history/thinner_internal.h"

#include "backend/history/apply_internal.h"

#include <errno.h>
#include <stdio.h>

/* Of one object, at once; what lies between two frames is read along up to so much. */
#define FETCH_BYTES EPOCH_PART_BYTES
#define FETCH_GAP   (1u << 20)

/* A frame that moves: where it is, and where it will be. */
struct moving {
    uint32_t segment, offset; /* of the run's own table */
    uint32_t bytes;
    uint32_t to_segment, to_offset; /* of the mover's names */
    struct block_digest digest;
};

/* What one record changes, and what a step may do. */
struct moved {
    uint64_t runs, bytes;
    uint64_t
        live; /* bytes of frames that leave; out of how many objects, and runs that were written */
    size_t objects, opened;
    bool more;    /* than one step may move */
    bool spoiled; /* an object turned out to be damaged */
};

struct mover {
    struct thinner *t;
    struct stored_run *from;
    bool *leaves; /* by segment of the run: its frames move */
    struct moving *frames;
    size_t count, room;
    struct filling *filling; /* one per target store */
    char (*names)[RUN_SEGMENT_NAME_MAX];
    size_t name_count;
    struct moved *moved;
};

static void mover_release(struct mover *m)
{
    for (size_t s = 0; m->filling != NULL && s < m->t->config->store_count; s++)
        buf_release(&m->filling[s].bytes);
    free(m->filling);
    free(m->leaves);
    free(m->frames);
    free(m->names);
}

/* *any: something of the run leaves its object, or the run itself does. */
static bool mover_make(struct mover *m, bool *any, struct err *err)
{
    uint32_t segments = run_segments(m->from->run);
    const struct weight *own = thinner_weight(&m->t->compact, &m->from->object);

    *any = own != NULL && own->leaves;
    m->leaves = calloc((size_t)segments + 1, sizeof *m->leaves);
    m->filling = calloc(m->t->config->store_count, sizeof *m->filling);
    if (m->leaves == NULL || m->filling == NULL)
        return err_errno(err, ENOMEM, "moving frames");
    for (uint32_t i = 0; i < segments; i++) {
        struct sha256 object;
        uint16_t store;
        if (!thinner_segment(m->from, i, &store, &object, err))
            return false;
        const struct weight *w = thinner_weight(&m->t->compact, &object);
        m->leaves[i] = w != NULL && w->leaves;
        *any = *any || m->leaves[i];
    }
    return true;
}

static bool frames_collect(struct mover *m, struct err *err)
{
    struct run_cursor cursor = {.run = m->from->run};
    struct run_entry e;
    for (bool found = true;;) {
        if (!run_next(&cursor, &e, &found, err))
            return false;
        if (!found)
            return true;
        if (e.kind != RUN_DATA || !m->leaves[e.segment])
            continue;
        if (m->count == m->room) {
            size_t room = m->room * 2 + 64;
            struct moving *bigger = realloc(m->frames, room * sizeof *bigger);
            if (bigger == NULL)
                return err_errno(err, ENOMEM, "moving frames");
            m->frames = bigger;
            m->room = room;
        }
        m->frames[m->count++] = (struct moving){.segment = e.segment,
                                                .offset = e.offset,
                                                .bytes = e.stored_bytes,
                                                .digest = e.sealed_digest};
    }
}

static int moving_order(const void *a, const void *b)
{
    const struct moving *x = a;
    const struct moving *y = b;
    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void frames_sort(struct mover *m)
{
    size_t kept = 0;
    if (m->count == 0)
        return;
    qsort(m->frames, m->count, sizeof *m->frames, moving_order);
    for (size_t i = 0; i < m->count; i++)
        if (i == 0 || moving_order(&m->frames[i], &m->frames[kept - 1]) != 0)
            m->frames[kept++] = m->frames[i];
    m->count = kept;
}

static bool is_spent(const struct moved *moved)
{
    return moved->live >= COMPACT_STEP_BYTES || moved->objects >= COMPACT_STEP_OBJECTS;
}

/* As much as a step may move, whole objects; the rest is the next one's. */
static void frames_limit(struct mover *m)
{
    struct moved *moved = m->moved;
    size_t end = 0;
    while (end < m->count && !is_spent(moved)) {
        uint32_t segment = m->frames[end].segment;
        for (; end < m->count && m->frames[end].segment == segment; end++)
            moved->live += m->frames[end].bytes;
        moved->objects++;
    }
    moved->more = end < m->count;
    for (size_t i = end; i < m->count; i++)
        m->leaves[m->frames[i].segment] = false;
    m->count = end;
}

static bool segment_close(struct mover *m, uint16_t store, struct err *err)
{
    struct filling *f = &m->filling[store];
    char hex[2 * SHA256_BYTES + 1], key[RUN_SEGMENT_NAME_MAX];

    if (f->bytes.length == 0)
        return true;
    if (!buf_ok(&f->bytes, err) ||
        !apply_object_put(m->t->config, m->t->history, store, &f->bytes, hex, err))
        return false;
    snprintf(key, sizeof key, SEGMENT_PREFIX "%s", hex);
    segment_name_format(m->names[f->segment], store, key);
    buf_clear(&f->bytes);
    return true;
}

/* The object stays where it is, with all that is in it. */
static bool leave(struct mover *m, const struct sha256 *object, const char *key, const char *what,
                  struct err *err)
{
    struct weight *w = thinner_weight(&m->t->compact, object);
    w->leaves = false;
    m->moved->spoiled = true;
    return object_set_add(&m->t->damaged, object, err) &&
           err_set(err, ERR_CORRUPT, "%s, which the run in %s names, %s", key, m->from->key, what);
}

/* Appends a frame to what is being filled for its store. */
static bool frame_place(struct mover *m, struct moving *frame, uint16_t store, struct span stored,
                        struct err *err)
{
    struct filling *f = &m->filling[store];

    if (f->bytes.length + stored.length > PROCESSOR_SEGMENT_BYTES && !segment_close(m, store, err))
        return false;
    if (f->bytes.length == 0) {
        void *bigger = realloc(m->names, (m->name_count + 1) * sizeof *m->names);
        if (bigger == NULL)
            return err_errno(err, ENOMEM, "moving frames");
        m->names = bigger;
        f->segment = m->name_count++;
    }
    frame->to_segment = (uint32_t)f->segment;
    frame->to_offset = (uint32_t)f->bytes.length;
    buf_put(&f->bytes, stored.data, stored.length);
    return buf_ok(&f->bytes, err);
}

/* The frames from *at on that one fetch brings; *at moves behind them. */
static bool frames_fetch(struct mover *m, size_t *at, struct err *err)
{
    struct buf memory AUTO_BUF = BUF_NONE;
    const uint32_t segment = m->frames[*at].segment, start = m->frames[*at].offset;
    char hex[2 * SHA256_BYTES + 1], key[KEY_MAX];
    struct sha256 object;
    uint16_t store;
    size_t end = *at, bytes = 0;

    for (; end < m->count && m->frames[end].segment == segment; end++) {
        size_t upto = (size_t)m->frames[end].offset - start + m->frames[end].bytes;
        if (end > *at && (upto > FETCH_BYTES || m->frames[end].offset > start + bytes + FETCH_GAP))
            break;
        bytes = upto > bytes ? upto : bytes;
    }
    if (!thinner_segment(m->from, segment, &store, &object, err))
        return false;
    if (store >= m->t->config->store_count)
        return err_set(err, ERR_CORRUPT, "%s names store %u, which there is not", m->from->key,
                       store);
    hex_of(object.bytes, SHA256_BYTES, hex);
    key_segment(key, m->t->vault.vm, hex);
    uint8_t *to = buf_extend(&memory, bytes);
    if (to == NULL)
        return buf_ok(&memory, err);
    if (!store_get(m->t->config->targets[store], key, start, mspan_of(to, bytes), err))
        return err->kind == ERR_NOT_FOUND && leave(m, &object, key, "is missing", err);
    for (; *at < end; ++*at) {
        struct moving *f = &m->frames[*at];
        struct span stored = span_of(to + (f->offset - start), f->bytes);
        struct block_digest is = keys_frame_digest(m->t->config->keys, stored);
        if (!digests_equal(&is, &f->digest, sizeof is))
            return leave(m, &object, key, "has a damaged frame", err);
        if (!frame_place(m, f, store, stored, err))
            return false;
    }
    return true;
}

static bool frames_copy(struct mover *m, struct err *err)
{
    for (size_t at = 0; at < m->count;)
        if (!frames_fetch(m, &at, err))
            return false;
    for (size_t i = 0; i < m->count; i++)
        m->moved->bytes += m->frames[i].bytes;
    for (size_t s = 0; s < m->t->config->store_count; s++)
        if (!segment_close(m, (uint16_t)s, err))
            return false;
    return true;
}

/* What the new run calls the segment of an entry, which then says where the frame lies in it. */
static const char *name_after(const struct mover *m, struct run_entry *e, const char *self)
{
    const struct moving key = {.segment = e->segment, .offset = e->offset};
    if (m->leaves[e->segment]) {
        const struct moving *f =
            bsearch(&key, m->frames, m->count, sizeof *m->frames, moving_order);
        assert(f != NULL);
        e->offset = f->to_offset;
        return m->names[f->to_segment];
    }
    const char *name = run_segment_name(m->from->run, e->segment);
    return strcmp(name, RUN_SEGMENT_SELF) == 0 ? self : name;
}

static bool entries_write(struct mover *m, struct run_builder *b, struct err *err)
{
    struct run_cursor cursor = {.run = m->from->run};
    char self[RUN_SEGMENT_NAME_MAX];
    struct run_entry e;

    thinner_self_name(m->t, m->from, self);
    for (bool found = true;;) {
        if (!run_next(&cursor, &e, &found, err))
            return false;
        if (!found)
            return true;
        if (e.kind == RUN_DATA && !run_builder_segment(b, name_after(m, &e, self), &e.segment, err))
            return false;
        if (!run_builder_add(b, &e, err))
            return false;
    }
}

/* *run is replaced by one that names no object that leaves, if it names one. */
static bool run_move(struct thinner *t, const struct run_place *place, struct record_run *run,
                     struct moved *moved, struct err *err)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct run_builder *b AUTO_RUN_BUILDER = NULL;
    struct mover m CLEANUP(mover_release) = {.t = t, .from = &stored, .moved = moved};
    bool any = false;

    if (!stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &stored, err) ||
        !mover_make(&m, &any, err))
        return false;
    if (!any)
        return true;
    if (!frames_collect(&m, err))
        return false;
    frames_sort(&m);
    frames_limit(&m);
    moved->runs++;
    moved->objects++;
    return frames_copy(&m, err) && run_builder_make(run_head(stored.run), &b, err) &&
           entries_write(&m, b, err) &&
           thinner_run_put(t, b, run_head(stored.run), &place->run.digest, run, err);
}

enum thinner_result thinner_epoch_move(struct thinner *t, const struct merge_range *own, bool *more,
                                       struct err *err)
{
    struct record r CLEANUP(record_release) = {.kind = RECORD_MERGE,
                                               .generation = own->generation,
                                               .merge_first = own->first,
                                               .merge_last = own->last};
    struct moved moved = {0};
    size_t next = t->compact.run;

    r.runs = calloc(own->run_count + 1, sizeof *r.runs);
    if (r.runs == NULL) {
        err_errno(err, ENOMEM, "moving frames");
        return THINNER_FAILED;
    }
    for (size_t i = 0; i < own->run_count; i++, r.run_count++) {
        r.runs[i] = own->runs[i].run;
        if (i < next || moved.more || is_spent(&moved) || moved.opened == THINNER_MARKS)
            continue;
        moved.opened++;
        if (own->runs[i].run.bytes <= MERGE_BYTES_MAX &&
            !run_move(t, &own->runs[i], &r.runs[i], &moved, err)) {
            *more = moved.spoiled;
            return THINNER_FAILED;
        }
        next = moved.more ? i : i + 1;
    }
    enum thinner_result result = next < own->run_count ? THINNER_WORKED : THINNER_IDLE;
    if (moved.runs > 0) {
        t->compact.moved = true; /* it may count, whatever the append says */
        result = thinner_append(t, &r, err);
    }
    if (result == THINNER_WORKED) {
        *more = next < own->run_count;
        t->compact.run = next;
        t->report.compacted += moved.runs;
        t->report.moved_bytes += moved.bytes;
    }
    return result;
}
