/* SPDX-License-Identifier: MIT */
#include "fs/view/presence.h"

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

static void mark_changed_locked(struct presence *p, struct page *page)
{
    if (page->changed)
        return;
    page->changed = true;
    page->next_changed = p->changed;
    p->changed = page;
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

static bool take_page(void *context, uint64_t index, const uint8_t *bits, struct err *err)
{
    struct presence *p = context;
    struct page *page = page_make(p, index, err);
    if (!page)
        return false;
    memcpy(page->bits, bits, sizeof page->bits);
    p->pages[index] = page;
    mark_changed_locked(p, page); /* who wrote it may have died before, or failed, its sync */
    return true;
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
    if (!presence_record_open(w, path, head, &p->file, NULL, err) ||
        !presence_record_pages(p->file, p->page_count, take_page, p, err))
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
    for (size_t i = 0; i < batch->count; i++)
        if (!presence_record_put(p->file, batch->indices[i], batch->bits + i * PRESENCE_PAGE_BYTES,
                                 err))
            return false;
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
