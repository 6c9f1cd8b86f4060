/* SPDX-License-Identifier: MIT */
#include "fs/disk/hydrate.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "common/parallel.h"
#include "fs/disk/source_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct hydrate {
    struct source *source;
    void (*complete)(void *context);
    void *context;
    uint8_t *room; /* a chunk per thread */

    /* --- the thread's own --- */
    size_t disk;
    uint64_t position; /* as far as it has looked on `disk` */
    bool behind;       /* a block was left out: the watermark stays */
    struct extent chunks[HYDRATE_THREADS];
    size_t chunk_count;
    uint64_t retry_ms;

    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    bool stopping;
    unsigned writing; /* threads that change a local file just now */
    struct hydrate_status status;
};

static struct source_disk *disk_of(const struct hydrate *h)
{
    return &h->source->disks[h->disk];
}

static uint64_t blocks_on(const struct source_disk *d)
{
    return blocks_of_bytes(d->size);
}

static bool stopping(struct hydrate *h)
{
    LOCK_SCOPE(&h->lock);
    return h->stopping;
}

/* --- changing a local file --- */

static bool write_begin(struct hydrate *h, struct err *err)
{
    LOCK_SCOPE(&h->lock);
    if (h->stopping)
        return err_set(err, ERR_CANCELLED, "hydration ends");
    h->writing++;
    return true;
}

static void write_end(struct hydrate *h)
{
    LOCK_SCOPE(&h->lock);
    h->writing--;
    pthread_cond_broadcast(&h->change);
}

/* `data` NULL: a hole. Into those of the blocks that are absent still. */
static bool put(struct hydrate *h, struct extent blocks, const struct span *data, struct err *err)
{
    struct source_disk *d = disk_of(h);
    struct range_hold hold CLEANUP(range_cleanup) = {.locks = NULL};
    range_lock(d->locks, blocks, &hold);
    if (!write_begin(h, err))
        return false;
    bool good = data ? backing_fill(d->backing, blocks, *data, err)
                     : backing_fill_hole(d->backing, blocks, err);
    write_end(h);
    return good;
}

/* --- which blocks --- */

/* Over a hole of the origin. What an absent block of the file may hold, of a write that was never
 * acknowledged, must not come to light when the watermark rises. */
static bool jump(struct hydrate *h, uint64_t until, struct err *err)
{
    struct source_disk *d = disk_of(h);
    while (h->position < until) {
        struct extent stray, rest = {.first = h->position, .count = until - h->position};
        bool found;
        if (!backing_next_bytes(d->backing, rest, &stray, &found, err))
            return false;
        if (found && !put(h, stray, NULL, err))
            return false;
        h->position = found ? extent_end(stray) : until;
    }
    return true;
}

/* The next absent blocks with data, at most a chunk; *found false: none to the end. */
static bool next_chunk(struct hydrate *h, struct extent *out, bool *found, struct err *err)
{
    struct source_disk *d = disk_of(h);
    const struct origin *o = d->origin;
    uint64_t blocks = blocks_on(d);
    *found = false;
    while (h->position < blocks) {
        struct extent data;
        uint64_t run;
        struct extent rest = {.first = h->position, .count = blocks - h->position};
        if (backing_present(d->backing, rest, &run)) {
            h->position += run;
            continue;
        }
        uint64_t absent_end = h->position + run;
        if (!o->next_data(o->context, d->number, h->position, &data, found, err))
            return false;
        uint64_t hole_end = *found && data.first < absent_end ? data.first : absent_end;
        if (!jump(h, hole_end, err))
            return false;
        if (hole_end == absent_end)
            continue;
        out->first = h->position;
        uint64_t end = extent_end(data) < absent_end ? extent_end(data) : absent_end;
        out->count = end - out->first;
        if (out->count > HYDRATE_CHUNK_BLOCKS)
            out->count = HYDRATE_CHUNK_BLOCKS;
        h->position = extent_end(*out);
        *found = true;
        return true;
    }
    *found = false;
    return true;
}

static bool gather(struct hydrate *h, struct err *err)
{
    bool found = true;
    h->chunk_count = 0;
    while (h->chunk_count < HYDRATE_THREADS) {
        if (!next_chunk(h, &h->chunks[h->chunk_count], &found, err))
            return false;
        if (!found)
            break;
        h->chunk_count++;
    }
    return true;
}

/* --- copying --- */

static bool fetch(struct source_disk *d, struct extent blocks, struct mspan out, struct err *err)
{
    return d->origin->read(d->origin->context, d->number, blocks.first << BLOCK_SHIFT, out, err);
}

static void leave_out(struct hydrate *h)
{
    LOCK_SCOPE(&h->lock);
    h->status.unreadable_blocks++;
    h->behind = true;
}

/* Some block of the chunk is one that the old source could not read: the others go in. */
static bool copy_each(struct hydrate *h, struct extent chunk, struct mspan room, struct err *err)
{
    struct source_disk *d = disk_of(h);
    for (uint64_t i = 0; i < chunk.count; i++) {
        struct extent one = {.first = chunk.first + i, .count = 1};
        struct mspan block = mspan_part(room, 0, BLOCK_BYTES);
        struct span data = span_of_mspan(block);
        struct err why = ERR_NONE;
        if (!fetch(d, one, block, &why)) {
            if (why.kind != ERR_IO) {
                *err = why;
                return false;
            }
            leave_out(h);
        } else if (!put(h, one, &data, err)) {
            return false;
        }
    }
    return true;
}

static bool copy_chunk(void *context, size_t index, struct err *err)
{
    struct hydrate *h = context;
    struct extent chunk = h->chunks[index];
    struct mspan room =
        mspan_of(h->room + index * HYDRATE_CHUNK_BLOCKS * BLOCK_BYTES, chunk.count * BLOCK_BYTES);
    struct span data = span_of_mspan(room);
    if (fetch(disk_of(h), chunk, room, err))
        return put(h, chunk, &data, err);
    return err->kind == ERR_IO && copy_each(h, chunk, room, err);
}

/* --- the thread --- */

static void count(struct hydrate *h, const char *reason)
{
    uint64_t done = 0;
    for (size_t i = 0; i < h->source->disk_count; i++) {
        const struct source_disk *d = &h->source->disks[i];
        uint64_t blocks = i == h->disk ? h->position : backing_watermark(d->backing);
        uint64_t bytes = i < h->disk ? d->size : blocks << BLOCK_SHIFT;
        done += bytes < d->size ? bytes : d->size;
    }
    LOCK_SCOPE(&h->lock);
    h->status.done_bytes = done;
    snprintf(h->status.reason, sizeof h->status.reason, "%s", reason);
}

/* One batch of one disk; *end: that disk has no more. */
static bool step(struct hydrate *h, bool *end, struct err *err)
{
    struct source_disk *d = disk_of(h);
    uint64_t began = h->position;
    if (!gather(h, err) || !parallel_each(h->chunk_count, HYDRATE_THREADS, copy_chunk, h, err)) {
        h->position = began; /* from there again: what came in is present */
        return false;
    }
    if (!h->behind)
        backing_raise(d->backing, h->position);
    *end = h->position == blocks_on(d);
    return true;
}

/* False: asked to stop. */
static bool pause_after(struct hydrate *h, const struct err *why)
{
    if (stopping(h))
        return false;
    if (h->retry_ms == 0)
        log_warning("hydration waits: %s", why->text);
    h->retry_ms = h->retry_ms == 0 ? HYDRATE_RETRY_MS : h->retry_ms * 2;
    if (h->retry_ms > HYDRATE_RETRY_MAX_MS)
        h->retry_ms = HYDRATE_RETRY_MAX_MS;
    count(h, why->text);
    struct timespec until = deadline_after(h->retry_ms);
    LOCK_SCOPE(&h->lock);
    while (!h->stopping && pthread_cond_timedwait(&h->change, &h->lock, &until) != ETIMEDOUT)
        ;
    return !h->stopping;
}

static bool hydrate_disk(struct hydrate *h)
{
    bool end = false;
    h->position = backing_watermark(disk_of(h)->backing);
    h->behind = false;
    while (!end && !stopping(h)) {
        struct err why = ERR_NONE;
        if (step(h, &end, &why)) {
            h->retry_ms = 0;
            count(h, "");
        } else if (!pause_after(h, &why)) {
            return false;
        }
    }
    return end;
}

/* What was copied must be durable before anybody is told that the origin may go. */
static bool sync_all(struct hydrate *h)
{
    for (h->disk = 0; h->disk < h->source->disk_count; h->disk++)
        for (;;) {
            struct err why = ERR_NONE;
            if (source_flush(h->source, h->disk, &why) && backing_seal(disk_of(h)->backing, &why))
                break;
            if (!pause_after(h, &why))
                return false;
        }
    return true;
}

static void *hydrate_thread(void *context)
{
    struct hydrate *h = context;
    for (h->disk = 0; h->disk < h->source->disk_count; h->disk++)
        if (disk_of(h)->origin != NULL && !hydrate_disk(h))
            return NULL;
    struct hydrate_status s;
    hydrate_status(h, &s);
    if (s.unreadable_blocks > 0) {
        count(h, "some blocks could not be read where they come from, and stay so until the guest "
                 "writes them");
        return NULL;
    }
    if (!sync_all(h))
        return NULL;
    h->disk = h->source->disk_count;
    count(h, "");
    pthread_mutex_lock(&h->lock);
    h->status.complete = true;
    pthread_mutex_unlock(&h->lock);
    h->complete(h->context);
    return NULL;
}

bool hydrate_start(struct source *s, void (*complete)(void *context), void *context,
                   struct hydrate **out, struct err *err)
{
    struct hydrate *h CLEANUP(hydrate_stop) = calloc(1, sizeof *h);
    if (h == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    pthread_mutex_init(&h->lock, NULL);
    deadline_cond_init(&h->change);
    h->source = s;
    h->complete = complete;
    h->context = context;
    for (size_t i = 0; i < s->disk_count; i++)
        h->status.total_bytes += s->disks[i].size;
    h->room = malloc((size_t)HYDRATE_THREADS * HYDRATE_CHUNK_BLOCKS * BLOCK_BYTES);
    if (h->room == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    int failed = pthread_create(&h->thread, NULL, hydrate_thread, h);
    if (failed != 0)
        return err_errno(err, failed, "cannot start hydration");
    h->running = true;
    *out = TAKE(h);
    return true;
}

void hydrate_quiet(struct hydrate *h)
{
    LOCK_SCOPE(&h->lock);
    h->stopping = true;
    pthread_cond_broadcast(&h->change);
    while (h->writing > 0)
        pthread_cond_wait(&h->change, &h->lock);
}

void hydrate_stop(struct hydrate **hydrate)
{
    struct hydrate *h = TAKE(*hydrate);
    if (h == NULL)
        return;
    hydrate_quiet(h);
    if (h->running)
        pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->change);
    pthread_mutex_destroy(&h->lock);
    free(h->room);
    free(h);
}

void hydrate_status(struct hydrate *h, struct hydrate_status *out)
{
    LOCK_SCOPE(&h->lock);
    *out = h->status;
}
