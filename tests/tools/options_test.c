/* SPDX-License-Identifier: MIT */
#include "tools/options.h"

#include <string.h>

#include "tests/support/check.h"

static const struct option_spec specs[] = {
    {"json", NULL, false, false, "A flag."},
    {"disk", "NAME=PATH", false, true, "Many."},
    {"timeout", "SECONDS", false, false, "One."},
    {"wait", "target", true, false, "Optional."},
    OPTIONS_END,
};

static bool parse(struct options *o, struct err *err, int argc, ...)
{
    char *argv[16];
    va_list args;
    va_start(args, argc);
    for (int i = 0; i < argc; i++)
        argv[i] = va_arg(args, char *);
    va_end(args);
    *err = ERR_NONE;
    return options_parse(specs, argc, argv, o, err);
}

static void options_and_operands_mix(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    assert_true(parse(&o, &err, 6, "vm", "--disk", "a=/x", "dir", "--disk=b=/y", "--json"));
    assert_int_equal(o.operand_count, 2);
    assert_string_equal(o.operands[1], "dir");
    assert_int_equal(option_count(&o, "disk"), 2);
    assert_string_equal(option_value(&o, "disk", 0), "a=/x");
    assert_string_equal(option_value(&o, "disk", 1), "b=/y");
    assert_null(option_value(&o, "disk", 2));
    assert_true(option_given(&o, "json"));
    assert_false(option_given(&o, "wait"));
}

static void an_optional_value_needs_the_equals_sign(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    assert_true(parse(&o, &err, 2, "--wait", "target"));
    assert_true(option_given(&o, "wait"));
    assert_null(option_value(&o, "wait", 0));
    assert_string_equal(o.operands[0], "target");
    assert_true(parse(&o, &err, 1, "--wait=target"));
    assert_string_equal(option_value(&o, "wait", 0), "target");
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    assert_true(parse(&o, &err, 3, "--", "--json", "--help"));
    assert_int_equal(o.operand_count, 2);
    assert_false(option_given(&o, "json"));
    assert_false(o.help);
}

static void wrong_words_are_refused_by_name(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    assert_false(parse(&o, &err, 1, "--jsn"));
    assert_non_null(strstr(err.text, "--jsn"));
    assert_false(parse(&o, &err, 1, "--js")); /* no abbreviations */
    assert_false(parse(&o, &err, 1, "-j"));
    assert_false(parse(&o, &err, 1, "--json=yes"));
    assert_false(parse(&o, &err, 1, "--timeout"));
    assert_false(parse(&o, &err, 1, "--timeout="));
    assert_false(parse(&o, &err, 4, "--timeout", "1", "--timeout", "2"));
    assert_int_equal(err.kind, ERR_INVALID);
}

static void help_wins_over_mistakes(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    assert_true(parse(&o, &err, 2, "--nonsense", "--help"));
    assert_true(o.help);
}

static void numbers_are_whole_and_bounded(void **state)
{
    (void)state;
    struct options o;
    struct err err;
    uint64_t v;
    static char *const wrong[] = {"0", "11", "x", "1x", "-1", "+1", " 1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_true(parse(&o, &err, 2, "--timeout", wrong[i]));
        assert_false(option_number(&o, "timeout", 5, 1, 10, &v, &err));
    }
    assert_true(parse(&o, &err, 2, "--timeout", "10"));
    assert_true(option_number(&o, "timeout", 5, 1, 10, &v, &err));
    assert_int_equal(v, 10);
    assert_true(parse(&o, &err, 0));
    assert_true(option_number(&o, "timeout", 5, 1, 10, &v, &err));
    assert_int_equal(v, 5);
}

static void sizes_have_a_unit_and_a_bound(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",  "0",   "-1", " 1",   "1k", "1P",
                                        "K", "1KK", "x",  "1025", "2K", "99999999999999999999"};
    struct err err = ERR_NONE;
    uint64_t bytes;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_fails(size_parse(wrong[i], 1024, &bytes, &err), err, ERR_INVALID);
    check_ok(size_parse("1K", 1024, &bytes, &err), err);
    assert_int_equal(bytes, 1024);
    check_ok(size_parse("3T", UINT64_MAX, &bytes, &err), err);
    assert_true(bytes == 3ull << 40);
}

static void more_words_than_the_bound_are_refused(void **state)
{
    (void)state;
    char word[] = "vm", option[] = "--disk=a";
    char *argv[OPERANDS_MAX + 1];
    struct options o;
    struct err err = ERR_NONE;
    for (size_t i = 0; i <= OPERANDS_MAX; i++)
        argv[i] = word;
    assert_true(options_parse(specs, OPERANDS_MAX, argv, &o, &err));
    assert_false(options_parse(specs, OPERANDS_MAX + 1, argv, &o, &err));
    for (size_t i = 0; i <= OPTIONS_GIVEN_MAX; i++)
        argv[i] = option;
    assert_true(options_parse(specs, OPTIONS_GIVEN_MAX, argv, &o, &err));
    assert_false(options_parse(specs, OPTIONS_GIVEN_MAX + 1, argv, &o, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_mix),
        cmocka_unit_test(an_optional_value_needs_the_equals_sign),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(wrong_words_are_refused_by_name),
        cmocka_unit_test(help_wins_over_mistakes),
        cmocka_unit_test(numbers_are_whole_and_bounded),
        cmocka_unit_test(sizes_have_a_unit_and_a_bound),
        cmocka_unit_test(more_words_than_the_bound_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
