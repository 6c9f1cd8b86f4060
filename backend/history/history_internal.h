/* SPDX-License-Identifier: MIT
 * How a history is held in memory: shared by what takes records in (history.c) and what answers
 * questions (history_read.c). */
#ifndef BACKEND_HISTORY_HISTORY_INTERNAL_H
#define BACKEND_HISTORY_HISTORY_INTERNAL_H

#include "backend/history/history.h"
#include "backend/history/logs.h"
#include "backend/history/object_set.h"
#include "backend/history/pack.h"
#include "backend/history/seen.h"

#include <pthread.h>

#define SEGMENT_PREFIX "segments/"

struct disk_set {
    uint16_t count;
    struct epoch_disk disks[VM_DISKS_MAX];
};

/* A record_epoch, without what it repeats, as long as it is not merged into a later one. */
struct held_epoch {
    uint64_t epoch, point_ms, clock_ms, until_ms;
    uint64_t data_bytes;  /* its own */
    uint64_t point_bytes; /* with those before it, back to the last point */
    uint64_t run_offset, run_bytes;
    size_t before; /* index on its line of one that is not gone, HISTORY_NONE at the beginning */
    struct record_run *runs; /* of a merge, newest first; NULL: none, its own run counts */
    uint32_t run_count;
    size_t point; /* index of the newest point that it shows, itself if it is one */
    struct sha256 entry_digest, run_digest, run_object;
    uint32_t line; /* index of its generation */
    uint32_t disks;
    uint8_t cut_id[16];
    char *label; /* NULL: none */
    uint8_t kind, point_kind, verdict;
    bool leaving; /* as the newest record of that kind says */
    bool fork;    /* a generation goes on from it */
};

/* What is left of an epoch that is gone. */
struct epoch_slot {
    struct held_epoch *held; /* NULL: it is gone */
    uint64_t entry_head;     /* how the digest of its entry begins */
};

/* The newest record that announces something, and when that was by two clocks. */
struct notice {
    uint64_t record; /* its number; 0: none */
    uint64_t written_ms, newest_ms;
};

/* A generation. */
struct line {
    struct generation generation, parent; /* parent.id 0: none */
    uint64_t parent_epoch;
    size_t fork;       /* index of the parent's epoch that it goes on from; HISTORY_NONE */
    size_t last;       /* index of its newest epoch, which is never gone; HISTORY_NONE */
    uint32_t *indices; /* epoch n, gone or not, has the index indices[n - 1] */
    size_t index_room;
};

struct history {
    struct world *world;
    struct store *target;
    const struct keys *keys;
    char vm[VM_NAME_MAX + 1];
    struct vault vault;
    struct record_log records;

    /* Taken before `lock`. Held over store calls: there is one refresh at a time. */
    pthread_mutex_t refresh_lock;
    struct seen seen;     /* guarded by it */
    uint64_t next_record; /* written under both locks */
    struct sha256 last_record;
    bool from_packs;  /* some of it */
    bool packs_wrong; /* they were of no use, and are made anew */

    uint64_t packed; /* records below it are in packs; of who reads them, then who makes them */
    uint64_t pack_records; /* PACK_RECORDS; fewer in tests */

    pthread_mutex_t lock; /* guards what follows; never held over a store call */
    struct epoch_slot *epochs;
    size_t epoch_count, epoch_room;
    size_t held_count;
    size_t epochs_max, held_max;    /* HISTORY_EPOCHS_MAX, HISTORY_HELD_MAX; fewer in tests */
    size_t *points;                 /* indices of epochs, along the head's line, oldest first */
    size_t point_count, point_room; /* there is room for all that are held */
    bool points_stale;              /* who reads them makes them first: history_points_fresh */
    /* Indices of points beside that line, by generation, then epoch; made when asked for, good for
     * the record that it was made at. */
    size_t *left;
    size_t left_count;
    uint64_t left_record;
    struct line *lines;
    size_t line_count, line_room;
    struct disk_set **disk_sets; /* each differs from the one before */
    size_t set_count, set_room;
    struct notice thin, drop;
    uint64_t merges; /* records of them */
    size_t *leaving; /* indices of epochs */
    size_t leaving_count;
    struct object_set dropped;
};

/* Decodes and takes in the stored record `next_record`. Called under `refresh_lock`. */
bool history_take(struct history *h, struct span stored, struct err *err) MUST_CHECK;
/* Takes in what the packs hold, from the first record on. What is wrong with them is found here, or
 * by who reads on behind them: ERR_CORRUPT, ERR_WRONG_KEY. Takes `refresh_lock`. */
bool history_packs_read(struct history *h, struct err *err) MUST_CHECK;
/* `segments/HEX` -> the digest that it names. */
bool history_run_object_parse(const char *key, struct sha256 *out);
/* NULL: it is gone. */
static inline struct held_epoch *epoch_at(const struct history *h, size_t index)
{
    return h->epochs[index].held;
}

/* Index of a generation; HISTORY_NONE. */
size_t history_line_find(const struct history *h, struct generation g);
/* Index of an epoch of that line, also of one that is gone; HISTORY_NONE. */
size_t history_epoch_find(const struct history *h, size_t line, uint64_t epoch);
size_t history_room_locked(const struct history *h, bool *kept);
/* The epoch is gone from now on. */
void history_epoch_forget(struct history *h, size_t index);
/* Takes in records of retention: history_thin.c. Called under `lock`. */
bool history_absorb_thin(struct history *h, const struct record *r, struct err *err) MUST_CHECK;
bool history_absorb_merge(struct history *h, const struct record *r, struct err *err) MUST_CHECK;
bool history_absorb_drop(struct history *h, const struct record *r, struct err *err) MUST_CHECK;
void history_points_fresh(struct history *h);
/* The runs of one epoch, newest first, to `out` when that is not NULL; returns how many. */
size_t history_epoch_runs_locked(const struct history *h, size_t index, struct run_place *out);
/* The runs of the epochs from `from` back to, and without, `until`, the newest first. free() it. */
bool history_runs_locked(const struct history *h, size_t from, size_t until, struct run_place **out,
                         size_t *count, struct err *err) MUST_CHECK;
/* Says of a record what is wrong with it; returns false. */
bool history_damaged(const struct history *h, const struct record *r, const char *what,
                     struct err *err);

/* Index that the next epoch of `line` goes on from. */
size_t history_line_tip(const struct history *h, size_t line);

#endif
