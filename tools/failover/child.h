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
/* Another program than this one, by its path or a shell's line; NULL `arguments`: none but its
 * name. Its output goes to `output` (-1: to ours). It is in a process group of its own, so that the
 * terminal's interrupt ends who started it alone. */
struct child_program {
    const char *path; /* NULL: this program */
    const char *const *arguments;
    int output;
};
bool child_start_program(const struct child_program *p, pid_t *out, struct err *err) MUST_CHECK;
/* When a process began, in a measure of its own: a pid that is used again has another one. False
 * when there is no such process, or it has ended. */
bool process_start_time(uint64_t pid, uint64_t *out);
/* Whether it has ended, and how, in words. False for pid 0 or less. `how` may be NULL. */
bool child_ended(pid_t pid, char *how, size_t how_size);
/* SIGTERM, and after `patience_ms` SIGKILL; returns when it has ended, but for another's child,
 * which is not waited for behind SIGKILL. Nothing for pid 0 or less. */
void child_stop(pid_t pid, uint64_t patience_ms);

#endif
