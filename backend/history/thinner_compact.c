/* SPDX-License-Identifier: MIT
 * Compaction: frames that are still needed move out of objects that are mostly not, so that the
 * next sweep drops those. Weighed first: how many bytes of each object the runs of all epochs
 * refer to, against what a list says of its size. Then one epoch after the other whose runs refer
 * to such an object gets runs that say the same of every block, by a record like that of a merge.
 * Frames are copied as they are, sealed, each compared with its digest: no data key is needed.
 * What was weighed wrong, or changed meanwhile, costs bytes: whether an object goes is the sweep's
 * to say. Views go on with the old runs, which stay until then. */
#include "backend/history/thinner_internal.h"

#include "backend/history/apply_internal.h"
#include "backend/history/stored_run.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

#define FETCH_BYTES EPOCH_PART_BYTES /* of one object, at once */

void thinner_compact_release(struct thinner_compact *c)
{
    free(c->weights);
    *c = (struct thinner_compact){.phase = COMPACT_NOT};
}

bool thinner_compacting(const struct thinner_compact *c)
{
    return c->phase != COMPACT_NOT;
}

static void put_off(struct thinner *t)
{
    t->compact_at_ms = t->world->ops->boottime_ns(t->world) / 1000000 + THINNER_COMPACT_MS;
}

static enum thinner_result failed(struct thinner *t, struct err *err)
{
    thinner_compact_release(&t->compact);
    if (err->kind == ERR_CORRUPT) /* it will be so again */
        put_off(t);
    err_wrap(err, "compacting what %s holds", t->vault.vm);
    return THINNER_FAILED;
}

/* --- weights --- */

static struct weight *weight_at(struct weight *table, size_t room, const struct sha256 *object)
{
    static const struct sha256 none;
    uint64_t hash;
    memcpy(&hash, object->bytes, sizeof hash);
    size_t i = (size_t)hash & (room - 1);
    while (!digests_equal(&table[i].object, object, sizeof *object) &&
           !digests_equal(&table[i].object, &none, sizeof none))
        i = (i + 1) & (room - 1);
    return &table[i];
}

static bool weights_grow(struct thinner_compact *c, struct err *err)
{
    static const struct sha256 none;
    size_t room = c->room > 0 ? c->room * 2 : 1024;
    struct weight *bigger = calloc(room, sizeof *bigger);
    if (bigger == NULL)
        return err_errno(err, ENOMEM, "weighing objects");
    for (size_t i = 0; i < c->room; i++)
        if (!digests_equal(&c->weights[i].object, &none, sizeof none))
            *weight_at(bigger, room, &c->weights[i].object) = c->weights[i];
    free(c->weights);
    c->weights = bigger;
    c->room = room;
    return true;
}

/* NULL: none, but for `err` when it is to be made. */
static struct weight *weight_find(struct thinner_compact *c, const struct sha256 *object)
{
    struct weight *w = c->room > 0 ? weight_at(c->weights, c->room, object) : NULL;
    return w != NULL && w->known ? w : NULL;
}

static struct weight *weight_make(struct thinner_compact *c, const struct sha256 *object,
                                  struct err *err)
{
    if (c->count * 2 >= c->room && !weights_grow(c, err))
        return NULL;
    struct weight *w = weight_at(c->weights, c->room, object);
    if (!w->known) {
        *w = (struct weight){.object = *object, .known = true};
        c->count++;
    }
    return w;
}

/* The object of a segment that `run` names, and the store that it lies in. */
static bool segment_place(const struct stored_run *s, uint32_t index, uint16_t *store,
                          struct sha256 *object, struct err *err)
{
    char key[RUN_SEGMENT_NAME_MAX];
    const char *name = run_segment_name(s->run, index);
    *store = 0;
    *object = s->object;
    if (strcmp(name, RUN_SEGMENT_SELF) == 0)
        return true;
    return (segment_name_parse(name, store, key) && history_run_object_parse(key, object)) ||
           err_set(err, ERR_CORRUPT, "%s names the segment '%s', which is nowhere", s->key, name);
}

/* Frames come in the order of blocks, so the entries of one come together. */
static bool entries_weigh(struct thinner *t, struct stored_run *s, struct err *err)
{
    struct run_cursor cursor = {.run = s->run};
    struct run_entry e, last = {.kind = RUN_HOLE};
    bool found = true;

    for (;; last = e) {
        struct sha256 object;
        uint16_t store;
        if (!run_next(&cursor, &e, &found, err))
            return false;
        if (!found)
            return true;
        if (e.kind != RUN_DATA ||
            (last.kind == RUN_DATA && last.segment == e.segment && last.offset == e.offset))
            continue;
        if (!segment_place(s, e.segment, &store, &object, err))
            return false;
        struct weight *w = weight_make(&t->compact, &object, err);
        if (w == NULL)
            return false;
        w->live += e.stored_bytes;
    }
}

/* Runs that cannot be replaced keep all that they name. */
static bool segments_fix(struct thinner *t, const struct stored_run *s, struct err *err)
{
    for (uint32_t i = 0; i < run_segments(s->run); i++) {
        struct sha256 object;
        uint16_t store;
        struct weight *w;
        if (!segment_place(s, i, &store, &object, err) ||
            (w = weight_make(&t->compact, &object, err)) == NULL)
            return false;
        w->fixed = true;
    }
    return true;
}

static bool run_weigh(struct thinner *t, const struct run_place *place, bool fixed, struct err *err)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct weight *w = weight_make(&t->compact, &place->run.object, err);

    if (w == NULL)
        return false;
    w->live += place->run.bytes;
    fixed = fixed || place->run.bytes > MERGE_BYTES_MAX;
    w->fixed |= fixed;
    return stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &stored,
                           err) &&
           (fixed ? segments_fix(t, &stored, err) : entries_weigh(t, &stored, err));
}

static void cleanup_range(struct merge_range *m)
{
    free(m->runs);
}

static bool epoch_weigh(struct thinner *t, size_t index, uint64_t *bytes, struct err *err)
{
    struct merge_range own CLEANUP(cleanup_range) = {.runs = NULL};
    bool replaceable = false;

    if (!history_epoch_own(t->history, index, &own, &replaceable, err))
        return false;
    for (size_t i = 0; i < own.run_count; i++) {
        if (!run_weigh(t, &own.runs[i], !replaceable, err))
            return false;
        *bytes += own.runs[i].run.bytes;
    }
    return true;
}

static enum thinner_result weigh(struct thinner *t, struct err *err)
{
    struct thinner_compact *c = &t->compact;
    uint64_t bytes = 0;

    for (size_t i = 0; i < THINNER_MARKS && c->at < c->end && bytes < MERGE_BYTES_MAX; i++)
        if (!epoch_weigh(t, c->at++, &bytes, err))
            return failed(t, err);
    if (c->at == c->end)
        c->phase = COMPACT_LIST;
    return THINNER_WORKED;
}

/* --- sizes --- */

struct listing {
    struct thinner_compact *compact;
    size_t prefix_length, keys;
    char last[KEY_MAX];
};

static bool list_one(void *context, const char *key, uint64_t bytes)
{
    struct listing *l = context;
    struct sha256 object;
    struct weight *w;
    snprintf(l->last, sizeof l->last, "%s", key);
    if (hex_parse(key + l->prefix_length, object.bytes, SHA256_BYTES) &&
        (w = weight_find(l->compact, &object)) != NULL)
        w->bytes = bytes;
    return ++l->keys < THINNER_KEYS;
}

static bool is_mostly_dead(const struct thinner *t, const struct weight *w)
{
    return w->known && !w->fixed && w->live * COMPACT_LIVE_PART <= w->bytes &&
           !history_dropped(t->history, &w->object);
}

/* Whether what would be given back is worth the writing. */
static bool choose(struct thinner *t)
{
    struct thinner_compact *c = &t->compact;
    uint64_t all = 0, dead = 0;
    for (size_t i = 0; i < c->room; i++) {
        struct weight *w = &c->weights[i];
        w->leaves = is_mostly_dead(t, w);
        all += w->bytes;
        dead += w->leaves ? w->bytes - w->live : 0;
    }
    return dead > 0 && dead >= all / COMPACT_GAIN_PART;
}

static enum thinner_result compact_end(struct thinner *t)
{
    put_off(t);
    if (t->compact.moved)
        t->sweep_at_ms = 0;
    thinner_compact_release(&t->compact);
    return THINNER_IDLE;
}

static enum thinner_result list(struct thinner *t, struct err *err)
{
    struct thinner_compact *c = &t->compact;
    struct listing l = {.compact = c};
    char prefix[KEY_MAX];

    l.prefix_length = (size_t)snprintf(prefix, sizeof prefix, "%s/" SEGMENT_PREFIX, t->vault.vm);
    if (!store_list(t->config->targets[c->store], prefix, c->after[0] != '\0' ? c->after : NULL,
                    list_one, &l, err))
        return failed(t, err);
    memcpy(c->after, l.last, sizeof c->after);
    if (l.keys == THINNER_KEYS)
        return THINNER_WORKED;
    c->after[0] = '\0';
    if (++c->store < t->config->store_count)
        return THINNER_WORKED;
    if (!choose(t))
        return compact_end(t);
    c->phase = COMPACT_MOVE;
    c->at = 0;
    return THINNER_WORKED;
}

/* --- moving --- */

/* A frame that moves: where it is, and where it will be. */
struct moving {
    uint32_t segment, offset; /* of the run's own table */
    uint32_t bytes;
    uint32_t to_segment, to_offset; /* of the mover's names */
    struct block_digest digest;
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
    const struct weight *own = weight_find(&m->t->compact, &m->from->object);

    *any = own != NULL && own->leaves;
    m->leaves = calloc((size_t)segments + 1, sizeof *m->leaves);
    m->filling = calloc(m->t->config->store_count, sizeof *m->filling);
    if (m->leaves == NULL || m->filling == NULL)
        return err_errno(err, ENOMEM, "moving frames");
    for (uint32_t i = 0; i < segments; i++) {
        struct sha256 object;
        uint16_t store;
        if (!segment_place(m->from, i, &store, &object, err))
            return false;
        const struct weight *w = weight_find(&m->t->compact, &object);
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
    qsort(m->frames, m->count, sizeof *m->frames, moving_order);
    for (size_t i = 0; i < m->count; i++)
        if (i == 0 || moving_order(&m->frames[i], &m->frames[kept - 1]) != 0)
            m->frames[kept++] = m->frames[i];
    m->count = kept;
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

/* Appends a frame to what is being filled for its store. */
static bool frame_place(struct mover *m, struct moving *frame, uint16_t store, struct span stored,
                        struct err *err)
{
    struct filling *f = &m->filling[store];
    struct block_digest is = keys_frame_digest(m->t->config->keys, stored);

    if (!digests_equal(&is, &frame->digest, sizeof is))
        return err_set(err, ERR_CORRUPT, "a frame that the run in %s names is damaged",
                       m->from->key);
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
        if (end > *at && upto > FETCH_BYTES)
            break;
        bytes = upto > bytes ? upto : bytes;
    }
    if (!segment_place(m->from, segment, &store, &object, err))
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
        return false;
    for (; *at < end; ++*at) {
        struct moving *f = &m->frames[*at];
        if (!frame_place(m, f, store, span_of(to + (f->offset - start), f->bytes), err))
            return false;
    }
    return true;
}

static bool frames_copy(struct mover *m, uint64_t *bytes, struct err *err)
{
    for (size_t at = 0; at < m->count;)
        if (!frames_fetch(m, &at, err))
            return false;
    for (size_t i = 0; i < m->count; i++)
        *bytes += m->frames[i].bytes;
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

    segment_name_format(self, 0, m->from->key + strlen(m->t->vault.vm) + 1);
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

/* What one record changes. */
struct moved {
    uint64_t runs, bytes;
};

/* *run is replaced by one that names no object that leaves, if it names one. */
static bool run_move(struct thinner *t, const struct run_place *place, struct record_run *run,
                     struct moved *moved, struct err *err)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct run_builder *b AUTO_RUN_BUILDER = NULL;
    struct mover m CLEANUP(mover_release) = {.t = t, .from = &stored};
    bool any = false;

    if (!stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &stored, err) ||
        !mover_make(&m, &any, err))
        return false;
    if (!any)
        return true;
    if (!frames_collect(&m, err))
        return false;
    frames_sort(&m);
    moved->runs++;
    return frames_copy(&m, &moved->bytes, err) && run_builder_make(run_head(stored.run), &b, err) &&
           entries_write(&m, b, err) &&
           thinner_run_put(t, b, run_head(stored.run), &place->run.digest, run, err);
}

/* Replaces the runs of one epoch that name what leaves, in one record. */
static enum thinner_result epoch_move(struct thinner *t, const struct merge_range *own,
                                      struct err *err)
{
    struct record r CLEANUP(record_release) = {.kind = RECORD_MERGE,
                                               .generation = own->generation,
                                               .merge_first = own->first,
                                               .merge_last = own->last};
    struct moved moved = {0};

    r.runs = calloc(own->run_count + 1, sizeof *r.runs);
    if (r.runs == NULL) {
        err_errno(err, ENOMEM, "moving frames");
        return THINNER_FAILED;
    }
    for (size_t i = 0; i < own->run_count; i++) {
        r.runs[r.run_count] = own->runs[i].run;
        if (own->runs[i].run.bytes <= MERGE_BYTES_MAX &&
            !run_move(t, &own->runs[i], &r.runs[r.run_count], &moved, err))
            return THINNER_FAILED;
        r.run_count++;
    }
    if (moved.runs == 0)
        return THINNER_IDLE;
    enum thinner_result result = thinner_append(t, &r, err);
    if (result == THINNER_WORKED) {
        t->report.compacted += moved.runs;
        t->report.moved_bytes += moved.bytes;
        t->compact.moved = true;
    }
    return result;
}

static enum thinner_result move(struct thinner *t, struct err *err)
{
    struct thinner_compact *c = &t->compact;
    for (size_t tries = 0; tries < THINNER_MARKS && c->at < c->end; tries++) {
        struct merge_range own CLEANUP(cleanup_range) = {.runs = NULL};
        bool replaceable = false;
        if (!history_epoch_own(t->history, c->at, &own, &replaceable, err))
            return failed(t, err);
        enum thinner_result result = replaceable ? epoch_move(t, &own, err) : THINNER_IDLE;
        if (result == THINNER_FAILED && err->kind != ERR_CORRUPT)
            return failed(t, err);
        if (result == THINNER_FAILED)
            log_warning("%s: epoch %llu stays where it is: %s", t->vault.vm,
                        (unsigned long long)own.last, err->text);
        if (result == THINNER_AGAIN)
            return result;
        c->at++;
        if (result == THINNER_WORKED)
            return result;
    }
    return c->at < c->end ? THINNER_WORKED : compact_end(t);
}

static enum thinner_result begin(struct thinner *t)
{
    t->compact =
        (struct thinner_compact){.phase = COMPACT_WEIGH, .end = history_epochs(t->history)};
    return t->compact.end > 0 ? THINNER_WORKED : compact_end(t);
}

enum thinner_result thinner_compact_step(struct thinner *t, struct err *err)
{
    switch (t->compact.phase) {
    case COMPACT_NOT:
        return begin(t);
    case COMPACT_WEIGH:
        return weigh(t, err);
    case COMPACT_LIST:
        return list(t, err);
    case COMPACT_MOVE:
        break;
    }
    return move(t, err);
}
