/* SPDX-License-Identifier: MIT
 * Before a failover, what lies in the cache store is applied to the history, by a processor of this
 * command's own: one that runs besides does no harm. One thread. */
#ifndef TOOLS_FAILOVER_DRAIN_H
#define TOOLS_FAILOVER_DRAIN_H

#include "tools/vm.h"

/* Applies all complete epochs that wait; stores and history of `vm` are open, and the history is
 * refreshed. ERR_TRANSIENT: a store is out of reach, or applying took longer than `wait_s`. */
bool drain_cache(struct vm *vm, uint64_t wait_s, struct err *err) MUST_CHECK;

#endif
