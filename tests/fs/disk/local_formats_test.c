/* SPDX-License-Identifier: MIT
 * The bytes of the source's own files stay what docs/FORMAT.md says: a worker of a newer version
 * opens what an older one left. */
#include "common/file.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/journal.h"
#include "fs/disk/marks.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"

static struct world *world;

static int set_up(void **state)
{
    (void)state;
    world = fake_world_make(1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_world_release(&world);
    return 0;
}

static void is_golden(const char *path, const char *sha256)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    char hex[2 * SHA256_BYTES + 1];
    check_ok(file_load(world, path, 1u << 20, &bytes, &err), err);
    struct sha256 sum = sha256_of(buf_span(&bytes));
    hex_of(sum.bytes, sizeof sum.bytes, hex);
    assert_string_equal(hex, sha256);
}

static void the_marks_file_is_as_it_was(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct marks *m = NULL;
    check_ok(marks_open(world, "/marks", (11u << REGION_SHIFT) + 5, &m, &err), err);
    marks_close(&m);
    is_golden("/marks", "f74eacaa7c3d042c492865e79b9f0f6e2e527c539e736b1112192c2e2a1f5e66");
}

static void the_digest_file_is_as_it_was(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct digest_file *f = NULL;
    struct block_digest digests[2] = {{.bytes = {1, 2, 3}}, {.bytes = {4, 5, 6}}};
    check_ok(digest_file_open(world, "/digests", 0x1122334455667788, 3, &f, &err), err);
    check_ok(digest_file_write(f, 7, 2, digests, &err), err);
    check_ok(digest_file_write(f, 9, 1, &digest_unknown, &err), err);
    digest_file_close(&f);
    is_golden("/digests", "41438f19318839b9882f1a897fce8e5f20320b4f7eaed912cdda2737ce02a042");
}

static void the_journal_is_as_it_was(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct journal *j = NULL;
    struct buf changes AUTO_BUF = BUF_NONE;
    struct block_digest digest = {.bytes = {9, 8, 7}};
    changes_add_digests(&changes, 1, 5, 1, &digest);
    changes_add_hole(&changes, 2, 100, 1u << 20);
    struct journal_attempt a = {.attempt = 77,
                                .digest = {.bytes = {0xaa}},
                                .kind = EPOCH_CUT,
                                .point_ms = 1795377903000,
                                .changes = buf_span(&changes)};
    struct generation g = {.number = 4, .id = 0x0123456789abcdef};
    check_ok(journal_open(world, "/journal", g, &j, &err), err);
    check_ok(journal_add(j, 12, &a, &err), err);
    journal_close(&j);
    is_golden("/journal", "37b2a6f08548fb7b7f50d50404d98e7ab7513bbb0c52e8751774bf2e80099448");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_marks_file_is_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_digest_file_is_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_journal_is_as_it_was, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
