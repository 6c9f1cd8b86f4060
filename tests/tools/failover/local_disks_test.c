/* SPDX-License-Identifier: MIT
 * Which local files are those that a failover made. */
#include "tools/failover/local_disks.h"

#include "tests/support/check.h"

static bool ours(const char *path)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    struct err err = ERR_NONE;
    check_ok(settings_make(&s, &err), err);
    s.disk_count = 2;
    s.disks[0] = (struct settings_disk){.name = "data", .path = "/dev/vg/data"};
    s.disks[1] = (struct settings_disk){.name = "os"};
    snprintf(s.disks[1].path, sizeof s.disks[1].path, "%s", path);
    return local_disks_ours(&s);
}

static void a_file_named_for_its_disk_and_a_generation_is_ours(void **state)
{
    (void)state;
    assert_true(ours("/var/lib/farshore/disks/web/os.g0002-0123456789abcdef.img"));
}

static void no_other_name_is(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",
        "/srv/os.img",
        "/srv/os",
        "/srv/os.raw",
        "/srv/os.g0002.img",
        "/srv/os.g0002-0123456789abcdef",
        "/srv/os.g0002-0123456789abcdef.raw",
        "/srv/os.g0002-0123456789abcdef.img.old",
        "/srv/web.g0002-0123456789abcdef.img",
        "/srv/os.g0002-0123456789abcdef.img/disk",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(ours(others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_named_for_its_disk_and_a_generation_is_ours),
        cmocka_unit_test(no_other_name_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
