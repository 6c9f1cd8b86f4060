/* SPDX-License-Identifier: MIT
 * Seeding: a copy of a VM's disks that lies near the target becomes the beginning of the newest
 * generation, so that the source ships only what differs from it. In the first generation that is
 * the beginning of all history; in a later one (reprotect) only what differs from its parent's view
 * is sealed.
 *   seed_write  where the copy is: seals it into the target store, as the first epochs of the
 *               newest generation, passes without a point. They go through `staging`, a store of
 *               its own beside the copy, a bounded part at a time; the VM's cache store gets the
 *               newest entry at the end, so that its log goes on there.
 *   seed_adopt  where the source is: learns from the runs in the target store (16 bytes a block and
 *               not the data) which digests the replica has, and where the log stands.
 * Seeding host and source may be different ones that share cache and target stores. Entry 0 of the
 * generation must be in the cache: with a fence pending, history_fence comes first.
 * Both may be killed anywhere and run again. One thread. */
#ifndef FS_DISK_SEED_H
#define FS_DISK_SEED_H

#include "backend/history/history.h"

#define SEED_EPOCH_BYTES (64u << 20) /* stored bytes after which an epoch is closed */

struct seed_config {
    struct world *world;
    const char *vm;
    const struct keys *keys;
    bool encrypt;
    struct store **targets; /* index 0: the vault's */
    size_t store_count;
    struct store *cache; /* the VM's own: where its log is */
    /* seed_adopt, of a VM that is not mounted: its disks show the head's view already, as files do
     * that lie over it with nothing written. No block is compared, or read through the view; what
     * is written from now on ships. */
    bool equal;
    /* seed_write: the newest generation must be this one, by name; NULL or "": whichever it is. */
    const char *generation;
};

struct seed_copy {
    uint16_t disk;           /* number, as in the vault */
    struct world_file *file; /* nobody writes it meanwhile; may be shorter than the disk */
};

/* `folder` keeps digests in between. progress(context, done, total) may be NULL. Disks of the vault
 * that have no copy stay as the parent has them. ERR_EXISTS: the newest generation goes beyond a
 * seed already, or another one has begun. ERR_INVALID: nothing but zeros, in a first generation. */
bool seed_write(const struct seed_config *config, const struct seed_copy *copies, size_t count,
                struct store *staging, const char *folder,
                void (*progress)(void *, uint64_t, uint64_t), void *context,
                struct err *err) MUST_CHECK;

/* Whether the newest generation holds nothing but a seed: no point, no pass of a source, as far as
 * the cache's log tells. False for one that holds nothing at all. */
bool seed_alone(const struct seed_config *config, bool *alone, struct generation *generation,
                struct err *err) MUST_CHECK;
/* Makes a source's state folder right for the newest generation at its head, whatever lies below:
 * digest files of the head's view, and a ship.json by which the next shipper_open marks everything
 * dirty, so that each block is compared, what differs ships, and the first point is later than any
 * of the line. Leftovers of another generation (journal, record of a clean stop) go. A worker that
 * runs without a shipper may hold the disks meanwhile; it ships from its next start on. Not for a
 * state folder that a shipper has open. */
bool seed_adopt(const struct seed_config *config, const char *state_folder,
                struct err *err) MUST_CHECK;

#endif
