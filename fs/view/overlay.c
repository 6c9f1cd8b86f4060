/* SPDX-License-Identifier: MIT */
#include "fs/view/overlay.h"

#include "common/log.h"
#include "fs/disk/range_lock.h"
#include "fs/view/presence.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

/* Lock order: a range, then flush_lock, then the lock inside `presence`. */
struct overlay {
    struct view *view;
    size_t disk;
    uint64_t bytes;
    char data_path[PATH_MAX];
    struct world_file *data; /* holds the flock */
    struct presence *presence;
    struct range_locks *locks;
    /* One flush at a time; I/O under it is its purpose. Reads and writes never take it. */
    pthread_mutex_t flush_lock;
    atomic_bool sync_failed;
};

static bool path_make(char out[PATH_MAX], const char *folder, const char *disk_name,
                      const char *suffix, struct err *err)
{
    int length = snprintf(out, PATH_MAX, "%s/%s.%s", folder, disk_name, suffix);
    if (length < 0 || length >= PATH_MAX)
        return err_set(err, ERR_INVALID, "the scratch folder's path is too long: %s", folder);
    return true;
}

bool overlay_exists(struct world *w, const char *folder, const char *disk_name, bool *exists,
                    struct err *err)
{
    char path[PATH_MAX];
    if (!path_make(path, folder, disk_name, "map", err))
        return false;
    struct err why = ERR_NONE;
    struct world_file *file AUTO_FILE = NULL;
    *exists = file_open(w, path, O_RDONLY, 0, &file, &why);
    if (!*exists && why.kind != ERR_NOT_FOUND) {
        *err = why;
        return false;
    }
    return true;
}

static bool lock_data(struct overlay *o, struct err *err)
{
    int fd = world_file_fd(o->data);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return err_set(err, ERR_BUSY,
                       "the overlay %s is in use by another mount: unmount that one, or choose "
                       "another name for the overlays",
                       o->data_path);
    return err_errno(err, errno, "cannot lock %s", o->data_path);
}

static bool data_size(struct overlay *o, uint64_t *bytes, bool *empty, struct err *err)
{
    struct world_stat stat;
    uint64_t start, end;
    int failure = o->data->world->ops->stat(o->data, &stat);
    if (failure < 0)
        return err_errno(err, -failure, "cannot look at %s", o->data_path);
    *bytes = stat.size;
    failure = o->data->world->ops->next_data(o->data, 0, &start, &end);
    if (failure < 0 && failure != -ENXIO)
        return err_errno(err, -failure, "cannot look at %s", o->data_path);
    *empty = failure == -ENXIO;
    return true;
}

/* The data file is there, whole and durable, before the record is: a record without its data would
 * serve holes. */
static bool overlay_make(struct world *w, struct overlay *o, const char *folder,
                         const char *map_path, const struct presence_head *head, struct err *err)
{
    uint64_t bytes;
    bool empty;
    if (!data_size(o, &bytes, &empty, err))
        return false;
    if (!empty)
        return err_set(err, ERR_CORRUPT,
                       "%s holds data but its record %s is gone: put it back, or discard the "
                       "overlay",
                       o->data_path, map_path);
    int failure = w->ops->truncate(o->data, o->bytes);
    if (failure < 0)
        return err_errno(err, -failure, "cannot make %s", o->data_path);
    if (!file_sync(o->data, err))
        return false;
    failure = w->ops->sync_dir(w, folder);
    if (failure < 0)
        return err_errno(err, -failure, "cannot sync %s", folder);
    return presence_create(w, map_path, head, err);
}

static bool check_data(struct overlay *o, struct err *err)
{
    uint64_t bytes;
    bool empty;
    if (!data_size(o, &bytes, &empty, err))
        return false;
    if (bytes != o->bytes)
        return err_set(err, ERR_CORRUPT,
                       "%s has %llu bytes, its disk has %llu: put it back, or discard the overlay",
                       o->data_path, (unsigned long long)bytes, (unsigned long long)o->bytes);
    return true;
}

static bool open_files(struct world *w, struct overlay *o, const char *folder,
                       const struct overlay_point *point, const struct epoch_disk *disk,
                       struct err *err)
{
    char map_path[PATH_MAX];
    struct presence_head head = {
        .generation_id = point->generation_id,
        .epoch = point->epoch,
        .disk = disk->disk,
        .disk_bytes = disk->size_bytes,
    };
    memcpy(head.vm, point->vm, sizeof head.vm);
    if (!path_make(o->data_path, folder, disk->name, "data", err) ||
        !path_make(map_path, folder, disk->name, "map", err) ||
        !file_open(w, o->data_path, O_RDWR | O_CREAT, 0600, &o->data, err) || !lock_data(o, err))
        return false;
    struct err why = ERR_NONE;
    if (presence_open(w, map_path, &head, &o->presence, &why))
        return check_data(o, err);
    if (why.kind != ERR_NOT_FOUND) {
        *err = why;
        return false;
    }
    return overlay_make(w, o, folder, map_path, &head, err) &&
           presence_open(w, map_path, &head, &o->presence, err);
}

static void overlay_free(struct overlay **slot)
{
    struct overlay *o = TAKE(*slot);
    if (!o)
        return;
    presence_close(&o->presence);
    file_close(&o->data);
    if (o->locks)
        range_locks_release(&o->locks);
    pthread_mutex_destroy(&o->flush_lock);
    free(o);
}

bool overlay_open(struct world *w, const char *folder, const struct overlay_point *point,
                  struct view *view, size_t disk, struct overlay **out, struct err *err)
{
    const struct epoch_disk *about = view_disk(view, disk);
    struct overlay *o CLEANUP(overlay_free) = calloc(1, sizeof *o);
    if (!o)
        return err_set(err, ERR_FULL, "no memory for an overlay of %s", about->name);
    pthread_mutex_init(&o->flush_lock, NULL);
    atomic_init(&o->sync_failed, false);
    o->view = view;
    o->disk = disk;
    o->bytes = about->size_bytes;
    if (!range_locks_make(&o->locks))
        return err_set(err, ERR_FULL, "no memory for an overlay of %s", about->name);
    if (!open_files(w, o, folder, point, about, err))
        return err_wrap(err, "cannot open the overlay of %s", about->name);
    *out = TAKE(o);
    return true;
}

void overlay_close(struct overlay **o)
{
    if (!*o)
        return;
    struct err err = ERR_NONE;
    if (!overlay_flush(*o, &err))
        log_error("closing an overlay: %s", err.text);
    overlay_free(o);
}

static bool inside(const struct overlay *o, uint64_t offset, uint64_t length)
{
    return offset <= o->bytes && length <= o->bytes - offset;
}

bool overlay_read(struct overlay *o, uint64_t offset, struct mspan out, struct err *err)
{
    assert(inside(o, offset, out.length));
    size_t done = 0;
    while (done < out.length) {
        uint64_t at = offset + done, run;
        struct extent rest = extent_of_bytes(at, out.length - done);
        bool present = presence_test(o->presence, rest, &run);
        uint64_t until = (rest.first + run) * BLOCK_BYTES;
        size_t length = out.length - done;
        if (length > until - at)
            length = (size_t)(until - at);
        struct mspan part = mspan_part(out, done, length);
        if (!(present ? file_read(o->data, part, at, err)
                      : view_read(o->view, o->disk, at, part, err)))
            return false;
        done += length;
    }
    return true;
}

static bool may_change(struct overlay *o, struct err *err)
{
    if (!atomic_load(&o->sync_failed))
        return true;
    return err_set(err, ERR_IO,
                   "%s could not be synced, what was written since the last flush may be lost: "
                   "look at the scratch folder's disk, then mount again",
                   o->data_path);
}

/* Copies the view's bytes [from, until), less than a block, into the data file. */
static bool copy_from_view(struct overlay *o, uint64_t from, uint64_t until, struct err *err)
{
    uint8_t bytes[BLOCK_BYTES];
    assert(from <= until && until - from < BLOCK_BYTES);
    if (from == until)
        return true;
    size_t length = (size_t)(until - from);
    return view_read(o->view, o->disk, from, mspan_of(bytes, length), err) &&
           file_write(o->data, span_of(bytes, length), from, err);
}

static bool is_present(struct overlay *o, uint64_t block)
{
    uint64_t run;
    return presence_test(o->presence, (struct extent){.first = block, .count = 1}, &run);
}

/* A block becomes present as a whole: what the change leaves of its first and last block comes
 * from the view first. The range is held. */
static bool complete_edges(struct overlay *o, uint64_t offset, uint64_t length, struct err *err)
{
    uint64_t end = offset + length;
    uint64_t first = offset / BLOCK_BYTES, last = (end - 1) / BLOCK_BYTES;
    uint64_t last_end = (last + 1) * BLOCK_BYTES;
    if (last_end > o->bytes)
        last_end = o->bytes;
    if (!is_present(o, first) && !copy_from_view(o, first * BLOCK_BYTES, offset, err))
        return false;
    return is_present(o, last) || copy_from_view(o, end, last_end, err);
}

bool overlay_write(struct overlay *o, uint64_t offset, struct span data, struct err *err)
{
    assert(inside(o, offset, data.length));
    struct extent blocks = extent_of_bytes(offset, data.length);
    if (data.length == 0)
        return true;
    if (!may_change(o, err) || !presence_reserve(o->presence, blocks, err))
        return false;
    struct range_hold hold CLEANUP(range_cleanup) = {.locks = NULL};
    range_lock(o->locks, blocks, &hold);
    if (!complete_edges(o, offset, data.length, err) || !file_write(o->data, data, offset, err))
        return false;
    /* The bit after the data: a flush that sees the bit syncs the data behind it. */
    presence_set(o->presence, blocks);
    return true;
}

bool overlay_zero(struct overlay *o, uint64_t offset, uint64_t length, struct err *err)
{
    assert(inside(o, offset, length));
    struct extent blocks = extent_of_bytes(offset, length);
    if (length == 0)
        return true;
    if (!may_change(o, err) || !presence_reserve(o->presence, blocks, err))
        return false;
    struct range_hold hold CLEANUP(range_cleanup) = {.locks = NULL};
    range_lock(o->locks, blocks, &hold);
    if (!complete_edges(o, offset, length, err))
        return false;
    int failure = o->data->world->ops->punch(o->data, offset, length);
    if (failure < 0)
        return err_errno(err, -failure, "cannot punch a hole into %s", o->data_path);
    presence_set(o->presence, blocks);
    return true;
}

bool overlay_flush(struct overlay *o, struct err *err)
{
    struct presence_batch batch AUTO_PRESENCE_BATCH = {.count = 0};
    LOCK_SCOPE(&o->flush_lock);
    if (!may_change(o, err))
        return false;
    /* Bits are taken before the sync, so that every one of them has its data synced. A bit set
     * meanwhile waits for the next flush; recorded now, it would serve a hole for data. */
    if (!presence_take(o->presence, &batch, err))
        return false;
    if (!file_sync(o->data, err)) {
        atomic_store(&o->sync_failed, true);
        presence_return(o->presence, &batch);
        return false;
    }
    return presence_put(o->presence, &batch, err);
}

/* Data of the local file inside the present blocks [from, end). */
static bool next_local(struct overlay *o, uint64_t from, uint64_t end, struct extent *out,
                       bool *found, struct err *err)
{
    uint64_t start, stop;
    int failure = o->data->world->ops->next_data(o->data, from * BLOCK_BYTES, &start, &stop);
    if (failure < 0 && failure != -ENXIO)
        return err_errno(err, -failure, "cannot find data in %s", o->data_path);
    *found = failure == 0 && start < end * BLOCK_BYTES;
    if (*found) {
        *out = extent_of_bytes(start, stop - start);
        if (extent_end(*out) > end)
            out->count = end - out->first;
    }
    return true;
}

bool overlay_next_data(struct overlay *o, uint64_t from, struct extent *out, bool *found,
                       struct err *err)
{
    uint64_t blocks = blocks_of_bytes(o->bytes);
    struct extent base = {.first = 0, .count = 0}; /* the view's next data, once looked for */
    bool base_known = false, base_found = false;
    *found = false;
    while (from < blocks) {
        uint64_t run;
        if (presence_test(o->presence, (struct extent){from, blocks - from}, &run)) {
            if (!next_local(o, from, from + run, out, found, err) || *found)
                return *found;
        } else {
            if (!base_known || (base_found && extent_end(base) <= from)) {
                if (!view_next_data(o->view, o->disk, from, &base, &base_found, err))
                    return false;
                base_known = true;
            }
            if (base_found && base.first < from + run) {
                uint64_t first = base.first > from ? base.first : from;
                uint64_t end = extent_end(base) < from + run ? extent_end(base) : from + run;
                *out = (struct extent){.first = first, .count = end - first};
                *found = true;
                return true;
            }
        }
        from += run;
    }
    return true;
}
