/* SPDX-License-Identifier: MIT */
#include "fs/disk/seed.h"

#include "backend/history/logs.h"
#include "backend/history/processor.h"
#include "backend/history/stored_run.h"
#include "common/file.h"
#include "fs/disk/cut.h"
#include "fs/disk/marks.h"
#include "fs/disk/pack.h"
#include "fs/disk/ship_state.h"

#include <errno.h>
#include <stdio.h>

#define PATH_BYTES   4096u
#define FILLING      ".digests.filling"
#define PACK_ENTRIES 65536u

/* --- what the vault says: digests and the log's head --- */

/* The disks as they are at the head; those of the vault while there is nothing yet. */
struct disk_table {
    struct epoch_disk rows[VM_DISKS_MAX];
    uint16_t count;
};

static void disks_at_head(struct history *h, struct disk_table *out)
{
    const struct vault *vault = history_vault(h);
    size_t tip = history_tip(h);
    if (tip != HISTORY_NONE) {
        out->count = (uint16_t)history_disks(h, tip, out->rows);
        return;
    }
    memcpy(out->rows, vault->disks, sizeof out->rows);
    out->count = vault->disk_count;
}

struct digests {
    struct digest_file *files[VM_DISKS_MAX];
    uint16_t numbers[VM_DISKS_MAX];
    size_t count;
};

static void digests_release(struct digests *d)
{
    for (size_t i = 0; i < d->count; i++)
        digest_file_close(&d->files[i]);
    d->count = 0;
}

/* New files: what an older one holds may run ahead of this vault. */
static bool digests_open(const struct seed_config *c, const struct disk_table *disks,
                         const char *folder, struct digests *out, struct err *err)
{
    char path[PATH_BYTES];
    for (size_t i = 0; i < disks->count; i++) {
        snprintf(path, sizeof path, "%s/%s" FILLING, folder, disks->rows[i].name);
        if (!file_remove(c->world, path, err) ||
            !digest_file_open(c->world, path, keys_id(c->keys), disks->rows[i].disk, &out->files[i],
                              err))
            return false;
        out->numbers[i] = disks->rows[i].disk;
        out->count++;
    }
    return true;
}

/* Filled and synced, they get the names of a source's state: see fs/disk/source.c. */
static bool digests_place(const struct seed_config *c, const struct disk_table *disks,
                          const char *folder, struct err *err)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    const struct world_ops *ops = c->world->ops;
    int result = 0;
    for (size_t i = 0; i < disks->count && result == 0; i++) {
        snprintf(from, sizeof from, "%s/%s" FILLING, folder, disks->rows[i].name);
        snprintf(to, sizeof to, "%s/%s.digests", folder, disks->rows[i].name);
        result = ops->rename(c->world, from, to);
    }
    if (result == 0)
        result = ops->sync_dir(c->world, folder);
    return result == 0 || err_errno(err, -result, "the digests in %s", folder);
}

static struct digest_file *digests_of(const struct digests *d, uint16_t disk)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->numbers[i] == disk)
            return d->files[i];
    return NULL;
}

static bool digests_take(const struct digests *d, const struct run_entry *e, struct err *err)
{
    struct digest_file *f = digests_of(d, e->disk);
    if (f == NULL)
        return true; /* a disk that was taken out */
    if (e->kind == RUN_DATA)
        return digest_file_write(f, e->first, e->count, e->digests, err);
    if (e->kind == RUN_HOLE)
        return digest_file_hole(f, e->first, e->count, err);
    for (uint64_t i = 0; i < e->count; i++)
        if (!digest_file_write(f, e->first + i, 1, &digest_unknown, err))
            return false;
    return true;
}

static bool digests_take_run(const struct seed_config *c, struct history *h,
                             const struct run_place *place, const struct digests *d,
                             struct err *err)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct run_entry entry;
    bool found = true;

    if (!stored_run_open(h, place, c->targets[0], c->keys, &stored, err))
        return false;
    struct run_cursor cursor = {.run = stored.run};
    while (found)
        if (!run_next(&cursor, &entry, &found, err) || (found && !digests_take(d, &entry, err)))
            return err_wrap(err, "%s", stored.key);
    return true;
}

/* Along the head's line, what others left behind does not count; the newest last; durable at the
 * end. */
static bool digests_fill(const struct seed_config *c, struct history *h, const struct digests *d,
                         struct err *err)
{
    struct run_place *line AUTO_FREE = NULL;
    size_t count;
    if (!history_runs(h, history_tip(h), &line, &count, err))
        return false;
    while (count-- > 0)
        if (!digests_take_run(c, h, &line[count], d, err))
            return false;
    for (size_t i = 0; i < d->count; i++)
        if (!digest_file_sync(d->files[i], err))
            return false;
    return true;
}

/* What the newest generation made itself is a seed. */
static bool only_seeded(struct history *h)
{
    struct generation newest = history_head(h).generation, of;
    for (size_t i = history_tip(h); i != HISTORY_NONE; i = history_before(h, i)) {
        struct record_epoch e = history_epoch(h, i, &of);
        if (of.id != newest.id)
            return true;
        if (e.kind != EPOCH_PASS || strcmp(e.label, EPOCH_SEED_LABEL) != 0)
            return false;
    }
    return true;
}

static void cleanup_history(struct history **h)
{
    history_close(h);
}

static bool open_history(const struct seed_config *c, struct history **out, struct err *err)
{
    return history_open(c->world, c->targets[0], c->vm, c->keys, out, err);
}

bool seed_alone(const struct seed_config *c, bool *alone, struct generation *generation,
                struct err *err)
{
    struct history *h CLEANUP(cleanup_history) = NULL;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_log log;

    if (!open_history(c, &h, err))
        return false;
    struct history_head head = history_head(h);
    *generation = head.generation;
    *alone = head.epoch > 0 && only_seeded(h);
    if (!*alone)
        return true;
    epoch_log_init(&log, c->cache, c->vm, head.generation);
    switch (numlog_read(&log.log, head.epoch + 1, &head.entry, &stored, err)) {
    case NUMLOG_ABSENT:
        return true;
    case NUMLOG_DONE:
        *alone = false; /* a source ships already */
        return true;
    case NUMLOG_OVERTAKEN:
        return err_set(
            err, ERR_INVALID,
            "%s is being seeded: let that enable --seed come to its end, or run it again", c->vm);
    default:
        return false;
    }
}

/* The digest that the source's first epoch carries. */
static bool head_entry(const struct seed_config *c, struct history *h, struct sha256 *out,
                       struct err *err)
{
    struct history_head head = history_head(h);
    *out = head.entry;
    if (head.epoch > 0 ||
        history_entry0(c->cache, c->vm, history_vault(h)->vm, head.generation, c->keys, out, err))
        return true;
    if (err->kind == ERR_NOT_FOUND)
        return err_set(err, ERR_TRANSIENT,
                       "the log of the newest generation of %s is not opened yet in %s: its claim "
                       "waits for that store",
                       c->vm, c->cache->url);
    return false;
}

static bool none_dirty(void *context, uint64_t region)
{
    (void)context, (void)region;
    return false;
}

/* Marks that say that nothing was written, and no word of who wrote what was there before. Should a
 * power cut bring some back, more is compared. */
static bool marks_clear(const struct seed_config *c, const struct disk_table *disks,
                        const char *folder, struct err *err)
{
    char path[PATH_BYTES], note[PATH_BYTES];
    for (size_t i = 0; i < disks->count; i++) {
        struct marks *marks = NULL;
        snprintf(path, sizeof path, "%s/%s.marks", folder, disks->rows[i].name);
        snprintf(note, sizeof note, "%s/%s.written", folder, disks->rows[i].name);
        if (!file_remove(c->world, note, err) || !file_remove(c->world, path, err) ||
            !marks_open(c->world, path, disks->rows[i].size_bytes, &marks, err))
            return false;
        bool clear = marks_sweep(marks, 0, true, none_dirty, NULL, UINT64_MAX, err);
        marks_close(&marks);
        if (!clear)
            return false;
    }
    return true;
}

bool seed_adopt(const struct seed_config *c, const char *state_folder, struct err *err)
{
    struct history *h CLEANUP(cleanup_history) = NULL;
    struct digests digests CLEANUP(digests_release) = {.count = 0};
    struct disk_table disks;

    if (!open_history(c, &h, err))
        return false;
    struct history_head head = history_head(h);
    /* Its points are later than all of the line: see ship_set_time. */
    struct ship_state state = {.generation = head.generation,
                               .begun = true,
                               .epoch = head.epoch,
                               .point_ms = head.point_ms,
                               .pass_open = true,
                               .compare_all = !c->equal};
    disks_at_head(h, &disks);
    /* Digests first, and whole at once: what a state believes that is there already, of an earlier
     * try, stays so. Blocks would be left out that the replica lacks. */
    return head_entry(c, h, &state.digest, err) && ship_state_forget(c->world, state_folder, err) &&
           digests_open(c, &disks, state_folder, &digests, err) &&
           digests_fill(c, h, &digests, err) && digests_place(c, &disks, state_folder, err) &&
           (!c->equal || marks_clear(c, &disks, state_folder, err)) &&
           ship_state_save(c->world, state_folder, &state, err);
}

/* --- writing --- */

struct writer {
    const struct seed_config *config;
    struct store *staging;
    struct store *stagings[VM_DISKS_MAX + 1]; /* the same for all: a part is named by its epoch */
    struct history *history;
    struct generation generation; /* whose seed it is */
    struct processor *processor;
    struct uploads *uploads;
    struct disk_table disks;
    struct digests digests;
    struct epoch_log log;
    struct sha256 entry0;
    struct pack *pack; /* NULL between epochs */
    uint64_t done_bytes, total_bytes;
    void (*progress)(void *, uint64_t, uint64_t);
    void *context;
};

static void writer_release(struct writer *w)
{
    pack_release(&w->pack);
    uploads_release(&w->uploads);
    processor_close(&w->processor);
    history_close(&w->history);
    digests_release(&w->digests);
}

/* A copy of the log entry of that digest, where it is not yet. A bit flipped on the way there would
 * stay for good: an entry is never replaced. */
static bool entry_copy(const struct writer *w, struct store *from, struct store *to, uint64_t epoch,
                       const struct sha256 *digest, struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE, there AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];

    w->log.log.key(w->log.log.context, epoch, key);
    if (!store_load(from, key, EPOCH_BYTES_MAX, &body, err))
        return false;
    struct sha256 read = sha256_of(buf_span(&body));
    if (!digests_equal(&read, digest, sizeof read))
        return err_set(err, ERR_TRANSIENT, "%s in %s does not read as what was put there", key,
                       from->url);
    if (store_put(to, key, buf_span(&body), err))
        return true;
    if (err->kind != ERR_EXISTS || !store_load(to, key, EPOCH_BYTES_MAX, &there, err))
        return false;
    return span_equal(buf_span(&body), buf_span(&there)) ||
           err_set(err, ERR_EXISTS, "%s in %s is another entry: has a source begun to ship?", key,
                   to->url);
}

/* Nobody waits for the seed of a generation that another one has followed. */
static bool still_newest(const struct writer *w, struct err *err)
{
    struct generation newest = history_head(w->history).generation;
    const char *wanted = w->config->generation;
    char name[GENERATION_NAME_MAX];
    generation_name(newest, name);
    if (newest.id == w->generation.id &&
        (wanted == NULL || wanted[0] == '\0' || strcmp(wanted, name) == 0))
        return true;
    return err_set(err, ERR_EXISTS, "another generation of %s has begun in %s, %s", w->config->vm,
                   w->config->targets[0]->url, name);
}

/* Applies what is in the staging store. */
static bool apply(struct writer *w, struct err *err)
{
    for (;;) {
        enum processor_result result = processor_step(w->processor, err);
        if (result == PROCESSOR_FAILED)
            return false;
        if (result == PROCESSOR_IDLE)
            return history_refresh(w->history, err) && still_newest(w, err);
    }
}

static bool begin_epoch(struct writer *w, struct err *err)
{
    const struct vault *vault = history_vault(w->history);
    struct history_head head = history_head(w->history);
    struct pack_config config = {.world = w->config->world,
                                 .keys = w->config->keys,
                                 .encrypt = w->config->encrypt,
                                 .vm = w->config->vm,
                                 .generation = head.generation,
                                 .caches = w->stagings,
                                 .cache_count = w->config->store_count,
                                 .uploads = w->uploads};
    memcpy(config.vm_id, vault->vm, sizeof config.vm_id);
    return w->pack != NULL || pack_begin(&config, head.epoch + 1, &w->pack, err);
}

static bool put_epoch(struct writer *w, struct err *err)
{
    const struct vault *vault = history_vault(w->history);
    struct history_head head = history_head(w->history);
    struct buf body AUTO_BUF = BUF_NONE;
    struct epoch_entry entry = {
        .kind = EPOCH_PASS,
        .generation = head.generation,
        .epoch = head.epoch + 1,
        .previous = head.epoch > 0 ? head.entry : w->entry0,
        .clock_ms = w->config->world->ops->realtime_ns(w->config->world) / 1000000,
        .point_kind = POINT_CRASH,
        .label = EPOCH_SEED_LABEL,
        .disk_count = w->disks.count,
    };
    memcpy(entry.vm, vault->vm, sizeof entry.vm);
    memcpy(entry.disks, w->disks.rows, sizeof entry.disks);
    if (!pack_finish(w->pack, &entry, &body, err))
        return false;
    return numlog_put(&w->log.log, entry.epoch, buf_span(&body), &entry.previous, NULL, err) ==
           NUMLOG_DONE;
}

/* Closes the open epoch and brings it into the target store. */
static bool end_epoch(struct writer *w, struct err *err)
{
    if (w->pack == NULL)
        return true;
    if (!pack_empty(w->pack) && (!put_epoch(w, err) || !apply(w, err)))
        return false;
    pack_release(&w->pack);
    return true;
}

static bool add_chunk(struct writer *w, const struct pack_disk *disk, struct world_file *file,
                      struct extent e, struct mspan data, struct err *err)
{
    struct mspan part = mspan_part(data, 0, e.count * BLOCK_BYTES);
    /* Digested and sealed from this buffer, not from the file. */
    if (!file_read(file, part, e.first * BLOCK_BYTES, err) || !begin_epoch(w, err) ||
        !pack_add(w->pack, disk, e, span_of_mspan(part), 0, err))
        return false;
    w->done_bytes += part.length;
    if (w->total_bytes < w->done_bytes) /* holes, where the replica has data */
        w->total_bytes = w->done_bytes;
    if (w->progress != NULL)
        w->progress(w->context, w->done_bytes, w->total_bytes);
    bool full =
        pack_stored_bytes(w->pack) >= SEED_EPOCH_BYTES || pack_entries(w->pack) >= PACK_ENTRIES;
    return !full || end_epoch(w, err);
}

/* The next blocks of the copy with data in them; *found false at its end, or the disk's. */
static bool next_data(struct world_file *file, uint64_t from, uint64_t disk_bytes,
                      struct extent *out, bool *found, struct err *err)
{
    uint64_t start, end;
    int result = file->world->ops->next_data(file, from * BLOCK_BYTES, &start, &end);
    *found = false;
    if (result == -ENXIO || (result == 0 && start >= disk_bytes))
        return true;
    if (result < 0)
        return err_errno(err, -result, "%s", file->path);
    if (end > disk_bytes)
        end = disk_bytes;
    *out = extent_of_bytes(start, end - start);
    *found = out->count > 0;
    return true;
}

/* The next blocks that may differ from the replica: with data in the copy, or in the replica where
 * the copy has a hole, or none any more. */
static bool next_chunk(struct world_file *file, struct digest_file *digests, uint64_t from,
                       uint64_t disk_bytes, struct extent *out, bool *found, struct err *err)
{
    struct extent held;
    bool holds = false;
    if (!next_data(file, from, disk_bytes, out, found, err) ||
        !digest_file_next(digests, from, &held, &holds, err))
        return false;
    holds = holds && held.first < blocks_of_bytes(disk_bytes);
    if (holds && extent_end(held) > blocks_of_bytes(disk_bytes))
        held.count = blocks_of_bytes(disk_bytes) - held.first;
    if (holds && (!*found || held.first < out->first))
        *out = held;
    *found = *found || holds;
    if (!*found)
        return true;
    if (out->first < from)
        *out = (struct extent){.first = from, .count = extent_end(*out) - from};
    if (out->count > CUT_TAKE_BLOCKS_MAX)
        out->count = CUT_TAKE_BLOCKS_MAX;
    return true;
}

static bool add_copy(struct writer *w, const struct epoch_disk *disk, struct world_file *file,
                     struct mspan data, struct err *err)
{
    struct pack_disk into = {
        .number = disk->disk, .store = disk->store, .digests = digests_of(&w->digests, disk->disk)};
    struct extent e = {0};
    bool found = true;

    for (;;) {
        if (!next_chunk(file, into.digests, extent_end(e), disk->size_bytes, &e, &found, err))
            return false;
        if (!found)
            return true;
        if (!add_chunk(w, &into, file, e, data, err))
            return err_wrap(err, "seeding disk %s", disk->name);
    }
}

static bool add_copies(struct writer *w, const struct seed_copy *copies, size_t count,
                       struct err *err)
{
    uint8_t *room AUTO_FREE = malloc((size_t)CUT_TAKE_BLOCKS_MAX * BLOCK_BYTES);
    if (room == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        struct world_stat st;
        if (copies[i].file->world->ops->stat(copies[i].file, &st) == 0)
            w->total_bytes += st.allocated < st.size ? st.allocated : st.size;
    }
    for (size_t i = 0; i < count; i++)
        for (uint16_t d = 0; d < w->disks.count; d++)
            if (w->disks.rows[d].disk == copies[i].disk &&
                !add_copy(w, &w->disks.rows[d], copies[i].file,
                          mspan_of(room, (size_t)CUT_TAKE_BLOCKS_MAX * BLOCK_BYTES), err))
                return false;
    return end_epoch(w, err);
}

static bool writer_open(struct writer *w, const char *folder, struct err *err)
{
    const struct seed_config *c = w->config;
    struct processor_config processor = {.world = c->world,
                                         .vm = c->vm,
                                         .keys = c->keys,
                                         .targets = c->targets,
                                         .caches = w->stagings,
                                         .store_count = c->store_count};
    for (size_t i = 0; i < c->store_count; i++)
        w->stagings[i] = w->staging;
    if (!open_history(c, &w->history, err))
        return false;
    w->generation = history_head(w->history).generation;
    if (!still_newest(w, err))
        return false;
    if (!only_seeded(w->history))
        return err_set(err, ERR_EXISTS,
                       "the newest generation of %s has more than a seed in %s: it is "
                       "replicated already",
                       c->vm, c->targets[0]->url);
    disks_at_head(w->history, &w->disks);
    struct history_head head = history_head(w->history);
    epoch_log_init(&w->log, w->staging, c->vm, head.generation);
    if (head.epoch == 0 && (!head_entry(c, w->history, &w->entry0, err) ||
                            !entry_copy(w, c->cache, w->staging, 0, &w->entry0, err)))
        return false;
    return uploads_make(c->world, 0, &w->uploads, err) &&
           processor_open(&processor, &w->processor, err) && apply(w, err) &&
           digests_open(c, &w->disks, folder, &w->digests, err) &&
           digests_fill(c, w->history, &w->digests, err);
}

/* The log goes on behind the seed's newest entry, and nobody looks for those before it. */
static bool hand_over(struct writer *w, struct err *err)
{
    struct history_head head = history_head(w->history);
    if (head.epoch == 0 && history_tip(w->history) != HISTORY_NONE)
        return true; /* the copy is what the parent has */
    if (head.epoch == 0)
        return err_set(err, ERR_INVALID,
                       "the copies hold nothing but zeros: enable %s without --seed",
                       w->config->vm);
    return entry_copy(w, w->staging, w->config->cache, head.epoch, &head.entry, err);
}

bool seed_write(const struct seed_config *config, const struct seed_copy *copies, size_t count,
                struct store *staging, const char *folder,
                void (*progress)(void *, uint64_t, uint64_t), void *context, struct err *err)
{
    struct writer w CLEANUP(writer_release) = {
        .config = config, .staging = staging, .progress = progress, .context = context};
    return writer_open(&w, folder, err) && add_copies(&w, copies, count, err) && hand_over(&w, err);
}
