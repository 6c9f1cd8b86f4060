/* SPDX-License-Identifier: MIT */
#include "fs/mount/source_mount.h"

#include "common/cleanup.h"
#include "mount_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define IO_BYTES_MAX (300u << 10)

/* One mount for all tests of this file; each test leaves disk a as it likes. */
static int mount_it(void **state)
{
    struct mounted *m = calloc(1, sizeof *m);

    if (m == NULL)
        return 1;
    *state = m;
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0)
        return 0; /* each test skips */
    mounted_make(m);
    setenv("FAKE_SYNC_FAILS", tmp_dir_path(&m->dir, "sync-fails"), 1);
    return mounted_start(m, NULL);
}

static int take_away(void **state)
{
    mounted_remove(*state);
    free(*state);
    return 0;
}

static int image_open(const struct mounted *m, int flags)
{
    if (m->dir.path[0] == '\0')
        cannot_run("needs root and /dev/fuse");
    int fd = open(mounted_path(m, "a.img"), flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int raw_open(const struct mounted *m)
{
    int fd = open(tmp_dir_path(&m->dir, "a.raw"), O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void the_folder_lists_one_image_for_each_disk(void **state)
{
    struct mounted *m = *state;
    int a = 0, b = 0, others = 0;
    struct dirent *entry;

    close(image_open(m, O_RDONLY));
    DIR *folder = opendir(mounted_path(m, "."));
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, "a.img") == 0)
            a += entry->d_type == DT_REG && entry->d_ino == 2;
        else if (strcmp(entry->d_name, "b.img") == 0)
            b += entry->d_type == DT_REG && entry->d_ino == 3;
        else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            others++;
    }
    closedir(folder);
    assert_int_equal(a, 1);
    assert_int_equal(b, 1);
    assert_int_equal(others, 0);
    assert_int_equal(access(mounted_path(m, "c.img"), F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

static void an_image_has_the_disks_size_and_the_local_files_owner_and_mode(void **state)
{
    struct mounted *m = *state;
    struct stat image, raw;

    close(image_open(m, O_RDONLY));
    assert_int_equal(stat(mounted_path(m, "a.img"), &image), 0);
    assert_int_equal(stat(tmp_dir_path(&m->dir, "a.raw"), &raw), 0);
    assert_int_equal(image.st_size, DISK_A_BYTES);
    assert_int_equal(image.st_mode, raw.st_mode);
    assert_int_equal(image.st_uid, raw.st_uid);
    assert_int_equal(image.st_blocks, raw.st_blocks);
    assert_int_equal(image.st_ino, 2);
}

/* Reads and writes anywhere, of any length, compared with a plain array. */
static void any_offset_and_length_reads_what_was_written(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    uint8_t *model AUTO_FREE = calloc(1, DISK_A_BYTES);
    uint8_t *data AUTO_FREE = malloc(DISK_A_BYTES);
    struct mspan seen = mspan_of(data, DISK_A_BYTES);

    assert_true(model != NULL && data != NULL);
    assert_int_equal(pread(fd, model, DISK_A_BYTES, 0), DISK_A_BYTES);
    srand(1);
    for (int i = 0; i < 200; i++) {
        size_t offset = (size_t)rand() % DISK_A_BYTES;
        size_t length = (size_t)rand() % IO_BYTES_MAX;
        if (length > DISK_A_BYTES - offset)
            length = DISK_A_BYTES - offset;
        memset(seen.data, rand() & 0xff, length);
        if (i % 3 != 0) {
            memcpy(model + offset, seen.data, length);
            assert_int_equal(pwrite(fd, seen.data, length, (off_t)offset), length);
        } else {
            assert_int_equal(pread(fd, seen.data, length, (off_t)offset), length);
            assert_memory_equal(seen.data, model + offset, length);
        }
    }
    int raw AUTO_FD = raw_open(m);
    assert_int_equal(pread(raw, seen.data, seen.length, 0), seen.length);
    assert_memory_equal(seen.data, model, DISK_A_BYTES);
    /* A request of many megabytes is cut by the kernel, not by us. */
    assert_int_equal(pread(fd, seen.data, seen.length, 0), seen.length);
    assert_memory_equal(seen.data, model, DISK_A_BYTES);
}

static void direct_io_of_one_sector_works_at_every_sector(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR | O_DIRECT);
    uint8_t *data;

    assert_int_equal(posix_memalign((void **)&data, 512, 1024), 0);
    for (off_t sector = 0; sector < 20; sector++) {
        memset(data, (int)sector + 1, 512);
        assert_int_equal(pwrite(fd, data, 512, sector * 512), 512);
    }
    for (off_t sector = 0; sector < 19; sector++) {
        assert_int_equal(pread(fd, data, 1024, sector * 512), 1024);
        assert_int_equal(data[0], sector + 1);
        assert_int_equal(data[1023], sector + 2);
    }
    /* The last sector of the disk, which no whole block covers. */
    assert_int_equal(pwrite(fd, data, 512, DISK_A_BYTES - 512), 512);
    assert_int_equal(pread(fd, data, 1024, DISK_A_BYTES - 512), 512);
    free(data);
}

static void a_write_past_the_end_is_refused_whole(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    int raw AUTO_FD = raw_open(m);
    char data[1024], before[512], after[512];
    struct stat st;

    memset(data, 0x5a, sizeof data);
    assert_int_equal(pread(fd, before, 512, DISK_A_BYTES - 512), 512);
    assert_int_equal(pwrite(fd, data, 1024, DISK_A_BYTES - 512), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(pread(raw, after, 512, DISK_A_BYTES - 512), 512);
    assert_memory_equal(before, after, 512);
    assert_int_equal(pwrite(fd, data, 512, DISK_A_BYTES), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(fstat(raw, &st), 0);
    assert_int_equal(st.st_size, DISK_A_BYTES);
    assert_int_equal(pwrite(fd, data, 0, DISK_A_BYTES), 0);
    assert_int_equal(pread(fd, data, 512, DISK_A_BYTES), 0);
}

static void chown_chmod_and_times_are_those_of_the_local_file(void **state)
{
    struct mounted *m = *state;
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    int raw AUTO_FD = -1;
    struct stat st;

    close(image_open(m, O_RDONLY));
    raw = raw_open(m);
    assert_int_equal(chown(mounted_path(m, "a.img"), 12345, 54321), 0);
    assert_int_equal(chmod(mounted_path(m, "a.img"), 0604), 0);
    assert_int_equal(utimensat(AT_FDCWD, mounted_path(m, "a.img"), times, 0), 0);
    assert_int_equal(fstat(raw, &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(st.st_gid, 54321);
    assert_int_equal(st.st_mode & 07777, 0604);
    assert_int_equal(st.st_atim.tv_sec, 1000);
    assert_int_equal(st.st_mtim.tv_sec, 2000);
    assert_int_equal(stat(mounted_path(m, "a.img"), &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(st.st_mode & 07777, 0604);
    assert_int_equal(chown(mounted_path(m, "a.img"), 0, (gid_t)-1), 0);
    assert_int_equal(fstat(raw, &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_gid, 54321);
    assert_int_equal(chown(mounted_path(m, "a.img"), 777, (gid_t)-1), 0);
    assert_int_equal(chown(mounted_path(m, "a.img"), (uid_t)-1, 888), 0);
    assert_int_equal(fstat(raw, &st), 0);
    assert_int_equal(st.st_uid, 777);
    assert_int_equal(st.st_gid, 888);
}

static void the_kernel_enforces_the_images_mode_for_other_users(void **state)
{
    struct mounted *m = *state;
    int status;

    close(image_open(m, O_RDONLY));
    assert_int_equal(chmod(m->dir.path, 0711), 0);
    assert_int_equal(chmod(mounted_path(m, "a.img"), 0604), 0);
    pid_t other = fork();
    if (other == 0) {
        if (setgid(4711) < 0 || setuid(4711) < 0)
            _exit(2);
        int readable = open(mounted_path(m, "a.img"), O_RDONLY);
        int writable = open(mounted_path(m, "a.img"), O_RDWR);
        _exit(readable >= 0 && writable < 0 && errno == EACCES ? 0 : 1);
    }
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(status, 0);
}

static void the_size_cannot_be_changed(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    struct stat st;

    assert_int_equal(ftruncate(fd, DISK_A_BYTES), 0);
    assert_int_equal(ftruncate(fd, DISK_A_BYTES - 512), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, DISK_A_BYTES + 512), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(open(mounted_path(m, "a.img"), O_RDWR | O_TRUNC), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(stat(tmp_dir_path(&m->dir, "a.raw"), &st), 0);
    assert_int_equal(st.st_size, DISK_A_BYTES);
}

static void fill(int fd, off_t offset, size_t length)
{
    uint8_t *data AUTO_FREE = malloc(length);

    assert_non_null(data);
    memset(data, 0x77, length);
    assert_int_equal(pwrite(fd, data, length, offset), length);
}

/* How many bytes at `offset` are 0x77; the rest must be zeros. */
static size_t filled_bytes(int fd, off_t offset, size_t length)
{
    uint8_t *data AUTO_FREE = malloc(length);
    size_t filled = 0;

    assert_non_null(data);
    assert_int_equal(pread(fd, data, length, offset), length);
    for (size_t i = 0; i < length; i++) {
        assert_true(data[i] == 0 || data[i] == 0x77);
        filled += data[i] != 0;
    }
    return filled;
}

static void punched_holes_and_zeroed_ranges_read_as_zeros(void **state)
{
    static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        fill(fd, 0, 1 << 20);
        assert_int_equal(fallocate(fd, modes[i], 4096 + 512, 65536), 0);
        assert_int_equal(filled_bytes(fd, 0, 1 << 20), (1 << 20) - 65536);
        assert_int_equal(filled_bytes(fd, 4096 + 512, 65536), 0);
    }
}

static void a_hole_past_the_end_is_cut_and_zeros_past_the_end_are_refused(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);

    fill(fd, DISK_A_BYTES - 4096, 4096);
    assert_int_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE, DISK_A_BYTES - 512, 1024), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(filled_bytes(fd, DISK_A_BYTES - 4096, 4096), 4096);
    assert_int_equal(
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DISK_A_BYTES - 1024, 8192), 0);
    assert_int_equal(filled_bytes(fd, DISK_A_BYTES - 4096, 4096), 4096 - 1024);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DISK_A_BYTES, 8192),
                     0);
    assert_int_equal(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
    assert_int_equal(errno, EOPNOTSUPP);
}

static void data_and_holes_are_found(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);

    int empty AUTO_FD = open(mounted_path(m, "b.img"), O_RDWR | O_CLOEXEC);

    assert_int_equal(lseek(empty, 0, SEEK_DATA), -1);
    assert_int_equal(errno, ENXIO);
    assert_int_equal(lseek(empty, 0, SEEK_HOLE), 0);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, DISK_A_BYTES), 0);
    assert_int_equal(lseek(fd, 4096, SEEK_HOLE), 4096);
    fill(fd, 1 << 20, 65536);
    assert_int_equal(lseek(fd, 0, SEEK_DATA), 1 << 20);
    assert_int_equal(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 65536);
    fill(fd, DISK_A_BYTES - 8192, 8192);
    assert_int_equal(lseek(fd, DISK_A_BYTES - 100, SEEK_HOLE), DISK_A_BYTES);
    assert_int_equal(lseek(fd, DISK_A_BYTES, SEEK_DATA), -1);
    assert_int_equal(errno, ENXIO);
}

/* Kernels before 6.6 answer ENODEV: they have no shared mappings of direct I/O files. */
static void a_shared_mapping_writes_to_the_disk(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    int raw AUTO_FD = raw_open(m);
    char seen[16] = "", other[16] = "unmapped write";

    char *mapped = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        assert_int_equal(errno, ENODEV);
        print_message("SKIP: this kernel has no shared mappings of direct I/O files\n");
        skip(); /* Linux before 6.6, Debian 12's own among them */
    }
    memcpy(mapped + 70000, "a mapped write", 15);
    assert_int_equal(msync(mapped, 1 << 20, MS_SYNC), 0);
    assert_int_equal(pread(raw, seen, 15, 70000), 15);
    assert_string_equal(seen, "a mapped write");
    assert_int_equal(pwrite(fd, other, sizeof other, 70000), sizeof other);
    assert_string_equal(mapped + 70000, other);
    munmap(mapped, 1 << 20);
}

/* Else the kernel would answer from memory what another opener's cache held, and hold writes. */
static void nothing_read_is_kept_by_the_kernel(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    int raw AUTO_FD = raw_open(m);
    char seen = 0;

    for (char letter = 'a'; letter < 'f'; letter++) {
        assert_int_equal(pwrite(raw, &letter, 1, 300), 1);
        assert_int_equal(pread(fd, &seen, 1, 300), 1);
        assert_int_equal(seen, letter);
    }
}

static void a_failed_sync_is_the_callers_error(void **state)
{
    struct mounted *m = *state;
    int fd AUTO_FD = image_open(m, O_RDWR);
    const char *fails = tmp_dir_path(&m->dir, "sync-fails");

    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fdatasync(fd), 0);
    close(open(fails, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(fsync(fd), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(fdatasync(fd), -1);
    assert_int_equal(errno, EIO);
    int closing = dup(fd); /* close flushes, too */
    assert_int_equal(close(closing), -1);
    assert_int_equal(errno, EIO);
    unlink(fails);
    assert_int_equal(fsync(fd), 0);
}

static void nothing_can_be_made_removed_or_renamed(void **state)
{
    struct mounted *m = *state;

    close(image_open(m, O_RDONLY));
    assert_int_equal(unlink(mounted_path(m, "a.img")), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(open(mounted_path(m, "new"), O_CREAT | O_WRONLY, 0600), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(mkdir(mounted_path(m, "new"), 0700), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(rename(mounted_path(m, "a.img"), mounted_path(m, "new")), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(symlink("a.img", mounted_path(m, "new")), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(link(mounted_path(m, "a.img"), mounted_path(m, "new")), -1);
    assert_int_equal(errno, EPERM);
    close(image_open(m, O_RDONLY));
}

static void statfs_says_how_much_disk_there_is(void **state)
{
    struct mounted *m = *state;
    struct statvfs sv;

    close(image_open(m, O_RDONLY));
    assert_int_equal(statvfs(mounted_path(m, "a.img"), &sv), 0);
    assert_int_equal(sv.f_blocks * sv.f_frsize,
                     (uint64_t)DISK_A_BYTES / 4096 * 4096 + 4096 + DISK_B_BYTES);
    assert_int_equal(sv.f_bavail, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_lists_one_image_for_each_disk),
        cmocka_unit_test(an_image_has_the_disks_size_and_the_local_files_owner_and_mode),
        cmocka_unit_test(any_offset_and_length_reads_what_was_written),
        cmocka_unit_test(direct_io_of_one_sector_works_at_every_sector),
        cmocka_unit_test(a_write_past_the_end_is_refused_whole),
        cmocka_unit_test(chown_chmod_and_times_are_those_of_the_local_file),
        cmocka_unit_test(the_kernel_enforces_the_images_mode_for_other_users),
        cmocka_unit_test(the_size_cannot_be_changed),
        cmocka_unit_test(punched_holes_and_zeroed_ranges_read_as_zeros),
        cmocka_unit_test(a_hole_past_the_end_is_cut_and_zeros_past_the_end_are_refused),
        cmocka_unit_test(data_and_holes_are_found),
        cmocka_unit_test(a_shared_mapping_writes_to_the_disk),
        cmocka_unit_test(nothing_read_is_kept_by_the_kernel),
        cmocka_unit_test(a_failed_sync_is_the_callers_error),
        cmocka_unit_test(nothing_can_be_made_removed_or_renamed),
        cmocka_unit_test(statfs_says_how_much_disk_there_is),
    };
    return cmocka_run_group_tests(tests, mount_it, take_away);
}
