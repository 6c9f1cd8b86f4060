/* SPDX-License-Identifier: MIT */
#include "backend/store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "common/digest.h"
#include "common/file.h"

#define TMP_NAME         ".tmp"
#define TMP_RANDOM_BYTES 16u
#define TMP_CHARS        (2 * TMP_RANDOM_BYTES)
#define TMP_STALE_NS     (24ull * 3600 * 1000000000) /* no put takes so long */
#define DURABLE_DIRS     32u
#define OBJECT_MODE      0640
#define DIR_MODE         0750

struct file_store {
    struct store store;
    struct world *world;
    char root[STORE_URL_MAX]; /* no slash at the end, but for the root folder: empty */
    pthread_mutex_t durable_lock;
    /* Folders, relative to the root, that this process has synced up to the root; the oldest
     * makes room. */
    char durable_dirs[DURABLE_DIRS][STORE_KEY_MAX + 1];
    unsigned durable_next;
};

static struct file_store *file_store_of(struct store *s)
{
    return (struct file_store *)s;
}

static void path_of(const struct file_store *fs, const char *key, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", fs->root, key); /* both are far below half of it */
}

/* --- errors --- */

static bool unreachable(const struct file_store *fs, struct err *err)
{
    return err_set(err, ERR_TRANSIENT,
                   "the store's folder is out of reach: %s/" TMP_NAME " is missing. Mount its file "
                   "system again; if somebody removed that folder only, `mkdir` it",
                   fs->root);
}

/* What a system call on `key` said. What is not known to be lasting may be over later: the folder
 * often lies on a network file system, whose server comes back. */
static bool fail(const struct file_store *fs, int errnum, const char *what, const char *key,
                 struct err *err)
{
    struct err local = ERR_NONE;
    err_errno(&local, errnum, "store %s: cannot %s %s", fs->store.url, what, key);
    if (local.kind == ERR_IO)
        local.kind = ERR_TRANSIENT;
    if (errnum == ENAMETOOLONG || errnum == ENOTDIR || errnum == EISDIR)
        local.kind = ERR_INVALID;
    if (err != NULL)
        *err = local;
    return false;
}

/* Something is missing: the object, or the whole store? */
static bool is_reachable(const struct file_store *fs, struct err *err)
{
    char path[PATH_MAX];
    struct world_file *f AUTO_FILE = NULL;
    path_of(fs, TMP_NAME, path);
    int result = fs->world->ops->open(fs->world, path, O_RDONLY | O_DIRECTORY, 0, &f);
    if (result >= 0 || result == -EACCES) /* there, though not for us to look into */
        return true;
    return result == -ENOENT ? unreachable(fs, err) : fail(fs, -result, "look into", TMP_NAME, err);
}

static bool not_found(const struct file_store *fs, const char *key, struct err *err)
{
    return is_reachable(fs, err) &&
           err_set(err, ERR_NOT_FOUND, "store %s: no object %s", fs->store.url, key);
}

/* `.tmp` is ours. */
static bool check_name(const struct file_store *fs, const char *key, struct err *err)
{
    size_t length = strlen(TMP_NAME);
    if (strncmp(key, TMP_NAME, length) != 0 || (key[length] != '/' && key[length] != '\0'))
        return true;
    return err_set(err, ERR_INVALID, "store %s keeps keys under " TMP_NAME " for itself: %s",
                   fs->store.url, key);
}

/* --- put --- */

/* The folder of `key`, relative to the root: empty for the root itself. */
static void folder_of(const char *key, char out[STORE_KEY_MAX + 1])
{
    const char *slash = strrchr(key, '/');
    size_t length = slash != NULL ? (size_t)(slash - key) : 0;
    memcpy(out, key, length);
    out[length] = '\0';
}

static bool sync_folder(const struct file_store *fs, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    path_of(fs, folder, path);
    int result = fs->world->ops->sync_dir(fs->world, path);
    if (result == -ENOENT)
        return unreachable(fs, err);
    return result >= 0 || fail(fs, -result, "sync folder", path, err);
}

static bool is_durable(struct file_store *fs, const char *folder)
{
    LOCK_SCOPE(&fs->durable_lock);
    for (size_t i = 0; i < DURABLE_DIRS; i++)
        if (strcmp(fs->durable_dirs[i], folder) == 0)
            return true;
    return false;
}

static void set_durable(struct file_store *fs, const char *folder)
{
    LOCK_SCOPE(&fs->durable_lock);
    char *slot = fs->durable_dirs[fs->durable_next++ % DURABLE_DIRS];
    memcpy(slot, folder, strlen(folder) + 1);
}

/* Makes the folder and syncs every folder above it, up to the root. Also those that were there
 * before: another process may have made them a moment ago and not yet have synced them, and our
 * object would go with them. */
static bool make_folder(struct file_store *fs, const char *folder, struct err *err)
{
    char path[PATH_MAX], level[STORE_KEY_MAX + 1], above[STORE_KEY_MAX + 1];
    size_t length = strlen(folder);

    for (size_t end = 1; end <= length; end++) {
        if (end < length && folder[end] != '/')
            continue;
        memcpy(level, folder, end);
        level[end] = '\0';
        path_of(fs, level, path);
        int result = fs->world->ops->mkdir(fs->world, path, DIR_MODE);
        if (result == -ENOENT)
            return unreachable(fs, err);
        if (result < 0 && result != -EEXIST)
            return fail(fs, -result, "make folder", path, err);
        folder_of(level, above);
        if (!sync_folder(fs, above, err))
            return false;
    }
    set_durable(fs, folder);
    return true;
}

static bool write_tmp(const struct file_store *fs, const char *path, struct span body,
                      struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    struct world *w = fs->world;
    int result = w->ops->open(w, path, O_WRONLY | O_CREAT | O_EXCL, OBJECT_MODE, &f);
    if (result == -ENOENT)
        return unreachable(fs, err);
    if (result < 0)
        return fail(fs, -result, "make", path, err);
    struct err local = ERR_NONE;
    if (file_write(f, body, 0, &local) && file_sync(f, &local))
        return true;
    if (local.kind == ERR_IO)
        local.kind = ERR_TRANSIENT;
    if (err != NULL)
        *err = local;
    return err_wrap(err, "store %s", fs->store.url);
}

/* The name is taken: by an object, or by a folder of objects? Its entry is synced before we say
 * so: whoever put it may have died before that, and the caller may find its own bytes there. */
static bool taken(struct file_store *fs, const char *key, const char *folder, const char *path,
                  struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    struct world *w = fs->world;
    if (w->ops->open(w, path, O_RDONLY | O_DIRECTORY, 0, &f) == 0)
        return fail(fs, EISDIR, "put", key, err);
    return sync_folder(fs, folder, err) &&
           err_set(err, ERR_EXISTS, "store %s: object %s exists", fs->store.url, key);
}

static bool link_in(struct file_store *fs, const char *tmp, const char *key, struct err *err)
{
    char path[PATH_MAX], folder[STORE_KEY_MAX + 1];
    struct world *w = fs->world;

    path_of(fs, key, path);
    folder_of(key, folder);
    if (!is_durable(fs, folder) && !make_folder(fs, folder, err))
        return false;
    int result = w->ops->link(w, tmp, path);
    if (result == -ENOENT) { /* somebody tidied the empty folder away */
        if (!make_folder(fs, folder, err))
            return false;
        result = w->ops->link(w, tmp, path);
    }
    if (result == -EEXIST)
        return taken(fs, key, folder, path, err);
    if (result == -EOPNOTSUPP || result == -EPERM)
        return err_set(
            err, ERR_INVALID,
            "store %s: its file system refuses hard links, which keep objects from being "
            "replaced. Use a folder on ext4, xfs, btrfs or NFS",
            fs->store.url);
    if (result == -ENOENT)
        return err_set(err, ERR_TRANSIENT, "store %s: %s vanished while it was put", fs->store.url,
                       tmp);
    if (result < 0)
        return fail(fs, -result, "put", key, err);
    if (sync_folder(fs, folder, err))
        return true;
    if (err !=
        NULL) /* the object is there, though perhaps not for long: whatever failed, in doubt */
        err->kind = ERR_TRANSIENT;
    return false;
}

/* Content synced, then the name, then the name synced: a power cut leaves a whole object or none,
 * and true means that it stays. */
static bool file_put(struct store *s, const char *key, struct span body,
                     const struct sha256 *digest, struct err *err)
{
    struct file_store *fs = file_store_of(s);
    char path[PATH_MAX], name[sizeof TMP_NAME + TMP_CHARS + 1] = TMP_NAME "/";
    uint8_t random[TMP_RANDOM_BYTES];
    (void)digest; /* nothing here keeps one */

    if (!check_name(fs, key, err))
        return false;
    int result = fs->world->ops->random(fs->world, random, sizeof random);
    if (result < 0)
        return fail(fs, -result, "get random bytes for", key, err);
    hex_of(random, sizeof random, name + strlen(TMP_NAME) + 1);
    path_of(fs, name, path);
    bool ok = write_tmp(fs, path, body, err) && link_in(fs, path, key, err);
    (void)fs->world->ops->unlink(fs->world, path); /* what stays is swept when it is old */
    return ok;
}

/* --- get, size, remove --- */

static bool open_object(const struct file_store *fs, const char *key, struct world_file **out,
                        uint64_t *bytes, struct err *err)
{
    char path[PATH_MAX];
    struct world_stat st;
    struct world_file *f AUTO_FILE = NULL;
    struct world *w = fs->world;

    if (!check_name(fs, key, err))
        return false;
    path_of(fs, key, path);
    /* Nothing that somebody put there makes us follow or wait. */
    int result = w->ops->open(w, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &f);
    if (result == -ENOENT || result == -ENOTDIR || result == -ELOOP)
        return not_found(fs, key, err);
    if (result >= 0)
        result = w->ops->stat(f, &st);
    if (result < 0)
        return fail(fs, -result, "open", key, err);
    if (st.directory)
        return not_found(fs, key, err);
    *bytes = st.size;
    *out = TAKE(f);
    return true;
}

static bool file_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                     struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    struct err local = ERR_NONE;
    uint64_t bytes;

    if (!open_object(file_store_of(s), key, &f, &bytes, err))
        return false;
    if (offset > bytes || out.length > bytes - offset)
        return err_set(err, ERR_CORRUPT,
                       "store %s: object %s ends at %llu, %zu bytes at %llu were wanted", s->url,
                       key, (unsigned long long)bytes, out.length, (unsigned long long)offset);
    if (file_read(f, out, offset, &local))
        return true;
    if (local.kind == ERR_IO)
        local.kind = ERR_TRANSIENT;
    if (err != NULL)
        *err = local;
    return err_wrap(err, "store %s", s->url);
}

static bool file_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    return open_object(file_store_of(s), key, &f, bytes, err);
}

/* Not synced: an object that comes back after a power cut is removed again by whoever looks. */
static bool file_remove_object(struct store *s, const char *key, struct err *err)
{
    struct file_store *fs = file_store_of(s);
    char path[PATH_MAX];

    if (!check_name(fs, key, err))
        return false;
    path_of(fs, key, path);
    int result = fs->world->ops->unlink(fs->world, path);
    if (result == 0 || result == -EISDIR)
        return true;
    if (result == -ENOENT || result == -ENOTDIR)
        return is_reachable(fs, err);
    return fail(fs, -result, "remove", key, err);
}

/* --- list --- */

struct dir_entry {
    size_t name; /* offset in the names */
    bool directory;
};

/* One folder, sorted. */
struct dir_listing {
    struct buf names;   /* NUL-terminated; a folder's ends in '/', which puts whole keys in order */
    struct buf entries; /* struct dir_entry */
};

static void dir_listing_release(struct dir_listing *l)
{
    buf_release(&l->names);
    buf_release(&l->entries);
}

static bool add_entry(void *context, const char *name, bool directory)
{
    struct dir_listing *l = context;
    struct dir_entry entry = {.name = l->names.length, .directory = directory};
    buf_put(&l->names, name, strlen(name));
    buf_put(&l->names, directory ? "/" : "", directory ? 2 : 1);
    buf_put(&l->entries, &entry, sizeof entry);
    return !l->names.failed && !l->entries.failed;
}

static int compare_entries(const void *a, const void *b, void *names)
{
    const struct dir_entry *left = a, *right = b;
    return strcmp((const char *)names + left->name, (const char *)names + right->name);
}

struct list_call {
    struct file_store *fs;
    const char *prefix;
    const char *after;
    store_list_fn *each;
    void *context;
    bool stopped;
};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Whether keys that start with `folder` ("a/b/") can be wanted, or be keys at all. */
static bool wants_folder(const struct list_call *call, const char *folder)
{
    char first[STORE_KEY_MAX + 2];
    snprintf(first, sizeof first, "%s0", folder);
    if (!store_key_valid(first) || strcmp(folder, TMP_NAME "/") == 0)
        return false;
    if (!starts_with(folder, call->prefix) && !starts_with(call->prefix, folder))
        return false;
    return call->after == NULL || strcmp(folder, call->after) >= 0 ||
           starts_with(call->after, folder);
}

static bool show_object(struct list_call *call, const char *key, struct err *err)
{
    struct err local = ERR_NONE;
    uint64_t bytes;
    if (!starts_with(key, call->prefix) || (call->after != NULL && strcmp(key, call->after) <= 0))
        return true;
    if (!file_size(&call->fs->store, key, &bytes, &local)) {
        if (local.kind == ERR_NOT_FOUND) /* removed meanwhile */
            return true;
        if (err != NULL)
            *err = local;
        return false;
    }
    call->stopped = !call->each(call->context, key, bytes);
    return true;
}

static bool read_folder(const struct list_call *call, const char *folder, struct dir_listing *l,
                        struct err *err)
{
    char path[PATH_MAX];
    struct world *w = call->fs->world;
    path_of(call->fs, folder, path);
    int result = w->ops->list_dir(w, path, add_entry, l);
    if (result == -ENOENT || result == -ENOTDIR)
        return is_reachable(call->fs, err); /* an empty list, or no store at all */
    if (result < 0)
        return fail(call->fs, -result, "list", path, err);
    if (!buf_ok(&l->names, err) || !buf_ok(&l->entries, err))
        return err_wrap(err, "store %s: cannot list %s", call->fs->store.url, path);
    if (l->entries.length > 0)
        qsort_r(l->entries.data, l->entries.length / sizeof(struct dir_entry),
                sizeof(struct dir_entry), compare_entries, l->names.data);
    return true;
}

/* Keeps the listings of the folders on the way down, no more. The depth is bounded by the length
 * of a key: longer names are not objects of ours. */
static bool list_folder(struct list_call *call, const char *folder, struct err *err)
{
    struct dir_listing l CLEANUP(dir_listing_release) = {.names = BUF_NONE, .entries = BUF_NONE};
    char *key AUTO_FREE = malloc(STORE_KEY_MAX + 2);

    if (key == NULL)
        return err_set(err, ERR_FULL, "out of memory listing %s", call->fs->store.url);
    if (!read_folder(call, folder, &l, err))
        return false;
    size_t count = l.entries.length / sizeof(struct dir_entry);
    for (size_t i = 0; i < count && !call->stopped; i++) {
        struct dir_entry entry;
        memcpy(&entry, l.entries.data + i * sizeof entry, sizeof entry);
        const char *name = (const char *)l.names.data + entry.name;
        if (strlen(folder) + strlen(name) > STORE_KEY_MAX)
            continue;
        snprintf(key, STORE_KEY_MAX + 2, "%s%s", folder, name);
        if (entry.directory) {
            if (wants_folder(call, key) && !list_folder(call, key, err))
                return false;
        } else if (store_key_valid(key) && !show_object(call, key, err)) {
            return false;
        }
    }
    return true;
}

static bool file_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                      void *context, struct err *err)
{
    struct list_call call = {
        .fs = file_store_of(s), .prefix = prefix, .after = after, .each = each, .context = context};
    char folder[STORE_KEY_MAX + 1];
    const char *slash = strrchr(prefix, '/');
    size_t length = slash != NULL ? (size_t)(slash - prefix) + 1 : 0;

    memcpy(folder, prefix, length);
    folder[length] = '\0';
    return check_name(call.fs, prefix, err) && list_folder(&call, folder, err);
}

/* --- open, close --- */

static void file_store_close(struct store *s)
{
    pthread_mutex_destroy(&file_store_of(s)->durable_lock);
    free(s);
}

static const struct store_ops file_store_ops = {
    .put = file_put,
    .get = file_get,
    .size = file_size,
    .list = file_list,
    .remove = file_remove_object,
    .close = file_store_close,
};

/* The path in `url`, %XX decoded. */
static bool root_of_url(const char *url, char out[STORE_URL_MAX], struct err *err)
{
    const char *p = url + strlen("file://");
    size_t length = 0;

    const char *query = strchr(p, '?');
    if (query != NULL)
        return err_set(err, ERR_INVALID, "a file store has no options: \"%.128s\" in %s", query + 1,
                       url);
    if (*p != '/')
        return err_set(err, ERR_INVALID, "%s names no absolute folder: write file:///DIR", url);
    for (; *p != '\0'; p++) {
        uint8_t c = (uint8_t)*p;
        char digits[3] = {0};
        if (c == '%') {
            strncpy(digits, p + 1, 2);
            if (!hex_parse(digits, &c, 1) || c == 0)
                return err_set(err, ERR_INVALID, "%s: after %% come two hex digits, not 00", url);
            p += 2;
        }
        out[length++] = (char)c;
    }
    while (length > 0 && out[length - 1] == '/')
        length--;
    out[length] = '\0';
    return true;
}

static bool open_root(struct file_store *fs, bool create, struct err *err)
{
    char tmp[PATH_MAX];
    struct world_file *f AUTO_FILE = NULL;
    struct world *w = fs->world;

    path_of(fs, TMP_NAME, tmp);
    if (create && !dir_make(w, tmp, DIR_MODE, err))
        return err_wrap(err, "store %s", fs->store.url);
    int result = w->ops->open(w, tmp, O_RDONLY | O_DIRECTORY, 0, &f);
    if (result >= 0)
        return true;
    if (result != -ENOENT && result != -ENOTDIR)
        return fail(fs, -result, "open", tmp, err);
    return err_set(err, ERR_NOT_FOUND,
                   "%s is not a store: %s is missing. Is its file system mounted (`findmnt`)? To "
                   "start a new store there, `mkdir -p` it",
                   fs->store.url, tmp);
}

struct sweep {
    struct file_store *fs;
    uint64_t now_ns;
};

static bool sweep_one(void *context, const char *name, bool directory)
{
    struct sweep *sweep = context;
    struct world *w = sweep->fs->world;
    struct world_file *f AUTO_FILE = NULL;
    struct world_stat st;
    char path[PATH_MAX], tmp[PATH_MAX];

    if (directory || strlen(name) != TMP_CHARS)
        return true;
    path_of(sweep->fs, TMP_NAME, tmp);
    if (snprintf(path, sizeof path, "%s/%s", tmp, name) >= (int)sizeof path)
        return true;
    if (w->ops->open(w, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &f) < 0 ||
        w->ops->stat(f, &st) < 0)
        return true;
    if (st.mtime_ns >= 0 && sweep->now_ns > (uint64_t)st.mtime_ns &&
        sweep->now_ns - (uint64_t)st.mtime_ns > TMP_STALE_NS)
        (void)w->ops->unlink(w, path); /* the next who opens tries again */
    return true;
}

/* Removes what crashed writers left. Only what is old: others may be writing now. A clock that is
 * far off costs a writer a put that it does again, never an object. */
static void sweep_tmp(struct file_store *fs)
{
    char tmp[PATH_MAX];
    struct sweep sweep = {.fs = fs, .now_ns = fs->world->ops->realtime_ns(fs->world)};
    path_of(fs, TMP_NAME, tmp);
    (void)fs->world->ops->list_dir(fs->world, tmp, sweep_one,
                                   &sweep); /* old files cost room only */
}

bool file_store_open(const struct store_host *host, const char *url, bool create,
                     struct store **out, struct err *err)
{
    struct file_store *fs AUTO_FREE = calloc(1, sizeof *fs);
    if (fs == NULL)
        return err_set(err, ERR_FULL, "out of memory opening store %s", url);
    fs->store.ops = &file_store_ops;
    fs->world = host->world;
    snprintf(fs->store.url, sizeof fs->store.url, "%s", url);
    if (!root_of_url(url, fs->root, err) || !open_root(fs, create, err))
        return false;
    sweep_tmp(fs);
    pthread_mutex_init(&fs->durable_lock, NULL);
    *out = &TAKE(fs)->store;
    return true;
}
