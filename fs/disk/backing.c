/* SPDX-License-Identifier: MIT */
#include "fs/disk/backing.h"

#include "common/cleanup.h"
#include "common/file.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BITS  64u
#define PAGE_WORDS (PRESENCE_PAGE_BYTES / 8u)

/* In the kept memory, one disk: a head, then a bit per page that has any bits, then the pages. */
struct kept {
    _Atomic uint64_t watermark;
    _Atomic uint64_t loaded; /* the record was taken in: from here on the bits are the truth */
};
#define KEPT_HEAD_BYTES PRESENCE_PAGE_BYTES

struct backing {
    struct world_file *file;
    struct written *written; /* may be NULL */
    uint64_t bytes, blocks, pages;
    uint16_t disk;
    /* --- with an origin --- */
    struct presence_head head;
    const struct origin *origin;
    struct long_wait far;
    struct world_file *record;
    struct kept *kept;
    _Atomic uint64_t *touched;  /* kept: pages with bits */
    _Atomic uint64_t *bits;     /* kept */
    _Atomic uint64_t *unstored; /* pages whose bits changed since the record was written */
    /* One sync at a time; I/O under it is its purpose. Reads and writes never take it. */
    pthread_mutex_t sync_lock;
};

static uint64_t words_of(uint64_t count)
{
    return (count + WORD_BITS - 1) / WORD_BITS;
}

static uint64_t pages_of(uint64_t disk_bytes)
{
    return (blocks_of_bytes(disk_bytes) + PRESENCE_PAGE_BLOCKS - 1) / PRESENCE_PAGE_BLOCKS;
}

static size_t touched_bytes(uint64_t pages)
{
    uint64_t bytes = words_of(pages) * 8;
    return (size_t)((bytes + PRESENCE_PAGE_BYTES - 1) / PRESENCE_PAGE_BYTES * PRESENCE_PAGE_BYTES);
}

size_t backing_memory_bytes(uint64_t disk_bytes)
{
    uint64_t pages = pages_of(disk_bytes);
    return KEPT_HEAD_BYTES + touched_bytes(pages) + (size_t)pages * PRESENCE_PAGE_BYTES;
}

/* --- bits --- */

static bool bit_at(const _Atomic uint64_t *words, uint64_t i)
{
    return atomic_load_explicit(&words[i / WORD_BITS], memory_order_acquire) >> (i % WORD_BITS) & 1;
}

static void bit_set(_Atomic uint64_t *words, uint64_t i)
{
    atomic_fetch_or_explicit(&words[i / WORD_BITS], 1ull << (i % WORD_BITS), memory_order_acq_rel);
}

/* The first bit at or after `from`, before `end`, that is `value`; `end` when there is none. */
static uint64_t bit_find(const _Atomic uint64_t *words, uint64_t from, uint64_t end, bool value)
{
    while (from < end) {
        uint64_t word = atomic_load_explicit(&words[from / WORD_BITS], memory_order_acquire);
        word = (value ? word : ~word) >> (from % WORD_BITS);
        if (word != 0) {
            uint64_t at = from + (uint64_t)__builtin_ctzll(word);
            return at < end ? at : end;
        }
        from = (from / WORD_BITS + 1) * WORD_BITS;
    }
    return end;
}

/* Pages that were never touched are not looked at: looking would make them. */
static uint64_t present_find(const struct backing *b, uint64_t from, uint64_t end, bool value)
{
    while (from < end) {
        uint64_t page = from / PRESENCE_PAGE_BLOCKS;
        uint64_t page_end = (page + 1) * PRESENCE_PAGE_BLOCKS;
        uint64_t until = page_end < end ? page_end : end;
        uint64_t at = bit_at(b->touched, page) ? bit_find(b->bits, from, until, value)
                      : value                  ? until
                                               : from;
        if (at < until)
            return at;
        from = until;
    }
    return end;
}

bool backing_present(struct backing *b, struct extent blocks, uint64_t *run)
{
    uint64_t from = blocks.first, end = extent_end(blocks);
    assert(blocks.count > 0 && end <= b->blocks);
    uint64_t mark = atomic_load_explicit(&b->kept->watermark, memory_order_acquire);
    if (from < mark) {
        uint64_t until = mark < end ? mark : end;
        *run = (mark < end ? present_find(b, until, end, false) : end) - from;
        return true;
    }
    uint64_t absent = present_find(b, from, end, false);
    if (absent > from) {
        *run = absent - from;
        return true;
    }
    *run = present_find(b, from, end, true) - from;
    return false;
}

static void set_present(struct backing *b, struct extent blocks)
{
    for (uint64_t i = blocks.first; i < extent_end(blocks);) {
        uint64_t page = i / PRESENCE_PAGE_BLOCKS;
        bit_set(b->touched, page);
        uint64_t word = i / WORD_BITS, word_end = (word + 1) * WORD_BITS;
        uint64_t stop = word_end < extent_end(blocks) ? word_end : extent_end(blocks);
        uint64_t mask = (stop - i == WORD_BITS ? UINT64_MAX : (1ull << (stop - i)) - 1)
                        << (i % WORD_BITS);
        uint64_t before = atomic_fetch_or_explicit(&b->bits[word], mask, memory_order_acq_rel);
        if ((before & mask) != mask)
            bit_set(b->unstored, page);
        i = stop;
    }
}

/* --- opening --- */

static void lay_out(struct backing *b, uint8_t *memory)
{
    b->kept = (struct kept *)memory;
    b->touched = (_Atomic uint64_t *)(memory + KEPT_HEAD_BYTES);
    b->bits = (_Atomic uint64_t *)(memory + KEPT_HEAD_BYTES + touched_bytes(b->pages));
}

static bool take_page(void *context, uint64_t page, const uint8_t *bits, struct err *err)
{
    struct backing *b = context;
    bool any = false;
    (void)err;
    for (size_t i = 0; i < PAGE_WORDS; i++) {
        uint64_t word;
        memcpy(&word, bits + i * 8, 8);
        word = le64toh(word);
        if (word == 0)
            continue;
        atomic_store(&b->bits[page * PAGE_WORDS + i], word);
        any = true;
    }
    if (any) {
        bit_set(b->touched, page);
        bit_set(b->unstored, page); /* whoever wrote it may have died before, or failed, its sync */
    }
    return true;
}

/* A worker that died while it took the record in is as if it never was: the same bits again. What a
 * later one left is newer than the record, which may lack any of it. */
static bool take_bits(struct backing *b, struct world *w, const char *path,
                      const struct backing_config *c, struct err *err)
{
    bool whole;
    if (!presence_record_open(w, path, &c->head, &b->record, &whole, err))
        return false;
    if (whole)
        atomic_store(&b->kept->watermark, b->blocks);
    if (!c->fresh && atomic_load(&b->kept->loaded)) {
        for (uint64_t page = 0; page < b->pages; page++)
            if (bit_at(b->touched, page))
                bit_set(b->unstored, page);
        return true;
    }
    if (!presence_record_pages(b->record, b->pages, take_page, b, err))
        return false;
    atomic_store(&b->kept->loaded, 1);
    return true;
}

static bool open_record(struct backing *b, const struct backing_config *c, struct err *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%.4096s.map", c->path);
    b->head = c->head;
    lay_out(b, c->memory);
    b->unstored = calloc(words_of(b->pages), sizeof *b->unstored);
    if (b->unstored == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    return take_bits(b, c->world, path, c, err) ||
           err_wrap(err, "%s is not whole, and which parts of it are there is not known", c->path);
}

bool backing_open(const struct backing_config *c, struct backing **out, struct err *err)
{
    struct backing *b CLEANUP(backing_close) = calloc(1, sizeof *b);
    if (b == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    pthread_mutex_init(&b->sync_lock, NULL);
    b->bytes = c->disk_bytes;
    b->blocks = blocks_of_bytes(c->disk_bytes);
    b->pages = pages_of(c->disk_bytes);
    b->disk = c->head.disk;
    b->written = c->written;
    if (!file_open(c->world, c->path, O_RDWR, 0, &b->file, err))
        return false;
    b->origin = c->origin;
    if (c->origin != NULL && !open_record(b, c, err))
        return false;
    *out = TAKE(b);
    return true;
}

void backing_close(struct backing **backing)
{
    struct backing *b = TAKE(*backing);
    if (b == NULL)
        return;
    file_close(&b->record);
    file_close(&b->file);
    free(b->unstored);
    pthread_mutex_destroy(&b->sync_lock);
    free(b);
}

void backing_on_wait(struct backing *b, struct long_wait wait)
{
    b->far = wait;
}

struct world_file *backing_file(const struct backing *b)
{
    return b->file;
}

uint64_t backing_watermark(const struct backing *b)
{
    return b->origin ? atomic_load(&b->kept->watermark) : b->blocks;
}

bool backing_partial(const struct backing *b)
{
    return backing_watermark(b) < b->blocks;
}

void backing_raise(struct backing *b, uint64_t block)
{
    assert(block >= atomic_load(&b->kept->watermark) && block <= b->blocks);
    atomic_store_explicit(&b->kept->watermark, block, memory_order_release);
}

/* --- reading --- */

static bool read_origin(struct backing *b, uint64_t offset, struct mspan out, struct err *err)
{
    long_wait_begin(&b->far);
    bool good = b->origin->read(b->origin->context, b->disk, offset, out, err);
    long_wait_end(&b->far);
    return good;
}

static bool next_in_origin(struct backing *b, uint64_t from, struct extent *out, bool *found,
                           struct err *err)
{
    long_wait_begin(&b->far);
    bool good = b->origin->next_data(b->origin->context, b->disk, from, out, found, err);
    long_wait_end(&b->far);
    return good;
}

/* The file may go on behind the disk's end: a cut reads whole blocks. */
static bool read_partial(struct backing *b, uint64_t offset, struct mspan out, struct err *err)
{
    size_t done = 0;
    while (done < out.length && offset + done < b->bytes) {
        uint64_t at = offset + done, run;
        uint64_t first = at >> BLOCK_SHIFT;
        struct extent rest = {.first = first, .count = b->blocks - first};
        struct extent wanted = extent_of_bytes(at, out.length - done);
        if (wanted.count < rest.count)
            rest.count = wanted.count;
        bool present = backing_present(b, rest, &run);
        uint64_t until = (first + run) << BLOCK_SHIFT;
        size_t length = out.length - done;
        if (length > until - at)
            length = (size_t)(until - at);
        struct mspan part = mspan_part(out, done, length);
        if (!(present ? file_read(b->file, part, at, err) : read_origin(b, at, part, err)))
            return false;
        done += length;
    }
    memset(out.data + done, 0, out.length - done);
    return true;
}

bool backing_read(struct backing *b, uint64_t offset, struct mspan out, struct err *err)
{
    return backing_partial(b) ? read_partial(b, offset, out, err)
                              : file_read(b->file, out, offset, err);
}

/* --- writing --- */

static void note(const struct backing *b)
{
    if (b->written != NULL)
        written_note(b->written);
}

static bool write_file(struct backing *b, uint64_t offset, struct span data, struct err *err)
{
    note(b);
    bool good = file_write(b->file, data, offset, err);
    note(b);
    return good;
}

/* The origin's bytes [from, until), less than a block, into the file. */
static bool copy_edge(struct backing *b, uint64_t from, uint64_t until, struct err *err)
{
    uint8_t bytes[BLOCK_BYTES];
    if (from >= until)
        return true;
    struct mspan edge = mspan_of(bytes, (size_t)(until - from));
    return read_origin(b, from, edge, err) && write_file(b, from, span_of_mspan(edge), err);
}

static bool block_present(struct backing *b, uint64_t block)
{
    uint64_t run;
    return backing_present(b, (struct extent){.first = block, .count = 1}, &run);
}

/* What the change leaves of its first and last block comes from the origin first. */
static bool complete_edges(struct backing *b, uint64_t offset, uint64_t length, struct err *err)
{
    uint64_t end = offset + length;
    uint64_t first = offset >> BLOCK_SHIFT, last = (end - 1) >> BLOCK_SHIFT;
    uint64_t last_end = (last + 1) << BLOCK_SHIFT;
    if (last_end > b->bytes)
        last_end = b->bytes;
    if ((offset & (BLOCK_BYTES - 1)) != 0 && !block_present(b, first) &&
        !copy_edge(b, first << BLOCK_SHIFT, offset, err))
        return false;
    return end >= last_end || block_present(b, last) || copy_edge(b, end, last_end, err);
}

/* Also of a disk that is whole: until the settings forget the origin, its record is what the next
 * mount goes by, and a hole that hydration jumped over has no bit. */
bool backing_write(struct backing *b, uint64_t offset, struct span data, struct err *err)
{
    if (b->origin == NULL)
        return write_file(b, offset, data, err);
    if (!complete_edges(b, offset, data.length, err) || !write_file(b, offset, data, err))
        return false;
    /* The bit after the data: a sync that sees the bit syncs the data behind it. */
    set_present(b, extent_of_bytes(offset, data.length));
    return true;
}

static bool punch(struct backing *b, uint64_t offset, uint64_t length, struct err *err)
{
    note(b);
    long_wait_begin(&b->far);
    int rc = b->file->world->ops->punch(b->file, offset, length);
    long_wait_end(&b->far);
    note(b);
    return rc == 0 || err_errno(err, -rc, "cannot punch a hole into %s", b->file->path);
}

bool backing_zero(struct backing *b, uint64_t offset, uint64_t length, struct err *err)
{
    if (b->origin == NULL)
        return punch(b, offset, length, err);
    if (!complete_edges(b, offset, length, err) || !punch(b, offset, length, err))
        return false;
    set_present(b, extent_of_bytes(offset, length));
    return true;
}

/* Blocks that are absent all of them; `data` NULL: zeros. */
static bool fill_run(struct backing *b, struct extent run, const uint8_t *data, struct err *err)
{
    uint64_t from = run.first << BLOCK_SHIFT, until = extent_end(run) << BLOCK_SHIFT;
    if (until > b->bytes)
        until = b->bytes;
    size_t length = (size_t)(until - from);
    if (!(data ? write_file(b, from, span_of(data, length), err) : punch(b, from, length, err)))
        return false;
    set_present(b, run);
    return true;
}

static bool fill(struct backing *b, struct extent blocks, const uint8_t *data, struct err *err)
{
    for (uint64_t done = 0; done < blocks.count;) {
        struct extent run = {.first = blocks.first + done, .count = blocks.count - done};
        uint64_t count;
        bool present = backing_present(b, run, &count);
        run.count = count;
        if (!present && !fill_run(b, run, data ? data + (done << BLOCK_SHIFT) : NULL, err))
            return false;
        done += count;
    }
    return true;
}

bool backing_fill(struct backing *b, struct extent blocks, struct span data, struct err *err)
{
    return fill(b, blocks, data.data, err);
}

bool backing_fill_hole(struct backing *b, struct extent blocks, struct err *err)
{
    return fill(b, blocks, NULL, err);
}

/* --- durable --- */

struct batch {
    uint64_t *pages;
    uint8_t *bits;
    size_t count;
};

static void batch_release(struct batch *x)
{
    free(x->pages);
    free(x->bits);
}

/* Bits are taken before the data is synced, so that each has its data synced. One set meanwhile
 * waits for the next sync; recorded now, it would serve a hole for data. */
static bool batch_take(struct backing *b, struct batch *x, struct err *err)
{
    size_t room = 0;
    for (uint64_t page = 0; page < b->pages; page++)
        room += bit_at(b->unstored, page);
    if (room == 0)
        return true;
    x->pages = calloc(room, sizeof *x->pages);
    x->bits = malloc(room * PRESENCE_PAGE_BYTES);
    if (x->pages == NULL || x->bits == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (uint64_t page = 0; page < b->pages && x->count < room; page++) {
        if (!bit_at(b->unstored, page))
            continue;
        atomic_fetch_and(&b->unstored[page / WORD_BITS], ~(1ull << (page % WORD_BITS)));
        uint8_t *to = x->bits + x->count * PRESENCE_PAGE_BYTES;
        for (size_t i = 0; i < PAGE_WORDS; i++) {
            uint64_t word = htole64(atomic_load(&b->bits[page * PAGE_WORDS + i]));
            memcpy(to + i * 8, &word, 8);
        }
        x->pages[x->count++] = page;
    }
    return true;
}

/* A sync that fails for want of room has lost data all the same. */
static bool sync_file(struct world_file *file, struct err *err)
{
    if (file_sync(file, err))
        return true;
    if (err != NULL && err->kind == ERR_FULL)
        err->kind = ERR_IO;
    return false;
}

static bool batch_put(struct backing *b, const struct batch *x, struct err *err)
{
    for (size_t i = 0; i < x->count; i++)
        if (!presence_record_put(b->record, x->pages[i], x->bits + i * PRESENCE_PAGE_BYTES, err))
            return false;
    return x->count == 0 || sync_file(b->record, err);
}

static bool sync_all(struct backing *b, struct err *err)
{
    struct batch x CLEANUP(batch_release) = {.count = 0};
    if (b->origin == NULL)
        return sync_file(b->file, err);
    LOCK_SCOPE(&b->sync_lock);
    if (!batch_take(b, &x, err))
        return false;
    if (sync_file(b->file, err) && batch_put(b, &x, err))
        return true;
    for (size_t i = 0; i < x.count; i++)
        bit_set(b->unstored, x.pages[i]);
    return false;
}

bool backing_sync(struct backing *b, struct err *err)
{
    long_wait_begin(&b->far);
    bool good = sync_all(b, err);
    long_wait_end(&b->far);
    return good;
}

bool backing_seal(struct backing *b, struct err *err)
{
    assert(!backing_partial(b));
    if (b->origin == NULL)
        return true;
    LOCK_SCOPE(&b->sync_lock);
    return presence_record_whole(b->record, &b->head, err);
}

/* --- where data is --- */

static bool next_local(struct backing *b, uint64_t from, uint64_t *start, uint64_t *end,
                       bool *found, struct err *err)
{
    int rc = b->file->world->ops->next_data(b->file, from, start, end);
    if (rc < 0 && rc != -ENXIO)
        return err_errno(err, -rc, "cannot find data in %s", b->file->path);
    *found = rc == 0 && *start < b->bytes;
    if (*found && *end > b->bytes)
        *end = b->bytes;
    return true;
}

static bool next_partial(struct backing *b, uint64_t from, uint64_t *start, uint64_t *end,
                         bool *found, struct err *err)
{
    for (uint64_t block = from >> BLOCK_SHIFT; block < b->blocks;) {
        uint64_t run;
        struct extent far;
        bool present = backing_present(b, (struct extent){block, b->blocks - block}, &run);
        uint64_t stop = (block + run) << BLOCK_SHIFT;
        if (present) {
            if (!next_local(b, from, start, end, found, err))
                return false;
        } else {
            if (!next_in_origin(b, block, &far, found, err))
                return false;
            *start = *found ? far.first << BLOCK_SHIFT : 0;
            *end = *found ? extent_end(far) << BLOCK_SHIFT : 0;
        }
        if (*found && *start < stop) {
            *start = *start > from ? *start : from;
            *end = *end < stop ? *end : stop;
            *end = *end < b->bytes ? *end : b->bytes;
            return true;
        }
        block += run;
        from = stop;
    }
    *found = false;
    return true;
}

bool backing_next_data(struct backing *b, uint64_t from, uint64_t *start, uint64_t *end,
                       bool *found, struct err *err)
{
    *found = false;
    if (from >= b->bytes)
        return true;
    return backing_partial(b) ? next_partial(b, from, start, end, found, err)
                              : next_local(b, from, start, end, found, err);
}

bool backing_next_bytes(struct backing *b, struct extent blocks, struct extent *out, bool *found,
                        struct err *err)
{
    uint64_t start, end, until = extent_end(blocks) << BLOCK_SHIFT;
    if (!next_local(b, blocks.first << BLOCK_SHIFT, &start, &end, found, err))
        return false;
    *found = *found && start < until;
    if (*found)
        *out = extent_of_bytes(start, (end < until ? end : until) - start);
    return true;
}
