/* SPDX-License-Identifier: MIT
 * The tree that a recovery mount shows (design 9), computed from the histories: nothing is kept, so
 * ten thousand points cost what one does. Inode numbers are computed from what a node is; a point
 * counts by the index of its epoch, and epochs are only ever added, so a number means the same for
 * the life of the mount, also when a new generation leaves points behind.
 *
 *   /                     VM/
 *   VM/                   points/ at/ latest latest-application latest-verified branches/
 *   VM/points/ID/         DISK.img ... point.json
 *   VM/at/TIME            -> ../points/ID, for any TIME that is asked for; never listed
 *   VM/branches/          only when there are any: GENERATION/ID/, points that were left behind
 *
 * Any thread may call. Knows nothing of FUSE. */
#ifndef FS_MOUNT_RECOVERY_TREE_H
#define FS_MOUNT_RECOVERY_TREE_H

#include "fs/mount/recovery_mount.h"

enum recovery_kind {
    RECOVERY_ROOT = 1,
    RECOVERY_VM,
    RECOVERY_POINTS,
    RECOVERY_POINT,
    RECOVERY_DISK,
    RECOVERY_JSON,
    RECOVERY_AT,
    RECOVERY_BRANCHES,
    RECOVERY_BRANCH, /* `point` is the index of its generation */
    /* From here on links. This one by the point that it leads to: two times are one inode. */
    RECOVERY_AT_LINK,
    RECOVERY_LATEST,
    RECOVERY_LATEST_APPLICATION,
    RECOVERY_LATEST_VERIFIED,
    RECOVERY_KINDS
};

#define RECOVERY_VMS_MAX  4096u
#define RECOVERY_NAME_MAX 255u /* with the NUL, of one entry */
#define RECOVERY_LINK_MAX 64u

/* Members that a kind does not need are 0. */
struct recovery_node {
    enum recovery_kind kind;
    uint32_t vm;    /* index in the tree */
    uint64_t point; /* index of its epoch in the VM's history; of a generation: RECOVERY_BRANCH */
    uint32_t disk;  /* index among the point's disks */
};

struct recovery_tree {
    const struct recovery_vm *vms;
    size_t vm_count; /* at most RECOVERY_VMS_MAX */
};

/* The root is 1, as FUSE wants it. */
uint64_t recovery_inode(struct recovery_node node);
/* False when no node of this tree has had that number. */
bool recovery_node(const struct recovery_tree *t, uint64_t inode, struct recovery_node *out);

/* The point that a node belongs to; false when it is not listed any more. */
bool recovery_point(const struct recovery_tree *t, struct recovery_node node,
                    struct history_point *out);

struct recovery_attr {
    enum { RECOVERY_FOLDER, RECOVERY_FILE, RECOVERY_LINK } type;
    uint64_t bytes;
    uint64_t mtime_ms; /* the point's time; of a folder of points that of its newest */
};
bool recovery_attr(const struct recovery_tree *t, struct recovery_node node,
                   struct recovery_attr *out, struct err *err) MUST_CHECK;

/* ERR_NOT_FOUND: no such entry. */
bool recovery_lookup(const struct recovery_tree *t, struct recovery_node folder, const char *name,
                     struct recovery_node *out, struct err *err) MUST_CHECK;

/* Entry i of a folder, from 0, `.` and `..` left out; false past the last. Entries that come to be
 * while somebody reads come last. */
bool recovery_entry(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                    char name[RECOVERY_NAME_MAX], struct recovery_node *out);

/* Where a link leads now, relative to its folder. */
bool recovery_link(const struct recovery_tree *t, struct recovery_node node,
                   char out[RECOVERY_LINK_MAX], struct err *err) MUST_CHECK;

/* point.json */
bool recovery_json(const struct recovery_tree *t, struct recovery_node node, struct buf *out,
                   struct err *err) MUST_CHECK;

#endif
