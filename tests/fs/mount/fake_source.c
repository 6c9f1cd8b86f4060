/* SPDX-License-Identifier: MIT
 * A fake of fs/disk/source.h for tests of the mount: each disk is its plain local file, nothing is
 * tracked. The environment makes it misbehave:
 *   FAKE_DEADLY_OFFSET=N    a write that begins at byte N aborts the process
 *   FAKE_STUCK_OFFSET=N     a write that begins at byte N makes the file STUCK.reached and waits
 *   FAKE_STUCK=STUCK        while the file STUCK exists
 *   FAKE_FAR=PATH           while PATH exists, a read that begins at FAKE_FAR_OFFSET waits as for
 * an origin; each adds a byte to PATH.reached FAKE_SYNC_FAILS=PATH    while PATH exists,
 * source_flush fails */
#include "fs/disk/source.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>

struct source {
    size_t count;
    struct {
        const char *name;
        int fd;
        uint64_t bytes;
    } disks[VM_DISKS_MAX];
    uint64_t deadly_offset, stuck_offset, far_offset;
    const char *sync_fails, *stuck, *far;
    struct long_wait wait;
};

size_t source_memory_bytes(const uint64_t *disk_bytes, size_t disk_count)
{
    (void)disk_bytes;
    return disk_count * 4096;
}

static uint64_t offset_named(const char *variable)
{
    const char *value = getenv(variable);

    return value != NULL ? strtoull(value, NULL, 10) : UINT64_MAX;
}

bool source_open(const struct source_config *config, struct source **out, struct err *err)
{
    struct source *s = calloc(1, sizeof *s);

    assert(s != NULL);
    s->deadly_offset = offset_named("FAKE_DEADLY_OFFSET");
    s->stuck_offset = offset_named("FAKE_STUCK_OFFSET");
    s->stuck = getenv("FAKE_STUCK");
    s->far_offset = offset_named("FAKE_FAR_OFFSET");
    s->far = getenv("FAKE_FAR");
    s->sync_fails = getenv("FAKE_SYNC_FAILS");
    for (size_t i = 0; i < config->disk_count; i++) {
        int fd = open(config->disks[i].path, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            err_errno(err, errno, "disk %s: %s", config->disks[i].name, config->disks[i].path);
            source_close(&s);
            return false;
        }
        s->disks[i].name = config->disks[i].name;
        s->disks[i].fd = fd;
        s->disks[i].bytes = (uint64_t)lseek(fd, 0, SEEK_END);
        s->count++;
    }
    *out = s;
    return true;
}

void source_close(struct source **s)
{
    struct source *closing = TAKE(*s);

    if (closing == NULL)
        return;
    for (size_t i = 0; i < closing->count; i++)
        close(closing->disks[i].fd);
    free(closing);
}

size_t source_disks(const struct source *s)
{
    return s->count;
}

const char *source_disk_name(const struct source *s, size_t disk)
{
    return s->disks[disk].name;
}

uint64_t source_disk_bytes(const struct source *s, size_t disk)
{
    return s->disks[disk].bytes;
}

int source_disk_fd(const struct source *s, size_t disk)
{
    return s->disks[disk].fd;
}

static void wait_while(const char *path)
{
    char reached[PATH_MAX];

    snprintf(reached, sizeof reached, "%s.reached", path);
    int fd AUTO_FD = open(reached, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert(write(fd, "x", 1) == 1);
    while (access(path, F_OK) == 0)
        usleep(1000);
}

void source_on_wait(struct source *s, struct long_wait wait)
{
    s->wait = wait;
}

bool source_read(struct source *s, size_t disk, uint64_t offset, struct mspan out, struct err *err)
{
    assert(offset <= s->disks[disk].bytes && out.length <= s->disks[disk].bytes - offset);
    if (offset == s->far_offset && s->far != NULL) {
        long_wait_begin(&s->wait);
        wait_while(s->far);
        long_wait_end(&s->wait);
    }
    if (pread(s->disks[disk].fd, out.data, out.length, (off_t)offset) == (ssize_t)out.length)
        return true;
    return err_errno(err, errno, "reading");
}

bool source_write(struct source *s, size_t disk, uint64_t offset, struct span data, struct err *err)
{
    assert(offset <= s->disks[disk].bytes && data.length <= s->disks[disk].bytes - offset);
    if (offset == s->deadly_offset)
        abort();
    if (offset == s->stuck_offset && s->stuck != NULL)
        wait_while(s->stuck);
    if (pwrite(s->disks[disk].fd, data.data, data.length, (off_t)offset) == (ssize_t)data.length)
        return true;
    return err_errno(err, errno, "writing");
}

bool source_zero(struct source *s, size_t disk, uint64_t offset, uint64_t length, struct err *err)
{
    assert(offset <= s->disks[disk].bytes && length <= s->disks[disk].bytes - offset);
    if (fallocate(s->disks[disk].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)length) == 0)
        return true;
    return err_errno(err, errno, "punching a hole");
}

bool source_flush(struct source *s, size_t disk, struct err *err)
{
    if (s->sync_fails != NULL && access(s->sync_fails, F_OK) == 0)
        return err_set(err, ERR_IO, "this sync fails because %s exists", s->sync_fails);
    return fdatasync(s->disks[disk].fd) == 0 || err_errno(err, errno, "syncing");
}

bool source_next_data(struct source *s, size_t disk, uint64_t from, uint64_t *start, uint64_t *end,
                      bool *found, struct err *err)
{
    int fd = s->disks[disk].fd;
    off_t data = lseek(fd, (off_t)from, SEEK_DATA);

    *found = data >= 0;
    if (data < 0)
        return errno == ENXIO || err_errno(err, errno, "looking for data");
    off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0)
        return err_errno(err, errno, "looking for a hole");
    *start = (uint64_t)data;
    *end = (uint64_t)hole;
    return true;
}

bool source_mark_all(struct source *s, struct err *err)
{
    (void)s;
    return err_set(err, ERR_INVALID, "the fake source tracks nothing");
}
