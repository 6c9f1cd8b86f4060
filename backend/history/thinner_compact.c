/* SPDX-License-Identifier: MIT
 * Compaction: frames that are still needed move out of objects that are mostly not, so that the
 * next sweep drops those. Weighed first: how many bytes of each object the runs of all epochs
 * refer to, against what a list says of its size. Then one epoch after the other whose runs refer
 * to such an object gets runs that say the same of every block, by a record like that of a merge.
 * Frames are copied as they are, sealed, each compared with its digest: no data key is needed.
 * What was weighed wrong, or changed meanwhile, costs bytes: whether an object goes is the sweep's
 * to say. Views go on with the old runs, which stay until then. */
#include "backend/history/thinner_internal.h"

#include "backend/history/stored_run.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

void thinner_compact_release(struct thinner_compact *c)
{
    free(c->weights);
    *c = (struct thinner_compact){.phase = COMPACT_NOT};
}

bool thinner_compacting(const struct thinner_compact *c)
{
    return c->phase != COMPACT_NOT;
}

/* What was moved out of waits for a sweep. */
static void put_off(struct thinner *t, uint64_t ms)
{
    t->compact_at_ms = thinner_boot_ms(t) + ms;
    if (t->compact.moved)
        t->sweep_at_ms = 0;
    thinner_compact_release(&t->compact);
}

static enum thinner_result failed(struct thinner *t, struct err *err)
{
    put_off(t, err->kind == ERR_TRANSIENT ? THINNER_EVERY_MS : THINNER_COMPACT_MS);
    err_wrap(err, "compacting what %s holds", t->vault.vm);
    return THINNER_FAILED;
}

/* --- weights --- */

static struct weight *weight_at(struct weight *table, size_t room, const struct sha256 *object)
{
    uint64_t hash;
    memcpy(&hash, object->bytes, sizeof hash);
    size_t i = (size_t)hash & (room - 1);
    while (table[i].known && !digests_equal(&table[i].object, object, sizeof *object))
        i = (i + 1) & (room - 1);
    return &table[i];
}

static bool weights_grow(struct thinner_compact *c, struct err *err)
{
    size_t room = c->room > 0 ? c->room * 2 : 1024;
    struct weight *bigger = calloc(room, sizeof *bigger);
    if (bigger == NULL)
        return err_errno(err, ENOMEM, "weighing objects");
    for (size_t i = 0; i < c->room; i++)
        if (c->weights[i].known)
            *weight_at(bigger, room, &c->weights[i].object) = c->weights[i];
    free(c->weights);
    c->weights = bigger;
    c->room = room;
    return true;
}

struct weight *thinner_weight(const struct thinner_compact *c, const struct sha256 *object)
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

bool thinner_segment(const struct stored_run *s, uint32_t index, uint16_t *store,
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

/* Whether the entry is of a frame that one of the last entries was of. What is left of a frame lies
 * within its own blocks, so that is all of them. */
struct recent {
    struct {
        uint32_t segment, offset;
    } frames[FRAME_BLOCKS_MAX];
    size_t count;
};

static bool is_recent(struct recent *r, const struct run_entry *e)
{
    for (size_t i = 0; i < r->count && i < FRAME_BLOCKS_MAX; i++)
        if (r->frames[i].segment == e->segment && r->frames[i].offset == e->offset)
            return true;
    r->frames[r->count % FRAME_BLOCKS_MAX].segment = e->segment;
    r->frames[r->count++ % FRAME_BLOCKS_MAX].offset = e->offset;
    return false;
}

static bool entries_weigh(struct thinner *t, struct stored_run *s, struct err *err)
{
    struct run_cursor cursor = {.run = s->run};
    struct recent recent = {.count = 0};
    struct run_entry e;

    for (bool found = true;;) {
        struct sha256 object;
        uint16_t store;
        if (!run_next(&cursor, &e, &found, err))
            return false;
        if (!found)
            return true;
        if (e.kind != RUN_DATA || is_recent(&recent, &e))
            continue;
        if (!thinner_segment(s, e.segment, &store, &object, err))
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
        if (!thinner_segment(s, i, &store, &object, err) ||
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
    if (!stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &stored, err))
        return false;
    fixed = fixed || place->run.bytes > MERGE_BYTES_MAX;
    if (!fixed && !entries_weigh(t, &stored, err)) {
        if (err->kind != ERR_CORRUPT)
            return false;
        log_warning("%s: what a damaged run names is not compacted: %s", t->vault.vm, err->text);
        fixed = true;
    }
    if (!fixed)
        return true;
    w = weight_make(&t->compact, &place->run.object, err);
    if (w != NULL)
        w->fixed = true;
    return w != NULL && segments_fix(t, &stored, err);
}

/* What one step reads. */
struct weighed {
    size_t runs;
    uint64_t bytes;
};

static bool is_enough(const struct weighed *w)
{
    return w->runs >= THINNER_MARKS || w->bytes >= MERGE_BYTES_MAX;
}

/* From the run on where the step before ended. */
static bool epoch_weigh(struct thinner *t, struct weighed *w, struct err *err)
{
    struct merge_range own AUTO_MERGE_RANGE = {.runs = NULL};
    struct thinner_compact *c = &t->compact;
    bool replaceable = false;

    if (!history_epoch_own(t->history, c->at, &own, &replaceable, err))
        return false;
    for (; c->run < own.run_count && !is_enough(w); c->run++) {
        if (!run_weigh(t, &own.runs[c->run], !replaceable, err))
            return false;
        w->bytes += own.runs[c->run].run.bytes;
        w->runs++;
    }
    if (c->run >= own.run_count) {
        c->run = 0;
        c->at++;
    }
    return true;
}

static enum thinner_result weigh(struct thinner *t, struct err *err)
{
    struct thinner_compact *c = &t->compact;
    struct weighed w = {.runs = 0};

    while (c->at < c->end && !is_enough(&w))
        if (!epoch_weigh(t, &w, err))
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
        (w = thinner_weight(l->compact, &object)) != NULL)
        w->bytes = bytes;
    return ++l->keys < THINNER_KEYS;
}

static bool is_mostly_dead(const struct thinner *t, const struct weight *w)
{
    return w->known && !w->fixed && w->live * COMPACT_LIVE_PART <= w->bytes &&
           !object_set_has(&t->damaged, &w->object) && !history_dropped(t->history, &w->object);
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
    t->compacted_merges = history_merges(t->history);
    put_off(t, THINNER_COMPACT_MS);
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

static enum thinner_result move(struct thinner *t, struct err *err)
{
    struct thinner_compact *c = &t->compact;
    for (size_t runs = 0; runs < THINNER_MARKS && c->at < c->end;) {
        struct merge_range own AUTO_MERGE_RANGE = {.runs = NULL};
        bool replaceable = false, more = false;
        if (!history_epoch_own(t->history, c->at, &own, &replaceable, err))
            return failed(t, err);
        runs += own.run_count;
        enum thinner_result result =
            replaceable ? thinner_epoch_move(t, &own, &more, err) : THINNER_IDLE;
        if (result == THINNER_FAILED && err->kind != ERR_CORRUPT)
            return failed(t, err);
        if (result == THINNER_FAILED)
            log_warning("%s: not all of epoch %llu is compacted: %s", t->vault.vm,
                        (unsigned long long)own.last, err->text);
        if (result == THINNER_AGAIN)
            return result;
        if (!more) {
            c->run = 0;
            c->at++;
        }
        if (result != THINNER_IDLE)
            return THINNER_WORKED;
    }
    return c->at < c->end ? THINNER_WORKED : compact_end(t);
}

/* Without a merge nothing has died since the last look. */
static enum thinner_result begin(struct thinner *t)
{
    size_t end = history_epochs(t->history);
    if (end == 0 || history_merges(t->history) == t->compacted_merges)
        return compact_end(t);
    t->compact = (struct thinner_compact){.phase = COMPACT_WEIGH, .end = end};
    return THINNER_WORKED;
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
