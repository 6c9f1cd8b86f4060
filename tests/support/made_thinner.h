/* SPDX-License-Identifier: MIT
 * A thinner of a made VM, with stores of its own that a test may hook. Aborts (a failed check)
 * where nothing should fail. One thread. */
#ifndef TESTS_SUPPORT_MADE_THINNER_H
#define TESTS_SUPPORT_MADE_THINNER_H

#include "backend/history/thinner_internal.h"
#include "tests/support/made_vm.h"

struct made_thinner {
    struct made_vm *vm;
    struct store *caches[1], *targets[1];
    struct processor_config config;
    struct history *history;
    struct thinner *thinner;
    bool small;
};

/* A policy from texts as `farshore policy` takes them. */
struct retention made_policy(const char *keep, uint64_t application, uint64_t grace_ms);

/* The world's clock is set to the maker's. `t` stays where it is. */
void made_thinner_open(struct made_vm *vm, const struct retention *policy, struct made_thinner *t);
/* To which runs of some hundred bytes are large, so points get levels. */
struct thinner_limits made_small_limits(void);
/* It has them from now on. */
void made_thinner_small(struct made_thinner *t);
void made_thinner_close(struct made_thinner *t);
/* As after a kill: what it knew is gone; stores and hooks stay. */
void made_thinner_restart(struct made_thinner *t, const struct retention *policy);

/* Steps until it is idle and nothing is due; time passes when it waits. Every step must go well. */
void made_thinner_settle(struct made_thinner *t);
/* The same with a thinner of its own. */
void made_vm_thin(struct made_vm *vm, const struct retention *policy);

/* Both clocks, and the maker's. */
void made_vm_pass_ms(struct made_vm *vm, uint64_t ms);

#endif
