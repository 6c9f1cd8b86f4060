/* SPDX-License-Identifier: MIT
 * The keeper: mounts, holds /dev/fuse and the memory that must outlive a worker, starts the worker
 * and starts it again when it dies; nothing else: no parsing, no network, no store (design 4).
 * It is one thread. Its process is mlocked, a PR_SET_IO_FLUSHER and spared by the OOM killer.
 *
 * The worker is an exec of `worker_argv`; it inherits the descriptors below at fixed numbers, named
 * by `struct worker_inheritance` which it gets back with worker_inherit(). A worker whose keeper
 * dies execs the same command line once more, and worker_inherit() turns that process into the next
 * keeper.
 *
 * A worker's life, as the keeper sees it:
 *   started -report_ready-> ready -death-> (the next is started, at once or after a short pause)
 *   started -report_failure or death-> the first one: the mount is undone and keeper_run fails;
 *                                      a later one: tried again until give_up_seconds have passed
 *   ready -becomes the next itself-> ready (source_mount_restart; the keeper sees nothing of it)
 *   any -report_finished, then exit-> the keeper frees all and ends
 *
 * Signals: SIGTERM and SIGINT ask for an unmount; while files are open on the mount it goes on.
 *
 * What a dead worker had in hand comes again from the kernel (FUSE_NOTIFY_RESEND, since 6.9), or
 * else is found in the kept memory (slots.h). FARSHORE_RESEND=off in the keeper's environment
 * chooses the second on every kernel: for tests, and for a kernel whose resending is broken. */
#ifndef FS_MOUNT_KEEPER_H
#define FS_MOUNT_KEEPER_H

#include "common/err.h"

#include <stddef.h>
#include <sys/types.h>

#define KEEPER_LOCKS_MAX 65u /* a VM's state folder and its disks */

struct keeper_config {
    const char *mount_point;  /* an existing folder, empty or not; not a mount point already */
    const char *vm;           /* the source column of findmnt: farshore:VM; type fuse.farshore */
    size_t memory_bytes;      /* what the worker needs kept: see source_memory_bytes */
    char *const *worker_argv; /* worker_argv[0] is an absolute path */
    const int *lock_fds;      /* descriptors whose locks no death of one process may free */
    size_t lock_count;
    bool foreground;          /* stay attached to the terminal; else daemonise when usable */
    int log_fd;               /* standard error of the daemon and its workers; -1: the caller's */
    unsigned give_up_seconds; /* no worker could start for so long: end the connection */
};

/* Mounts, starts the first worker, and returns when the mount is usable (parent of the daemon) or
 * when it ended (foreground). The caller has one thread. ERR_BUSY: the mount point is in use (a
 * dead farshore mount there is cleared away); errors of the first worker's start come back as that
 * worker wrote them, and nothing stays mounted. */
bool keeper_run(const struct keeper_config *config, struct err *err) MUST_CHECK;

struct keeper_page;

struct worker_inheritance {
    int fuse_fd;  /* /dev/fuse, connected, FUSE_INIT answered */
    void *memory; /* mapped shared; locked page by page as it is touched */
    size_t memory_bytes;
    bool memory_fresh; /* no worker has lived yet: format it */
    unsigned restarts; /* workers before this one */
    int lock_fds[KEEPER_LOCKS_MAX];
    size_t lock_count;
    struct keeper_page *page; /* for fs/mount alone */
};

/* In the worker, first thing and with one thread: takes over what the keeper left, locks the
 * process's memory, and does not return when this process is to be the next keeper. ERR_INVALID
 * when not started by a keeper. */
bool worker_inherit(struct worker_inheritance *out, struct err *err) MUST_CHECK;
/* Before the memory is used: makes it at least `bytes` long. What is new is zeros. */
bool worker_memory_grow(struct worker_inheritance *w, size_t bytes, struct err *err) MUST_CHECK;
/* Tells the keeper (and so the waiting `mount`) that the mount is usable, or why not. */
void worker_report_ready(void);
void worker_report_failure(const struct err *err);
/* The file system is unmounted and all is closed: the keeper ends when this process has. A worker
 * that dies before it says so is started again, to finish. */
void worker_report_finished(const struct worker_inheritance *inherited);
/* Who keeps this worker now; for `status`. Any thread. */
pid_t worker_keeper_pid(const struct worker_inheritance *inherited);

#endif
