/* SPDX-License-Identifier: MIT
 * Every crash state of every workload of up to three operations on a source and its shipper, with
 * all that they keep: disks, marks, digests, journal, and the records of the ship machine. Whatever
 * is left, they open, what was flushed is there, and all that differs from the replica ships. */
#include "fs/disk/shipper.h"

#include <string.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/crash_states.h"
#include "tests/support/engine_rig.h"

#include <fcntl.h>

/* A region each, of a few blocks: what is marked is compared as a whole. */
static const uint64_t sizes[RIG_DISKS] = {16 * BLOCK_BYTES, 2 * BLOCK_BYTES};
static const uint64_t looked_at[RIG_DISKS] = {3, 1}; /* the block that is written */

struct engine {
    struct rig *rig;
    uint8_t fill; /* of the newest write, and by disk */
    uint8_t now[RIG_DISKS];
    bool allowed[RIG_DISKS][256]; /* what each sector of that block may show after a cut */
};

enum operation { WRITE_A, WRITE_B, FLUSH_A, SHIP, STOP_CLEAN, DIE, OPERATIONS };

/* What is asked of a store by a machine that died was never sent. */
static enum memory_fault nothing_after_death(void *context, const struct memory_call *call)
{
    struct rig *r = context;
    (void)call;
    return fake_world_died(r->world) ? MEMORY_FAIL : MEMORY_PASS;
}

/* All marks go, too, when what was shipped is proved. */
static bool ship(struct rig *r)
{
    struct err err = ERR_NONE;
    return rig_try_ship_all(r) && source_sync(r->source, &err) &&
           source_sweep(r->source, true, &err);
}

static bool write_block(struct engine *e, size_t disk)
{
    uint8_t bytes[BLOCK_BYTES];
    struct err err = ERR_NONE;
    e->now[disk] = ++e->fill;
    e->allowed[disk][e->fill] = true;
    memset(bytes, e->fill, sizeof bytes);
    return source_write(e->rig->source, disk, looked_at[disk] * BLOCK_BYTES,
                        span_of(bytes, sizeof bytes), &err);
}

static void begin(void *context, struct world *w)
{
    struct engine *e = context;
    e->rig = rig_make_in(w, sizes);
    memory_store_hook(e->rig->store, nothing_after_death, NULL, e->rig);
    rig_open(e->rig);
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        assert_true(write_block(e, disk));
    assert_true(ship(e->rig));
}

static void is_durable(struct engine *e, size_t disk)
{
    memset(e->allowed[disk], 0, sizeof e->allowed[disk]);
    e->allowed[disk][e->now[disk]] = true;
}

static void all_is_durable(struct engine *e)
{
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        is_durable(e, disk);
}

static bool step(void *context, struct world *w, size_t operation)
{
    struct engine *e = context;
    struct rig *r = e->rig;
    struct err err = ERR_NONE;
    (void)w;
    switch ((enum operation)operation) {
    case WRITE_A:
        return write_block(e, 0);
    case WRITE_B:
        return write_block(e, 1);
    case FLUSH_A:
        if (!source_flush(r->source, 0, &err))
            return false;
        is_durable(e, 0);
        return true;
    case SHIP:
        if (!ship(r))
            return false;
        all_is_durable(e);
        return true;
    case STOP_CLEAN:
        if (!shipper_stop(r->shipper, false, 0, &err)) /* marks cover what is left */
            return false;
        all_is_durable(e);
        rig_reboot(r);
        break;
    default:
        rig_kill(r);
    }
    rig_advance_ms(r, 5);
    return rig_try_open(r, &err);
}

static void close_all(void *context)
{
    struct engine *e = context;
    rig_reboot(e->rig);
}

static void check_disk(struct engine *e, size_t disk)
{
    struct rig *r = e->rig;
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    uint8_t local[BLOCK_BYTES], replica[BLOCK_BYTES];
    check_ok(file_open(r->world, rig_disk_path(disk), O_RDONLY, 0, &f, &err), err);
    for (uint64_t block = 0; block < sizes[disk] / BLOCK_BYTES; block++) {
        check_ok(file_read(f, mspan_of(local, sizeof local), block * BLOCK_BYTES, &err), err);
        for (size_t at = 0; at < BLOCK_BYTES && block == looked_at[disk]; at += FAKE_SECTOR)
            if (!e->allowed[disk][local[at]])
                fail_msg("disk %zu: a sector shows write %u", disk, local[at]);
        if (rig_replica_block(r, disk, block, replica) != RIG_REPLICA_DATA)
            memset(replica, 0, sizeof replica);
        if (memcmp(local, replica, sizeof local) != 0)
            fail_msg("disk %zu, block %llu: the replica has another content", disk,
                     (unsigned long long)block);
    }
}

static void check(void *context, struct world *w)
{
    struct engine *e = context;
    (void)w;
    rig_open(e->rig);
    rig_ship_all(e->rig);
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        check_disk(e, disk);
}

static void release(void *context)
{
    struct engine *e = context;
    rig_let_go(&e->rig);
}

static void whatever_a_crash_leaves_the_replica_becomes_the_disk(void **state)
{
    static const struct crash_model m = {.name = "source and shipper",
                                         .alphabet = OPERATIONS,
                                         .context_bytes = sizeof(struct engine),
                                         .begin = begin,
                                         .step = step,
                                         .close = close_all,
                                         .check = check,
                                         .release = release};
    (void)state;
    crash_states_all(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_a_crash_leaves_the_replica_becomes_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
