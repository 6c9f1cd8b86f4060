/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "tools/nearest.h"

static void the_distance_counts_letters_put_in_taken_out_and_changed(void **state)
{
    (void)state;
    assert_int_equal(word_distance("", ""), 0);
    assert_int_equal(word_distance("same", "same"), 0);
    assert_int_equal(word_distance("", "abc"), 3);
    assert_int_equal(word_distance("abc", ""), 3);
    assert_int_equal(word_distance("kitten", "sitting"), 3);
    assert_int_equal(word_distance("bandwith", "bandwidth"), 1);
}

static void of_two_near_words_the_nearer_is_meant_and_far_ones_never(void **state)
{
    (void)state;
    static const char *const known[] = {"source", "processor", "pause", "paused", NULL};
    assert_string_equal(word_nearest("procesor", known), "processor");
    assert_string_equal(word_nearest("pausd", known), "pause");
    assert_null(word_nearest("viewer", known));
    assert_null(word_nearest("", known));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_distance_counts_letters_put_in_taken_out_and_changed),
        cmocka_unit_test(of_two_near_words_the_nearer_is_meant_and_far_ones_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
