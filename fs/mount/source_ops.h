/* SPDX-License-Identifier: MIT
 * The FUSE operations of a source mount: a folder of NAME.img, nothing kept between requests.
 * Inside fs/mount only. Inode numbers are constant (the root is 1, disk i is 2 + i), so that any
 * worker can go on with what another one answered. */
#ifndef FS_MOUNT_SOURCE_OPS_H
#define FS_MOUNT_SOURCE_OPS_H

#include "fs/disk/source.h"

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

/* The userdata of the session. */
struct source_ops {
    struct source *source;
    pthread_key_t buffer;            /* of the calling thread: MOUNT_WRITE_MAX bytes, locked */
    _Atomic uint64_t error_logged_s; /* failing I/O is logged once a second */
    _Atomic uint64_t errors_unlogged;
};

extern const struct fuse_lowlevel_ops source_mount_operations;

#endif
