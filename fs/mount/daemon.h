/* SPDX-License-Identifier: MIT
 * What a process does that goes on after the command that started it. */
#ifndef FS_MOUNT_DAEMON_H
#define FS_MOUNT_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

/* A session of its own. Standard input and output are let go, so that whoever waits for their end
 * does not wait for us; standard error becomes `log_fd`, or stays when that is negative. */
void daemon_enter(int log_fd);

/* Ends a child that did not say whether it came so far, dead or not: asked to by SIGTERM, then
 * waited for, for at most DAEMON_END_MS. `force`: by SIGKILL then. */
#define DAEMON_END_MS 10000u
void daemon_end(pid_t child, bool force);

#endif
