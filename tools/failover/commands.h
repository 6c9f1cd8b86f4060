/* SPDX-License-Identifier: MIT
 * Without libvirt: the user's own commands (settings `start`, `stop`, `freeze`, `thaw`), run by
 * /bin/sh -c with what they need in the environment. Any thread may call; it waits. */
#ifndef TOOLS_FAILOVER_COMMANDS_H
#define TOOLS_FAILOVER_COMMANDS_H

#include "common/buf.h"

#define COMMAND_BYTES_MAX        4096u
#define COMMAND_OUTPUT_BYTES_MAX 16384u /* kept of what it printed: the end */
#define COMMAND_VALUES_MAX       32u
#define COMMAND_DISKS_MAX        256u

struct command_value {
    const char *name;
    const char *value;
};

struct command {
    const char *what; /* "start": the setting's name, for texts */
    const char *line; /* as the user wrote it */
    uint64_t timeout_ms;
    const char *vm;                    /* FARSHORE_VM */
    const struct command_value *disks; /* FARSHORE_DISK_NAME=PATH, FARSHORE_DISKS has all NAMEs */
    size_t disk_count;
    const struct command_value *values; /* FARSHORE_...: whole names: POINT is FARSHORE_POINT */
    size_t value_count;
};

/* Returns when the command itself has ended; what it left running in the background stays, in a
 * session of its own, and may print no more. It has no descriptor of ours but /dev/null and its
 * output. `output` (may be NULL) gets the end of what it printed, also after an error. ERR_IO: it
 * ended otherwise than by exit 0; ERR_TRANSIENT: it did not end in time and was killed with all of
 * its group. Both with the last line that it printed. ERR_INVALID: two disks have one variable. */
bool command_run(const struct command *c, struct buf *output, struct err *err) MUST_CHECK;

/* FARSHORE_DISK_ and NAME in upper case, what is neither letter nor digit as `_`. */
void command_disk_variable(const char *disk, char *out, size_t size);

#endif
