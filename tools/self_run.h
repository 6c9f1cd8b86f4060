/* SPDX-License-Identifier: MIT
 * Runs a verb of this same program as a process of its own: what mounts or serves goes on after the
 * command that started it, and has no thread of ours. Any thread may call. */
#ifndef TOOLS_SELF_RUN_H
#define TOOLS_SELF_RUN_H

#include "common/err.h"

#define SELF_ARGUMENTS_MAX 16u

/* `arguments`: the verb and what follows it, ended by NULL. Waits for its end. A failure comes back
 * as that process told it, with its kind as far as an exit code tells kinds. Its standard output
 * goes nowhere. */
bool self_run(const char *const *arguments, struct err *err) MUST_CHECK;

#endif
