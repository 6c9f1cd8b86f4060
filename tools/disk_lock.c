/* SPDX-License-Identifier: MIT */
#include "tools/disk_lock.h"

#include "tools/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* QEMU, block/file-posix.c: permission bytes from 100, shared-permission bytes from 200. */
#define IMAGE_LOCK_FIRST 100
#define IMAGE_LOCK_BYTES 108

bool disk_bytes(int fd, uint64_t *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, errno, "its size");
    *out = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, out) != 0)
        return err_errno(err, errno, "its size");
    return true;
}

static bool check_size(const struct settings_disk *d, int fd, struct err *err)
{
    uint64_t bytes;
    if (!disk_bytes(fd, &bytes, err))
        return err_wrap(err, "disk %s: %s", d->name, d->path);
    return bytes >= d->size_bytes ||
           err_set(err, ERR_INVALID,
                   "disk %s: %s has shrunk from %llu to %llu bytes: restore its size (truncate -s) "
                   "or enable it anew",
                   d->name, d->path, (unsigned long long)d->size_bytes, (unsigned long long)bytes);
}

bool disk_lock(const struct settings_disk *d, int *out, struct err *err)
{
    struct stat st;
    if (stat(d->path, &st) != 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    bool device = S_ISBLK(st.st_mode);
    int fd AUTO_FD = open(d->path, O_RDWR | O_CLOEXEC | (device ? O_EXCL : 0));
    if (fd < 0 && errno == EBUSY)
        return err_set(err, ERR_BUSY, "disk %s: %s is in use (mounted, or held by another program)",
                       d->name, d->path);
    if (fd < 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    if (!check_size(d, fd, err))
        return false;
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = IMAGE_LOCK_FIRST,
                         .l_len = IMAGE_LOCK_BYTES};
    if (!device && fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        if (errno == EAGAIN || errno == EACCES)
            return err_set(err, ERR_BUSY,
                           "disk %s: %s is in use by QEMU or another mount: stop that first",
                           d->name, d->path);
        return err_errno(err, errno, "disk %s: %s cannot be locked", d->name, d->path);
    }
    *out = fd;
    fd = -1;
    return true;
}

static void read_mount_point(int fd, char out[PATH_MAX])
{
    ssize_t n = pread(fd, out, PATH_MAX - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

bool vm_lock_taken(const char *vm, struct err *err)
{
    return err_set(err, ERR_BUSY,
                   "another command is at work on the disks of %s: try again when it has ended",
                   vm);
}

bool vm_lock(const struct paths *p, const char *vm, const char *mount_point, int *out,
             struct err *err)
{
    char path[PATH_BYTES_MAX], holder[PATH_MAX];
    path_lock(p, vm, path);
    int fd AUTO_FD = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        read_mount_point(fd, holder);
        if (holder[0] && !mount_is_of(holder, vm))
            return err_set(err, ERR_BUSY,
                           "%s was unmounted from %s and still ships its last cut: try again "
                           "when farshore status %s says not-mounted",
                           vm, holder, vm);
        return holder[0]
                   ? err_set(err, ERR_BUSY, "%s is mounted at %s already: farshore unmount %s", vm,
                             holder, holder)
                   : vm_lock_taken(vm, err);
    }
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%s\n", mount_point) < 0)
        return err_errno(err, errno, "%s", path);
    *out = fd;
    fd = -1;
    return true;
}

bool vm_locked(const struct paths *p, const char *vm, char mount_point[PATH_MAX])
{
    char path[PATH_BYTES_MAX];
    path_lock(p, vm, path);
    mount_point[0] = '\0';
    int fd AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0)
        return false;
    read_mount_point(fd, mount_point);
    return true;
}
