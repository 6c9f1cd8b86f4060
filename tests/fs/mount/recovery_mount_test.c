/* SPDX-License-Identifier: MIT
 * Real recovery mounts of a small vault in a folder, compared with a model of each point. */
#include "fs/mount/recovery_mount.h"

#include "backend/history/pin.h"
#include "common/rfc3339.h"
#include "tests/support/check.h"
#include "tests/support/epoch_maker.h"
#include "tests/support/test_host.h"
#include "tests/support/tmp_dir.h"
#include "tests/support/unmount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_BLOCKS 256u
#define DISK_BYTES  (DISK_BLOCKS * BLOCK_BYTES)
#define DISKS       2u
#define POINTS      3u
#define WAIT_MS     20000u /* for what comes soon; only a failure waits as long */

struct fixture {
    struct tmp_dir dir;
    struct store *target, *cache;
    struct epoch_maker maker;
    struct history *history;
    struct view_cache *view_cache;
    struct recovery_vm vm;
    struct recovery_mount_config config;
    char mount_point[PATH_MAX], scratch[PATH_MAX];
    uint8_t now[DISKS][DISK_BYTES];
    uint8_t model[POINTS + 1][DISKS][DISK_BYTES]; /* by epoch - 1 */
    uint64_t point_ms[POINTS + 1];
    size_t points;
    pid_t daemon;
};

/* --- the vault --- */

static void write_block(struct fixture *f, uint16_t disk, uint64_t block, uint32_t value)
{
    made_block_bytes(value, f->now[disk] + block * BLOCK_BYTES);
    epoch_maker_fill(&f->maker, disk, block, value);
}

static void add_point(struct fixture *f, enum point_kind kind)
{
    struct err err = ERR_NONE;
    struct processor *p = NULL;
    struct store *targets[] = {f->target}, *caches[] = {f->cache};
    struct processor_config config = {.world = world_real(),
                                      .vm = MADE_VM,
                                      .keys = f->maker.keys,
                                      .targets = targets,
                                      .caches = caches,
                                      .store_count = 1};
    enum processor_result result;
    memcpy(f->model[f->points], f->now, sizeof f->now);
    f->point_ms[f->points] = f->maker.clock_ms;
    f->points++;
    epoch_maker_ship(&f->maker, EPOCH_CUT, kind, NULL);
    check_ok(processor_open(&config, &p, &err), err);
    do {
        result = processor_step(p, &err);
        if (result == PROCESSOR_FAILED)
            fail_msg("%s", err.text);
    } while (result != PROCESSOR_IDLE);
    processor_close(&p);
}

static void make_vault(struct fixture *f)
{
    epoch_maker_init(&f->maker, world_real(), f->target, f->cache, DISKS, DISK_BLOCKS);
    for (uint16_t disk = 0; disk < DISKS; disk++) {
        for (uint64_t block = 8; block < 120; block++)
            write_block(f, disk, block, (uint32_t)(1000u * (disk + 1u) + block));
    }
    add_point(f, POINT_CRASH);
    for (uint64_t block = 16; block < 60; block += 3)
        write_block(f, 0, block, (uint32_t)(5000 + block));
    epoch_maker_hole(&f->maker, 0, 100, 10);
    memset(f->now[0] + 100 * BLOCK_BYTES, 0, 10 * BLOCK_BYTES);
    add_point(f, POINT_APPLICATION);
    write_block(f, 1, 255, 9);
    add_point(f, POINT_CRASH);
}

static struct store *open_store(struct fixture *f, const char *name)
{
    struct store *store = NULL;
    struct err err = ERR_NONE;
    char url[PATH_MAX + 16];
    snprintf(url, sizeof url, "file://%s", tmp_dir_path(&f->dir, name));
    check_ok(store_open(TEST_HOST(world_real()), url, true, &store, &err), err);
    return store;
}

static bool can_mount(void)
{
    return geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;
    *state = f;
    if (!can_mount())
        return 0; /* each test skips */
    tmp_dir_make(&f->dir);
    f->target = open_store(f, "target");
    f->cache = open_store(f, "cache");
    make_vault(f);
    check_ok(history_open(world_real(), f->target, MADE_VM, f->maker.keys, &f->history, &err), err);
    check_ok(view_cache_make(16u << 20, &f->view_cache, &err), err);
    snprintf(f->mount_point, sizeof f->mount_point, "%s", tmp_dir_path(&f->dir, "mnt"));
    snprintf(f->scratch, sizeof f->scratch, "%s", tmp_dir_path(&f->dir, "scratch"));
    assert_int_equal(mkdir(f->mount_point, 0755), 0);
    f->vm = (struct recovery_vm){.name = MADE_VM,
                                 .view = {.history = f->history,
                                          .keys = f->maker.keys,
                                          .targets = &f->target,
                                          .target_count = 1,
                                          .cache = f->view_cache}};
    f->config = (struct recovery_mount_config){.world = world_real(),
                                               .mount_point = f->mount_point,
                                               .vms = &f->vm,
                                               .vm_count = 1,
                                               .refresh_ms = 50,
                                               .log_fd = -1};
    return 0;
}

/* --- mounting --- */

/* The daemon is this process's only child. */
static pid_t only_child(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

static void mount_it(struct fixture *f, const char *writable_name)
{
    struct err err = ERR_NONE;
    if (!can_mount())
        cannot_run("needs root and /dev/fuse");
    f->config.writable_name = writable_name;
    f->config.scratch_folder = f->scratch;
    check_ok(recovery_mount_run(&f->config, &err), err);
    f->daemon = only_child();
}

static int wait_for_daemon(struct fixture *f)
{
    int status = -1;
    waitpid(f->daemon, &status, 0);
    f->daemon = 0;
    return status;
}

static void unmount_it(struct fixture *f)
{
    assert_int_equal(unmount_plainly(f->mount_point), 0);
    assert_int_equal(wait_for_daemon(f), 0);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->daemon > 0) { /* a test failed */
        kill(f->daemon, SIGKILL);
        wait_for_daemon(f);
    }
    if (f->dir.path[0] != '\0') {
        while (unmount_lazily(f->mount_point) == 0) {
        }
        history_close(&f->history);
        view_cache_release(&f->view_cache);
        epoch_maker_release(&f->maker);
        store_close(&f->target);
        store_close(&f->cache);
        tmp_dir_remove(&f->dir);
    }
    free(f);
    return 0;
}

/* Below the VM's folder. */
static const char *in_vm(struct fixture *f, char out[PATH_MAX], const char *rest)
{
    snprintf(out, PATH_MAX, "%.2000s/%s/%.1000s", f->mount_point, MADE_VM, rest);
    return out;
}

static const char *image_path(struct fixture *f, char out[PATH_MAX], size_t point, unsigned disk)
{
    char id[POINT_TIME_CHARS + 1], rest[128];
    point_time_format(f->point_ms[point], id);
    snprintf(rest, sizeof rest, "points/%s/disk%u.img", id, disk);
    return in_vm(f, out, rest);
}

static int image_fd(struct fixture *f, size_t point, unsigned disk, int flags)
{
    char path[PATH_MAX];
    int fd = open(image_path(f, path, point, disk), flags | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

static void check_holds(int fd, const uint8_t *wanted)
{
    uint8_t *seen AUTO_FREE = malloc(DISK_BYTES);
    assert_int_equal(pread(fd, seen, DISK_BYTES, 0), DISK_BYTES);
    assert_memory_equal(seen, wanted, DISK_BYTES);
}

#define check_errno(call, wanted)                                                                  \
    do {                                                                                           \
        errno = 0;                                                                                 \
        assert_int_equal((call), -1);                                                              \
        assert_int_equal(errno, (wanted));                                                         \
    } while (0)

/* --- read-only --- */

static void it_is_a_farshore_mount_in_the_mount_table(void **state)
{
    struct fixture *f = *state;
    char line[2 * PATH_MAX], wanted[PATH_MAX + 64];
    bool found = false;
    mount_it(f, NULL);
    snprintf(wanted, sizeof wanted, "farshore-recovery %s fuse.farshore ro,", f->mount_point);
    FILE *mounts = fopen("/proc/mounts", "re");
    assert_non_null(mounts);
    while (fgets(line, sizeof line, mounts))
        found |= strncmp(line, wanted, strlen(wanted)) == 0;
    fclose(mounts);
    assert_true(found);
    unmount_it(f);
}

static size_t count_entries(const char *path)
{
    size_t count = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder));)
        count += e->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void every_point_is_a_folder_with_its_time(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX];
    struct stat st;
    mount_it(f, NULL);
    assert_int_equal(count_entries(in_vm(f, path, "points")), POINTS);
    assert_int_equal(count_entries(in_vm(f, path, "at")), 0);
    assert_int_equal(count_entries(in_vm(f, path, "latest/")), DISKS + 1);
    for (size_t point = 0; point < POINTS; point++) {
        assert_int_equal(stat(image_path(f, path, point, 1), &st), 0);
        assert_int_equal(st.st_size, DISK_BYTES);
        assert_int_equal(st.st_mode, S_IFREG | 0444);
        assert_int_equal(st.st_mtim.tv_sec, f->point_ms[point] / 1000);
        assert_int_equal(st.st_mtim.tv_nsec, f->point_ms[point] % 1000 * 1000000);
    }
    unmount_it(f);
}

static void every_image_reads_as_the_disk_was(void **state)
{
    struct fixture *f = *state;
    mount_it(f, NULL);
    for (size_t point = 0; point < POINTS; point++) {
        for (unsigned disk = 0; disk < DISKS; disk++) {
            int fd AUTO_FD = image_fd(f, point, disk, O_RDONLY);
            uint8_t few[100];
            check_holds(fd, f->model[point][disk]);
            assert_int_equal(pread(fd, few, 100, 16 * BLOCK_BYTES - 50), 100);
            assert_memory_equal(few, f->model[point][disk] + 16 * BLOCK_BYTES - 50, 100);
            assert_int_equal(pread(fd, few, 100, DISK_BYTES - 10), 10);
            assert_int_equal(pread(fd, few, 100, DISK_BYTES), 0);
        }
    }
    unmount_it(f);
}

static void check_leads_to(struct fixture *f, const char *link, size_t point)
{
    char path[PATH_MAX], target[128] = "", id[POINT_TIME_CHARS + 1];
    point_time_format(f->point_ms[point], id);
    assert_true(readlink(in_vm(f, path, link), target, sizeof target - 1) > 0);
    assert_non_null(strstr(target, id));
    strcat(path, "/disk0.img");
    int fd AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    check_holds(fd, f->model[point][0]);
}

static void links_lead_to_points(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX];
    struct stat st;
    mount_it(f, NULL);
    check_leads_to(f, "latest", 2);
    check_leads_to(f, "latest-application", 1);
    check_leads_to(f, "at/2026-11-22T20:00:01.700Z", 1);
    check_leads_to(f, "at/2026-11-22T20:00:01Z", 1);
    check_leads_to(f, "at/2026-11-22T20:00:00.999Z", 0);
    check_leads_to(f, "at/2099-01-01T00:00:00Z", 2);
    check_errno(lstat(in_vm(f, path, "latest-verified"), &st), ENOENT);
    check_errno(lstat(in_vm(f, path, "at/2020-01-01T00:00:00Z"), &st), ENOENT);
    check_errno(lstat(in_vm(f, path, "at/nonsense"), &st), ENOENT);
    unmount_it(f);
}

static void a_read_only_mount_refuses_every_change(void **state)
{
    struct fixture *f = *state;
    char image[PATH_MAX], path[PATH_MAX];
    mount_it(f, NULL);
    image_path(f, image, 0, 0);
    check_errno(open(image, O_RDWR | O_CLOEXEC), EROFS);
    check_errno(open(in_vm(f, path, "points/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644), EROFS);
    check_errno(unlink(image), EROFS);
    check_errno(mkdir(in_vm(f, path, "points/new"), 0755), EROFS);
    check_errno(rmdir(in_vm(f, path, "points")), EROFS);
    check_errno(chmod(image, 0600), EROFS);
    check_errno(chown(image, 1, 1), EROFS);
    check_errno(truncate(image, 0), EROFS);
    check_errno(rename(image, in_vm(f, path, "x")), EROFS);
    unmount_it(f);
}

static bool block_is_zero(const uint8_t *block)
{
    static const uint8_t zeros[BLOCK_BYTES];
    return memcmp(block, zeros, BLOCK_BYTES) == 0;
}

/* Follows SEEK_DATA and SEEK_HOLE through the file. */
static void check_holes(int fd, const uint8_t *model)
{
    off_t at = 0;
    while (at < (off_t)DISK_BYTES) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0) {
            assert_int_equal(errno, ENXIO);
            data = DISK_BYTES;
        }
        for (; at < data; at += BLOCK_BYTES)
            assert_true(block_is_zero(model + at));
        if (at >= (off_t)DISK_BYTES)
            return;
        off_t hole = lseek(fd, at, SEEK_HOLE);
        assert_true(hole > at);
        for (; at < hole; at += BLOCK_BYTES)
            assert_false(block_is_zero(model + at));
    }
}

static void holes_are_where_the_disk_had_none_but_zeros(void **state)
{
    struct fixture *f = *state;
    mount_it(f, NULL);
    for (size_t point = 0; point < POINTS; point++) {
        int fd AUTO_FD = image_fd(f, point, 0, O_RDONLY);
        check_holes(fd, f->model[point][0]);
    }
    unmount_it(f);
}

static void a_new_point_appears_while_mounted(void **state)
{
    struct fixture *f = *state;
    char path[PATH_MAX];
    struct stat st;
    mount_it(f, NULL);
    check_leads_to(f, "latest", POINTS - 1);
    write_block(f, 0, 3, 777);
    add_point(f, POINT_CRASH);
    image_path(f, path, POINTS, 0);
    for (unsigned waited = 0; stat(path, &st) < 0 && waited < WAIT_MS; waited += 10)
        usleep(10000);
    check_leads_to(f, "latest", POINTS);
    assert_int_equal(count_entries(in_vm(f, path, "points")), POINTS + 1);
    unmount_it(f);
}

static void what_the_store_lacks_is_an_error_and_never_other_data(void **state)
{
    struct fixture *f = *state;
    char segments[PATH_MAX], away[PATH_MAX];
    uint8_t block[BLOCK_BYTES];
    mount_it(f, NULL);
    snprintf(segments, sizeof segments, "%.2000s/%s/segments", tmp_dir_path(&f->dir, "target"),
             MADE_VM);
    snprintf(away, sizeof away, "%.2000s", tmp_dir_path(&f->dir, "away"));
    int fd AUTO_FD = image_fd(f, 0, 0, O_RDONLY);
    assert_int_equal(rename(segments, away), 0);
    check_errno(pread(fd, block, sizeof block, 10 * BLOCK_BYTES), EIO);
    assert_int_equal(rename(away, segments), 0);
    check_holds(fd, f->model[0][0]);
    close(fd);
    fd = -1;
    unmount_it(f);
}

/* --- pins --- */

struct pins {
    size_t holds, leases;
    uint64_t epoch;
};

static bool count_pin(void *context, const struct pin *pin)
{
    struct pins *pins = context;
    pins->holds += pin->kind == PIN_HOLD;
    pins->leases += pin->kind == PIN_LEASE;
    pins->epoch = pin->epoch;
    return true;
}

static struct pins count_pins(struct fixture *f)
{
    struct pins pins = {.holds = 0};
    struct err err = ERR_NONE;
    check_ok(pin_list(f->target, MADE_VM, f->maker.vault.vm, f->maker.keys, count_pin, &pins, &err),
             err);
    return pins;
}

static void a_point_has_a_lease_while_it_is_read(void **state)
{
    struct fixture *f = *state;
    mount_it(f, NULL);
    assert_int_equal(count_pins(f).leases, 0);
    int fd = image_fd(f, 1, 0, O_RDONLY);
    struct pins pins = count_pins(f);
    assert_int_equal(pins.leases, 1);
    assert_int_equal(pins.holds, 0);
    assert_int_equal(pins.epoch, 2);
    close(fd);
    unmount_it(f);
    assert_int_equal(count_pins(f).leases, 0);
}

/* Every object but pins, with its size. */
static bool add_object(void *context, const char *key, uint64_t bytes)
{
    struct buf *all = context;
    char line[STORE_KEY_MAX + 32];
    if (!strstr(key, "/pins/"))
        buf_put(all, line, (size_t)snprintf(line, sizeof line, "%s %ju\n", key, (uintmax_t)bytes));
    return true;
}

static void list_objects(struct fixture *f, struct buf *out)
{
    struct err err = ERR_NONE;
    check_ok(store_list(f->target, "", NULL, add_object, out, &err), err);
}

/* --- writable --- */

static void what_was_written_is_there_after_the_next_mount(void **state)
{
    struct fixture *f = *state;
    struct buf before AUTO_BUF = BUF_NONE, after AUTO_BUF = BUF_NONE;
    uint8_t bytes[3 * BLOCK_BYTES];
    uint8_t *model = f->model[0][0];
    memset(bytes, 0xab, sizeof bytes);
    mount_it(f, "drill");
    list_objects(f, &before);
    int fd = image_fd(f, 0, 0, O_RDWR);
    check_holds(fd, model);
    assert_int_equal(count_pins(f).holds, 0);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 7 * BLOCK_BYTES + 100), sizeof bytes);
    memcpy(model + 7 * BLOCK_BYTES + 100, bytes, sizeof bytes);
    assert_int_equal(count_pins(f).holds, 1); /* before the first write was answered */
    check_holds(fd, model);
    assert_int_equal(fsync(fd), 0);
    close(fd);
    unmount_it(f);

    mount_it(f, "drill");
    fd = image_fd(f, 0, 0, O_RDONLY);
    check_holds(fd, model);
    close(fd);
    fd = image_fd(f, 1, 0, O_RDONLY); /* other points are as they were */
    check_holds(fd, f->model[1][0]);
    close(fd);
    unmount_it(f);
    list_objects(f, &after);
    assert_true(span_equal(buf_span(&before), buf_span(&after)));
    struct pins pins = count_pins(f);
    assert_int_equal(pins.holds, 1);
    assert_int_equal(pins.epoch, 1);
    assert_int_equal(pins.leases, 0);
}

static void two_names_are_apart(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[BLOCK_BYTES];
    memset(bytes, 0xab, sizeof bytes);
    mount_it(f, "one");
    int fd = image_fd(f, 0, 0, O_RDWR);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 9 * BLOCK_BYTES), sizeof bytes);
    close(fd);
    unmount_it(f);
    mount_it(f, "two");
    fd = image_fd(f, 0, 0, O_RDWR);
    check_holds(fd, f->model[0][0]);
    close(fd);
    unmount_it(f);
}

static void a_writable_mount_changes_bytes_and_owners_of_images_alone(void **state)
{
    struct fixture *f = *state;
    char image[PATH_MAX], path[PATH_MAX];
    struct stat st;
    uint8_t byte = 1;
    mount_it(f, "drill");
    image_path(f, image, 0, 0);
    check_errno(unlink(image), EROFS);
    check_errno(mkdir(in_vm(f, path, "points/new"), 0755), EROFS);
    check_errno(rename(image, in_vm(f, path, "x")), EROFS);
    check_errno(symlink("x", in_vm(f, path, "x")), EROFS);
    check_errno(open(in_vm(f, path, "x"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644), EROFS);
    check_errno(open(in_vm(f, path, "latest/point.json"), O_RDWR | O_CLOEXEC), EROFS);
    check_errno(truncate(image, 4096), EPERM);
    check_errno(truncate(image, DISK_BYTES + 1), EPERM);
    check_errno(open(image, O_RDWR | O_TRUNC | O_CLOEXEC), EPERM);
    int fd = image_fd(f, 0, 0, O_RDWR);
    check_errno(pwrite(fd, &byte, 1, DISK_BYTES), ENOSPC);
    check_errno(fallocate(fd, 0, 0, DISK_BYTES + 4096), EOPNOTSUPP);
    close(fd);
    assert_int_equal(chown(image, 123, 456), 0);
    assert_int_equal(chmod(image, 0600), 0);
    assert_int_equal(stat(image, &st), 0);
    assert_int_equal(st.st_uid, 123);
    assert_int_equal(st.st_gid, 456);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_size, DISK_BYTES);
    unmount_it(f);
}

static void discarded_ranges_read_as_zeros_and_are_holes(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = f->model[2][0];
    mount_it(f, "drill");
    int fd = image_fd(f, 2, 0, O_RDWR);
    check_holds(fd, model); /* fills the page cache, which must forget */
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * BLOCK_BYTES,
                               20 * BLOCK_BYTES),
                     0);
    memset(model + 10 * BLOCK_BYTES, 0, 20 * BLOCK_BYTES);
    assert_int_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE, 40 * BLOCK_BYTES + 7, 100), 0);
    memset(model + 40 * BLOCK_BYTES + 7, 0, 100);
    check_holds(fd, model);
    check_holes(fd, model);
    close(fd);
    unmount_it(f);
}

static void shared_mappings_write_through(void **state)
{
    struct fixture *f = *state;
    uint8_t *model = f->model[0][1];
    mount_it(f, "drill");
    int fd = image_fd(f, 0, 1, O_RDWR);
    uint8_t *map = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_memory_equal(map, model, DISK_BYTES);
    memset(map + 50 * BLOCK_BYTES + 3, 0x5a, 2 * BLOCK_BYTES);
    memset(model + 50 * BLOCK_BYTES + 3, 0x5a, 2 * BLOCK_BYTES);
    assert_int_equal(msync(map, DISK_BYTES, MS_SYNC), 0);
    munmap(map, DISK_BYTES);
    close(fd);
    unmount_it(f);
    mount_it(f, "drill");
    fd = image_fd(f, 0, 1, O_RDONLY);
    check_holds(fd, model);
    close(fd);
    unmount_it(f);
}

/* --- life and death --- */

static void a_killed_mount_is_cleared_away_and_keeps_what_was_synced(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[BLOCK_BYTES];
    struct statvfs st;
    memset(bytes, 0xab, sizeof bytes);
    mount_it(f, "drill");
    int fd = image_fd(f, 0, 0, O_RDWR);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 9 * BLOCK_BYTES), sizeof bytes);
    assert_int_equal(fsync(fd), 0);
    kill(f->daemon, SIGKILL);
    wait_for_daemon(f);
    close(fd);
    check_errno(statvfs(f->mount_point, &st), ENOTCONN);
    mount_it(f, "drill");
    memcpy(f->model[0][0] + 9 * BLOCK_BYTES, bytes, sizeof bytes);
    fd = image_fd(f, 0, 0, O_RDONLY);
    check_holds(fd, f->model[0][0]);
    close(fd);
    unmount_it(f);
}

static void sigterm_unmounts_and_keeps_what_was_written(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[BLOCK_BYTES];
    memset(bytes, 0xab, sizeof bytes);
    mount_it(f, "drill");
    int fd = image_fd(f, 0, 0, O_RDWR);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 9 * BLOCK_BYTES), sizeof bytes);
    kill(f->daemon, SIGTERM);
    assert_int_equal(wait_for_daemon(f), 0);
    close(fd);
    check_errno(unmount_plainly(f->mount_point), EINVAL); /* nothing is mounted there */
    mount_it(f, "drill");
    memcpy(f->model[0][0] + 9 * BLOCK_BYTES, bytes, sizeof bytes);
    fd = image_fd(f, 0, 0, O_RDONLY);
    check_holds(fd, f->model[0][0]);
    close(fd);
    unmount_it(f);
}

static void a_mount_point_or_a_name_in_use_is_busy(void **state)
{
    struct fixture *f = *state;
    struct recovery_mount_config second;
    struct err err = ERR_NONE;
    mount_it(f, "drill");
    second = f->config;
    second.writable_name = NULL;
    check_fails(recovery_mount_run(&second, &err), err, ERR_BUSY);
    check_says(err, "unmount");
    second = f->config;
    second.mount_point = tmp_dir_path(&f->dir, "elsewhere");
    assert_int_equal(mkdir(second.mount_point, 0755), 0);
    check_fails(recovery_mount_run(&second, &err), err, ERR_BUSY);
    check_says(err, "drill");
    unmount_it(f);
}

static void wrong_settings_are_refused_before_anything_happens(void **state)
{
    struct fixture *f = *state;
    struct recovery_mount_config config = f->config;
    struct err err = ERR_NONE;
    config.mount_point = "/nonexistent/folder";
    check_fails(recovery_mount_run(&config, &err), err, ERR_NOT_FOUND);
    config = f->config;
    config.writable_name = "../up";
    config.scratch_folder = "/tmp";
    check_fails(recovery_mount_run(&config, &err), err, ERR_INVALID);
    config.writable_name = "drill";
    config.scratch_folder = "relative";
    check_fails(recovery_mount_run(&config, &err), err, ERR_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_a_farshore_mount_in_the_mount_table),
        TEST(every_point_is_a_folder_with_its_time),
        TEST(every_image_reads_as_the_disk_was),
        TEST(links_lead_to_points),
        TEST(a_read_only_mount_refuses_every_change),
        TEST(holes_are_where_the_disk_had_none_but_zeros),
        TEST(a_new_point_appears_while_mounted),
        TEST(what_the_store_lacks_is_an_error_and_never_other_data),
        TEST(a_point_has_a_lease_while_it_is_read),
        TEST(what_was_written_is_there_after_the_next_mount),
        TEST(two_names_are_apart),
        TEST(a_writable_mount_changes_bytes_and_owners_of_images_alone),
        TEST(discarded_ranges_read_as_zeros_and_are_holes),
        TEST(shared_mappings_write_through),
        TEST(a_killed_mount_is_cleared_away_and_keeps_what_was_synced),
        TEST(sigterm_unmounts_and_keeps_what_was_written),
        TEST(a_mount_point_or_a_name_in_use_is_busy),
        TEST(wrong_settings_are_refused_before_anything_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
