/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "backend/history/generation.h"

#define VM63 "abcdefghijklmnopqrstuvwxyz0123456789._-abcdefghijklmnopqrstuvwx"

static void vm_names_follow_the_rule(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0", "web-1.example_com", "a..", VM63};
    static const char *const bad[] = {"",    ".",   "-a",  "_a",     ".a",      "A",
                                      "a/b", "a b", "a\n", VM63 "x", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(vm_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vm_name_valid(bad[i]));
}

static void disk_names_have_no_dot_and_31_characters(void **state)
{
    (void)state;
    assert_true(disk_name_valid("root-disk_0"));
    assert_true(disk_name_valid("abcdefghijklmnopqrstuvwxyz01234"));
    assert_false(disk_name_valid("abcdefghijklmnopqrstuvwxyz012345"));
    assert_false(disk_name_valid("a.img"));
    assert_false(disk_name_valid("-a"));
    assert_false(disk_name_valid(""));
}

static void a_generation_has_one_name_that_reads_back(void **state)
{
    (void)state;
    static const struct {
        struct generation g;
        const char *name;
    } cases[] = {
        {{1, 0x0123456789abcdefull}, "g0001-0123456789abcdef"},
        {{9999, 1}, "g9999-0000000000000001"},
        {{10000, UINT64_MAX}, "g10000-ffffffffffffffff"},
        {{UINT32_MAX, UINT64_MAX}, "g4294967295-ffffffffffffffff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[GENERATION_NAME_MAX];
        struct generation g;
        generation_name(cases[i].g, name);
        assert_string_equal(name, cases[i].name);
        assert_true(generation_parse(name, &g));
        assert_int_equal(g.number, cases[i].g.number);
        assert_int_equal(g.id, cases[i].g.id);
    }
}

static void other_spellings_of_a_generation_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "g",
                                      "g0001",
                                      "g0001-",
                                      "parts",
                                      "g1-0123456789abcdef",
                                      "g00001-0123456789abcdef",
                                      "g0000-0123456789abcdef",
                                      "g0001-0123456789ABCDEF",
                                      "g0001-0123456789abcde",
                                      "g0001-0123456789abcdef0",
                                      "g0001-0000000000000000",
                                      "g4294967296-0123456789abcdef",
                                      "h0001-0123456789abcdef",
                                      "g0001_0123456789abcdef",
                                      " g0001-0123456789abcdef"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct generation g;
        if (generation_parse(bad[i], &g))
            fail_msg("accepted: %s", bad[i]);
    }
}

static void keys_are_as_documented(void **state)
{
    (void)state;
    static const struct generation g = {1, 0x0123456789abcdefull};
    char key[KEY_MAX];
    key_epoch(key, "vm", g, 12);
    assert_string_equal(key, "vm/g0001-0123456789abcdef/0000000000000012");
    key_part(key, "vm", g, 12, 0xabc, 3);
    assert_string_equal(key,
                        "vm/g0001-0123456789abcdef/parts/0000000000000012-0000000000000abc-0003");
    key_progress(key, "vm", 12);
    assert_string_equal(key, "vm/progress/0000000000000012");
    key_vault(key, "vm");
    assert_string_equal(key, "vm/vault");
    key_history(key, "vm", 12);
    assert_string_equal(key, "vm/history/0000000000000012");
    key_segment(key, "vm", "00ff");
    assert_string_equal(key, "vm/segments/00ff");
    key_pin(key, "vm", "lease-1");
    assert_string_equal(key, "vm/pins/lease-1");
}

static void the_longest_key_is_a_valid_store_key(void **state)
{
    (void)state;
    static const struct generation g = {UINT32_MAX, UINT64_MAX};
    char key[KEY_MAX];
    key_part(key, VM63, g, UINT64_MAX, UINT64_MAX, UINT32_MAX);
    assert_true(strlen(key) < KEY_MAX - 1);
    assert_true(store_key_valid(key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vm_names_follow_the_rule),
        cmocka_unit_test(disk_names_have_no_dot_and_31_characters),
        cmocka_unit_test(a_generation_has_one_name_that_reads_back),
        cmocka_unit_test(other_spellings_of_a_generation_are_refused),
        cmocka_unit_test(keys_are_as_documented),
        cmocka_unit_test(the_longest_key_is_a_valid_store_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
