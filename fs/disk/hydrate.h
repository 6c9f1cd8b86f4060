/* SPDX-License-Identifier: MIT
 * Hydration: copies what a source's local files lack from their origin, in the background, until
 * the origin is not needed any more. It reads without a lock, since an origin never changes; then
 * it takes the range lock and looks again, so that a guest's write always wins. What it copies is
 * what the parent point has, so it is not dirty. Holes of the origin are jumped over. The owner
 * calls, from one thread; hydrate_status from any. */
#ifndef FS_DISK_HYDRATE_H
#define FS_DISK_HYDRATE_H

#include "fs/disk/source.h"

#define HYDRATE_CHUNK_BLOCKS 64u /* read at once; 256 KiB */
#define HYDRATE_THREADS      8u
#define HYDRATE_RETRY_MS     1000u /* after a failure, doubled each time */
#define HYDRATE_RETRY_MAX_MS 30000u

struct hydrate;

/* `complete` is called once, from a thread of its own making, when everything is present and
 * synced: whoever mounts next needs no origin. Not called when the source has none. */
bool hydrate_start(struct source *s, void (*complete)(void *context), void *context,
                   struct hydrate **out, struct err *err) MUST_CHECK;
/* From its return on hydration writes to no local file, without waiting for the origin: before what
 * the files look like is recorded. hydrate_stop comes later. */
void hydrate_quiet(struct hydrate *h);
/* May wait for one read of the origin. */
void hydrate_stop(struct hydrate **h);

struct hydrate_status {
    uint64_t done_bytes, total_bytes; /* of the disks, holes too */
    bool complete;
    uint64_t
        unreadable_blocks;     /* that the old source itself could not read: they keep the origin */
    char reason[ERR_TEXT_MAX]; /* why it does not go on; "" when it does */
};
void hydrate_status(struct hydrate *h, struct hydrate_status *out);

#endif
