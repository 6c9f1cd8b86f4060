/* SPDX-License-Identifier: MIT
 * The `bandwidth` setting (backend/store/throttle.h): what it may say, and which rate it gives
 * when.
 */
#include "backend/store/throttle.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/zone.h"

#include <stdio.h>

#define KIB 1024u
#define MIB (1024u * KIB)

struct rig {
    struct world *world;
    struct bandwidth *bandwidth;
};

static void rig_make(struct rig *r, const char *spec)
{
    struct err err = ERR_NONE;
    *r = (struct rig){.world = fake_world_make(1)};
    check_ok(bandwidth_make(r->world, spec, NULL, NULL, &r->bandwidth, &err), err);
}

static void rig_release(struct rig *r)
{
    bandwidth_release(&r->bandwidth);
    fake_world_release(&r->world);
}
#define AUTO_RIG CLEANUP(rig_release)

/* --- the spec --- */

static void a_rate_is_bytes_per_second_in_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        uint64_t rate;
    } cases[] = {{"unlimited", 0},
                 {"1", 1},
                 {"500k", 500 * KIB},
                 {"20M", 20ull * MIB},
                 {"1G", 1ull << 30},
                 {"0020M", 20ull * MIB},
                 {"1073741823G", 1073741823ull << 30}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rig r AUTO_RIG;
        rig_make(&r, cases[i].spec);
        assert_int_equal(bandwidth_now(r.bandwidth), cases[i].rate);
    }
}

static void what_is_no_rate_is_refused_and_named(void **state)
{
    (void)state;
    static const char *const specs[] = {"",
                                        "0",
                                        "0k",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1 M",
                                        "1.5M",
                                        "1MB",
                                        "1m",
                                        "1K",
                                        "1T",
                                        "M",
                                        "k1",
                                        "0x10",
                                        "Unlimited",
                                        "unlimitedk",
                                        "unlimite",
                                        "1073741824",
                                        "99999999999999999999",
                                        "100000000000000000000000000"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct err err;
        char words[64];
        check_fails(bandwidth_check(specs[i], &err), err, ERR_INVALID);
        snprintf(words, sizeof words, "\"%s\" is no rate", specs[i]);
        check_says(err, words);
    }
}

static void what_is_no_window_is_refused_and_named(void **state)
{
    (void)state;
    static const char *const windows[] = {"",
                                          "5M",
                                          "08:00=1M",
                                          "08:00-18:00",
                                          "08:00-18:00=",
                                          "8:00-18:00=1M",
                                          "08:00-18:0=1M",
                                          "08-18=1M",
                                          "25:00-18:00=1M",
                                          "24:01-18:00=1M",
                                          "08:60-18:00=1M",
                                          "08:00-24:30=1M",
                                          "08.00-18:00=1M",
                                          "08:00-18.00=1M",
                                          "08:00_18:00=1M",
                                          "08:00-18:00:1M",
                                          "08:00-18:00=0",
                                          "08:00-18:00=x",
                                          " 08:00-18:00=1M",
                                          "a8:00-18:00=1M",
                                          "08:0a-18:00=1M"};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        struct err err;
        char spec[64], words[64];
        snprintf(spec, sizeof spec, "20M,%s", windows[i]);
        check_fails(bandwidth_check(spec, &err), err, ERR_INVALID);
        snprintf(words, sizeof words, "\"%s\" is no window", windows[i]);
        check_says(err, words);
    }
}

static void eight_windows_are_taken_and_no_more(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    char spec[BANDWIDTH_SPEC_MAX + 64] = "1M";
    for (unsigned i = 0; i < BANDWIDTH_WINDOWS_MAX; i++)
        strcat(spec, ",08:00-18:00=1M");
    check_ok(bandwidth_check(spec, &err), err);
    strcat(spec, ",08:00-18:00=1M");
    check_fails(bandwidth_check(spec, &err), err, ERR_INVALID);
    check_says(err, "at most 8 windows");
}

static void a_spec_that_is_too_long_is_refused(void **state)
{
    (void)state;
    struct err err;
    char spec[BANDWIDTH_SPEC_MAX + 1];
    memset(spec, '0', sizeof spec);
    spec[BANDWIDTH_SPEC_MAX] = '\0';
    check_fails(bandwidth_check(spec, &err), err, ERR_INVALID);
    check_says(err, "longer than 255");
}

static void a_wrong_spec_changes_nothing(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "5M");
    check_fails(bandwidth_set(r.bandwidth, "6M,x", &err), err, ERR_INVALID);
    assert_int_equal(bandwidth_now(r.bandwidth), 5 * MIB);
    check_ok(bandwidth_set(r.bandwidth, "6M", &err), err);
    assert_int_equal(bandwidth_now(r.bandwidth), 6 * MIB);
}

/* --- the time of day --- */

/* The fake clock starts at midnight in UTC; `minute` is of that day. */
static void check_rate_at(struct rig *r, unsigned minute, uint64_t rate)
{
    static const uint64_t start_ns = 1767225600000000000ull;
    int64_t ns =
        (int64_t)(start_ns + minute * 60000000000ull - r->world->ops->realtime_ns(r->world));
    fake_world_jump(r->world, ns);
    assert_int_equal(bandwidth_now(r->bandwidth), rate);
}

static void a_window_holds_from_its_first_minute_up_to_its_last(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    rig_make(&r, "20M,08:00-18:00=5M");
    check_rate_at(&r, 0, 20 * MIB);
    check_rate_at(&r, 8 * 60 - 1, 20 * MIB);
    check_rate_at(&r, 8 * 60, 5 * MIB);
    check_rate_at(&r, 18 * 60 - 1, 5 * MIB);
    check_rate_at(&r, 18 * 60, 20 * MIB);
}

static void a_window_may_span_midnight(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    rig_make(&r, "20M,22:00-06:00=unlimited");
    check_rate_at(&r, 22 * 60 - 1, 20 * MIB);
    check_rate_at(&r, 22 * 60, 0);
    check_rate_at(&r, 24 * 60 - 1, 0);
    check_rate_at(&r, 24 * 60, 0);
    check_rate_at(&r, 24 * 60 + 6 * 60 - 1, 0);
    check_rate_at(&r, 24 * 60 + 6 * 60, 20 * MIB);
}

static void a_window_may_end_at_24_00_and_hold_all_day(void **state)
{
    (void)state;
    struct rig r AUTO_RIG, all AUTO_RIG;
    rig_make(&r, "20M,18:00-24:00=5M");
    check_rate_at(&r, 24 * 60 - 1, 5 * MIB);
    check_rate_at(&r, 24 * 60, 20 * MIB);
    rig_make(&all, "20M,00:00-24:00=5M");
    check_rate_at(&all, 0, 5 * MIB);
    check_rate_at(&all, 24 * 60 - 1, 5 * MIB);
}

static void the_first_window_that_holds_now_counts(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    rig_make(&r, "20M,12:00-13:00=1M,08:00-18:00=5M,00:00-24:00=9M");
    check_rate_at(&r, 12 * 60, 1 * MIB);
    check_rate_at(&r, 13 * 60, 5 * MIB);
    check_rate_at(&r, 18 * 60, 9 * MIB);
}

static void the_time_of_day_is_local(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    rig_make(&r, "20M,08:00-18:00=5M");
    zone_set("EAST-05:30"); /* five and a half hours ahead of UTC */
    check_rate_at(&r, 2 * 60 + 29, 20 * MIB);
    check_rate_at(&r, 2 * 60 + 30, 5 * MIB);
    check_rate_at(&r, 12 * 60 + 30, 20 * MIB);
    zone_set("UTC0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rate_is_bytes_per_second_in_powers_of_1024),
        cmocka_unit_test(what_is_no_rate_is_refused_and_named),
        cmocka_unit_test(what_is_no_window_is_refused_and_named),
        cmocka_unit_test(eight_windows_are_taken_and_no_more),
        cmocka_unit_test(a_spec_that_is_too_long_is_refused),
        cmocka_unit_test(a_wrong_spec_changes_nothing),
        cmocka_unit_test(a_window_holds_from_its_first_minute_up_to_its_last),
        cmocka_unit_test(a_window_may_span_midnight),
        cmocka_unit_test(a_window_may_end_at_24_00_and_hold_all_day),
        cmocka_unit_test(the_first_window_that_holds_now_counts),
        cmocka_unit_test(the_time_of_day_is_local),
    };
    return cmocka_run_group_tests(tests, zone_use_utc, NULL);
}
