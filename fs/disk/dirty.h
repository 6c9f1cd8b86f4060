/* SPDX-License-Identifier: MIT
 * The dirty maps of a VM: which blocks must be shipped. They lie in memory that the keeper owns
 * (a memfd), so they outlive the worker; the code must be right when killed between any two
 * stores to it.
 *
 * There are two maps; the state word says which is active and whether the other is frozen (being
 * shipped). A map is two-level: per 1 MiB region a slot is CLEAN, WHOLE (every block dirty), or a
 * leaf of REGION_BLOCKS bits from one pool shared by all maps and disks. When the pool is empty a
 * region becomes WHOLE: more is shipped, nothing forgotten. A summary bit per region makes scans
 * follow dirty data.
 *
 * States of the word and who changes them (only the ship machine's thread):
 *   IDLE(a)      active a, the other map empty
 *   FROZEN(a)    active a, the other map is the cut's; its bits stay until its entry is settled
 *   MERGING(a)   the frozen bits are being ORed into a; repeatable
 *   IDLE -cut-> FROZEN of the other map; FROZEN -commit-> clear -> IDLE;
 *   FROZEN -abandon-> MERGING -> OR, clear -> IDLE. An adopter treats FROZEN and MERGING as
 *   MERGING: it never continues a frozen cut.
 *
 * dirty_set may be called by any thread for the active map or, while the gate has not drained, for
 * the frozen one. All else belongs to the ship machine's thread, unless it says so. */
#ifndef FS_DISK_DIRTY_H
#define FS_DISK_DIRTY_H

#include "common/err.h"
#include "common/extent.h"

#include <stddef.h>

#define DIRTY_LEAVES_DEFAULT (256u << 10) /* 8 MiB of leaves: 256 Ki scattered dirty regions */
#define DIRTY_RUN_REGIONS    64u          /* dirty_next looks no further ahead than this */

struct dirty;

/* How much memory the maps of such disks need. The keeper makes it, zeroed. */
size_t dirty_memory_bytes(const uint64_t *disk_bytes, size_t disk_count, size_t leaves);

/* `fresh`: formats it (all clean). Else adopts what a dead worker left: geometry must be equal
 * (ERR_CORRUPT), frozen bits are merged, leaked leaves found again; ERR_NOT_FOUND when it died
 * before dirty_seeded: no guest wrote, and the maps must be made afresh. The memory outlives the
 * maps. */
bool dirty_attach(void *memory, size_t bytes, const uint64_t *disk_bytes, size_t disk_count,
                  size_t leaves, bool fresh, struct dirty **out, struct err *err) MUST_CHECK;
void dirty_detach(struct dirty **d);

/* Whether dead workers left complete maps of these disks as they were before some of them grew, or
 * such that were being made afresh for that: they are, from what else is known to be dirty. */
bool dirty_outgrown(const void *memory, const uint64_t *disk_bytes, size_t disk_count);

/* Ends a fresh start: all that was known to be dirty is set. Only from here on are the maps worth
 * adopting; a worker killed while it was still setting them would leave too few. */
void dirty_seeded(struct dirty *d);

unsigned dirty_active(const struct dirty *d); /* 0 or 1; any thread */
bool dirty_frozen(const struct dirty *d);     /* any thread */

/* Any thread. `map` is the low bit of the write's epoch. Safe against a kill at any point. True
 * when blocks became dirty that were not asked for, because the pool is empty: in a frozen map that
 * ends the cut, for nobody protected those. */
bool dirty_set(struct dirty *d, unsigned map, size_t disk, struct extent extent);
/* Marks whole regions without using leaves: resync and start-up. Any thread. */
void dirty_set_regions(struct dirty *d, unsigned map, size_t disk, uint64_t first_region,
                       uint64_t count);
bool dirty_test(const struct dirty *d, unsigned map, size_t disk, uint64_t block); /* any thread */
/* Is anything in the region dirty in either map? Any thread. */
bool dirty_region(const struct dirty *d, size_t disk, uint64_t region);

/* The next run of dirty blocks at or after `from`, cut at the disk's end; false when none. A very
 * long run comes in pieces, so that a caller who takes a little at a time pays for a little. */
bool dirty_next(const struct dirty *d, unsigned map, size_t disk, uint64_t from,
                struct extent *out);
bool dirty_empty(const struct dirty *d, unsigned map);      /* any thread */
uint64_t dirty_blocks(const struct dirty *d, unsigned map); /* exact when nobody writes */
/* Blocks that became dirty in a map since the maps were attached; what an abandoned cut gives back
 * is not counted again. Only ever rises. Any thread. */
uint64_t dirty_made(const struct dirty *d);

/* IDLE -> FROZEN: the active map becomes the frozen one. The other must be empty (asserted). Called
 * right before gate_cut. */
void dirty_freeze(struct dirty *d);
/* FROZEN -> IDLE, bits gone: the entry is settled and durable. The gate has drained. */
void dirty_commit(struct dirty *d);
/* FROZEN -> MERGING -> IDLE. The gate has drained. */
void dirty_abandon(struct dirty *d);

#endif
