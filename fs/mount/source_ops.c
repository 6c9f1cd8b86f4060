/* SPDX-License-Identifier: MIT */
#include "fs/mount/source_ops.h"

#include "common/log.h"
#include "fs/mount/handshake.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DISK_INODE_FIRST 2u
#define IMAGE_SUFFIX     ".img"
#define SECTOR_BYTES     512u
#define NAME_BYTES       256u

/* Names and inode numbers never change. Attributes do (chown of the local file, growing), and the
 * root's are asked for each time: so a dead mount is known as dead at once. */
#define ENTRY_SECONDS     3600.0
#define ATTRIBUTE_SECONDS 1.0

/* linux/fuse.h of an older kernel may lack it; the value is ABI. */
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

static struct source_ops *ops_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static bool disk_of_inode(fuse_req_t req, fuse_ino_t ino, size_t *disk)
{
    if (ino < DISK_INODE_FIRST || ino - DISK_INODE_FIRST >= source_disks(ops_of(req)->source))
        return false;
    *disk = (size_t)(ino - DISK_INODE_FIRST);
    return true;
}

static void reply_errno(fuse_req_t req, int errnum)
{
    fuse_reply_err(req, errnum);
}

/* Logs the cause, but not as fast as a guest can fail. */
static void reply_failure(fuse_req_t req, const char *what, size_t disk, const struct err *err)
{
    struct source_ops *ops = ops_of(req);
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t last = atomic_load(&ops->error_logged_s);
    if ((uint64_t)now.tv_sec != last &&
        atomic_compare_exchange_strong(&ops->error_logged_s, &last, (uint64_t)now.tv_sec)) {
        log_error("%s of disk %s: %s (%" PRIu64 " more not logged)", what,
                  source_disk_name(ops->source, disk), err->text,
                  atomic_exchange(&ops->errors_unlogged, 0));
    } else {
        atomic_fetch_add(&ops->errors_unlogged, 1);
    }
    reply_errno(req, err_to_errno(err->kind));
}

/* ---- names and attributes ---- */

static void root_attributes(struct stat *out)
{
    *out = (struct stat){.st_ino = FUSE_ROOT_ID,
                         .st_mode = S_IFDIR | 0755,
                         .st_nlink = 2,
                         .st_uid = geteuid(),
                         .st_gid = getegid(),
                         .st_blksize = BLOCK_BYTES};
}

/* Of the local file, but a regular file with the disk's size. */
static int disk_attributes(const struct source *source, size_t disk, struct stat *out)
{
    uint64_t size = source_disk_bytes(source, disk);
    struct stat local;

    if (fstat(source_disk_fd(source, disk), &local) < 0)
        return errno;
    *out = local;
    out->st_ino = DISK_INODE_FIRST + disk;
    out->st_mode = S_IFREG | (local.st_mode & 07777);
    out->st_nlink = 1;
    out->st_rdev = 0;
    out->st_size = (off_t)size;
    out->st_blksize = BLOCK_BYTES;
    if (S_ISBLK(local.st_mode))
        out->st_blocks = (blkcnt_t)(size / SECTOR_BYTES);
    return 0;
}

static void image_name(const struct source *source, size_t disk, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%s" IMAGE_SUFFIX, source_disk_name(source, disk));
}

static void source_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct source *source = ops_of(req)->source;
    struct fuse_entry_param entry = {.attr_timeout = ATTRIBUTE_SECONDS,
                                     .entry_timeout = ENTRY_SECONDS};
    char image[NAME_BYTES];

    if (parent != FUSE_ROOT_ID)
        return reply_errno(req, ENOTDIR);
    for (size_t i = 0; i < source_disks(source); i++) {
        image_name(source, i, image);
        if (strcmp(name, image) != 0)
            continue;
        int failed = disk_attributes(source, i, &entry.attr);
        if (failed != 0)
            return reply_errno(req, failed);
        entry.ino = DISK_INODE_FIRST + i;
        fuse_reply_entry(req, &entry);
        return;
    }
    reply_errno(req, ENOENT);
}

static void source_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat attributes;
    size_t disk;

    (void)fi;
    if (ino == FUSE_ROOT_ID) {
        root_attributes(&attributes);
        fuse_reply_attr(req, &attributes, 0.0);
        return;
    }
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, ENOENT);
    int failed = disk_attributes(ops_of(req)->source, disk, &attributes);
    if (failed != 0)
        return reply_errno(req, failed);
    fuse_reply_attr(req, &attributes, ATTRIBUTE_SECONDS);
}

static int times_set(int fd, const struct stat *wanted, int to_set)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        times[0].tv_nsec = UTIME_NOW;
    else if (to_set & FUSE_SET_ATTR_ATIME)
        times[0] = wanted->st_atim;
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        times[1].tv_nsec = UTIME_NOW;
    else if (to_set & FUSE_SET_ATTR_MTIME)
        times[1] = wanted->st_mtim;
    return futimens(fd, times);
}

/* Owner, mode and times are those of the local file or device node. */
static int local_setattr(int fd, const struct stat *wanted, int to_set)
{
    static const int all_times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
                                 FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;

    if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) &&
        fchown(fd, to_set & FUSE_SET_ATTR_UID ? wanted->st_uid : (uid_t)-1,
               to_set & FUSE_SET_ATTR_GID ? wanted->st_gid : (gid_t)-1) < 0)
        return errno;
    if ((to_set & FUSE_SET_ATTR_MODE) && fchmod(fd, wanted->st_mode & 07777) < 0)
        return errno;
    if ((to_set & all_times) && times_set(fd, wanted, to_set) < 0)
        return errno;
    return 0;
}

static void source_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int to_set,
                           struct fuse_file_info *fi)
{
    const struct source *source = ops_of(req)->source;
    size_t disk;

    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EPERM);
    if ((to_set & FUSE_SET_ATTR_SIZE) &&
        (uint64_t)wanted->st_size != source_disk_bytes(source, disk)) {
        log_warning("disk %s: refused to change its size from %" PRIu64 " to %jd bytes; `farshore "
                    "disk VM grow` does it",
                    source_disk_name(source, disk), source_disk_bytes(source, disk),
                    (intmax_t)wanted->st_size);
        return reply_errno(req, EPERM);
    }
    int failed = local_setattr(source_disk_fd(source, disk), wanted, to_set);
    if (failed != 0)
        return reply_errno(req, failed);
    source_getattr(req, ino, fi);
}

/* Entry i is at offset i; the first two are the folders. */
static void source_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *fi)
{
    struct source_ops *ops = ops_of(req);
    char *out = pthread_getspecific(ops->buffer);
    char name[NAME_BYTES];
    size_t used = 0;

    (void)fi;
    if (ino != FUSE_ROOT_ID || offset < 0)
        return reply_errno(req, ENOTDIR);
    if (size > MOUNT_WRITE_MAX)
        size = MOUNT_WRITE_MAX;
    for (size_t i = (size_t)offset; i < source_disks(ops->source) + 2; i++) {
        struct stat st = {.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR};
        snprintf(name, sizeof name, "%s", i == 0 ? "." : "..");
        if (i >= 2) {
            st = (struct stat){.st_ino = DISK_INODE_FIRST + i - 2, .st_mode = S_IFREG};
            image_name(ops->source, i - 2, name);
        }
        size_t need = fuse_add_direntry(req, out + used, size - used, name, &st, (off_t)i + 1);
        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, out, used);
}

static void source_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct source *source = ops_of(req)->source;
    struct statvfs sv = {.f_bsize = BLOCK_BYTES,
                         .f_frsize = BLOCK_BYTES,
                         .f_files = source_disks(source),
                         .f_namemax = NAME_BYTES - 1};

    (void)ino;
    for (size_t i = 0; i < source_disks(source); i++)
        sv.f_blocks += blocks_of_bytes(source_disk_bytes(source, i));
    fuse_reply_statfs(req, &sv);
}

/* ---- data ---- */

/* Raw, because libfuse before 3.15 has no name for parallel direct writes; without them the kernel
 * holds the inode's lock for each write. */
static void source_open_image(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    static const struct fuse_open_out reply = {.open_flags =
                                                   FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES};
    size_t disk;

    (void)fi;
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    fuse_reply_buf(req, (const char *)&reply, sizeof reply);
}

/* Into the request's own buffer, which is locked: a worker killed while it replies from a page that
 * is not there would fail the request. */
static void source_read_image(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                              struct fuse_file_info *fi)
{
    struct source_ops *ops = ops_of(req);
    uint8_t *out = pthread_getspecific(ops->buffer);
    struct err err = ERR_NONE;
    size_t disk;

    (void)fi;
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    uint64_t end = source_disk_bytes(ops->source, disk);
    if (offset < 0 || size > MOUNT_WRITE_MAX)
        return reply_errno(req, EINVAL);
    if ((uint64_t)offset >= end)
        size = 0;
    else if (size > end - (uint64_t)offset)
        size = (size_t)(end - (uint64_t)offset);
    if (size > 0 && !source_read(ops->source, disk, (uint64_t)offset, mspan_of(out, size), &err))
        return reply_failure(req, "read", disk, &err);
    fuse_reply_buf(req, (const char *)out, size);
}

/* Past the end is refused whole: a disk does not grow, and half a write is worse than none. */
static void source_write_image(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t offset,
                               struct fuse_file_info *fi)
{
    struct source *source = ops_of(req)->source;
    const size_t length = in->buf[0].size;
    struct err err = ERR_NONE;
    size_t disk;

    (void)fi;
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    uint64_t end = source_disk_bytes(source, disk);
    if (offset < 0)
        return reply_errno(req, EINVAL);
    if (length > 0) {
        if ((uint64_t)offset > end || length > end - (uint64_t)offset)
            return reply_errno(req, ENOSPC);
        if (!source_write(source, disk, (uint64_t)offset, span_of(in->buf[0].mem, length), &err))
            return reply_failure(req, "write", disk, &err);
    }
    fuse_reply_write(req, length);
}

static void source_sync(fuse_req_t req, fuse_ino_t ino)
{
    struct source *source = ops_of(req)->source;
    struct err err = ERR_NONE;
    size_t disk;

    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    if (!source_flush(source, disk, &err))
        return reply_failure(req, "sync", disk, &err);
    reply_errno(req, 0);
}

static void source_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync, (void)fi;
    source_sync(req, ino);
}

static void source_close_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    source_sync(req, ino);
}

/* Discard and write-zeroes. A hole that reaches past the end is cut there, as of any file; zeros
 * that would make the disk grow are refused. */
static void source_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                             struct fuse_file_info *fi)
{
    struct source *source = ops_of(req)->source;
    const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    struct err err = ERR_NONE;
    size_t disk;

    (void)fi;
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    mode &= ~FALLOC_FL_KEEP_SIZE;
    if (mode != FALLOC_FL_ZERO_RANGE && !(mode == FALLOC_FL_PUNCH_HOLE && keep_size))
        return reply_errno(req, EOPNOTSUPP);
    if (offset < 0 || length <= 0)
        return reply_errno(req, EINVAL);
    uint64_t end = source_disk_bytes(source, disk);
    uint64_t from = (uint64_t)offset, count = (uint64_t)length;
    if (from > end || count > end - from) {
        if (!keep_size)
            return reply_errno(req, ENOSPC);
        count = from < end ? end - from : 0;
    }
    if (count > 0 && !source_zero(source, disk, from, count, &err))
        return reply_failure(req, "discard", disk, &err);
    reply_errno(req, 0);
}

/* Walks the data that begins right at `from` to its end; the end of the disk counts as a hole. */
static bool next_hole(struct source *source, size_t disk, uint64_t from, uint64_t *hole,
                      struct err *err)
{
    uint64_t disk_end = source_disk_bytes(source, disk);
    uint64_t start, end;
    bool found;

    while (from < disk_end) {
        if (!source_next_data(source, disk, from, &start, &end, &found, err))
            return false;
        if (!found || start > from)
            break;
        assert(end > from);
        from = end;
    }
    *hole = from < disk_end ? from : disk_end;
    return true;
}

static void source_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                         struct fuse_file_info *fi)
{
    struct source *source = ops_of(req)->source;
    uint64_t found_at = 0, end;
    struct err err = ERR_NONE;
    bool found = true;
    size_t disk;

    (void)fi;
    if (!disk_of_inode(req, ino, &disk))
        return reply_errno(req, EISDIR);
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return reply_errno(req, EINVAL);
    if (offset < 0 || (uint64_t)offset >= source_disk_bytes(source, disk))
        return reply_errno(req, ENXIO);
    bool ok = whence == SEEK_HOLE
                  ? next_hole(source, disk, (uint64_t)offset, &found_at, &err)
                  : source_next_data(source, disk, (uint64_t)offset, &found_at, &end, &found, &err);
    if (!ok)
        return reply_failure(req, "seek", disk, &err);
    if (!found)
        return reply_errno(req, ENXIO);
    fuse_reply_lseek(req, (off_t)found_at);
}

/* ---- what a mount of disks does not do ---- */

static void refuse_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    reply_errno(req, EPERM);
}

static void refuse_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                         dev_t device)
{
    (void)mode, (void)device;
    refuse_name(req, parent, name);
}

static void refuse_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)mode;
    refuse_name(req, parent, name);
}

static void refuse_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                          struct fuse_file_info *fi)
{
    (void)mode, (void)fi;
    refuse_name(req, parent, name);
}

static void refuse_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target;
    refuse_name(req, parent, name);
}

static void refuse_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    refuse_name(req, parent, name);
}

static void refuse_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
                          fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    (void)new_parent, (void)new_name, (void)flags;
    refuse_name(req, parent, name);
}

const struct fuse_lowlevel_ops source_mount_operations = {
    .lookup = source_lookup,
    .getattr = source_getattr,
    .setattr = source_setattr,
    .readdir = source_readdir,
    .statfs = source_statfs,
    .open = source_open_image,
    .read = source_read_image,
    .write_buf = source_write_image,
    .fsync = source_fsync,
    .flush = source_close_flush,
    .fallocate = source_fallocate,
    .lseek = source_lseek,
    .create = refuse_create,
    .mknod = refuse_mknod,
    .mkdir = refuse_mkdir,
    .symlink = refuse_symlink,
    .link = refuse_link,
    .unlink = refuse_name,
    .rmdir = refuse_name,
    .rename = refuse_rename,
};
