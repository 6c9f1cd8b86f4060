/* SPDX-License-Identifier: MIT */
#include "common/world.h"

#include "common/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ZEROS_BYTES  65536u
#define PUNCH_ALIGN  4096u /* what every block device's fallocate takes */
#define NS_PER_S     1000000000ull
#define SECTOR_BYTES 512u /* unit of st_blocks, whatever the device */

struct real_file {
    struct world_file head;
    int fd;
    bool block_device;
};

static struct real_file *real_of(struct world_file *f)
{
    return (struct real_file *)f;
}

/* Calls again while a signal interrupts; yields the result, or a negative errno. */
#define RETRY(call)                                                                                \
    __extension__({                                                                                \
        __typeof__(call) result_;                                                                  \
        do                                                                                         \
            result_ = (call);                                                                      \
        while (result_ < 0 && errno == EINTR);                                                     \
        result_ < 0 ? -errno : result_;                                                            \
    })

static int real_open(struct world *w, const char *path, int flags, mode_t mode,
                     struct world_file **out)
{
    struct stat st;
    struct real_file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -ENOMEM;
    f->head = (struct world_file){.world = w, .path = strdup(path)};
    f->fd = f->head.path != NULL ? RETRY(open(path, flags | O_CLOEXEC, mode)) : -ENOMEM;
    int result = f->fd;
    if (result >= 0 && fstat(f->fd, &st) != 0) {
        result = -errno;
        close(f->fd);
    }
    if (result < 0) {
        free(f->head.path);
        free(f);
        return result;
    }
    f->block_device = S_ISBLK(st.st_mode);
    *out = &f->head;
    return 0;
}

static void real_close(struct world_file *f)
{
    close(real_of(f)->fd);
    free(f->path);
    free(f);
}

static ssize_t real_pread(struct world_file *f, void *out, size_t length, uint64_t offset)
{
    return RETRY(pread(real_of(f)->fd, out, length, (off_t)offset));
}

static ssize_t real_pwrite(struct world_file *f, const void *data, size_t length, uint64_t offset)
{
    return RETRY(pwrite(real_of(f)->fd, data, length, (off_t)offset));
}

static int real_sync(struct world_file *f)
{
    return RETRY(fdatasync(real_of(f)->fd));
}

static int size_of(struct real_file *f, uint64_t *size)
{
    struct stat st;
    if (f->block_device)
        return ioctl(f->fd, BLKGETSIZE64, size) == 0 ? 0 : -errno;
    if (fstat(f->fd, &st) != 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int write_zeros(struct real_file *f, uint64_t offset, uint64_t length)
{
    /* Aligned, so that it also serves files opened with O_DIRECT. */
    static const uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(PUNCH_ALIGN)));
    while (length > 0) {
        size_t part = length < sizeof zeros ? (size_t)length : sizeof zeros;
        ssize_t n = RETRY(pwrite(f->fd, zeros, part, (off_t)offset));
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO;
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return 0;
}

/* Frees the range where file system or device can, zeroes it in place where only that can be
 * done, and writes zeros where neither can: to a block device that is held exclusively through
 * another descriptor, as a mounted disk is, the kernel says EBUSY. */
static int free_or_zero(struct real_file *f, uint64_t offset, uint64_t length)
{
    static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        int result = RETRY(fallocate(f->fd, modes[i], (off_t)offset, (off_t)length));
        if (result == 0)
            return 0;
        bool held = f->block_device && result == -EBUSY;
        if (!held && result != -EOPNOTSUPP && result != -ENOSYS && result != -ENODEV)
            return result;
    }
    return write_zeros(f, offset, length);
}

static int real_punch(struct world_file *file, uint64_t offset, uint64_t length)
{
    struct real_file *f = real_of(file);
    uint64_t size;
    int result = size_of(f, &size);
    if (result != 0)
        return result;
    if (offset >= size || length == 0)
        return 0;
    if (length > size - offset)
        length = size - offset;
    if (!f->block_device)
        return free_or_zero(f, offset, length);

    /* A block device frees whole blocks only: zeros go over the edges. */
    uint64_t first = (offset + PUNCH_ALIGN - 1) / PUNCH_ALIGN * PUNCH_ALIGN;
    uint64_t last = (offset + length) / PUNCH_ALIGN * PUNCH_ALIGN;
    if (first >= last)
        return write_zeros(f, offset, length);
    result = write_zeros(f, offset, first - offset);
    if (result == 0)
        result = free_or_zero(f, first, last - first);
    if (result == 0)
        result = write_zeros(f, last, offset + length - last);
    return result;
}

static int real_truncate(struct world_file *f, uint64_t size)
{
    return RETRY(ftruncate(real_of(f)->fd, (off_t)size));
}

/* Without SEEK_DATA everything is data. */
static int all_is_data(struct real_file *f, uint64_t from, uint64_t *start, uint64_t *end)
{
    int result = size_of(f, end);
    if (result != 0)
        return result;
    *start = from;
    return from < *end ? 0 : -ENXIO;
}

static int real_next_data(struct world_file *file, uint64_t from, uint64_t *start, uint64_t *end)
{
    struct real_file *f = real_of(file);
    off_t data = lseek(f->fd, (off_t)from, SEEK_DATA);
    if (data < 0)
        return errno == EINVAL ? all_is_data(f, from, start, end) : -errno;
    off_t hole = lseek(f->fd, data, SEEK_HOLE);
    if (hole < 0)
        return errno == EINVAL ? all_is_data(f, from, start, end) : -errno;
    *start = (uint64_t)data;
    *end = (uint64_t)hole;
    return 0;
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

static int real_stat(struct world_file *file, struct world_stat *out)
{
    struct real_file *f = real_of(file);
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return -errno;
    *out = (struct world_stat){
        .inode = st.st_ino,
        .device = f->block_device ? st.st_rdev : st.st_dev,
        .mtime_ns = ns_of(st.st_mtim),
        .ctime_ns = ns_of(st.st_ctim),
        .mode = st.st_mode & 07777,
        .uid = st.st_uid,
        .block_device = f->block_device,
        .directory = S_ISDIR(st.st_mode),
    };
    int result = size_of(f, &out->size);
    out->allocated = f->block_device ? out->size : (uint64_t)st.st_blocks * SECTOR_BYTES;
    return result;
}

static int real_rename(struct world *w, const char *from, const char *to)
{
    (void)w;
    return RETRY(rename(from, to));
}

static int real_unlink(struct world *w, const char *path)
{
    (void)w;
    return RETRY(unlink(path));
}

static int real_mkdir(struct world *w, const char *path, mode_t mode)
{
    (void)w;
    return RETRY(mkdir(path, mode));
}

static int real_link(struct world *w, const char *from, const char *to)
{
    (void)w;
    return RETRY(link(from, to));
}

static int real_sync_dir(struct world *w, const char *path)
{
    (void)w;
    int fd = RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return fd;
    int result = RETRY(fsync(fd));
    close(fd);
    return result;
}

static bool is_directory(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int real_list_dir(struct world *w, const char *path, world_dir_fn *each, void *context)
{
    (void)w;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    bool more = true;
    int result = 0;
    while (more) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            result = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            more = each(context, entry->d_name, is_directory(dir, entry));
    }
    closedir(dir);
    return result;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* fails for unknown clocks only */
    return (uint64_t)ns_of(now);
}

static uint64_t real_realtime_ns(struct world *w)
{
    (void)w;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t real_boottime_ns(struct world *w)
{
    (void)w;
    return clock_ns(CLOCK_BOOTTIME);
}

/* 32 hex digits, with dashes between. */
static void real_boot(struct world *w, uint8_t out[WORLD_BOOT_BYTES])
{
    char text[64] = "", digits[2 * WORLD_BOOT_BYTES + 1] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : RETRY(read(fd, text, sizeof text));
    size_t count = 0;
    (void)w;
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < n && text[i] != '\n' && count < sizeof digits - 1; i++)
        if (text[i] != '-')
            digits[count++] = text[i];
    if (!hex_parse(digits, out, WORLD_BOOT_BYTES))
        memset(out, 0, WORLD_BOOT_BYTES);
}

static int real_random(struct world *w, void *out, size_t length)
{
    (void)w;
    for (size_t done = 0; done < length;) {
        ssize_t n = RETRY(getrandom((char *)out + done, length - done, 0));
        if (n < 0)
            return (int)n;
        done += (size_t)n;
    }
    return 0;
}

static const struct world_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .sync = real_sync,
    .punch = real_punch,
    .truncate = real_truncate,
    .next_data = real_next_data,
    .stat = real_stat,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .link = real_link,
    .sync_dir = real_sync_dir,
    .list_dir = real_list_dir,
    .realtime_ns = real_realtime_ns,
    .boottime_ns = real_boottime_ns,
    .boot = real_boot,
    .random = real_random,
};

struct world *world_real(void)
{
    static struct world real = {.ops = &real_ops}; /* never written */
    return &real;
}

int world_file_fd(const struct world_file *f)
{
    return f->world->ops == &real_ops ? ((const struct real_file *)f)->fd : -1;
}
