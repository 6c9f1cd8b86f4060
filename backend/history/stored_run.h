/* SPDX-License-Identifier: MIT
 * A run of the history where it lies in the target store, opened: pages are fetched as they are
 * needed. Any thread may look up in one at once; it outlives neither history nor store. */
#ifndef BACKEND_HISTORY_STORED_RUN_H
#define BACKEND_HISTORY_STORED_RUN_H

#include "backend/history/history.h"

struct stored_run {
    struct run *run;
    struct store *store;
    char key[KEY_MAX];    /* of the object that it lies in */
    struct sha256 object; /* that object's digest, its name */
    uint64_t offset, bytes;
};

/* Fills `out`, which stays where it is. ERR_CORRUPT: it is missing (also when it was merged away
 * since its place was asked for: ask again), damaged, or that of other epochs: an authentic one may
 * have been put in its place. */
bool stored_run_open(struct history *h, const struct run_place *place, struct store *target,
                     const struct keys *keys, struct stored_run *out, struct err *err) MUST_CHECK;
void stored_run_close(struct stored_run *r);
#define AUTO_STORED_RUN CLEANUP(stored_run_close)

#endif
