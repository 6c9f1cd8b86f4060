/* SPDX-License-Identifier: MIT
 * What source.c and cut.c share. Nobody else includes it.
 * Lock order: a range lock, then the locks inside marks and undo. */
#ifndef FS_DISK_SOURCE_PRIVATE_H
#define FS_DISK_SOURCE_PRIVATE_H

#include "backend/history/epoch.h"
#include "fs/disk/backing.h"
#include "fs/disk/cut.h"
#include "fs/disk/dirty.h"
#include "fs/disk/gate.h"
#include "fs/disk/marks.h"
#include "fs/disk/range_lock.h"
#include "fs/disk/undo.h"
#include "fs/disk/written.h"

#include <stdatomic.h>

struct source_disk {
    char name[DISK_NAME_MAX + 1];
    char *path;
    uint16_t number;
    uint16_t store;
    uint64_t size;
    struct written *written;
    struct backing *backing;
    const struct origin *origin; /* NULL: none */
    struct range_locks *locks;
    struct marks *marks;
    struct digest_file *digests; /* ship machine's thread only */
    bool distrusted;             /* its failed sync was dealt with; ship machine's thread only */
};

/* Before the dirty maps in the keeper's memory: what must outlive a worker besides them. */
struct source_kept {
    _Atomic bool sync_failed[VM_DISKS_MAX]; /* sticky until the memory goes */
};
#define SOURCE_KEPT_BYTES 4096u
_Static_assert(sizeof(struct source_kept) <= SOURCE_KEPT_BYTES, "it fits");

struct source {
    struct world *world;
    struct source_kept *kept;
    bool adopted;
    size_t disk_count;
    struct source_disk disks[VM_DISKS_MAX];
    struct gate gate;
    struct dirty *dirty;
    struct undo *undo;
    struct long_wait far;
    _Atomic uint64_t changed_bytes; /* written and zeroed, also over and over */
    /* Boot time of the first write of the active epoch and of the open cut's, by the epoch's lowest
     * bit like the maps; 0: none. */
    _Atomic uint64_t first_write_ms[2];

    /* The open cut's epoch and how far it was taken, in one word, so that a writer sees both of
     * one cut. Writers read it under their range lock; the ship machine's thread moves it. */
    _Atomic uint64_t cut_word;
    _Atomic bool cut_lost;
};

/* epoch (low 20 bits) << 44 | disk << 38 | block; an idle word has every bit set. */
#define CUT_IDLE       UINT64_MAX
#define CUT_EPOCH_MASK 0xfffffu
#define CUT_EPOCH_BIT  44
#define CUT_DISK_BIT   38
_Static_assert(DISK_BYTES_MAX >> BLOCK_SHIFT <= 1ull << CUT_DISK_BIT, "a block number fits");
_Static_assert(VM_DISKS_MAX <= 1u << (CUT_EPOCH_BIT - CUT_DISK_BIT), "a disk index fits");

static inline uint64_t cut_position(size_t disk, uint64_t block)
{
    return (uint64_t)disk << CUT_DISK_BIT | block;
}

static inline uint64_t cut_word_position(uint64_t word)
{
    return word & ((1ull << CUT_EPOCH_BIT) - 1);
}

static inline uint32_t cut_word_epoch(uint64_t word)
{
    return (uint32_t)(word >> CUT_EPOCH_BIT);
}

/* Notes the time of the first write since the last cut. */
void source_note_write(struct source *s, uint32_t epoch);

#endif
