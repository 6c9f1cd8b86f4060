/* SPDX-License-Identifier: MIT */
#include "fs/disk/digest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/tmp_dir.h"

#define PATH "/d.digests"
#define KEY  UINT64_C(0x1122334455667788)

static struct digest_file *open_digests(struct world *w, const char *path)
{
    struct err err = ERR_NONE;
    struct digest_file *f = NULL;

    check_ok(digest_file_open(w, path, KEY, 3, &f, &err), err);
    return f;
}

struct fixture {
    struct world *w;
    struct digest_file *f;
};

static int set_up(void **state)
{
    struct fixture *x = calloc(1, sizeof *x);

    x->w = fake_world_make(1);
    x->f = open_digests(x->w, PATH);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *x = *state;

    digest_file_close(&x->f);
    fake_world_release(&x->w);
    free(x);
    return 0;
}

static struct block_digest digest_no(uint64_t n)
{
    struct block_digest d = {{1, 2, 3}};

    store_u64(d.bytes + 8, n);
    return d;
}

static struct block_digest read_one(struct digest_file *f, uint64_t block)
{
    struct block_digest d = digest_unknown;
    struct err err = ERR_NONE;

    check_ok(digest_file_read(f, block, 1, &d, &err), err);
    return d;
}

static void write_one(struct digest_file *f, uint64_t block, struct block_digest d)
{
    struct err err = ERR_NONE;

    check_ok(digest_file_write(f, block, 1, &d, &err), err);
}

static void assert_digest(struct digest_file *f, uint64_t block, struct block_digest wanted)
{
    struct block_digest d = read_one(f, block);

    assert_memory_equal(&d, &wanted, sizeof d);
}

static void what_was_never_written_is_zero(void **state)
{
    struct fixture *x = *state;
    struct block_digest d = read_one(x->f, 0);

    assert_true(digest_is_zero(&d));
    d = read_one(x->f, (DISK_BYTES_MAX >> BLOCK_SHIFT) - 1);
    assert_true(digest_is_zero(&d));
}

static void digests_come_back_and_survive_a_power_cut_after_sync(void **state)
{
    struct fixture *x = *state;
    struct block_digest many[100], back[100];
    struct err err = ERR_NONE;

    for (uint64_t i = 0; i < 100; i++)
        many[i] = digest_no(i);
    check_ok(digest_file_write(x->f, 250, 100, many, &err), err);
    write_one(x->f, 7, digest_unknown);
    check_ok(digest_file_sync(x->f, &err), err);
    fake_world_power_cut(x->w, 3);
    digest_file_close(&x->f);
    x->f = open_digests(x->w, PATH);
    check_ok(digest_file_read(x->f, 250, 100, back, &err), err);
    assert_memory_equal(many, back, sizeof many);
    struct block_digest d = read_one(x->f, 7);
    assert_true(digest_is_unknown(&d) && !digest_is_zero(&d));
    d = read_one(x->f, 249);
    assert_true(digest_is_zero(&d) && !digest_is_unknown(&d));
}

static void a_hole_is_zero_and_touches_no_neighbour(void **state)
{
    struct fixture *x = *state;
    struct err err = ERR_NONE;

    for (uint64_t b = 0; b < 1000; b++)
        write_one(x->f, b, digest_no(b));
    check_ok(digest_file_hole(x->f, 101, 700, &err), err);
    check_ok(digest_file_hole(x->f, 5, 0, &err), err);
    check_ok(digest_file_hole(x->f, 5000000, 12, &err), err); /* past the end */
    for (uint64_t b = 0; b < 1000; b++) {
        struct block_digest d = read_one(x->f, b);
        if (b >= 101 && b < 801)
            assert_true(digest_is_zero(&d));
        else
            assert_digest(x->f, b, digest_no(b));
    }
}

/* On a file system that knows holes, and in the fake world, next walks over them. */
static void check_next(struct digest_file *f)
{
    struct err err = ERR_NONE;
    struct extent e = {0, 0};
    bool found = true;
    uint64_t from = 0;
    const uint64_t blocks[] = {3, 100000, 100001, 9000000};
    size_t seen = 0;

    check_ok(digest_file_next(f, 0, &e, &found, &err), err);
    assert_false(found);
    for (size_t i = 0; i < 4; i++)
        write_one(f, blocks[i], digest_no(i));
    while (true) {
        check_ok(digest_file_next(f, from, &e, &found, &err), err);
        if (!found)
            break;
        assert_true(e.first >= from && e.count > 0);
        for (; seen < 4 && blocks[seen] < extent_end(e); seen++)
            assert_true(blocks[seen] >= e.first);
        assert_true(e.count < 100000); /* it did not call the holes data */
        from = extent_end(e);
    }
    assert_int_equal(seen, 4);
    check_ok(digest_file_next(f, 100001, &e, &found, &err), err);
    assert_true(found);
    assert_int_equal(e.first, 100001); /* not before what was asked for */
}

static void next_finds_every_digest_and_skips_holes(void **state)
{
    check_next(((struct fixture *)*state)->f);
}

static void next_works_on_a_real_file(void **state)
{
    struct tmp_dir dir;

    (void)state;
    tmp_dir_make(&dir);
    struct digest_file *f = open_digests(world_real(), tmp_dir_path(&dir, "digests"));
    check_next(f);
    digest_file_close(&f);
    tmp_dir_remove(&dir);
}

static void a_file_of_another_key_or_disk_is_refused(void **state)
{
    struct fixture *x = *state;
    struct err err = ERR_NONE;
    struct digest_file *f;

    check_fails(digest_file_open(x->w, PATH, KEY + 1, 3, &f, &err), err, ERR_CORRUPT);
    check_says(err, PATH);
    check_fails(digest_file_open(x->w, PATH, KEY, 4, &f, &err), err, ERR_CORRUPT);
    check_says(err, "disk 3");
}

static void a_damaged_head_is_refused(void **state)
{
    struct fixture *x = *state;
    struct err err = ERR_NONE;
    struct world_file *file;
    struct digest_file *f;

    check_ok(file_open(x->w, PATH, O_RDWR, 0, &file, &err), err);
    for (uint64_t offset = 0; offset < 64; offset++) {
        uint8_t byte, bad;
        check_ok(file_read(file, mspan_of(&byte, 1), offset, &err), err);
        bad = byte ^ 1;
        check_ok(file_write(file, span_of(&bad, 1), offset, &err), err);
        check_fails(digest_file_open(x->w, PATH, KEY, 3, &f, &err), err, ERR_CORRUPT);
        check_ok(file_write(file, span_of(&byte, 1), offset, &err), err);
    }
    assert_int_equal(x->w->ops->truncate(file, 0), 0);
    check_fails(digest_file_open(x->w, PATH, KEY, 3, &f, &err), err, ERR_CORRUPT);
    file_close(&file);
}

static void making_the_file_can_be_cut_at_any_call(void **state)
{
    bool stopped = true;

    (void)state;
    for (uint64_t calls = 1; stopped; calls++) {
        struct world *w = fake_world_make(calls);
        struct err err = ERR_NONE;
        struct digest_file *f = NULL;
        fake_world_fail(w, FAKE_ANY, calls, EIO, true);
        stopped = !digest_file_open(w, PATH, KEY, 3, &f, &err);
        fake_world_power_cut(w, calls);
        digest_file_close(&f);
        f = open_digests(w, PATH);
        digest_file_close(&f);
        fake_world_release(&w);
    }
}

static void failures_are_errors(void **state)
{
    struct fixture *x = *state;
    struct err err = ERR_NONE;
    struct block_digest d = digest_no(1);
    struct extent e;
    bool found;

    fake_world_fail(x->w, FAKE_ANY, 1, EIO, true);
    check_fails(digest_file_read(x->f, 0, 1, &d, &err), err, ERR_IO);
    check_fails(digest_file_write(x->f, 0, 1, &d, &err), err, ERR_IO);
    check_fails(digest_file_hole(x->f, 0, 1, &err), err, ERR_IO);
    check_fails(digest_file_sync(x->f, &err), err, ERR_IO);
    check_fails(digest_file_next(x->f, 0, &e, &found, &err), err, ERR_IO);
    fake_world_fail(x->w, FAKE_ANY, 0, 0, false);
}

int main(void)
{
#define with_file(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        with_file(what_was_never_written_is_zero),
        with_file(digests_come_back_and_survive_a_power_cut_after_sync),
        with_file(a_hole_is_zero_and_touches_no_neighbour),
        with_file(next_finds_every_digest_and_skips_holes),
        cmocka_unit_test(next_works_on_a_real_file),
        with_file(a_file_of_another_key_or_disk_is_refused),
        with_file(a_damaged_head_is_refused),
        cmocka_unit_test(making_the_file_can_be_cut_at_any_call),
        with_file(failures_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
