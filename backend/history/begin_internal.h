/* SPDX-License-Identifier: MIT
 * The opening of a generation's log: shared by begin.c and claim.c. */
#ifndef BACKEND_HISTORY_BEGIN_INTERNAL_H
#define BACKEND_HISTORY_BEGIN_INTERNAL_H

#include "backend/history/epoch.h"

struct log_opening {
    struct world *world;
    struct store *cache;
    const char *vm;
    const uint8_t *vm_id;
    struct generation generation;
    const struct keys *keys;
    const struct epoch_disk *disks;
    uint16_t disk_count;
};

/* Puts entry 0 where it is not yet. Only for a generation of which nothing was applied: of others
 * it may have been removed. */
bool log_open_put(const struct log_opening *o, struct err *err) MUST_CHECK;

#endif
