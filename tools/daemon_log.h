/* SPDX-License-Identifier: MIT
 * Where a mount that left the terminal writes its log lines. */
#ifndef TOOLS_DAEMON_LOG_H
#define TOOLS_DAEMON_LOG_H

#define DAEMON_LOG_BYTES_MAX (8 << 20)

/* Opens `path` for appending; one that has grown larger than that is put aside as PATH.old first.
 * -1 when it cannot be opened. */
int daemon_log_open(const char *path);

#endif
