/* SPDX-License-Identifier: MIT */
#include "tools/self_run.h"

#include "common/cleanup.h"
#include "tools/verb.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The other way round of exit_code_of. */
static enum err_kind kind_of(int status)
{
    if (!WIFEXITED(status))
        return ERR_IO;
    switch (WEXITSTATUS(status)) {
    case EXIT_USAGE:
        return ERR_INVALID;
    case EXIT_MISSING:
        return ERR_NOT_FOUND;
    case EXIT_FENCED:
        return ERR_FENCED;
    case EXIT_UNREACHABLE:
        return ERR_TRANSIENT;
    case EXIT_WRONG_KEY:
        return ERR_WRONG_KEY;
    case EXIT_CORRUPT:
        return ERR_CORRUPT;
    case EXIT_BUSY:
        return ERR_BUSY;
    default:
        return ERR_IO;
    }
}

/* What it says before its end, the newest part; read to the end, so that it never waits for us. */
static void collect_text(int fd, char out[ERR_TEXT_MAX])
{
    char text[2 * ERR_TEXT_MAX] = "";
    size_t length = 0;
    for (;;) {
        if (length >= sizeof text - ERR_TEXT_MAX) {
            memmove(text, text + length - ERR_TEXT_MAX / 2, ERR_TEXT_MAX / 2);
            length = ERR_TEXT_MAX / 2;
        }
        ssize_t got = read(fd, text + length, sizeof text - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    while (length > 0 && text[length - 1] == '\n')
        length--;
    text[length] = '\0';
    const char *last = strrchr(text, '\n');
    last = last ? last + 1 : text;
    if (strncmp(last, "farshore: ", 10) == 0)
        last += 10;
    snprintf(out, ERR_TEXT_MAX, "%s", last);
}

/* Signals as a program expects them, whatever this process blocks. */
static int spawn(const char *const *arguments, int text_fd, pid_t *pid)
{
    char *argv[SELF_ARGUMENTS_MAX + 2] = {(char[]){"farshore"}};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    size_t count = 0;

    while (arguments[count]) {
        assert(count < SELF_ARGUMENTS_MAX);
        argv[count + 1] = (char *)arguments[count];
        count++;
    }
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, text_fd, 2);
    int failed = posix_spawn(pid, "/proc/self/exe", &files, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

bool self_run(const char *const *arguments, struct err *err)
{
    char text[ERR_TEXT_MAX];
    int ends[2], status = 0;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, errno, "farshore %s cannot be started", arguments[0]);
    int failed = spawn(arguments, ends[1], &pid);
    close(ends[1]);
    if (failed == 0)
        collect_text(ends[0], text);
    close(ends[0]);
    if (failed != 0)
        return err_errno(err, failed, "farshore %s cannot be started", arguments[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, errno, "farshore %s", arguments[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (text[0] == '\0')
        snprintf(text, sizeof text, "it ended without a word");
    return err_set(err, kind_of(status), "farshore %s: %s", arguments[0], text);
}
