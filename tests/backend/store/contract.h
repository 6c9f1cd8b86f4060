/* SPDX-License-Identifier: MIT
 * What every store promises (backend/store/store.h), as tests. Each works under a prefix of its
 * own, which it empties again: it may run on a store that holds other things. */
#ifndef TESTS_BACKEND_STORE_CONTRACT_H
#define TESTS_BACKEND_STORE_CONTRACT_H

#include "backend/store/check.h"

struct contract {
    /* Opens one more store on the same objects; fails the test itself when it cannot. */
    struct store *(*open)(void *context);
    void *context;
    /* One more store, which `open`'s copies from; NULL: it copies from nothing, and that is
     * checked of itself. */
    struct store *(*open_source)(void *context);
    unsigned racers;    /* threads that put at once */
    size_t large_bytes; /* of the largest object that is tried */
};

/* Runs all; the number of failures, for main. `name` is shown. */
int contract_run(const char *name, const struct contract *c);

#endif
