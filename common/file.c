/* SPDX-License-Identifier: MIT */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

void file_close(struct world_file **f)
{
    if (*f != NULL)
        (*f)->world->ops->close(*f);
    *f = NULL;
}

bool file_open(struct world *w, const char *path, int flags, mode_t mode, struct world_file **out,
               struct err *err)
{
    int result = w->ops->open(w, path, flags, mode, out);
    if (result < 0)
        return err_errno(err, -result, "cannot open %s", path);
    return true;
}

bool file_read(struct world_file *f, struct mspan out, uint64_t offset, struct err *err)
{
    size_t done = 0;
    while (done < out.length) {
        ssize_t n =
            f->world->ops->pread(f, out.data + done, out.length - done, offset + (uint64_t)done);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return err_errno(err, (int)-n, "cannot read %zu bytes at %llu of %s", out.length,
                             (unsigned long long)offset, f->path);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    if (done < out.length)
        memset(out.data + done, 0, out.length - done);
    return true;
}

bool file_write(struct world_file *f, struct span data, uint64_t offset, struct err *err)
{
    size_t done = 0;
    while (done < data.length) {
        ssize_t n =
            f->world->ops->pwrite(f, data.data + done, data.length - done, offset + (uint64_t)done);
        if (n == -EINTR)
            continue;
        if (n <= 0) /* a write of nothing would go on for ever */
            return err_errno(err, n < 0 ? (int)-n : EIO, "cannot write %zu bytes at %llu of %s",
                             data.length, (unsigned long long)offset, f->path);
        done += (size_t)n;
    }
    return true;
}

bool file_sync(struct world_file *f, struct err *err)
{
    int result = f->world->ops->sync(f);
    if (result < 0)
        return err_errno(err, -result, "cannot sync %s", f->path);
    return true;
}

bool file_load(struct world *w, const char *path, size_t bytes_max, struct buf *out,
               struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    struct world_stat st;

    buf_clear(out);
    if (!file_open(w, path, O_RDONLY, 0, &f, err))
        return false;
    int result = w->ops->stat(f, &st);
    if (result < 0)
        return err_errno(err, -result, "cannot stat %s", path);
    if (st.directory)
        return err_set(err, ERR_INVALID, "%s is a folder, not a file", path);
    if (st.size > bytes_max)
        return err_set(err, ERR_CORRUPT, "%s has %llu bytes, more than the %zu that it may have",
                       path, (unsigned long long)st.size, bytes_max);
    uint8_t *bytes = buf_extend(out, (size_t)st.size);
    if (!buf_ok(out, err))
        return err_wrap(err, "cannot load %s", path);
    return file_read(f, mspan_of(bytes, (size_t)st.size), 0, err);
}

/* The folder that holds `path`; asserts that the path fits. */
static void parent_of(const char *path, char out[PATH_MAX])
{
    size_t length = strlen(path);
    assert(length < PATH_MAX);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length == 0) {
        strcpy(out, ".");
        return;
    }
    while (length > 1 && path[length - 1] == '/')
        length--;
    memcpy(out, path, length);
    out[length] = '\0';
}

static bool sync_parent(struct world *w, const char *path, struct err *err)
{
    char parent[PATH_MAX];
    parent_of(path, parent);
    int result = w->ops->sync_dir(w, parent);
    if (result < 0)
        return err_errno(err, -result, "cannot sync folder %s", parent);
    return true;
}

static bool check_path(const char *path, size_t extra, struct err *err)
{
    if (path[0] == '\0' || strlen(path) + extra >= PATH_MAX)
        return err_set(err, ERR_INVALID, "a path is empty or longer than %d characters: %.64s",
                       PATH_MAX - 1, path);
    return true;
}

static bool write_new(struct world *w, const char *path, mode_t mode, struct span data,
                      struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    return file_open(w, path, O_WRONLY | O_CREAT | O_EXCL, mode, &f, err) &&
           file_write(f, data, 0, err) && file_sync(f, err);
}

/* PATH.new, written and synced: the other order may leave an empty file under the name. */
static bool write_beside(struct world *w, const char *path, mode_t mode, struct span data,
                         char fresh[PATH_MAX], struct err *err)
{
    if (!check_path(path, sizeof ".new", err))
        return false;
    snprintf(fresh, PATH_MAX, "%s.new", path);
    /* What a crash left there goes first: its mode may be wider than what the caller asks for. */
    int result = w->ops->unlink(w, fresh);
    if (result < 0 && result != -ENOENT)
        return err_errno(err, -result, "cannot remove the old %s", fresh);
    if (write_new(w, fresh, mode, data, err))
        return true;
    (void)w->ops->unlink(w, fresh); /* the next one removes what stays */
    return false;
}

bool file_replace(struct world *w, const char *path, mode_t mode, struct span data, struct err *err)
{
    char fresh[PATH_MAX];

    if (!write_beside(w, path, mode, data, fresh, err))
        return false;
    int result = w->ops->rename(w, fresh, path);
    if (result < 0) {
        (void)w->ops->unlink(w, fresh);
        return err_errno(err, -result, "cannot rename %s to %s", fresh, path);
    }
    return sync_parent(w, path, err);
}

bool file_create(struct world *w, const char *path, mode_t mode, struct span data, struct err *err)
{
    char fresh[PATH_MAX];

    if (!write_beside(w, path, mode, data, fresh, err))
        return false;
    int result = w->ops->link(w, fresh, path);
    (void)w->ops->unlink(w, fresh);
    if (result < 0)
        return err_errno(err, -result, "cannot make %s", path);
    return sync_parent(w, path, err);
}

bool file_remove(struct world *w, const char *path, struct err *err)
{
    if (!check_path(path, 0, err))
        return false;
    int result = w->ops->unlink(w, path);
    if (result < 0 && result != -ENOENT)
        return err_errno(err, -result, "cannot remove %s", path);
    /* Also when it was missing: an earlier removal may not have reached the disk. */
    struct err sync_err = ERR_NONE;
    if (sync_parent(w, path, &sync_err) || (result == -ENOENT && sync_err.kind == ERR_NOT_FOUND))
        return true;
    if (err != NULL)
        *err = sync_err;
    return false;
}

/* The entry of the lowest folder that was there: somebody may have died between making it and
 * syncing that. One who may not read the folder above cannot have made it there either, so being
 * denied is no harm. */
static bool sync_found(struct world *w, const char *path, struct err *err)
{
    struct err sync_err = ERR_NONE;
    if (sync_parent(w, path, &sync_err) || sync_err.kind == ERR_DENIED)
        return true;
    if (err != NULL)
        *err = sync_err;
    return false;
}

/* Makes one level; *found: it was there. */
static bool make_level(struct world *w, const char *path, mode_t mode, bool *found, struct err *err)
{
    int result = w->ops->mkdir(w, path, mode);
    *found = result == -EEXIST;
    if (result == 0)
        return sync_parent(w, path, err);
    return *found || err_errno(err, -result, "cannot make folder %s", path);
}

bool dir_make(struct world *w, const char *path, mode_t mode, struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    char level[PATH_MAX], lowest[PATH_MAX] = "";
    bool found = true;

    if (!check_path(path, 0, err))
        return false;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    for (size_t end = 1; end <= length; end++) {
        if (end < length && (path[end] != '/' || path[end - 1] == '/'))
            continue;
        memcpy(level, path, end);
        level[end] = '\0';
        if (!make_level(w, level, mode, &found, err))
            return false;
        if (found)
            memcpy(lowest, level, end + 1);
    }
    if (found && !file_open(w, level, O_RDONLY | O_DIRECTORY, 0, &f, err))
        return false;
    return lowest[0] == '\0' || sync_found(w, lowest, err);
}

/* Each with its NUL. */
static bool name_add(void *context, const char *name, bool directory)
{
    if (!directory)
        buf_put(context, name, strlen(name) + 1);
    return true;
}

bool dir_empty(struct world *w, const char *path, struct err *err)
{
    struct buf names AUTO_BUF = BUF_NONE;
    int result = w->ops->list_dir(w, path, name_add, &names);
    if (result == -ENOENT)
        return true;
    for (size_t at = 0; result == 0 && at < names.length;) {
        char file[PATH_MAX];
        const char *name = (const char *)names.data + at;
        int length = snprintf(file, sizeof file, "%s/%s", path, name);
        result = length < PATH_MAX ? w->ops->unlink(w, file) : -ENAMETOOLONG;
        result = result == -ENOENT ? 0 : result;
        at += strlen(name) + 1;
    }
    if (result == 0 && buf_ok(&names, err))
        result = w->ops->sync_dir(w, path);
    return !names.failed && (result == 0 || err_errno(err, -result, "cannot empty %s", path));
}
