/* SPDX-License-Identifier: MIT */
#include "fs/disk/source.h"

#include "common/cleanup.h"
#include "common/file.h"
#include "common/log.h"
#include "fs/disk/source_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* Whole pages, so that what follows the maps lies on one. */
static size_t maps_bytes_of(const uint64_t *disk_bytes, size_t disk_count)
{
    size_t bytes = dirty_memory_bytes(disk_bytes, disk_count, DIRTY_LEAVES_DEFAULT);
    return (bytes + SOURCE_KEPT_BYTES - 1) / SOURCE_KEPT_BYTES * SOURCE_KEPT_BYTES;
}

size_t source_memory_bytes(const uint64_t *disk_bytes, size_t disk_count)
{
    return SOURCE_KEPT_BYTES + maps_bytes_of(disk_bytes, disk_count);
}

size_t source_origin_memory_bytes(const uint64_t *disk_bytes, size_t disk_count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < disk_count; i++)
        bytes += backing_memory_bytes(disk_bytes[i]);
    return bytes;
}

static bool open_local(struct source_disk *d, const struct source_disk_config *config,
                       const struct source_config *c, uint8_t *memory, struct err *err)
{
    struct backing_config backing = {.world = c->world,
                                     .path = d->path,
                                     .disk_bytes = d->size,
                                     .origin = config->origin,
                                     .head = config->origin_head,
                                     .written = d->written,
                                     .memory = memory,
                                     .fresh = c->memory_fresh};
    if (!backing_open(&backing, &d->backing, err))
        return err_wrap(err, "disk %s", d->name);
    struct world_stat st;
    int rc = c->world->ops->stat(backing_file(d->backing), &st);
    if (rc < 0)
        return err_errno(err, -rc, "disk %s: cannot look at %s", d->name, d->path);
    if (st.size < d->size)
        return err_set(err, ERR_INVALID,
                       "disk %s: %s has %llu bytes but was enabled with %llu; shrinking is not "
                       "possible: restore its size, or disable and enable the VM",
                       d->name, d->path, (unsigned long long)st.size, (unsigned long long)d->size);
    return true;
}

static bool open_disk(struct source *s, struct source_disk *d,
                      const struct source_disk_config *config, const struct source_config *c,
                      uint8_t *memory, struct err *err)
{
    const char *folder = c->state_folder;
    char path[4096];
    snprintf(d->name, sizeof d->name, "%s", config->name);
    d->path = strdup(config->path);
    if (d->path == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    d->number = config->number;
    d->store = config->store;
    d->size = config->size_bytes;
    d->origin = config->origin;
    snprintf(path, sizeof path, "%s/%s.written", folder, d->name);
    if (!written_open(s->world, path, &d->written, err) || !open_local(d, config, c, memory, err))
        return false;
    if (!range_locks_make(&d->locks))
        return err_set(err, ERR_FULL, "out of memory");
    snprintf(path, sizeof path, "%s/%s.marks", folder, d->name);
    if (!marks_open(s->world, path, d->size, &d->marks, err))
        return err_wrap(err, "disk %s", d->name);
    snprintf(path, sizeof path, "%s/%s.digests", folder, d->name);
    if (!digest_file_open(s->world, path, c->key_id, d->number, &d->digests, err))
        return err_wrap(err, "disk %s", d->name);
    return true;
}

/* The keeper's memory is gone, new, or of smaller disks: the durable marks are what is believed. */
static void dirty_from_marks(struct source *s)
{
    for (size_t i = 0; i < s->disk_count; i++) {
        const struct marks *marks = s->disks[i].marks;
        uint64_t regions = marks_regions(marks);
        uint64_t first;
        for (uint64_t from = 0; marks_next(marks, from, &first); from = first) {
            uint64_t end = first + 1;
            while (end < regions && marks_test(marks, end))
                end++;
            dirty_set_regions(s->dirty, dirty_active(s->dirty), i, first, end - first);
            first = end;
        }
    }
}

/* A worker that died before its maps were complete served nobody: this one is the first. When a
 * disk has grown the files were held all the time: only the maps are new. */
static bool attach_maps(struct source *s, const struct source_config *config, const uint64_t *sizes,
                        struct err *err)
{
    uint8_t *maps = (uint8_t *)config->memory + SOURCE_KEPT_BYTES;
    size_t maps_bytes = maps_bytes_of(sizes, s->disk_count);
    if (config->memory_bytes < SOURCE_KEPT_BYTES + maps_bytes)
        return err_set(err, ERR_CORRUPT, "the kept memory is another VM's or another version's");
    s->kept = config->memory;
    bool outgrown = s->adopted && dirty_outgrown(maps, sizes, s->disk_count);
    if (s->adopted && !outgrown) {
        struct err why = ERR_NONE;
        if (dirty_attach(maps, maps_bytes, sizes, s->disk_count, DIRTY_LEAVES_DEFAULT, false,
                         &s->dirty, &why))
            return true;
        if (why.kind != ERR_NOT_FOUND) {
            if (err != NULL)
                *err = why;
            return false;
        }
        s->adopted = false;
    }
    for (size_t i = 0; i < VM_DISKS_MAX && config->memory_fresh; i++)
        atomic_store(&s->kept->sync_failed[i], false);
    if (!dirty_attach(maps, maps_bytes, sizes, s->disk_count, DIRTY_LEAVES_DEFAULT, true, &s->dirty,
                      err))
        return false;
    dirty_from_marks(s);
    return true;
}

static bool open_maps(struct source *s, const struct source_config *config, struct err *err)
{
    uint64_t sizes[VM_DISKS_MAX];
    for (size_t i = 0; i < s->disk_count; i++)
        sizes[i] = s->disks[i].size;
    if (!attach_maps(s, config, sizes, err))
        return false;
    gate_init(&s->gate, 2 + dirty_active(s->dirty));
    if (!dirty_empty(s->dirty, dirty_active(s->dirty)))
        source_note_write(s, gate_epoch(&s->gate));
    return undo_make(s->world, config->state_folder, config->undo_memory_bytes,
                     config->undo_file_bytes, &s->undo, err);
}

/* Where the presence bits of the first disk lie; checked only when there are any. */
static uint8_t *origin_memory(const struct source_config *config, struct err *err)
{
    uint64_t sizes[VM_DISKS_MAX] = {0};
    bool any = false;
    for (size_t i = 0; i < config->disk_count; i++) {
        sizes[i] = config->disks[i].size_bytes;
        any = any || config->disks[i].origin != NULL;
    }
    size_t maps = source_memory_bytes(sizes, config->disk_count);
    size_t bits = any ? source_origin_memory_bytes(sizes, config->disk_count) : 0;
    if (config->memory_bytes < maps + bits) {
        err_set(err, ERR_INVALID, "the mount began without an origin: unmount and mount again");
        return NULL;
    }
    return (uint8_t *)config->memory + maps;
}

bool source_open(const struct source_config *config, struct source **out, struct err *err)
{
    assert(config->disk_count > 0 && config->disk_count <= VM_DISKS_MAX);
    struct source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    s->world = config->world;
    s->adopted = !config->memory_fresh;
    atomic_store(&s->cut_word, CUT_IDLE);
    uint8_t *memory = origin_memory(config, err);
    if (memory == NULL)
        goto fail;
    for (size_t i = 0; i < config->disk_count; i++) {
        assert(i == 0 || config->disks[i].number > config->disks[i - 1].number);
        s->disk_count = i + 1;
        if (!open_disk(s, &s->disks[i], &config->disks[i], config, memory, err))
            goto fail;
        memory += backing_memory_bytes(config->disks[i].size_bytes);
    }
    if (!open_maps(s, config, err))
        goto fail;
    *out = s;
    return true;
fail:
    source_close(&s);
    return false;
}

void source_close(struct source **source)
{
    struct source *s = *source;
    if (s == NULL)
        return;
    *source = NULL;
    for (size_t i = 0; i < s->disk_count; i++) {
        struct source_disk *d = &s->disks[i];
        digest_file_close(&d->digests);
        marks_close(&d->marks);
        range_locks_release(&d->locks);
        backing_close(&d->backing);
        written_close(&d->written);
        free(d->path);
    }
    undo_release(&s->undo);
    dirty_detach(&s->dirty);
    free(s);
}

void source_checked(struct source *s)
{
    struct err err = ERR_NONE;
    for (size_t i = 0; i < s->disk_count; i++)
        if (!written_begin(s->disks[i].written, &err))
            log_warning("disk %s: that it is held now is not recorded: %s", s->disks[i].name,
                        err.text);
    dirty_seeded(s->dirty);
}

bool source_forget_disk(struct world *w, const char *state_folder, const char *disk,
                        struct err *err)
{
    static const char *const kept[] = {"marks", "digests", "written"};
    char path[4096];
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(path, sizeof path, "%s/%s.%s", state_folder, disk, kept[i]);
        if (!file_remove(w, path, err))
            return false;
    }
    return true;
}

bool source_written_behind(const struct source *s, size_t disk, const struct world_stat *st)
{
    return written_behind(s->disks[disk].written, st);
}

bool source_adopted(const struct source *s)
{
    return s->adopted;
}

size_t source_disks(const struct source *s)
{
    return s->disk_count;
}

static const struct source_disk *disk_at(const struct source *s, size_t disk)
{
    assert(disk < s->disk_count);
    return &s->disks[disk];
}

const char *source_disk_name(const struct source *s, size_t disk)
{
    return disk_at(s, disk)->name;
}

uint64_t source_disk_bytes(const struct source *s, size_t disk)
{
    return disk_at(s, disk)->size;
}

int source_disk_fd(const struct source *s, size_t disk)
{
    return world_file_fd(backing_file(disk_at(s, disk)->backing));
}

void source_on_wait(struct source *s, struct long_wait wait)
{
    s->far = wait;
    for (size_t i = 0; i < s->disk_count; i++) {
        backing_on_wait(s->disks[i].backing, wait);
        marks_on_wait(s->disks[i].marks, wait);
    }
}

/* An origin that is out of reach was waited for: what is left is an I/O error. */
static bool guest_error(const struct source_disk *d, struct err *err)
{
    if (err != NULL && err->kind != ERR_FULL && backing_partial(d->backing))
        err->kind = ERR_IO;
    return err_wrap(err, "disk %s", d->name);
}

bool source_read(struct source *s, size_t disk, uint64_t offset, struct mspan out, struct err *err)
{
    const struct source_disk *d = disk_at(s, disk);
    assert(offset <= d->size && out.length <= d->size - offset);
    return backing_read(d->backing, offset, out, err) || guest_error(d, err);
}

void source_note_write(struct source *s, uint32_t epoch)
{
    _Atomic uint64_t *first = &s->first_write_ms[epoch & 1];
    if (atomic_load_explicit(first, memory_order_relaxed) != 0)
        return;
    uint64_t none = 0;
    uint64_t now = s->world->ops->boottime_ns(s->world) / 1000000;
    atomic_compare_exchange_strong(first, &none, now > 0 ? now : 1);
}

/* Does a cut still need the old content of this block? The caller owns the block's range lock, so
 * a take of it cannot run at the same time. */
static bool cut_needs(struct source *s, uint32_t epoch, size_t disk, uint64_t block)
{
    uint64_t word = atomic_load(&s->cut_word);
    return word != CUT_IDLE && cut_word_epoch(word) == ((epoch - 1) & CUT_EPOCH_MASK) &&
           cut_position(disk, block) >= cut_word_position(word) &&
           dirty_test(s->dirty, (epoch - 1) & 1, disk, block);
}

/* Copy before write. When it fails the cut is lost, never the guest's write. */
static void save_old(struct source *s, uint32_t era, size_t disk, uint64_t block)
{
    if (undo_has(s->undo, disk, block))
        return;
    uint8_t old[BLOCK_BYTES];
    struct err err = ERR_NONE;
    if (!backing_read(s->disks[disk].backing, block << BLOCK_SHIFT, mspan_of(old, sizeof old),
                      &err)) {
        log_warning("the cut is abandoned: %s", err.text);
        atomic_store(&s->cut_lost, true);
    } else if (!undo_save(s->undo, era, disk, block, old)) {
        atomic_store(&s->cut_lost, true);
    }
}

/* The era is read before the cut is looked at: should the cut end in between, the save is dropped
 * and cannot turn up in the next one. */
static void copy_before_write(struct source *s, uint32_t epoch, size_t disk, struct extent extent)
{
    if (atomic_load(&s->cut_word) == CUT_IDLE || atomic_load(&s->cut_lost))
        return;
    uint32_t era = undo_era(s->undo);
    for (uint64_t b = extent.first; b < extent_end(extent); b++) {
        if (cut_needs(s, epoch, disk, b) && !atomic_load(&s->cut_lost))
            save_old(s, era, disk, b);
    }
}

struct change {
    struct range_hold hold;
    uint32_t epoch;
};

/* Whoever holds the range may wait for long: then so does this thread. */
static void lock_range(struct source *s, struct source_disk *d, struct extent extent,
                       struct range_hold *hold)
{
    if (range_try(d->locks, extent, hold))
        return;
    long_wait_begin(&s->far);
    range_lock(d->locks, extent, hold);
    long_wait_end(&s->far);
}

/* Everything that must have happened before bytes of the disk may change. Ends with the range
 * locked and the write counted, also when it fails. */
static bool change_begin(struct source *s, size_t disk, uint64_t offset, uint64_t length,
                         struct change *c, struct err *err)
{
    struct source_disk *d = &s->disks[disk];
    struct extent extent = extent_of_bytes(offset, length);
    atomic_fetch_add_explicit(&s->changed_bytes, length, memory_order_relaxed);
    lock_range(s, d, extent, &c->hold);
    c->epoch = gate_enter(&s->gate);
    source_note_write(s, c->epoch);
    /* A late write of the frozen epoch may find the pool of leaves empty and so freeze a whole
     * region, in which newer writes went in unprotected: such a cut shows no single moment. */
    if (dirty_set(s->dirty, c->epoch & 1, disk, extent) && c->epoch != gate_epoch(&s->gate))
        atomic_store(&s->cut_lost, true);
    /* Mark before writing. A crash between the two ships an unchanged block and costs bandwidth;
     * the other order forgets a changed one and costs data. */
    if (!marks_ensure(d->marks, extent, err))
        return err_wrap(err, "disk %s", d->name);
    copy_before_write(s, c->epoch, disk, extent);
    return true;
}

static void change_end(struct source *s, struct change *c)
{
    gate_leave(&s->gate, c->epoch);
    range_unlock(&c->hold);
}

/* The guest's room comes before a cut, which takes it for old blocks. */
static bool make_room(struct source *s, const struct err *why)
{
    return why->kind == ERR_FULL && undo_give_room(s->undo, &s->cut_lost);
}

/* `data` NULL: zeros. */
static bool change_local(struct source *s, const struct source_disk *d, uint64_t offset,
                         const uint8_t *data, uint64_t length, struct err *err)
{
    struct err why = ERR_NONE;
    bool ok, tried = false;
    do {
        ok = data ? backing_write(d->backing, offset, span_of(data, length), &why)
                  : backing_zero(d->backing, offset, length, &why);
    } while (!ok && !tried && (tried = make_room(s, &why)));
    if (ok)
        return true;
    if (err != NULL)
        *err = why;
    return guest_error(d, err);
}

bool source_write(struct source *s, size_t disk, uint64_t offset, struct span data, struct err *err)
{
    const struct source_disk *d = disk_at(s, disk);
    assert(offset <= d->size && data.length <= d->size - offset);
    if (data.length == 0)
        return true;
    struct change c;
    bool ok = change_begin(s, disk, offset, data.length, &c, err) &&
              change_local(s, d, offset, data.data, data.length, err);
    change_end(s, &c);
    return ok;
}

bool source_zero(struct source *s, size_t disk, uint64_t offset, uint64_t length, struct err *err)
{
    const struct source_disk *d = disk_at(s, disk);
    assert(offset <= d->size && length <= d->size - offset);
    if (length == 0)
        return true;
    struct change c;
    bool ok = change_begin(s, disk, offset, length, &c, err) &&
              change_local(s, d, offset, NULL, length, err);
    change_end(s, &c);
    return ok;
}

bool source_flush(struct source *s, size_t disk, struct err *err)
{
    const struct source_disk *d = disk_at(s, disk);
    _Atomic bool *failed = &s->kept->sync_failed[disk];
    struct err why = ERR_NONE;
    if (!atomic_load(failed) && !backing_sync(d->backing, &why)) {
        if (why.kind != ERR_FULL)
            atomic_store(failed, true);
        if (err != NULL)
            *err = why;
        return err_wrap(err, "disk %s", d->name);
    }
    /* Looked at behind our own sync: of several at once the kernel tells one that data was lost. */
    if (!atomic_load(failed))
        return true;
    return err_set(err, ERR_IO,
                   "disk %s: an earlier sync of %s failed, so its writes may be lost; check the "
                   "device, then unmount and mount again",
                   d->name, d->path);
}

bool source_next_data(struct source *s, size_t disk, uint64_t from, uint64_t *start, uint64_t *end,
                      bool *found, struct err *err)
{
    return backing_next_data(disk_at(s, disk)->backing, from, start, end, found, err) ||
           err_wrap(err, "disk %s", source_disk_name(s, disk));
}

bool source_mark_all(struct source *s, struct err *err)
{
    for (size_t i = 0; i < s->disk_count; i++) {
        struct source_disk *d = &s->disks[i];
        if (!marks_set_all(d->marks, err))
            return err_wrap(err, "disk %s", d->name);
        /* Under the gate: the bits belong to the epoch that is active while they are set. */
        uint32_t epoch = gate_enter(&s->gate);
        dirty_set_regions(s->dirty, epoch & 1, i, 0, marks_regions(d->marks));
        gate_leave(&s->gate, epoch);
    }
    source_note_write(s, gate_epoch(&s->gate));
    return true;
}
