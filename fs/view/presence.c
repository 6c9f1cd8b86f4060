/* SPDX-License-Identifier: MIT */
#include "fs/view/presence.h"

#include "common/digest.h"

#include <errno.h>
#include <fcntl.h>

#define PRESENCE_MAGIC   "FSOVERLY"
#define PRESENCE_VERSION 1u

struct page {
    struct page *next_changed;
    bool changed;
    uint64_t index;
    uint8_t bits[PRESENCE_PAGE_BYTES];
};

struct presence {
    struct world_file *file;
    char *path;
    uint64_t blocks;
    uint64_t page_count;
    pthread_mutex_t pages_lock;
    struct page **pages; /* by index; NULL: no bit set. A page once made stays. */
    struct page *changed;
};

static void encode_head(const struct presence_head *head, struct buf *out)
{
    buf_put(out, PRESENCE_MAGIC, 8);
    buf_put_u32(out, PRESENCE_VERSION);
    buf_put_u32(out, PRESENCE_PAGE_BYTES);
    buf_put(out, head->vm, VM_ID_BYTES);
    buf_put_u64(out, head->generation_id);
    buf_put_u64(out, head->epoch);
    buf_put_u64(out, head->disk_bytes);
    buf_put_u32(out, BLOCK_BYTES);
    buf_put_u16(out, head->disk);
    buf_put_u16(out, 0); /* flags */
    struct sha256 sum = sha256_of(buf_span(out));
    buf_put(out, sum.bytes, sizeof sum.bytes);
    uint8_t *padding = buf_extend(out, PRESENCE_HEAD_BYTES - out->length);
    if (padding)
        memset(padding, 0, PRESENCE_HEAD_BYTES - (size_t)(padding - out->data));
}

bool presence_create(struct world *w, const char *path, const struct presence_head *head,
                     struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    encode_head(head, &bytes);
    return buf_ok(&bytes, err) && file_replace(w, path, 0600, buf_span(&bytes), err);
}

/* The head has one right form for what is expected, so it is compared, not parsed; the parts are
 * looked at only to say what is wrong. */
static bool check_head(struct presence *p, const struct presence_head *head, struct err *err)
{
    uint8_t found[PRESENCE_HEAD_BYTES];
    struct buf expected AUTO_BUF = BUF_NONE;
    const size_t summed = 64;

    if (!file_read(p->file, mspan_of(found, sizeof found), 0, err))
        return false;
    encode_head(head, &expected);
    if (!buf_ok(&expected, err))
        return false;
    if (span_equal(span_of(found, sizeof found), buf_span(&expected)))
        return true;
    struct sha256 sum = sha256_of(span_of(found, summed));
    if (memcmp(found, PRESENCE_MAGIC, 8) != 0 ||
        memcmp(found + summed, sum.bytes, sizeof sum.bytes) != 0)
        return err_set(err, ERR_CORRUPT,
                       "%s is not a whole presence record: the overlay cannot be used; discard it",
                       p->path);
    if (load_u32(found + 8) != PRESENCE_VERSION)
        return err_set(err, ERR_CORRUPT,
                       "%s has version %u, this farshore reads version %u: use a newer one",
                       p->path, load_u32(found + 8), PRESENCE_VERSION);
    return err_set(err, ERR_CORRUPT,
                   "%s belongs to another VM, point or disk: use another name for the overlays, or "
                   "discard this one",
                   p->path);
}

static struct page *page_make(struct presence *p, uint64_t index, struct err *err)
{
    struct page *page = calloc(1, sizeof *page);
    if (!page) {
        err_set(err, ERR_FULL, "no memory for the presence bits of %s", p->path);
        return NULL;
    }
    page->index = index;
    return page;
}

static uint64_t page_offset(uint64_t index)
{
    return PRESENCE_HEAD_BYTES + index * PRESENCE_PAGE_BYTES;
}

static bool load_page(struct presence *p, uint64_t index, struct err *err)
{
    struct page *page = page_make(p, index, err);
    if (!page)
        return false;
    p->pages[index] = page;
    return file_read(p->file, mspan_of(page->bits, sizeof page->bits), page_offset(index), err);
}

/* Only pages that the file has data for: the cost follows what was written, not the disk. */
static bool load_pages(struct presence *p, struct err *err)
{
    uint64_t from = PRESENCE_HEAD_BYTES;
    for (;;) {
        uint64_t start, end;
        int failure = p->file->world->ops->next_data(p->file, from, &start, &end);
        if (failure == -ENXIO)
            return true;
        if (failure < 0)
            return err_errno(err, -failure, "cannot find the pages of %s", p->path);
        uint64_t index = (start - PRESENCE_HEAD_BYTES) / PRESENCE_PAGE_BYTES;
        for (; index < p->page_count && page_offset(index) < end; index++) {
            if (!p->pages[index] && !load_page(p, index, err))
                return false;
        }
        if (index >= p->page_count)
            return true;
        from = page_offset(index);
    }
}

bool presence_open(struct world *w, const char *path, const struct presence_head *head,
                   struct presence **out, struct err *err)
{
    struct presence *p CLEANUP(presence_close) = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_FULL, "no memory to open %s", path);
    pthread_mutex_init(&p->pages_lock, NULL);
    p->blocks = blocks_of_bytes(head->disk_bytes);
    p->page_count = (p->blocks + PRESENCE_PAGE_BLOCKS - 1) / PRESENCE_PAGE_BLOCKS;
    p->path = strdup(path);
    p->pages = calloc(p->page_count + 1, sizeof *p->pages);
    if (!p->path || !p->pages)
        return err_set(err, ERR_FULL, "no memory to open %s", path);
    if (!file_open(w, path, O_RDWR, 0, &p->file, err) || !check_head(p, head, err) ||
        !load_pages(p, err))
        return false;
    *out = TAKE(p);
    return true;
}

void presence_close(struct presence **slot)
{
    struct presence *p = TAKE(*slot);
    if (!p)
        return;
    for (uint64_t i = 0; p->pages && i < p->page_count; i++)
        free(p->pages[i]);
    free(p->pages);
    free(p->path);
    file_close(&p->file);
    pthread_mutex_destroy(&p->pages_lock);
    free(p);
}

bool presence_reserve(struct presence *p, struct extent blocks, struct err *err)
{
    assert(extent_end(blocks) <= p->blocks);
    if (blocks.count == 0)
        return true;
    uint64_t last = (extent_end(blocks) - 1) / PRESENCE_PAGE_BLOCKS;
    LOCK_SCOPE(&p->pages_lock);
    for (uint64_t i = blocks.first / PRESENCE_PAGE_BLOCKS; i <= last; i++) {
        if (!p->pages[i] && !(p->pages[i] = page_make(p, i, err)))
            return false;
    }
    return true;
}

static void mark_changed_locked(struct presence *p, struct page *page)
{
    if (page->changed)
        return;
    page->changed = true;
    page->next_changed = p->changed;
    p->changed = page;
}

/* Returns whether a bit changed. */
static bool set_bits(uint8_t *bits, uint64_t first, uint64_t count)
{
    bool changed = false;
    for (uint64_t i = first; i < first + count;) {
        if (i % 8 == 0 && first + count - i >= 8) {
            changed |= bits[i / 8] != 0xff;
            bits[i / 8] = 0xff;
            i += 8;
            continue;
        }
        uint8_t bit = (uint8_t)(1u << (i % 8));
        changed |= (bits[i / 8] & bit) == 0;
        bits[i / 8] |= bit;
        i++;
    }
    return changed;
}

void presence_set(struct presence *p, struct extent blocks)
{
    LOCK_SCOPE(&p->pages_lock);
    while (blocks.count > 0) {
        struct page *page = p->pages[blocks.first / PRESENCE_PAGE_BLOCKS];
        uint64_t first = blocks.first % PRESENCE_PAGE_BLOCKS;
        uint64_t count = PRESENCE_PAGE_BLOCKS - first;
        if (count > blocks.count)
            count = blocks.count;
        assert(page); /* reserved */
        if (set_bits(page->bits, first, count))
            mark_changed_locked(p, page);
        blocks.first += count;
        blocks.count -= count;
    }
}

static bool bit_of(const struct page *page, uint64_t block)
{
    uint64_t i = block % PRESENCE_PAGE_BLOCKS;
    return page && (page->bits[i / 8] >> (i % 8) & 1);
}

/* How many blocks from `block` on, as far as one look tells, are `present`: a page without bits, a
 * byte of one kind, or one block; 0: none. */
static uint64_t alike_locked(const struct presence *p, uint64_t block, bool present)
{
    const struct page *page = p->pages[block / PRESENCE_PAGE_BLOCKS];
    uint64_t i = block % PRESENCE_PAGE_BLOCKS;
    if (!page)
        return present ? 0 : PRESENCE_PAGE_BLOCKS - i;
    if (i % 8 == 0 && page->bits[i / 8] == (present ? 0xff : 0))
        return 8;
    return bit_of(page, block) == present;
}

bool presence_test(struct presence *p, struct extent blocks, uint64_t *run)
{
    assert(blocks.count > 0 && extent_end(blocks) <= p->blocks);
    LOCK_SCOPE(&p->pages_lock);
    bool present = bit_of(p->pages[blocks.first / PRESENCE_PAGE_BLOCKS], blocks.first);
    uint64_t length = 0;
    while (length < blocks.count) {
        uint64_t more = alike_locked(p, blocks.first + length, present);
        if (more == 0)
            break;
        length += more;
    }
    *run = length < blocks.count ? length : blocks.count;
    return present;
}

bool presence_take(struct presence *p, struct presence_batch *out, struct err *err)
{
    LOCK_SCOPE(&p->pages_lock);
    size_t count = 0;
    for (struct page *page = p->changed; page; page = page->next_changed)
        count++;
    *out = (struct presence_batch){.count = 0};
    if (count == 0)
        return true;
    out->indices = calloc(count, sizeof *out->indices);
    out->bits = calloc(count, PRESENCE_PAGE_BYTES);
    if (!out->indices || !out->bits) {
        presence_batch_release(out);
        return err_set(err, ERR_FULL, "no memory to store the presence bits of %s", p->path);
    }
    for (struct page *page = p->changed; page; page = page->next_changed) {
        out->indices[out->count] = page->index;
        memcpy(out->bits + out->count * PRESENCE_PAGE_BYTES, page->bits, PRESENCE_PAGE_BYTES);
        page->changed = false;
        out->count++;
    }
    p->changed = NULL;
    return true;
}

static bool put_pages(struct presence *p, const struct presence_batch *batch, struct err *err)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct span bits = span_of(batch->bits + i * PRESENCE_PAGE_BYTES, PRESENCE_PAGE_BYTES);
        if (!file_write(p->file, bits, page_offset(batch->indices[i]), err))
            return false;
    }
    return batch->count == 0 || file_sync(p->file, err);
}

bool presence_put(struct presence *p, const struct presence_batch *batch, struct err *err)
{
    if (put_pages(p, batch, err))
        return true;
    presence_return(p, batch);
    return err_wrap(err, "cannot record which blocks are present in %s", p->path);
}

void presence_return(struct presence *p, const struct presence_batch *batch)
{
    LOCK_SCOPE(&p->pages_lock);
    for (size_t i = 0; i < batch->count; i++)
        mark_changed_locked(p, p->pages[batch->indices[i]]);
}

void presence_batch_release(struct presence_batch *batch)
{
    free(batch->indices);
    free(batch->bits);
    *batch = (struct presence_batch){.count = 0};
}
