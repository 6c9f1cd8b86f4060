/* SPDX-License-Identifier: MIT
 * Where the operations of failn run: a host with one VM of two disks, its stores in folders, and
 * the truth about every sector that was written. All lies in a folder and in memory that forks
 * share, so that a run may die anywhere and the next process looks at what it left.
 * One thread. Steps return false and `err` as what they call does. */
#ifndef TESTS_FAILN_PLACE_H
#define TESTS_FAILN_PLACE_H

#include "backend/history/claim.h"
#include "fs/disk/ship.h"
#include "fs/mount/open_points.h"
#include "fs/mount/recovery_tree.h"
#include "tests/support/tmp_dir.h"
#include "tools/vm.h"

#define PLACE_VM       "vm"
#define PLACE_GROWN    "2M" /* what disk 1 may grow to */
#define PLACE_DISKS    2u
#define PLACE_IMAGES   (PLACE_DISKS + 1) /* the last one is the overlay of disk 0 */
#define PLACE_OVERLAY  PLACE_DISKS
#define PLACE_SECTOR   512u
#define PLACE_SECTORS  8192u /* of the larger disk */
#define PLACE_VERSIONS 256u

extern const uint64_t place_disk_bytes[PLACE_DISKS];

/* A sector holds the newest write that was answered, or one that was begun after it. */
struct place_truth {
    uint8_t answered[PLACE_IMAGES][PLACE_SECTORS];
    uint8_t begun[PLACE_IMAGES][PLACE_SECTORS];
    bool zero[PLACE_VERSIONS]; /* this write was a discard */
    uint8_t version;           /* of the newest write */
    uint64_t epoch;            /* newest that was shipped, as far as was said */
    char wrong[ERR_TEXT_MAX];  /* wrong data was served: what and where; "": never */
    struct claim claim;        /* of the VM; generation 0: none was decided on */
};

struct place {
    struct tmp_dir dir;
    struct place_truth *truth; /* shared */
    uint8_t *memory;           /* shared: what a keeper holds */
    size_t memory_bytes;
};

void place_make(struct place *p);   /* aborts when it cannot; no state in it yet */
void place_empty(struct place *p);  /* as it was made */
void place_remove(struct place *p); /* of the folder, by its maker */

/* farshore VERB ... in this process: what it returns as its exit code is 0. `words` ends with NULL.
 */
bool place_verb(const char *const *words);
bool place_enable(struct place *p);
bool place_process(void);

/* The host as a verb sees it, with the VM loaded. Closed also when it fails. */
struct place_host {
    struct paths paths;
    struct verb_call call;
    struct vm vm;
};
bool place_host_open(struct place_host *h, struct err *err);
void place_host_close(struct place_host *h);
bool place_enabled(void);              /* its settings say that it is a source */
uint64_t place_disk_size(size_t disk); /* as they say; 0: they say nothing */

/* --- a worker without its FUSE --- */

struct place_mount {
    struct place *place;
    struct place_host host;
    struct source *source;
    struct shipper *shipper;
};

/* `fresh`: the keeper's memory is new; else a dead worker left it. Closed also when it fails. */
bool place_mount_open(struct place *p, bool fresh, struct place_mount *m, struct err *err);
void place_mount_close(struct place_mount *m); /* as a kill would */

/* A guest's calls, of whole sectors. */
bool place_write(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                 struct err *err);
bool place_zero(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                struct err *err);
bool place_read(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                struct err *err);
/* A point is asked for and the machine stepped until it is durable in the cache. ERR_TRANSIENT:
 * it is not after PLACE_STEPS. */
#define PLACE_STEPS 400u
bool place_ship(struct place_mount *m, struct err *err);

/* --- a recovery mount without its FUSE --- */

struct place_recovery {
    struct place *place;
    struct place_host host;
    struct view_cache *cache;
    struct recovery_vm row;
    struct recovery_mount_config config;
    struct recovery_tree tree;
    struct open_points *points;
    struct history_point latest;
    struct image *image;
};

/* Finds the newest point as a user's lookups do. `writable`: with overlays. */
bool place_recovery_open(struct place *p, bool writable, struct place_recovery *r, struct err *err);
void place_recovery_close(struct place_recovery *r);
/* The image of a disk, all of it read: as `which` has it in the truth. */
bool place_recovery_read(struct place_recovery *r, size_t disk, size_t which, struct err *err);
/* Some of the overlay of disk 0 is written and flushed. */
bool place_recovery_write(struct place_recovery *r, struct err *err);

/* All bytes of the newest point are those of the local files. */
bool place_point_is_files(struct place *p, struct err *err);

#endif
