/* SPDX-License-Identifier: MIT */
#include "fs/disk/shipper.h"

#include "backend/history/processor.h"
#include "backend/history/progress.h"
#include "common/file.h"
#include "fs/disk/ship.h"
#include "fs/disk/source_private.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"
#include "tests/support/fake_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* Failures of the store on demand: `left` calls of `op` whose key holds `part` go wrong. */
struct trouble {
    enum memory_op op;
    const char *part;
    unsigned left;
    enum memory_fault fault;
};

struct fixture {
    struct rig *rig;
    struct trouble trouble;
};

#define FOR_EVER UINT32_MAX

static enum memory_fault before(void *context, const struct memory_call *call)
{
    struct trouble *t = context;
    if (t->left == 0 || call->op != t->op || strstr(call->key, t->part) == NULL)
        return MEMORY_PASS;
    if (t->left != FOR_EVER)
        t->left--;
    return t->fault;
}

static int set_up_closed(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->rig = rig_make();
    memory_store_hook(f->rig->store, before, NULL, &f->trouble);
    *state = f;
    return 0;
}

/* Everything there is has been shipped. */
static int set_up(void **state)
{
    set_up_closed(state);
    struct fixture *f = *state;
    rig_open(f->rig);
    rig_ship_all(f->rig);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rig_release(&f->rig);
    free(f);
    return 0;
}

static void epoch_key(const struct rig *r, uint64_t epoch, char out[KEY_MAX])
{
    key_epoch(out, RIG_VM, r->generation, epoch);
}

static bool has_epoch(struct rig *r, uint64_t epoch)
{
    char key[KEY_MAX];
    epoch_key(r, epoch, key);
    return memory_bucket_has(r->cache, key);
}

static void fail_entries(struct fixture *f, enum memory_fault fault, unsigned times)
{
    f->trouble = (struct trouble){.op = MEMORY_PUT, .part = "/", .left = times, .fault = fault};
}

/* Steps, with the time that each asks for, until the phase is reached. */
static void step_to(struct rig *r, enum ship_phase phase)
{
    for (unsigned i = 0; i < 200; i++) {
        if (r->shipper->phase == phase)
            return;
        rig_advance_ms(r, shipper_step(r->shipper));
    }
    fail_msg("phase %d not reached, but %d", (int)phase, (int)r->shipper->phase);
}

static void step_times(struct rig *r, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        rig_advance_ms(r, shipper_step(r->shipper));
}

/* The chain from entry 0 on is whole, and its head is what the machine believes. */
static void check_chain(struct rig *r)
{
    struct sha256 before = {{0}};
    for (uint64_t n = 0; n <= r->shipper->state.epoch; n++) {
        struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
        assert_true(rig_entry(r, n, &d));
        if (n > 0)
            assert_memory_equal(&d.entry.previous, &before, sizeof before);
        before = d.digest;
    }
    assert_memory_equal(&r->shipper->state.digest, &before, sizeof before);
    assert_false(has_epoch(r, r->shipper->state.epoch + 1));
}

static void pause_shipping(struct rig *r, bool paused)
{
    struct err err = ERR_NONE;
    check_ok(shipper_pause(r->shipper, paused, &err), err);
}

static void reopen(struct rig *r)
{
    rig_kill(r);
    rig_open(r);
}

/* --- the ordinary way --- */

static void the_first_epoch_is_1_and_chains_to_entry_0(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_open(r);
    rig_write(r, 0, 7, 2, 1);
    rig_ship_all(r);
    struct epoch_decoded first AUTO_EPOCH = {.memory = BUF_NONE};
    struct epoch_decoded second AUTO_EPOCH = {.memory = BUF_NONE};
    assert_int_equal(r->shipper->state.epoch, 2);
    assert_true(rig_entry(r, 1, &first));
    assert_int_equal(first.entry.kind, EPOCH_PASS); /* a new disk is dirty as a whole */
    assert_true(rig_entry(r, 2, &second));
    assert_int_equal(second.entry.kind, EPOCH_CUT);
    rig_replica_has(r, 0, 8, 1);
    check_chain(r);
}

static void a_quiet_source_puts_nothing(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    size_t objects = memory_bucket_objects(r->cache);
    step_times(r, 20);
    assert_int_equal(memory_bucket_objects(r->cache), objects);
}

static void a_block_written_back_to_what_it_was_ships_nothing(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    uint64_t epoch = r->shipper->state.epoch;
    rig_write(r, 0, 7, 1, 2);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    assert_int_equal(r->shipper->state.epoch, epoch);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
}

static void a_discard_ships_as_a_hole(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint8_t fill;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_zero(r, 0, 7, 1);
    rig_ship_all(r);
    assert_int_equal(rig_replica(r, 0, 7, &fill), RIG_REPLICA_HOLE);
}

static void points_rise_though_the_clock_goes_back(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint64_t before_ms = r->shipper->state.point_ms;
    fake_world_jump(r->world, -INT64_C(3600000000000));
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    assert_true(r->shipper->state.point_ms > before_ms);
}

static void five_quiet_minutes_make_a_heartbeat_and_no_point(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint64_t point_ms = r->shipper->state.point_ms;
    uint64_t epoch = r->shipper->state.epoch;
    rig_advance_ms(r, HEARTBEAT_MS);
    step_times(r, 3);
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    assert_int_equal(r->shipper->state.epoch, epoch + 1);
    assert_true(rig_entry(r, epoch + 1, &d));
    assert_int_equal(d.entry.kind, EPOCH_HEARTBEAT);
    assert_true(d.entry.point_ms >= point_ms + HEARTBEAT_MS);
    assert_int_equal(r->shipper->state.point_ms, point_ms);
    check_chain(r);
}

static void a_requested_point_is_made_with_nothing_dirty(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    uint64_t before_epoch = r->shipper->state.epoch;
    check_ok(shipper_request_point(r->shipper, POINT_APPLICATION, "before update", &ticket, &err),
             err);
    check_fails(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err,
                ERR_TRANSIENT);
    step_to(r, SHIP_DRAIN);
    step_to(r, SHIP_IDLE);
    check_ok(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err);
    assert_int_equal(epoch, before_epoch + 1);
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    assert_true(rig_entry(r, epoch, &d));
    assert_int_equal(d.entry.point_kind, POINT_APPLICATION);
    assert_string_equal(d.entry.label, "before update");
    assert_int_equal(d.entry.point_ms, point_ms);
}

static void a_point_whose_cut_comes_too_late_is_of_kind_crash(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    check_ok(shipper_request_point(r->shipper, POINT_APPLICATION, "quiet", &ticket, &err), err);
    check_fails(shipper_wait_cut(r->shipper, ticket, 0, &err), err, ERR_TRANSIENT);
    check_says(err, "crash-consistent");
    step_to(r, SHIP_DRAIN);
    check_ok(shipper_wait_cut(r->shipper, ticket, 0, &err), err); /* made, but late */
    step_to(r, SHIP_IDLE);
    check_ok(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err);
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    assert_true(rig_entry(r, epoch, &d));
    assert_int_equal(d.entry.point_kind, POINT_CRASH);
}

static void who_waits_for_a_cut_hears_of_it_before_the_point_is_durable(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    check_ok(shipper_request_point(r->shipper, POINT_APPLICATION, "", &ticket, &err), err);
    step_to(r, SHIP_DRAIN);
    check_ok(shipper_wait_cut(r->shipper, ticket, 0, &err), err);
    check_fails(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err,
                ERR_TRANSIENT);
    step_to(r, SHIP_IDLE);
    check_ok(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err);
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    assert_true(rig_entry(r, epoch, &d));
    assert_int_equal(d.entry.point_kind, POINT_APPLICATION);
}

static void a_point_whose_cut_was_abandoned_fails_by_name(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch, blocks = RIG_UNDO_BYTES / BLOCK_BYTES;
    rig_write(r, 0, 0, blocks, 1);
    check_ok(shipper_request_point(r->shipper, POINT_CRASH, "", &ticket, &err), err);
    step_to(r, SHIP_DRAIN);
    fake_world_fail(r->world, FAKE_PREAD, 1, EIO, false);
    rig_write(r, 0, 0, 1, 2); /* its old block cannot be saved */
    step_to(r, SHIP_SETTLE);
    check_fails(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err,
                ERR_TRANSIENT);
    check_says(err, "abandoned");
    assert_int_equal(rig_status(r).abandoned_cuts, 1);
    rig_ship_all(r);
    rig_replica_has(r, 0, 0, 2);
}

static void a_cut_lost_for_want_of_undo_room_is_followed_by_a_pass_and_said(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint64_t epoch = r->shipper->state.epoch, blocks = 2 * RIG_UNDO_BYTES / BLOCK_BYTES;
    r->shipper->config.pass_above_bytes = 4u << 20;
    for (unsigned i = 1; i <= 3; i++) { /* each time the guest writes more than can be kept */
        rig_write(r, 0, 0, blocks, (uint8_t)i);
        step_to(r, SHIP_DRAIN);
        bool pass = r->shipper->pass;
        rig_write(r, 0, 0, blocks, (uint8_t)(10 + i));
        assert_int_equal(pass, i == 2);
        assert_int_equal(rig_status(r).state, i == 1 ? REPLICATION_PROTECTED : REPLICATION_BACKLOG);
        step_to(r, pass ? SHIP_IDLE : SHIP_SETTLE);
        assert_non_null(strstr(rig_status(r).reason, "no room"));
    }
    assert_int_equal(r->shipper->state.epoch, epoch + 1); /* the pass */
    rig_ship_all(r);
    step_times(r, 3);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    rig_replica_has(r, 0, 0, 13);
}

static void
a_state_of_stalled_stays_until_a_cut_succeeds_and_the_next_one_is_due_at_once(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    shipper_set_cut_interval(r->shipper, CUT_INTERVAL_MAX_MS);
    rig_write(r, 0, 0, 1, 3);
    r->shipper->next_cut_ms = 0;
    fail_entries(f, MEMORY_FAIL, 3);
    step_to(r, SHIP_PUT);
    step_times(r, 1);
    uint64_t failed_ms = ship_now_ms(r->shipper);
    while (r->shipper->state.epoch < 2 && ship_now_ms(r->shipper) < failed_ms + 600000) {
        assert_int_equal(rig_status(r).state, REPLICATION_STALLED);
        assert_true(rig_status(r).reason[0] != '\0');
        rig_advance_ms(r, shipper_step(r->shipper));
    }
    assert_true(ship_now_ms(r->shipper) < failed_ms + 30000);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    assert_string_equal(rig_status(r).reason, "");
}

/* --- passes --- */

static void a_large_dirty_set_ships_as_passes_and_then_a_cut(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint64_t epoch = r->shipper->state.epoch;
    rig_write(r, 0, 0, RIG_UNDO_BYTES / BLOCK_BYTES + 1, 1);
    rig_ship_all(r);
    struct epoch_decoded pass AUTO_EPOCH = {.memory = BUF_NONE};
    struct epoch_decoded cut AUTO_EPOCH = {.memory = BUF_NONE};
    assert_true(rig_entry(r, epoch + 1, &pass));
    assert_int_equal(pass.entry.kind, EPOCH_PASS);
    assert_true(rig_entry(r, epoch + 2, &cut));
    assert_int_equal(cut.entry.kind, EPOCH_CUT);
    assert_int_equal(r->shipper->state.epoch, epoch + 2);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    check_chain(r);
}

static void a_pass_that_found_nothing_to_ship_leaves_no_lag_and_lets_the_mount_end(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    check_ok(source_mark_all(r->source, &err), err); /* as after a power cut */
    step_to(r, SHIP_DRAIN);
    assert_true(r->shipper->pass);
    step_to(r, SHIP_IDLE);
    rig_advance_ms(r, 100000);
    step_times(r, 1);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
    check_ok(shipper_stop(r->shipper, true, 0, &err), err);
}

static void a_cut_after_passes_that_was_settled_late_leaves_no_lag(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    rig_write(r, 0, 0, RIG_UNDO_BYTES / BLOCK_BYTES + 1, 1);
    step_to(r, SHIP_PUT); /* the pass */
    step_to(r, SHIP_IDLE);
    step_to(r, SHIP_PUT); /* the cut */
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = "/", .left = 20, .fault = MEMORY_FAIL};
    shipper_step(r->shipper); /* it is put, but nobody can say so */
    f->trouble.left = 0;
    rig_ship_all(r);
    rig_advance_ms(r, 100000);
    step_times(r, 1);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
    assert_int_equal(r->shipper->passes, 0);
    assert_int_equal(r->shipper->unapplied[r->shipper->unapplied_count - 1].epoch,
                     r->shipper->state.point_epoch);
    check_chain(r);
}

/* --- replies lost, stores down --- */

static void a_lost_reply_on_the_end_object_is_settled_as_committed(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    uint64_t epoch = r->shipper->state.epoch;
    fail_entries(f, MEMORY_LOSE_REPLY, 1);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    assert_int_equal(f->trouble.left, 0);
    assert_int_equal(r->shipper->state.epoch, epoch + 1);
    check_chain(r);
}

static void an_end_object_in_doubt_is_found_again_and_not_put_twice(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    uint64_t epoch = r->shipper->state.epoch;
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = "/", .left = 20, .fault = MEMORY_FAIL};
    shipper_step(r->shipper);
    assert_int_equal(r->shipper->phase, SHIP_SETTLE);
    f->trouble.left = 0;
    rig_ship_all(r);
    assert_int_equal(r->shipper->state.epoch, epoch + 1);
    assert_int_equal(r->shipper->state.point_epoch, epoch + 1);
    check_chain(r);
}

/* An end object is put and given up as absent; `late` is what may still arrive at `key`. */
static void give_up_a_put(struct fixture *f, struct buf *late, char key[KEY_MAX])
{
    struct rig *r = f->rig;
    struct err err = ERR_NONE;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    epoch_key(r, r->shipper->state.epoch + 1, key);
    rig_write(r, 0, 7, 1, 2);
    step_to(r, SHIP_PUT);
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = "/", .left = 20, .fault = MEMORY_FAIL};
    shipper_step(r->shipper);
    assert_int_equal(r->shipper->phase, SHIP_SETTLE);
    f->trouble.left = 0;
    check_ok(store_load(r->store, key, EPOCH_BYTES_MAX, late, &err), err);
    memory_bucket_drop(r->cache, key);
    step_to(r, SHIP_IDLE);
}

/* It arrives after all when its block has gone back to what the replica had before: the digest file
 * must not say that it still has it. */
static void an_end_object_that_arrives_late_leaves_no_block_for_known(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct buf late AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    give_up_a_put(*state, &late, key);
    rig_write(r, 0, 7, 1, 1);
    memory_bucket_set(r->cache, key, buf_span(&late));
    rig_write(r, 0, 9, 1, 5); /* something to put, which finds the slot taken */
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
    check_chain(r);
}

/* At each call of the step that puts and settles; then the block goes back to what it was. What
 * the digest file says must be what the replica has. */
static void a_power_cut_while_an_epoch_is_settled_leaves_no_digest_behind(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    bool died = true;
    for (uint64_t call = 1; died; call++) {
        assert_true(call < 200);
        rig_write(r, 0, 7, 1, 1);
        rig_ship_all(r);
        rig_write(r, 0, 7, 1, 2);
        step_to(r, SHIP_PUT);
        fake_world_stop(r->world, call);
        shipper_step(r->shipper);
        died = fake_world_stopped(r->world);
        rig_power_cut(r, call);
        rig_open(r);
        rig_write(r, 0, 7, 1, 1);
        rig_ship_all(r);
        rig_replica_has(r, 0, 7, 1);
        check_chain(r);
    }
}

static void a_cut_is_not_read_while_a_write_of_it_is_under_way(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    uint32_t epoch = gate_enter(&r->source->gate);
    step_to(r, SHIP_DRAIN);
    step_times(r, 5);
    assert_int_equal(r->shipper->phase, SHIP_DRAIN);
    gate_leave(&r->source->gate, epoch);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
}

/* Shipped, never synced by the guest, quiet for long: whatever the cut leaves, the replica follows.
 */
static void a_power_cut_long_after_shipping_leaves_no_difference_unmarked(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    for (uint8_t seed = 1; seed <= 10; seed++) {
        rig_write(r, 0, 7, 1, seed);
        rig_ship_all(r);
        for (unsigned i = 0; i < 20; i++) {
            rig_advance_ms(r, 20000);
            step_times(r, 2);
        }
        rig_power_cut(r, seed);
        rig_open(r);
        rig_ship_all(r);
        rig_replica_is_local(r, 0, 7);
    }
}

static void one_bit_flipped_on_the_way_while_settling_fences_nobody(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    uint64_t epoch = r->shipper->state.epoch;
    char key[KEY_MAX];
    epoch_key(r, epoch + 1, key);
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = "/", .left = 20, .fault = MEMORY_FAIL};
    shipper_step(r->shipper);
    assert_int_equal(r->shipper->phase, SHIP_SETTLE);
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = key, .left = 1, .fault = MEMORY_DAMAGE};
    rig_ship_all(r);
    assert_int_equal(f->trouble.left, 0);
    assert_int_equal(r->shipper->state.epoch, epoch + 1);
    check_chain(r);
}

static void a_store_that_is_down_stalls_and_then_goes_on(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    fail_entries(f, MEMORY_FAIL, FOR_EVER);
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    shipper_step(r->shipper);
    assert_int_equal(rig_status(r).state, REPLICATION_STALLED);
    assert_true(rig_status(r).reason[0] != '\0');
    rig_advance_ms(r, 7000);
    shipper_step(r->shipper);
    assert_in_range(rig_status(r).cache_lag_seconds, 7, 9);
    f->trouble.left = 0;
    rig_ship_all(r);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    rig_replica_has(r, 0, 7, 1);
}

static void puts_that_are_refused_for_long_do_not_end_replication(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    fail_entries(f, MEMORY_FILL, 100);
    rig_write(r, 0, 7, 1, 1);
    for (unsigned i = 0; f->trouble.left > 0 && i < 2000; i++)
        step_times(r, 1);
    assert_int_equal(f->trouble.left, 0);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
    check_chain(r);
}

static void puts_that_are_in_doubt_for_long_do_not_end_replication(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    fail_entries(f, MEMORY_FAIL, 100);
    rig_write(r, 0, 7, 1, 1);
    for (unsigned i = 0; f->trouble.left > 0 && i < 2000; i++)
        step_times(r, 1);
    assert_int_equal(f->trouble.left, 0);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
    check_chain(r);
}

/* --- digests that were adopted from a vault --- */

static void after_an_adoption_every_block_is_compared(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    struct ship_state adopted;
    uint64_t all = 0;
    for (size_t i = 0; i < RIG_DISKS; i++)
        all += blocks_of_bytes(rig_disk_bytes[i]);
    check_ok(source_sync(r->source, &err) && source_sweep(r->source, true, &err), err);
    adopted = r->shipper->state;
    rig_close(r);
    rig_write_raw(r, 0, 9, 99);
    check_ok(ship_state_forget(r->world, RIG_FOLDER, &err), err);
    adopted.compare_all = true;
    check_ok(ship_state_save(r->world, RIG_FOLDER, &adopted, &err), err);
    rig_reboot(r);
    rig_open(r);
    assert_int_equal(source_dirty_blocks(r->source), all);
    rig_ship_all(r);
    rig_replica_has(r, 0, 9, 99);
    /* once */
    assert_false(r->shipper->state.compare_all);
    check_ok(ship_state_load(r->world, RIG_FOLDER, r->generation, &adopted, &err), err);
    assert_false(adopted.compare_all);
}

/* --- fenced --- */

static void put_foreign(struct rig *r, uint64_t epoch)
{
    char key[KEY_MAX];
    epoch_key(r, epoch, key);
    memory_bucket_set(r->cache, key, span_of_text("not ours"));
}

static void fenced_for_good(struct rig *r)
{
    assert_int_equal(rig_status(r).state, REPLICATION_FENCED);
    size_t objects = memory_bucket_objects(r->cache);
    rig_write(r, 0, 9, 1, 9);
    step_times(r, 20);
    if (has_epoch(r, r->shipper->state.epoch + 1)) { /* whoever tidies the cache later */
        char key[KEY_MAX];
        epoch_key(r, r->shipper->state.epoch + 1, key);
        memory_bucket_drop(r->cache, key);
        objects--;
    }
    reopen(r);
    step_times(r, 20);
    assert_int_equal(rig_status(r).state, REPLICATION_FENCED);
    assert_true(source_dirty_blocks(r->source) > 0);
    assert_int_equal(memory_bucket_objects(r->cache), objects);
}

static void a_foreign_entry_in_the_slot_fences_for_good(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    put_foreign(r, r->shipper->state.epoch + 1);
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_FENCED);
    fenced_for_good(r);
}

/* What a claimer puts behind the newest entry. */
static void put_fence(struct rig *r, const char *label)
{
    struct err err = ERR_NONE;
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt = {{3}};
    char key[KEY_MAX];
    struct epoch_entry e = {.kind = EPOCH_FENCE,
                            .generation = r->generation,
                            .epoch = r->shipper->state.epoch + 1,
                            .previous = r->shipper->state.digest};
    memcpy(e.vm, r->vm_id, sizeof e.vm);
    snprintf(e.label, sizeof e.label, "%s", label);
    check_ok(epoch_encode(&e, r->keys, &salt, &bytes, &err), err);
    epoch_key(r, e.epoch, key);
    memory_bucket_set(r->cache, key, buf_span(&bytes));
}

static void a_fence_says_where_the_vm_has_gone(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    put_fence(r, "failed over to host b");
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_FENCED);
    struct shipper_status status = rig_status(r);
    assert_non_null(strstr(status.reason, "failed over to host b"));
    assert_non_null(strstr(status.reason, "do not start the VM here"));
    fenced_for_good(r);
}

static void an_idle_source_meets_a_fence_within_two_heartbeats(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    put_fence(r, "");
    uint64_t until = ship_now_ms(r->shipper) + 2 * HEARTBEAT_MS;
    while (r->shipper->phase != SHIP_FENCED && ship_now_ms(r->shipper) < until)
        step_times(r, 1);
    assert_int_equal(r->shipper->phase, SHIP_FENCED);
    assert_non_null(strstr(rig_status(r).reason, "claimed by another host"));
}

static void a_paused_source_with_writes_meets_a_fence_within_two_heartbeats(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    pause_shipping(r, true);
    shipper_set_cut_interval(r->shipper, CUT_INTERVAL_MAX_MS);
    step_times(r, 2);
    rig_write(r, 0, 7, 1, 1);
    put_fence(r, "");
    uint64_t until = ship_now_ms(r->shipper) + 2 * HEARTBEAT_MS;
    while (r->shipper->phase != SHIP_FENCED && ship_now_ms(r->shipper) < until)
        step_times(r, 1);
    assert_int_equal(r->shipper->phase, SHIP_FENCED);
}

static void our_newest_entry_gone_fences_for_good(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    char key[KEY_MAX];
    epoch_key(r, r->shipper->state.epoch, key);
    memory_bucket_drop(r->cache, key);
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_FENCED);
    fenced_for_good(r);
}

static void our_newest_entry_gone_is_seen_when_it_is_opened(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    char key[KEY_MAX];
    rig_kill(r);
    key_epoch(key, RIG_VM, r->generation, 1);
    memory_bucket_drop(r->cache, key);
    rig_open(r);
    step_to(r, SHIP_FENCED);
}

static void tell_applied(struct rig *r, uint64_t epoch)
{
    struct err err = ERR_NONE;
    uint64_t number = 0;
    struct processor_config config = {
        .world = r->world, .vm = RIG_VM, .keys = r->keys, .caches = &r->store};
    struct processor_progress progress = {
        .generation = r->generation, .applied_epoch = epoch, .health = "ok"};
    check_ok(progress_put(&config, &progress, &number, &err), err);
}

/* Asleep while its copy went on: the slot behind its newest entry was used and is free again. */
static void a_target_beyond_our_entries_fences_for_good(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    tell_applied(r, r->shipper->state.epoch + 2);
    rig_write(r, 0, 7, 1, 1);
    rig_advance_ms(r, 61000);
    step_to(r, SHIP_FENCED);
    assert_non_null(strstr(rig_status(r).reason, "another source ships as this one"));
    fenced_for_good(r);
}

static void an_end_object_that_arrives_late_and_is_applied_fences_nobody(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct buf late AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    give_up_a_put(*state, &late, key);
    uint64_t slot = r->shipper->state.epoch + 1;
    memory_bucket_set(r->cache, key, buf_span(&late));
    tell_applied(r, slot);
    rig_advance_ms(r, 61000);
    step_times(r, 3); /* the look, the slot, and on */
    assert_int_equal(r->shipper->state.epoch, slot);
    assert_int_not_equal(r->shipper->phase, SHIP_FENCED);
    check_chain(r);
}

static void a_fenced_source_answers_requests_by_name_and_keeps_its_marks(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    check_ok(shipper_request_point(r->shipper, POINT_CRASH, "", &ticket, &err), err);
    put_foreign(r, r->shipper->state.epoch + 1);
    step_to(r, SHIP_FENCED);
    check_fails(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err,
                ERR_FENCED);
    check_fails(shipper_request_point(r->shipper, POINT_CRASH, "", &ticket, &err), err, ERR_FENCED);
    uint64_t marks = marks_count(r->source->disks[0].marks);
    assert_true(marks > 0);
    check_fails(shipper_stop(r->shipper, true, 0, &err), err, ERR_FENCED);
    assert_int_equal(marks_count(r->source->disks[0].marks), marks);
}

static void a_source_that_lost_its_state_is_fenced(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_kill(r);
    assert_int_equal(r->world->ops->unlink(r->world, RIG_FOLDER "/ship.json"), 0);
    rig_open(r);
    step_to(r, SHIP_FENCED);
}

static void a_source_that_lost_its_state_is_fenced_though_entry_0_is_gone(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    char key[KEY_MAX];
    for (unsigned i = 0; i < 3; i++) {
        rig_write(r, 0, i, 1, 1);
        rig_ship_all(r);
    }
    rig_kill(r);
    for (uint64_t n = 0; n < 2; n++) {
        epoch_key(r, n, key);
        memory_bucket_drop(r->cache, key);
    }
    assert_int_equal(r->world->ops->unlink(r->world, RIG_FOLDER "/ship.json"), 0);
    rig_open(r);
    step_to(r, SHIP_FENCED);
}

/* --- kills --- */

static void killed_before_the_put_it_ships_everything_afterwards(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    fail_entries(f, MEMORY_FAIL, 1); /* the journal is written, the entry is not */
    shipper_step(r->shipper);
    assert_int_equal(f->trouble.left, 0);
    assert_int_equal(journal_attempts(r->shipper->journal), 1);
    rig_kill(r);
    rig_open(r);
    rig_ship_all(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    rig_replica_has(r, 0, 7, 1);
    check_chain(r);
}

static void killed_after_the_put_it_takes_the_entry_for_its_own(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    uint64_t epoch = r->shipper->state.epoch;
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    f->trouble = (struct trouble){.op = MEMORY_GET, .part = "/", .left = 20, .fault = MEMORY_FAIL};
    shipper_step(r->shipper);
    f->trouble.left = 0;
    rig_kill(r);
    assert_true(has_epoch(r, epoch + 1));
    rig_open(r);
    rig_write(r, 0, 8, 1, 2);
    rig_ship_all(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    rig_replica_has(r, 0, 7, 1);
    rig_replica_has(r, 0, 8, 2);
    check_chain(r);
}

static void killed_in_every_phase_the_next_point_is_whole(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    const enum ship_phase phases[] = {SHIP_DRAIN, SHIP_TAKE, SHIP_PUT};
    for (uint8_t i = 0; i < 3; i++) {
        rig_write(r, 0, i, 1, (uint8_t)(10 + i));
        step_to(r, phases[i]);
        rig_write(r, 1, i, 1, (uint8_t)(20 + i));
        reopen(r);
        rig_ship_all(r);
        rig_replica_has(r, 0, i, (uint8_t)(10 + i));
        rig_replica_has(r, 1, i, (uint8_t)(20 + i));
    }
    check_chain(r);
}

static void a_power_cut_ships_what_the_disk_holds_and_no_more_than_marked_regions(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rig_write(r, 0, seed, 1, 1);
        check_ok(source_flush(r->source, 0, &err), err);
        rig_write(r, 0, seed + 100, 1, 2);
        if (seed % 2)
            rig_ship_all(r);
        rig_power_cut(r, seed);
        rig_open(r);
        assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
        rig_ship_all(r);
        rig_replica_has(r, 0, seed, 1);
        rig_replica_is_local(r, 0, seed + 100);
    }
}

/* --- clean stops --- */

static void stop_clean(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(shipper_stop(r->shipper, true, 0, &err), err);
    rig_reboot(r);
    rig_advance_ms(r, 5);
}

static void after_a_clean_stop_nothing_is_dirty(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    stop_clean(r);
    rig_open(r);
    assert_int_equal(source_dirty_blocks(r->source), 0);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
}

static void what_was_written_behind_our_back_ships_by_a_resync(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    stop_clean(r);
    rig_write_raw(r, 0, 8, 2);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    rig_ship_all(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    rig_replica_has(r, 0, 8, 2);
    assert_true(rig_status(r).shipped_bytes < 2 * BLOCK_BYTES);
}

static void what_was_written_behind_a_mount_that_died_ships_by_a_resync(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_reboot(r);
    rig_advance_ms(r, 1000);
    rig_open(r);
    assert_int_not_equal(rig_status(r).state, REPLICATION_RESYNC);
    rig_reboot(r);
    rig_advance_ms(r, 1000);
    rig_write_raw(r, 0, 900, 2);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    assert_non_null(strstr(rig_status(r).reason, "after the mount that held it died"));
    rig_ship_all(r);
    rig_replica_has(r, 0, 900, 2);
}

/* A clean stop between: no mark is set now. */
static void ship_and_mount_again(struct rig *r)
{
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    stop_clean(r);
    rig_open(r);
}

static void a_disk_replaced_after_a_crash_ships_by_a_resync(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct world_file *copy AUTO_FILE = NULL;
    struct err err = ERR_NONE;
    uint8_t has = 0;
    ship_and_mount_again(r);
    rig_reboot(r);
    check_ok(file_open(r->world, "/backup", O_RDWR | O_CREAT, 0600, &copy, &err), err);
    assert_int_equal(r->world->ops->truncate(copy, rig_disk_bytes[0]), 0);
    file_close(&copy);
    assert_int_equal(r->world->ops->rename(r->world, "/backup", rig_disk_path(0)), 0);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    rig_ship_all(r);
    assert_int_not_equal(rig_replica(r, 0, 7, &has), RIG_REPLICA_DATA);
}

/* Copies every file of the state, over what is there as a restore does: by new files. */
static void copy_state(struct rig *r, const char *from, const char *to)
{
    static const char *const names[] = {"ship.json", "held.json", "a.marks",
                                        "b.marks",   "a.digests", "b.digests"};
    char source[64], target[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct err err = ERR_NONE;
        struct buf bytes AUTO_BUF = BUF_NONE;
        snprintf(source, sizeof source, "%s/%s", from, names[i]);
        snprintf(target, sizeof target, "%s/%s", to, names[i]);
        check_ok(file_load(r->world, source, 1u << 20, &bytes, &err), err);
        check_ok(file_replace(r->world, target, 0600, buf_span(&bytes), &err), err);
    }
}

/* The log has not moved on, so nobody is fenced; but the older marks know of no later write. */
static void a_state_put_back_from_a_copy_after_a_crash_ships_by_a_resync(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint8_t has = 0;
    ship_and_mount_again(r);
    check_ok(dir_make(r->world, "/copy", 0700, &err), err);
    copy_state(r, RIG_FOLDER, "/copy");
    rig_write(r, 0, 7, 1, 2);
    rig_reboot(r);
    copy_state(r, "/copy", RIG_FOLDER);
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_RESYNC);
    assert_non_null(strstr(rig_status(r).reason, "put back"));
    rig_ship_all(r);
    assert_int_equal(rig_replica(r, 0, 7, &has), RIG_REPLICA_DATA);
    assert_int_equal(has, 2);
}

/* The record goes only when the marks say what it said. */
static void a_resync_is_not_forgotten_by_a_power_cut_while_it_is_begun(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    stop_clean(r);
    rig_write_raw(r, 0, 900, 2);
    struct err err = ERR_NONE;
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, true); /* the power goes: no sync any more */
    check_fails(rig_try_open(r, &err), err, ERR_IO);
    rig_power_cut(r, 3);
    rig_open(r);
    rig_ship_all(r);
    rig_replica_has(r, 0, 900, 2);
}

/* Else a mount that found nothing to ship, and so put no entry, would not be asked at the next one
 * what was done to the disks since its clean stop. */
static void that_the_log_was_looked_at_is_recorded_at_once(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct ship_state s;
    struct err err = ERR_NONE;
    rig_open(r);
    step_to(r, SHIP_IDLE);
    check_ok(ship_state_load(r->world, RIG_FOLDER, r->generation, &s, &err), err);
    assert_true(s.begun);
    assert_int_equal(s.epoch, 0);
}

static void a_clean_stop_before_the_first_epoch_is_no_reason_to_resync_later(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    struct err err = ERR_NONE;
    f->trouble =
        (struct trouble){.op = MEMORY_GET, .part = "/", .left = FOR_EVER, .fault = MEMORY_FAIL};
    rig_open(r);
    step_times(r, 2);
    check_ok(shipper_stop(r->shipper, false, 0, &err), err);
    rig_reboot(r);
    f->trouble.left = 0;
    rig_open(r);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_reboot(r); /* both processes killed */
    rig_open(r);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
}

static void a_stop_with_the_store_down_says_so_and_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    struct err err = ERR_NONE;
    rig_write(r, 0, 7, 1, 1);
    fail_entries(f, MEMORY_FAIL, FOR_EVER);
    check_fails(shipper_stop(r->shipper, true, 0, &err), err, ERR_TRANSIENT);
    rig_reboot(r);
    f->trouble.left = 0;
    rig_open(r);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
}

/* --- pause and failed syncs --- */

static void a_pause_holds_over_a_restart_and_a_resume_goes_on(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    uint64_t epoch = r->shipper->state.epoch;
    pause_shipping(r, true);
    rig_write(r, 0, 7, 1, 1);
    step_times(r, 20);
    assert_int_equal(rig_status(r).state, REPLICATION_PAUSED);
    reopen(r);
    step_times(r, 20);
    assert_int_equal(rig_status(r).state, REPLICATION_PAUSED);
    assert_int_equal(r->shipper->state.epoch, epoch);
    pause_shipping(r, false);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
}

/* It has seen nothing of the log yet, and says so to the next worker. */
static void a_pause_before_the_store_was_ever_reached_fences_nobody(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    f->trouble =
        (struct trouble){.op = MEMORY_GET, .part = "/", .left = FOR_EVER, .fault = MEMORY_FAIL};
    rig_open(r);
    pause_shipping(r, true);
    step_times(r, 3);
    f->trouble.left = 0;
    reopen(r);
    assert_true(r->shipper->state.paused);
    pause_shipping(r, false);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
    check_chain(r);
}

static void a_shorter_cut_interval_holds_for_the_cut_that_is_due(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    shipper_set_cut_interval(r->shipper, CUT_INTERVAL_MAX_MS);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r); /* the next cut is an hour away */
    rig_write(r, 0, 8, 1, 1);
    uint64_t epoch = r->shipper->state.epoch;
    step_times(r, 1);
    shipper_set_cut_interval(r->shipper, 2000);
    rig_advance_ms(r, shipper_step(r->shipper) - 1);
    rig_write(r, 0, 9, 1, 1);
    assert_int_equal(r->shipper->state.epoch, epoch);
    assert_true(shipper_step(r->shipper) > 0); /* not due yet */
    rig_advance_ms(r, 1);
    step_times(r, 8);
    assert_int_equal(r->shipper->state.epoch, epoch + 1);
}

static void a_pause_is_kept_though_the_store_is_down(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    f->trouble =
        (struct trouble){.op = MEMORY_GET, .part = "/", .left = FOR_EVER, .fault = MEMORY_FAIL};
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_SETTLE);
    pause_shipping(r, true);
    step_times(r, 3);
    reopen(r);
    assert_true(r->shipper->state.paused);
}

/* The first copy of a large disk takes hours, and the pause is meant for now. */
static void a_pause_ends_a_pass_and_a_resume_goes_on_with_it(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    r->shipper->config.pass_above_bytes = 2u << 20;
    r->shipper->little_room = true; /* it goes in many epochs */
    rig_write(r, 0, 0, 1024, 1);
    uint64_t epoch = r->shipper->state.epoch;
    step_to(r, SHIP_PUT);
    step_to(r, SHIP_TAKE); /* behind its first epoch */
    assert_true(r->shipper->pass && r->shipper->state.epoch == ++epoch);
    pause_shipping(r, true);
    shipper_step(r->shipper);
    check_ok(shipper_wait_asked(r->shipper, 0, &err), err);
    step_times(r, 20);
    assert_int_equal(r->shipper->state.epoch, epoch);
    assert_int_equal(rig_status(r).state, REPLICATION_PAUSED);
    pause_shipping(r, false);
    rig_ship_all(r);
    rig_replica_is_local(r, 0, 1023);
    check_chain(r);
}

static void a_resync_takes_the_place_of_an_open_cut(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    rig_write_raw(r, 0, 900, 77); /* seen by nobody until it is compared */
    rig_write(r, 0, 7, 1, 1);
    step_to(r, SHIP_PUT);
    check_ok(shipper_resync(r->shipper, &err), err);
    shipper_step(r->shipper);
    check_ok(shipper_wait_asked(r->shipper, 0, &err), err);
    assert_false(r->shipper->state.initial_done);
    reopen(r);
    rig_ship_all(r);
    rig_replica_has(r, 0, 7, 1);
    rig_replica_has(r, 0, 900, 77);
    check_chain(r);
}

/* Who asked hears of it when it is durable, and what could not be recorded is tried again. */
static void what_was_asked_for_is_answered_when_it_is_recorded(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    pause_shipping(r, true);
    check_fails(shipper_wait_asked(r->shipper, 1, &err), err, ERR_TRANSIENT);
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    shipper_step(r->shipper);
    check_fails(shipper_wait_asked(r->shipper, 1, &err), err, ERR_TRANSIENT);
    shipper_step(r->shipper);
    check_ok(shipper_wait_asked(r->shipper, 1, &err), err);
    reopen(r);
    assert_true(r->shipper->state.paused);
}

/* The entry is settled and recorded, only its journal could not be removed durably. */
static void a_pause_takes_back_nothing_that_was_recorded(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    for (uint64_t call = 1; call < 12; call++) {
        uint64_t epoch = r->shipper->state.epoch;
        rig_write(r, 0, 7, 1, (uint8_t)(10 + call));
        step_to(r, SHIP_PUT);
        fake_world_fail(r->world, FAKE_SYNC_DIR, call, EIO, false);
        shipper_step(r->shipper);
        fake_world_fail(r->world, FAKE_SYNC_DIR, 0, 0, false);
        f->trouble =
            (struct trouble){.op = MEMORY_GET, .part = "/", .left = FOR_EVER, .fault = MEMORY_FAIL};
        pause_shipping(r, true);
        shipper_step(r->shipper);
        f->trouble.left = 0;
        rig_kill(r);
        rig_open(r);
        pause_shipping(r, false);
        rig_ship_all(r);
        assert_true(r->shipper->state.epoch > epoch);
        rig_replica_has(r, 0, 7, (uint8_t)(10 + call));
        check_chain(r);
    }
}

static void after_a_failed_sync_each_disk_ships_what_it_really_holds(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    for (size_t disk = 0; disk < RIG_DISKS; disk++) {
        rig_write(r, disk, 7, 1, 1);
        rig_ship_all(r);
        fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
        check_fails(source_flush(r->source, disk, &err), err, ERR_IO);
        uint64_t epoch = r->shipper->state.epoch;
        rig_ship_all(r);
        rig_advance_ms(r, 2000);
        rig_ship_all(r);
        rig_replica_is_local(r, disk, 7);
        assert_true(r->shipper->state.epoch > epoch); /* its blocks were compared anew */
    }
}

/* --- what status says --- */

static void rpo_is_the_age_of_the_oldest_write_that_the_target_lacks(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket;
    r->shipper->unapplied_count = 0; /* the target has everything so far */
    check_ok(shipper_request_point(r->shipper, POINT_CRASH, "", &ticket, &err), err);
    step_to(r, SHIP_DRAIN);
    step_to(r, SHIP_IDLE); /* a point without a write in it */
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_advance_ms(r, 60000);
    step_times(r, 1);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
    assert_in_range(rig_status(r).rpo_seconds, 60, 70);
}

static void rpo_stays_right_when_more_points_wait_than_are_kept_apart(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct shipper *s = r->shipper;
    s->unapplied_count = 0;
    for (uint64_t i = 0; i < SHIP_UNAPPLIED_MAX + 10; i++)
        ship_note_unapplied(s, i + 1, i + 1);
    assert_int_equal(s->unapplied_count, SHIP_UNAPPLIED_MAX);
    assert_int_equal(s->unapplied[SHIP_UNAPPLIED_MAX - 1].epoch, SHIP_UNAPPLIED_MAX + 10);
    assert_int_equal(s->unapplied[SHIP_UNAPPLIED_MAX - 1].first_write_ms, SHIP_UNAPPLIED_MAX);
}

static void what_ails_the_processor_is_in_the_status(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t number = 0;
    struct processor_config config = {
        .world = r->world, .vm = RIG_VM, .keys = r->keys, .caches = &r->store};
    struct processor_progress progress = {.generation = r->generation, .health = "fork at epoch 3"};
    assert_string_equal(rig_status(r).processor, "");
    check_ok(progress_put(&config, &progress, &number, &err), err);
    rig_write(r, 0, 7, 1, 1);
    rig_ship_all(r);
    rig_advance_ms(r, 10000);
    step_times(r, 1);
    assert_string_equal(rig_status(r).processor, "fork at epoch 3");
}

static enum memory_fault count_lists(void *context, const struct memory_call *call)
{
    *(unsigned *)context += call->op == MEMORY_LIST;
    return MEMORY_PASS;
}

/* How often the cache store is listed, which is dear, while nothing happens. */
static unsigned lists_in_seconds(struct rig *r, unsigned seconds)
{
    unsigned lists = 0;
    memory_store_hook(r->store, count_lists, NULL, &lists);
    for (unsigned i = 0; i < seconds; i++) {
        rig_advance_ms(r, 1000);
        shipper_step(r->shipper);
    }
    memory_store_hook(r->store, NULL, NULL, NULL);
    return lists;
}

static void news_is_asked_for_at_the_pace_of_cuts_while_something_waits_else_seldom(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    r->shipper->unapplied_count = 0;
    (void)lists_in_seconds(r, 61);
    assert_in_range(lists_in_seconds(r, 240), 2, 5);
    ship_note_unapplied(r->shipper, 1000, 1);
    assert_in_range(lists_in_seconds(r, 20), 8, 11);
    r->shipper->config.cut_interval_ms = CUT_INTERVAL_MS;
    (void)lists_in_seconds(r, 10);
    assert_in_range(lists_in_seconds(r, 50), 8, 11);
}

static void the_lag_in_the_cache_is_the_age_of_the_oldest_unshipped_write(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    pause_shipping(r, true);
    rig_write(r, 0, 7, 1, 1);
    rig_advance_ms(r, 30000);
    rig_write(r, 0, 8, 1, 1);
    rig_advance_ms(r, 12000);
    shipper_step(r->shipper);
    assert_int_equal(rig_status(r).cache_lag_seconds, 42);
    assert_int_equal(rig_status(r).dirty_bytes, 2 * BLOCK_BYTES);
    pause_shipping(r, false);
    rig_ship_all(r);
    assert_int_equal(rig_status(r).cache_lag_seconds, 0);
}

static void who_waited_for_a_point_finds_it_in_the_status(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    rig_write(r, 0, 7, 1, 1);
    check_ok(shipper_request_point(r->shipper, POINT_CRASH, "", &ticket, &err), err);
    while (r->shipper->answered_ticket < ticket)
        rig_advance_ms(r, ship_step(r->shipper)); /* publishes nothing behind it, as a thread may */
    check_ok(shipper_wait_point(r->shipper, ticket, 0, &point_ms, &epoch, &err), err);
    assert_int_equal(rig_status(r).epoch, epoch);
    assert_int_equal(rig_status(r).point_ms, point_ms);
    assert_true(rig_status(r).shipped_bytes > 0);
}

static void ages_grow_while_the_shipper_sleeps(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    r->shipper->unapplied_count = 0;
    step_times(r, 1);
    rig_write(r, 0, 7, 1, 1);
    rig_advance_ms(r, 17000);
    assert_int_equal(rig_status(r).cache_lag_seconds, 17);
    assert_int_equal(rig_status(r).rpo_seconds, 17);
}

static void a_label_that_no_entry_can_carry_is_refused_at_once(void **state)
{
    struct rig *r = ((struct fixture *)*state)->rig;
    struct err err = ERR_NONE;
    uint64_t ticket;
    const char *const bad[] = {"a\nb", "a\x1b[1m", "\xff\xfe", "\xc3", "\xc0\xaf", "\xed\xa0\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_fails(shipper_request_point(r->shipper, POINT_CRASH, bad[i], &ticket, &err), err,
                    ERR_INVALID);
    check_ok(
        shipper_request_point(r->shipper, POINT_CRASH, "na\xc3\xafve \xe6\x97\xa5", &ticket, &err),
        err);
}

/* A store on a thin line: each put takes its time, and the guest writes on meanwhile. */
struct thin_line {
    struct rig *rig;
    uint64_t put_ms, blocks_per_put;
    uint8_t fill;
    unsigned puts_hopeless, puts;
};

static enum memory_fault take_time(void *context, const struct memory_call *call)
{
    struct thin_line *line = context;
    if (call->op != MEMORY_PUT)
        return MEMORY_PASS;
    line->fill++;
    if (line->blocks_per_put > 0)
        rig_write(line->rig, 0, 0, line->blocks_per_put, line->fill);
    rig_advance_ms(line->rig, line->put_ms);
    line->puts++;
    line->puts_hopeless += rig_status(line->rig).state == REPLICATION_NOT_CONVERGING;
    return MEMORY_PASS;
}

static void too_much_churn_is_said_with_a_forecast_and_goes_away_with_it(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    struct thin_line line = {.rig = r, .put_ms = 40000, .blocks_per_put = 64};
    rig_ship_all(r);
    memory_store_hook(r->store, take_time, NULL, &line);
    rig_write(r, 0, 0, 64, 99);
    for (unsigned i = 0; i < 100 && rig_status(r).state != REPLICATION_NOT_CONVERGING; i++)
        rig_advance_ms(r, shipper_step(r->shipper));
    assert_int_equal(rig_status(r).state, REPLICATION_NOT_CONVERGING);
    assert_in_range(line.puts, 1, 2);
    assert_non_null(strstr(rig_status(r).reason, "if writing stopped"));
    assert_non_null(strstr(rig_status(r).reason, "never"));
    assert_int_equal(rig_status(r).forecast.catch_up_seconds, PACE_UNKNOWN);
    assert_in_range(rig_status(r).forecast.quiet_seconds, 1, 100);
    /* And stays, whatever moment is looked at. */
    line.puts = line.puts_hopeless = 0;
    for (unsigned i = 0; i < 400 && line.puts < 20; i++)
        rig_advance_ms(r, shipper_step(r->shipper));
    assert_int_equal(line.puts_hopeless, line.puts);

    line.blocks_per_put = 0;
    rig_ship_all(r);
    step_times(r, 3);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
    assert_string_equal(rig_status(r).reason, "");
    assert_int_equal(rig_status(r).forecast.catch_up_seconds, 0);
}

#define NOISE_BLOCKS 300u

/* More than rides in an end object, and no two blocks equal. */
static void noise(struct rig *r, unsigned seed)
{
    struct err err = ERR_NONE;
    static uint8_t data[NOISE_BLOCKS * BLOCK_BYTES];
    for (size_t i = 0; i < sizeof data; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (uint8_t)(seed >> 16);
    }
    check_ok(source_write(r->source, 0, 0, span_of(data, sizeof data), &err), err);
}

static void what_an_abandoned_cut_sent_up_is_not_taken_for_progress(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    r->shipper->config.pass_above_bytes = 2u << 20;
    uint64_t before = uploads_done(r->shipper->uploads).plain_bytes;
    for (unsigned i = 0; i < 5; i++) { /* more than rides in the end object: a part goes up */
        noise(r, 1 + i);
        fail_entries(f, MEMORY_FAIL, 1);
        f->trouble.part = "abcdef/00000000";
        step_times(r, 10);
    }
    rig_ship_all(r);
    assert_true(rig_status(r).abandoned_cuts > 0);
    assert_int_equal(rig_status(r).forecast.left_bytes, 0);
    uint64_t sent = uploads_done(r->shipper->uploads).plain_bytes - before;
    assert_true(r->shipper->given_up_bytes > 0);
    assert_in_range(sent - r->shipper->given_up_bytes, NOISE_BLOCKS * BLOCK_BYTES,
                    5 * NOISE_BLOCKS * BLOCK_BYTES);
}

/* The store has room for end objects alone: what many failed attempts leave must not add up. */
static void what_has_no_room_in_parts_ships_in_small_epochs_and_leaves_no_parts_behind(void **state)
{
    struct fixture *f = *state;
    struct rig *r = f->rig;
    size_t objects = memory_bucket_objects(r->cache);
    r->shipper->config.pass_above_bytes = 2u << 20;
    f->trouble = (struct trouble){
        .op = MEMORY_PUT, .part = "/parts/", .left = FOR_EVER, .fault = MEMORY_FILL};
    noise(r, 7);
    uint64_t epoch = r->shipper->state.epoch;
    rig_ship_all(r);
    uint64_t made = r->shipper->state.epoch - epoch;
    assert_in_range(made, 2, 5);
    assert_int_equal(memory_bucket_objects(r->cache), objects + made);
    assert_int_equal(rig_status(r).state, REPLICATION_PROTECTED);
}

#define T(name)        cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define T_CLOSED(name) cmocka_unit_test_setup_teardown(name, set_up_closed, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_CLOSED(the_first_epoch_is_1_and_chains_to_entry_0),
        T(a_quiet_source_puts_nothing),
        T(a_block_written_back_to_what_it_was_ships_nothing),
        T(a_discard_ships_as_a_hole),
        T(points_rise_though_the_clock_goes_back),
        T(five_quiet_minutes_make_a_heartbeat_and_no_point),
        T(a_requested_point_is_made_with_nothing_dirty),
        T(a_point_whose_cut_comes_too_late_is_of_kind_crash),
        T(who_waits_for_a_cut_hears_of_it_before_the_point_is_durable),
        T(a_point_whose_cut_was_abandoned_fails_by_name),
        T(a_cut_lost_for_want_of_undo_room_is_followed_by_a_pass_and_said),
        T(a_state_of_stalled_stays_until_a_cut_succeeds_and_the_next_one_is_due_at_once),
        T(a_large_dirty_set_ships_as_passes_and_then_a_cut),
        T(a_pass_that_found_nothing_to_ship_leaves_no_lag_and_lets_the_mount_end),
        T(a_cut_after_passes_that_was_settled_late_leaves_no_lag),
        T(a_lost_reply_on_the_end_object_is_settled_as_committed),
        T(an_end_object_in_doubt_is_found_again_and_not_put_twice),
        T(an_end_object_that_arrives_late_leaves_no_block_for_known),
        T(a_power_cut_while_an_epoch_is_settled_leaves_no_digest_behind),
        T(a_cut_is_not_read_while_a_write_of_it_is_under_way),
        T(a_power_cut_long_after_shipping_leaves_no_difference_unmarked),
        T(one_bit_flipped_on_the_way_while_settling_fences_nobody),
        T(a_store_that_is_down_stalls_and_then_goes_on),
        T(puts_that_are_refused_for_long_do_not_end_replication),
        T(puts_that_are_in_doubt_for_long_do_not_end_replication),
        T(after_an_adoption_every_block_is_compared),
        T(a_foreign_entry_in_the_slot_fences_for_good),
        T(a_fence_says_where_the_vm_has_gone),
        T(an_idle_source_meets_a_fence_within_two_heartbeats),
        T(a_paused_source_with_writes_meets_a_fence_within_two_heartbeats),
        T(our_newest_entry_gone_fences_for_good),
        T(our_newest_entry_gone_is_seen_when_it_is_opened),
        T(a_target_beyond_our_entries_fences_for_good),
        T(an_end_object_that_arrives_late_and_is_applied_fences_nobody),
        T(a_fenced_source_answers_requests_by_name_and_keeps_its_marks),
        T(a_source_that_lost_its_state_is_fenced),
        T(a_source_that_lost_its_state_is_fenced_though_entry_0_is_gone),
        T(killed_before_the_put_it_ships_everything_afterwards),
        T(killed_after_the_put_it_takes_the_entry_for_its_own),
        T(killed_in_every_phase_the_next_point_is_whole),
        T(a_power_cut_ships_what_the_disk_holds_and_no_more_than_marked_regions),
        T(after_a_clean_stop_nothing_is_dirty),
        T(what_was_written_behind_our_back_ships_by_a_resync),
        T(what_was_written_behind_a_mount_that_died_ships_by_a_resync),
        T(a_disk_replaced_after_a_crash_ships_by_a_resync),
        T(a_state_put_back_from_a_copy_after_a_crash_ships_by_a_resync),
        T(a_resync_is_not_forgotten_by_a_power_cut_while_it_is_begun),
        T_CLOSED(that_the_log_was_looked_at_is_recorded_at_once),
        T_CLOSED(a_clean_stop_before_the_first_epoch_is_no_reason_to_resync_later),
        T(a_stop_with_the_store_down_says_so_and_loses_nothing),
        T(a_pause_holds_over_a_restart_and_a_resume_goes_on),
        T(a_pause_is_kept_though_the_store_is_down),
        T(a_pause_ends_a_pass_and_a_resume_goes_on_with_it),
        T(a_resync_takes_the_place_of_an_open_cut),
        T(what_was_asked_for_is_answered_when_it_is_recorded),
        T(a_pause_takes_back_nothing_that_was_recorded),
        T_CLOSED(a_pause_before_the_store_was_ever_reached_fences_nobody),
        T(a_shorter_cut_interval_holds_for_the_cut_that_is_due),
        T(after_a_failed_sync_each_disk_ships_what_it_really_holds),
        T(rpo_is_the_age_of_the_oldest_write_that_the_target_lacks),
        T(rpo_stays_right_when_more_points_wait_than_are_kept_apart),
        T(what_ails_the_processor_is_in_the_status),
        T(news_is_asked_for_at_the_pace_of_cuts_while_something_waits_else_seldom),
        T(the_lag_in_the_cache_is_the_age_of_the_oldest_unshipped_write),
        T(who_waited_for_a_point_finds_it_in_the_status),
        T(ages_grow_while_the_shipper_sleeps),
        T(too_much_churn_is_said_with_a_forecast_and_goes_away_with_it),
        T(what_has_no_room_in_parts_ships_in_small_epochs_and_leaves_no_parts_behind),
        T(what_an_abandoned_cut_sent_up_is_not_taken_for_progress),
        T(a_label_that_no_entry_can_carry_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
