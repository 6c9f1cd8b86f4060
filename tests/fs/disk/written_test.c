/* SPDX-License-Identifier: MIT
 * Who wrote a disk's file last: the mount, or something else. */
#include "common/file.h"
#include "fs/disk/written.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#include <fcntl.h>

#define RECORD "/disk.written"
#define DISK   "/disk.raw"

struct fixture {
    struct world *w;
    struct written *r;
    struct world_file *disk;
};

static void mount(struct fixture *f)
{
    struct err err = ERR_NONE;
    check_ok(written_open(f->w, RECORD, &f->r, &err), err);
    check_ok(file_open(f->w, DISK, O_RDWR | O_CREAT, 0600, &f->disk, &err), err);
}

static void die(struct fixture *f)
{
    written_close(&f->r);
    file_close(&f->disk);
}

static void set_up(struct fixture *f)
{
    *f = (struct fixture){.w = fake_world_make(1)};
    fake_world_advance(f->w, 3600ull * 1000000000);
    mount(f);
    struct err err = ERR_NONE;
    check_ok(written_begin(f->r, &err), err);
    assert_int_equal(f->w->ops->sync_dir(f->w, "/"), 0);
}

static void tear_down(struct fixture *f)
{
    die(f);
    fake_world_release(&f->w);
}

static void write_file(struct fixture *f)
{
    struct err err = ERR_NONE;
    check_ok(file_write(f->disk, span_of("x", 1), 0, &err), err);
}

static void mount_writes(struct fixture *f)
{
    written_note(f->r);
    write_file(f);
    written_note(f->r);
}

static void advance_ms(struct fixture *f, uint64_t ms)
{
    fake_world_advance(f->w, ms * 1000000);
}

static bool behind(struct fixture *f)
{
    struct world_stat st;
    assert_int_equal(f->w->ops->stat(f->disk, &st), 0);
    return written_behind(f->r, &st);
}

static void own_writes_are_known_however_often_they_come(void **state)
{
    struct fixture f;
    (void)state;
    set_up(&f);
    for (uint64_t step = 0; step < 60; step++) {
        advance_ms(&f, step);
        mount_writes(&f);
        die(&f);
        mount(&f);
        assert_false(behind(&f));
    }
    tear_down(&f);
}

static void a_write_after_the_mount_died_is_found(void **state)
{
    struct fixture f;
    (void)state;
    set_up(&f);
    mount_writes(&f);
    advance_ms(&f, 500);
    write_file(&f);
    die(&f);
    mount(&f);
    assert_true(behind(&f));
    written_note(f.r); /* as when it was dealt with */
    die(&f);
    mount(&f);
    assert_false(behind(&f));
    tear_down(&f);
}

/* Whatever of the notes it left. */
static void after_a_power_cut_only_what_this_boot_wrote_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        struct fixture f;
        struct err err = ERR_NONE;
        set_up(&f);
        advance_ms(&f, 5000);
        mount_writes(&f);
        check_ok(file_sync(f.disk, &err), err);
        fake_world_power_cut(f.w, seed);
        die(&f);
        advance_ms(&f, 20000); /* it boots */
        mount(&f);
        assert_false(behind(&f));
        advance_ms(&f, 1000);
        write_file(&f); /* nobody notes it */
        die(&f);
        mount(&f);
        assert_true(behind(&f));
        tear_down(&f);
    }
}

/* The note had been written back when the processes died; the host is started anew before the next
 * mount. */
static void a_write_behind_a_dead_mount_is_found_in_another_boot_too(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        struct fixture f;
        struct world_file *note = NULL;
        struct err err = ERR_NONE;
        set_up(&f);
        mount_writes(&f);
        check_ok(file_open(f.w, RECORD, O_RDWR, 0600, &note, &err), err);
        check_ok(file_sync(note, &err), err);
        file_close(&note);
        advance_ms(&f, 3600000);
        write_file(&f);
        check_ok(file_sync(f.disk, &err), err);
        fake_world_power_cut(f.w, seed);
        die(&f);
        advance_ms(&f, 20000);
        mount(&f);
        assert_true(behind(&f));
        tear_down(&f);
    }
}

/* A note of the future would vouch for whatever was written until then. */
static void a_note_that_is_still_to_come_counts_for_nothing(void **state)
{
    struct fixture f;
    (void)state;
    set_up(&f);
    mount_writes(&f);
    die(&f);
    fake_world_jump(f.w, -7200ll * 1000000000);
    advance_ms(&f, 1000);
    mount(&f);
    write_file(&f);
    die(&f);
    mount(&f);
    assert_true(behind(&f));
    tear_down(&f);
}

/* A new disk, in the place of another one: nobody has noted anything of it. */
static void where_no_mount_ever_made_a_note_nothing_is_behind(void **state)
{
    struct fixture f;
    (void)state;
    set_up(&f);
    mount_writes(&f);
    die(&f);
    assert_int_equal(f.w->ops->unlink(f.w, RECORD), 0);
    mount(&f);
    assert_false(behind(&f));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_writes_are_known_however_often_they_come),
        cmocka_unit_test(a_write_after_the_mount_died_is_found),
        cmocka_unit_test(after_a_power_cut_only_what_this_boot_wrote_is_found),
        cmocka_unit_test(a_write_behind_a_dead_mount_is_found_in_another_boot_too),
        cmocka_unit_test(a_note_that_is_still_to_come_counts_for_nothing),
        cmocka_unit_test(where_no_mount_ever_made_a_note_nothing_is_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
