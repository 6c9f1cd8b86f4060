/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "tools/verb.h"

#include <string.h>

static void every_kind_of_error_has_its_exit_code(void **state)
{
    (void)state;
    assert_int_equal(exit_code_of(ERR_OK), 0);
    assert_int_equal(exit_code_of(ERR_IO), 1);
    assert_int_equal(exit_code_of(ERR_INVALID), 2);
    assert_int_equal(exit_code_of(ERR_NOT_FOUND), 3);
    assert_int_equal(exit_code_of(ERR_FENCED), 4);
    assert_int_equal(exit_code_of(ERR_TRANSIENT), 5);
    assert_int_equal(exit_code_of(ERR_WRONG_KEY), 6);
    assert_int_equal(exit_code_of(ERR_CORRUPT), 7);
    assert_int_equal(exit_code_of(ERR_BUSY), 8);
}

static void a_misspelt_verb_finds_the_one_that_was_meant(void **state)
{
    (void)state;
    assert_string_equal(verb_nearest("enabel"), "enable");
    assert_string_equal(verb_nearest("stats"), "status");
    assert_string_equal(verb_nearest("jion"), "join");
    assert_null(verb_nearest("worke")); /* hidden */
    assert_null(verb_nearest("quite-something-else-that-is-very-long-indeed"));
}

static void every_verb_tells_what_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; verbs[i]; i++) {
        const struct verb *v = verbs[i];
        assert_true(strlen(v->summary) > 0 && strlen(v->summary) < 60);
        assert_true(v->operands_least <= v->operands_most && v->operands_most <= OPERANDS_MAX);
        assert_non_null(v->run);
        for (const struct option_spec *o = v->options; o->name; o++) {
            assert_non_null(o->help);
            assert_true(o->help[strlen(o->help) - 1] == '.');
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_error_has_its_exit_code),
        cmocka_unit_test(a_misspelt_verb_finds_the_one_that_was_meant),
        cmocka_unit_test(every_verb_tells_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
