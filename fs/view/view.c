/* SPDX-License-Identifier: MIT */
#include "fs/view/view_internal.h"

#include "common/rfc3339.h"

#include <errno.h>

bool view_err_at(const struct view *v, uint16_t disk, uint64_t block, struct err *err)
{
    char time[POINT_TIME_CHARS + 1];
    const char *name = "?";
    for (size_t i = 0; i < v->disk_count; i++)
        if (v->disks[i].disk == disk)
            name = v->disks[i].name;
    point_time_format(v->point.ms, time);
    return err_wrap(err, "%s at %s, disk %s, block %llu", history_vault(v->config.history)->name,
                    time, name, (unsigned long long)block);
}

/* --- its runs --- */

static void runs_free(struct view_runs *r)
{
    if (r != NULL)
        free(r->places);
    free(r);
}

static bool runs_collect(struct view *v, struct view_runs **out, struct err *err)
{
    struct view_runs *r = calloc(1, sizeof *r);
    if (r == NULL)
        return err_errno(err, ENOMEM, "opening a point");
    if (!history_runs(v->config.history, v->point.index, &r->places, &r->count, err)) {
        free(r);
        return false;
    }
    r->users = 1;
    *out = r;
    return true;
}

struct view_runs *view_runs_hold(struct view *v)
{
    LOCK_SCOPE(&v->lock);
    v->runs->users++;
    return v->runs;
}

void view_runs_put(struct held_runs *h)
{
    LOCK_SCOPE(&h->view->lock);
    if (--h->runs->users == 0)
        runs_free(h->runs);
}

static bool runs_same(const struct view_runs *a, const struct view_runs *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!record_run_same_place(&a->places[i].run, &b->places[i].run))
            return false;
    return true;
}

/* What was read is not there or not right. The point may consist of other objects by now: then its
 * runs are taken anew, and *changed. When that cannot be told, nothing is known to be damaged. */
static bool runs_renew(struct view *v, const struct view_runs *was, bool *changed, struct err *err)
{
    struct history_point now;
    struct view_runs *fresh = NULL;
    struct err why = ERR_NONE;

    *changed = false;
    if (!history_refresh(v->config.history, &why)) {
        err->kind = why.kind == ERR_CORRUPT ? ERR_IO : why.kind;
        return err_wrap(err, "it may have been moved, which the vault does not tell (%s)",
                        why.text);
    }
    if (!history_point_at(v->config.history, v->point.generation, v->point.epoch, &now, &why))
        return err_set(err, ERR_IO,
                       "this recovery point was thinned out while it was read: nothing kept it");
    if (!runs_collect(v, &fresh, err)) {
        err->kind = err->kind == ERR_NOT_FOUND ? ERR_IO : err->kind;
        return false;
    }
    struct held_runs drop = {.view = v, .runs = fresh};
    {
        LOCK_SCOPE(&v->lock);
        if (v->runs != was) {
            *changed = true; /* by another thread */
        } else if (!runs_same(fresh, was)) {
            drop.runs = v->runs;
            v->runs = fresh;
            *changed = true;
        }
    }
    view_runs_put(&drop);
    return true;
}

static void view_free(struct view **v)
{
    if (!*v)
        return;
    for (size_t i = 0; i < (*v)->codec_count; i++)
        frame_codec_release(&(*v)->codecs[i]);
    pthread_mutex_destroy(&(*v)->lock);
    runs_free((*v)->runs);
    free(*v);
    *v = NULL;
}

bool view_open(const struct view_config *config, const struct history_point *point,
               struct view **out, struct err *err)
{
    struct view *v CLEANUP(view_free) = calloc(1, sizeof *v);

    if (!v)
        return err_errno(err, ENOMEM, "opening a point");
    assert(config->target_count > 0);
    v->config = *config;
    v->point = *point;
    pthread_mutex_init(&v->lock, NULL);
    v->disk_count = history_disks(config->history, point->index, v->disks);
    for (size_t i = 0; i < v->disk_count; i++)
        v->next_block[i] = UINT64_MAX;
    if (!runs_collect(v, &v->runs, err))
        return false;
    if (!view_cache_view_add(config->cache, config->history))
        return err_errno(err, ENOMEM, "opening a point");
    *out = TAKE(v);
    return true;
}

void view_close(struct view **v)
{
    if (*v)
        view_cache_view_remove((*v)->config.cache, (*v)->config.history);
    view_free(v);
}

size_t view_disks(const struct view *v)
{
    return v->disk_count;
}

const struct epoch_disk *view_disk(const struct view *v, size_t index)
{
    assert(index < v->disk_count);
    return &v->disks[index];
}

/* --- reading --- */

/* Whether this read goes on where the last one of the disk ended. */
static bool sequential(struct view *v, size_t disk, struct extent e)
{
    LOCK_SCOPE(&v->lock);
    bool follows = v->next_block[disk] == e.first || v->next_block[disk] == e.first + 1;
    v->next_block[disk] = extent_end(e);
    return follows;
}

static bool blocks_readable(struct view *v, const struct map *m, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        if (m->of[i] == MAP_UNREADABLE) {
            err_set(err, ERR_IO,
                    "the source could not read this block; it is served once the "
                    "source has read it and shipped it again");
            return view_err_at(v, m->disk, m->first + i, err);
        }
    return true;
}

/* The bytes [skip, skip + out.length) of the window. */
static void window_copy(const struct map *m, size_t skip, struct mspan out)
{
    size_t done = 0;
    while (done < out.length) {
        size_t i = (skip + done) / BLOCK_BYTES;
        size_t within = (skip + done) % BLOCK_BYTES;
        size_t length = BLOCK_BYTES - within;
        length = length < out.length - done ? length : out.length - done;
        if (m->of[i] == MAP_HOLE) {
            memset(out.data + done, 0, length);
        } else {
            const struct piece *p = &m->pieces[m->of[i]];
            size_t at = (size_t)(m->first + i - p->entry.frame.first) * BLOCK_BYTES + within;
            memcpy(out.data + done, p->frame->plain + at, length);
        }
        done += length;
    }
}

static bool window_try(struct view *v, size_t disk, uint64_t first, size_t skip, struct mspan out,
                       bool ahead, struct err *err)
{
    struct map m AUTO_MAP = {.pieces = NULL};
    size_t needed = (skip + out.length + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint64_t left = blocks_of_bytes(v->disks[disk].size_bytes) - first;
    size_t count = needed;

    if (ahead)
        count = left < VIEW_WINDOW_BLOCKS ? (size_t)left : VIEW_WINDOW_BLOCKS;
    if (!map_make(v, v->disks[disk].disk, first, count, &m, err) ||
        !blocks_readable(v, &m, needed, err))
        return false;
    for (size_t i = 0; i < needed; i++)
        if (m.of[i] != MAP_HOLE)
            m.pieces[m.of[i]].needed = true;
    if (m.piece_count > 0 && !map_fetch(v, &m, err))
        return false;
    window_copy(&m, skip, out);
    return true;
}

/* Whether a read that failed as `err` says is to be done again: over other runs, or once over the
 * same ones, as a bit may have flipped on the way. Bounded: else the history has gone on. */
static bool read_again(struct view *v, const struct view_runs *was, bool *same, struct err *err)
{
    bool changed = false;
    if (err->kind != ERR_CORRUPT || !runs_renew(v, was, &changed, err))
        return false;
    if (changed)
        return true;
    bool again = !*same;
    *same = true;
    return again;
}

/* `out` starts at byte `skip` of block `first`; all within one window. */
static bool window_read(struct view *v, size_t disk, uint64_t first, size_t skip, struct mspan out,
                        bool ahead, struct err *err)
{
    for (bool same = false;;) {
        struct held_runs held CLEANUP(view_runs_put) = {.view = v, .runs = view_runs_hold(v)};
        if (window_try(v, disk, first, skip, out, ahead, err))
            return true;
        if (!read_again(v, held.runs, &same, err))
            return false;
    }
}

bool view_read(struct view *v, size_t disk, uint64_t offset, struct mspan out, struct err *err)
{
    struct err own;
    size_t done = 0;

    if (!err)
        err = &own;
    assert(disk < v->disk_count && offset <= v->disks[disk].size_bytes &&
           out.length <= v->disks[disk].size_bytes - offset);
    if (out.length == 0)
        return true;
    bool ahead = sequential(v, disk, extent_of_bytes(offset, out.length));
    while (done < out.length) {
        uint64_t at = offset + done;
        size_t skip = at % BLOCK_BYTES;
        size_t length = VIEW_WINDOW_BLOCKS * BLOCK_BYTES - skip;
        length = length < out.length - done ? length : out.length - done;
        if (!window_read(v, disk, at / BLOCK_BYTES, skip, mspan_part(out, done, length), ahead,
                         err)) {
            memset(out.data, 0, out.length);
            return false;
        }
        done += length;
    }
    return true;
}

/* --- where data is --- */

/* The first blocks of the window that are not holes. */
static bool window_data(const struct map *m, struct extent *out)
{
    size_t i = 0;
    while (i < m->count && m->of[i] == MAP_HOLE)
        i++;
    size_t end = i;
    while (end < m->count && m->of[end] != MAP_HOLE)
        end++;
    *out = (struct extent){.first = m->first + i, .count = end - i};
    return end > i;
}

static bool next_data(struct view *v, size_t disk, uint64_t from, struct extent *out, bool *found,
                      struct err *err)
{
    uint64_t blocks = blocks_of_bytes(v->disks[disk].size_bytes);
    uint16_t number = v->disks[disk].disk;

    for (;;) {
        struct map m AUTO_MAP = {.pieces = NULL};
        if (!map_next_candidate(v, number, from, &from, found, err))
            return false;
        *found = *found && from < blocks;
        if (!*found)
            return true;
        uint64_t left = blocks - from;
        if (!map_make(v, number, from,
                      left < VIEW_WINDOW_BLOCKS ? (size_t)left : VIEW_WINDOW_BLOCKS, &m, err))
            return false;
        if (window_data(&m, out))
            return true;
        from += m.count;
    }
}

bool view_next_data(struct view *v, size_t disk, uint64_t from, struct extent *out, bool *found,
                    struct err *err)
{
    struct err own;

    if (!err)
        err = &own;
    for (bool same = false;;) {
        struct held_runs held CLEANUP(view_runs_put) = {.view = v, .runs = view_runs_hold(v)};
        if (next_data(v, disk, from, out, found, err))
            return true;
        if (!read_again(v, held.runs, &same, err))
            return false;
    }
}

/* --- proving a point --- */

static bool disk_verify(struct view *v, size_t disk, uint8_t *room, uint64_t before, uint64_t total,
                        void (*progress)(void *, uint64_t, uint64_t), void *context,
                        uint64_t *bytes, struct err *err)
{
    uint64_t size = v->disks[disk].size_bytes;
    struct extent e = {.first = 0};
    bool found = true;

    for (;;) {
        if (!view_next_data(v, disk, extent_end(e), &e, &found, err))
            return false;
        if (!found)
            return true;
        uint64_t offset = e.first * BLOCK_BYTES;
        uint64_t length =
            e.count * BLOCK_BYTES < size - offset ? e.count * BLOCK_BYTES : size - offset;
        if (!view_read(v, disk, offset, mspan_of(room, (size_t)length), err))
            return false;
        *bytes += length;
        if (progress)
            progress(context, before + offset + length, total);
    }
}

bool view_verify(struct view *v, void (*progress)(void *, uint64_t, uint64_t), void *context,
                 uint64_t *bytes, struct err *err)
{
    uint8_t *room AUTO_FREE = malloc(VIEW_WINDOW_BLOCKS * BLOCK_BYTES);
    struct err own;
    uint64_t total = 0;
    uint64_t before = 0;

    if (!err)
        err = &own;
    if (!room)
        return err_errno(err, ENOMEM, "verifying a point");
    *bytes = 0;
    for (size_t i = 0; i < v->disk_count; i++)
        total += v->disks[i].size_bytes;
    for (size_t i = 0; i < v->disk_count; i++) {
        if (!disk_verify(v, i, room, before, total, progress, context, bytes, err))
            return false;
        before += v->disks[i].size_bytes;
    }
    if (progress)
        progress(context, total, total);
    return true;
}
