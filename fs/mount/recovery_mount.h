/* SPDX-License-Identifier: MIT
 * The recovery mount: every recovery point of every joined VM as a folder (design 9), read-only or,
 * with a name for the overlays, writable. One process, libfuse3 low-level API. New points appear
 * while mounted. */
#ifndef FS_MOUNT_RECOVERY_MOUNT_H
#define FS_MOUNT_RECOVERY_MOUNT_H

#include "fs/view/overlay.h"

#define RECOVERY_THREADS 16u /* that serve requests */

struct recovery_vm {
    const char *name;
    struct view_config view; /* history, keys, targets; the cache is shared */
};

struct recovery_mount_config {
    struct world *world;
    const char *mount_point;
    const struct recovery_vm *vms;
    size_t vm_count;
    /* When set, fills `vms` and `vm_count`, in the process that serves: what is opened there may
     * have threads, which no fork carries over. Called once, before anything is mounted. */
    bool (*open)(void *context, struct recovery_mount_config *config, struct err *err);
    /* When set, ends store calls that wait, for good: the mount has ended and something of it still
     * does. From a thread of its own; what `open` opened is still there. */
    void (*cancel)(void *context);
    void *context;
    const char *writable_name;  /* NULL: read-only */
    const char *scratch_folder; /* where overlays are kept; with writable_name */
    uint64_t refresh_ms;        /* how often the histories are looked at again */
    bool foreground;
    int log_fd; /* what the daemon writes its log lines to; -1: where the caller's go */
};

/* Mounts and serves until unmounted or SIGTERM (foreground), or returns in the parent when the
 * mount is usable. No thread may run yet. A dead mount at the mount point is cleared away.
 * ERR_BUSY: the mount point is in use, or the overlays of that name are. */
bool recovery_mount_run(const struct recovery_mount_config *config, struct err *err) MUST_CHECK;

#endif
