/* SPDX-License-Identifier: MIT */
#include "backend/history/retention.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "tests/support/check.h"

#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define START  1795305600000ull /* a midnight */
#define MANY   100000u

static struct retention policy_of(const char *keep, uint64_t application)
{
    struct retention r = {.application = application};
    struct err err = ERR_NONE;
    check_ok(retention_parse_keep(keep, &r, &err), err);
    return r;
}

/* Points from START on, so many ms apart. */
static struct retention_point *points_every(uint64_t ms, size_t count)
{
    struct retention_point *p = calloc(count + 1, sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < count; i++)
        p[i].ms = START + i * ms;
    return p;
}

/* Takes away what does not stay; returns how many do. */
static size_t thin(const struct retention *r, uint64_t now_ms, struct retention_point *p,
                   size_t count)
{
    size_t left = 0;
    retention_choose(r, now_ms, p, count);
    for (size_t i = 0; i < count; i++)
        if (p[i].stays)
            p[left++] = p[i];
    return left;
}

static void the_default_keeps_what_the_manual_says(void **state)
{
    (void)state;
    struct retention r = retention_default();
    size_t count = MANY;
    struct retention_point *p AUTO_FREE = points_every(30 * SECOND, count); /* 34 days */
    uint64_t now = p[count - 1].ms;
    size_t all = 0, five = 0, hours = 0, days = 0;

    count = thin(&r, now, p, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t age = now - p[i].ms;
        all += age <= 2 * HOUR;
        five += age > 2 * HOUR && age <= DAY;
        hours += age > DAY && age <= 7 * DAY;
        days += age > 7 * DAY;
    }
    assert_int_equal(all, 241);
    assert_in_range(five, 22 * 12 - 1, 22 * 12 + 1);
    assert_in_range(hours, 6 * 24 - 1, 6 * 24 + 1);
    assert_in_range(days, 22, 24);
    assert_true(now - p[0].ms <= 30 * DAY);
}

static void thinning_often_ends_as_thinning_once(void **state)
{
    (void)state;
    struct retention r = policy_of("10m:all,1h:1m,6h:10m,2d:1h", 7);
    size_t total = 20000, often = 0;
    struct retention_point *once AUTO_FREE = points_every(11 * SECOND, total);
    struct retention_point *step AUTO_FREE = calloc(total, sizeof *step);
    for (size_t i = 0; i < total; i++)
        once[i].application = i % 97 == 0;
    for (size_t i = 0; i < total; i++) {
        step[often++] = once[i];
        if (i % 37 == 0 || i + 1 == total)
            often = thin(&r, once[i].ms, step, often);
    }
    size_t left = thin(&r, once[total - 1].ms, once, total);
    assert_int_equal(often, left);
    for (size_t i = 0; i < left; i++)
        assert_int_equal(step[i].ms, once[i].ms);
}

static void thinning_twice_changes_nothing(void **state)
{
    (void)state;
    struct retention r = policy_of("5m:all,1h:7m,9h:13m", 0); /* slots that do not fit each other */
    size_t count = 5000;
    struct retention_point *p AUTO_FREE = points_every(10 * SECOND, count);
    uint64_t now = p[count - 1].ms;
    count = thin(&r, now, p, count);
    assert_int_equal(thin(&r, now, p, count), count);
}

static void the_newest_point_and_what_is_needed_stay_whatever_their_age(void **state)
{
    (void)state;
    struct retention r = policy_of("1m:all", 0);
    struct retention_point *p AUTO_FREE = points_every(MINUTE, 10);
    p[3].needed = true;
    size_t left = thin(&r, START + 100 * DAY, p, 10);
    assert_int_equal(left, 2);
    assert_int_equal(p[0].ms, START + 3 * MINUTE);
    assert_int_equal(p[1].ms, START + 9 * MINUTE);
}

static void application_points_stay_by_their_own_count(void **state)
{
    (void)state;
    struct retention r = policy_of("1m:all", 3);
    struct retention_point *p AUTO_FREE = points_every(HOUR, 10);
    for (size_t i = 0; i < 10; i += 2)
        p[i].application = true;
    size_t left = thin(&r, p[9].ms, p, 10);
    assert_int_equal(left, 4); /* 4, 6, 8 and the newest */
    assert_int_equal(p[0].ms, START + 4 * HOUR);
}

static void points_of_the_future_are_young(void **state)
{
    (void)state;
    struct retention r = retention_default();
    struct retention_point *p AUTO_FREE = points_every(SECOND, 100);
    assert_int_equal(thin(&r, START - 3650 * DAY, p, 100), 100);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const char *const texts[] = {RETENTION_KEEP_DEFAULT, "10s:all,1m:5s", "1h:all", "3d:7m",
                                        "36500d:36500d"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct retention r = policy_of(texts[i], 0);
        char again[RETENTION_TEXT_MAX];
        retention_format_keep(&r, again);
        assert_string_equal(again, texts[i]);
    }
    char span[24];
    retention_format_span(86400000, span);
    assert_string_equal(span, "1d");
    retention_format_span(90000, span);
    assert_string_equal(span, "90s");
}

static void wrong_tiers_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ",",
        "2h",
        "2h:",
        ":all",
        "2h:al",
        "2h:all,",
        "0s:all",
        "2h:0m",
        "2x:all",
        "2h:all,1h:5m",
        "2h:all,2h:5m",
        "-1h:all",
        "1.5h:all",
        "36501d:all",
        "2h:all 3h",
        "9999999999s:all",
        "1s:all,2s:all,3s:all,4s:all,5s:all,6s:all,7s:all,8s:all,9s:all"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct retention r = {.tier_count = 0};
        struct err err = ERR_NONE;
        if (retention_parse_keep(texts[i], &r, &err) || err.kind != ERR_INVALID)
            fail_msg("'%s' is taken", texts[i]);
        assert_int_equal(r.tier_count, 0);
    }
}

/* Six in an hour, a slot each; of the first two slots one and both hold only damaged ones. */
static void a_damaged_point_stays_only_where_there_is_no_other(void **state)
{
    (void)state;
    struct retention r = policy_of("1d:1h", 1);
    struct retention_point *p AUTO_FREE = points_every(10 * MINUTE, 18);
    p[0].damaged = p[1].damaged = true;
    for (size_t i = 6; i < 12; i++)
        p[i].damaged = true;
    p[4].application = p[8].application = true;
    size_t count = thin(&r, START + 3 * HOUR, p, 18);
    const uint64_t stays[] = {2, 4, 6, 12, 17};
    assert_int_equal(count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(p[i].ms, START + stays[i] * 10 * MINUTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_keeps_what_the_manual_says),
        cmocka_unit_test(thinning_often_ends_as_thinning_once),
        cmocka_unit_test(thinning_twice_changes_nothing),
        cmocka_unit_test(the_newest_point_and_what_is_needed_stay_whatever_their_age),
        cmocka_unit_test(application_points_stay_by_their_own_count),
        cmocka_unit_test(points_of_the_future_are_young),
        cmocka_unit_test(a_damaged_point_stays_only_where_there_is_no_other),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(wrong_tiers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
