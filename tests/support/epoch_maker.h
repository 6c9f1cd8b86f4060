/* SPDX-License-Identifier: MIT
 * A source in miniature: a VM in a pair of stores, and epochs of chosen blocks shipped into its
 * cache as a real source would, in frames, parts, run and entry. Aborts (a failed check) when a
 * store refuses. One thread. */
#ifndef TESTS_SUPPORT_EPOCH_MAKER_H
#define TESTS_SUPPORT_EPOCH_MAKER_H

#include "backend/history/processor.h"

struct made_block; /* one pending block, hole or unreadable block */

struct epoch_maker {
    struct world *world;
    struct store *caches[VM_DISKS_MAX + 1];
    struct keys *keys;
    struct vault vault;
    struct generation generation;
    bool encrypt;
    size_t inline_max; /* frames up to this many bytes ride in the entry; 0: always parts */
    size_t part_max;   /* parts close at this size */
    uint64_t epoch;    /* newest shipped */
    struct sha256 previous;
    uint64_t clock_ms; /* of the next point; a second passes with each epoch */
    uint64_t attempt;  /* of the last epoch shipped */
    struct made_block *blocks;
    size_t block_count, block_room;
};

#define MADE_VM       "vm1"
#define MADE_CLOCK_MS 1795377600000ull /* 2026-11-22T20:00:00.000Z: the first point */

/* A key that is the same in every test. */
struct keys *made_keys(uint8_t seed);

/* Enables MADE_VM with `disks` disks (`disk0`, `disk1` ...) of `blocks` blocks in the two stores.
 */
void epoch_maker_init(struct epoch_maker *m, struct world *w, struct store *target,
                      struct store *cache, uint16_t disks, uint64_t blocks);
void epoch_maker_release(struct epoch_maker *m);

/* What the next epoch holds; of two that meet in a block the later one counts. */
void epoch_maker_write(struct epoch_maker *m, uint16_t disk, uint64_t first, uint64_t count,
                       const uint8_t *data);
/* `count` blocks from 0 on that no compression shortens. */
void epoch_maker_write_noise(struct epoch_maker *m, uint16_t disk, uint64_t count);
/* A block whose 4096 bytes follow from `value`. */
void epoch_maker_fill(struct epoch_maker *m, uint16_t disk, uint64_t block, uint32_t value);
void epoch_maker_hole(struct epoch_maker *m, uint16_t disk, uint64_t first, uint64_t count);
void epoch_maker_unreadable(struct epoch_maker *m, uint16_t disk, uint64_t block);
/* The bytes that epoch_maker_fill writes; 0 is all zero. */
void made_block_bytes(uint32_t value, uint8_t out[BLOCK_BYTES]);

/* Ships them; returns the epoch. `label` may be NULL. */
uint64_t epoch_maker_ship(struct epoch_maker *m, enum epoch_kind kind, enum point_kind point,
                          const char *label);
/* A crash-consistent point. */
uint64_t epoch_maker_cut(struct epoch_maker *m);
/* The encoded entry of the next epoch, its parts put, itself not put; the maker goes on as if it
 * were not made. */
void epoch_maker_entry(struct epoch_maker *m, enum epoch_kind kind, enum point_kind point,
                       const char *label, struct buf *out);

#endif
