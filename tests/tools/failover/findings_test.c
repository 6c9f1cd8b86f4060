/* SPDX-License-Identifier: MIT */
#include "tools/failover/findings.h"

#include "tests/support/check.h"

static void warnings_alone_refuse_nothing(void **state)
{
    (void)state;
    struct findings f = {.count = 0};
    struct err err = ERR_NONE;
    finding_add(&f, false, "the network is slow");
    assert_true(findings_refuse(&f, "web", &err));
    assert_int_equal(findings_errors(&f), 0);
}

static void a_refusal_says_the_first_error_and_how_many_follow(void **state)
{
    (void)state;
    struct findings f = {.count = 0};
    struct err err = ERR_NONE;
    finding_add(&f, false, "warning");
    finding_add(&f, true, "no %s", "room");
    assert_false(findings_refuse(&f, "web", &err));
    assert_string_equal(err.text, "no room");
    finding_add(&f, true, "no memory");
    assert_false(findings_refuse(&f, "web", &err));
    assert_string_equal(err.text, "no room (and 1 more: farshore validate web)");
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    struct findings a = {.count = 0}, b = {.count = 0};
    struct err err = ERR_NONE;
    cJSON *j AUTO_JSON = NULL;
    finding_add(&a, true, "one");
    finding_add(&a, false, "two");
    assert_true(json_make(&j, &err) && findings_write(j, "findings", &a, &err));
    assert_true(findings_read(j, "findings", &b, &err));
    assert_int_equal(b.count, 2);
    assert_true(b.rows[0].error);
    assert_false(b.rows[1].error);
    assert_string_equal(b.rows[1].text, "two");
}

static void more_than_the_bound_is_left_out(void **state)
{
    (void)state;
    struct findings f = {.count = 0};
    for (unsigned i = 0; i < FINDINGS_MAX + 5; i++)
        finding_add(&f, true, "%u", i);
    assert_int_equal(f.count, FINDINGS_MAX);
    assert_string_equal(f.rows[FINDINGS_MAX - 1].text, "63");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warnings_alone_refuse_nothing),
        cmocka_unit_test(a_refusal_says_the_first_error_and_how_many_follow),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(more_than_the_bound_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
