/* SPDX-License-Identifier: MIT
 * Intent marks: one bit per 1 MiB region of a disk in a small file, durable *before* the first
 * write to a clean region is issued. After a power cut the marked regions are read again and
 * compared by digests: so it never costs a full resync. Marks are group-committed, set ahead of
 * sequential streams, and cleared lazily: only when the region has been quiet for a while and the
 * caller proved that its blocks are durable in the cache store and the local file was synced since
 * (design 6.2, 6.3). A hot region pays one bit test. */
#ifndef FS_DISK_MARKS_H
#define FS_DISK_MARKS_H

#include "common/err.h"
#include "common/extent.h"
#include "common/world.h"
#include "fs/disk/long_wait.h"

#define MARKS_QUIET_MS 60000u /* a region written in this time keeps its mark */
#define MARKS_AHEAD    8u     /* regions marked ahead of a sequential stream */

struct marks;

/* Opens or makes the file for a disk of `disk_bytes`. A new file has every region marked. An
 * existing one is written again and synced, so that what is read from it is durable. ERR_CORRUPT
 * when its head or size does not fit; a disk that grew keeps its marks and has the new regions
 * marked. */
bool marks_open(struct world *w, const char *path, uint64_t disk_bytes, struct marks **out,
                struct err *err) MUST_CHECK;
/* How long the file is for such a disk. One that is longer is taken as well. */
uint64_t marks_file_bytes(uint64_t disk_bytes);
void marks_close(struct marks **m);
/* Before others use it: whom marks_ensure tells that it waits for a sync. */
void marks_on_wait(struct marks *m, struct long_wait wait);

/* Returns when every region of `extent` is durably marked. Any thread; concurrent callers share
 * one sync. The caller has set its dirty bits before (marks_sweep relies on it). */
bool marks_ensure(struct marks *m, struct extent extent, struct err *err) MUST_CHECK;

bool marks_test(const struct marks *m, uint64_t region); /* any thread */
uint64_t marks_regions(const struct marks *m);
uint64_t marks_count(const struct marks *m); /* any thread */
/* The next marked region at or after `from`; false when none. */
bool marks_next(const struct marks *m, uint64_t from, uint64_t *region);
bool marks_set_all(struct marks *m, struct err *err) MUST_CHECK;

/* Clears marks of quiet regions for which `dirty` says false. The caller: the ship machine's
 * thread, in between epochs, has synced the local file since the last epoch was committed. Each
 * candidate is unmarked in memory first, then asked for, then put back when dirty; the file is
 * written last and need not be synced. `now_ms`: boot time of the same world. Quiet is what
 * marks_ensure was not asked for in the last MARKS_QUIET_MS, at most twice that; in the first
 * MARKS_QUIET_MS after marks_open nothing is. `all_quiet` takes every region for quiet (a clean
 * stop with no writer left). Clears at most `limit`. */
bool marks_sweep(struct marks *m, uint64_t now_ms, bool all_quiet,
                 bool (*dirty)(void *context, uint64_t region), void *context, uint64_t limit,
                 struct err *err) MUST_CHECK;

#endif
