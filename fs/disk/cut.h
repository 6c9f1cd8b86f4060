/* SPDX-License-Identifier: MIT
 * A cut of a source, as the shipper sees it: freeze, take every frozen block once, then commit or
 * abandon. One cut at a time, all from the ship machine's thread. The guest writes on meanwhile:
 * a protected cut saves the old block before the first later write to it (copy before write); an
 * unprotected one (a pass) takes blocks as they are, and what changed meanwhile is dirty again. */
#ifndef FS_DISK_CUT_H
#define FS_DISK_CUT_H

#include "fs/disk/digest_file.h"
#include "fs/disk/source.h"

#define CUT_TAKE_BLOCKS_MAX 64u /* how much one take reads under its range lock: 256 KiB */

/* One atomic increment of the epoch, for all disks. No cut is open (asserted). */
void source_cut(struct source *s, bool protect);
/* No write of the frozen epoch is in flight any more: taking, commit and abandon may begin. */
bool source_cut_drained(const struct source *s);
/* The undo space gave out: the cut shows no single moment any more and must be abandoned. */
bool source_cut_lost(const struct source *s);

/* The next frozen blocks at or after `from`, at most CUT_TAKE_BLOCKS_MAX. Unprotected, where whole
 * regions are dirty, what is a hole of both the local file and the digest file is left out. */
bool source_cut_next(struct source *s, size_t disk, uint64_t from, struct extent *out, bool *found,
                     struct err *err) MUST_CHECK;
/* Reads frozen blocks as they were at the cut. Ascending by (disk, block); what was passed counts
 * as taken. `out` holds extent.count blocks; a last partial block is padded with zeros. Bit i of
 * *unreadable: block first + i could not be read. */
bool source_cut_take(struct source *s, size_t disk, struct extent extent, struct mspan out,
                     uint64_t *unreadable, struct err *err) MUST_CHECK;

void source_cut_commit(struct source *s);  /* its entry is settled: the frozen bits go */
void source_cut_abandon(struct source *s); /* the frozen bits are dirty again */

/* --- what the shipper asks of a source besides --- */
struct digest_file *source_digests(struct source *s, size_t disk);
uint64_t source_dirty_blocks(const struct source *s); /* active and frozen */
uint64_t source_undo_bytes(const struct source *s);
/* Since source_open, only ever rising; any thread. Bytes that the guest wrote or zeroed, and of
 * blocks that became dirty: a block that is dirty already is written, but not dirtied, again. */
uint64_t source_changed_bytes(const struct source *s);
uint64_t source_dirtied_bytes(const struct source *s);
/* Boot time in ms of the oldest write since the last cut; 0 when there was none. */
uint64_t source_first_write_ms(const struct source *s);
/* That of the open cut, final when it has drained. Abandoned, it goes back to the active epoch. */
uint64_t source_cut_first_write_ms(const struct source *s);
/* Syncs the local files; the sticky error of an earlier failure is reported, too. */
bool source_sync(struct source *s, struct err *err) MUST_CHECK;
/* After a failed sync, once for a disk: voids the digests of its marked regions and makes them
 * dirty. */
bool source_distrust(struct source *s, struct err *err) MUST_CHECK;
/* Clears intent marks that are proven (design 6.3): called between epochs, nothing committed since
 * `source_sync` returned. `all_quiet`: no writer is left. */
bool source_sweep(struct source *s, bool all_quiet, struct err *err) MUST_CHECK;
/* Marks these blocks to be shipped, whatever their digests say (repair, doubt). */
void source_mark_dirty(struct source *s, size_t disk, struct extent extent);
size_t source_find_disk(const struct source *s, uint16_t number); /* source_disks() when unknown */
uint16_t source_disk_number(const struct source *s, size_t disk);
uint16_t source_disk_store(const struct source *s, size_t disk);
bool source_disk_stat(const struct source *s, size_t disk, struct world_stat *out);

#endif
