/* SPDX-License-Identifier: MIT
 * Removing from the cache what the history holds: parts first, then entries in order, never the
 * newest two. After a batch its own parts and entries go by name; sweep_listed lists the cache and
 * finds what a killed processor, an abandoned attempt or a second writer left there. An entry that
 * is not the one that was applied is a fork: it and its parts stay, and it is reported. */
#ifndef BACKEND_HISTORY_SWEEP_H
#define BACKEND_HISTORY_SWEEP_H

#include "backend/history/processor.h"

/* Looked at in one sweep; what is more is left for the next. */
#define SWEEP_ENTRIES_MAX 4096u
#define SWEEP_PARTS_MAX   4096u /* of each store */

struct sweep {
    const struct processor_config *config;
    struct history *history;
    bool due;                        /* sweep_listed is to run; the owner may set it */
    uint64_t oldest;                 /* lowest entry that may be there, of `generation` */
    uint64_t generation;             /* id of the one that was listed; another one: list first */
    char fork[PROCESSOR_HEALTH_MAX]; /* "fork at epoch N: ..."; empty: none */
};

void sweep_init(struct sweep *s, const struct processor_config *config, struct history *history);
bool sweep_applied(struct sweep *s, const struct history_head *head,
                   const struct epoch_decoded *epochs, size_t count, struct err *err) MUST_CHECK;
bool sweep_listed(struct sweep *s, const struct history_head *head, struct err *err) MUST_CHECK;

#endif
