/* SPDX-License-Identifier: MIT */
#include "tools/failover/target_settings.h"

#include "tests/support/check.h"

static void known_keys_take_what_they_mean(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"hosts", "b"},
        {"hosts", "b1,b2.example"},
        {"resource-group", "shop"},
        {"availability-set", "web_1"},
        {"name", "Web-1"},
        {"network", "lan"},
        {"network.0", "lan"},
        {"subnet", "10.0.0.0/24"},
        {"subnet.31", "fd00::/64"},
        {"address", "10.0.0.5"},
        {"address.2", "fd00::5"},
        {"test-network", "lab"},
        {"folder", "/srv/disks"},
        {"mount", "/srv/mounts/web"},
        {"back-cache", "file:///srv/back"},
        {"back-target", "azure://acc/con/prefix?endpoint=http://127.0.0.1:1/acc"},
        {"memory-check", "off"},
        {"cpu-check", "on"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct err err = ERR_NONE;
        check_ok(target_setting_check(good[i][0], good[i][1], &err), err);
    }
}

static void what_is_no_value_is_refused_by_the_keys_name(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"hosts", "B"},          {"hosts", "b,"},          {"hosts", ",b"},
        {"hosts", "b, c"},       {"resource-group", ".x"}, {"availability-set", "a b"},
        {"name", "-web"},        {"name", "../web"},       {"network", "la n"},
        {"subnet", "x y"},       {"address", "10.0.0"},    {"address.1", "10.0.0.0/24"},
        {"test-network", "a/b"}, {"folder", "disks"},      {"mount", "mounts"},
        {"back-cache", "/srv"},  {"back-target", "s3://"}, {"memory-check", "yes"},
        {"cpu-check", "1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err;
        check_fails(target_setting_check(bad[i][0], bad[i][1], &err), err, ERR_INVALID);
        check_says(err, bad[i][0]);
    }
}

static void an_unknown_key_is_refused_with_the_nearest(void **state)
{
    (void)state;
    struct err err;
    check_fails(target_setting_check("netwerk", "lan", &err), err, ERR_INVALID);
    check_says(err, "network");
    check_fails(target_setting_check("folder.1", "/x", &err), err, ERR_INVALID);
    check_fails(target_setting_check("network.32", "x", &err), err, ERR_INVALID);
    check_fails(target_setting_check("network.01", "x", &err), err, ERR_INVALID);
    check_fails(target_setting_check("network.", "x", &err), err, ERR_INVALID);
    check_fails(target_setting_check("zzzzzzzzz", "x", &err), err, ERR_INVALID);
    check_says(err, "resource-group");
}

static void settings_are_set_replaced_and_unset(void **state)
{
    (void)state;
    struct target_settings s = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(target_setting_set(&s, "name", "x", &err), err);
    check_ok(target_setting_set(&s, "folder", "/f", &err), err);
    check_ok(target_setting_set(&s, "name", "y", &err), err);
    assert_int_equal(s.count, 2);
    assert_string_equal(target_setting(&s, "name"), "y");
    assert_string_equal(target_setting(&s, "folder"), "/f");
    check_ok(target_setting_set(&s, "folder", "", &err), err);
    assert_null(target_setting(&s, "folder"));
    assert_string_equal(target_setting(&s, "name"), "y");
    check_fails(target_setting_set(&s, "folders", "", &err), err, ERR_INVALID);
}

static void a_nic_has_its_own_network_else_that_of_all(void **state)
{
    (void)state;
    struct target_settings s = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(target_setting_set(&s, "network", "all", &err), err);
    check_ok(target_setting_set(&s, "network.1", "one", &err), err);
    check_ok(target_setting_set(&s, "address", "10.0.0.5", &err), err);
    assert_string_equal(target_setting_nic(&s, "network", 0), "all");
    assert_string_equal(target_setting_nic(&s, "network", 1), "one");
    assert_string_equal(target_setting_nic(&s, "address", 0), "10.0.0.5");
    assert_null(target_setting_nic(&s, "address", 1)); /* no two NICs have one address */
}

static void hosts_come_one_by_one_and_checks_are_on_unless_set_off(void **state)
{
    (void)state;
    struct target_settings s = {.count = 0};
    struct err err = ERR_NONE;
    char host[64];
    assert_false(target_setting_host(&s, 0, host, sizeof host));
    assert_true(target_setting_on(&s, "cpu-check"));
    check_ok(target_setting_set(&s, "hosts", "b,c2", &err), err);
    check_ok(target_setting_set(&s, "cpu-check", "off", &err), err);
    assert_true(target_setting_host(&s, 1, host, sizeof host));
    assert_string_equal(host, "c2");
    assert_false(target_setting_host(&s, 2, host, sizeof host));
    assert_false(target_setting_on(&s, "cpu-check"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_keys_take_what_they_mean),
        cmocka_unit_test(what_is_no_value_is_refused_by_the_keys_name),
        cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest),
        cmocka_unit_test(settings_are_set_replaced_and_unset),
        cmocka_unit_test(a_nic_has_its_own_network_else_that_of_all),
        cmocka_unit_test(hosts_come_one_by_one_and_checks_are_on_unless_set_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
