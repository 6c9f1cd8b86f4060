/* SPDX-License-Identifier: MIT
 * What a process does that goes on after the command that started it. */
#ifndef FS_MOUNT_DAEMON_H
#define FS_MOUNT_DAEMON_H

/* A session of its own. Standard input and output are let go, so that whoever waits for their end
 * does not wait for us; standard error becomes `log_fd`, or stays when that is negative. */
void daemon_enter(int log_fd);

#endif
