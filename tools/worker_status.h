/* SPDX-License-Identifier: MIT
 * What a worker answers when it is asked for its status: the fields that `status --json` shows of a
 * running mount. Any thread. */
#ifndef TOOLS_WORKER_STATUS_H
#define TOOLS_WORKER_STATUS_H

#include "common/json.h"
#include "fs/disk/hydrate.h"
#include "fs/disk/shipper.h"
#include "fs/mount/keeper.h"
#include "tools/origin_view.h"
#include "tools/vm.h"

struct worker_status {
    const struct vm *vm;
    const struct worker_inheritance *inherited;
    struct source *source;
    struct shipper *shipper;    /* NULL: it does not replicate */
    struct hydrate *hydrate;    /* NULL: the disks lie over nothing */
    struct origin_view *origin; /* with hydrate */
    uint64_t cut_interval_s;
};

bool worker_status_json(const struct worker_status *w, cJSON *j, struct err *err) MUST_CHECK;
bool worker_add_point(cJSON *j, const char *name, uint64_t ms, struct err *err) MUST_CHECK;

#endif
