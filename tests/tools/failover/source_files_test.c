/* SPDX-License-Identifier: MIT */
#include "tools/failover/source_domain.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

/* The real world, that says what was synced and what the file held then. */
static struct {
    struct world_ops ops;
    struct world world;
    char file[PATH_MAX], folder[PATH_MAX];
    char content;
} watched;

static int watch_sync(struct world_file *f)
{
    snprintf(watched.file, sizeof watched.file, "%s", f->path);
    f->world->ops->pread(f, &watched.content, 1, 0);
    return world_real()->ops->sync(f);
}

static int watch_sync_dir(struct world *w, const char *path)
{
    snprintf(watched.folder, sizeof watched.folder, "%s", path);
    return world_real()->ops->sync_dir(w, path);
}

static struct source_domain domain; /* large */

static int set_up(void **state)
{
    static struct tmp_dir dir;
    struct err err = ERR_NONE;
    tmp_dir_make(&dir);
    memset(&watched, 0, sizeof watched);
    watched.ops = *world_real()->ops;
    watched.ops.sync = watch_sync;
    watched.ops.sync_dir = watch_sync_dir;
    watched.world.ops = &watched.ops;
    domain = (struct source_domain){.disk_count = 1};
    struct source_disk *d = &domain.disks[0];
    *d = (struct source_disk){.name = "vda", .qcow2 = true, .size_bytes = 65536};
    snprintf(d->path, sizeof d->path, "%s", tmp_dir_path(&dir, "old.qcow2"));
    snprintf(d->local, sizeof d->local, "%s", tmp_dir_path(&dir, "new.raw"));
    /* A qemu-img that writes one byte and syncs nothing, as the real one does. */
    check_ok(
        file_create(world_real(), tmp_dir_path(&dir, "qemu-img"), 0700,
                    span_of_text("#!/bin/sh\nprintf x | dd of=\"$8\" conv=notrunc status=none\n"),
                    &err),
        err);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s:%s", dir.path, getenv("PATH"));
    setenv("PATH", path, 1);
    *state = &dir;
    return 0;
}

static int tear_down(void **state)
{
    tmp_dir_remove(*state);
    return 0;
}

static void what_was_converted_is_durable_with_its_name(void **state)
{
    struct tmp_dir *dir = *state;
    struct err err = ERR_NONE;
    check_ok(source_domain_make_files(&watched.world, &domain, false, &err), err);
    assert_string_equal(watched.file, domain.disks[0].local);
    assert_int_equal(watched.content, 'x');
    assert_string_equal(watched.folder, dir->path);
}

static void an_empty_file_for_a_guest_that_runs_is_durable_with_its_name(void **state)
{
    struct tmp_dir *dir = *state;
    struct err err = ERR_NONE;
    struct stat st;
    domain.running = true;
    check_ok(source_domain_make_files(&watched.world, &domain, false, &err), err);
    assert_string_equal(watched.file, domain.disks[0].local);
    assert_string_equal(watched.folder, dir->path);
    assert_int_equal(stat(domain.disks[0].local, &st), 0);
    assert_int_equal(st.st_size, 65536);
}

static void a_file_in_the_way_is_left_alone_unless_it_is_of_an_earlier_try(void **state)
{
    struct err err = ERR_NONE;
    (void)state;
    check_ok(file_create(world_real(), domain.disks[0].local, 0600, span_of_text("theirs"), &err),
             err);
    check_fails(source_domain_make_files(&watched.world, &domain, false, &err), err, ERR_EXISTS);
    check_ok(source_domain_make_files(&watched.world, &domain, true, &err), err);
    assert_int_equal(watched.content, 'x');
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(what_was_converted_is_durable_with_its_name),
        EACH(an_empty_file_for_a_guest_that_runs_is_durable_with_its_name),
        EACH(a_file_in_the_way_is_left_alone_unless_it_is_of_an_earlier_try),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
