/* SPDX-License-Identifier: MIT
 * The disks' files before the mount is over them: how large they are, and the new ones. */
#include "tools/failover/source_domain.h"

#include "common/file.h"
#include "common/json.h"
#include "tools/disk_lock.h"
#include "tools/failover/commands.h"
#include "tools/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MEASURE_MS 60000u
#define CONVERT_MS (7ull * 24 * 3600 * 1000) /* a bound, not a wait */

/* qemu-img with a path or two, quoted for the shell that runs it. */
static bool qemu_img(const char *what, const char *words, const char *a, const char *b,
                     uint64_t timeout_ms, struct buf *output, struct err *err)
{
    char line[COMMAND_BYTES_MAX], from[PATH_MAX], to[PATH_MAX];
    shell_quote(a, from, sizeof from);
    shell_quote(b, to, sizeof to);
    int n = snprintf(line, sizeof line, "qemu-img %s %s %s", words, from, *b ? to : "");
    if (n < 0 || (size_t)n >= sizeof line)
        return err_set(err, ERR_INVALID, "%.80s...: its path is too long", a);
    const struct command command = {.what = what, .line = line, .timeout_ms = timeout_ms, .vm = ""};
    return command_run(&command, output, err) ||
           err_wrap(err, "%s (qemu-img is in the package qemu-utils)", what);
}

static bool measure_qcow2(struct source_disk *d, struct err *err)
{
    struct buf output AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    return (qemu_img("measuring the image", "measure --force-share -f qcow2 -O raw --output json",
                     d->path, "", MEASURE_MS, &output, err) &&
            json_parse(buf_span(&output), &j, err) &&
            json_u64(j, "required", &d->room_bytes, err) &&
            json_u64(j, "fully-allocated", &d->size_bytes, err)) ||
           err_wrap(err, "disk %s: %s", d->name, d->path);
}

static bool measure(struct source_disk *d, struct err *err)
{
    struct stat st;
    if (d->qcow2)
        return measure_qcow2(d, err);
    int fd AUTO_FD = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    if (!disk_bytes(fd, &d->size_bytes, err))
        return err_wrap(err, "disk %s: %s", d->name, d->path);
    if (strcmp(d->local, d->path) != 0)
        d->room_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : d->size_bytes;
    return true;
}

bool source_domain_measure(struct source_domain *d, struct err *err)
{
    for (uint16_t i = 0; i < d->disk_count; i++)
        if (!measure(&d->disks[i], err))
            return false;
    return true;
}

/* --- room --- */

static void folder_of(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    slash[slash == out] = '\0';
}

static bool is_new(const struct source_disk *d)
{
    return strcmp(d->local, d->path) != 0;
}

/* All new files on the file system of disk `at`, counted when it is the first there. */
static bool check_room_at(struct source_domain *d, uint16_t at, struct err *err)
{
    char folder[PATH_MAX], other[PATH_MAX], need[OUTPUT_TEXT_MAX], have[OUTPUT_TEXT_MAX];
    struct stat here, there;
    struct statvfs room;
    uint64_t least = 0, most = 0;

    folder_of(d->disks[at].local, folder);
    if (stat(folder, &here) != 0 || statvfs(folder, &room) != 0)
        return err_errno(err, errno, "%s, for disk %s", folder, d->disks[at].name);
    for (uint16_t i = 0; i < d->disk_count; i++) {
        folder_of(d->disks[i].local, other);
        if (!is_new(&d->disks[i]) || stat(other, &there) != 0 || there.st_dev != here.st_dev)
            continue;
        if (i < at)
            return true;
        least += d->disks[i].room_bytes;
        most += d->disks[i].size_bytes;
    }
    uint64_t free_bytes = (uint64_t)room.f_bavail * room.f_frsize;
    size_format(free_bytes, have);
    size_format(least, need);
    if (free_bytes < least)
        return err_set(err, ERR_FULL,
                       "%s has %s free, and the new disk files of domain %s need %s: make room, or "
                       "give another folder with --local",
                       folder, have, d->name, need);
    size_format(most, need);
    if (free_bytes < most)
        source_domain_note(d,
                           "%s has %s free; the new disk files grow to %s as the guest fills them",
                           folder, have, need);
    return true;
}

bool source_domain_check_room(struct source_domain *d, struct err *err)
{
    for (uint16_t i = 0; i < d->disk_count; i++)
        if (is_new(&d->disks[i]) && !check_room_at(d, i, err))
            return false;
    return true;
}

/* --- making them --- */

/* Empty, with the owner and rights of the old one. */
static bool make_empty(const struct source_disk *d, bool again, struct err *err)
{
    struct stat st;
    int fd AUTO_FD =
        open(d->local, O_RDWR | O_CREAT | O_CLOEXEC | (again ? O_TRUNC : O_EXCL), 0600);
    if (fd < 0 && errno == EEXIST)
        return err_set(err, ERR_EXISTS, "disk %s: %s is there already: move it away", d->name,
                       d->local);
    if (fd < 0 || ftruncate(fd, (off_t)d->size_bytes) != 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->local);
    if (stat(d->path, &st) == 0 && S_ISREG(st.st_mode) &&
        (fchown(fd, st.st_uid, st.st_gid) != 0 || fchmod(fd, st.st_mode & 0777) != 0))
        return err_errno(err, errno, "disk %s: owner and rights of %s", d->name, d->local);
    return true;
}

/* Content and name, before anything says that the file is there. qemu-img syncs nothing. */
static bool make_durable(struct world *w, const struct source_disk *d, struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    char folder[PATH_MAX];
    folder_of(d->local, folder);
    if (!file_open(w, d->local, O_RDWR, 0, &file, err) || !file_sync(file, err))
        return err_wrap(err, "disk %s", d->name);
    int result = w->ops->sync_dir(w, folder);
    return result == 0 || err_errno(err, -result, "disk %s: %s", d->name, folder);
}

static bool convert(const struct source_disk *d, struct err *err)
{
    return qemu_img("converting the image", "convert -n -f qcow2 -O raw", d->path, d->local,
                    CONVERT_MS, NULL, err) ||
           err_wrap(err, "disk %s: %s", d->name, d->path);
}

bool source_domain_make_files(struct world *w, const struct source_domain *d, bool again,
                              struct err *err)
{
    for (uint16_t i = 0; i < d->disk_count; i++) {
        const struct source_disk *disk = &d->disks[i];
        if (!is_new(disk))
            continue;
        if (!make_empty(disk, again, err))
            return false;
        if (!d->running && !convert(disk, err)) {
            unlink(disk->local); /* it was made just now; what is left costs room and no more */
            return false;
        }
        if (!make_durable(w, disk, err))
            return false;
    }
    return true;
}
