/* SPDX-License-Identifier: MIT */
#include "fs/mount/daemon.h"

#include <fcntl.h>
#include <unistd.h>

void daemon_enter(int log_fd)
{
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    if (log_fd >= 0)
        dup2(log_fd, STDERR_FILENO);
}
