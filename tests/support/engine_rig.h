/* SPDX-License-Identifier: MIT
 * A source of two disks and its shipper in the fake world, over a cache store in memory: what the
 * tests of fs/disk share. The rig survives what it does to the engine: kills (the keeper's memory
 * stays), reboots and power cuts (it goes). Everything aborts the test when it fails. */
#ifndef TESTS_SUPPORT_ENGINE_RIG_H
#define TESTS_SUPPORT_ENGINE_RIG_H

#include "fs/disk/ship.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#define RIG_DISKS      2u
#define RIG_VM         "vm"
#define RIG_FOLDER     "/state"
#define RIG_UNDO_BYTES (512u << 10)

/* The second one ends in a partial block. */
static const uint64_t rig_disk_bytes[RIG_DISKS] = {4u << 20, (1u << 20) + 3072};
#define RIG_DISK_BYTES_MAX (4u << 20)

struct rig {
    struct world *world;
    const uint64_t *disk_bytes;
    struct memory_bucket *cache;
    struct store *store;
    struct keys *keys;
    struct generation generation;
    uint8_t vm_id[VM_ID_BYTES];
    void *memory;
    size_t memory_bytes;
    bool fresh;                  /* the next opening formats the memory */
    const struct origin *origin; /* the next opening lays the disks over it; NULL: they are whole */
    struct source *source;
    struct shipper *shipper;
    uint64_t pass_above_bytes;
};

struct rig *rig_make(void); /* disks of zeros, entry 0 in the cache; nothing is open */
void rig_release(struct rig **r);
/* The same in a world that stays the caller's, with disks of these sizes, and all but that world.
 */
struct rig *rig_make_in(struct world *w, const uint64_t disk_bytes[RIG_DISKS]);
void rig_let_go(struct rig **r);
const char *rig_disk_path(size_t disk);
/* Presence records without a bit, and the origin for all openings from now on. */
void rig_lay_over(struct rig *r, const struct origin *origin);
uint16_t rig_disk_number(size_t disk);

void rig_open_source(struct rig *r); /* alone, taken for checked */
void rig_open(struct rig *r);        /* source and shipper */
/* The same; false: it failed, as a worker that dies there: its memory is the next one's. */
bool rig_try_open_source(struct rig *r, struct err *err) MUST_CHECK;
bool rig_try_open(struct rig *r, struct err *err) MUST_CHECK;
void rig_close(struct rig *r);
void rig_kill(struct rig *r);                     /* the worker is gone; the memory stays */
void rig_reboot(struct rig *r);                   /* the memory is gone, all files are as written */
void rig_power_cut(struct rig *r, uint64_t seed); /* what was not synced is in doubt, too */

/* Blocks whose every byte is `fill`; 0 is written as data, not as a hole. */
void rig_write(struct rig *r, size_t disk, uint64_t block, uint64_t count, uint8_t fill);
void rig_zero(struct rig *r, size_t disk, uint64_t block, uint64_t count);
/* Past the source: what happens while it is not mounted. */
void rig_write_raw(struct rig *r, size_t disk, uint64_t block, uint8_t fill);
uint8_t rig_read_raw(struct rig *r, size_t disk, uint64_t block);

/* Takes the whole open cut and commits it: nothing stays dirty but what was written since. */
void rig_forget_dirty(struct rig *r);
/* Ships until nothing is dirty and nothing is left to say: at most a few hundred steps. */
void rig_ship_all(struct rig *r);
bool rig_try_ship_all(struct rig *r); /* false: the machine died meanwhile (fake_world_stop) */
void rig_advance_ms(struct rig *r, uint64_t ms);
struct shipper_status rig_status(struct rig *r);
bool rig_entry(struct rig *r, uint64_t epoch, struct epoch_decoded *out); /* false: none */

/* What the replica holds of one block, by the newest entry that says something about it. */
enum rig_replica {
    RIG_REPLICA_NOTHING,
    RIG_REPLICA_HOLE,
    RIG_REPLICA_DATA,
    RIG_REPLICA_UNREADABLE
};
enum rig_replica rig_replica(struct rig *r, size_t disk, uint64_t block, uint8_t *fill);
enum rig_replica rig_replica_block(struct rig *r, size_t disk, uint64_t block,
                                   uint8_t out[BLOCK_BYTES]); /* of data: all of it */
void rig_replica_has(struct rig *r, size_t disk, uint64_t block, uint8_t fill);
void rig_replica_is_local(struct rig *r, size_t disk, uint64_t block); /* zeros: no data */

#endif
