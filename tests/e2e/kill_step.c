/* SPDX-License-Identifier: MIT
 * A library to be preloaded: SIGKILL to one process right behind the K-th thing that it does to the
 * world which outlives it: an object or file that gets its name or loses it, a folder, a process
 * that it starts. What goes before is done and the rest is not, as a kill at that moment leaves it.
 *
 *   KILL_VERB   the first word on the command line of the processes that are meant; what those
 *               start is not meant, and does not see this library
 *   KILL_ARMED  a file that says K (0: never): who removes it is meant, so it is one at most
 *   KILL_LOG    a line for each step of that process
 *
 * Entries of jobs but the first of each are left out: they say what is done, and do nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pid_t meant; /* 0: no process of ours */
static int log_fd = -1;
static unsigned long kill_at;
static atomic_ulong steps;
static _Thread_local char staged[4096]; /* linked last: its first name goes with the object's */

/* `farshore run-job VM ID` is a job that waited; with --begin it is the agent's own. */
static bool is_meant(int argc, char **argv)
{
    const char *verb = getenv("KILL_VERB"), *armed = getenv("KILL_ARMED");
    char text[32] = "";
    if (verb == NULL || armed == NULL || argc < 2 || strcmp(argv[1], verb) != 0 ||
        (argc > 3 && strcmp(argv[3], "--begin") == 0))
        return false;
    int fd = open(armed, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    kill_at = strtoul(text, NULL, 10);
    return unlink(armed) == 0;
}

__attribute__((constructor)) static void begin(int argc, char **argv)
{
    const char *log = getenv("KILL_LOG");
    if (!is_meant(argc, argv))
        return;
    log_fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    unsetenv("LD_PRELOAD");
    meant = getpid();
}

static bool only_says(const char *path)
{
    const char *jobs = strstr(path, "/jobs/"), *number = jobs ? strrchr(path, '/') + 1 : NULL;
    return number != NULL && strspn(number, "0") != strlen(number);
}

static void step(const char *what, const char *path)
{
    char line[512];
    if (meant != getpid() || only_says(path))
        return;
    unsigned long now = atomic_fetch_add(&steps, 1) + 1;
    int length = snprintf(line, sizeof line, "%lu %s %s\n", now, what, path);
    if (log_fd >= 0)
        (void)!write(log_fd, line, (size_t)length);
    if (now == kill_at)
        kill(getpid(), SIGKILL);
}

/* The call that comes next in the order of libraries. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int link(const char *from, const char *to)
{
    int result = NEXT(link)(from, to);
    snprintf(staged, sizeof staged, "%s", from);
    if (result == 0)
        step("link", to);
    return result;
}

int rename(const char *from, const char *to)
{
    int result = NEXT(rename)(from, to);
    if (result == 0)
        step("rename", to);
    return result;
}

int unlink(const char *path)
{
    int result = NEXT(unlink)(path);
    if (result == 0 && strcmp(path, staged) != 0)
        step("unlink", path);
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    int result = NEXT(mkdir)(path, mode);
    if (result == 0)
        step("mkdir", path);
    return result;
}

int rmdir(const char *path)
{
    int result = NEXT(rmdir)(path);
    if (result == 0)
        step("rmdir", path);
    return result;
}

pid_t fork(void)
{
    pid_t pid = NEXT(fork)();
    if (pid > 0)
        step("fork", "");
    return pid;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
    int result = NEXT(posix_spawn)(pid, path, files, attributes, argv, env);
    if (result == 0)
        step("spawn", argv[1] ? argv[1] : "");
    return result;
}
