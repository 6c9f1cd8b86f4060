/* SPDX-License-Identifier: MIT
 * FUSE_INIT, answered by the keeper for all workers to come, so that the first start and an
 * adoption are one path, and with flags that older libfuse does not know. Inside fs/mount only. */
#ifndef FS_MOUNT_HANDSHAKE_H
#define FS_MOUNT_HANDSHAKE_H

#include "common/err.h"
#include "fs/mount/keeper_page.h"

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

/* Asynchronous direct I/O counts as background; the kernel's own limit of 12 would be the queue
 * depth of a guest. */
#define MOUNT_BACKGROUND_MAX 128u
#define MOUNT_WRITE_MAX      (1u << 20) /* more needs /proc/sys/fs/fuse/max_pages_limit */
#define MOUNT_REQUEST_HEAD   (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
/* Set in the number of a request that came again (kernel 6.9). */
#define MOUNT_UNIQUE_RESENT (1ull << 63)

/* Reads the kernel's FUSE_INIT from a connection just mounted, records it in the page, answers.
 * Without `use_resend` it is recorded as that of a kernel that does not send requests again. */
bool handshake_answer(int fuse_fd, bool use_resend, struct keeper_page *page,
                      struct err *err) MUST_CHECK;
/* Does the kernel of the recorded FUSE_INIT send requests again (FUSE_NOTIFY_RESEND)? */
bool handshake_can_resend(const struct keeper_page *page);
/* Hands the recorded FUSE_INIT to libfuse; its answer carries a number that the kernel does not
 * know and is dropped there. */
bool handshake_replay(struct fuse_session *session, const struct keeper_page *page,
                      struct err *err) MUST_CHECK;
/* Asks the kernel to send again what a dead worker left unanswered. */
bool handshake_resend(int fuse_fd, struct err *err) MUST_CHECK;

#endif
