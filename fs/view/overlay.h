/* SPDX-License-Identifier: MIT
 * An overlay: local writes over one disk of a view, kept in a scratch folder under (NAME, point,
 * disk), durable to the last flush, until discarded. A sparse data file `DISK.data` holds written
 * blocks, a presence record `DISK.map` says which; a block is present or it is read from the view;
 * a discarded block is present and zero. Order of durability: data, sync, presence record, sync,
 * then the reply to fsync. (The other order would serve holes for data after a power cut.)
 *
 * After a process was killed or the power was cut, everything flushed is there; of what was written
 * since, each block shows either what was written or what it was before (the view's).
 * Any thread may call; writes to one block are ordered by a range lock. Ranges lie inside the disk
 * (asserted): callers clip. */
#ifndef FS_VIEW_OVERLAY_H
#define FS_VIEW_OVERLAY_H

#include "fs/view/view.h"

struct overlay;

/* The point that an overlay lies over; its record names it. */
struct overlay_point {
    uint8_t vm[VM_ID_BYTES];
    uint64_t generation_id;
    uint64_t epoch;
};

/* Opens or makes. `folder` is (NAME, point)'s own and exists; `view` is borrowed and is a view of
 * `point`. ERR_CORRUPT: the record is damaged or names another VM, point or disk. ERR_BUSY: open
 * elsewhere, here or in another process (a flock on the data file). */
bool overlay_open(struct world *w, const char *folder, const struct overlay_point *point,
                  struct view *view, size_t disk, struct overlay **out, struct err *err) MUST_CHECK;
/* Flushes; a failure is logged, since nobody waits for it. No I/O in flight. */
void overlay_close(struct overlay **o);
#define AUTO_OVERLAY CLEANUP(overlay_close)

/* Whether overlay_open would find one that was made before. */
bool overlay_exists(struct world *w, const char *folder, const char *disk_name, bool *exists,
                    struct err *err) MUST_CHECK;

bool overlay_read(struct overlay *o, uint64_t offset, struct mspan out, struct err *err) MUST_CHECK;
/* ERR_FULL: no room in the scratch folder. ERR_IO after a failed sync: see overlay_flush. */
bool overlay_write(struct overlay *o, uint64_t offset, struct span data,
                   struct err *err) MUST_CHECK;
bool overlay_zero(struct overlay *o, uint64_t offset, uint64_t length, struct err *err) MUST_CHECK;
/* When the data file cannot be synced, nobody knows what reached it: from then on flushes and
 * changes are refused until the overlay is opened again. */
bool overlay_flush(struct overlay *o, struct err *err) MUST_CHECK;
/* The first blocks at or after block `from` that are not holes; *found false: none. */
bool overlay_next_data(struct overlay *o, uint64_t from, struct extent *out, bool *found,
                       struct err *err) MUST_CHECK;

#endif
