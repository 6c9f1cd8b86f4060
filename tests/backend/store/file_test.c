/* SPDX-License-Identifier: MIT */
#include "tests/backend/store/contract.h"
#include "tests/support/check.h"
#include "tests/support/test_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "common/file.h"
#include "tests/support/fake_world.h"
#include "tests/support/tmp_dir.h"

static struct store *open_url(const char *url, bool create)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    check_ok(store_open(TEST_HOST(world_real()), url, create, &s, &err), err);
    return s;
}

static const char *url_of(const struct tmp_dir *dir, const char *name)
{
    static char url[PATH_MAX + 300];
    snprintf(url, sizeof url, "file://%s", tmp_dir_path(dir, name));
    return url;
}

static struct store *open_one(void *context)
{
    return open_url(url_of(context, "deep/store"), true);
}

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

static void a_missing_folder_is_not_found_and_says_what_to_do(void **state)
{
    struct store *s AUTO_STORE = NULL;
    struct err err;
    check_fails(store_open(TEST_HOST(world_real()), url_of(*state, "s"), false, &s, &err), err,
                ERR_NOT_FOUND);
    check_says(err, "mounted");
    check_says(err, "mkdir");
}

/* A mount point without its file system looks like this. */
static void an_empty_folder_that_never_was_a_store_is_refused(void **state)
{
    struct store *s AUTO_STORE = NULL;
    struct err err;
    assert_int_equal(mkdir(tmp_dir_path(*state, "s"), 0700), 0);
    check_fails(store_open(TEST_HOST(world_real()), url_of(*state, "s"), false, &s, &err), err,
                ERR_NOT_FOUND);
    s = open_url(url_of(*state, "s"), true);
    store_close(&s);
    s = open_url(url_of(*state, "s/"), false);
}

static void a_folder_that_goes_away_is_transient_and_not_an_empty_store(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct err err = ERR_NONE;
    uint8_t byte;
    uint64_t bytes;
    check_ok(store_put(s, "a/b", span_of_text("x"), &err), err);
    assert_int_equal(rename(tmp_dir_path(*state, "s"), tmp_dir_path(*state, "away")), 0);
    assert_int_equal(mkdir(tmp_dir_path(*state, "s"), 0700), 0);
    check_fails(store_put(s, "a/c", span_of_text("x"), &err), err, ERR_TRANSIENT);
    check_says(err, "Mount");
    check_fails(store_get(s, "a/b", 0, mspan_of(&byte, 1), &err), err, ERR_TRANSIENT);
    check_fails(store_size(s, "a/b", &bytes, &err), err, ERR_TRANSIENT);
    check_fails(store_remove(s, "a/b", &err), err, ERR_TRANSIENT);
    check_fails(store_list(s, "a/", NULL, NULL, NULL, &err), err, ERR_TRANSIENT);
    assert_int_equal(rmdir(tmp_dir_path(*state, "s")), 0);
    check_fails(store_put(s, "a/c", span_of_text("x"), &err), err, ERR_TRANSIENT);
    assert_int_equal(rename(tmp_dir_path(*state, "away"), tmp_dir_path(*state, "s")), 0);
    check_ok(store_put(s, "a/c", span_of_text("x"), &err), err);
}

static void urls_are_decoded_and_bad_ones_named(void **state)
{
    struct store *s AUTO_STORE = NULL;
    struct err err;
    struct stat st;
    s = open_url(url_of(*state, "with%20space%25"), true);
    assert_int_equal(stat(tmp_dir_path(*state, "with space%"), &st), 0);
    store_close(&s);
    static const char *const bad[] = {"file://host/dir", "file:///dir?colour=red", "file:///a%0",
                                      "file:///a%zz",    "file:///a%00b",          "file://"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_fails(store_open(TEST_HOST(world_real()), bad[i], true, &s, &err), err, ERR_INVALID);
    check_fails(store_open(TEST_HOST(world_real()), bad[1], true, &s, &err), err, ERR_INVALID);
    check_says(err, "colour");
}

static void the_stores_own_folder_is_no_key(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct err err;
    check_fails(store_put(s, ".tmp/x", span_of_text("x"), &err), err, ERR_INVALID);
    check_fails(store_put(s, ".tmp", span_of_text("x"), &err), err, ERR_INVALID);
    check_ok(store_put(s, ".tmpx", span_of_text("x"), &err), err);
}

static void an_object_is_not_a_folder_as_well(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct err err = ERR_NONE;
    uint64_t bytes;
    check_ok(store_put(s, "a/b", span_of_text("x"), &err), err);
    check_fails(store_put(s, "a", span_of_text("x"), &err), err, ERR_INVALID);
    check_fails(store_put(s, "a/b/c", span_of_text("x"), &err), err, ERR_INVALID);
    check_fails(store_size(s, "a", &bytes, &err), err, ERR_NOT_FOUND);
    check_fails(store_size(s, "a/b/c", &bytes, &err), err, ERR_NOT_FOUND);
    check_ok(store_remove(s, "a", &err), err);
    check_ok(store_size(s, "a/b", &bytes, &err), err);
}

static void put_file(const char *path, int64_t age_s)
{
    struct err err = ERR_NONE;
    check_ok(file_replace(world_real(), path, 0600, span_of_text("half"), &err), err);
    time_t then = time(NULL) - age_s;
    struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void opening_sweeps_old_leftovers_and_only_those(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct stat st;
    const char *old = tmp_dir_path(*state, "s/.tmp/00000000000000000000000000000000");
    const char *young = tmp_dir_path(*state, "s/.tmp/11111111111111111111111111111111");
    const char *foreign = tmp_dir_path(*state, "s/.tmp/notes");
    put_file(old, 25 * 3600);
    put_file(young, 23 * 3600);
    put_file(foreign, 25 * 3600);
    store_close(&s);
    s = open_url(url_of(*state, "s"), false);
    assert_int_equal(stat(old, &st), -1);
    assert_int_equal(stat(young, &st), 0);
    assert_int_equal(stat(foreign, &st), 0);
}

static bool count_one(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    (void)bytes;
    (*(unsigned *)context)++;
    return true;
}

static void what_is_not_an_object_is_not_listed_nor_followed(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct err err = ERR_NONE;
    unsigned count = 0;
    uint64_t bytes;
    put_file(tmp_dir_path(*state, "s/.tmp/11111111111111111111111111111111"), 0);
    put_file(tmp_dir_path(*state, "s/with space"), 0);
    assert_int_equal(mkdir(tmp_dir_path(*state, "s/lost+found"), 0700), 0);
    put_file(tmp_dir_path(*state, "s/lost+found/x"), 0);
    assert_int_equal(symlink("/etc/passwd", tmp_dir_path(*state, "s/link")), 0);
    check_ok(store_put(s, "a", span_of_text("x"), &err), err);
    check_ok(store_list(s, "", NULL, count_one, &count, &err), err);
    assert_int_equal(count, 1);
    check_fails(store_size(s, "link", &bytes, &err), err, ERR_NOT_FOUND);
}

static void a_put_leaves_no_temporary_file(void **state)
{
    struct store *s AUTO_STORE = open_url(url_of(*state, "s"), true);
    struct err err = ERR_NONE;
    check_ok(store_put(s, "a", span_of_text("x"), &err), err);
    check_fails(store_put(s, "a", span_of_text("x"), &err), err, ERR_EXISTS);
    assert_int_equal(rmdir(tmp_dir_path(*state, "s/.tmp")), 0);
}

static const char *text_of(unsigned n)
{
    static char text[32];
    snprintf(text, sizeof text, "object %u", n);
    return text;
}

static const char *name_of(unsigned n)
{
    static char name[32];
    snprintf(name, sizeof name, "vm/g%u/parts/%u", n / 2, n);
    return name;
}

/* Puts until power fails at call `nth`; how many succeeded, of four. */
static unsigned put_until(struct world *w, uint64_t nth)
{
    struct err err = ERR_NONE;
    struct store *s AUTO_STORE = NULL;
    unsigned n = 0;
    check_ok(store_open(TEST_HOST(w), "file:///s", true, &s, &err), err);
    fake_world_fail(w, FAKE_ANY, nth, EIO, true);
    while (n < 4 && store_put(s, name_of(n), span_of_text(text_of(n)), &err))
        n++;
    return n;
}

static void a_put_is_whole_or_not_there_and_stays_at_every_power_cut(void **state)
{
    unsigned done = 0;
    (void)state;
    for (uint64_t nth = 1; done < 4; nth++) {
        for (uint64_t seed = 0; seed < 16; seed++) {
            struct world *w = fake_world_make(seed);
            struct store *s = NULL;
            struct err err = ERR_NONE;
            done = put_until(w, nth);
            fake_world_power_cut(w, seed);
            check_ok(store_open(TEST_HOST(w), "file:///s", false, &s, &err), err);
            for (unsigned n = 0; n < 4; n++) {
                struct buf out AUTO_BUF = BUF_NONE;
                if (store_load(s, name_of(n), 100, &out, &err))
                    assert_true(span_equal(buf_span(&out), span_of_text(text_of(n))));
                else if (n < done || err.kind != ERR_NOT_FOUND)
                    fail_msg("call %u, seed %u: object %u: %s", (unsigned)nth, (unsigned)seed, n,
                             err.text);
            }
            store_close(&s);
            fake_world_release(&w);
        }
    }
}

/* Another process has made the folders and not yet synced them when we put into them. */
static void folders_that_somebody_else_made_are_synced_too(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 32; seed++) {
        struct world *w = fake_world_make(seed);
        struct store *s = NULL;
        struct err err = ERR_NONE;
        uint64_t bytes;
        check_ok(store_open(TEST_HOST(w), "file:///s", true, &s, &err), err);
        assert_int_equal(w->ops->mkdir(w, "/s/vm", 0700), 0);
        assert_int_equal(w->ops->mkdir(w, "/s/vm/g", 0700), 0);
        check_ok(store_put(s, "vm/g/1", span_of_text("x"), &err), err);
        fake_world_power_cut(w, seed);
        check_ok(store_size(s, "vm/g/1", &bytes, &err), err);
        store_close(&s);
        fake_world_release(&w);
    }
}

/* The name was taken, says the store: then it stays taken. */
static void a_name_reported_taken_stays_so(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 32; seed++) {
        struct world *w = fake_world_make(seed);
        struct store *s = NULL;
        struct err err = ERR_NONE;
        uint64_t bytes;
        check_ok(store_open(TEST_HOST(w), "file:///s", true, &s, &err), err);
        fake_world_fail(w, FAKE_SYNC_DIR, 1, ENOSPC, false);
        check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_TRANSIENT);
        check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_EXISTS);
        fake_world_power_cut(w, seed);
        check_ok(store_size(s, "k", &bytes, &err), err);
        store_close(&s);
        fake_world_release(&w);
    }
}

static void a_full_disk_is_full_and_leaves_nothing(void **state)
{
    struct world *w = fake_world_make(1);
    struct store *s = NULL;
    struct err err = ERR_NONE;
    uint64_t bytes;
    (void)state;
    check_ok(store_open(TEST_HOST(w), "file:///s", true, &s, &err), err);
    fake_world_fail(w, FAKE_PWRITE, 1, ENOSPC, false);
    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_FULL);
    fake_world_fail(w, FAKE_SYNC, 1, EDQUOT, false);
    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_FULL);
    check_fails(store_size(s, "k", &bytes, &err), err, ERR_NOT_FOUND);
    fake_world_fail(w, FAKE_LINK, 1, EPERM, false);
    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_INVALID);
    check_says(err, "hard links");
    fake_world_fail(w, FAKE_OPEN, 1, ESTALE, false);
    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_TRANSIENT);
    check_ok(store_put(s, "k", span_of_text("x"), &err), err);
    store_close(&s);
    fake_world_release(&w);
}

int main(void)
{
    struct tmp_dir dir;
    tmp_dir_make(&dir);
    struct contract c = {.open = open_one, .context = &dir, .racers = 8, .large_bytes = 3u << 20};
    int failures = contract_run("file", &c);
    tmp_dir_remove(&dir);
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(a_missing_folder_is_not_found_and_says_what_to_do),
        EACH(an_empty_folder_that_never_was_a_store_is_refused),
        EACH(a_folder_that_goes_away_is_transient_and_not_an_empty_store),
        EACH(urls_are_decoded_and_bad_ones_named),
        EACH(the_stores_own_folder_is_no_key),
        EACH(an_object_is_not_a_folder_as_well),
        EACH(opening_sweeps_old_leftovers_and_only_those),
        EACH(what_is_not_an_object_is_not_listed_nor_followed),
        EACH(a_put_leaves_no_temporary_file),
        cmocka_unit_test(a_put_is_whole_or_not_there_and_stays_at_every_power_cut),
        cmocka_unit_test(folders_that_somebody_else_made_are_synced_too),
        cmocka_unit_test(a_name_reported_taken_stays_so),
        cmocka_unit_test(a_full_disk_is_full_and_leaves_nothing),
    };
    return failures + cmocka_run_group_tests(tests, NULL, NULL);
}
