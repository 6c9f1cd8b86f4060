/* SPDX-License-Identifier: MIT
 * This program is the one that self_run starts: with a word it plays a verb. */
#include "tests/support/check.h"
#include "tools/self_run.h"
#include "tools/verb.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static int play(const char *verb)
{
    if (strcmp(verb, "busy") == 0) {
        fprintf(stderr, "farshore: something else\nfarshore: somebody holds it\n");
        return EXIT_BUSY;
    }
    if (strcmp(verb, "loud") == 0) {
        for (int i = 0; i < 20000; i++)
            fprintf(stderr, "line %d\n", i);
        fprintf(stderr, "farshore: the end\n");
        return EXIT_FAILED;
    }
    if (strcmp(verb, "killed") == 0)
        raise(SIGKILL);
    if (strcmp(verb, "quiet") == 0)
        return EXIT_CORRUPT;
    return puts("this goes nowhere") < 0;
}

static void success_is_success(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_true(self_run((const char *const[]){"good", "operand", NULL}, &err));
}

static void a_failure_has_the_kind_and_the_last_line_of_the_verb(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(self_run((const char *const[]){"busy", NULL}, &err));
    assert_int_equal(err.kind, ERR_BUSY);
    assert_string_equal(err.text, "farshore busy: somebody holds it");
}

static void of_much_that_it_says_the_end_is_told(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(self_run((const char *const[]){"loud", NULL}, &err));
    assert_string_equal(err.text, "farshore loud: the end");
}

static void a_verb_that_was_killed_or_said_nothing_is_a_failure(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(self_run((const char *const[]){"killed", NULL}, &err));
    assert_int_equal(err.kind, ERR_IO);
    assert_false(self_run((const char *const[]){"quiet", NULL}, &err));
    assert_int_equal(err.kind, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "without a word"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return play(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_is_success),
        cmocka_unit_test(a_failure_has_the_kind_and_the_last_line_of_the_verb),
        cmocka_unit_test(of_much_that_it_says_the_end_is_told),
        cmocka_unit_test(a_verb_that_was_killed_or_said_nothing_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
