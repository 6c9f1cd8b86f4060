/* SPDX-License-Identifier: MIT
 * Claims: generations beyond the first (design 7, 10). Who claims a VM begins a new generation in
 * its vault, which names the epoch that it goes on from, and fences the writers of the generations
 * before. In this order:
 *   1. the history record. It is the authority, and is appended by compare-and-set: of two claims
 *      one succeeds. From here on no epoch of an older generation comes into the line of the head;
 *   2. entry 0 of the new generation's log, so that a writer may begin there. The record may come
 *      first because everybody bears with a log that is not opened yet;
 *   3. a fence entry behind the newest entry in the log of every older generation: its writer finds
 *      the slot taken, and stops. What it had put before that and nobody has applied is its *tail*;
 *      it stays in the cache, is counted, and may be applied as a branch (processor.h).
 * With the cache out of reach 2 and 3 are left for later: the fence is pending. An old writer may
 * then ship on, into its tail; a writer of the new generation cannot begin before entry 0 is there.
 * Everything may be killed anywhere and called again. Any thread; a call takes as many requests as
 * there are entries in the tails. */
#ifndef BACKEND_HISTORY_CLAIM_H
#define BACKEND_HISTORY_CLAIM_H

#include "backend/history/history.h"

struct claim_config {
    struct world *world;
    struct store *target; /* the vault's */
    struct store *cache;  /* the VM's own, where its logs are; NULL: known to be out of reach */
    const char *vm;
    const struct keys *keys;
    /* For who meets the fence, as "failed over to host b at 2026-11-22T20:05:03Z": its status shows
     * it. At most POINT_LABEL_MAX bytes; NULL: none. */
    const char *label;
};

struct claim {
    struct generation generation; /* the new one: see claim_generation */
    struct generation ends;       /* newest generation when the caller decided */
    struct generation parent;     /* `ends`, or an older one */
    uint64_t parent_epoch;        /* an applied epoch of it; 0: the one that it forks from itself */
};

struct claim_result {
    bool fence_pending;        /* the rest is for history_fence */
    char reason[ERR_TEXT_MAX]; /* why */
    uint64_t tail_epochs; /* complete epochs of older generations that were never applied, as */
    uint64_t tail_points; /* far as the cache was read; points among them */
};

/* A name for the next generation: one more than the highest number, and random bits. To be kept
 * durably before history_begin_generation, which is repeated with it. */
bool claim_generation(struct history *h, struct generation *out, struct err *err) MUST_CHECK;

/* ERR_EXISTS: another claim, named in the text, was made since the caller decided: decide again.
 * ERR_FENCED: this generation was begun and another one has followed it. ERR_NOT_FOUND: the parent
 * epoch was never applied. ERR_TRANSIENT: in doubt, call again with the same values. */
bool history_begin_generation(const struct claim_config *config, const struct claim *claim,
                              struct claim_result *out, struct err *err) MUST_CHECK;
/* The same with a history that is open, which is read on. */
bool history_begin_generation_in(const struct claim_config *config, struct history *h,
                                 const struct claim *claim, struct claim_result *out,
                                 struct err *err) MUST_CHECK;

/* Puts what is missing of 2 and 3 for the newest generation of the vault. False only when the vault
 * fails; what the cache does is in `out`. Nothing to do in a vault with one generation. */
bool history_fence(const struct claim_config *config, struct claim_result *out,
                   struct err *err) MUST_CHECK;

/* Likewise. */
bool history_fence_in(const struct claim_config *config, struct history *h,
                      struct claim_result *out, struct err *err) MUST_CHECK;

/* What waits in the log of a generation behind its newest applied epoch. */
struct history_tail {
    uint64_t epochs, points;
    uint64_t newest_ms; /* newest point among them, 0 none */
    bool fenced;        /* a fence entry ends it */
    bool lost;          /* the newest applied entry is not in the cache any more */
};
/* `h` is open, and read on when the log moves meanwhile. */
bool history_tail(const struct claim_config *config, struct history *h,
                  struct generation generation, struct history_tail *out,
                  struct err *err) MUST_CHECK;

#endif
