/* SPDX-License-Identifier: MIT
 * History records: the numbered log in the target store that says which runs and points exist.
 * Record 0 opens it. Each record carries the digest of the one before, and is sealed whole with
 * the history key. A record speaks of one batch of applied epochs, of a generation, or of what
 * retention does (thinner.h): which points leave, which epochs are one from now on, and which
 * objects nobody needs. */
#ifndef BACKEND_HISTORY_RECORD_H
#define BACKEND_HISTORY_RECORD_H

#include "backend/history/epoch.h"

enum record_kind {
    RECORD_OPEN = 1,   /* record 0 */
    RECORD_GENERATION, /* begins a generation: names it, its parent and the epoch it forks at */
    RECORD_APPLY,      /* epochs applied: runs and points */
    RECORD_VERIFIED,   /* a point was read whole and found equal to its digests */
    RECORD_THIN,       /* points that are about to go; what an older one says counts no more */
    RECORD_MERGE,      /* epochs first..last are from now on the last of them, with these runs */
    RECORD_DROP,       /* objects that no run needs: they are removed, and their names end */
    RECORD_DAMAGED,    /* a point was read, and is not what its digests say */
};

#define RECORD_RUNS_MAX  4096u /* also: points that leave, runs of a merge, objects dropped */
#define RECORD_BYTES_MAX (16u << 20)

/* One applied epoch. Heartbeats and passes without data have no run (run_bytes 0). */
struct record_epoch {
    enum epoch_kind kind;
    uint64_t epoch;
    struct sha256 entry_digest; /* of the cache entry: tells a fork from "already applied" */
    uint64_t point_ms, clock_ms;
    enum point_kind point_kind;
    char label[POINT_LABEL_MAX + 1];
    uint8_t cut_id[16];
    uint64_t data_bytes;                /* stored bytes of its frames */
    char run_key[RUN_SEGMENT_NAME_MAX]; /* object, relative to the VM: segments/SHA256 */
    uint64_t run_offset, run_bytes;
    struct sha256 run_digest;
};

/* A run of a merge: of epochs [epoch_first, epoch_last], in an object of the VM's own target. */
struct record_run {
    uint64_t epoch_first, epoch_last;
    struct sha256 object; /* segments/OBJECT */
    uint64_t offset, bytes;
    struct sha256 digest;
};

static inline bool record_run_same_place(const struct record_run *a, const struct record_run *b)
{
    return a->offset == b->offset && memcmp(&a->object, &b->object, sizeof a->object) == 0;
}

/* One behind another, such runs are of one level. */
static inline bool record_run_same_epochs(const struct record_run *a, const struct record_run *b)
{
    return a->epoch_first == b->epoch_first && a->epoch_last == b->epoch_last;
}

struct record {
    enum record_kind kind;
    uint8_t vm[VM_ID_BYTES];
    uint64_t number;
    struct sha256 previous; /* of record number - 1 as stored; zero in record 0 */
    uint64_t written_ms;    /* the writer's clock: display only */
    struct generation generation;
    struct generation parent; /* RECORD_GENERATION; id 0 = none */
    uint64_t parent_epoch;
    uint64_t judged_epoch; /* RECORD_VERIFIED, RECORD_DAMAGED */
    uint16_t disk_count;   /* as of the last epoch in the batch */
    struct epoch_disk disks[VM_DISKS_MAX];
    uint32_t epoch_count;
    struct record_epoch *epochs; /* this and the next three: owned by a decoded record */
    /* RECORD_THIN, RECORD_DROP: how far the newest point was by the source's clock, the second
     * witness of how old the record is. */
    uint64_t newest_ms;
    uint32_t thin_count;
    uint64_t *thin;                   /* epochs, ascending */
    uint64_t merge_first, merge_last; /* RECORD_MERGE */
    uint32_t run_count;
    struct record_run *runs; /* newest first; of the same epochs: disjoint, ascending */
    uint32_t drop_count;
    struct sha256 *drops; /* segments/DIGEST in any of the VM's target stores; ascending */
};

bool record_encode(const struct record *r, const struct keys *keys, const struct seal_salt *salt,
                   struct buf *out, struct err *err) MUST_CHECK;
bool record_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                   uint64_t number, struct record *out, struct err *err) MUST_CHECK;
void record_release(struct record *r);

#endif
