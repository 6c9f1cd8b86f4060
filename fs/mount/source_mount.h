/* SPDX-License-Identifier: MIT
 * The worker's side of a source mount: serves FUSE requests from a `struct source`, one file
 * NAME.img per disk. Several threads read one shared /dev/fuse descriptor (never clone_fd) into a
 * pool of buffers that is mapped in and locked beforehand, so that a kill costs the guest nothing.
 * Nothing is allocated on the write path. */
#ifndef FS_MOUNT_SOURCE_MOUNT_H
#define FS_MOUNT_SOURCE_MOUNT_H

#include "fs/disk/source.h"
#include "fs/mount/keeper.h"

struct source_mount;

/* Adopts the connection: replays FUSE_INIT when a worker lived before, takes flock(LOCK_EX) on
 * every local file (waiting for a dead worker's last I/O), then asks for RESEND. */
bool source_mount_open(struct source *source, const struct worker_inheritance *inherited,
                       struct source_mount **out, struct err *err) MUST_CHECK;
/* Serves until the file system is unmounted or source_mount_stop is called. */
bool source_mount_serve(struct source_mount *m, struct err *err) MUST_CHECK;
void source_mount_stop(struct source_mount *m); /* any thread; serve returns soon */
void source_mount_close(struct source_mount **m);

#endif
