/* SPDX-License-Identifier: MIT
 * The FUSE operations of a recovery mount: whose, where, may I, do it, translate. Inside fs/mount
 * only. */
#ifndef FS_MOUNT_RECOVERY_FUSE_H
#define FS_MOUNT_RECOVERY_FUSE_H

#include "fs/mount/open_points.h"
#include "fs/mount/recovery_tree.h"

#include <fuse_lowlevel.h>
#include <stdatomic.h>

#define RECOVERY_OWNED_MAX 1024u /* images whose owner or mode was changed */

/* What chown and chmod made of an image, for the life of the mount: libvirt does both before it
 * starts a domain. */
struct recovery_owned {
    uint64_t inode;
    uid_t uid;
    gid_t gid;
    mode_t mode;
};

struct recovery {
    const struct recovery_mount_config *config;
    struct recovery_tree tree;
    struct open_points *points;

    void (*usable)(struct recovery *r); /* called once, when the kernel is about to be answered */
    atomic_bool is_usable;
    int *report_fd; /* of whom waits for that; -1: nobody, or told already */

    pthread_mutex_t owned_lock;
    struct recovery_owned owned[RECOVERY_OWNED_MAX];
    size_t owned_count;

    /* One line per kind of error and second, however many readers meet it. */
    pthread_mutex_t said_lock;
    uint64_t said_ms[ERR_KINDS];
    uint64_t unsaid[ERR_KINDS];
};

/* The session's user data is a `struct recovery`. */
extern const struct fuse_lowlevel_ops recovery_fuse_ops;

#endif
