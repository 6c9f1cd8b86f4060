/* SPDX-License-Identifier: MIT
 * What keeps others off a VM and its disks while it is mounted: a lock on the state folder, and on
 * each disk the bytes that QEMU locks in an image (so QEMU is refused, and so are we while it
 * runs), or for a block device O_EXCL. The descriptors go to the keeper and are shared with every
 * worker, so no death of one frees them. They are apart from the worker's own flock of the disks.
 */
#ifndef TOOLS_DISK_LOCK_H
#define TOOLS_DISK_LOCK_H

#include "tools/config.h"

/* The size of an open file or block device. */
bool disk_bytes(int fd, uint64_t *out, struct err *err) MUST_CHECK;

/* ERR_BUSY: says who may hold it. The caller owns *fd. */
bool disk_lock(const struct settings_disk *d, int *fd, struct err *err) MUST_CHECK;

/* Locks the VM on this host and notes the mount point ("": none) for those who ask. ERR_BUSY
 * names who holds it. */
bool vm_lock(const struct paths *p, const char *vm, const char *mount_point, int *fd,
             struct err *err) MUST_CHECK;
/* Whether it is locked now; `mount_point` gets where the mount is that holds it (PATH_MAX), "" when
 * it is none: a command that changes the disks. */
bool vm_locked(const struct paths *p, const char *vm, char mount_point[PATH_MAX]);
/* ERR_BUSY, for who has met such a command. False. */
bool vm_lock_taken(const char *vm, struct err *err);

#endif
