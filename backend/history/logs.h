/* SPDX-License-Identifier: MIT
 * The two numbered logs of a VM: epoch entries of a generation in the cache store, and history
 * records in the target store. Plain values; `vm` and the store are borrowed, and the value stays
 * where it was made (the log points into it). */
#ifndef BACKEND_HISTORY_LOGS_H
#define BACKEND_HISTORY_LOGS_H

#include "backend/history/generation.h"
#include "backend/history/numlog.h"

struct epoch_log {
    struct numlog log;
    const char *vm;
    struct generation generation;
};

struct record_log {
    struct numlog log;
    const char *vm;
};

void epoch_log_init(struct epoch_log *l, struct store *cache, const char *vm,
                    struct generation generation);
void record_log_init(struct record_log *l, struct store *target, const char *vm);

#endif
