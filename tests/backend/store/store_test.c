/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"
#include "tests/support/test_host.h"

#include "backend/store/check.h"
#include "tests/support/memory_store.h"

static void keys_follow_the_rule(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b", "..a", "a..", "...", "A-Z_0.9/x/y", ".tmp"};
    static const char *const bad[] = {"",    "/",    "/a",   "a/",       "a//b",
                                      ".",   "..",   "a/..", "../a",     "a/./b",
                                      "a b", "a\\b", "a+b",  "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!store_key_valid(good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (store_key_valid(bad[i]))
            fail_msg("accepted: %s", bad[i]);
    char key[STORE_KEY_MAX + 2];
    memset(key, 'k', sizeof key);
    key[STORE_KEY_MAX + 1] = '\0';
    assert_false(store_key_valid(key));
    key[STORE_KEY_MAX] = '\0';
    assert_true(store_key_valid(key));
}

static bool never(void *context, const char *key, uint64_t bytes)
{
    (void)context;
    (void)key;
    (void)bytes;
    return false;
}

static void what_breaks_the_rules_never_reaches_the_store(void **state)
{
    (void)state;
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    struct err err;
    uint8_t byte;
    uint64_t bytes;
    check_fails(store_put(s, "../x", span_of_text("x"), &err), err, ERR_INVALID);
    check_fails(store_put(s, "x", span_of("", STORE_OBJECT_MAX + 1ul), &err), err, ERR_INVALID);
    check_fails(store_get(s, "a//b", 0, mspan_of(&byte, 1), &err), err, ERR_INVALID);
    check_fails(store_get(s, "a", UINT64_MAX, mspan_of(&byte, 1), &err), err, ERR_CORRUPT);
    check_fails(store_size(s, "", &bytes, &err), err, ERR_INVALID);
    check_fails(store_remove(s, "/etc/passwd", &err), err, ERR_INVALID);
    check_fails(store_list(s, "a/../", NULL, never, NULL, &err), err, ERR_INVALID);
    check_fails(store_list(s, "/", NULL, never, NULL, &err), err, ERR_INVALID);
    check_fails(store_list(s, "a b", NULL, never, NULL, &err), err, ERR_INVALID);
    assert_int_equal(memory_store_calls(s), 0);
}

static void an_unknown_scheme_is_named(void **state)
{
    (void)state;
    struct store *s AUTO_STORE = NULL;
    struct err err;
    check_fails(store_open(TEST_HOST(world_real()), "ftp://host/x", false, &s, &err), err,
                ERR_INVALID);
    check_says(err, "\"ftp\"");
    check_fails(store_open(TEST_HOST(world_real()), "/just/a/path", false, &s, &err), err,
                ERR_INVALID);
    check_says(err, "file:///");
    char url[STORE_URL_MAX + 1];
    memset(url, 'x', sizeof url);
    url[STORE_URL_MAX] = '\0';
    check_fails(store_open(TEST_HOST(world_real()), url, false, &s, &err), err, ERR_INVALID);
}

struct plan {
    enum memory_op op;
    enum memory_fault fault;
    unsigned skip; /* how many calls of that kind go well first */
};

static enum memory_fault by_plan(void *context, const struct memory_call *call)
{
    struct plan *plan = context;
    if (call->op != plan->op)
        return MEMORY_PASS;
    if (plan->skip > 0) {
        plan->skip--;
        return MEMORY_PASS;
    }
    return plan->fault;
}

/* Attaches to a store that goes wrong by the plan; the text must name what it lacks. */
static void a_connection_string_is_not_shown(void **state)
{
    static const char *const given[] = {"AccountKey=Secret1;AccountName=me", "Secret=Secret1"};
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct store *s = NULL;
        struct err err = ERR_NONE;
        check_fails(store_open(TEST_HOST(world_real()), given[i], false, &s, &err), err,
                    ERR_INVALID);
        assert_null(strstr(err.text, "Secret1"));
    }
}

static void check_refused(struct plan plan, enum err_kind kind, const char *word)
{
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    struct err err;
    memory_store_hook(s, by_plan, NULL, &plan);
    check_fails(store_check(s, world_real(), "vm/", STORE_ROLE_PROCESSOR, NULL, &err), err, kind);
    check_says(err, word);
}

static void attaching_refuses_a_store_by_the_property_it_lacks(void **state)
{
    (void)state;
    check_refused((struct plan){MEMORY_PUT, MEMORY_REPLACE, 1}, ERR_INVALID, "create-if-absent");
    check_refused((struct plan){MEMORY_PUT, MEMORY_DROP, 1}, ERR_INVALID, "create-if-absent");
    check_refused((struct plan){MEMORY_PUT, MEMORY_DROP, 0}, ERR_INVALID, "does not find");
    check_refused((struct plan){MEMORY_PUT, MEMORY_CUT, 0}, ERR_INVALID, "does not give back");
    check_refused((struct plan){MEMORY_GET, MEMORY_DAMAGE, 0}, ERR_INVALID, "does not give back");
    check_refused((struct plan){MEMORY_GET, MEMORY_DAMAGE, 1}, ERR_INVALID, "part of an object");
    check_refused((struct plan){MEMORY_REMOVE, MEMORY_DROP, 0}, ERR_INVALID, "removed");
    check_refused((struct plan){MEMORY_REMOVE, MEMORY_DENY, 0}, ERR_DENIED, "denied");
    check_refused((struct plan){MEMORY_PUT, MEMORY_FAIL, 0}, ERR_TRANSIENT, "\"create\" fails");
    check_refused((struct plan){MEMORY_PUT, MEMORY_FAIL, 1}, ERR_TRANSIENT, "\"never-replace\"");
    check_refused((struct plan){MEMORY_SIZE, MEMORY_FAIL, 0}, ERR_TRANSIENT, "checking store");
}

static enum memory_fault out_of_reach(void *context, const struct memory_call *call)
{
    (void)context, (void)call;
    return MEMORY_FAIL;
}

static void a_store_out_of_reach_is_asked_no_second_time(void **state)
{
    (void)state;
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    struct store_report report;
    struct err err;
    memory_store_hook(s, out_of_reach, NULL, NULL);
    check_fails(store_check(s, world_real(), "vm/", STORE_ROLE_PROCESSOR, &report, &err), err,
                ERR_TRANSIENT);
    assert_int_equal(memory_store_calls(s), 1);
    assert_int_equal(report.properties[STORE_CREATES].verdict, STORE_UNKNOWN);
    assert_int_equal(report.properties[STORE_LISTS].verdict, STORE_NOT_ASKED);
}

static void attaching_without_the_right_to_remove_removes_nothing(void **state)
{
    (void)state;
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    struct plan plan = {MEMORY_REMOVE, MEMORY_DENY, 0};
    struct err err = ERR_NONE;
    memory_store_hook(s, by_plan, NULL, &plan);
    check_ok(store_check(s, world_real(), "vm/", STORE_ROLE_SOURCE, NULL, &err), err);
    assert_int_equal(memory_bucket_objects(b), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_follow_the_rule),
        cmocka_unit_test(what_breaks_the_rules_never_reaches_the_store),
        cmocka_unit_test(an_unknown_scheme_is_named),
        cmocka_unit_test(a_connection_string_is_not_shown),
        cmocka_unit_test(attaching_refuses_a_store_by_the_property_it_lacks),
        cmocka_unit_test(a_store_out_of_reach_is_asked_no_second_time),
        cmocka_unit_test(attaching_without_the_right_to_remove_removes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
