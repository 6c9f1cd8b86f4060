/* SPDX-License-Identifier: MIT */
#include "fs/mount/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_LOOK_MS 20u

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

void daemon_end(pid_t child, bool force)
{
    const struct timespec pause = {.tv_nsec = END_LOOK_MS * 1000000};
    kill(child, SIGTERM);
    for (unsigned waited_ms = 0; waited_ms < DAEMON_END_MS; waited_ms += END_LOOK_MS) {
        if (waitpid(child, NULL, WNOHANG) != 0)
            return;
        nanosleep(&pause, NULL);
    }
    if (!force)
        return;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}
