/* SPDX-License-Identifier: MIT
 * The stores of the way back. */
#include "tests/support/check.h"
#include "tools/failover/other_vault.h"

struct rig {
    struct vm vm;
    struct protection *p;
    struct flow f;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct err err = ERR_NONE;
    uint16_t index;
    assert_true(settings_make(&rig->vm.settings, &err));
    assert_true(settings_store(&rig->vm.settings,
                               "azure://near/cache/p?endpoint=http://127.0.0.1:1", "file:///far/",
                               &index, &err));
    assert_true(protection_make(&rig->p, &err));
    rig->f = (struct flow){.vm = &rig->vm, .protection = rig->p};
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    protection_release(&rig->p);
    settings_release(&rig->vm.settings);
    free(rig);
    return 0;
}

static void they_are_folders_in_the_stores_that_the_vm_has_the_other_way_round(void **state)
{
    struct rig *rig = *state;
    struct vault_stores s;
    struct err err = ERR_NONE;
    assert_true(other_vault_stores(&rig->f, &s, &err));
    assert_string_equal(s.cache, "file:///far/_back-cache");
    assert_string_equal(s.target, "azure://near/cache/p/_back-vault?endpoint=http://127.0.0.1:1");
}

static void settings_name_others(void **state)
{
    struct rig *rig = *state;
    struct vault_stores s;
    struct err err = ERR_NONE;
    assert_true(target_setting_set(&rig->p->settings, "back-cache", "file:///c", &err));
    assert_true(target_setting_set(&rig->p->settings, "back-target", "file:///t", &err));
    assert_true(other_vault_stores(&rig->f, &s, &err));
    assert_string_equal(s.cache, "file:///c");
    assert_string_equal(s.target, "file:///t");
}

static void a_url_without_room_for_the_folder_is_refused(void **state)
{
    struct rig *rig = *state;
    struct vault_stores s;
    struct err err = ERR_NONE;
    char *target = rig->vm.settings.stores[0].target;
    memset(target, 'x', STORE_URL_MAX - 1);
    memcpy(target, "file:///", 8);
    assert_false(other_vault_stores(&rig->f, &s, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            they_are_folders_in_the_stores_that_the_vm_has_the_other_way_round, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_name_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_url_without_room_for_the_folder_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
