/* SPDX-License-Identifier: MIT
 * The operations whose every call fails once. */
#ifndef TESTS_FAILN_OPERATIONS_H
#define TESTS_FAILN_OPERATIONS_H

#include "tests/failn/place.h"

/* Those that are cold come first. */
struct operation {
    const char *name;
    bool cold; /* nothing was done in its process before */
    /* Its adversity passes by itself: when one call alone failed, it succeeds all the same. */
    bool goes_on;
    bool adopts; /* its worker's death leaves the keeper's memory */
    /* In one process: `prepare` without failures, `run` with them, and `end`, without, gives back
     * what `prepare` took. `run` gives back all that it took, whatever fails, and returns whether
     * the operation said that it succeeded; `err` then or else says why. */
    void (*prepare)(struct place *p);
    bool (*run)(struct place *p, struct err *err);
    void (*end)(struct place *p);
    /* In the next one: what was said to be done is done. */
    bool (*check)(struct place *p, struct err *err);
    /* Whatever was said: what it left is gone on with, and everything succeeds. `fresh`: a keeper's
     * memory is not there any more. */
    bool (*after)(struct place *p, bool fresh, struct err *err);
};

#define OPERATIONS 9u
extern const struct operation operations[OPERATIONS];

/* Enabled, mounted, written and shipped twice, the second time in parts, stopped; the first point
 * is applied. */
bool operations_prepare(struct place *p, struct err *err);
/* Aborts when a preparation failed. */
void operations_must(bool good, const struct err *err);
/* For a verb, whose reasons are in the output of its process. */
bool operations_said(bool good, const char *what, struct err *err);

#endif
