/* SPDX-License-Identifier: MIT */
#include "tools/daemon_log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

int daemon_log_open(const char *path)
{
    char old[PATH_MAX];
    struct stat st;
    int length = snprintf(old, sizeof old, "%s.old", path);
    if (length < 0 || length >= (int)sizeof old)
        return -1;
    if (stat(path, &st) == 0 && st.st_size > DAEMON_LOG_BYTES_MAX)
        rename(path, old); /* else it goes on growing */
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}
