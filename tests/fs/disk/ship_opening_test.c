/* SPDX-License-Identifier: MIT
 * What a shipper believes when it opens: the power goes at each of its calls, and whatever is left
 * of them, no difference from the replica is forgotten, and none is looked for in vain. */
#include "fs/disk/shipper.h"

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"

#include <errno.h>
#include <fcntl.h>

#define CALLS_MAX 400u

/* One block is shipped and nothing is left to do. */
static int set_up(void **state)
{
    struct rig *r = rig_make();
    rig_open(r);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    rig_release((struct rig **)state);
    return 0;
}

static void stop_clean(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(shipper_stop(r->shipper, true, 0, &err), err);
    rig_reboot(r);
    rig_advance_ms(r, 5);
}

/* Closed, with a block that differs and nothing in marks or maps that says so. */
typedef void prepare_fn(struct rig *r, uint8_t fill);

static void written_behind_our_back(struct rig *r, uint8_t fill)
{
    stop_clean(r);
    rig_write_raw(r, 0, 900, fill);
}

/* By what a copy has from a vault, which holds another content of the block. */
static void adopted(struct rig *r, uint8_t fill)
{
    struct err err = ERR_NONE;
    check_ok(source_sync(r->source, &err) && source_sweep(r->source, true, &err), err);
    struct ship_state state = r->shipper->state;
    rig_reboot(r);
    rig_write_raw(r, 0, 900, fill);
    check_ok(ship_state_forget(r->world, RIG_FOLDER, &err), err);
    state.compare_all = true;
    check_ok(ship_state_save(r->world, RIG_FOLDER, &state, &err), err);
}

/* A backup is put in the place of an image. */
static void replace_image(struct rig *r, uint8_t fill)
{
    struct err err = ERR_NONE;
    struct world_file *copy AUTO_FILE = NULL;
    check_ok(file_open(r->world, "/disks/backup", O_RDWR | O_CREAT, 0600, &copy, &err), err);
    assert_int_equal(r->world->ops->truncate(copy, rig_disk_bytes[0]), 0);
    check_ok(file_sync(copy, &err), err);
    assert_int_equal(r->world->ops->rename(r->world, "/disks/backup", rig_disk_path(0)), 0);
    assert_int_equal(r->world->ops->sync_dir(r->world, "/disks"), 0);
    rig_write_raw(r, 0, 900, fill);
}

/* After both processes were killed. */
static void replaced_after_a_crash(struct rig *r, uint8_t fill)
{
    stop_clean(r);
    rig_open(r); /* no mark is set now */
    rig_reboot(r);
    replace_image(r, fill);
}

/* At that call the power goes, or the worker alone; false: there is no such call. */
static bool dies_at(struct rig *r, uint64_t call, bool power)
{
    struct err err = ERR_NONE;
    if (!power) {
        fake_world_fail(r->world, FAKE_ANY, call, EIO, true);
        bool died = !rig_try_open(r, &err);
        fake_world_fail(r->world, FAKE_ANY, 0, 0, false);
        rig_kill(r);
        return died;
    }
    fake_world_stop(r->world, call);
    bool opened = rig_try_open(r, &err), died = fake_world_stopped(r->world);
    assert_true(opened || died);
    rig_power_cut(r, call);
    return died;
}

static void no_difference_is_forgotten(struct rig *r, prepare_fn *prepare)
{
    for (unsigned power = 0; power < 2; power++) {
        bool died = true;
        for (uint64_t call = 1; died; call++) {
            uint8_t fill = (uint8_t)(1 + (2 * call + power) % 250);
            assert_true(call < CALLS_MAX);
            prepare(r, fill);
            died = dies_at(r, call, power == 1);
            rig_open(r);
            rig_ship_all(r);
            rig_replica_has(r, 0, 900, fill);
            rig_replica_is_local(r, 0, 7);
        }
    }
}

static void what_was_written_behind_our_back_ships_though_the_power_goes(void **state)
{
    no_difference_is_forgotten(*state, written_behind_our_back);
}

static void what_differs_from_adopted_digests_ships_though_the_power_goes(void **state)
{
    no_difference_is_forgotten(*state, adopted);
}

static void a_disk_that_was_replaced_ships_though_the_power_goes(void **state)
{
    no_difference_is_forgotten(*state, replaced_after_a_crash);
}

static void a_disk_that_was_replaced_is_the_one_that_is_held_from_then_on(void **state)
{
    struct rig *r = *state;
    replaced_after_a_crash(r, 5);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    rig_ship_all(r);
    rig_reboot(r);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
}

/* As by a cancel or a reprotect of a VM that is mounted. */
static void a_disk_below_a_state_that_was_made_anew_is_held_too(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct ship_state anew = r->shipper->state;
    rig_kill(r);
    check_ok(ship_state_forget(r->world, RIG_FOLDER, &err), err);
    anew.compare_all = true;
    check_ok(ship_state_save(r->world, RIG_FOLDER, &anew, &err), err);
    rig_open(r);
    assert_true(source_adopted(r->source));
    rig_ship_all(r);
    check_ok(source_sync(r->source, &err) && source_sweep(r->source, true, &err), err);
    rig_reboot(r);
    replace_image(r, 77);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    rig_ship_all(r);
    rig_replica_has(r, 0, 900, 77);
}

static void a_power_cut_after_a_clean_stop_and_a_mount_costs_no_resync(void **state)
{
    struct rig *r = *state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct err err = ERR_NONE;
        stop_clean(r);
        rig_open(r);
        rig_write(r, 0, 7, 1, (uint8_t)seed);
        check_ok(source_sync(r->source, &err), err);
        rig_power_cut(r, seed);
        rig_open(r);
        assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
        rig_ship_all(r);
        rig_replica_has(r, 0, 7, (uint8_t)seed);
    }
}

/* A worker made the record and died before its keeper knew that it had finished. */
static void a_clean_record_is_not_believed_after_another_worker_went_on(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(shipper_stop(r->shipper, true, 0, &err), err);
    rig_kill(r);
    rig_open(r);
    rig_advance_ms(r, 5);
    rig_write(r, 0, 7, 1, 9);
    rig_reboot(r);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
}

static void a_power_cut_after_a_clean_stop_loses_nothing(void **state)
{
    struct rig *r = *state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct err err = ERR_NONE;
        rig_write(r, 0, 7, 1, (uint8_t)(100 + seed));
        rig_ship_all(r);
        check_ok(shipper_stop(r->shipper, true, 0, &err), err);
        rig_power_cut(r, seed);
        assert_int_equal(rig_read_raw(r, 0, 7), 100 + seed);
        rig_open(r);
        assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
        rig_ship_all(r);
        rig_replica_has(r, 0, 7, (uint8_t)(100 + seed));
    }
}

static void a_resync_that_was_asked_for_is_marked_before_it_is_recorded(void **state)
{
    struct rig *r = *state;
    bool died = true;
    for (uint64_t call = 1; died; call++) {
        struct err err = ERR_NONE;
        assert_true(call < CALLS_MAX);
        stop_clean(r);
        rig_open(r);                                   /* no mark is set now */
        rig_write_raw(r, 0, 900, (uint8_t)(1 + call)); /* seen by nobody until it is compared */
        check_ok(shipper_resync(r->shipper, &err), err);
        fake_world_stop(r->world, call);
        shipper_step(r->shipper);
        died = fake_world_stopped(r->world);
        rig_power_cut(r, call);
        rig_open(r);
        if (!r->shipper->state.initial_done) { /* it counts as begun */
            rig_ship_all(r);
            rig_replica_has(r, 0, 900, (uint8_t)(1 + call));
        }
        rig_ship_all(r);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_written_behind_our_back_ships_though_the_power_goes),
        T(what_differs_from_adopted_digests_ships_though_the_power_goes),
        T(a_disk_that_was_replaced_ships_though_the_power_goes),
        T(a_disk_that_was_replaced_is_the_one_that_is_held_from_then_on),
        T(a_disk_below_a_state_that_was_made_anew_is_held_too),
        T(a_power_cut_after_a_clean_stop_and_a_mount_costs_no_resync),
        T(a_clean_record_is_not_believed_after_another_worker_went_on),
        T(a_power_cut_after_a_clean_stop_loses_nothing),
        T(a_resync_that_was_asked_for_is_marked_before_it_is_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
