/* SPDX-License-Identifier: MIT */
#include "tests/support/fake_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/file.h"
#include "tests/support/check.h"

#define SEEDS 64

static int set_up(void **state)
{
    *state = fake_world_make(1);
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    fake_world_release(&w);
    return 0;
}

static struct world_file *opened(struct world *w, const char *path, int flags)
{
    struct err err = ERR_NONE;
    struct world_file *f = NULL;
    check_ok(file_open(w, path, flags, 0600, &f, &err), err);
    return f;
}

static void write_text(struct world_file *f, uint64_t offset, const char *text)
{
    struct err err = ERR_NONE;
    check_ok(file_write(f, span_of_text(text), offset, &err), err);
}

static void check_bytes(struct world_file *f, uint64_t offset, const void *wanted, size_t length)
{
    struct err err = ERR_NONE;
    uint8_t out[256];
    assert_true(length <= sizeof out);
    check_ok(file_read(f, mspan_of(out, length), offset, &err), err);
    assert_memory_equal(out, wanted, length);
}

static bool is_there(struct world *w, const char *path)
{
    struct world_file *f AUTO_FILE = NULL;
    struct err err;
    return file_open(w, path, O_RDONLY, 0, &f, &err);
}

static void files_read_back_with_holes_as_zeros(void **state)
{
    struct world *w = *state;
    struct world_file *f AUTO_FILE = opened(w, "/f", O_RDWR | O_CREAT);
    struct world_stat st;
    uint64_t start, end;
    write_text(f, 10000, "abc");
    check_bytes(f, 9998, "\0\0abc\0", 6);
    assert_int_equal(w->ops->stat(f, &st), 0);
    assert_int_equal(st.size, 10003);
    assert_int_equal(st.allocated, 4096);
    assert_int_equal(w->ops->next_data(f, 5, &start, &end), 0);
    assert_int_equal(start, 8192);
    assert_int_equal(end, 10003);
    assert_int_equal(w->ops->punch(f, 10001, 1ull << 40), 0);
    check_bytes(f, 10000, "a\0\0", 3);
    assert_int_equal(w->ops->truncate(f, 10001), 0);
    assert_int_equal(w->ops->truncate(f, 20000), 0);
    check_bytes(f, 10000, "a\0\0", 3);
    assert_int_equal(w->ops->punch(f, 8192, 4096), 0);
    assert_int_equal(w->ops->next_data(f, 0, &start, &end), -ENXIO);
}

static void names_behave_as_in_the_real_world(void **state)
{
    struct world *w = *state;
    struct world_file *f = NULL;
    file_close(&(struct world_file *){opened(w, "/a", O_RDWR | O_CREAT)});
    assert_int_equal(w->ops->open(w, "/a", O_RDWR | O_CREAT | O_EXCL, 0, &f), -EEXIST);
    assert_int_equal(w->ops->open(w, "/no/a", O_RDWR | O_CREAT, 0, &f), -ENOENT);
    assert_int_equal(w->ops->open(w, "/a/b", O_RDWR | O_CREAT, 0, &f), -ENOTDIR);
    assert_int_equal(w->ops->open(w, "/a", O_RDONLY | O_DIRECTORY, 0, &f), -ENOTDIR);
    assert_int_equal(w->ops->open(w, "/", O_RDWR, 0, &f), -EISDIR);
    assert_int_equal(w->ops->mkdir(w, "/d", 0700), 0);
    assert_int_equal(w->ops->mkdir(w, "/d", 0700), -EEXIST);
    assert_int_equal(w->ops->rename(w, "/a", "/d/b"), 0);
    assert_false(is_there(w, "/a"));
    assert_int_equal(w->ops->link(w, "/d/b", "/c"), 0);
    assert_int_equal(w->ops->link(w, "/d/b", "/c"), -EEXIST);
    assert_int_equal(w->ops->unlink(w, "/d/b"), 0);
    assert_int_equal(w->ops->unlink(w, "/d/b"), -ENOENT);
    assert_int_equal(w->ops->unlink(w, "/d"), -EISDIR);
    assert_true(is_there(w, "/c"));
}

static void an_unlinked_file_lives_while_it_is_open(void **state)
{
    struct world *w = *state;
    struct world_file *f AUTO_FILE = opened(w, "/f", O_RDWR | O_CREAT);
    write_text(f, 0, "abc");
    assert_int_equal(w->ops->unlink(w, "/f"), 0);
    assert_int_equal(w->ops->sync_dir(w, "/"), 0);
    check_bytes(f, 0, "abc", 3);
}

static void what_was_synced_survives_every_power_cut(void **state)
{
    struct world *w = *state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world_file *f = opened(w, "/f", O_RDWR | O_CREAT);
        struct err err = ERR_NONE;
        write_text(f, 600, "synced");
        check_ok(file_sync(f, &err), err);
        assert_int_equal(w->ops->sync_dir(w, "/"), 0);
        assert_int_equal(fake_world_unsynced(w), 0);
        write_text(f, 5000, "not synced");
        fake_world_power_cut(w, seed);
        file_close(&f);
        f = opened(w, "/f", O_RDONLY);
        check_bytes(f, 600, "synced", 6);
        file_close(&f);
    }
}

/* Three sectors, written at once: over many cuts each of the eight outcomes is seen. */
static void unsynced_sectors_survive_in_every_combination(void **state)
{
    bool seen[8] = {false};
    uint8_t bytes[3 * FAKE_SECTOR];
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world *w = fake_world_make(seed);
        struct err err = ERR_NONE;
        uint8_t zeros[sizeof bytes] = {0};
        check_ok(file_replace(w, "/f", 0600, span_of(zeros, sizeof zeros), &err), err);
        struct world_file *f = opened(w, "/f", O_RDWR);
        check_ok(file_write(f, span_of(bytes, sizeof bytes), 0, &err), err);
        fake_world_power_cut(w, seed);
        file_close(&f);
        f = opened(w, "/f", O_RDONLY);
        unsigned outcome = 0;
        for (unsigned s = 0; s < 3; s++) {
            uint8_t out[FAKE_SECTOR];
            check_ok(file_read(f, mspan_of(out, sizeof out), (uint64_t)s * FAKE_SECTOR, &err), err);
            for (size_t i = 1; i < sizeof out; i++)
                assert_int_equal(out[i], out[0]);
            outcome |= out[0] == 'x' ? 1u << s : 0;
        }
        seen[outcome] = true;
        file_close(&f);
        fake_world_release(&w);
    }
    for (size_t i = 0; i < 8; i++)
        assert_true(seen[i]);
}

/* Of replace, as a careless program does it, without the syncs. */
static void unsynced_names_may_survive_or_not_but_a_rename_is_whole(void **state)
{
    bool seen_old = false, seen_new = false, seen_fresh = false;
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world *w = fake_world_make(seed);
        struct err err = ERR_NONE;
        check_ok(file_replace(w, "/f", 0600, span_of_text("old"), &err), err);
        struct world_file *f = opened(w, "/f.new", O_RDWR | O_CREAT);
        write_text(f, 0, "new");
        check_ok(file_sync(f, &err), err);
        file_close(&f);
        assert_int_equal(w->ops->rename(w, "/f.new", "/f"), 0);
        assert_int_equal(fake_world_unsynced(w), 2);
        fake_world_power_cut(w, seed);
        f = opened(w, "/f", O_RDONLY); /* always one of the two */
        uint8_t out[3];
        check_ok(file_read(f, mspan_of(out, 3), 0, &err), err);
        bool is_new = memcmp(out, "new", 3) == 0;
        assert_true(is_new || memcmp(out, "old", 3) == 0);
        seen_new = seen_new || is_new;
        seen_old = seen_old || !is_new;
        seen_fresh = seen_fresh || is_there(w, "/f.new");
        assert_false(is_new && is_there(w, "/f.new"));
        file_close(&f);
        fake_world_release(&w);
    }
    assert_true(seen_old && seen_new && seen_fresh);
}

static void a_folder_whose_name_is_not_synced_takes_its_files_with_it(void **state)
{
    unsigned lost = 0;
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world *w = fake_world_make(seed);
        struct err err = ERR_NONE;
        assert_int_equal(w->ops->mkdir(w, "/d", 0700), 0);
        check_ok(file_replace(w, "/d/f", 0600, span_of_text("x"), &err), err);
        fake_world_power_cut(w, seed);
        lost += is_there(w, "/d/f") ? 0 : 1;
        fake_world_release(&w);
    }
    assert_true(lost > 0 && lost < SEEDS);
}

static void syncing_one_folder_never_brings_an_older_name_back(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world *w = fake_world_make(seed);
        struct err err = ERR_NONE;
        check_ok(dir_make(w, "/a", 0700, &err) && dir_make(w, "/b", 0700, &err), err);
        check_ok(file_replace(w, "/a/new", 0600, span_of_text("new"), &err), err);
        file_close(&(struct world_file *){opened(w, "/b/f", O_RDWR | O_CREAT)});
        assert_int_equal(w->ops->rename(w, "/a/new", "/b/f"), 0);
        assert_int_equal(w->ops->sync_dir(w, "/a"), 0);
        fake_world_power_cut(w, seed);
        struct world_file *f = opened(w, "/b/f", O_RDONLY);
        check_bytes(f, 0, "new", 3);
        file_close(&f);
        fake_world_release(&w);
    }
}

/* What common/file.h promises, at every call where power can fail. */
static void replace_and_dir_make_are_atomic_and_durable_at_every_cut(void **state)
{
    bool finished = false;
    (void)state;
    for (uint64_t n = 1; !finished; n++) {
        for (uint64_t seed = 0; seed < 16; seed++) {
            struct world *w = fake_world_make(seed);
            struct err err = ERR_NONE;
            struct buf out AUTO_BUF = BUF_NONE;
            check_ok(dir_make(w, "/x", 0700, &err), err);
            check_ok(file_replace(w, "/x/f", 0600, span_of_text("old"), &err), err);
            fake_world_fail(w, FAKE_ANY, n, EIO, true);
            bool replaced = file_replace(w, "/x/f", 0600, span_of_text("newer"), &err);
            bool made = replaced && dir_make(w, "/x/y/z", 0700, &err);
            fake_world_power_cut(w, seed);
            check_ok(file_load(w, "/x/f", 100, &out, &err), err);
            bool is_new = span_equal(buf_span(&out), span_of_text("newer"));
            assert_true(is_new || span_equal(buf_span(&out), span_of_text("old")));
            assert_true(is_new || !replaced);
            assert_true(is_there(w, "/x/y/z") || !made);
            finished = made;
            fake_world_release(&w);
        }
    }
}

static void a_chosen_call_fails_once_or_for_ever(void **state)
{
    struct world *w = *state;
    struct world_file *f AUTO_FILE = opened(w, "/f", O_RDWR | O_CREAT);
    fake_world_fail(w, FAKE_PWRITE, 2, ENOSPC, false);
    assert_int_equal(w->ops->pwrite(f, "a", 1, 0), 1);
    assert_int_equal(w->ops->pwrite(f, "b", 1, 0), -ENOSPC);
    assert_int_equal(w->ops->pwrite(f, "c", 1, 0), 1);
    check_bytes(f, 0, "c", 1);
    fake_world_fail(w, FAKE_ANY, 1, EIO, true);
    assert_int_equal(w->ops->pwrite(f, "d", 1, 0), -EIO);
    assert_int_equal(w->ops->mkdir(w, "/d", 0700), -EIO);
    fake_world_fail(w, FAKE_ANY, 0, 0, false);
    assert_int_equal(w->ops->mkdir(w, "/d", 0700), 0);
    assert_int_equal(fake_world_calls(w, FAKE_MKDIR), 2);
}

/* A later good sync does not bring back what a failed one has dropped. */
static void a_failed_sync_is_not_made_good_by_the_next(void **state)
{
    unsigned lost = 0;
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct world *w = fake_world_make(seed);
        struct err err = ERR_NONE;
        check_ok(file_replace(w, "/f", 0600, span_of_text("old"), &err), err);
        struct world_file *f = opened(w, "/f", O_RDWR);
        write_text(f, 0, "new");
        fake_world_fail(w, FAKE_SYNC, 1, EIO, false);
        assert_int_equal(w->ops->sync(f), -EIO);
        check_bytes(f, 0, "new", 3);
        assert_int_equal(w->ops->sync(f), 0);
        fake_world_power_cut(w, seed);
        file_close(&f);
        f = opened(w, "/f", O_RDONLY);
        uint8_t out[3];
        check_ok(file_read(f, mspan_of(out, 3), 0, &err), err);
        lost += memcmp(out, "old", 3) == 0 ? 1 : 0;
        file_close(&f);
        fake_world_release(&w);
    }
    assert_true(lost > 0 && lost < SEEDS);
}

static void files_open_during_a_power_cut_are_dead(void **state)
{
    struct world *w = *state;
    struct world_file *f AUTO_FILE = opened(w, "/f", O_RDWR | O_CREAT);
    uint8_t byte;
    fake_world_power_cut(w, 1);
    assert_int_equal(w->ops->pread(f, &byte, 1, 0), -EIO);
    assert_int_equal(w->ops->pwrite(f, &byte, 1, 0), -EIO);
    assert_int_equal(w->ops->sync(f), -EIO);
}

static void short_transfers_are_whole_through_file_h(void **state)
{
    struct world *w = *state;
    struct world_file *f AUTO_FILE = opened(w, "/f", O_RDWR | O_CREAT);
    char text[200];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    fake_world_short_transfers(w, true);
    write_text(f, 0, text);
    check_bytes(f, 0, text, sizeof text);
    assert_true(fake_world_calls(w, FAKE_PWRITE) > 1);
    assert_true(fake_world_calls(w, FAKE_PREAD) > 1);
}

static void time_and_chance_are_the_tests(void **state)
{
    struct world *w = *state;
    struct world *twin = fake_world_make(1);
    uint64_t real = w->ops->realtime_ns(w);
    uint8_t a[16], b[16];
    fake_world_advance(w, 5);
    fake_world_jump(w, -3600);
    assert_int_equal(w->ops->realtime_ns(w), real + 5 - 3600);
    assert_int_equal(w->ops->boottime_ns(w), 5);
    fake_world_power_cut(w, 1);
    assert_int_equal(w->ops->boottime_ns(w), 0);
    assert_int_equal(w->ops->random(w, a, sizeof a), 0);
    assert_int_equal(twin->ops->random(twin, b, sizeof b), 0);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(w->ops->random(w, a, sizeof a), 0);
    assert_memory_not_equal(a, b, sizeof a);
    fake_world_release(&twin);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(files_read_back_with_holes_as_zeros),
        EACH(names_behave_as_in_the_real_world),
        EACH(an_unlinked_file_lives_while_it_is_open),
        EACH(what_was_synced_survives_every_power_cut),
        EACH(unsynced_sectors_survive_in_every_combination),
        EACH(unsynced_names_may_survive_or_not_but_a_rename_is_whole),
        EACH(a_folder_whose_name_is_not_synced_takes_its_files_with_it),
        EACH(syncing_one_folder_never_brings_an_older_name_back),
        EACH(replace_and_dir_make_are_atomic_and_durable_at_every_cut),
        EACH(a_chosen_call_fails_once_or_for_ever),
        EACH(a_failed_sync_is_not_made_good_by_the_next),
        EACH(files_open_during_a_power_cut_are_dead),
        EACH(short_transfers_are_whole_through_file_h),
        EACH(time_and_chance_are_the_tests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
