/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "tests/support/check.h"

static void set_keeps_kind_and_text_and_returns_false(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(err_set(&err, ERR_BUSY, "disk %d", 7));
    assert_int_equal(err.kind, ERR_BUSY);
    assert_string_equal(err.text, "disk 7");
}

static void a_null_err_is_allowed_everywhere(void **state)
{
    (void)state;
    assert_false(err_set(NULL, ERR_BUSY, "x"));
    assert_false(err_errno(NULL, ENOENT, "x"));
    assert_false(err_wrap(NULL, "x"));
}

static void errno_values_map_to_what_a_caller_may_do(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum err_kind kind;
    } cases[] = {{ENOENT, ERR_NOT_FOUND}, {EEXIST, ERR_EXISTS},      {EACCES, ERR_DENIED},
                 {EPERM, ERR_DENIED},     {EROFS, ERR_DENIED},       {ENOSPC, ERR_FULL},
                 {EDQUOT, ERR_FULL},      {ENOMEM, ERR_FULL},        {EBUSY, ERR_BUSY},
                 {EINVAL, ERR_INVALID},   {EAGAIN, ERR_TRANSIENT},   {EINTR, ERR_TRANSIENT},
                 {EIO, ERR_IO},           {ETIMEDOUT, ERR_TRANSIENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_NONE;
        assert_false(err_errno(&err, cases[i].errnum, "x"));
        assert_int_equal(err.kind, cases[i].kind);
    }
}

static void errno_text_is_appended(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(err_errno(&err, ENOENT, "cannot open %s", "/f"));
    assert_string_equal(err.text, "cannot open /f: No such file or directory");
}

static void wrap_puts_a_clause_in_front_and_keeps_the_kind(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    assert_false(err_set(&err, ERR_CORRUPT, "bad length"));
    assert_false(err_wrap(&err, "segment %s", "abc"));
    assert_string_equal(err.text, "segment abc: bad length");
    assert_int_equal(err.kind, ERR_CORRUPT);
}

static void long_texts_are_cut_and_terminated(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    char text[2 * ERR_TEXT_MAX];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_false(err_errno(&err, EIO, "%s", text));
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
    assert_false(err_wrap(&err, "%s", text));
    assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void every_kind_has_a_name_and_a_positive_errno(void **state)
{
    (void)state;
    for (int kind = 0; kind < ERR_KINDS; kind++) {
        assert_string_not_equal(err_kind_name((enum err_kind)kind), "unknown");
        assert_true(err_to_errno((enum err_kind)kind) > 0);
    }
    assert_string_equal(err_kind_name(ERR_KINDS), "unknown");
    assert_int_equal(err_to_errno(ERR_FULL), ENOSPC);
    assert_int_equal(err_to_errno(ERR_KINDS), EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_keeps_kind_and_text_and_returns_false),
        cmocka_unit_test(a_null_err_is_allowed_everywhere),
        cmocka_unit_test(errno_values_map_to_what_a_caller_may_do),
        cmocka_unit_test(errno_text_is_appended),
        cmocka_unit_test(wrap_puts_a_clause_in_front_and_keeps_the_kind),
        cmocka_unit_test(long_texts_are_cut_and_terminated),
        cmocka_unit_test(every_kind_has_a_name_and_a_positive_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
