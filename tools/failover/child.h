/* SPDX-License-Identifier: MIT
 * Processes of this same program that the agent starts and looks after, each by its own pid. One
 * thread, the one that starts them: `dies_with_us` hangs on it. */
#ifndef TOOLS_FAILOVER_CHILD_H
#define TOOLS_FAILOVER_CHILD_H

#include "common/err.h"

#include <stdint.h>
#include <sys/types.h>

#define CHILD_ARGUMENTS_MAX 272u

/* `arguments`: the verb and what follows, ended by NULL. It has our standard error, signals as a
 * new process has them, and an end (SIGTERM) when this thread ends, however that comes, if
 * `dies_with_us`. */
bool child_start(const char *const *arguments, bool dies_with_us, pid_t *out,
                 struct err *err) MUST_CHECK;
/* Whether it has ended, and how, in words. False for pid 0 or less. `how` may be NULL. */
bool child_ended(pid_t pid, char *how, size_t how_size);
/* SIGTERM, and after `patience_ms` SIGKILL; returns when it has ended. Nothing for pid 0 or less.
 */
void child_stop(pid_t pid, uint64_t patience_ms);

#endif
