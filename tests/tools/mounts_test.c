/* SPDX-License-Identifier: MIT */
#include "tools/mounts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static const char table[] =
    "22 28 0:20 / /proc rw,relatime shared:5 - proc proc rw\n"
    "30 28 0:40 / /mnt/a\\040b rw - fuse.farshore farshore:vm1 rw,user_id=0\n"
    "31 28 0:41 / /mnt/two rw master:1 shared:2 - tmpfs none rw\n"
    "32 31 0:42 / /mnt/two rw - fuse.farshore farshore:vm2 rw\n"
    "33 28 0:43 / /mnt/view ro - fuse.farshore farshore rw\n"
    "not a line\n"
    "34 28 0:44 / /mnt/short rw";

static void a_mount_point_is_found_with_its_escapes_undone(void **state)
{
    (void)state;
    struct mount_entry e;
    const char *vm;
    assert_true(mount_find_in(span_of_text(table), "/mnt/a b", &e));
    assert_true(mount_is_ours(&e, &vm));
    assert_string_equal(vm, "vm1");
}

static void the_uppermost_of_two_mounts_counts(void **state)
{
    (void)state;
    struct mount_entry e;
    const char *vm;
    assert_true(mount_find_in(span_of_text(table), "/mnt/two", &e));
    assert_true(mount_is_ours(&e, &vm));
    assert_string_equal(vm, "vm2");
}

static void foreign_and_torn_lines_are_not_ours(void **state)
{
    (void)state;
    struct mount_entry e;
    const char *vm;
    assert_true(mount_find_in(span_of_text(table), "/proc", &e));
    assert_false(mount_is_ours(&e, &vm));
    assert_false(mount_find_in(span_of_text(table), "/mnt/short", &e));
    assert_false(mount_find_in(span_of_text(table), "/mnt", &e));
    assert_true(mount_find_in(span_of_text(table), "/mnt/view", &e));
    assert_true(mount_is_ours(&e, &vm));
    assert_string_equal(vm, ""); /* a recovery mount */
}

static void a_path_is_made_absolute_without_looking_at_its_end(void **state)
{
    (void)state;
    char out[PATH_MAX], cwd[PATH_MAX], wanted[2 * PATH_MAX];
    struct err err = ERR_NONE;
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_true(mount_path("no-such-thing/", out, &err));
    snprintf(wanted, sizeof wanted, "%s/no-such-thing", cwd);
    assert_string_equal(out, wanted);
    assert_true(mount_path("/no-such-thing", out, &err));
    assert_string_equal(out, "/no-such-thing");
    assert_true(mount_path(".", out, &err));
    assert_string_equal(out, cwd);
    assert_true(mount_path("/", out, &err));
    assert_string_equal(out, "/");
    assert_false(mount_path("", out, &err));
    assert_false(mount_path("/no-such-thing/below", out, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mount_point_is_found_with_its_escapes_undone),
        cmocka_unit_test(the_uppermost_of_two_mounts_counts),
        cmocka_unit_test(foreign_and_torn_lines_are_not_ours),
        cmocka_unit_test(a_path_is_made_absolute_without_looking_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
