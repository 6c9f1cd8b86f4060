/* SPDX-License-Identifier: MIT */
#include "tools/failover/child.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 20u

/* In the child, between fork and exec: nothing but system calls. */
static _Noreturn void become(char **argv, bool dies_with_us, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dies_with_us) {
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent)
            _exit(EXIT_FAILURE); /* it ended before that was set */
    }
    execv("/proc/self/exe", argv);
    _exit(127);
}

bool child_start(const char *const *arguments, bool dies_with_us, pid_t *out, struct err *err)
{
    char *argv[CHILD_ARGUMENTS_MAX + 2] = {(char *)"farshore"};
    size_t count = 1;
    for (; *arguments != NULL; arguments++) {
        assert(count <= CHILD_ARGUMENTS_MAX);
        argv[count++] = (char *)*arguments;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "starting farshore %s", argv[1]);
    if (pid == 0)
        become(argv, dies_with_us, parent);
    *out = pid;
    return true;
}

static void describe(int status, char *how, size_t how_size)
{
    if (how == NULL)
        return;
    if (WIFSIGNALED(status))
        snprintf(how, how_size, "signal %d", WTERMSIG(status));
    else
        snprintf(how, how_size, "exit %d", WEXITSTATUS(status));
}

bool child_ended(pid_t pid, char *how, size_t how_size)
{
    int status = 0;
    if (pid <= 0 || waitpid(pid, &status, WNOHANG) == 0)
        return false;
    describe(status, how, how_size);
    return true;
}

void child_stop(pid_t pid, uint64_t patience_ms)
{
    if (pid <= 0)
        return;
    kill(pid, SIGTERM);
    for (uint64_t waited = 0; waited < patience_ms; waited += LOOK_MS) {
        if (child_ended(pid, NULL, 0))
            return;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
