/* SPDX-License-Identifier: MIT
 * The source: the disks of one VM, written at local speed, with every change tracked. Reads and
 * writes touch local files only and never wait for a store, but for blocks that are still absent
 * over an origin (fs/disk/backing.h). fs/disk/ship.h cuts and ships.
 *
 * The write path, in this order (design 6 and 7):
 *   range lock -> gate (epoch and count in one step) -> dirty bit in that epoch's map -> intent
 *   mark, durable -> copy before write, when a cut still needs the old block -> the data.
 * Mark before writing: a crash between the two ships an unchanged block and costs bandwidth; the
 * other order forgets a changed one and costs data.
 *
 * Any thread may call the I/O functions, several at once, until source_close. Offsets and lengths
 * are bytes, any alignment. */
#ifndef FS_DISK_SOURCE_H
#define FS_DISK_SOURCE_H

#include "common/err.h"
#include "common/extent.h"
#include "common/span.h"
#include "common/world.h"
#include "fs/disk/backing.h"

struct source;

struct source_disk_config {
    const char *name;    /* the view's file is NAME.img */
    const char *path;    /* raw file or block device, protected in place */
    uint16_t number;     /* in runs and frames, constant for the disk's life */
    uint16_t store;      /* index of its cache store */
    uint64_t size_bytes; /* as enabled: a smaller file is refused */
    /* NULL: the file is whole. Else it lies over this, as the record PATH.map of that head says. */
    const struct origin *origin;
    struct presence_head origin_head;
};

struct source_config {
    struct world *world;
    const char *state_folder; /* the VM's own: marks, digests, journal, undo */
    const struct source_disk_config *disks;
    size_t disk_count;
    uint64_t undo_memory_bytes, undo_file_bytes;
    uint64_t key_id; /* of the VM key: digest files belong to it */
    void *memory;    /* the keeper's, source_memory_bytes long */
    size_t memory_bytes;
    bool memory_fresh; /* false: adopt what a dead worker left in it */
};

/* What the keeper must provide for these disks, and what besides when they lie over an origin. */
size_t source_memory_bytes(const uint64_t *disk_bytes, size_t disk_count);
size_t source_origin_memory_bytes(const uint64_t *disk_bytes, size_t disk_count);

bool source_open(const struct source_config *config, struct source **out,
                 struct err *err) MUST_CHECK;
void source_close(struct source **s); /* no I/O in flight, the shipper stopped */

/* The local files were compared with what the last stop recorded (shipper_open does it): only from
 * here on may a successor adopt these maps. A worker that dies before is as if it never was. Before
 * the first write. */
void source_checked(struct source *s);
/* Removes what the state folder of a VM that is not mounted keeps of a disk. */
bool source_forget_disk(struct world *w, const char *state_folder, const char *disk,
                        struct err *err) MUST_CHECK;
/* Something else wrote the disk's file since the last mount wrote it: see written.h. */
bool source_written_behind(const struct source *s, size_t disk, const struct world_stat *st);
/* Did it take over a dead worker's memory? */
bool source_adopted(const struct source *s);
size_t source_disks(const struct source *s);
const char *source_disk_name(const struct source *s, size_t disk);
uint64_t source_disk_bytes(const struct source *s, size_t disk);
/* The local file, for fstat, chown, chmod and locks; -1 outside the real world. */
int source_disk_fd(const struct source *s, size_t disk);

/* Before the first I/O, and with no `tell` after the last: whom threads of the I/O functions tell
 * that they wait for long (long_wait.h). */
void source_on_wait(struct source *s, struct long_wait wait);

/* The range lies inside the disk (asserted): the mount clips. */
bool source_read(struct source *s, size_t disk, uint64_t offset, struct mspan out,
                 struct err *err) MUST_CHECK;
bool source_write(struct source *s, size_t disk, uint64_t offset, struct span data,
                  struct err *err) MUST_CHECK;
/* Discard and write-zeroes: the range reads as zeros, is tracked, shipped as a hole. */
bool source_zero(struct source *s, size_t disk, uint64_t offset, uint64_t length,
                 struct err *err) MUST_CHECK;
/* What fsync, flush and FUA do: fdatasync. A failed sync is sticky for the regions written since
 * the last good one: they become dirty, and this call reports it. ERR_FULL is none: over an origin
 * there was no room to record what is present, and the next call tries again. */
bool source_flush(struct source *s, size_t disk, struct err *err) MUST_CHECK;
/* SEEK_DATA: *start..*end is the first data at or after `from`; *found false when only a hole is
 * left. SEEK_HOLE follows from it. */
bool source_next_data(struct source *s, size_t disk, uint64_t from, uint64_t *start, uint64_t *end,
                      bool *found, struct err *err) MUST_CHECK;

/* Everything must be compared with the replica again (design 6.8): all marks set, all dirty. */
bool source_mark_all(struct source *s, struct err *err) MUST_CHECK;

#endif
