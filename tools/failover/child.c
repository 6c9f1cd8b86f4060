/* SPDX-License-Identifier: MIT */
#include "tools/failover/child.h"

#include "common/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS        20u
#define STAT_BYTES_MAX 1024u

struct birth {
    const char *path;
    char *argv[CHILD_ARGUMENTS_MAX + 2];
    int output; /* -1: as it is */
    bool dies_with_us, own_group;
};

/* In the child, between fork and exec: nothing but system calls. */
static _Noreturn void become(struct birth *b, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (b->dies_with_us) {
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent)
            _exit(EXIT_FAILURE); /* it ended before that was set */
    }
    if (b->own_group)
        setpgid(0, 0);
    if (b->output >= 0 &&
        (dup2(b->output, STDOUT_FILENO) < 0 || dup2(b->output, STDERR_FILENO) < 0))
        _exit(126);
    execv(b->path, b->argv);
    _exit(127);
}

static bool give_birth(struct birth *b, const char *name, const char *const *arguments, pid_t *out,
                       struct err *err)
{
    size_t count = 0;
    b->argv[count++] = (char *)name;
    for (; arguments != NULL && *arguments != NULL; arguments++) {
        assert(count <= CHILD_ARGUMENTS_MAX);
        b->argv[count++] = (char *)*arguments;
    }
    b->argv[count] = NULL;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "starting %s %s", name, count > 1 ? b->argv[1] : "");
    if (pid == 0)
        become(b, parent);
    *out = pid;
    return true;
}

bool child_start(const char *const *arguments, bool dies_with_us, pid_t *out, struct err *err)
{
    struct birth b = {.path = "/proc/self/exe", .output = -1, .dies_with_us = dies_with_us};
    return give_birth(&b, "farshore", arguments, out, err);
}

bool child_start_program(const struct child_program *p, pid_t *out, struct err *err)
{
    struct birth b = {.path = p->path != NULL ? p->path : "/proc/self/exe",
                      .output = p->output,
                      .own_group = true};
    return give_birth(&b, p->path != NULL ? p->path : "farshore", p->arguments, out, err);
}

bool process_start_time(uint64_t pid, uint64_t *out)
{
    char path[64], text[STAT_BYTES_MAX];
    snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)pid);
    int fd AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name within may hold anything */
    if (p != NULL && (strncmp(p, ") Z", 3) == 0 || strncmp(p, ") X", 3) == 0))
        return false; /* nobody has waited for it: where init does not, for ever */
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p == NULL)
        return false;
    *out = strtoull(p + 1, NULL, 10);
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

/* Ours was waited for just now, or another's, of which we hear nothing, is not there. */
static bool is_gone(pid_t pid)
{
    uint64_t start;
    pid_t ended = waitpid(pid, NULL, WNOHANG);
    return ended > 0 || (ended < 0 && !process_start_time((uint64_t)pid, &start));
}

void child_stop(pid_t pid, uint64_t patience_ms)
{
    if (pid <= 0)
        return;
    kill(pid, SIGTERM);
    for (uint64_t waited = 0; waited < patience_ms; waited += LOOK_MS) {
        if (is_gone(pid))
            return;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
