/* SPDX-License-Identifier: MIT */
#include "fs/mount/suspects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void die_with(struct suspects *s, uint64_t alone, uint64_t first, uint64_t second)
{
    atomic_store(&s->alone, alone);
    atomic_store(&s->in_hand[0], first);
    atomic_store(&s->in_hand[1], second);
    suspects_after_death(s, true);
}

static void requests_in_hand_at_a_death_are_suspects_and_others_are_not(void **state)
{
    struct suspects s = {0};

    (void)state;
    die_with(&s, 0, 10, 12);
    assert_int_equal(suspects_deaths(&s, 10), 1);
    assert_int_equal(suspects_deaths(&s, 12), 1);
    assert_int_equal(suspects_deaths(&s, 14), 0);
    assert_int_equal(atomic_load(&s.in_hand[0]), 0);
}

static void deaths_add_up_only_for_the_one_that_ran_alone(void **state)
{
    struct suspects s = {0};

    (void)state;
    die_with(&s, 0, 10, 12);
    die_with(&s, 10, 20, 0);
    die_with(&s, 10, 0, 0);
    assert_int_equal(suspects_deaths(&s, 10), SUSPECT_DEATHS_MAX);
    assert_int_equal(suspects_deaths(&s, 12), 1);
    assert_int_equal(suspects_deaths(&s, 20), 1);
}

static void an_answered_suspect_is_forgotten(void **state)
{
    struct suspects s = {0};

    (void)state;
    die_with(&s, 0, 10, 12);
    suspects_clear(&s, 10);
    assert_int_equal(suspects_deaths(&s, 10), 0);
    assert_int_equal(suspects_deaths(&s, 12), 1);
}

static void a_death_that_is_nobodys_fault_blames_nobody_and_forgets_nobody(void **state)
{
    struct suspects s = {0};

    (void)state;
    die_with(&s, 0, 10, 0);
    atomic_store(&s.alone, 10);
    atomic_store(&s.in_hand[2], 30);
    suspects_after_death(&s, false);
    assert_int_equal(suspects_deaths(&s, 10), 1);
    assert_int_equal(suspects_deaths(&s, 30), 0);
    assert_int_equal(atomic_load(&s.alone), 0);
}

static void a_full_table_keeps_the_worst(void **state)
{
    struct suspects s = {0};

    (void)state;
    die_with(&s, 0, 1000, 0);
    die_with(&s, 1000, 0, 0);
    for (uint64_t unique = 2; unique < 2 + 4 * SUSPECTS_MAX; unique += 2)
        die_with(&s, 0, unique, 0);
    assert_int_equal(suspects_deaths(&s, 1000), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_in_hand_at_a_death_are_suspects_and_others_are_not),
        cmocka_unit_test(deaths_add_up_only_for_the_one_that_ran_alone),
        cmocka_unit_test(an_answered_suspect_is_forgotten),
        cmocka_unit_test(a_death_that_is_nobodys_fault_blames_nobody_and_forgets_nobody),
        cmocka_unit_test(a_full_table_keeps_the_worst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
