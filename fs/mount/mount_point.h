/* SPDX-License-Identifier: MIT
 * A folder where a file system is mounted, by mount(2) and /proc/self/mountinfo. Any thread. */
#ifndef FS_MOUNT_MOUNT_POINT_H
#define FS_MOUNT_MOUNT_POINT_H

#include "common/err.h"

#include <limits.h>
#include <stdint.h>

/* Makes `path` absolute and sees that nothing is mounted there; a dead farshore mount (its
 * processes were killed) is detached. ERR_BUSY: something lives there. */
bool mount_point_prepare(const char *path, char absolute[PATH_MAX], struct err *err) MUST_CHECK;
/* Mounts the connection `fuse_fd`; *mount_id names this mount until it is gone. */
bool mount_point_mount(const char *absolute, const char *vm, int fuse_fd, uint64_t *mount_id,
                       struct err *err) MUST_CHECK;
/* Is the topmost mount there the one of `mount_id`? */
bool mount_point_is(const char *absolute, uint64_t mount_id);
/* Ends the connection (requests waiting in the kernel fail) and takes the mount away, in use or
 * not. In this order: a lazy unmount first would leave them waiting for ever. */
void mount_point_end(const char *absolute, uint64_t mount_id);

#endif
