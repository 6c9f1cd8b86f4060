/* SPDX-License-Identifier: MIT
 * The processor of one VM: takes complete epochs from the cache store, copies their frames still
 * sealed into the target store, compares every digest, appends one history record, then removes
 * from the cache what is applied (the newest two entries stay). Stateless: killed anywhere and run
 * again it ends in the same state. Two at once: one appends, the other is overtaken and reads
 * again. A state machine that is stepped; one thread per processor. */
#ifndef BACKEND_HISTORY_PROCESSOR_H
#define BACKEND_HISTORY_PROCESSOR_H

#include "backend/history/history.h"

/* A batch, what one record speaks of, ends at the first of these; one epoch always fits. */
#define PROCESSOR_BATCH_EPOCHS 64u
#define PROCESSOR_BATCH_BYTES  (32u << 20) /* entries and parts */
/* A segment closes before it grows over this; a part over half of it is a segment of its own. */
#define PROCESSOR_SEGMENT_BYTES EPOCH_PART_BYTES
/* What `fetches` should be where nothing else is known: requests take longer than their bytes. */
#define PROCESSOR_FETCHES 4u
/* The cache is listed for left-overs and forks at the start and after so many batches. */
#define PROCESSOR_SWEEP_BATCHES 64u
/* An idle processor makes sure that the newest applied entry is still there once in so many polls.
 */
#define PROCESSOR_LOOK_BACK_POLLS 16u
#define PROCESSOR_HEALTH_MAX      160u
/* The health says that the history is nearly as long as it can be from so many epochs before that
 * on: a week of cuts every 5 s. */
#define PROCESSOR_ROOM_SAID (1u << 17)

/* Borrowed until processor_close. */
struct processor_config {
    struct world *world;
    const char *vm;
    const struct keys *keys;
    struct store **targets; /* index 0: the vault's; others: single disks' own */
    struct store **caches;
    size_t store_count;
    /* Parts that are fetched, copied or removed at once; 0: one, and no thread is made. */
    unsigned fetches;
    /* The caches are the VM's own, not a staging store: pending fences are put (claim.h). */
    bool fences;
    /* The vault's, open and remembered by the caller, who keeps it; NULL: the processor opens its
     * own, as `id` and `state` say. */
    struct history *history;
    const uint8_t *id; /* VM_ID_BYTES: the VM that is meant; NULL: whichever the vault says */
    /* Where this host remembers what it has seen of the history (history_remember); NULL: nowhere.
     */
    const char *state;
    /* Not id 0: apply what waits in this older generation's log, to its own line as a branch,
     * instead of the head's. Leaves no progress. */
    struct generation branch;
};

/* `fetches` as a number of threads for parallel_each. */
unsigned processor_threads(const struct processor_config *config);

enum processor_result {
    PROCESSOR_APPLIED, /* at least one epoch became history */
    PROCESSOR_IDLE,    /* no complete epoch waits */
    PROCESSOR_AGAIN,   /* overtaken by another processor, or a torn read: step again */
    PROCESSOR_FAILED,  /* err says why; state is unharmed, step again later */
};

struct processor;
bool processor_open(const struct processor_config *config, struct processor **out,
                    struct err *err) MUST_CHECK;
void processor_close(struct processor **p);
enum processor_result processor_step(struct processor *p, struct err *err) MUST_CHECK;
/* How far it is, as it last saw it. */
struct history_head processor_head(const struct processor *p);

/* What it reads and writes, for who works beside it in the same thread (thinner.h). */
struct history *processor_history(struct processor *p);

struct processor_progress {
    struct generation generation;
    uint64_t applied_epoch;
    uint64_t applied_point_ms;         /* as history_head.point_ms */
    uint64_t written_ms;               /* the processor's clock */
    char health[PROCESSOR_HEALTH_MAX]; /* "ok", or what is wrong or will be */
};
/* The progress objects of a VM in the cache store, newest one; ERR_NOT_FOUND when none. Used by
 * the source, which may only read there. */
bool progress_read(struct store *cache, const char *vm, const struct keys *keys,
                   struct processor_progress *out, struct err *err) MUST_CHECK;

/* --- beginning: run by `enable` with both stores' credentials --- */

/* Makes vault (create-if-absent: ERR_EXISTS when the VM is enabled already), record 0, entry 0 of
 * the generation's log in the cache, then the record that names the generation. A repeat by the
 * same caller after a failure half way, with the same vault and generation, completes it. */
bool history_begin(struct world *w, struct store *target, struct store *cache,
                   const struct vault *vault, struct generation generation, const struct keys *keys,
                   struct err *err) MUST_CHECK;

/* Entry 0's digest, which the first epoch carries. */
bool history_entry0(struct store *cache, const char *vm, const uint8_t vm_id[VM_ID_BYTES],
                    struct generation generation, const struct keys *keys, struct sha256 *digest,
                    struct err *err) MUST_CHECK;

#endif
