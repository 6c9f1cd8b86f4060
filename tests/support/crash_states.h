/* SPDX-License-Identifier: MIT
 * Every crash state of every short workload. A workload is up to CRASH_STEPS operations out of an
 * alphabet; the machine dies after each call of its last one (those before are workloads of their
 * own); of what was not synced then, every subset
 * stays, page by page and name by name, and beside those every torn page. Each state is opened
 * again and checked by the model's own oracle. */
#ifndef TESTS_SUPPORT_CRASH_STATES_H
#define TESTS_SUPPORT_CRASH_STATES_H

#include "tests/support/fake_world.h"

#define CRASH_STEPS 3u

struct crash_model {
    const char *name;
    size_t alphabet;
    size_t context_bytes; /* zeroed for every run */
    /* Makes what the operations work on; everything succeeds. */
    void (*begin)(void *context, struct world *w);
    /* One operation; false: it failed, for the machine is dead. Remembers what was promised. */
    bool (*step)(void *context, struct world *w, size_t operation);
    void (*close)(void *context); /* lets go of what is open; the machine may be dead */
    void (*check)(void *context, struct world *w);
    void (*release)(void *context); /* NULL: nothing is left to free */
};

/* Prints how many workloads and states there were. Of the longest workloads one of CRASH_SHARE is
 * run (in the environment; without: all): a number that divides no alphabet, so that each operation
 * stands everywhere. */
void crash_states_all(const struct crash_model *model);

#endif
