/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/file.h"
#include "tests/support/fake_world.h"
#include "tests/support/tmp_dir.h"

static int set_up(void **state)
{
    static struct tmp_dir dir;
    tmp_dir_make(&dir);
    *state = &dir;
    return 0;
}

static int tear_down(void **state)
{
    tmp_dir_remove(*state);
    return 0;
}

static struct world_file *opened(const char *path, int flags)
{
    struct err err = ERR_NONE;
    struct world_file *f = NULL;
    check_ok(file_open(world_real(), path, flags, 0600, &f, &err), err);
    return f;
}

static void what_is_written_is_read_and_zeros_follow(void **state)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = opened(tmp_dir_path(*state, "f"), O_RDWR | O_CREAT);
    uint8_t out[8];
    memset(out, 9, sizeof out);
    check_ok(file_write(f, span_of_text("abc"), 2, &err), err);
    check_ok(file_sync(f, &err), err);
    check_ok(file_read(f, mspan_of(out, sizeof out), 0, &err), err);
    assert_memory_equal(out, "\0\0abc\0\0\0", sizeof out);
}

static void errors_name_the_path(void **state)
{
    struct err err;
    struct world_file *f AUTO_FILE = NULL;
    uint8_t byte;
    check_fails(file_open(world_real(), tmp_dir_path(*state, "gone"), O_RDONLY, 0, &f, &err), err,
                ERR_NOT_FOUND);
    check_says(err, "gone");
    f = opened(tmp_dir_path(*state, "write-only"), O_WRONLY | O_CREAT);
    assert_false(file_read(f, mspan_of(&byte, 1), 0, &err));
    check_says(err, "write-only");
}

static void create_makes_a_whole_file_and_never_touches_one_that_is_there(void **state)
{
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "once");
    struct buf out AUTO_BUF = BUF_NONE;
    struct stat st;
    check_ok(file_create(world_real(), path, 0600, span_of_text("first"), &err), err);
    check_fails(file_create(world_real(), path, 0600, span_of_text("second"), &err), err,
                ERR_EXISTS);
    check_ok(file_load(world_real(), path, 100, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of_text("first")));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void load_takes_the_whole_file_and_refuses_a_longer_one(void **state)
{
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    const char *path = tmp_dir_path(*state, "f");
    check_ok(file_replace(world_real(), path, 0600, span_of_text("hello"), &err), err);
    buf_put_u64(&out, 1);
    check_ok(file_load(world_real(), path, 5, &out, &err), err);
    assert_int_equal(out.length, 5);
    assert_memory_equal(out.data, "hello", 5);
    check_fails(file_load(world_real(), path, 4, &out, &err), err, ERR_CORRUPT);
    check_fails(file_load(world_real(), tmp_dir_path(*state, ""), 4096, &out, &err), err,
                ERR_INVALID);
}

static void replace_leaves_the_new_content_mode_and_nothing_else(void **state)
{
    struct err err = ERR_NONE;
    struct stat st;
    struct buf out AUTO_BUF = BUF_NONE;
    const char *path = tmp_dir_path(*state, "f");
    const char *fresh = tmp_dir_path(*state, "f.new");
    /* A crashed replace left a file that others may read. */
    file_close(&(struct world_file *){opened(fresh, O_WRONLY | O_CREAT)});
    assert_int_equal(chmod(fresh, 0644), 0);
    check_ok(file_replace(world_real(), path, 0600, span_of_text("one"), &err), err);
    check_ok(file_replace(world_real(), path, 0600, span_of_text("second"), &err), err);
    check_ok(file_load(world_real(), path, 100, &out, &err), err);
    assert_int_equal(out.length, 6);
    assert_memory_equal(out.data, "second", 6);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(fresh, &st), -1);
}

static void remove_of_a_missing_file_is_success(void **state)
{
    struct err err = ERR_NONE;
    struct stat st;
    const char *path = tmp_dir_path(*state, "f");
    check_ok(file_replace(world_real(), path, 0600, span_of_text("x"), &err), err);
    check_ok(file_remove(world_real(), path, &err), err);
    assert_int_equal(stat(path, &st), -1);
    check_ok(file_remove(world_real(), path, &err), err);
    check_ok(file_remove(world_real(), tmp_dir_path(*state, "no/such"), &err), err);
}

static void dir_make_makes_every_level_and_accepts_what_is_there(void **state)
{
    struct err err = ERR_NONE;
    struct stat st;
    const char *deep = tmp_dir_path(*state, "a//b/c/");
    check_ok(dir_make(world_real(), deep, 0700, &err), err);
    check_ok(dir_make(world_real(), deep, 0700, &err), err);
    assert_int_equal(stat(deep, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    check_ok(dir_make(world_real(), "/", 0700, &err), err);

    const char *file = tmp_dir_path(*state, "a/file");
    check_ok(file_replace(world_real(), file, 0600, span_of_text("x"), &err), err);
    check_fails(dir_make(world_real(), file, 0700, &err), err, ERR_NOT_FOUND);
    check_fails(dir_make(world_real(), tmp_dir_path(*state, "a/file/x"), 0700, &err), err,
                ERR_NOT_FOUND);
    check_fails(dir_make(world_real(), "", 0700, &err), err, ERR_INVALID);
}

/* --- with the power cut --- */

static bool is_folder(struct world *w, const char *path)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    return file_open(w, path, O_RDONLY | O_DIRECTORY, 0, &f, &err);
}

static void a_folder_that_was_made_stays_whoever_made_what_is_above_it(void **state)
{
    static const char *const levels[] = {"/a", "/a/b", "/a/b/c"};
    (void)state;
    for (size_t there = 0; there <= 3; there++) /* made by one who died before the sync */
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct err err = ERR_NONE;
            struct world *w = fake_world_make(seed);
            for (size_t i = 0; i < there; i++) {
                assert_int_equal(w->ops->mkdir(w, levels[i], 0700), 0);
                if (i + 1 < there)
                    assert_int_equal(w->ops->sync_dir(w, i == 0 ? "/" : levels[i - 1]), 0);
            }
            check_ok(dir_make(w, "/a/b/c", 0700, &err), err);
            fake_world_power_cut(w, seed);
            assert_true(is_folder(w, "/a/b/c"));
            fake_world_release(&w);
        }
}

static void a_folder_that_was_emptied_stays_so(void **state)
{
    static const char *const names[] = {"/d/a", "/d/b", "/d/c"};
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct err err = ERR_NONE;
        struct buf found AUTO_BUF = BUF_NONE;
        struct world *w = fake_world_make(seed);
        check_ok(dir_empty(w, "/d", &err), err); /* there is none */
        check_ok(dir_make(w, "/d", 0700, &err), err);
        for (size_t i = 0; i < 3; i++)
            check_ok(file_create(w, names[i], 0600, span_of_text("x"), &err), err);
        check_ok(dir_empty(w, "/d", &err), err);
        fake_world_power_cut(w, seed);
        for (size_t i = 0; i < 3; i++)
            check_fails(file_load(w, names[i], 8, &found, &err), err, ERR_NOT_FOUND);
        fake_world_release(&w);
    }
}

/* One that died removed it and did not sync; who repeats it may believe that it is gone. */
static void a_file_that_was_found_removed_stays_so(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct err err = ERR_NONE;
        struct buf found AUTO_BUF = BUF_NONE;
        struct world *w = fake_world_make(seed);
        check_ok(file_create(w, "/f", 0600, span_of_text("x"), &err), err);
        assert_int_equal(w->ops->unlink(w, "/f"), 0);
        check_ok(file_remove(w, "/f", &err), err);
        fake_world_power_cut(w, seed);
        check_fails(file_load(w, "/f", 8, &found, &err), err, ERR_NOT_FOUND);
        fake_world_release(&w);
    }
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(what_is_written_is_read_and_zeros_follow),
        EACH(errors_name_the_path),
        EACH(create_makes_a_whole_file_and_never_touches_one_that_is_there),
        EACH(load_takes_the_whole_file_and_refuses_a_longer_one),
        EACH(replace_leaves_the_new_content_mode_and_nothing_else),
        EACH(remove_of_a_missing_file_is_success),
        EACH(dir_make_makes_every_level_and_accepts_what_is_there),
        cmocka_unit_test(a_folder_that_was_made_stays_whoever_made_what_is_above_it),
        cmocka_unit_test(a_folder_that_was_emptied_stays_so),
        cmocka_unit_test(a_file_that_was_found_removed_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
