/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "common/file.h"
#include "tests/support/tmp_dir.h"

#define MIB (1u << 20)

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

static struct world_file *opened(const struct tmp_dir *dir)
{
    struct err err = ERR_NONE;
    struct world_file *f = NULL;
    check_ok(file_open(world_real(), tmp_dir_path(dir, "f"), O_RDWR | O_CREAT, 0600, &f, &err),
             err);
    return f;
}

static void fill(struct world_file *f, uint64_t offset, size_t length)
{
    struct err err = ERR_NONE;
    uint8_t *bytes = malloc(length);
    assert_non_null(bytes);
    memset(bytes, 0xab, length);
    bool ok = file_write(f, span_of(bytes, length), offset, &err);
    free(bytes);
    check_ok(ok, err);
}

static void punch_zeroes_exactly_the_range_and_keeps_the_size(void **state)
{
    struct world_file *f AUTO_FILE = opened(*state);
    struct world_stat st;
    uint8_t out[3 * 4096];
    struct err err = ERR_NONE;
    fill(f, 0, sizeof out);
    assert_int_equal(f->world->ops->punch(f, 100, 8000), 0);
    check_ok(file_read(f, mspan_of(out, sizeof out), 0, &err), err);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], i >= 100 && i < 8100 ? 0 : 0xab);
    assert_int_equal(f->world->ops->punch(f, sizeof out - 1, UINT64_MAX / 4), 0);
    assert_int_equal(f->world->ops->punch(f, sizeof out + 5, 100), 0);
    assert_int_equal(f->world->ops->punch(f, 0, 0), 0);
    assert_int_equal(f->world->ops->stat(f, &st), 0);
    assert_int_equal(st.size, sizeof out);
    check_ok(file_read(f, mspan_of(out, 1), sizeof out - 1, &err), err);
    assert_int_equal(out[0], 0);
}

/* Where the file system has no holes everything counts as data, which is right as well. */
static void next_data_covers_all_data_and_ends_with_enxio(void **state)
{
    struct world_file *f AUTO_FILE = opened(*state);
    uint64_t start, end;
    assert_int_equal(f->world->ops->next_data(f, 0, &start, &end), -ENXIO);
    assert_int_equal(f->world->ops->truncate(f, 8 * MIB), 0);
    fill(f, 4 * MIB, 4096);
    assert_int_equal(f->world->ops->next_data(f, 0, &start, &end), 0);
    assert_true(start <= 4 * MIB && end >= 4 * MIB + 4096);
    assert_int_equal(f->world->ops->next_data(f, 4 * MIB + 100, &start, &end), 0);
    assert_int_equal(start, 4 * MIB + 100);
    assert_int_equal(f->world->ops->next_data(f, 8 * MIB, &start, &end), -ENXIO);
}

static void stat_tells_size_identity_and_kind(void **state)
{
    struct world_file *f AUTO_FILE = opened(*state);
    struct world_file *dir AUTO_FILE = NULL;
    struct world_stat st;
    struct stat real;
    fill(f, 0, 5000);
    assert_int_equal(f->world->ops->stat(f, &st), 0);
    assert_int_equal(stat(tmp_dir_path(*state, "f"), &real), 0);
    assert_int_equal(st.size, 5000);
    assert_int_equal(st.inode, real.st_ino);
    assert_int_equal(st.device, real.st_dev);
    assert_int_equal(st.mtime_ns, real.st_mtim.tv_sec * 1000000000ll + real.st_mtim.tv_nsec);
    assert_false(st.block_device || st.directory);
    struct err err = ERR_NONE;
    check_ok(
        file_open(world_real(), tmp_dir_path(*state, ""), O_RDONLY | O_DIRECTORY, 0, &dir, &err),
        err);
    assert_int_equal(dir->world->ops->stat(dir, &st), 0);
    assert_true(st.directory);
}

static void descriptors_are_not_inherited(void **state)
{
    struct world_file *f AUTO_FILE = opened(*state);
    assert_true(world_file_fd(f) >= 0);
    assert_true(fcntl(world_file_fd(f), F_GETFD) & FD_CLOEXEC);
}

static void failures_are_negative_errno_values(void **state)
{
    struct world *w = world_real();
    struct world_file *f = NULL;
    const char *gone = tmp_dir_path(*state, "gone/gone");
    assert_int_equal(w->ops->open(w, gone, O_RDONLY, 0, &f), -ENOENT);
    assert_int_equal(w->ops->unlink(w, gone), -ENOENT);
    assert_int_equal(w->ops->rename(w, gone, gone), -ENOENT);
    assert_int_equal(w->ops->mkdir(w, gone, 0700), -ENOENT);
    assert_int_equal(w->ops->sync_dir(w, gone), -ENOENT);
}

static void random_fills_the_whole_buffer(void **state)
{
    (void)state;
    uint8_t bytes[4096] = {0};
    bool seen[256] = {false};
    int values = 0;
    assert_int_equal(world_real()->ops->random(world_real(), bytes, sizeof bytes), 0);
    for (size_t i = sizeof bytes / 2; i < sizeof bytes; i++)
        if (!seen[bytes[i]]) {
            seen[bytes[i]] = true;
            values++;
        }
    assert_true(values > 128);
}

/* A loop device over a file of the test's; the kernel takes it back when the last descriptor is
 * closed. -1 where we may not, or where there are none. */
static int attach_loop(const char *backing, char device[32])
{
    int control AUTO_FD = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file AUTO_FD = open(backing, O_RDWR | O_CLOEXEC);
    struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    int refused = EBUSY; /* another test takes the free one first */
    while (control >= 0 && file >= 0 && refused == EBUSY) {
        snprintf(device, 32, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        int loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop < 0)
            return -1;
        if (ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            return loop;
        refused = errno;
        close(loop);
    }
    return -1;
}

static void a_block_device_has_its_capacity_and_is_punched_to_the_byte(void **state)
{
    struct world_file *backing AUTO_FILE = opened(*state);
    struct world_file *f AUTO_FILE = NULL;
    struct world_stat st;
    struct err err = ERR_NONE;
    char device[32];
    uint8_t out[5 * 4096];
    uint64_t start, end;
    assert_int_equal(backing->world->ops->truncate(backing, MIB), 0);
    int loop AUTO_FD = attach_loop(backing->path, device);
    if (loop < 0)
        cannot_run("no loop device for us here");
    check_ok(file_open(world_real(), device, O_RDWR, 0, &f, &err), err);
    assert_int_equal(f->world->ops->stat(f, &st), 0);
    assert_true(st.block_device);
    assert_int_equal(st.size, MIB);
    fill(f, 0, sizeof out);
    assert_int_equal(f->world->ops->punch(f, 100, 3 * 4096), 0);
    check_ok(file_read(f, mspan_of(out, sizeof out), 0, &err), err);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], i >= 100 && i < 100 + 3 * 4096 ? 0 : 0xab);
    assert_int_equal(f->world->ops->punch(f, MIB - 10, 4096), 0);
    assert_int_equal(f->world->ops->next_data(f, 5000, &start, &end), 0);
    assert_true(start == 5000 && end == MIB);
    assert_int_equal(f->world->ops->next_data(f, MIB, &start, &end), -ENXIO);
    check_ok(file_sync(f, &err), err);
}

static void a_block_device_that_another_descriptor_holds_is_punched_all_the_same(void **state)
{
    struct world_file *backing AUTO_FILE = opened(*state);
    struct world_file *f AUTO_FILE = NULL;
    struct err err = ERR_NONE;
    char device[32];
    uint8_t out[5 * 4096];
    assert_int_equal(backing->world->ops->truncate(backing, MIB), 0);
    int loop AUTO_FD = attach_loop(backing->path, device);
    if (loop < 0)
        cannot_run("no loop device for us here");
    int holder AUTO_FD = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
    assert_true(holder >= 0);
    check_ok(file_open(world_real(), device, O_RDWR, 0, &f, &err), err);
    fill(f, 0, sizeof out);
    assert_int_equal(f->world->ops->punch(f, 100, 3 * 4096), 0);
    check_ok(file_read(f, mspan_of(out, sizeof out), 0, &err), err);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], i >= 100 && i < 100 + 3 * 4096 ? 0 : 0xab);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(punch_zeroes_exactly_the_range_and_keeps_the_size),
        EACH(next_data_covers_all_data_and_ends_with_enxio),
        EACH(stat_tells_size_identity_and_kind),
        EACH(descriptors_are_not_inherited),
        EACH(failures_are_negative_errno_values),
        EACH(random_fills_the_whole_buffer),
        EACH(a_block_device_has_its_capacity_and_is_punched_to_the_byte),
        EACH(a_block_device_that_another_descriptor_holds_is_punched_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
