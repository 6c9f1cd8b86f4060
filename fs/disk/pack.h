/* SPDX-License-Identifier: MIT
 * An epoch in the making: taken blocks go in, ascending by (disk, block); frames, parts, run and
 * end object come out. A block whose digest is the one that the replica has is left out; zeros
 * become holes. Parts go up while the next is filled; memory is bounded by the parts in flight and
 * one batch. One thread. */
#ifndef FS_DISK_PACK_H
#define FS_DISK_PACK_H

#include "backend/history/epoch.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/uploads.h"

struct pack_config {
    struct world *world;
    const struct keys *keys;
    bool encrypt;
    const char *vm;
    uint8_t vm_id[VM_ID_BYTES];
    struct generation generation;
    struct store **caches;
    size_t cache_count;
    struct uploads *uploads;
};

struct pack_disk {
    uint16_t number;
    uint16_t store; /* index in caches */
    struct digest_file *digests;
};

struct pack;

/* `config` is copied; what it points to outlives the pack. */
bool pack_begin(const struct pack_config *config, uint64_t epoch, struct pack **out,
                struct err *err) MUST_CHECK;
void pack_release(struct pack **p); /* also gives up an unfinished one */

uint64_t pack_attempt(const struct pack *p);

/* `data` holds extent.count blocks, at most CUT_TAKE_BLOCKS_MAX; bit i of `unreadable`: block
 * first + i could not be read. */
bool pack_add(struct pack *p, const struct pack_disk *disk, struct extent extent, struct span data,
              uint64_t unreadable, struct err *err) MUST_CHECK;

/* Plain bytes that went in and stored bytes that came out, so far. */
uint64_t pack_plain_bytes(const struct pack *p);
uint64_t pack_stored_bytes(const struct pack *p);
/* Of the disks: taken since the last part was given to the uploads. */
uint64_t pack_waiting_bytes(const struct pack *p);
uint64_t pack_entries(const struct pack *p); /* of the run so far */
bool pack_empty(const struct pack *p);       /* nothing differs from the replica */

/* Waits for the parts, fills attempt, parts, inline part and run of `entry` (borrowed from the
 * pack) and encodes the end object into `out`. The caller filled everything else. */
bool pack_finish(struct pack *p, struct epoch_entry *entry, struct buf *out,
                 struct err *err) MUST_CHECK;
/* What the epoch changes in the digest files: see fs/disk/journal.h. */
struct span pack_changes(const struct pack *p);

#endif
