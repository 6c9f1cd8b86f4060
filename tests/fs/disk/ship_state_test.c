/* SPDX-License-Identifier: MIT */
#include "fs/disk/ship_state.h"

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"

#include <errno.h>
#include <stdio.h>

static int set_up(void **state)
{
    *state = rig_make();
    rig_open_source(*state);
    return 0;
}

static int tear_down(void **state)
{
    rig_release((struct rig **)state);
    return 0;
}

static struct ship_state sample(const struct rig *r)
{
    struct ship_state s = {.generation = r->generation,
                           .begun = true,
                           .epoch = 1ull << 40,
                           .point_ms = 1790000000123,
                           .point_epoch = 17,
                           .initial_done = true,
                           .pass_open = true,
                           .paused = true};
    memset(s.digest.bytes, 0xa7, sizeof s.digest.bytes);
    snprintf(s.fenced, sizeof s.fenced, "epoch 5 is \"foreign\"");
    return s;
}

static struct ship_state load(struct rig *r)
{
    struct err err = ERR_NONE;
    struct ship_state s;
    check_ok(ship_state_load(r->world, RIG_FOLDER, r->generation, &s, &err), err);
    return s;
}

static void save(struct rig *r, const struct ship_state *s)
{
    struct err err = ERR_NONE;
    check_ok(ship_state_save(r->world, RIG_FOLDER, s, &err), err);
}

static void a_missing_state_has_not_begun(void **state)
{
    struct rig *r = *state;
    struct ship_state s = load(r);
    assert_false(s.begun);
    assert_int_equal(s.epoch, 0);
    assert_int_equal(s.generation.id, r->generation.id);
}

/* A pause that is asked for while the store is out of reach. */
static void a_state_saved_before_the_log_was_looked_at_has_not_begun(void **state)
{
    struct rig *r = *state;
    struct ship_state paused = {.generation = r->generation, .paused = true};
    save(r, &paused);
    struct ship_state s = load(r);
    assert_true(s.paused);
    assert_false(s.begun);
}

static void what_was_saved_is_loaded_also_after_a_power_cut(void **state)
{
    struct rig *r = *state;
    struct ship_state was = sample(r);
    save(r, &was);
    rig_power_cut(r, 5);
    struct ship_state s = load(r);
    assert_true(s.begun && s.initial_done && s.pass_open && s.paused);
    assert_int_equal(s.epoch, was.epoch);
    assert_int_equal(s.point_ms, was.point_ms);
    assert_int_equal(s.point_epoch, was.point_epoch);
    assert_memory_equal(&s.digest, &was.digest, sizeof s.digest);
    assert_string_equal(s.fenced, was.fenced);
}

static void a_save_that_fails_leaves_the_one_before(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct ship_state s = sample(r);
    save(r, &s);
    s.epoch++;
    fake_world_fail(r->world, FAKE_SYNC, 1, ENOSPC, false);
    check_fails(ship_state_save(r->world, RIG_FOLDER, &s, &err), err, ERR_FULL);
    rig_power_cut(r, 5);
    assert_int_equal(load(r).epoch, s.epoch - 1);
}

static void the_state_of_another_generation_is_fenced(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct ship_state s = sample(r);
    save(r, &s);
    struct generation other = {.number = r->generation.number, .id = r->generation.id + 1};
    check_fails(ship_state_load(r->world, RIG_FOLDER, other, &s, &err), err, ERR_FENCED);
    other = (struct generation){.number = r->generation.number + 1, .id = r->generation.id};
    check_fails(ship_state_load(r->world, RIG_FOLDER, other, &s, &err), err, ERR_FENCED);
}

static void a_state_cut_short_is_refused_by_name(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf text AUTO_BUF = BUF_NONE;
    struct ship_state s = sample(r);
    save(r, &s);
    check_ok(file_load(r->world, RIG_FOLDER "/ship.json", 65536, &text, &err), err);
    for (size_t n = 0; n + 2 < text.length; n++) { /* all but the closing brace */
        check_ok(file_replace(r->world, RIG_FOLDER "/ship.json", 0600, span_of(text.data, n), &err),
                 err);
        check_fails(ship_state_load(r->world, RIG_FOLDER, r->generation, &s, &err), err,
                    ERR_CORRUPT);
        check_says(err, "ship.json");
    }
}

/* --- the record of a clean stop --- */

static void make_record(struct rig *r)
{
    struct err err = ERR_NONE;
    struct ship_state s = sample(r);
    check_ok(source_sync(r->source, &err), err);
    check_ok(clean_record_make(r->world, RIG_FOLDER, r->source, &s, &err), err);
}

static enum clean_record compare(struct rig *r, char why[200])
{
    struct err err = ERR_NONE;
    struct ship_state s = sample(r);
    enum clean_record out;
    check_ok(clean_record_compare(r->world, RIG_FOLDER, r->source, &s, &out, why, &err), err);
    return out;
}

static void without_a_record_the_stop_was_not_clean(void **state)
{
    char why[200];
    assert_int_equal(compare(*state, why), CLEAN_ABSENT);
}

static void an_untouched_disk_is_equal(void **state)
{
    struct rig *r = *state;
    char why[200];
    rig_write(r, 0, 3, 1, 1);
    make_record(r);
    rig_reboot(r);
    rig_open_source(r);
    assert_int_equal(compare(r, why), CLEAN_EQUAL);
}

static void a_damaged_record_is_a_difference(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    char why[200];
    const char *const damages[] = {"{", "{}", "{\"digest\": 3, \"disks\": {}}"};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        check_ok(
            file_replace(r->world, RIG_FOLDER "/clean.json", 0600, span_of_text(damages[i]), &err),
            err);
        assert_int_equal(compare(r, why), CLEAN_DIFFERS);
        assert_non_null(strstr(why, "damaged"));
    }
}

static void a_disk_written_behind_our_back_differs_and_is_named(void **state)
{
    struct rig *r = *state;
    char why[200];
    make_record(r);
    rig_reboot(r);
    rig_advance_ms(r, 1);
    rig_write_raw(r, 1, 3, 1);
    rig_open_source(r);
    assert_int_equal(compare(r, why), CLEAN_DIFFERS);
    assert_non_null(strstr(why, "disk b"));
}

static void a_log_that_moved_on_differs(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct ship_state s = sample(r);
    enum clean_record out;
    char why[200];
    make_record(r);
    s.digest.bytes[0] ^= 1;
    check_ok(clean_record_compare(r->world, RIG_FOLDER, r->source, &s, &out, why, &err), err);
    assert_int_equal(out, CLEAN_DIFFERS);
    assert_non_null(strstr(why, "log"));
}

static void a_comparison_keeps_the_record(void **state)
{
    struct rig *r = *state;
    char why[200];
    make_record(r);
    assert_int_equal(compare(r, why), CLEAN_EQUAL);
    assert_int_equal(compare(r, why), CLEAN_EQUAL);
}

static void no_power_cut_brings_a_voided_record_back(void **state)
{
    struct rig *r = *state;
    char why[200];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct err err = ERR_NONE;
        make_record(r);
        check_ok(clean_record_void(r->world, RIG_FOLDER, &err), err);
        rig_power_cut(r, seed);
        rig_open_source(r);
        assert_int_equal(compare(r, why), CLEAN_ABSENT);
    }
}

static void voiding_what_is_not_there_succeeds(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(clean_record_void(r->world, RIG_FOLDER, &err), err);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_missing_state_has_not_begun),
        T(a_state_saved_before_the_log_was_looked_at_has_not_begun),
        T(what_was_saved_is_loaded_also_after_a_power_cut),
        T(a_save_that_fails_leaves_the_one_before),
        T(the_state_of_another_generation_is_fenced),
        T(a_state_cut_short_is_refused_by_name),
        T(without_a_record_the_stop_was_not_clean),
        T(a_damaged_record_is_a_difference),
        T(an_untouched_disk_is_equal),
        T(a_disk_written_behind_our_back_differs_and_is_named),
        T(a_log_that_moved_on_differs),
        T(a_comparison_keeps_the_record),
        T(no_power_cut_brings_a_voided_record_back),
        T(voiding_what_is_not_there_succeeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
