/* SPDX-License-Identifier: MIT
 * Objects whose names are numbers, loaded several at once: over a network a history of a day is
 * thousands of them, each a request's time away. Private to the history. */
#ifndef BACKEND_HISTORY_AHEAD_H
#define BACKEND_HISTORY_AHEAD_H

#include "backend/history/generation.h"

#define AHEAD_MOST      64u
#define AHEAD_BYTES_MAX (64u << 10) /* of a record; a longer one is loaded by itself */

/* A plain value; release it. One thread. */
struct ahead {
    struct store *store;
    const char *vm;
    void (*key)(char out[KEY_MAX], const char *vm, uint64_t number);
    uint64_t first, step; /* of the numbers */
    size_t bytes_max;     /* of one */
    struct buf objects[AHEAD_MOST];
    bool there[AHEAD_MOST]; /* whole and no longer than that */
};

/* Asks for `count` of them, at most AHEAD_MOST. False: one at least was not answered; what came is
 * there all the same. */
bool ahead_load(struct ahead *a, size_t count, struct err *err) MUST_CHECK;
void ahead_release(struct ahead *a);
#define AUTO_AHEAD CLEANUP(ahead_release)

#endif
