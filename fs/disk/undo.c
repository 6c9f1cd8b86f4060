/* SPDX-License-Identifier: MIT */
#include "fs/disk/undo.h"

#include "common/cleanup.h"
#include "common/file.h"
#include "common/log.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Saved blocks lie in slots: the first in memory, the others in the file. Slots are handed out in
 * order and never taken back before undo_clear, so what is in one never changes in an era, and it
 * is copied without the lock. A block is in the table only when its slot holds it.
 *
 * All tables have their final size from the start: nothing is allocated when a guest writes. They
 * and the blocks' memory are touched only as far as they are used. */
#define BLOCK_BITS 38 /* of a disk of DISK_BYTES_MAX */
_Static_assert((DISK_BYTES_MAX >> BLOCK_SHIFT) <= (UINT64_C(1) << BLOCK_BITS), "fits the key");

struct undo {
    struct world *world;
    uint64_t memory_slots, slots_max;
    uint8_t *memory;
    struct world_file *file; /* NULL when there is no room for one */

    pthread_mutex_t table_lock; /* guards all that follows; no I/O under it */
    pthread_cond_t saves_done;
    uint32_t era;
    bool clearing;
    bool file_failed; /* in this era: what it holds is not believed to grow */
    bool failure_logged;
    unsigned saves;  /* between slot and table */
    uint64_t used;   /* slots handed out */
    uint64_t saved;  /* slots in the table */
    uint32_t *heads; /* by hash: slot + 1, 0 = none */
    uint64_t bucket_mask;
    uint32_t *next; /* by slot: slot + 1 of the next in the chain */
    uint64_t *keys; /* by slot */
};

static uint64_t key_of(size_t disk, uint64_t block)
{
    assert(block >> BLOCK_BITS == 0 && disk < VM_DISKS_MAX);
    return (uint64_t)disk << BLOCK_BITS | block;
}

static uint64_t bucket_of(const struct undo *u, uint64_t key)
{
    return (key * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & u->bucket_mask; /* Fibonacci hashing */
}

/* The slot that holds the key, or slots_max. */
static uint64_t find_locked(const struct undo *u, uint64_t key)
{
    for (uint32_t s = u->heads[bucket_of(u, key)]; s != 0; s = u->next[s - 1])
        if (u->keys[s - 1] == key)
            return s - 1;
    return u->slots_max;
}

static void insert_locked(struct undo *u, uint64_t slot, uint64_t key)
{
    uint32_t *head = &u->heads[bucket_of(u, key)];

    u->keys[slot] = key;
    u->next[slot] = *head;
    *head = (uint32_t)slot + 1;
    u->saved++;
}

/* Made and unlinked: it goes when its last descriptor goes, whoever is killed. */
static bool open_nameless(struct undo *u, const char *folder, struct err *err)
{
    char *path AUTO_FREE = NULL;

    if (asprintf(&path, "%s/undo", folder) < 0) {
        path = NULL;
        return err_set(err, ERR_FULL, "no memory for the undo file's name");
    }
    if (!file_open(u->world, path, O_RDWR | O_CREAT | O_TRUNC, 0600, &u->file, err))
        return false;
    int result = u->world->ops->unlink(u->world, path);
    return result == 0 || err_errno(err, -result, "cannot unlink %s", path);
}

static bool tables_make(struct undo *u, struct err *err)
{
    uint64_t buckets = 16;

    while (buckets < u->slots_max)
        buckets *= 2;
    u->bucket_mask = buckets - 1;
    u->memory = malloc(u->memory_slots * BLOCK_BYTES + 1);
    u->heads = calloc(buckets, sizeof *u->heads);
    u->next = calloc(u->slots_max + 1, sizeof *u->next);
    u->keys = calloc(u->slots_max + 1, sizeof *u->keys);
    if (!u->memory || !u->heads || !u->next || !u->keys)
        return err_set(err, ERR_FULL, "no memory for %llu undo blocks",
                       (unsigned long long)u->slots_max);
    return true;
}

bool undo_make(struct world *w, const char *folder, uint64_t memory_bytes, uint64_t file_bytes,
               struct undo **out, struct err *err)
{
    uint64_t slots = memory_bytes / BLOCK_BYTES + file_bytes / BLOCK_BYTES;
    if (slots >= UINT32_MAX)
        return err_set(err, ERR_INVALID, "an undo space of %llu blocks is too large",
                       (unsigned long long)slots);
    struct undo *u = calloc(1, sizeof *u);
    if (!u)
        return err_set(err, ERR_FULL, "no memory for undo");
    u->world = w;
    u->memory_slots = memory_bytes / BLOCK_BYTES;
    u->slots_max = slots;
    pthread_mutex_init(&u->table_lock, NULL);
    pthread_cond_init(&u->saves_done, NULL);
    if (!tables_make(u, err) ||
        (u->slots_max > u->memory_slots && !open_nameless(u, folder, err))) {
        undo_release(&u);
        return false;
    }
    *out = u;
    return true;
}

void undo_release(struct undo **undo)
{
    struct undo *u = *undo;

    if (!u)
        return;
    assert(u->saves == 0);
    file_close(&u->file);
    pthread_cond_destroy(&u->saves_done);
    pthread_mutex_destroy(&u->table_lock);
    free(u->memory);
    free(u->heads);
    free(u->next);
    free(u->keys);
    free(u);
    *undo = NULL;
}

uint32_t undo_era(struct undo *u)
{
    LOCK_SCOPE(&u->table_lock);
    return u->era;
}

enum reserved { RESERVED, NOTHING_TO_DO, NO_ROOM };

static enum reserved reserve(struct undo *u, uint32_t era, uint64_t key, uint64_t *slot)
{
    LOCK_SCOPE(&u->table_lock);
    if (era != u->era || find_locked(u, key) < u->slots_max)
        return NOTHING_TO_DO;
    if (u->clearing || u->used == u->slots_max || (u->used >= u->memory_slots && u->file_failed))
        return NO_ROOM;
    *slot = u->used++;
    u->saves++;
    return RESERVED;
}

static uint64_t file_offset(const struct undo *u, uint64_t slot)
{
    return (slot - u->memory_slots) * BLOCK_BYTES;
}

static bool slot_write(struct undo *u, uint64_t slot, const uint8_t *data, struct err *err)
{
    if (slot >= u->memory_slots)
        return file_write(u->file, span_of(data, BLOCK_BYTES), file_offset(u, slot), err);
    memcpy(u->memory + slot * BLOCK_BYTES, data, BLOCK_BYTES);
    return true;
}

/* Ends what reserve began. Returns whether this failure is the first, which is logged. */
static bool settle(struct undo *u, uint64_t slot, uint64_t key, bool written)
{
    bool first_failure = false;

    LOCK_SCOPE(&u->table_lock);
    if (!written) {
        first_failure = !u->failure_logged;
        u->file_failed = u->failure_logged = true;
    } else if (!u->clearing) {
        insert_locked(u, slot, key);
    }
    if (--u->saves == 0)
        pthread_cond_broadcast(&u->saves_done);
    return first_failure;
}

bool undo_save(struct undo *u, uint32_t era, size_t disk, uint64_t block,
               const uint8_t data[BLOCK_BYTES])
{
    uint64_t key = key_of(disk, block);
    struct err err = ERR_NONE;
    uint64_t slot;

    enum reserved reserved = reserve(u, era, key, &slot);
    if (reserved != RESERVED)
        return reserved == NOTHING_TO_DO;
    bool written = slot_write(u, slot, data, &err);
    if (settle(u, slot, key, written))
        log_warning("undo file: %s; cuts that need it are abandoned", err.text);
    return written;
}

bool undo_has(struct undo *u, size_t disk, uint64_t block)
{
    LOCK_SCOPE(&u->table_lock);
    return find_locked(u, key_of(disk, block)) < u->slots_max;
}

bool undo_load(struct undo *u, size_t disk, uint64_t block, uint8_t out[BLOCK_BYTES], bool *found,
               struct err *err)
{
    pthread_mutex_lock(&u->table_lock);
    uint64_t slot = find_locked(u, key_of(disk, block));
    pthread_mutex_unlock(&u->table_lock);

    *found = slot < u->slots_max;
    if (!*found)
        return true;
    if (slot < u->memory_slots) {
        memcpy(out, u->memory + slot * BLOCK_BYTES, BLOCK_BYTES);
        return true;
    }
    return file_read(u->file, mspan_of(out, BLOCK_BYTES), file_offset(u, slot), err);
}

/* Slow savers of the era first: their writes may not land in slots that are used again. */
static uint64_t end_era(struct undo *u)
{
    LOCK_SCOPE(&u->table_lock);
    u->era++;
    u->clearing = true;
    while (u->saves > 0)
        pthread_cond_wait(&u->saves_done, &u->table_lock);
    uint64_t used = u->used;
    for (uint64_t slot = 0; slot < used; slot++) /* also of failed saves, whose key is stale */
        u->heads[bucket_of(u, u->keys[slot])] = 0;
    u->used = u->saved = 0;
    return used;
}

void undo_clear(struct undo *u)
{
    uint64_t used = end_era(u);

    /* Room that could not be given back is used again: no more is lost than it. */
    if (used > u->memory_slots)
        (void)u->world->ops->truncate(u->file, 0);

    LOCK_SCOPE(&u->table_lock);
    u->clearing = u->file_failed = false;
}

/* As a save that is under way it keeps undo_clear, and so the next cut, waiting. */
static bool begin_giving(struct undo *u, _Atomic bool *lost)
{
    LOCK_SCOPE(&u->table_lock);
    if (u->clearing || u->used <= u->memory_slots)
        return false;
    atomic_store(lost, true);
    u->file_failed = true;
    u->saves++;
    return true;
}

bool undo_give_room(struct undo *u, _Atomic bool *lost)
{
    if (!begin_giving(u, lost))
        return false;
    (void)u->world->ops->truncate(u->file, 0);
    LOCK_SCOPE(&u->table_lock);
    if (--u->saves == 0)
        pthread_cond_broadcast(&u->saves_done);
    return true;
}

uint64_t undo_blocks(struct undo *u)
{
    LOCK_SCOPE(&u->table_lock);
    return u->saved;
}
