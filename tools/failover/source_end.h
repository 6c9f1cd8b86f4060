/* SPDX-License-Identifier: MIT
 * The end of a source on this host, with nothing lost: the guest is shut down, everything it wrote
 * is in one last point in the cache store, and the disks are unmounted. Repeatable. One thread. */
#ifndef TOOLS_FAILOVER_SOURCE_END_H
#define TOOLS_FAILOVER_SOURCE_END_H

#include "tools/failover/flow.h"

struct source_end {
    struct generation generation;
    uint64_t epoch;
    char point[PROTECTION_POINT_MAX];
};

/* `label` is the point's. A guest that does not shut down in time is left running: ERR_TRANSIENT.
 */
bool source_end(struct flow *f, const char *label, struct source_end *out,
                struct err *err) MUST_CHECK;

#endif
