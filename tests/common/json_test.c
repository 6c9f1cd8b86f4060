/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "common/json.h"

static cJSON *parsed(const char *text)
{
    struct err err = ERR_NONE;
    cJSON *j = NULL;
    check_ok(json_parse(span_of_text(text), &j, &err), err);
    return j;
}

static void members_of_each_type_are_read(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    cJSON *j AUTO_JSON = parsed("{\"t\":\"x\",\"n\":42,\"b\":true,\"a\":[1],\"o\":{}}\n");
    const char *text;
    uint64_t n;
    bool b;
    const cJSON *tree;
    check_ok(json_text(j, "t", &text, &err), err);
    assert_string_equal(text, "x");
    check_ok(json_u64(j, "n", &n, &err), err);
    assert_int_equal(n, 42);
    check_ok(json_bool(j, "b", &b, &err), err);
    assert_true(b);
    check_ok(json_array(j, "a", &tree, &err), err);
    check_ok(json_object(j, "o", &tree, &err), err);
    assert_true(json_has(j, "t"));
    assert_false(json_has(j, "T"));
}

static void a_missing_doubled_or_mistyped_member_is_named(void **state)
{
    (void)state;
    struct err err;
    cJSON *j AUTO_JSON = parsed("{\"size\":\"x\",\"twice\":1,\"twice\":2}");
    const char *text;
    uint64_t n;
    bool b;
    const cJSON *tree;
    check_fails(json_text(j, "gone", &text, &err), err, ERR_INVALID);
    check_says(err, "\"gone\" is missing");
    check_fails(json_u64(j, "twice", &n, &err), err, ERR_INVALID);
    check_says(err, "\"twice\" is given twice");
    check_fails(json_u64(j, "size", &n, &err), err, ERR_INVALID);
    check_says(err, "\"size\" must be");
    check_fails(json_bool(j, "size", &b, &err), err, ERR_INVALID);
    check_fails(json_array(j, "size", &tree, &err), err, ERR_INVALID);
    check_fails(json_object(j, "size", &tree, &err), err, ERR_INVALID);
    check_fails(json_text(NULL, "size", &text, &err), err, ERR_INVALID);
}

static void u64_is_exact_or_refused(void **state)
{
    (void)state;
    struct err err;
    uint64_t n;
    cJSON *good AUTO_JSON = parsed("{\"a\":\"18446744073709551615\",\"b\":9007199254740991,"
                                   "\"c\":\"0\",\"d\":0}");
    check_ok(json_u64(good, "a", &n, &err), err);
    assert_int_equal(n, UINT64_MAX);
    check_ok(json_u64(good, "b", &n, &err), err);
    assert_int_equal(n, 9007199254740991ull);
    check_ok(json_u64(good, "c", &n, &err), err);
    check_ok(json_u64(good, "d", &n, &err), err);
    assert_int_equal(n, 0);
    static const char *const bad[] = {
        "{\"a\":9007199254740992}",
        "{\"a\":1e300}",
        "{\"a\":-1}",
        "{\"a\":1.5}",
        "{\"a\":\"\"}",
        "{\"a\":\"-1\"}",
        "{\"a\":\"01\"}",
        "{\"a\":\"1 \"}",
        "{\"a\":\"18446744073709551616\"}",
        "{\"a\":\"99999999999999999999999\"}",
        "{\"a\":null}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cJSON *j AUTO_JSON = parsed(bad[i]);
        check_fails(json_u64(j, "a", &n, &err), err, ERR_INVALID);
    }
}

static void unknown_members_are_named(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    static const char *const names[] = {"a", "b", NULL};
    cJSON *good AUTO_JSON = parsed("{\"a\":1}");
    cJSON *bad AUTO_JSON = parsed("{\"a\":1,\"colour\":2}");
    check_ok(json_only(good, names, &err), err);
    check_fails(json_only(bad, names, &err), err, ERR_INVALID);
    check_says(err, "colour");
}

static void text_that_is_not_one_json_value_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "{\"a\":1}x",
        "{\"a\":1} {}",
        "{\"a\" 1}",
        "\"abc",
        "\"a\nb\"",
        "\"a\\u0000b\"",
        "\"\\",
        "[1,]",
        "{\"a\":1}\x01",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cJSON *j AUTO_JSON = NULL;
        struct err err;
        check_fails(json_parse(span_of_text(bad[i]), &j, &err), err, ERR_INVALID);
    }
    cJSON *j AUTO_JSON = NULL;
    struct err err;
    check_fails(json_parse(span_of("1\0", 2), &j, &err), err, ERR_INVALID);
}

static void nesting_has_a_bound(void **state)
{
    (void)state;
    char text[2 * (JSON_DEPTH_MAX + 1)];
    struct err err = ERR_NONE;
    cJSON *j AUTO_JSON = NULL;
    for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct span s = span_of(text, 2 * depth);
        if (depth == JSON_DEPTH_MAX) {
            check_ok(json_parse(s, &j, &err), err);
            json_release(&j);
        } else {
            check_fails(json_parse(s, &j, &err), err, ERR_INVALID);
            check_says(err, "deep");
        }
    }
    j = parsed("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"");
}

static void what_is_built_reads_back(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    cJSON *array, *object, *element;
    uint64_t n;
    check_ok(json_make(&j, &err) && json_add_text(j, "t", "a\"b", &err) &&
                 json_add_u64(j, "small", (1ull << 53) - 1, &err) &&
                 json_add_u64(j, "large", UINT64_MAX, &err) && json_add_bool(j, "b", false, &err) &&
                 json_add_array(j, "a", &array, &err) &&
                 json_append_object(array, &element, &err) && json_add_u64(element, "e", 1, &err) &&
                 json_add_object(j, "o", &object, &err) && json_write(j, false, &out, &err),
             err);
    const char *wanted = "{\"t\":\"a\\\"b\",\"small\":9007199254740991,"
                         "\"large\":\"18446744073709551615\",\"b\":false,\"a\":[{\"e\":1}],"
                         "\"o\":{}}";
    assert_int_equal(out.length, strlen(wanted));
    assert_memory_equal(out.data, wanted, out.length);
    cJSON *again AUTO_JSON = NULL;
    check_ok(json_parse(buf_span(&out), &again, &err), err);
    check_ok(json_u64(again, "small", &n, &err), err);
    assert_int_equal(n, (1ull << 53) - 1);
    check_ok(json_u64(again, "large", &n, &err), err);
    assert_int_equal(n, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_of_each_type_are_read),
        cmocka_unit_test(a_missing_doubled_or_mistyped_member_is_named),
        cmocka_unit_test(u64_is_exact_or_refused),
        cmocka_unit_test(unknown_members_are_named),
        cmocka_unit_test(text_that_is_not_one_json_value_is_refused),
        cmocka_unit_test(nesting_has_a_bound),
        cmocka_unit_test(what_is_built_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
