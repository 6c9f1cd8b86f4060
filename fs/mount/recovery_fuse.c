/* SPDX-License-Identifier: MIT */
#include "fs/mount/recovery_fuse.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define KNOWN_S      1.0 /* how long the kernel believes an entry or its attributes */
#define SAY_EVERY_MS 1000u

static struct recovery *recovery_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static void complain(struct recovery *r, const char *what, const struct err *err)
{
    uint64_t now_ms = r->config->world->ops->boottime_ns(r->config->world) / 1000000;
    uint64_t unsaid;
    {
        LOCK_SCOPE(&r->said_lock);
        if (r->said_ms[err->kind] != 0 && now_ms - r->said_ms[err->kind] < SAY_EVERY_MS) {
            r->unsaid[err->kind]++;
            return;
        }
        r->said_ms[err->kind] = now_ms;
        unsaid = r->unsaid[err->kind];
        r->unsaid[err->kind] = 0;
    }
    if (unsaid > 0)
        log_error("%s: %s (and %llu more before it)", what, err->text, (unsigned long long)unsaid);
    else
        log_error("%s: %s", what, err->text);
}

static void reply_err(fuse_req_t req, const char *what, const struct err *err)
{
    complain(recovery_of(req), what, err);
    fuse_reply_err(req, err_to_errno(err->kind));
}

static bool writable(const struct recovery *r)
{
    return r->config->writable_name != NULL;
}

static void recovery_init(void *userdata, struct fuse_conn_info *conn)
{
    struct recovery *r = userdata;
    /* Replies lie in memory anyway: a pipe between would only add to them. */
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    r->usable(r);
}

/* --- attributes --- */

static struct recovery_owned *owned_locked(struct recovery *r, uint64_t inode)
{
    for (size_t i = 0; i < r->owned_count; i++) {
        if (r->owned[i].inode == inode)
            return &r->owned[i];
    }
    return NULL;
}

static struct recovery_owned ownership(struct recovery *r, struct recovery_node node)
{
    struct recovery_owned o = {
        .inode = recovery_inode(node), .uid = geteuid(), .gid = getegid(), .mode = 0444};
    if (node.kind != RECOVERY_DISK || !writable(r))
        return o;
    o.mode = 0644;
    LOCK_SCOPE(&r->owned_lock);
    struct recovery_owned *changed = owned_locked(r, o.inode);
    return changed ? *changed : o;
}

static bool ownership_set(struct recovery *r, struct recovery_owned o)
{
    LOCK_SCOPE(&r->owned_lock);
    struct recovery_owned *changed = owned_locked(r, o.inode);
    if (!changed && r->owned_count < RECOVERY_OWNED_MAX)
        changed = &r->owned[r->owned_count++];
    if (changed)
        *changed = o;
    return changed != NULL;
}

static bool stat_of(struct recovery *r, struct recovery_node node, struct stat *out,
                    struct err *err)
{
    struct recovery_attr attr;
    struct recovery_owned owned = ownership(r, node);
    if (!recovery_attr(&r->tree, node, &attr, err))
        return false;
    *out = (struct stat){
        .st_ino = owned.inode,
        .st_uid = owned.uid,
        .st_gid = owned.gid,
        .st_size = (off_t)attr.bytes,
        .st_blksize = BLOCK_BYTES,
    };
    out->st_mtim.tv_sec = (time_t)(attr.mtime_ms / 1000);
    out->st_mtim.tv_nsec = (long)(attr.mtime_ms % 1000) * 1000000;
    out->st_atim = out->st_ctim = out->st_mtim;
    switch (attr.type) {
    case RECOVERY_FOLDER:
        out->st_mode = S_IFDIR | 0555;
        out->st_nlink = 2;
        return true;
    case RECOVERY_FILE:
        out->st_mode = S_IFREG | owned.mode;
        break;
    case RECOVERY_LINK:
        out->st_mode = S_IFLNK | 0777;
        break;
    }
    out->st_nlink = 1;
    /* How much is data is not known without reading the history. A little less than the size makes
     * tools look for holes; much less would make some take the file for empty. */
    out->st_blocks = (blkcnt_t)(attr.bytes / 512);
    if (out->st_blocks > 16)
        out->st_blocks -= 8;
    return true;
}

static bool is_link(struct recovery_node node)
{
    return node.kind >= RECOVERY_AT_LINK;
}

static void recovery_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct recovery *r = recovery_of(req);
    struct recovery_node folder, node;
    struct err err = ERR_NONE;
    struct fuse_entry_param entry = {.ino = 0};

    if (!recovery_node(&r->tree, parent, &folder)) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    /* Where links lead changes with every new point, so the kernel asks each time. */
    if (!recovery_lookup(&r->tree, folder, name, &node, &err) ||
        !stat_of(r, node, &entry.attr, &err)) {
        if (err.kind == ERR_NOT_FOUND)
            fuse_reply_err(req, ENOENT);
        else
            reply_err(req, name, &err);
        return;
    }
    entry.ino = recovery_inode(node);
    entry.entry_timeout = entry.attr_timeout = is_link(node) ? 0 : KNOWN_S;
    fuse_reply_entry(req, &entry);
}

static void recovery_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct recovery *r = recovery_of(req);
    struct recovery_node node;
    struct stat st;
    struct err err = ERR_NONE;
    (void)fi;

    if (!recovery_node(&r->tree, ino, &node))
        fuse_reply_err(req, ESTALE);
    else if (!stat_of(r, node, &st, &err))
        reply_err(req, "attributes", &err);
    else
        fuse_reply_attr(req, &st, is_link(node) ? 0 : KNOWN_S);
}

/* Owner and mode of a writable image can be changed; its size and time are the point's. */
static void recovery_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                                struct fuse_file_info *fi)
{
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
                      FUSE_SET_ATTR_MTIME_NOW;
    struct recovery *r = recovery_of(req);
    struct recovery_node node;
    struct stat st;
    struct err err = ERR_NONE;
    (void)fi;

    if (!writable(r) || !recovery_node(&r->tree, ino, &node) || node.kind != RECOVERY_DISK) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (!stat_of(r, node, &st, &err)) {
        reply_err(req, "attributes", &err);
        return;
    }
    if (((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size != st.st_size) || (to_set & times)) {
        fuse_reply_err(req, EPERM);
        return;
    }
    struct recovery_owned owned = ownership(r, node);
    if (to_set & FUSE_SET_ATTR_UID)
        owned.uid = attr->st_uid;
    if (to_set & FUSE_SET_ATTR_GID)
        owned.gid = attr->st_gid;
    if (to_set & FUSE_SET_ATTR_MODE)
        owned.mode = attr->st_mode & 07777;
    if (!ownership_set(r, owned)) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    st.st_uid = owned.uid;
    st.st_gid = owned.gid;
    st.st_mode = S_IFREG | owned.mode;
    fuse_reply_attr(req, &st, KNOWN_S);
}

static void recovery_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct recovery *r = recovery_of(req);
    struct recovery_node node;
    char target[RECOVERY_LINK_MAX];
    struct err err = ERR_NONE;

    if (!recovery_node(&r->tree, ino, &node) || !is_link(node))
        fuse_reply_err(req, EINVAL);
    else if (!recovery_link(&r->tree, node, target, &err))
        fuse_reply_err(req, err_to_errno(err.kind));
    else
        fuse_reply_readlink(req, target);
}

/* --- folders --- */

/* Entry i of what readdir shows: `.` and `..` first. */
static bool shown_entry(const struct recovery *r, struct recovery_node folder, uint64_t i,
                        char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    if (i >= 2)
        return recovery_entry(&r->tree, folder, i - 2, name, out);
    *out = folder;
    memcpy(name, "..", 3);
    if (i == 0)
        name[1] = '\0';
    return true;
}

/* Where a listing goes on is said by entry, among points by the last one's index: those that went
 * meanwhile make it skip none. */
static uint64_t entry_of_offset(const struct recovery *r, struct recovery_node folder,
                                uint64_t offset)
{
    if (folder.kind != RECOVERY_POINTS || offset < 2)
        return offset;
    return 2 + history_points_below(r->tree.vms[folder.vm].view.history, (size_t)(offset - 2));
}

static uint64_t offset_behind(struct recovery_node folder, uint64_t i, struct recovery_node node)
{
    return folder.kind == RECOVERY_POINTS && i >= 2 ? node.point + 1 + 2 : i + 1;
}

static mode_t type_of(struct recovery_node node)
{
    if (node.kind == RECOVERY_DISK || node.kind == RECOVERY_JSON)
        return S_IFREG;
    return is_link(node) ? S_IFLNK : S_IFDIR;
}

static void recovery_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                                struct fuse_file_info *fi)
{
    struct recovery *r = recovery_of(req);
    struct recovery_node folder, node;
    char name[RECOVERY_NAME_MAX];
    char *out AUTO_FREE = malloc(size);
    size_t used = 0;
    (void)fi;

    if (!out || offset < 0 || !recovery_node(&r->tree, ino, &folder)) {
        fuse_reply_err(req, out ? ESTALE : ENOMEM);
        return;
    }
    for (uint64_t i = entry_of_offset(r, folder, (uint64_t)offset);
         shown_entry(r, folder, i, name, &node); i++) {
        struct stat st = {.st_ino = recovery_inode(node), .st_mode = type_of(node)};
        size_t needs = fuse_add_direntry(req, out + used, size - used, name, &st,
                                         (off_t)offset_behind(folder, i, node));
        if (needs > size - used)
            break;
        used += needs;
    }
    fuse_reply_buf(req, out, used);
}

/* --- files --- */

static struct image *image_of(const struct fuse_file_info *fi)
{
    return (struct image *)(uintptr_t)fi->fh;
}

static void recovery_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct recovery *r = recovery_of(req);
    struct recovery_node node;
    struct history_point point;
    struct image *image = NULL;
    struct err err = ERR_NONE;
    bool changes = (fi->flags & O_ACCMODE) != O_RDONLY;

    if (!recovery_node(&r->tree, ino, &node)) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (changes && (!writable(r) || node.kind != RECOVERY_DISK)) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (fi->flags & O_TRUNC) {
        fuse_reply_err(req, EPERM); /* the size of a disk stays */
        return;
    }
    if (node.kind == RECOVERY_DISK && !recovery_point(&r->tree, node, &point)) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (node.kind == RECOVERY_DISK &&
        !image_open(r->points, node.vm, &point, node.disk, &image, &err)) {
        reply_err(req, "open", &err);
        return;
    }
    fi->fh = (uint64_t)(uintptr_t)image;
    fi->keep_cache = !writable(r); /* a point does not change */
    if (fuse_reply_open(req, fi) == -ENOENT && image)
        image_close(image); /* the opener was interrupted: no release follows */
}

static void recovery_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    if (image_of(fi))
        image_close(image_of(fi));
    fuse_reply_err(req, 0);
}

/* How much of [offset, offset + size) lies inside. */
static size_t clip(uint64_t bytes, off_t offset, size_t size)
{
    if (offset < 0 || (uint64_t)offset >= bytes)
        return 0;
    uint64_t left = bytes - (uint64_t)offset;
    return size < left ? size : (size_t)left;
}

static void read_json(fuse_req_t req, struct recovery_node node, size_t size, off_t offset)
{
    struct buf json AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    if (!recovery_json(&recovery_of(req)->tree, node, &json, &err)) {
        reply_err(req, "point.json", &err);
        return;
    }
    size_t length = clip(json.length, offset, size);
    fuse_reply_buf(req, length ? (const char *)json.data + offset : NULL, length);
}

static void recovery_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                             struct fuse_file_info *fi)
{
    struct recovery *r = recovery_of(req);
    struct image *image = image_of(fi);
    struct recovery_node node;
    struct err err = ERR_NONE;

    if (!image) {
        if (recovery_node(&r->tree, ino, &node) && node.kind == RECOVERY_JSON)
            read_json(req, node, size, offset);
        else
            fuse_reply_err(req, EIO);
        return;
    }
    size_t length = clip(image_bytes(image), offset, size);
    char *out AUTO_FREE = malloc(length + 1);
    if (!out) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (length > 0 && !image_read(image, (uint64_t)offset, mspan_of(out, length), &err)) {
        complain(r, "read", &err);
        fuse_reply_err(req, EIO);
        return;
    }
    fuse_reply_buf(req, out, length);
}

static void recovery_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
                              off_t offset, struct fuse_file_info *fi)
{
    struct image *image = image_of(fi);
    struct err err = ERR_NONE;
    (void)ino;

    if (!image || !writable(recovery_of(req)))
        fuse_reply_err(req, EROFS);
    else if (clip(image_bytes(image), offset, size) != size)
        fuse_reply_err(req, ENOSPC); /* a disk does not grow */
    else if (!image_write(image, (uint64_t)offset, span_of(data, size), &err))
        reply_err(req, "write", &err);
    else
        fuse_reply_write(req, size);
}

static void flush_image(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct err err = ERR_NONE;
    if (image_of(fi) && !image_flush(image_of(fi), &err))
        reply_err(req, "flush", &err);
    else
        fuse_reply_err(req, 0);
}

static void recovery_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    flush_image(req, fi);
}

static void recovery_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
                              struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    flush_image(req, fi);
}

static void recovery_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
                                  off_t length, struct fuse_file_info *fi)
{
    struct image *image = image_of(fi);
    struct err err = ERR_NONE;
    int kind = mode & ~FALLOC_FL_KEEP_SIZE;
    (void)ino;

    if (!image || !writable(recovery_of(req))) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (kind != FALLOC_FL_PUNCH_HOLE && kind != FALLOC_FL_ZERO_RANGE) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    size_t inside = clip(image_bytes(image), offset, (size_t)length);
    if (kind == FALLOC_FL_ZERO_RANGE && !(mode & FALLOC_FL_KEEP_SIZE) && inside != (size_t)length)
        fuse_reply_err(req, ENOSPC); /* it would grow the disk */
    else if (!image_zero(image, (uint64_t)offset, inside, &err))
        reply_err(req, "discard", &err);
    else
        fuse_reply_err(req, 0);
}

/* The first byte at or after `from` that is data, or a hole; the end of the disk counts as a hole.
 * *found false: no data any more. */
static bool seek_image(fuse_req_t req, struct image *image, uint64_t from, bool data, uint64_t *out,
                       bool *found, struct err *err)
{
    uint64_t bytes = image_bytes(image);
    struct extent extent;
    *out = from;
    for (;;) {
        if (!image_next_data(image, *out / BLOCK_BYTES, &extent, found, err))
            return false;
        uint64_t start = extent.first * BLOCK_BYTES;
        if (data) {
            if (*found && start > *out)
                *out = start;
            return true;
        }
        if (!*found || start > *out) {
            *found = true;
            return true;
        }
        *out = extent_end(extent) * BLOCK_BYTES;
        if (*out >= bytes) {
            *out = bytes;
            return true;
        }
        if (fuse_req_interrupted(req))
            return err_set(err, ERR_CANCELLED, "seek interrupted");
    }
}

static void recovery_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                              struct fuse_file_info *fi)
{
    struct image *image = image_of(fi);
    uint64_t at;
    bool found;
    struct err err = ERR_NONE;
    (void)ino;

    if (!image || (whence != SEEK_DATA && whence != SEEK_HOLE))
        fuse_reply_err(req, EINVAL);
    else if (clip(image_bytes(image), offset, 1) == 0)
        fuse_reply_err(req, ENXIO);
    else if (!seek_image(req, image, (uint64_t)offset, whence == SEEK_DATA, &at, &found, &err))
        reply_err(req, "seek", &err);
    else if (!found)
        fuse_reply_err(req, ENXIO);
    else
        fuse_reply_lseek(req, (off_t)at);
}

/* --- what a history does not allow, in a writable mount either --- */

static void recovery_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                              dev_t device)
{
    (void)parent, (void)name, (void)mode, (void)device;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent, (void)name, (void)mode;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
                                const char *name)
{
    (void)target, (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
                               fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    (void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino, (void)parent, (void)name;
    fuse_reply_err(req, EROFS);
}

static void recovery_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                               struct fuse_file_info *fi)
{
    (void)parent, (void)name, (void)mode, (void)fi;
    fuse_reply_err(req, EROFS);
}

const struct fuse_lowlevel_ops recovery_fuse_ops = {
    .init = recovery_init,
    .lookup = recovery_op_lookup,
    .getattr = recovery_op_getattr,
    .setattr = recovery_op_setattr,
    .readlink = recovery_op_readlink,
    .readdir = recovery_op_readdir,
    .open = recovery_op_open,
    .release = recovery_op_release,
    .read = recovery_op_read,
    .write = recovery_op_write,
    .flush = recovery_op_flush,
    .fsync = recovery_op_fsync,
    .fallocate = recovery_op_fallocate,
    .lseek = recovery_op_lseek,
    .mknod = recovery_op_mknod,
    .mkdir = recovery_op_mkdir,
    .unlink = recovery_op_remove,
    .rmdir = recovery_op_remove,
    .symlink = recovery_op_symlink,
    .rename = recovery_op_rename,
    .link = recovery_op_link,
    .create = recovery_op_create,
};
