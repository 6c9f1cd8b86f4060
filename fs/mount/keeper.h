/* SPDX-License-Identifier: MIT
 * The keeper: mounts, holds /dev/fuse and the memory that must outlive a worker, starts the worker
 * and starts it again when it dies; nothing else: no parsing, no network, no store (design 4).
 * It is one thread. Its process is mlocked, a PR_SET_IO_FLUSHER and spared by the OOM killer.
 *
 * The worker is an exec of `worker_argv`; it inherits the descriptors below at fixed numbers, named
 * by `struct worker_inheritance` which it gets back with worker_inherit(). */
#ifndef FS_MOUNT_KEEPER_H
#define FS_MOUNT_KEEPER_H

#include "common/err.h"

#include <stddef.h>

#define KEEPER_LOCKS_MAX 65u /* a VM's state folder and its disks */

struct keeper_config {
    const char *mount_point;  /* an existing folder, empty or not; not a mount point already */
    const char *vm;           /* the source column of findmnt: farshore:VM; type fuse.farshore */
    size_t memory_bytes;      /* what the worker needs kept: see source_memory_bytes */
    char *const *worker_argv; /* worker_argv[0] is an absolute path */
    const int *lock_fds;      /* descriptors whose locks no death of one process may free */
    size_t lock_count;
    bool foreground;          /* stay attached to the terminal; else daemonise when usable */
    unsigned give_up_seconds; /* no worker could start for so long: end the connection */
};

/* Mounts, starts the first worker, and returns when the mount is usable (parent of the daemon) or
 * when it ended (foreground). ERR_BUSY: the mount point is in use; errors of the first worker's
 * start come back as that worker wrote them. */
bool keeper_run(const struct keeper_config *config, struct err *err) MUST_CHECK;

struct worker_inheritance {
    int fuse_fd;  /* /dev/fuse, connected */
    void *memory; /* mapped shared, locked */
    size_t memory_bytes;
    bool memory_fresh; /* no worker has lived yet: format it */
    unsigned restarts; /* workers before this one */
    int lock_fds[KEEPER_LOCKS_MAX];
    size_t lock_count;
};

/* In the worker, first thing: takes over what the keeper left. ERR_INVALID when not started by a
 * keeper. */
bool worker_inherit(struct worker_inheritance *out, struct err *err) MUST_CHECK;
/* Tells the keeper (and so the waiting `mount`) that the mount is usable, or why not. */
void worker_report_ready(void);
void worker_report_failure(const struct err *err);

#endif
