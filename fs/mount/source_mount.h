/* SPDX-License-Identifier: MIT
 * The worker's side of a source mount: serves FUSE requests from a `struct source`, one file
 * NAME.img per disk. Several threads read one shared /dev/fuse descriptor (never clone_fd) into the
 * slots of slots.h, which are mapped in and locked beforehand, so that a kill costs the guest
 * nothing. While one waits for long (source_on_wait) another serves in its stead, with a slot
 * of its own, so that up to WAITING_MAX such requests hold up no local I/O.
 * Nothing of ours is allocated on the write path (libfuse takes a small request head from the heap,
 * which is locked).
 *
 * A worker calls, in this order: worker_inherit, source_open on the inherited memory,
 * source_mount_open, worker_report_ready, source_mount_serve, source_mount_close, source_close,
 * worker_report_finished. */
#ifndef FS_MOUNT_SOURCE_MOUNT_H
#define FS_MOUNT_SOURCE_MOUNT_H

#include "fs/disk/source.h"
#include "fs/mount/keeper.h"

struct source_mount;

/* Adopts the connection: takes flock(LOCK_EX) on every local file (waiting for a dead worker's last
 * I/O), hands libfuse the recorded FUSE_INIT, and asks for RESEND when a worker lived before (on
 * kernels without it, source_mount_serve begins with what lies in the slots).
 * ERR_BUSY when somebody else holds the lock of a local file at the first start. Both arguments
 * must outlive the mount. */
bool source_mount_open(struct source *source, const struct worker_inheritance *inherited,
                       struct source_mount **out, struct err *err) MUST_CHECK;
/* Serves until the file system is unmounted. Meanwhile it replaces a keeper that died. One thread,
 * once. */
bool source_mount_serve(struct source_mount *m, struct err *err) MUST_CHECK;
/* This process becomes the next worker soon, while it serves; to its threads as a kill would: the
 * next one takes up whatever is in hand, requests that wait for a store among them, which a stop by
 * the book would have to fail. Any thread; returns. */
void source_mount_restart(struct source_mount *m);
void source_mount_close(struct source_mount **m);

#endif
