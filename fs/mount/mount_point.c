/* SPDX-License-Identifier: MIT */
#include "fs/mount/mount_point.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MOUNT_TYPE       "fuse.farshore"
#define MOUNT_LINE_MAX   65536 /* two paths of PATH_MAX, each byte in four, and options of a page */
#define STALE_MOUNTS_MAX 8     /* dead mounts on top of each other that are cleared away */

struct mount_entry {
    uint64_t id;
    char type[64];
};

/* \040 and the like, as the kernel writes spaces, tabs, newlines and backslashes. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0';) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
            in[3] >= '0' && in[3] <= '7') {
            *out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 4;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

/* ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS, see proc(5). */
static bool entry_parse(char *line, const char *absolute, struct mount_entry *out)
{
    char *rest = line;
    char *fields[5];

    for (int i = 0; i < 5; i++) {
        fields[i] = strsep(&rest, " ");
        if (rest == NULL)
            return false;
    }
    unescape(fields[4]);
    if (strcmp(fields[4], absolute) != 0)
        return false;
    const char *type = strstr(rest, " - ");
    if (type == NULL)
        return false;
    out->id = strtoull(fields[0], NULL, 10);
    snprintf(out->type, sizeof out->type, "%.*s", (int)strcspn(type + 3, " "), type + 3);
    return true;
}

/* The topmost mount at `absolute`: the last one listed. Needs no memory: a mount that cannot be
 * served for lack of it is still taken away. */
static bool entry_find(const char *absolute, struct mount_entry *out)
{
    char text[MOUNT_LINE_MAX];
    size_t used = 0;
    ssize_t length;
    bool found = false;
    int fd AUTO_FD = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && (length = read(fd, text + used, sizeof text - used)) > 0) {
        char *line = text, *end;
        used += (size_t)length;
        while ((end = memchr(line, '\n', used)) != NULL) {
            *end = '\0';
            found |= entry_parse(line, absolute, out);
            used -= (size_t)(end + 1 - line);
            line = end + 1;
        }
        memmove(text, line, used);
    }
    return found;
}

/* Asks the file system: the kernel answers for a connection whose processes are gone. */
static bool mount_dead(const char *absolute)
{
    struct statvfs sv;

    return statvfs(absolute, &sv) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

static bool clear_stale(const char *absolute, struct err *err)
{
    struct mount_entry entry;

    for (int i = 0; i < STALE_MOUNTS_MAX; i++) {
        if (!entry_find(absolute, &entry))
            return true;
        if (strcmp(entry.type, MOUNT_TYPE) != 0)
            return err_set(err, ERR_BUSY,
                           "%s is a mount point already (type %s): choose another folder", absolute,
                           entry.type);
        if (!mount_dead(absolute))
            return err_set(err, ERR_BUSY,
                           "%s is a farshore mount already: `farshore unmount %s` ends it",
                           absolute, absolute);
        log_warning("%s: clearing away a dead farshore mount, its processes were killed", absolute);
        if (umount2(absolute, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return err_errno(err, errno, "%s: clearing away a dead farshore mount", absolute);
    }
    return err_set(err, ERR_BUSY, "%s: too many mounts on top of each other", absolute);
}

bool mount_point_prepare(const char *path, char absolute[PATH_MAX], struct err *err)
{
    struct stat st;

    if (realpath(path, absolute) == NULL) {
        if (errno == ENOENT)
            return err_set(err, ERR_NOT_FOUND, "%s does not exist: make the folder first", path);
        return err_errno(err, errno, "mount point %s", path);
    }
    if (!clear_stale(absolute, err))
        return false;
    if (stat(absolute, &st) < 0)
        return err_errno(err, errno, "mount point %s", absolute);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "mount point %s is not a folder", absolute);
    return true;
}

bool mount_point_mount(const char *absolute, const char *vm, int fuse_fd, uint64_t *mount_id,
                       struct err *err)
{
    struct mount_entry entry;
    char source[128], options[128];

    snprintf(source, sizeof source, "farshore:%s", vm);
    snprintf(options, sizeof options,
             "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions", fuse_fd,
             geteuid(), getegid());
    if (mount(source, absolute, MOUNT_TYPE, MS_NOSUID | MS_NODEV, options) < 0) {
        int errnum = errno;
        return err_errno(err, errnum, "mounting %s%s", absolute,
                         errnum == EPERM ? " (only root may)" : "");
    }
    if (!entry_find(absolute, &entry)) {
        umount2(absolute, MNT_DETACH | UMOUNT_NOFOLLOW);
        return err_set(err, ERR_IO, "%s was mounted but is not in /proc/self/mountinfo", absolute);
    }
    *mount_id = entry.id;
    return true;
}

bool mount_point_is(const char *absolute, uint64_t mount_id)
{
    struct mount_entry entry;

    return entry_find(absolute, &entry) && entry.id == mount_id;
}

void mount_point_end(const char *absolute, uint64_t mount_id)
{
    if (!mount_point_is(absolute, mount_id))
        return;
    /* Aborts the connection; takes the mount away too unless it is in use. */
    if (umount2(absolute, MNT_FORCE | UMOUNT_NOFOLLOW) == 0)
        return;
    if (mount_point_is(absolute, mount_id) && umount2(absolute, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
        log_error("%s: cannot take the mount away: %m", absolute);
}
