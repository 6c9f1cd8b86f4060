/* SPDX-License-Identifier: MIT
 * Records of retention that a history takes in, and those that it refuses. */
#include "backend/history/claim.h"
#include "backend/history/history_internal.h"
#include "tests/support/check.h"
#include "tests/support/made_vm.h"

struct fixture {
    struct made_vm vm;
    struct history *history;
};

/* Epochs 1 to 8: points, but 3, a pass, and 6, a heartbeat. */
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    made_vm_init(&f->vm, 1, 64);
    for (uint32_t i = 1; i <= 8; i++) {
        enum epoch_kind kind = i == 3 ? EPOCH_PASS : i == 6 ? EPOCH_HEARTBEAT : EPOCH_CUT;
        if (kind != EPOCH_HEARTBEAT)
            epoch_maker_fill(&f->vm.maker, 0, i, i);
        epoch_maker_ship(&f->vm.maker, kind, kind == EPOCH_CUT ? POINT_CRASH : 0, NULL);
    }
    made_vm_apply(&f->vm);
    f->history = made_vm_history(&f->vm);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    history_close(&f->history);
    made_vm_release(&f->vm);
    free(f);
    return 0;
}

static enum numlog_result append(struct fixture *f, struct record *r, struct err *err)
{
    *err = ERR_NONE;
    r->generation = f->vm.maker.generation;
    return history_append(f->history, history_head(f->history).next_record, r, err);
}

static void must_append(struct fixture *f, struct record *r)
{
    struct err err;
    if (append(f, r, &err) != NUMLOG_DONE)
        fail_msg("%s", err.text);
}

/* It is in the log, and whoever reads it refuses the history by name. */
static void must_be_refused(struct fixture *f, struct record *r, const char *why)
{
    struct err err;
    struct history *h = NULL;
    assert_int_equal(append(f, r, &err), NUMLOG_DOUBT);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, why);
    check_fails(history_open(f->vm.world, f->vm.target, MADE_VM, f->vm.maker.keys, &h, &err), err,
                ERR_CORRUPT);
    check_says(err, why);
}

static struct record merge_of(uint64_t first, uint64_t last)
{
    return (struct record){.kind = RECORD_MERGE, .merge_first = first, .merge_last = last};
}

static struct history_point at(struct fixture *f, uint64_t epoch)
{
    struct err err = ERR_NONE;
    struct history_point p;
    check_ok(history_point_at(f->history, f->vm.maker.generation, epoch, &p, &err), err);
    return p;
}

static bool begin_generation(struct fixture *f, uint64_t parent_epoch, struct err *err)
{
    struct claim_result result;
    struct claim_config config = {.world = f->vm.world,
                                  .target = f->vm.target,
                                  .cache = f->vm.cache,
                                  .vm = MADE_VM,
                                  .keys = f->vm.maker.keys};
    struct claim claim = {.generation = {.number = 2, .id = 0x22},
                          .ends = f->vm.maker.generation,
                          .parent = f->vm.maker.generation,
                          .parent_epoch = parent_epoch};
    return history_begin_generation(&config, &claim, &result, err);
}

static void begin_generation_at(struct fixture *f, uint64_t epoch)
{
    struct err err = ERR_NONE;
    check_ok(begin_generation(f, epoch, &err), err);
    check_ok(history_refresh(f->history, &err), err);
}

static void a_merge_leaves_its_last_point_with_what_all_of_them_shipped(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history_point p;
    uint64_t bytes = at(f, 2).data_bytes + at(f, 4).data_bytes + at(f, 5).data_bytes;
    struct record r = merge_of(2, 5);
    struct run_place *runs AUTO_FREE = NULL;
    size_t count;
    must_append(f, &r);
    assert_int_equal(history_points(f->history), 4);
    assert_int_equal(at(f, 5).data_bytes, bytes);
    check_fails(history_point_at(f->history, f->vm.maker.generation, 4, &p, &err), err,
                ERR_NOT_FOUND);
    assert_true(history_gone(f->history, history_index(f->history, f->vm.maker.generation, 3)));
    assert_int_equal(history_before(f->history, at(f, 5).index), at(f, 1).index);
    check_ok(history_runs(f->history, at(f, 5).index, &runs, &count, &err), err);
    assert_int_equal(count, 1); /* that of epoch 1: the merge names none */
}

static void what_is_gone_makes_room(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct record r = merge_of(2, 5);
    struct run_place *runs;
    struct epoch_disk disks[VM_DISKS_MAX];
    bool kept;
    size_t count, gone = history_index(f->history, f->vm.maker.generation, 4);
    struct sha256 entry = history_epoch(f->history, gone, NULL).entry_digest;
    assert_int_equal(history_disks(f->history, gone, disks), 1);
    f->history->held_max = 9;
    assert_int_equal(history_room(f->history, &kept), 1);
    assert_true(kept);
    must_append(f, &r);
    assert_int_equal(history_room(f->history, &kept), 1 + 3);
    f->history->epochs_max = 10;
    assert_int_equal(history_room(f->history, &kept), 2);
    assert_false(kept);

    /* It was applied, and of which entry: no more is known. */
    assert_int_equal(history_index(f->history, f->vm.maker.generation, 4), gone);
    assert_true(history_entry_is(f->history, gone, &entry));
    entry.bytes[0] ^= 1;
    assert_false(history_entry_is(f->history, gone, &entry));
    assert_int_equal(history_epoch(f->history, gone, NULL).epoch, 0);
    assert_int_equal(history_disks(f->history, gone, disks), 0);
    check_fails(history_runs(f->history, gone, &runs, &count, &err), err, ERR_NOT_FOUND);
}

static void a_walk_over_points_goes_on_where_it_was(void **state)
{
    struct fixture *f = *state;
    struct record r = merge_of(1, 4);
    size_t done = at(f, 5).index + 1;
    assert_int_equal(history_points_below(f->history, done), 4);
    must_append(f, &r);
    assert_int_equal(history_points_below(f->history, done), 2);
    assert_int_equal(history_point(f->history, 2).epoch, 7);
}

static void merges_join(void **state)
{
    struct fixture *f = *state;
    struct record first = merge_of(2, 4), second = merge_of(1, 5);
    must_append(f, &first);
    must_append(f, &second);
    assert_int_equal(history_points(f->history), 3);
    assert_true(history_before(f->history, at(f, 5).index) == HISTORY_NONE);
    assert_int_equal(history_index(f->history, f->vm.maker.generation, 2), 1); /* found for ever */
}

static void a_merge_from_the_middle_of_one_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record first = merge_of(2, 4), second = merge_of(3, 5);
    must_append(f, &first);
    must_be_refused(f, &second, "middle");
}

static void a_merge_into_what_is_no_point_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record r = merge_of(2, 6);
    must_be_refused(f, &r, "no");
}

static void a_merge_into_what_was_never_applied_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record r = merge_of(2, 9);
    must_be_refused(f, &r, "no");
}

static void a_merge_over_a_fork_is_refused(void **state)
{
    struct fixture *f = *state;
    struct record r = merge_of(3, 5);
    begin_generation_at(f, 4);
    must_be_refused(f, &r, "goes on from");
}

static void a_merge_up_to_a_fork_is_taken(void **state)
{
    struct fixture *f = *state;
    struct record r = merge_of(1, 4);
    begin_generation_at(f, 4);
    must_append(f, &r);
    assert_int_equal(history_points(f->history), 1);
    assert_int_equal(history_tip(f->history), at(f, 4).index);
}

static void a_merge_on_a_branch_leaves_the_line_alone(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history_point *branches AUTO_FREE = NULL;
    size_t count;
    struct record r = merge_of(5, 7);
    begin_generation_at(f, 4);
    assert_int_equal(history_points(f->history), 3);
    must_append(f, &r);
    assert_int_equal(history_points(f->history), 3);
    check_ok(history_branches(f->history, &branches, &count, &err), err);
    assert_int_equal(count, 2); /* 7 and 8 */
    assert_int_equal(branches[0].epoch, 7);
}

static void no_generation_begins_where_an_epoch_is_gone(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct record r = merge_of(2, 5);
    must_append(f, &r);
    check_fails(begin_generation(f, 4, &err), err, ERR_NOT_FOUND);
    check_says(err, "gone");
}

static void points_that_leave_are_what_the_newest_record_says(void **state)
{
    struct fixture *f = *state;
    uint64_t first[] = {2, 4, 5}, second[] = {4};
    struct record r = {.kind = RECORD_THIN, .thin = first, .thin_count = 3};
    struct record s = {.kind = RECORD_THIN, .thin = second, .thin_count = 1};
    must_append(f, &r);
    assert_int_equal(history_points(f->history), 3);
    assert_true(at(f, 2).leaving);
    must_append(f, &s);
    assert_int_equal(history_points(f->history), 5);
    assert_false(at(f, 2).leaving);
    assert_true(at(f, 4).leaving);
}

static void what_is_no_point_cannot_leave(void **state)
{
    struct fixture *f = *state;
    uint64_t pass[] = {3};
    struct record r = {.kind = RECORD_THIN, .thin = pass, .thin_count = 1};
    must_be_refused(f, &r, "go");
}

static void a_slot_that_is_taken_is_not_written_again(void **state)
{
    struct fixture *f = *state;
    struct history *other = made_vm_history(&f->vm);
    struct err err = ERR_NONE;
    struct record r = merge_of(2, 5), s = merge_of(2, 4);
    uint64_t slot = history_head(other).next_record;
    must_append(f, &r);
    s.generation = r.generation;
    assert_int_equal(history_append(other, slot, &s, &err), NUMLOG_TAKEN);
    check_ok(history_refresh(other, &err), err);
    assert_int_equal(history_append(other, slot, &s, &err), NUMLOG_TAKEN);
    assert_int_equal(history_points(other), 4);
    history_close(&other);
}

static void a_point_that_is_gone_is_not_verified(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history_point gone = at(f, 4);
    struct record r = merge_of(2, 5);
    must_append(f, &r);
    check_fails(history_append_verdict(f->history, &gone, POINT_VERIFIED, &err), err,
                ERR_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_merge_leaves_its_last_point_with_what_all_of_them_shipped),
        TEST(what_is_gone_makes_room),
        TEST(a_walk_over_points_goes_on_where_it_was),
        TEST(merges_join),
        TEST(a_merge_from_the_middle_of_one_is_refused),
        TEST(a_merge_into_what_is_no_point_is_refused),
        TEST(a_merge_into_what_was_never_applied_is_refused),
        TEST(a_merge_over_a_fork_is_refused),
        TEST(a_merge_up_to_a_fork_is_taken),
        TEST(a_merge_on_a_branch_leaves_the_line_alone),
        TEST(no_generation_begins_where_an_epoch_is_gone),
        TEST(points_that_leave_are_what_the_newest_record_says),
        TEST(what_is_no_point_cannot_leave),
        TEST(a_slot_that_is_taken_is_not_written_again),
        TEST(a_point_that_is_gone_is_not_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
