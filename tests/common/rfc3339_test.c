/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <string.h>
#include <time.h>

#include "common/rfc3339.h"

#define LAST_MS 253402300799999ull

static void check_parse(const char *text, uint64_t wanted)
{
    uint64_t ms = 1;
    if (!rfc3339_parse(text, &ms))
        fail_msg("refused: %s", text);
    if (ms != wanted)
        fail_msg("%s: %llu instead of %llu", text, (unsigned long long)ms,
                 (unsigned long long)wanted);
}

static void known_moments_read_as_known_numbers(void **state)
{
    (void)state;
    check_parse("1970-01-01T00:00:00Z", 0);
    check_parse("1970-01-01T00:00:00.001Z", 1);
    check_parse("2000-02-29T12:34:56Z", 951827696000ull);
    check_parse("2038-01-19T03:14:08Z", 2147483648000ull);
    check_parse("2100-03-01T00:00:00Z", 4107542400000ull);
    check_parse("9999-12-31T23:59:59.999Z", LAST_MS);
}

static void offsets_count_and_may_cross_the_year(void **state)
{
    (void)state;
    check_parse("1970-01-01T01:30:00+01:30", 0);
    check_parse("1969-12-31T23:00:00-01:00", 0);
    check_parse("1970-01-01T00:00:00-00:00", 0);
    check_parse("1999-12-31T19:00:00-05:00", 946684800000ull);
    check_parse("1970-01-02T00:00:00+23:59", 60000);
}

static void fractions_of_any_length_are_cut_to_milliseconds(void **state)
{
    (void)state;
    check_parse("1970-01-01T00:00:00.5Z", 500);
    check_parse("1970-01-01T00:00:00.05Z", 50);
    check_parse("1970-01-01T00:00:00.9999999999999999999999999999Z", 999);
    check_parse("1970-01-01T00:00:00.12349+00:00", 123);
}

static void space_and_lower_case_are_read_too(void **state)
{
    (void)state;
    check_parse("1970-01-01 00:00:01Z", 1000);
    check_parse("1970-01-01t00:00:01z", 1000);
}

static void a_leap_second_is_the_second_after(void **state)
{
    (void)state;
    uint64_t ms;
    check_parse("2016-12-31T23:59:60Z", 1483228800000ull);
    check_parse("2016-12-31T15:59:60.5-08:00", 1483228800500ull);
    assert_false(rfc3339_parse("2016-12-31T23:58:60Z", &ms));
    assert_false(rfc3339_parse("2016-12-31T23:59:61Z", &ms));
    assert_false(point_time_parse("2016-12-31T23:59:60.000Z", &ms));
}

static void garbage_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "now",
        "2026",
        "2026-11-22",
        "2026-11-22T20:05:03",
        "2026-11-22T20:05Z",
        "2026-11-22T20:05:03.Z",
        "2026-11-22T20:05:03,5Z",
        "2026-11-22T20:05:03Zx",
        "2026-11-22T20:05:03Z ",
        " 2026-11-22T20:05:03Z",
        "2026-11-22T20:05:03+0100",
        "2026-11-22T20:05:03+01",
        "2026-11-22T20:05:03+24:00",
        "2026-11-22T20:05:03+01:60",
        "2026-11-22T24:00:00Z",
        "2026-11-22T20:60:00Z",
        "2026-00-22T20:05:03Z",
        "2026-13-22T20:05:03Z",
        "2026-11-00T20:05:03Z",
        "2026-11-31T20:05:03Z",
        "2026-02-29T20:05:03Z",
        "2100-02-29T20:05:03Z",
        "+026-11-22T20:05:03Z",
        "2026-1-22T20:05:03Z",
        "2026-11-22X20:05:03Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t ms;
        if (rfc3339_parse(bad[i], &ms))
            fail_msg("accepted: \"%s\"", bad[i]);
    }
}

static void the_point_form_has_24_characters_and_reads_back(void **state)
{
    (void)state;
    static const uint64_t moments[] = {0,
                                       1,
                                       999,
                                       86399999ull,
                                       86400000ull,
                                       951782400000ull - 1,
                                       951782400000ull,
                                       951868800000ull,
                                       4107542399999ull,
                                       1795377903250ull,
                                       LAST_MS};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        char text[POINT_TIME_CHARS + 1];
        uint64_t ms;
        point_time_format(moments[i], text);
        assert_int_equal(strlen(text), POINT_TIME_CHARS);
        assert_true(point_time_parse(text, &ms));
        assert_int_equal(ms, moments[i]);
    }
}

/* Steps of about three days through all years, against the C library. */
static void dates_agree_with_gmtime(void **state)
{
    (void)state;
    char before[POINT_TIME_CHARS + 1] = "";
    for (uint64_t ms = 0; ms <= LAST_MS; ms += 86400000ull * 3 + 12345678) {
        char text[POINT_TIME_CHARS + 1], wanted[64];
        time_t seconds = (time_t)(ms / 1000);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(wanted, sizeof wanted, "%Y-%m-%dT%H:%M:%S", &tm) > 0);
        point_time_format(ms, text);
        assert_memory_equal(text, wanted, 19);
        assert_true(strcmp(before, text) < 0);
        memcpy(before, text, sizeof before);
    }
}

static void a_time_past_the_last_year_shows_as_the_last(void **state)
{
    (void)state;
    char text[POINT_TIME_CHARS + 1];
    point_time_format(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

static void the_point_form_is_exact(void **state)
{
    (void)state;
    uint64_t ms;
    assert_true(point_time_parse("2026-11-22T20:05:03.250Z", &ms));
    assert_int_equal(ms, 1795377903250ull);
    static const char *const bad[] = {"2026-11-22T20:05:03Z",          "2026-11-22T20:05:03.25Z",
                                      "2026-11-22T20:05:03.2500Z",     "2026-11-22t20:05:03.250Z",
                                      "2026-11-22 20:05:03.250Z",      "2026-11-22T20:05:03.250z",
                                      "2026-11-22T20:05:03.250+00:00", "2026-11-22T20:05:03.250Zx"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(point_time_parse(bad[i], &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_moments_read_as_known_numbers),
        cmocka_unit_test(offsets_count_and_may_cross_the_year),
        cmocka_unit_test(fractions_of_any_length_are_cut_to_milliseconds),
        cmocka_unit_test(space_and_lower_case_are_read_too),
        cmocka_unit_test(a_leap_second_is_the_second_after),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(the_point_form_has_24_characters_and_reads_back),
        cmocka_unit_test(dates_agree_with_gmtime),
        cmocka_unit_test(a_time_past_the_last_year_shows_as_the_last),
        cmocka_unit_test(the_point_form_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
