/* SPDX-License-Identifier: MIT */
#include "fs/disk/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define M (1024.0 * 1024.0)

/* A guest and an uplink in seconds: cuts follow one another, each ships what the guest dirtied
 * since the one before. `room` bytes are all that the guest ever writes to. */
struct model {
    struct pace pace;
    uint64_t ms;
    double writes, ships, room; /* bytes a second; bytes */
    double changed, dirtied, shipped;
    double active, frozen;
    uint64_t cut_ms, oldest_ms;
    struct pace_forecast forecast;
};

static struct pace_counts counts_of(const struct model *m)
{
    return (struct pace_counts){.changed = (uint64_t)m->changed,
                                .dirtied = (uint64_t)m->dirtied,
                                .shipped = (uint64_t)m->shipped,
                                .stored = (uint64_t)(m->shipped / 2)};
}

static void cut(struct model *m)
{
    struct pace_counts c = counts_of(m);
    pace_cut(&m->pace, (uint64_t)m->active, &c);
    m->frozen = m->active;
    m->active = 0;
    m->oldest_ms = m->cut_ms;
    m->cut_ms = m->ms;
}

static void second(struct model *m)
{
    double fresh = (m->room - m->active) * m->writes / (m->room + m->writes);
    double done = m->ships < m->frozen ? m->ships : m->frozen;
    m->ms += 1000;
    m->changed += m->writes;
    m->dirtied += fresh;
    m->active += fresh;
    m->frozen -= done;
    m->shipped += done;
    if (m->frozen < 1 && (m->active > 1 || m->writes < 1))
        cut(m);
    struct pace_counts c = counts_of(m);
    bool busy = m->frozen >= 1;
    pace_note(&m->pace, m->ms, &c);
    pace_judge(&m->pace, m->ms, &c, busy, busy ? m->ms - m->oldest_ms : 0, &m->forecast);
}

/* The second, of at most `seconds`, in which the verdict becomes what is asked for. */
static unsigned seconds_until(struct model *m, bool hopeless, unsigned seconds)
{
    for (unsigned i = 1; i <= seconds; i++) {
        second(m);
        if (m->forecast.hopeless == hopeless)
            return i;
    }
    fail_msg("the verdict stays %d", !hopeless);
    return 0;
}

static bool stays(struct model *m, bool hopeless, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        second(m);
        if (m->forecast.hopeless != hopeless)
            return false;
    }
    return true;
}

static void five_times_too_much_is_known_within_a_minute_and_stays_known(void **state)
{
    (void)state;
    struct model m = {.writes = 5 * M, .ships = M, .room = 1e12};
    assert_in_range(seconds_until(&m, true, 60), 25, 45);
    assert_true(stays(&m, true, 1000));
}

/* A guest that writes the same gigabyte over and over: at the end of a cut nothing new becomes
 * dirty any more, and still the next cut will be as large. */
static void rewriting_a_bounded_set_too_fast_is_hopeless_all_the_time(void **state)
{
    (void)state;
    struct model m = {.writes = 5 * M, .ships = M, .room = 300 * M};
    seconds_until(&m, true, 60);
    assert_true(stays(&m, true, 2000));
}

static void a_little_less_than_what_ships_is_not_hopeless(void **state)
{
    (void)state;
    struct model m = {.writes = 0.6 * M, .ships = M, .room = 1e12};
    assert_true(stays(&m, false, 1000));
    /* Behind by ten minutes of shipping, and catching up. */
    m.active += 600 * M;
    m.dirtied += 600 * M;
    m.changed += 600 * M;
    second(&m);
    stays(&m, false, 60);
    assert_true(stays(&m, false, 300));
    assert_true(m.forecast.catch_up_seconds != PACE_UNKNOWN && m.forecast.catch_up_seconds > 300);
}

static void a_few_hot_blocks_are_not_hopeless_while_much_is_shipped(void **state)
{
    (void)state;
    struct model m = {.writes = 0, .ships = M, .room = 10 * M};
    second(&m);
    m.active = m.dirtied = m.changed = 2000 * M;
    cut(&m);
    m.active = 0;
    m.writes = 50 * M;
    assert_true(stays(&m, false, 1900));
}

static void one_burst_is_not_hopeless(void **state)
{
    (void)state;
    struct model m = {.writes = 100 * M, .ships = M, .room = 1e12};
    for (unsigned i = 0; i < 10; i++)
        second(&m);
    m.writes = 0;
    assert_true(stays(&m, false, 2000));
    assert_int_equal(m.forecast.left_bytes, 0);
}

static void it_ends_soon_after_the_load_falls_and_tells_when_all_is_shipped(void **state)
{
    (void)state;
    struct model m = {.writes = 5 * M, .ships = M, .room = 1e12};
    seconds_until(&m, true, 60);
    stays(&m, true, 300);
    uint64_t quiet = m.forecast.quiet_seconds;
    assert_int_equal(m.forecast.catch_up_seconds, PACE_UNKNOWN);
    m.writes = 0;
    assert_in_range(seconds_until(&m, false, 60), 1, PACE_WINDOW_MS / 1000);
    unsigned took = 0;
    while (m.forecast.left_bytes > 0 && took < 10000) {
        second(&m);
        took++;
    }
    assert_in_range(took, quiet / 2, quiet + 60);
}

static void nothing_going_up_at_all_is_hopeless_with_a_time_unknown(void **state)
{
    (void)state;
    struct model m = {.writes = 5 * M, .ships = 0, .room = 1e12};
    second(&m);
    cut(&m);
    seconds_until(&m, true, 60);
    assert_int_equal(m.forecast.quiet_seconds, PACE_UNKNOWN);
}

static void it_is_said_in_words(void **state)
{
    (void)state;
    char text[PACE_TEXT_MAX];
    struct pace_forecast f = {.hopeless = true,
                              .upload_bytes_per_second = 5u << 20,
                              .write_bytes_per_second = 25u << 20,
                              .left_bytes = 3600ull << 20,
                              .quiet_seconds = 720,
                              .catch_up_seconds = PACE_UNKNOWN};
    pace_explain(&f, text);
    assert_string_equal(text, "3.5 GiB of changes wait, the guest writes 25.0 MiB/s and 5.0 MiB/s "
                              "go up: would catch up in 12 min if writing stopped, at the present "
                              "rate of writing never");
    f.hopeless = false;
    f.catch_up_seconds = 1500;
    pace_explain(&f, text);
    assert_non_null(strstr(text, "in 12 min if writing stopped, as it goes on now in 25 min"));
    f.quiet_seconds = f.catch_up_seconds = PACE_UNKNOWN;
    pace_explain(&f, text);
    assert_non_null(strstr(text, "in a time not known yet if writing stopped"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_times_too_much_is_known_within_a_minute_and_stays_known),
        cmocka_unit_test(rewriting_a_bounded_set_too_fast_is_hopeless_all_the_time),
        cmocka_unit_test(a_little_less_than_what_ships_is_not_hopeless),
        cmocka_unit_test(a_few_hot_blocks_are_not_hopeless_while_much_is_shipped),
        cmocka_unit_test(one_burst_is_not_hopeless),
        cmocka_unit_test(it_ends_soon_after_the_load_falls_and_tells_when_all_is_shipped),
        cmocka_unit_test(nothing_going_up_at_all_is_hopeless_with_a_time_unknown),
        cmocka_unit_test(it_is_said_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
