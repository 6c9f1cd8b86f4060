/* SPDX-License-Identifier: MIT */
#include "fs/disk/marks.h"

#include "common/digest.h"
#include "common/file.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The file: a head page (magic, version, flags, disk bytes, their SHA-256), then a bit per region,
 * lowest first, padded to whole pages.
 *
 * Three bitmaps say three things. `durable`: the file's bit is set and synced, and nobody is about
 * to clear it; all that a hot writer asks. `image`: what the file holds once its pages are written;
 * a superset of `durable`. `recent`: noted in this quiet time or in the one before it.
 *
 * One thread at a time is *the writer* of image and file: the leader of a batch of requests, or a
 * sweep. So a sweep's clear and a request's set of one bit can never overtake each other on their
 * way into the file. Between writer and hot path stands only this: a sweep takes the durable bit
 * away before it asks whether the region is dirty, and marks_ensure looks at the durable bit after
 * its caller made the region dirty; all of it sequentially consistent. So either the sweep sees the
 * dirty block, or marks_ensure sees the bit gone and waits for the writer to set it again. */

#define MARKS_MAGIC    UINT64_C(0x31534b52414d5346) /* "FSMARKS1" */
#define MARKS_VERSION  1u
#define HEAD_BYTES     4096u
#define HEAD_CHECKED   24u /* the bytes that the checksum covers */
#define PAGE_BYTES     4096u
#define ERAS           2u
#define REGION_OF(blk) ((blk) / REGION_BLOCKS)

/* A caller waiting for the regions [first, end); [end, ahead) is marked along with them. */
struct request {
    uint64_t first, end, ahead;
    bool done, marked, failed;
    struct err err;
    struct request *next;
};

struct marks {
    struct world *world;
    struct world_file *file;
    struct long_wait far;
    uint64_t regions;
    size_t words;
    _Atomic uint64_t *durable;
    _Atomic uint64_t *recent[ERAS];
    _Atomic uint32_t era;           /* its low bit selects the bitmap that notes go to */
    uint64_t opened_ms, rotated_ms; /* sweeps only */

    pthread_mutex_t queue_lock; /* guards the next four */
    pthread_cond_t queue_moved;
    struct request *queue;
    bool writing;

    /* Of the writer alone: */
    uint8_t *image;
    uint64_t page_first, page_end; /* pages of the image that the file lacks */
};

/* ---- bits ---- */

static bool bit_test(_Atomic uint64_t *words, uint64_t region)
{
    return atomic_load(&words[region / 64]) >> (region % 64) & 1;
}

static void bit_set(_Atomic uint64_t *words, uint64_t region)
{
    if (!bit_test(words, region))
        atomic_fetch_or(&words[region / 64], UINT64_C(1) << (region % 64));
}

static void bit_clear(_Atomic uint64_t *words, uint64_t region)
{
    atomic_fetch_and(&words[region / 64], ~(UINT64_C(1) << (region % 64)));
}

static void image_touch(struct marks *m, uint64_t region)
{
    uint64_t page = region / 8 / PAGE_BYTES;

    if (m->page_first == m->page_end) {
        m->page_first = page;
        m->page_end = page + 1;
        return;
    }
    if (page < m->page_first)
        m->page_first = page;
    if (page >= m->page_end)
        m->page_end = page + 1;
}

/* Touches the page also when the bit is set already: an earlier sync of it may have failed. */
static void image_set(struct marks *m, uint64_t region)
{
    m->image[region / 8] |= (uint8_t)(1u << (region % 8));
    image_touch(m, region);
}

static void image_clear(struct marks *m, uint64_t region)
{
    m->image[region / 8] &= (uint8_t) ~(1u << (region % 8));
    image_touch(m, region);
}

static uint64_t regions_of(uint64_t disk_bytes)
{
    return (disk_bytes + (UINT64_C(1) << REGION_SHIFT) - 1) >> REGION_SHIFT;
}

static size_t image_bytes(uint64_t regions)
{
    return (size_t)((regions + 8 * PAGE_BYTES - 1) / (8 * PAGE_BYTES) * PAGE_BYTES);
}

/* ---- the file ---- */

static void head_encode(struct buf *out, uint64_t disk_bytes)
{
    buf_put_u64(out, MARKS_MAGIC);
    buf_put_u32(out, MARKS_VERSION);
    buf_put_u32(out, 0);
    buf_put_u64(out, disk_bytes);
    if (out->failed)
        return;
    struct sha256 check = sha256_of(buf_span(out));
    buf_put(out, check.bytes, sizeof check.bytes);
    size_t pad = HEAD_BYTES - HEAD_CHECKED - SHA256_BYTES;
    uint8_t *rest = buf_extend(out, pad);
    if (rest)
        memset(rest, 0, pad);
}

static bool head_decode(struct span head, const char *path, uint64_t *disk_bytes, struct err *err)
{
    struct reader r = reader_of(head);
    struct sha256 check = sha256_of(span_part(head, 0, HEAD_CHECKED));
    uint64_t magic = read_u64(&r);
    uint32_t version = read_u32(&r);
    uint32_t flags = read_u32(&r);

    *disk_bytes = read_u64(&r);
    if (magic != MARKS_MAGIC || !digests_equal(head.data + HEAD_CHECKED, check.bytes, SHA256_BYTES))
        return err_set(err, ERR_CORRUPT, "%s is not a file of intent marks, or damaged", path);
    if (version != MARKS_VERSION || flags != 0)
        return err_set(err, ERR_CORRUPT, "%s has version %u, flags %#x: made by a newer farshore",
                       path, version, flags);
    return true;
}

uint64_t marks_file_bytes(uint64_t disk_bytes)
{
    return HEAD_BYTES + image_bytes(regions_of(disk_bytes));
}

/* A new file has every region marked; it appears whole. */
static bool file_make(struct world *w, const char *path, uint64_t disk_bytes, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint64_t regions = regions_of(disk_bytes);

    head_encode(&bytes, disk_bytes);
    uint8_t *bits = buf_extend(&bytes, image_bytes(regions));
    if (!buf_ok(&bytes, err))
        return err_wrap(err, "cannot make %s", path);
    memset(bits, 0, image_bytes(regions));
    memset(bits, 0xff, (size_t)(regions / 8));
    for (uint64_t r = regions / 8 * 8; r < regions; r++)
        bits[r / 8] |= (uint8_t)(1u << (r % 8));
    return file_replace(w, path, 0600, buf_span(&bytes), err);
}

static bool pages_write(struct marks *m, struct err *err)
{
    if (m->page_first == m->page_end)
        return true;
    size_t offset = (size_t)m->page_first * PAGE_BYTES;
    size_t length = (size_t)(m->page_end - m->page_first) * PAGE_BYTES;
    if (!file_write(m->file, span_of(m->image + offset, length), HEAD_BYTES + offset, err))
        return false;
    m->page_first = m->page_end = 0;
    return true;
}

static bool pages_sync(struct marks *m, struct err *err)
{
    return pages_write(m, err) && file_sync(m->file, err);
}

/* The new regions are durable before the head speaks of them: a kill in between repeats it, and so
 * does a power cut before the next mark's sync takes the head along. */
static bool head_grow(struct marks *m, uint64_t disk_bytes, struct err *err)
{
    struct buf head AUTO_BUF = BUF_NONE;

    head_encode(&head, disk_bytes);
    return buf_ok(&head, err) && file_write(m->file, buf_span(&head), 0, err);
}

static bool file_adopt(struct marks *m, const char *path, uint64_t disk_bytes, struct err *err)
{
    uint8_t head[HEAD_BYTES];
    struct world_stat st;
    uint64_t old_bytes;

    if (!file_read(m->file, mspan_of(head, sizeof head), 0, err) ||
        !head_decode(span_of(head, sizeof head), path, &old_bytes, err))
        return false;
    if (old_bytes > disk_bytes)
        return err_set(err, ERR_CORRUPT, "%s is for a disk of %llu bytes, but the disk has %llu",
                       path, (unsigned long long)old_bytes, (unsigned long long)disk_bytes);
    int result = m->world->ops->stat(m->file, &st);
    if (result < 0)
        return err_errno(err, -result, "cannot stat %s", path);
    size_t length = image_bytes(regions_of(old_bytes));
    if (st.size < HEAD_BYTES + length) /* longer: killed while it grew */
        return err_set(err, ERR_CORRUPT, "%s is cut short: %llu bytes", path,
                       (unsigned long long)st.size);
    if (!file_read(m->file, mspan_of(m->image, length), HEAD_BYTES, err))
        return false;
    for (uint64_t r = old_bytes >> REGION_SHIFT; old_bytes < disk_bytes && r < m->regions; r++)
        image_set(m, r);
    /* A killed worker's last pages may not be on the disk, and after a failed sync the page cache
     * shows what never will be: all is written again before it is believed. */
    m->page_first = 0;
    m->page_end = image_bytes(m->regions) / PAGE_BYTES;
    if (!pages_sync(m, err) || (old_bytes < disk_bytes && !head_grow(m, disk_bytes, err)))
        return err_wrap(err, "cannot adopt %s", path);
    for (uint64_t r = 0; r < m->regions; r++)
        if (m->image[r / 8] >> (r % 8) & 1)
            bit_set(m->durable, r);
    return true;
}

static uint64_t now_ms(struct world *w)
{
    return w->ops->boottime_ns(w) / 1000000;
}

static bool marks_make(struct world *w, uint64_t disk_bytes, struct marks **out, struct err *err)
{
    struct marks *m = calloc(1, sizeof *m);

    if (!m)
        return err_set(err, ERR_FULL, "no memory for intent marks");
    m->world = w;
    m->regions = regions_of(disk_bytes);
    m->words = (size_t)((m->regions + 63) / 64);
    m->opened_ms = m->rotated_ms = now_ms(w);
    pthread_mutex_init(&m->queue_lock, NULL);
    pthread_cond_init(&m->queue_moved, NULL);
    m->durable = calloc(m->words + 1, sizeof *m->durable);
    m->recent[0] = calloc(m->words + 1, sizeof *m->recent[0]);
    m->recent[1] = calloc(m->words + 1, sizeof *m->recent[1]);
    m->image = calloc(1, image_bytes(m->regions) + 1);
    if (!m->durable || !m->recent[0] || !m->recent[1] || !m->image) {
        marks_close(&m);
        return err_set(err, ERR_FULL, "no memory for intent marks");
    }
    *out = m;
    return true;
}

bool marks_open(struct world *w, const char *path, uint64_t disk_bytes, struct marks **out,
                struct err *err)
{
    struct marks *m;
    struct err why = ERR_NONE;

    assert(disk_bytes <= DISK_BYTES_MAX);
    if (!marks_make(w, disk_bytes, &m, err))
        return false;
    bool opened = file_open(w, path, O_RDWR, 0, &m->file, &why);
    if (!opened && why.kind == ERR_NOT_FOUND)
        opened =
            file_make(w, path, disk_bytes, &why) && file_open(w, path, O_RDWR, 0, &m->file, &why);
    if (!opened || !file_adopt(m, path, disk_bytes, &why)) {
        marks_close(&m);
        if (err)
            *err = why;
        return false;
    }
    *out = m;
    return true;
}

void marks_on_wait(struct marks *m, struct long_wait wait)
{
    m->far = wait;
}

void marks_close(struct marks **marks)
{
    struct marks *m = *marks;

    if (!m)
        return;
    assert(!m->queue && !m->writing);
    file_close(&m->file);
    pthread_cond_destroy(&m->queue_moved);
    pthread_mutex_destroy(&m->queue_lock);
    free(m->durable);
    free(m->recent[0]);
    free(m->recent[1]);
    free(m->image);
    free(m);
    *marks = NULL;
}

/* ---- notes of recent writes ---- */

/* A thread that was stopped while the eras changed notes again: the era is a count, so it cannot
 * look unchanged. */
static void note(struct marks *m, uint64_t first, uint64_t end)
{
    uint32_t era;

    do {
        era = atomic_load(&m->era);
        for (uint64_t r = first; r < end; r++)
            bit_set(m->recent[era % ERAS], r);
    } while (atomic_load(&m->era) != era);
}

static bool noted(const struct marks *m, uint64_t region)
{
    return bit_test(m->recent[0], region) || bit_test(m->recent[1], region);
}

/* After a quiet time the older notes go: what neither era holds was quiet for that long. */
static void eras_rotate(struct marks *m, uint64_t now)
{
    if (now < m->rotated_ms || now - m->rotated_ms < MARKS_QUIET_MS)
        return;
    uint32_t next = atomic_load(&m->era) + 1;
    for (size_t w = 0; w < m->words; w++)
        if (atomic_load(&m->recent[next % ERAS][w]) != 0)
            atomic_store(&m->recent[next % ERAS][w], 0);
    atomic_store(&m->era, next);
    m->rotated_ms = now;
}

/* ---- the writer ---- */

static void writer_become(struct marks *m)
{
    pthread_mutex_lock(&m->queue_lock);
    while (m->writing)
        pthread_cond_wait(&m->queue_moved, &m->queue_lock);
    m->writing = true;
    pthread_mutex_unlock(&m->queue_lock);
}

static void writer_resign(struct marks *m)
{
    pthread_mutex_lock(&m->queue_lock);
    m->writing = false;
    pthread_cond_broadcast(&m->queue_moved);
    pthread_mutex_unlock(&m->queue_lock);
}

static bool all_durable(struct marks *m, uint64_t first, uint64_t end)
{
    for (uint64_t r = first; r < end; r++)
        if (!bit_test(m->durable, r))
            return false;
    return true;
}

/* One write and one sync for all of them, or none when a batch before did their work. Bits are
 * believed only after the sync. */
static void batch_write(struct marks *m, struct request *batch)
{
    struct err err = ERR_NONE;
    bool any = false;

    for (struct request *r = batch; r; r = r->next) {
        r->marked = !all_durable(m, r->first, r->end);
        any |= r->marked;
        for (uint64_t region = r->first; r->marked && region < r->ahead; region++)
            image_set(m, region);
    }
    bool ok = !any || pages_sync(m, &err);
    for (struct request *r = batch; r; r = r->next) {
        if (!r->marked)
            continue;
        r->failed = !ok;
        r->err = err;
        for (uint64_t region = r->first; ok && region < r->ahead; region++)
            bit_set(m->durable, region);
    }
}

/* Waits until a leader has served the request; leads when nobody writes. */
static void request_serve(struct marks *m, struct request *mine)
{
    pthread_mutex_lock(&m->queue_lock);
    mine->next = m->queue;
    m->queue = mine;
    while (!mine->done) {
        if (m->writing) {
            pthread_cond_wait(&m->queue_moved, &m->queue_lock);
            continue;
        }
        struct request *batch = m->queue;
        m->queue = NULL;
        m->writing = true;
        pthread_mutex_unlock(&m->queue_lock);
        batch_write(m, batch);
        pthread_mutex_lock(&m->queue_lock);
        m->writing = false;
        for (struct request *r = batch, *next; r; r = next) {
            next = r->next; /* r is its caller's again when the lock is let go */
            r->done = true;
        }
        pthread_cond_broadcast(&m->queue_moved);
    }
    pthread_mutex_unlock(&m->queue_lock);
}

/* How far to mark: ahead, when the first region that needs it is entered at its start and the one
 * before it was just written. Several streams, and a stream's writes out of order, look the same.
 */
static uint64_t mark_until(struct marks *m, struct extent extent, uint64_t end)
{
    uint64_t first = REGION_OF(extent.first);

    while (first + 1 < end && bit_test(m->durable, first))
        first++;
    if (first == 0 || extent.first > first * REGION_BLOCKS || !noted(m, first - 1))
        return end;
    return m->regions - end < MARKS_AHEAD ? m->regions : end + MARKS_AHEAD;
}

bool marks_ensure(struct marks *m, struct extent extent, struct err *err)
{
    if (extent.count == 0)
        return true;
    uint64_t first = REGION_OF(extent.first);
    uint64_t end = REGION_OF(extent_end(extent) - 1) + 1;

    assert(end <= m->regions);
    note(m, first, end);
    if (all_durable(m, first, end))
        return true;
    struct request mine = {.first = first, .end = end, .ahead = mark_until(m, extent, end)};
    note(m, end, mine.ahead); /* or the next sweep would clear them before the stream comes */
    long_wait_begin(&m->far);
    request_serve(m, &mine);
    long_wait_end(&m->far);
    if (!mine.failed)
        return true;
    if (err)
        *err = mine.err;
    return err_wrap(err, "cannot mark regions before a write");
}

bool marks_set_all(struct marks *m, struct err *err)
{
    writer_become(m);
    for (uint64_t r = 0; r < m->regions; r++)
        image_set(m, r);
    bool ok = pages_sync(m, err);
    for (uint64_t r = 0; ok && r < m->regions; r++)
        bit_set(m->durable, r);
    writer_resign(m);
    return ok;
}

/* ---- sweep ---- */

/* The marks of one word that may go as far as time is concerned. */
static uint64_t quiet_marks(const struct marks *m, size_t word, bool all_quiet)
{
    uint64_t marks = atomic_load(&m->durable[word]);

    if (all_quiet)
        return marks;
    return marks & ~atomic_load(&m->recent[0][word]) & ~atomic_load(&m->recent[1][word]);
}

bool marks_sweep(struct marks *m, uint64_t now, bool all_quiet,
                 bool (*dirty)(void *context, uint64_t region), void *context, uint64_t limit,
                 struct err *err)
{
    eras_rotate(m, now);
    /* What was written before the file was opened nobody noted. */
    if (!all_quiet && (now < m->opened_ms || now - m->opened_ms < MARKS_QUIET_MS))
        return true;

    writer_become(m);
    for (size_t w = 0; w < m->words && limit > 0; w++) {
        uint64_t quiet = quiet_marks(m, w, all_quiet);
        for (; quiet && limit > 0; quiet &= quiet - 1) {
            uint64_t region = w * 64 + (uint64_t)__builtin_ctzll(quiet);
            bit_clear(m->durable, region);
            if (dirty(context, region)) {
                bit_set(m->durable, region); /* the file never lost it */
                continue;
            }
            image_clear(m, region);
            limit--;
        }
    }
    bool ok = pages_write(m, err);
    writer_resign(m);
    return ok;
}

/* ---- questions ---- */

bool marks_test(const struct marks *m, uint64_t region)
{
    assert(region < m->regions);
    return bit_test(m->durable, region);
}

uint64_t marks_regions(const struct marks *m)
{
    return m->regions;
}

uint64_t marks_count(const struct marks *m)
{
    uint64_t count = 0;

    for (size_t w = 0; w < m->words; w++)
        count += (uint64_t)__builtin_popcountll(atomic_load(&m->durable[w]));
    return count;
}

bool marks_next(const struct marks *m, uint64_t from, uint64_t *region)
{
    for (uint64_t w = from / 64; w < m->words; w++) {
        uint64_t word = atomic_load(&m->durable[w]);
        if (w == from / 64)
            word &= UINT64_MAX << (from % 64);
        if (!word)
            continue;
        *region = w * 64 + (uint64_t)__builtin_ctzll(word);
        return true;
    }
    return false;
}
