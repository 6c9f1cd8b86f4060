/* SPDX-License-Identifier: MIT */
#include "tools/failover/moved.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

struct host {
    struct tmp_dir dir;
    struct paths paths;
    struct world *world;
};

static int host_make(void **state)
{
    static struct host h;
    tmp_dir_make(&h.dir);
    snprintf(h.paths.state, sizeof h.paths.state, "%.500s", h.dir.path);
    h.world = world_real();
    *state = &h;
    return 0;
}

static int host_remove(void **state)
{
    tmp_dir_remove(&((struct host *)*state)->dir);
    return 0;
}

static const struct moved planned = {.host = "far", .reason = "planned failover", .ms = 1000};

static void a_host_that_nothing_left_is_not_fenced(void **state)
{
    struct host *h = *state;
    struct err err = ERR_NONE;
    struct moved m;
    bool there = true;
    check_ok(moved_read(h->world, &h->paths, "web", &m, &there, &err), err);
    assert_false(there);
    check_ok(moved_check(h->world, &h->paths, "web", &err), err);
    check_ok(moved_remove(h->world, &h->paths, "web", &err), err);
}

static void the_fence_says_where_the_vm_went_and_goes_when_it_is_removed(void **state)
{
    struct host *h = *state;
    struct err err = ERR_NONE;
    struct moved m;
    bool there = false;
    check_ok(moved_write(h->world, &h->paths, "web", &planned, &err), err);
    check_ok(moved_read(h->world, &h->paths, "web", &m, &there, &err), err);
    assert_true(there);
    assert_string_equal(m.host, "far");
    assert_string_equal(m.reason, "planned failover");
    assert_int_equal(m.ms, 1000);
    check_fails(moved_check(h->world, &h->paths, "web", &err), err, ERR_FENCED);
    check_says(err, "to far");
    check_says(err, "planned failover");
    check_says(err, "1970-01-01T00:00:01.000Z");
    err = ERR_NONE;
    check_ok(moved_check(h->world, &h->paths, "other", &err), err);
    check_ok(moved_remove(h->world, &h->paths, "web", &err), err);
    check_ok(moved_check(h->world, &h->paths, "web", &err), err);
}

static void put_in_place(struct host *h, const void *bytes, size_t length)
{
    struct err err = ERR_NONE;
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/vms/web", h->paths.state);
    check_ok(dir_make(h->world, path, 0700, &err), err);
    snprintf(path, sizeof path, "%s/vms/web/moved", h->paths.state);
    check_ok(file_replace(h->world, path, 0600, (struct span){bytes, length}, &err), err);
}

static void a_fence_that_cannot_be_understood_is_a_fence(void **state)
{
    struct host *h = *state;
    struct err err = ERR_NONE;
    static char large[8192];
    memset(large, ' ', sizeof large);
    put_in_place(h, "", 0);
    check_fails(moved_check(h->world, &h->paths, "web", &err), err, ERR_FENCED);
    check_says(err, "cannot be understood");
    put_in_place(h, "{\"host\": 7}", 11);
    check_fails(moved_check(h->world, &h->paths, "web", &err), err, ERR_FENCED);
    put_in_place(h, large, sizeof large);
    check_fails(moved_check(h->world, &h->paths, "web", &err), err, ERR_FENCED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_host_that_nothing_left_is_not_fenced, host_make,
                                        host_remove),
        cmocka_unit_test_setup_teardown(
            the_fence_says_where_the_vm_went_and_goes_when_it_is_removed, host_make, host_remove),
        cmocka_unit_test_setup_teardown(a_fence_that_cannot_be_understood_is_a_fence, host_make,
                                        host_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
