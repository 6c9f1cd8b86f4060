/* SPDX-License-Identifier: MIT
 * Looking up which frame holds which block: runs from the newest to the oldest, the first that
 * says something of a block is right. */
#include "fs/view/view_internal.h"

#include <errno.h>

#define RUN_COST_BASE 8192u

void map_release(struct map *m)
{
    for (size_t i = 0; i < m->piece_count; i++) {
        struct piece *p = &m->pieces[i];
        if (p->claimed)
            view_cache_give_up(m->cache, &p->frame);
        else
            view_cache_put(m->cache, &p->frame);
    }
    free(m->pieces);
}

/* --- open runs --- */

static void cleanup_open_run(struct open_run **r)
{
    if (*r)
        stored_run_close(&(*r)->stored);
    free(*r);
}

static bool run_load(struct view *v, const struct run_place *place, struct open_run **out,
                     struct err *err)
{
    struct open_run *r CLEANUP(cleanup_open_run) = calloc(1, sizeof *r);

    if (!r)
        return err_errno(err, ENOMEM, "opening a run");
    *r = (struct open_run){.history = v->config.history, .place = *place, .users = 1};
    if (!stored_run_open(v->config.history, place, v->config.targets[0], v->config.keys, &r->stored,
                         err))
        return false;
    uint64_t bytes = r->stored.bytes;
    r->cost = RUN_COST_BASE + (size_t)(bytes < RUN_COST_MAX / 4 ? bytes * 4 : RUN_COST_MAX);
    *out = view_cache_run_add(v->config.cache, r);
    r = NULL;
    return true;
}

static bool run_hold(struct view *v, const struct run_place *place, struct open_run **out,
                     struct err *err)
{
    *out = view_cache_run_get(v->config.cache, v->config.history, place);
    return *out || run_load(v, place, out, err);
}

/* A run that is held until the end of the scope. */
struct held_run {
    struct view_cache *cache;
    struct open_run *run;
};

static void held_run_release(struct held_run *h)
{
    view_cache_run_put(h->cache, &h->run);
}

/* --- a window --- */

static bool key_make(const struct view *v, const struct open_run *r, const struct run_entry *e,
                     struct frame_key *key, struct err *err)
{
    char text[RUN_SEGMENT_NAME_MAX];
    const char *name = run_segment_name(r->stored.run, e->segment);

    *key = (struct frame_key){
        .segment = r->stored.object, .sealed = e->sealed_digest, .offset = e->offset};
    memcpy(key->vm, history_vault(v->config.history)->vm, VM_ID_BYTES);
    if (strcmp(name, RUN_SEGMENT_SELF) == 0)
        return true;
    if (!segment_name_parse(name, &key->store, text) || key->store >= v->config.target_count ||
        !hex_parse(strchr(text, '/') + 1, key->segment.bytes, SHA256_BYTES))
        return err_set(err, ERR_CORRUPT, "a run names the segment '%s', which is nowhere", name);
    return true;
}

static bool piece_add(struct view *v, struct map *m, const struct open_run *r,
                      const struct run_entry *e, uint16_t *index, struct err *err)
{
    if (m->piece_count == m->piece_room) {
        size_t room = m->piece_room * 2 + 16;
        struct piece *bigger = realloc(m->pieces, room * sizeof *bigger);
        if (!bigger)
            return err_errno(err, ENOMEM, "looking up blocks");
        m->pieces = bigger;
        m->piece_room = room;
    }
    struct piece *p = &m->pieces[m->piece_count];
    *p = (struct piece){.entry = *e};
    if (!key_make(v, r, e, &p->key, err))
        return false;
    *index = (uint16_t)m->piece_count++;
    return true;
}

/* Gives the open blocks of the window that lie in `e` to it. */
static bool map_entry(struct view *v, struct map *m, const struct open_run *r,
                      const struct run_entry *e, struct err *err)
{
    size_t from = e->first > m->first ? (size_t)(e->first - m->first) : 0;
    uint64_t end = e->first + e->count - m->first;
    uint16_t means = e->kind == RUN_HOLE ? MAP_HOLE : MAP_UNREADABLE;
    bool added = e->kind != RUN_DATA;

    for (size_t i = from; i < m->count && i < end; i++) {
        if (m->of[i] != MAP_OPEN)
            continue;
        if (!added && !piece_add(v, m, r, e, &means, err))
            return false;
        added = true;
        m->of[i] = means;
        m->open--;
    }
    return true;
}

static bool run_touches(const struct run *run, const struct map *m)
{
    uint64_t last = (m->first + m->count - 1) / REGION_BLOCKS;
    for (uint64_t region = m->first / REGION_BLOCKS; region <= last; region++)
        if (run_may_touch(run, m->disk, region))
            return true;
    return false;
}

static bool map_run(struct view *v, struct map *m, const struct open_run *r, struct err *err)
{
    size_t i = 0;

    if (!run_touches(r->stored.run, m))
        return true;
    while (i < m->count) {
        struct run_entry e;
        bool found = false;
        if (m->of[i] != MAP_OPEN) {
            i++;
            continue;
        }
        if (!run_find(r->stored.run, m->disk, m->first + i, &e, &found, err))
            return err_wrap(err, "%s", r->stored.key);
        if (!found || e.first >= m->first + m->count)
            return true;
        if (!map_entry(v, m, r, &e, err))
            return false;
        i = e.first + e.count - m->first < m->count ? (size_t)(e.first + e.count - m->first)
                                                    : m->count;
    }
    return true;
}

bool map_make(struct view *v, uint16_t disk, uint64_t first, size_t count, struct map *m,
              struct err *err)
{
    assert(count > 0 && count <= VIEW_WINDOW_BLOCKS);
    m->disk = disk;
    m->first = first;
    m->count = m->open = count;
    m->cache = v->config.cache;
    m->piece_count = 0;
    for (size_t i = 0; i < count; i++)
        m->of[i] = MAP_OPEN;
    struct held_runs runs CLEANUP(view_runs_put) = {.view = v, .runs = view_runs_hold(v)};
    for (size_t i = 0; i < runs.runs->count && m->open > 0; i++) {
        struct held_run held CLEANUP(held_run_release) = {.cache = v->config.cache};
        if (!run_hold(v, &runs.runs->places[i], &held.run, err) || !map_run(v, m, held.run, err))
            return view_err_at(v, disk, first, err);
    }
    for (size_t i = 0; i < count; i++)
        if (m->of[i] == MAP_OPEN)
            m->of[i] = MAP_HOLE; /* never written */
    m->open = 0;
    return true;
}

/* --- what comes next --- */

static bool run_next_data(const struct open_run *r, uint16_t disk, uint64_t from, uint64_t *block,
                          bool *found, struct err *err)
{
    struct run_entry e;
    for (;;) {
        if (!run_find(r->stored.run, disk, from, &e, found, err))
            return false;
        if (!*found)
            return true;
        if (e.kind != RUN_HOLE)
            break;
        from = e.first + e.count;
    }
    *block = e.first > from ? e.first : from;
    return true;
}

bool map_next_candidate(struct view *v, uint16_t disk, uint64_t from, uint64_t *block, bool *found,
                        struct err *err)
{
    *found = false;
    struct held_runs runs CLEANUP(view_runs_put) = {.view = v, .runs = view_runs_hold(v)};
    for (size_t i = 0; i < runs.runs->count; i++) {
        struct held_run held CLEANUP(held_run_release) = {.cache = v->config.cache};
        uint64_t next = 0;
        bool any = false;
        if (!run_hold(v, &runs.runs->places[i], &held.run, err) ||
            !run_next_data(held.run, disk, from, &next, &any, err))
            return view_err_at(v, disk, from, err);
        if (any && (!*found || next < *block)) {
            *block = next;
            *found = true;
        }
        if (*found && *block == from)
            return true;
    }
    return true;
}
