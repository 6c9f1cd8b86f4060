/* SPDX-License-Identifier: MIT
 * A range lock over one disk's blocks: holders of overlapping extents exclude each other, others
 * run in parallel; waiters of one block are served in the order they came, so nobody starves.
 * Whole blocks: two writes to halves of one block exclude each other. Any thread; not recursive.
 * Lock order: a range lock is taken before every other lock of fs/disk, and one thread holds at
 * most one. Uncontended it costs one short critical section each way and no allocation: the lock
 * node lies with the caller. */
#ifndef FS_DISK_RANGE_LOCK_H
#define FS_DISK_RANGE_LOCK_H

#include "common/extent.h"

struct range_locks;

struct range_hold {
    struct extent extent;
    struct range_locks *locks;
    struct range_hold *next;
    bool granted;
};

bool range_locks_make(struct range_locks **out);
void range_locks_release(struct range_locks **locks); /* nobody holds or waits (asserted) */

void range_lock(struct range_locks *locks, struct extent extent, struct range_hold *hold);
/* False: it would have to wait; nothing is held. */
bool range_try(struct range_locks *locks, struct extent extent, struct range_hold *hold);
void range_unlock(struct range_hold *hold);

static inline void range_cleanup(struct range_hold *hold)
{
    if (hold->locks)
        range_unlock(hold);
}

#endif
