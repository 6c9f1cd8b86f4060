/* SPDX-License-Identifier: MIT
 * A bucket in memory behind a retry, whose calls go by a script and whose pauses only move the fake
 * clock. */
#ifndef TESTS_SUPPORT_RETRY_RIG_H
#define TESTS_SUPPORT_RETRY_RIG_H

#include "backend/store/retry.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#define RETRY_SCRIPT_MAX 32u
#define RETRY_PAUSES_MAX 64u

struct retry_rig {
    struct world *world;
    struct memory_bucket *bucket;
    struct store *store;
    enum memory_fault script[RETRY_SCRIPT_MAX]; /* of the nth call; then `rest` */
    enum memory_fault rest;
    char calls[RETRY_SCRIPT_MAX + 1]; /* one letter each: P G S L R */
    size_t call_count;
    uint32_t pauses[RETRY_PAUSES_MAX];
    size_t pause_count;
    bool cancels; /* the pause ends because it is cancelled */
    void (*at_call)(struct retry_rig *r);
    void (*at_pause)(struct retry_rig *r);
};

/* Fake world, an empty bucket, the policy below. */
void retry_rig_make(struct retry_rig *r);
void retry_rig_release(struct retry_rig *r);
#define AUTO_RETRY_RIG CLEANUP(retry_rig_release)

/* Pauses of 100 ms, doubled up to 800, a minute in all, budget for 1000. */
struct retry_policy retry_rig_policy(struct retry_rig *r);
/* The retry's store is made anew, with another policy or around another store, which it takes. */
void retry_rig_open_bucket(struct retry_rig *r, const struct retry_policy *policy);
void retry_rig_open(struct retry_rig *r, struct store *inner, const struct retry_policy *policy);

/* Forgets calls and pauses; the script starts again. */
void retry_rig_restart(struct retry_rig *r);

/* What every test of these begins with. */
#define RETRY_RIG                                                                                  \
    struct retry_rig r AUTO_RETRY_RIG;                                                             \
    struct err err = ERR_NONE;                                                                     \
    retry_rig_make(&r);                                                                            \
    (void)state, (void)err

#endif
