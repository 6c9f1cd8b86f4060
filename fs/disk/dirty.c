/* SPDX-License-Identifier: MIT */
#include "fs/disk/dirty.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The memory: a head page, the pool (a bitmap of leaves in use, the leaves), then per disk and map
 * the summary bits and the slots, each from a page of its own. All zero is all clean, and clean
 * memory is never written nor, thanks to the summary, read.
 *
 * What holds between any two stores to it, so that a kill there forgets nothing:
 *   1. A slot that is not CLEAN has its summary bit set: set before the slot, cleared after it.
 *   2. A leaf is claimed in the bitmap and filled before a slot names it, and given back after the
 *      slot is CLEAN. A kill in between leaks it; adoption rebuilds the bitmap from the slots.
 *   3. A slot with a leaf keeps it until the map is cleared. Were it turned WHOLE and the leaf used
 *      again elsewhere, a slow setter's bit would land in another region.
 *   4. Merging puts a region's bits into the active map before it clears the frozen region. */

#define DIRTY_MAGIC    UINT64_C(0x3159545249445346) /* "FSDIRTY1" */
#define UNSEEDED_MAGIC UINT64_C(0x3144454553445346) /* "FSDSEED1" */
#define OUTGROWN_MAGIC UINT64_C(0x3154554f53445346) /* "FSDSOUT1": seeded again as it grew */
#define DIRTY_VERSION  1u
#define HEAD_BYTES     4096u
#define PAGE_BYTES     4096u
#define LEAF_WORDS     (REGION_BLOCKS / 64)
#define MAPS           2

enum { SLOT_CLEAN = 0, SLOT_WHOLE = 1, SLOT_LEAF = 2 /* plus the leaf's index */ };

/* The state word: what, which map is active, and above them a count of changes, which tells a
 * reader that nothing moved while it looked at both maps. */
enum state { STATE_IDLE, STATE_FROZEN, STATE_MERGING };
#define WORD_STATE  3u
#define WORD_ACTIVE 4u

struct head {
    _Atomic uint64_t magic; /* 0: memory as it came */
    uint32_t version;
    uint32_t disk_count;
    uint64_t leaf_count;
    uint64_t disk_bytes[VM_DISKS_MAX];
    _Atomic uint32_t word;
};
_Static_assert(sizeof(struct head) <= HEAD_BYTES, "the head is one page");

struct leaf {
    _Atomic uint64_t bits[LEAF_WORDS];
};

struct bits {
    uint64_t words[LEAF_WORDS];
};

struct map {
    _Atomic uint64_t *summary;
    _Atomic uint32_t *slots;
};

struct disk {
    uint64_t blocks;
    uint64_t regions;
    struct map maps[MAPS];
};

struct dirty {
    struct head *head;
    _Atomic uint64_t *pool; /* a bit per leaf in use */
    struct leaf *leaves;
    size_t leaf_count;
    /* The worker's own, found again by adoption. */
    _Atomic size_t leaves_used;
    _Atomic size_t pool_hint; /* no free leaf below this word, as a rule */
    _Atomic uint64_t regions_dirty[MAPS];
    _Atomic uint64_t blocks_made;
    size_t disk_count;
    struct disk disks[VM_DISKS_MAX];
};

/* ---- layout ---- */

static uint64_t regions_of(uint64_t disk_bytes)
{
    return (blocks_of_bytes(disk_bytes) + REGION_BLOCKS - 1) / REGION_BLOCKS;
}

static size_t words_for(uint64_t bits)
{
    return (size_t)((bits + 63) / 64);
}

/* The offset of the next `bytes`; *end moves behind them, to a page of its own. */
static size_t place(size_t *end, size_t bytes)
{
    size_t offset = *end;

    *end += (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return offset;
}

/* Lays everything out from `base`, which may be NULL to measure, and returns the bytes. */
static size_t lay_out(struct dirty *d, uint8_t *base, const uint64_t *disk_bytes)
{
    size_t end = HEAD_BYTES;
    size_t pool = place(&end, words_for(d->leaf_count) * sizeof *d->pool);
    size_t leaves = place(&end, d->leaf_count * sizeof *d->leaves);

    if (base) {
        d->head = (void *)base;
        d->pool = (void *)(base + pool);
        d->leaves = (void *)(base + leaves);
    }
    for (size_t i = 0; i < d->disk_count; i++) {
        struct disk *disk = &d->disks[i];
        disk->blocks = blocks_of_bytes(disk_bytes[i]);
        disk->regions = regions_of(disk_bytes[i]);
        for (unsigned m = 0; m < MAPS; m++) {
            size_t summary = place(&end, words_for(disk->regions) * sizeof *disk->maps[m].summary);
            size_t slots = place(&end, (size_t)disk->regions * sizeof *disk->maps[m].slots);
            if (!base)
                continue;
            disk->maps[m].summary = (void *)(base + summary);
            disk->maps[m].slots = (void *)(base + slots);
        }
    }
    return end;
}

size_t dirty_memory_bytes(const uint64_t *disk_bytes, size_t disk_count, size_t leaves)
{
    struct dirty measure = {.disk_count = disk_count, .leaf_count = leaves};

    assert(disk_count <= VM_DISKS_MAX && leaves < UINT32_MAX - SLOT_LEAF);
    return lay_out(&measure, NULL, disk_bytes);
}

/* ---- bits of one region ---- */

static struct bits bits_of(uint64_t first, uint64_t end)
{
    struct bits b = {{0}};

    for (uint64_t w = 0; w < LEAF_WORDS; w++) {
        uint64_t low = first > w * 64 ? first - w * 64 : 0;
        uint64_t high = end > w * 64 ? end - w * 64 : 0;
        if (low >= 64 || high == 0 || low >= high)
            continue;
        uint64_t below_high = high >= 64 ? UINT64_MAX : (UINT64_C(1) << high) - 1;
        b.words[w] = below_high & (UINT64_MAX << low);
    }
    return b;
}

/* Where the next bit with this value is, at or after `from`; REGION_BLOCKS when there is none. */
static unsigned bits_next(const struct bits *b, unsigned from, bool value)
{
    for (unsigned w = from / 64; w < LEAF_WORDS; w++) {
        uint64_t word = value ? b->words[w] : ~b->words[w];
        if (w == from / 64)
            word &= UINT64_MAX << (from % 64);
        if (word)
            return w * 64 + (unsigned)__builtin_ctzll(word);
    }
    return REGION_BLOCKS;
}

/* How many blocks the region has: fewer than REGION_BLOCKS at the disk's end. */
static uint64_t region_blocks(const struct disk *disk, uint64_t region)
{
    uint64_t left = disk->blocks - region * REGION_BLOCKS;

    return left < REGION_BLOCKS ? left : REGION_BLOCKS;
}

/* ---- the pool ---- */

/* Lowest first, so that few pages of leaves are ever touched. */
static bool leaf_take(struct dirty *d, size_t *index)
{
    size_t words = words_for(d->leaf_count);
    size_t start = atomic_load(&d->pool_hint);

    if (atomic_load(&d->leaves_used) >= d->leaf_count)
        return false;
    for (size_t i = 0; i < words; i++) {
        size_t w = (start + i) % words;
        uint64_t word = atomic_load(&d->pool[w]);
        while (~word) {
            size_t bit = (size_t)__builtin_ctzll(~word);
            if (w * 64 + bit >= d->leaf_count)
                break;
            if (!atomic_compare_exchange_weak(&d->pool[w], &word, word | UINT64_C(1) << bit))
                continue;
            atomic_fetch_add(&d->leaves_used, 1);
            atomic_store(&d->pool_hint, w);
            *index = w * 64 + bit;
            return true;
        }
    }
    return false;
}

static void leaf_give(struct dirty *d, size_t index)
{
    atomic_fetch_and(&d->pool[index / 64], ~(UINT64_C(1) << (index % 64)));
    atomic_fetch_sub(&d->leaves_used, 1);
    if (index / 64 < atomic_load(&d->pool_hint))
        atomic_store(&d->pool_hint, index / 64);
}

/* A slot value that says `bits`: a fresh leaf, or WHOLE when all are set or the pool is empty. */
static uint32_t slot_for(struct dirty *d, const struct bits *bits, bool whole)
{
    size_t index;

    if (whole || !leaf_take(d, &index))
        return SLOT_WHOLE;
    for (size_t w = 0; w < LEAF_WORDS; w++)
        atomic_store(&d->leaves[index].bits[w], bits->words[w]);
    return SLOT_LEAF + (uint32_t)index;
}

/* ---- one region of one map ---- */

static bool summary_test(const struct map *m, uint64_t region)
{
    return atomic_load(&m->summary[region / 64]) >> (region % 64) & 1;
}

/* The next region at or after `from` whose summary bit is set; `regions` when there is none. */
static uint64_t summary_next(const struct map *m, uint64_t regions, uint64_t from)
{
    for (uint64_t w = from / 64; w * 64 < regions; w++) {
        uint64_t word = atomic_load(&m->summary[w]);
        if (w == from / 64)
            word &= UINT64_MAX << (from % 64);
        if (word)
            return w * 64 + (uint64_t)__builtin_ctzll(word);
    }
    return regions;
}

static uint64_t bits_count(const struct bits *b)
{
    uint64_t count = 0;

    for (size_t w = 0; w < LEAF_WORDS; w++)
        count += (uint64_t)__builtin_popcountll(b->words[w]);
    return count;
}

/* How many blocks became dirty; *more when some that were not asked for did: the pool is empty. */
static uint64_t region_set(struct dirty *d, unsigned map, struct disk *disk, uint64_t region,
                           const struct bits *bits, bool whole, bool *more)
{
    struct map *m = &disk->maps[map];
    uint64_t summary_bit = UINT64_C(1) << (region % 64);

    if (!summary_test(m, region) &&
        !(atomic_fetch_or(&m->summary[region / 64], summary_bit) & summary_bit))
        atomic_fetch_add(&d->regions_dirty[map], 1);

    uint32_t slot = atomic_load(&m->slots[region]);
    if (slot == SLOT_CLEAN) {
        uint32_t mine = slot_for(d, bits, whole);
        if (atomic_compare_exchange_strong(&m->slots[region], &slot, mine)) {
            *more = *more || (mine == SLOT_WHOLE && !whole);
            return mine == SLOT_WHOLE ? region_blocks(disk, region) : bits_count(bits);
        }
        if (mine != SLOT_WHOLE)
            leaf_give(d, mine - SLOT_LEAF);
    }
    if (slot == SLOT_WHOLE)
        return 0;
    struct leaf *leaf = &d->leaves[slot - SLOT_LEAF];
    struct bits made = {{0}};
    for (size_t w = 0; w < LEAF_WORDS; w++)
        if (bits->words[w] & ~atomic_load(&leaf->bits[w]))
            made.words[w] = bits->words[w] & ~atomic_fetch_or(&leaf->bits[w], bits->words[w]);
    return bits_count(&made);
}

/* The region's bits, none past the disk's end. A leaf may change hands while it is read, when
 * another thread clears the map: the slot is asked again. */
static struct bits region_load(const struct dirty *d, unsigned map, const struct disk *disk,
                               uint64_t region)
{
    const struct map *m = &disk->maps[map];
    struct bits b = {{0}};
    uint32_t slot;

    if (!summary_test(m, region))
        return b;
    do {
        slot = atomic_load(&m->slots[region]);
        if (slot == SLOT_CLEAN)
            return (struct bits){{0}};
        if (slot == SLOT_WHOLE)
            return bits_of(0, region_blocks(disk, region));
        for (size_t w = 0; w < LEAF_WORDS; w++)
            b.words[w] = atomic_load(&d->leaves[slot - SLOT_LEAF].bits[w]);
    } while (atomic_load(&m->slots[region]) != slot);
    return b;
}

static void region_clear(struct dirty *d, unsigned map, struct disk *disk, uint64_t region)
{
    struct map *m = &disk->maps[map];
    uint32_t slot = atomic_exchange(&m->slots[region], SLOT_CLEAN);

    if (slot >= SLOT_LEAF)
        leaf_give(d, slot - SLOT_LEAF);
    atomic_fetch_and(&m->summary[region / 64], ~(UINT64_C(1) << (region % 64)));
    atomic_fetch_sub(&d->regions_dirty[map], 1);
}

/* ---- the state word ---- */

static enum state state_of(uint32_t word)
{
    return (enum state)(word & WORD_STATE);
}

static unsigned active_of(uint32_t word)
{
    return (word & WORD_ACTIVE) != 0;
}

static uint32_t word_now(const struct dirty *d)
{
    return atomic_load(&d->head->word);
}

static void state_enter(struct dirty *d, enum state state, unsigned active)
{
    uint32_t change = (word_now(d) | WORD_STATE | WORD_ACTIVE) + 1; /* carries into the count */

    atomic_store(&d->head->word, change | (uint32_t)state | (active ? WORD_ACTIVE : 0));
}

unsigned dirty_active(const struct dirty *d)
{
    return active_of(word_now(d));
}

bool dirty_frozen(const struct dirty *d)
{
    return state_of(word_now(d)) == STATE_FROZEN;
}

void dirty_freeze(struct dirty *d)
{
    unsigned active = dirty_active(d);

    assert(state_of(word_now(d)) == STATE_IDLE);
    assert(dirty_empty(d, 1 - active));
    state_enter(d, STATE_FROZEN, 1 - active);
}

/* Moves the other map's bits into the active one, a region at a time: each gives its leaf back
 * before the next one needs one, so an empty pool makes few regions whole. */
static void merge(struct dirty *d)
{
    unsigned active = dirty_active(d);

    state_enter(d, STATE_MERGING, active);
    for (size_t i = 0; i < d->disk_count; i++) {
        struct disk *disk = &d->disks[i];
        const struct map *from = &disk->maps[1 - active];
        uint64_t r = 0;
        while ((r = summary_next(from, disk->regions, r)) < disk->regions) {
            struct bits bits = region_load(d, 1 - active, disk, r);
            bool whole = atomic_load(&from->slots[r]) == SLOT_WHOLE, more = false;
            region_set(d, active, disk, r, &bits, whole, &more);
            region_clear(d, 1 - active, disk, r);
        }
    }
    state_enter(d, STATE_IDLE, active);
}

void dirty_abandon(struct dirty *d)
{
    assert(dirty_frozen(d));
    merge(d);
}

void dirty_commit(struct dirty *d)
{
    unsigned active = dirty_active(d);

    assert(dirty_frozen(d));
    for (size_t i = 0; i < d->disk_count; i++) {
        struct disk *disk = &d->disks[i];
        const struct map *m = &disk->maps[1 - active];
        uint64_t r = 0;
        while ((r = summary_next(m, disk->regions, r)) < disk->regions)
            region_clear(d, 1 - active, disk, r);
    }
    state_enter(d, STATE_IDLE, active);
}

/* ---- attach ---- */

/* Memory that was used before is cleaned; memory as it came is not touched. */
static void format(struct dirty *d, size_t bytes, const uint64_t *disk_bytes)
{
    uint64_t was = atomic_load(&d->head->magic);
    bool held = was == DIRTY_MAGIC || was == OUTGROWN_MAGIC;

    atomic_store(&d->head->magic, held ? OUTGROWN_MAGIC : UNSEEDED_MAGIC);
    if (was != 0)
        memset((uint8_t *)d->head + HEAD_BYTES, 0, bytes - HEAD_BYTES);
    d->head->version = DIRTY_VERSION;
    d->head->disk_count = (uint32_t)d->disk_count;
    d->head->leaf_count = d->leaf_count;
    memcpy(d->head->disk_bytes, disk_bytes, d->disk_count * sizeof *disk_bytes);
    atomic_store(&d->head->word, STATE_IDLE);
}

void dirty_seeded(struct dirty *d)
{
    atomic_store(&d->head->magic, DIRTY_MAGIC);
}

/* Finds again what the summary bit of one region stands for. */
static void adopt_region(struct dirty *d, unsigned map, struct disk *disk, uint64_t region)
{
    struct map *m = &disk->maps[map];
    uint32_t slot = atomic_load(&m->slots[region]);

    atomic_fetch_add(&d->regions_dirty[map], 1);
    if (slot == SLOT_CLEAN) {
        region_clear(d, map, disk, region);
        return;
    }
    if (slot == SLOT_WHOLE)
        return;
    size_t leaf = slot - SLOT_LEAF;
    uint64_t bit = UINT64_C(1) << (leaf % 64);
    /* A leaf that is not there, or is named twice, was damaged: the region counts as dirty. */
    if (leaf >= d->leaf_count || (atomic_load(&d->pool[leaf / 64]) & bit)) {
        atomic_store(&m->slots[region], SLOT_WHOLE);
        return;
    }
    atomic_fetch_or(&d->pool[leaf / 64], bit);
    atomic_fetch_add(&d->leaves_used, 1);
}

static bool adopt(struct dirty *d, const uint64_t *disk_bytes, struct err *err)
{
    const struct head *head = d->head;

    uint64_t magic = atomic_load(&head->magic);

    if (magic == 0 || magic == UNSEEDED_MAGIC || magic == OUTGROWN_MAGIC)
        return err_set(err, ERR_NOT_FOUND,
                       "the dirty maps in the keeper's memory were never complete");
    if (magic != DIRTY_MAGIC || head->version != DIRTY_VERSION ||
        head->disk_count != d->disk_count || head->leaf_count != d->leaf_count ||
        memcmp(head->disk_bytes, disk_bytes, d->disk_count * sizeof *disk_bytes) != 0 ||
        state_of(word_now(d)) > STATE_MERGING)
        return err_set(err, ERR_CORRUPT,
                       "the dirty maps in the keeper's memory are not of these disks: unmount and "
                       "mount again");
    for (size_t w = 0; w < words_for(d->leaf_count); w++)
        if (atomic_load(&d->pool[w]) != 0)
            atomic_store(&d->pool[w], 0);
    for (size_t i = 0; i < d->disk_count; i++) {
        struct disk *disk = &d->disks[i];
        for (unsigned map = 0; map < MAPS; map++) {
            uint64_t r = 0;
            for (; (r = summary_next(&disk->maps[map], disk->regions, r)) < disk->regions; r++)
                adopt_region(d, map, disk, r);
        }
    }
    if (state_of(word_now(d)) != STATE_IDLE)
        merge(d);
    return true;
}

bool dirty_outgrown(const void *memory, const uint64_t *disk_bytes, size_t disk_count)
{
    const struct head *head = memory;
    bool grown = false;

    if (atomic_load(&head->magic) == OUTGROWN_MAGIC)
        return true;
    if (atomic_load(&head->magic) != DIRTY_MAGIC || head->version != DIRTY_VERSION ||
        head->disk_count != disk_count)
        return false;
    for (size_t i = 0; i < disk_count; i++) {
        if (head->disk_bytes[i] > disk_bytes[i])
            return false;
        grown = grown || head->disk_bytes[i] < disk_bytes[i];
    }
    return grown;
}

bool dirty_attach(void *memory, size_t bytes, const uint64_t *disk_bytes, size_t disk_count,
                  size_t leaves, bool fresh, struct dirty **out, struct err *err)
{
    assert((uintptr_t)memory % _Alignof(struct head) == 0);
    assert(bytes >= dirty_memory_bytes(disk_bytes, disk_count, leaves));

    struct dirty *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_FULL, "no memory for the dirty maps");
    d->disk_count = disk_count;
    d->leaf_count = leaves;
    bytes = lay_out(d, memory, disk_bytes);
    if (fresh) {
        format(d, bytes, disk_bytes);
    } else if (!adopt(d, disk_bytes, err)) {
        free(d);
        return false;
    }
    *out = d;
    return true;
}

void dirty_detach(struct dirty **d)
{
    free(*d);
    *d = NULL;
}

/* ---- set and ask ---- */

static struct disk *disk_at(struct dirty *d, size_t disk)
{
    assert(disk < d->disk_count);
    return &d->disks[disk];
}

static const struct disk *disk_seen(const struct dirty *d, size_t disk)
{
    assert(disk < d->disk_count);
    return &d->disks[disk];
}

bool dirty_set(struct dirty *d, unsigned map, size_t disk_index, struct extent extent)
{
    bool more = false;
    uint64_t made = 0;
    struct disk *disk = disk_at(d, disk_index);
    uint64_t end = extent_end(extent);

    assert(map < MAPS && end <= disk->blocks);
    for (uint64_t block = extent.first; block < end;) {
        uint64_t region = block / REGION_BLOCKS;
        uint64_t start = region * REGION_BLOCKS;
        uint64_t whole = region_blocks(disk, region);
        uint64_t last = end - start < whole ? end - start : whole;
        struct bits bits = bits_of(block - start, last);

        made += region_set(d, map, disk, region, &bits, block == start && last == whole, &more);
        block = start + last;
    }
    atomic_fetch_add_explicit(&d->blocks_made, made, memory_order_relaxed);
    return more;
}

void dirty_set_regions(struct dirty *d, unsigned map, size_t disk_index, uint64_t first_region,
                       uint64_t count)
{
    struct disk *disk = disk_at(d, disk_index);
    uint64_t made = 0;
    bool more = false;

    assert(map < MAPS && first_region + count <= disk->regions);
    for (uint64_t r = first_region; r < first_region + count; r++) {
        struct bits all = bits_of(0, region_blocks(disk, r));
        made += region_set(d, map, disk, r, &all, true, &more);
    }
    atomic_fetch_add_explicit(&d->blocks_made, made, memory_order_relaxed);
}

bool dirty_test(const struct dirty *d, unsigned map, size_t disk_index, uint64_t block)
{
    const struct disk *disk = disk_seen(d, disk_index);

    assert(map < MAPS && block < disk->blocks);
    struct bits bits = region_load(d, map, disk, block / REGION_BLOCKS);
    return bits.words[block % REGION_BLOCKS / 64] >> (block % 64) & 1;
}

static bool region_dirty(const struct map *m, uint64_t region)
{
    return summary_test(m, region) && atomic_load(&m->slots[region]) != SLOT_CLEAN;
}

/* The frozen map first: what a merge takes out of it is in the active one already. */
bool dirty_region(const struct dirty *d, size_t disk_index, uint64_t region)
{
    const struct disk *disk = disk_seen(d, disk_index);
    uint32_t word;
    bool found;

    assert(region < disk->regions);
    do {
        word = word_now(d);
        found = region_dirty(&disk->maps[1 - active_of(word)], region) ||
                region_dirty(&disk->maps[active_of(word)], region);
    } while (!found && word_now(d) != word);
    return found;
}

bool dirty_next(const struct dirty *d, unsigned map, size_t disk_index, uint64_t from,
                struct extent *out)
{
    const struct disk *disk = disk_seen(d, disk_index);
    const struct map *m = &disk->maps[map];
    unsigned bit = REGION_BLOCKS;
    uint64_t region = from / REGION_BLOCKS;
    struct bits bits;

    assert(map < MAPS);
    for (;; region++, from = 0) {
        region = summary_next(m, disk->regions, region);
        if (region >= disk->regions)
            return false;
        bits = region_load(d, map, disk, region);
        bit = bits_next(&bits, from / REGION_BLOCKS == region ? from % REGION_BLOCKS : 0, true);
        if (bit < REGION_BLOCKS)
            break;
    }
    out->first = region * REGION_BLOCKS + bit;
    uint64_t limit = region + DIRTY_RUN_REGIONS;
    unsigned end = bits_next(&bits, bit, false);
    while (end == REGION_BLOCKS && region + 1 < disk->regions && region + 1 < limit) {
        bits = region_load(d, map, disk, region + 1);
        if (!(bits.words[0] & 1))
            break;
        region++;
        end = bits_next(&bits, 0, false);
    }
    out->count = region * REGION_BLOCKS + end - out->first;
    return true;
}

bool dirty_empty(const struct dirty *d, unsigned map)
{
    assert(map < MAPS);
    return atomic_load(&d->regions_dirty[map]) == 0;
}

uint64_t dirty_blocks(const struct dirty *d, unsigned map)
{
    uint64_t blocks = 0;

    assert(map < MAPS);
    for (size_t i = 0; i < d->disk_count; i++) {
        const struct disk *disk = &d->disks[i];
        uint64_t r = 0;
        for (; (r = summary_next(&disk->maps[map], disk->regions, r)) < disk->regions; r++) {
            struct bits bits = region_load(d, map, disk, r);
            blocks += bits_count(&bits);
        }
    }
    return blocks;
}

uint64_t dirty_made(const struct dirty *d)
{
    return atomic_load_explicit(&d->blocks_made, memory_order_relaxed);
}
