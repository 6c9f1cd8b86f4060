/* SPDX-License-Identifier: MIT */
#include "fs/disk/cut.h"

#include "common/file.h"
#include "common/log.h"
#include "fs/disk/source_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

void source_cut(struct source *s, bool protect)
{
    uint32_t closing = gate_epoch(&s->gate);
    assert((closing & 1) == dirty_active(s->dirty));
    atomic_store(&s->cut_lost, false);
    dirty_freeze(s->dirty);
    /* Before the gate: a write that gets the next epoch must see what it has to protect. All ones
     * in the epoch field with position zero never equals CUT_IDLE. */
    if (protect)
        atomic_store(&s->cut_word, (uint64_t)(closing & CUT_EPOCH_MASK) << CUT_EPOCH_BIT);
    gate_cut(&s->gate);
}

bool source_cut_drained(const struct source *s)
{
    return gate_drained(&s->gate);
}

bool source_cut_lost(const struct source *s)
{
    return atomic_load(&s->cut_lost);
}

static unsigned frozen_map(const struct source *s)
{
    assert(dirty_frozen(s->dirty));
    return 1u - dirty_active(s->dirty);
}

/* The first block at or after `from` that holds local data or that the replica has something for:
 * everything before it is zero here and there. */
static bool next_of_interest(struct source *s, size_t disk, uint64_t from, uint64_t *block,
                             bool *found, struct err *err)
{
    uint64_t start, end;
    bool local;
    struct extent shipped;
    bool remote;
    if (!source_next_data(s, disk, from << BLOCK_SHIFT, &start, &end, &local, err))
        return false;
    if (!digest_file_next(s->disks[disk].digests, from, &shipped, &remote, err))
        return err_wrap(err, "disk %s", s->disks[disk].name);
    uint64_t first = local ? start >> BLOCK_SHIFT : UINT64_MAX;
    if (remote && shipped.first < first)
        first = shipped.first;
    *found = first != UINT64_MAX;
    *block = first > from ? first : from;
    return true;
}

bool source_cut_next(struct source *s, size_t disk, uint64_t from, struct extent *out, bool *found,
                     struct err *err)
{
    unsigned map = frozen_map(s);
    /* Of a protected cut nothing is skipped: what is a hole by now may have been data at the cut.
     * It is no larger than the undo space, so that reading its holes costs little. */
    bool protected = atomic_load(&s->cut_word) != CUT_IDLE;
    *found = false;
    while (dirty_next(s->dirty, map, disk, from, out)) {
        if (protected || out->count < REGION_BLOCKS) {
            *found = true;
            break;
        }
        uint64_t block = 0;
        bool any = false;
        if (!next_of_interest(s, disk, out->first, &block, &any, err))
            return false;
        if (!any)
            block = blocks_of_bytes(s->disks[disk].size);
        if (block < extent_end(*out)) {
            out->count = extent_end(*out) - block;
            out->first = block;
            *found = true;
            break;
        }
        from = block; /* all zero up to there, here and in the replica */
    }
    if (*found && out->count > CUT_TAKE_BLOCKS_MAX)
        out->count = CUT_TAKE_BLOCKS_MAX;
    return true;
}

/* One block at a time, to find out which of them cannot be read, here or where they come from. An
 * origin out of reach is no such finding. */
static bool read_each(struct source_disk *d, struct extent extent, struct mspan out,
                      uint64_t *unreadable, struct err *err)
{
    for (uint64_t i = 0; i < extent.count; i++) {
        struct err why = ERR_NONE;
        struct mspan block = mspan_part(out, i * BLOCK_BYTES, BLOCK_BYTES);
        if (backing_read(d->backing, (extent.first + i) << BLOCK_SHIFT, block, &why))
            continue;
        if (why.kind != ERR_IO && backing_partial(d->backing)) {
            *err = why;
            return false;
        }
        *unreadable |= 1ull << i;
        log_error("disk %s: block %llu ships as unreadable: %s", d->name,
                  (unsigned long long)(extent.first + i), why.text);
    }
    return true;
}

static bool prefer_saved(struct source *s, size_t disk, struct extent extent, struct mspan out,
                         uint64_t *unreadable, struct err *err)
{
    for (uint64_t i = 0; i < extent.count; i++) {
        bool found;
        if (!undo_load(s->undo, disk, extent.first + i, out.data + i * BLOCK_BYTES, &found, err))
            return false;
        if (found)
            *unreadable &= ~(1ull << i);
    }
    return true;
}

/* The file may be larger than the disk: what lies behind its end is not the disk's. */
static void clear_beyond(const struct source_disk *d, struct extent extent, struct mspan out)
{
    uint64_t inside = d->size - (extent.first << BLOCK_SHIFT);
    if (inside < out.length)
        memset(out.data + inside, 0, out.length - inside);
}

bool source_cut_take(struct source *s, size_t disk, struct extent extent, struct mspan out,
                     uint64_t *unreadable, struct err *err)
{
    assert(extent.count <= CUT_TAKE_BLOCKS_MAX && out.length == extent.count * BLOCK_BYTES);
    struct source_disk *d = &s->disks[disk];
    uint64_t word = atomic_load(&s->cut_word);
    struct range_hold hold CLEANUP(range_cleanup) = {0};
    struct err read_err = ERR_NONE;

    *unreadable = 0;
    range_lock(d->locks, extent, &hold);
    if (!backing_read(d->backing, extent.first << BLOCK_SHIFT, out, &read_err) &&
        !read_each(d, extent, out, unreadable, err))
        return false;
    if (word != CUT_IDLE && !prefer_saved(s, disk, extent, out, unreadable, err))
        return false;
    clear_beyond(d, extent, out);
    if (word == CUT_IDLE)
        return true;
    assert(cut_position(disk, extent.first) >= cut_word_position(word));
    atomic_store(&s->cut_word, (uint64_t)cut_word_epoch(word) << CUT_EPOCH_BIT |
                                   cut_position(disk, extent_end(extent)));
    return true;
}

/* Nobody saves a block for this cut from here on. */
static void stop_protecting(struct source *s)
{
    assert(gate_drained(&s->gate));
    atomic_store(&s->cut_word, CUT_IDLE);
    undo_clear(s->undo);
}

/* The other slot is free for the next epoch. */
static uint64_t take_cut_first_write(struct source *s)
{
    return atomic_exchange(&s->first_write_ms[(gate_epoch(&s->gate) - 1) & 1], 0);
}

void source_cut_commit(struct source *s)
{
    stop_protecting(s);
    dirty_commit(s->dirty);
    take_cut_first_write(s);
}

void source_cut_abandon(struct source *s)
{
    stop_protecting(s);
    dirty_abandon(s->dirty);
    uint64_t first = take_cut_first_write(s);
    if (first != 0) /* older than whatever the active epoch noted */
        atomic_store(&s->first_write_ms[gate_epoch(&s->gate) & 1], first);
}

struct digest_file *source_digests(struct source *s, size_t disk)
{
    return s->disks[disk].digests;
}

uint64_t source_dirty_blocks(const struct source *s)
{
    return dirty_blocks(s->dirty, 0) + dirty_blocks(s->dirty, 1);
}

uint64_t source_undo_bytes(const struct source *s)
{
    return undo_blocks(s->undo) * BLOCK_BYTES;
}

uint64_t source_changed_bytes(const struct source *s)
{
    return atomic_load_explicit(&s->changed_bytes, memory_order_relaxed);
}

uint64_t source_dirtied_bytes(const struct source *s)
{
    return dirty_made(s->dirty) * BLOCK_BYTES;
}

uint64_t source_first_write_ms(const struct source *s)
{
    return atomic_load(&s->first_write_ms[gate_epoch(&s->gate) & 1]);
}

uint64_t source_cut_first_write_ms(const struct source *s)
{
    return atomic_load(&s->first_write_ms[(gate_epoch(&s->gate) - 1) & 1]);
}

bool source_sync(struct source *s, struct err *err)
{
    for (size_t i = 0; i < s->disk_count; i++)
        if (!source_flush(s, i, err))
            return false;
    return true;
}

static bool void_region(struct source_disk *d, uint64_t region, struct err *err)
{
    struct block_digest unknown[REGION_BLOCKS];
    for (size_t i = 0; i < REGION_BLOCKS; i++)
        unknown[i] = digest_unknown;
    uint64_t first = region * REGION_BLOCKS;
    uint64_t left = blocks_of_bytes(d->size) - first;
    return digest_file_write(d->digests, first, left < REGION_BLOCKS ? left : REGION_BLOCKS,
                             unknown, err);
}

bool source_distrust(struct source *s, struct err *err)
{
    for (size_t i = 0; i < s->disk_count; i++) {
        struct source_disk *d = &s->disks[i];
        if (d->distrusted || !atomic_load(&s->kept->sync_failed[i]))
            continue;
        /* What the page cache shows may never have reached the device. */
        int fd = world_file_fd(backing_file(d->backing));
        if (fd >= 0)
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        uint64_t region;
        for (uint64_t from = 0; marks_next(d->marks, from, &region); from = region + 1) {
            if (!void_region(d, region, err))
                return err_wrap(err, "disk %s", d->name);
            uint32_t epoch = gate_enter(&s->gate);
            dirty_set_regions(s->dirty, epoch & 1, i, region, 1);
            gate_leave(&s->gate, epoch);
        }
        /* Not synced: the next power-on reads the marked regions from the device again, and what
         * the replica holds the digests say rightly. */
        source_note_write(s, gate_epoch(&s->gate));
        d->distrusted = true;
    }
    return true;
}

struct sweep_context {
    struct source *source;
    size_t disk;
};

static bool region_dirty(void *context, uint64_t region)
{
    struct sweep_context *c = context;
    return dirty_region(c->source->dirty, c->disk, region);
}

#define SWEEP_REGIONS_MAX 65536u

bool source_sweep(struct source *s, bool all_quiet, struct err *err)
{
    uint64_t now_ms = s->world->ops->boottime_ns(s->world) / 1000000;
    for (size_t i = 0; i < s->disk_count; i++) {
        struct sweep_context context = {.source = s, .disk = i};
        uint64_t limit = all_quiet ? UINT64_MAX : SWEEP_REGIONS_MAX;
        if (!marks_sweep(s->disks[i].marks, now_ms, all_quiet, region_dirty, &context, limit, err))
            return err_wrap(err, "disk %s", s->disks[i].name);
    }
    return true;
}

void source_mark_dirty(struct source *s, size_t disk, struct extent extent)
{
    uint32_t epoch = gate_enter(&s->gate);
    dirty_set(s->dirty, epoch & 1, disk, extent);
    gate_leave(&s->gate, epoch);
}

size_t source_find_disk(const struct source *s, uint16_t number)
{
    size_t i = 0;
    while (i < s->disk_count && s->disks[i].number != number)
        i++;
    return i;
}

uint16_t source_disk_number(const struct source *s, size_t disk)
{
    return s->disks[disk].number;
}

uint16_t source_disk_store(const struct source *s, size_t disk)
{
    return s->disks[disk].store;
}

bool source_disk_stat(const struct source *s, size_t disk, struct world_stat *out)
{
    return s->world->ops->stat(backing_file(s->disks[disk].backing), out) == 0;
}
