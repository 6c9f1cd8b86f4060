/* SPDX-License-Identifier: MIT
 * One process of a host at a time makes or removes what a failover makes there: a verb that is
 * given again while the agent goes on with the job of the one that was killed would otherwise
 * remove files that the other has just mounted. It ends with the process. One thread. */
#ifndef TOOLS_FAILOVER_TURN_H
#define TOOLS_FAILOVER_TURN_H

#include "tools/config.h"

/* Waits up to `wait_ms`; then ERR_BUSY names the process that has it, and its verb. Close *fd to
 * let go. */
bool turn_take(struct world *w, const struct paths *p, const char *vm, const char *verb,
               uint64_t wait_ms, int *fd, struct err *err) MUST_CHECK;

#endif
