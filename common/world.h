/* SPDX-License-Identifier: MIT
 * Every effect that farshore has on its host outside FUSE and the network: files, clock, random.
 * The real world is world_real(); tests have fakes (tests/support) that fail, lose unsynced writes
 * and keep their own clock. Calls return 0 (or a count) or a negative errno, like the kernel; the
 * helpers in common/file.h turn that into `struct err`. Any thread may call. */
#ifndef COMMON_WORLD_H
#define COMMON_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct world;
struct world_file; /* an open file; owned by who opened it, closed once */

#define WORLD_BOOT_BYTES 16u

struct world_stat {
    uint64_t size; /* bytes; of a block device its capacity */
    uint64_t inode;
    uint64_t device; /* where it lies; of a block device its own number */
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t allocated; /* bytes really in use */
    uint32_t mode;      /* permission bits */
    uint32_t uid;       /* owner */
    bool block_device;
    bool directory;
};

/* Called for each name in a folder but `.` and `..`; false stops. */
typedef bool world_dir_fn(void *context, const char *name, bool directory);

struct world_ops {
    /* `flags` as open(2); O_CLOEXEC is always added. */
    int (*open)(struct world *w, const char *path, int flags, mode_t mode, struct world_file **out);
    void (*close)(struct world_file *f);
    ssize_t (*pread)(struct world_file *f, void *out, size_t length, uint64_t offset);
    ssize_t (*pwrite)(struct world_file *f, const void *data, size_t length, uint64_t offset);
    int (*sync)(struct world_file *f); /* fdatasync */
    /* Makes the range read as zeros and frees its room where it can; the size stays. */
    int (*punch)(struct world_file *f, uint64_t offset, uint64_t length);
    int (*truncate)(struct world_file *f, uint64_t size);
    /* The first data at or after `from`: [*start, *end). -ENXIO when only a hole is left. */
    int (*next_data)(struct world_file *f, uint64_t from, uint64_t *start, uint64_t *end);
    int (*stat)(struct world_file *f, struct world_stat *out);

    int (*rename)(struct world *w, const char *from, const char *to);
    int (*unlink)(struct world *w, const char *path);
    int (*mkdir)(struct world *w, const char *path, mode_t mode);
    int (*link)(struct world *w, const char *from, const char *to); /* never replaces: -EEXIST */
    int (*sync_dir)(struct world *w, const char *path);
    /* In no order. A folder that changes meanwhile may show either state of what changed. */
    int (*list_dir)(struct world *w, const char *path, world_dir_fn *each, void *context);

    uint64_t (*realtime_ns)(struct world *w); /* since 1970, may jump */
    uint64_t (*boottime_ns)(struct world *w); /* since boot, never back */
    /* Which boot of the host this is; zeros where the kernel does not say. */
    void (*boot)(struct world *w, uint8_t out[WORLD_BOOT_BYTES]);
    int (*random)(struct world *w, void *out, size_t length); /* getrandom(2) */
};

/* A world's own state follows this head. */
struct world {
    const struct world_ops *ops;
};

/* First member of every world's open file. */
struct world_file {
    struct world *world;
    char *path; /* as it was opened, for error texts; the world that opened the file frees it */
};

struct world *world_real(void);

/* The descriptor behind a file of the real world, for locks and ioctls; -1 in other worlds. */
int world_file_fd(const struct world_file *f);

#endif
