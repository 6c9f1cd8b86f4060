/* SPDX-License-Identifier: MIT
 * Levels: the many runs of a point become runs of disjoint blocks, and the point reads as before.
 */
#include "backend/history/pin.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_thinner.h"
#include "tests/support/specimen.h"

#include <stdio.h>

#define GRACE_MS 5000u
#define BLOCKS   96u
#define POINTS   40u

struct fixture {
    struct made_vm vm;
    struct retention policy;
    uint64_t random;
    uint32_t value;
    unsigned puts; /* of segments, to a store that is full */
};

/* Some blocks, here and there, and a hole now and then. */
static void point(struct fixture *f)
{
    for (unsigned i = 0; i < 6; i++) {
        uint64_t first = specimen_below(&f->random, BLOCKS);
        if (specimen_below(&f->random, 8) == 0)
            epoch_maker_hole(&f->vm.maker, 0, first, 1);
        else
            epoch_maker_fill(&f->vm.maker, 0, first, ++f->value);
    }
    epoch_maker_cut(&f->vm.maker);
    made_vm_apply(&f->vm);
    fake_world_advance(f->vm.world, 1000000000ull);
}

static void points(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        point(f);
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){.policy = made_policy("3s:all", 0, GRACE_MS), .random = 11};
    made_vm_init(&f->vm, 1, BLOCKS);
}

static void end(struct fixture *f)
{
    made_vm_release(&f->vm);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    begin(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    end(f);
    free(f);
    return 0;
}

static void open_thinner(struct fixture *f, struct made_thinner *t)
{
    made_thinner_open(&f->vm, &f->policy, t);
    made_thinner_small(t);
    thinner_hurry(t->thinner);
}

/* --- what the newest point shows --- */

/* The frame is where the run says. */
static void check_frame(struct fixture *f, const struct stored_run *stored,
                        const struct run_entry *e)
{
    char segment[RUN_SEGMENT_NAME_MAX], key[KEY_MAX];
    uint8_t sealed[FRAME_SEALED_MAX];
    struct err err = ERR_NONE;
    uint16_t store;
    const char *name = run_segment_name(stored->run, e->segment);
    snprintf(key, sizeof key, "%s", stored->key);
    if (strcmp(name, RUN_SEGMENT_SELF) != 0) {
        assert_true(segment_name_parse(name, &store, segment));
        snprintf(key, sizeof key, "%s/%s", MADE_VM, segment);
    }
    check_ok(store_get(f->vm.target, key, e->offset, mspan_of(sealed, e->stored_bytes), &err), err);
    struct block_digest is = keys_frame_digest(f->vm.maker.keys, span_of(sealed, e->stored_bytes));
    assert_memory_equal(&is, &e->sealed_digest, sizeof is);
}

/* What the newest run that says anything says of the block. */
static void block_say(struct fixture *f, struct stored_run *runs, size_t count, uint64_t block,
                      struct buf *said)
{
    for (size_t i = 0; i < count; i++) {
        struct err err = ERR_NONE;
        struct run_entry e;
        bool found = false;
        check_ok(run_find(runs[i].run, 0, block, &e, &found, &err), err);
        if (!found || !run_entry_clip(&e, block, 1))
            continue;
        buf_put_u8(said, (uint8_t)e.kind);
        if (e.kind == RUN_DATA) {
            buf_put(said, e.digests, sizeof e.digests[0]);
            check_frame(f, &runs[i], &e);
        }
        return;
    }
    buf_put_u8(said, 0);
}

/* How many of the runs have the same epochs as the one in front; that those are disjoint. */
static size_t check_levels(struct stored_run *runs, const struct run_place *places, size_t count)
{
    size_t beside = 0;
    for (size_t i = 1; i < count; i++) {
        struct err err = ERR_NONE;
        struct run_entry before, e = {.count = 0};
        struct run_cursor one = {.run = runs[i - 1].run}, other = {.run = runs[i].run};
        if (places[i].run.epoch_first != places[i - 1].run.epoch_first)
            continue;
        assert_int_equal(places[i].run.epoch_last, places[i - 1].run.epoch_last);
        for (bool found = true; found;) {
            before = e;
            check_ok(run_next(&one, &e, &found, &err), err);
        }
        bool found;
        check_ok(run_next(&other, &e, &found, &err), err);
        assert_true(found && before.first + before.count <= e.first);
        beside++;
    }
    return beside;
}

struct shown {
    struct sha256 digest;
    size_t runs, beside;
};

static struct shown shows(struct fixture *f)
{
    struct history *h = made_vm_history(&f->vm);
    struct run_place *places AUTO_FREE = NULL;
    struct buf said AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct shown shown = {.runs = 0};
    check_ok(history_runs(h, history_tip(h), &places, &shown.runs, &err), err);
    struct stored_run *runs AUTO_FREE = calloc(shown.runs, sizeof *runs);
    assert_non_null(runs);
    for (size_t i = 0; i < shown.runs; i++) {
        assert_false(history_dropped(h, &places[i].run.object));
        check_ok(stored_run_open(h, &places[i], f->vm.target, f->vm.maker.keys, &runs[i], &err),
                 err);
    }
    for (uint64_t b = 0; b < BLOCKS; b++)
        block_say(f, runs, shown.runs, b, &said);
    shown.digest = sha256_of(buf_span(&said));
    shown.beside = check_levels(runs, places, shown.runs);
    for (size_t i = 0; i < shown.runs; i++)
        stored_run_close(&runs[i]);
    history_close(&h);
    return shown;
}

static void assert_shows(struct fixture *f, const struct shown *as)
{
    struct shown now = shows(f);
    assert_memory_equal(&now.digest, &as->digest, sizeof now.digest);
}

/* Nothing that no run names is left. */
static void assert_clean(struct fixture *f)
{
    struct made_thinner t;
    struct err err = ERR_NONE;
    made_thinner_open(&f->vm, &f->policy, &t);
    thinner_only_look(t.thinner);
    thinner_hurry(t.thinner);
    for (enum thinner_result result = THINNER_WORKED; result != THINNER_IDLE;) {
        result = thinner_step(t.thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("%s", err.text);
    }
    assert_int_equal(thinner_report(t.thinner).dropped, 0);
    made_thinner_close(&t);
}

static void settle(struct fixture *f)
{
    struct made_thinner t;
    open_thinner(f, &t);
    made_thinner_settle(&t);
    made_thinner_close(&t);
}

/* Steps until a level is being made, and so many of its runs are put. */
static void step_until_put(struct made_thinner *t, size_t runs)
{
    struct err err = ERR_NONE;
    for (int i = 0; i < 5000; i++) {
        enum thinner_result result = thinner_step(t->thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("%s", err.text);
        if (t->thinner->level.merging != NULL && t->thinner->level.out_count >= runs)
            return;
        if (result == THINNER_WAITS || result == THINNER_IDLE)
            fake_world_advance(t->vm->world, 1000000000ull);
    }
    fail_msg("no point gets a level");
}

/* To the end of the level that is being made. */
static void step_until_made(struct made_thinner *t)
{
    struct err err = ERR_NONE;
    while (t->thinner->level.merging != NULL)
        if (thinner_step(t->thinner, &err) == THINNER_FAILED)
            fail_msg("%s", err.text);
}

/* Until it has merged more than so many times, the level being made all the while. */
static void step_until_merged(struct made_thinner *t, uint64_t merges)
{
    struct err err = ERR_NONE;
    while (thinner_report(t->thinner).merges == merges) {
        assert_non_null(t->thinner->level.merging);
        if (thinner_step(t->thinner, &err) == THINNER_FAILED)
            fail_msg("%s", err.text);
        fake_world_advance(t->vm->world, GRACE_MS * 1000000ull);
    }
    assert_non_null(t->thinner->level.merging);
}

static void finish(struct fixture *f, struct made_thinner *t, const struct shown *before)
{
    made_thinner_settle(t);
    made_thinner_close(t);
    assert_shows(f, before);
    assert_clean(f);
}

/* --- the tests --- */

static void many_runs_become_a_level_and_the_point_reads_as_before(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t;
    points(f, POINTS);
    struct shown before = shows(f);
    open_thinner(f, &t);
    made_thinner_settle(&t);
    assert_true(thinner_report(t.thinner).leveled > 2);
    made_thinner_close(&t);
    struct shown after = shows(f);
    assert_memory_equal(&after.digest, &before.digest, sizeof before.digest);
    assert_true(after.beside > 1);
    assert_clean(f);
}

static bool bytes_add(void *context, const char *key, uint64_t bytes)
{
    uint64_t *sum = context;
    (void)key;
    *sum += bytes;
    return true;
}

static uint64_t segment_bytes(struct fixture *f)
{
    struct err err = ERR_NONE;
    uint64_t sum = 0;
    check_ok(store_list(f->vm.target, MADE_VM "/segments/", NULL, bytes_add, &sum, &err), err);
    return sum;
}

/* However long it goes on. */
static void runs_stay_few_and_what_is_stored_small(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes = 0;
    for (unsigned round = 0; round < 20; round++) {
        points(f, POINTS / 4);
        struct shown before = shows(f);
        settle(f);
        assert_shows(f, &before);
        struct shown now = shows(f);
        if (round == 9)
            bytes = segment_bytes(f);
        if (now.runs > 50)
            fail_msg("%zu runs", now.runs);
    }
    assert_true(segment_bytes(f) < bytes + bytes / 2);
}

static void killed_at_any_store_call_it_loses_nothing(void **state)
{
    (void)state;
    bool reached = true; /* that call */
    for (uint64_t at = 1; reached; at++)
        for (unsigned lose = 0; lose < 2; lose++) {
            struct fixture f;
            struct made_thinner t;
            struct err err = ERR_NONE;
            begin(&f);
            points(&f, POINTS);
            struct shown before = shows(&f);
            open_thinner(&f, &t);
            step_until_put(&t, 0);
            struct memory_death death = {.at = at, .lose = lose};
            memory_store_hook(t.targets[0], memory_store_die, NULL, &death);
            for (unsigned i = 0; !death.dead && i < 60; i++)
                (void)!thinner_step(t.thinner, &err);
            reached = death.dead;
            assert_true(reached || thinner_report(t.thinner).leveled > 0); /* to its end */
            memory_store_hook(t.targets[0], NULL, NULL, NULL);
            made_thinner_close(&t);
            assert_shows(&f, &before);
            settle(&f);
            assert_shows(&f, &before);
            assert_clean(&f);
            end(&f);
        }
}

/* Another thinner finds runs that nothing names yet, and drops them. */
static void a_run_that_was_dropped_meanwhile_is_not_named(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t, other;
    points(f, POINTS);
    struct shown before = shows(f);
    open_thinner(f, &t);
    step_until_put(&t, 1);
    made_thinner_open(&f->vm, &f->policy, &other); /* not small: it makes no level */
    thinner_hurry(other.thinner);
    made_thinner_settle(&other);
    assert_true(thinner_report(other.thinner).dropped > 0);
    made_thinner_close(&other);
    step_until_made(&t);
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    assert_shows(f, &before);
    finish(f, &t, &before);
}

/* Another one has made a level of them, and of what came since. */
static void runs_that_others_rewrote_meanwhile_are_left_alone(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t, other;
    struct err err = ERR_NONE;
    points(f, POINTS);
    open_thinner(f, &t);
    step_until_put(&t, 2);
    points(f, 15);
    struct shown before = shows(f);
    made_thinner_open(&f->vm, &f->policy, &other);
    made_thinner_small(&other);
    while (thinner_report(other.thinner).leveled == 0 ||
           thinner_report(other.thinner).merges == 0) {
        if (thinner_step(other.thinner, &err) == THINNER_FAILED)
            fail_msg("%s", err.text);
        fake_world_advance(f->vm.world, 1000000000ull);
    }
    assert_int_equal(thinner_report(other.thinner).dropped, 0);
    made_thinner_close(&other);
    assert_non_null(t.thinner->level.merging);
    step_until_made(&t);
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    assert_shows(f, &before);
    finish(f, &t, &before);
}

/* The point leaves and becomes part of the next, with what others put in front. */
static void points_go_on_leaving_while_a_level_is_made(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t;
    points(f, POINTS);
    open_thinner(f, &t);
    step_until_put(&t, 1);
    uint64_t of = t.thinner->level.epoch, merges = thinner_report(t.thinner).merges;
    points(f, 5);
    /* All that is newer may be merged now, but not with what is becoming a level. */
    t.thinner->limits.merge_small = t.thinner->limits.merge_bytes = MERGE_BYTES_MAX;
    thinner_hurry(t.thinner);
    step_until_merged(&t, merges);
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    step_until_made(&t);
    assert_true(thinner_report(t.thinner).leveled > 0);
    struct shown before = shows(f);
    struct history *h = made_vm_history(&f->vm);
    assert_true(history_gone(h, history_index(h, f->vm.maker.generation, of)));
    history_close(&h);
    finish(f, &t, &before);
}

static void what_is_damaged_stays_and_thinning_goes_on(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t;
    points(f, POINTS);
    open_thinner(f, &t);
    step_until_put(&t, 0);
    struct thinner_level *level = &t.thinner->level;
    char hex[2 * SHA256_BYTES + 1], key[KEY_MAX];
    hex_of(level->runs[level->count - 1].run.object.bytes, SHA256_BYTES, hex);
    key_segment(key, MADE_VM, hex);
    uint64_t offset = level->runs[level->count - 1].run.offset;
    made_thinner_restart(&t, &f->policy);
    assert_true(memory_bucket_damage(f->vm.target_bucket, key, offset + 200, 1));
    points(f, 10);
    thinner_hurry(t.thinner);
    for (unsigned i = 0; i < 200; i++) {
        struct err err = ERR_NONE;
        if (thinner_step(t.thinner, &err) == THINNER_FAILED) /* nothing is removed */
            check_says(err, "looking for what vm1 does not need");
        fake_world_advance(f->vm.world, 1000000000ull);
    }
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    assert_true(thinner_report(t.thinner).points > 0);
    made_thinner_close(&t);
}

/* Its runs come behind those of the level. */
static void an_older_point_becomes_part_of_one_whose_level_is_made(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t;
    struct err err = ERR_NONE;
    struct pin pin = {.kind = PIN_HOLD,
                      .generation = f->vm.maker.generation,
                      .epoch = 1,
                      .point_ms = 1,
                      .name = "first"};
    memcpy(pin.vm, f->vm.maker.vault.vm, VM_ID_BYTES);
    point(f);
    check_ok(pin_put(f->vm.world, f->vm.target, MADE_VM, f->vm.maker.keys, &pin, &err), err);
    points(f, POINTS);
    struct shown before = shows(f);
    open_thinner(f, &t);
    step_until_put(&t, 1);
    uint64_t merges = thinner_report(t.thinner).merges;
    check_ok(pin_remove(f->vm.target, MADE_VM, pin.name, &err), err);
    thinner_hurry(t.thinner);
    step_until_merged(&t, merges);
    step_until_made(&t);
    assert_true(thinner_report(t.thinner).leveled > 0);
    assert_shows(f, &before);
    finish(f, &t, &before);
}

static enum memory_fault no_room(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (call->op != MEMORY_PUT || strstr(call->key, "/segments/") == NULL || f->puts++ < 3)
        return MEMORY_PASS;
    return MEMORY_FILL;
}

/* What it has put so far goes; it is not tried again at once. */
static void a_store_that_is_full_has_the_room_back(void **state)
{
    struct fixture *f = *state;
    struct made_thinner t;
    struct err err = ERR_NONE;
    unsigned refused = 0;
    points(f, POINTS);
    struct shown before = shows(f);
    open_thinner(f, &t);
    step_until_put(&t, 0);
    memory_store_hook(t.targets[0], no_room, NULL, f);
    for (unsigned i = 0; i < 200; i++) {
        if (thinner_step(t.thinner, &err) == THINNER_FAILED) {
            if (err.kind != ERR_FULL)
                fail_msg("%s", err.text);
            refused++;
        }
        fake_world_advance(f->vm.world, 1000000000ull);
        thinner_hurry(t.thinner);
    }
    assert_int_equal(refused, 1);
    assert_true(thinner_report(t.thinner).removed >= 3);
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    memory_store_hook(t.targets[0], NULL, NULL, NULL);
    fake_world_advance(f->vm.world, THINNER_COMPACT_MS * 1000000ull);
    made_thinner_settle(&t);
    assert_true(thinner_report(t.thinner).leveled > 0);
    made_thinner_close(&t);
    assert_shows(f, &before);
    assert_clean(f);
}

#define WIDE 16384u /* blocks: its runs have several pages, read one by one */

static void many_blocks(struct fixture *f)
{
    for (uint32_t block = 0; block < WIDE; block += 2 + (uint32_t)specimen_below(&f->random, 4))
        epoch_maker_fill(&f->vm.maker, 0, block, ++f->value);
    epoch_maker_cut(&f->vm.maker);
    made_vm_apply(&f->vm);
}

/* Its root is whole, so that it opens; a page is not. What was put before that is not put again and
 * again. */
static void what_turns_out_to_be_damaged_is_tried_once(void **state)
{
    (void)state;
    struct fixture f = {.policy = made_policy("2s:all", 0, GRACE_MS), .random = 12};
    struct made_thinner t;
    char hex[2 * SHA256_BYTES + 1], key[KEY_MAX];
    made_vm_init(&f.vm, 1, WIDE);
    for (unsigned i = 0; i < 12; i++)
        many_blocks(&f);
    made_thinner_open(&f.vm, &f.policy, &t);
    made_thinner_small(&t);
    t.thinner->limits.level_run_bytes = 8000;
    thinner_hurry(t.thinner);
    step_until_put(&t, 0);
    const struct run_place *oldest = &t.thinner->level.runs[t.thinner->level.count - 1];
    hex_of(oldest->run.object.bytes, SHA256_BYTES, hex);
    key_segment(key, MADE_VM, hex);
    uint64_t last = oldest->run.offset + oldest->run.bytes - 1;
    assert_true(memory_bucket_damage(f.vm.target_bucket, key, last, 1));
    step_until_made(&t);
    made_thinner_settle(&t);
    uint64_t dropped = thinner_report(t.thinner).dropped;
    assert_true(dropped > 0);
    fake_world_advance(f.vm.world, 3 * THINNER_COMPACT_MS * 1000000ull);
    thinner_hurry(t.thinner);
    made_thinner_settle(&t);
    assert_int_equal(thinner_report(t.thinner).dropped, dropped);
    assert_int_equal(thinner_report(t.thinner).leveled, 0);
    made_thinner_close(&t);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_runs_become_a_level_and_the_point_reads_as_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(runs_stay_few_and_what_is_stored_small, setup, teardown),
        cmocka_unit_test(killed_at_any_store_call_it_loses_nothing),
        cmocka_unit_test_setup_teardown(a_run_that_was_dropped_meanwhile_is_not_named, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(runs_that_others_rewrote_meanwhile_are_left_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(points_go_on_leaving_while_a_level_is_made, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_older_point_becomes_part_of_one_whose_level_is_made,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_is_full_has_the_room_back, setup, teardown),
        cmocka_unit_test(what_turns_out_to_be_damaged_is_tried_once),
        cmocka_unit_test_setup_teardown(what_is_damaged_stays_and_thinning_goes_on, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
