/* SPDX-License-Identifier: MIT
 * How keeper and worker pass on to each other: reports, descriptors, exec. See keeper_page.h. */
#include "fs/mount/keeper_page.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

extern char **environ;

/* More than a worker maps at once. */
#define LOCK_PROBE_BYTES ((size_t)1 << 30)

struct report {
    uint32_t kind;
    struct err err;
};
_Static_assert(sizeof(struct report) <= 4096, "a report must be one atomic write to a pipe");

bool report_send(int fd, enum report_kind kind, const struct err *err)
{
    struct report r = {.kind = (uint32_t)kind};
    ssize_t sent;

    if (err != NULL)
        r.err = *err;
    do
        sent = write(fd, &r, sizeof r);
    while (sent < 0 && errno == EINTR);
    /* EPIPE: nobody reads any more: the keeper died, and its successor does not ask. */
    return sent >= 0 || errno == EPIPE;
}

enum report_kind report_receive(int fd, struct err *err)
{
    struct report r;
    ssize_t length;

    do
        length = read(fd, &r, sizeof r);
    while (length < 0 && errno == EINTR);
    if (length != (ssize_t)sizeof r)
        return REPORT_NONE;
    if (r.kind == REPORT_READY)
        return REPORT_READY;
    r.err.text[sizeof r.err.text - 1] = '\0';
    *err = r.err;
    return REPORT_FAILURE;
}

bool fd_raise(int *fd, struct err *err)
{
    int raised = fcntl(*fd, F_DUPFD_CLOEXEC, KEPT_FD_FLOOR);

    if (raised < 0)
        return err_errno(err, errno, "duplicating a descriptor");
    close(*fd);
    *fd = raised;
    return true;
}

/* In the environment of a process that crew_spawn started. */
#define ROLE_VARIABLE "FARSHORE_CREW_ROLE"

static const char *const role_settings[] = {
    [CREW_WORKER] = ROLE_VARIABLE "=worker",
    [CREW_KEEPER] = ROLE_VARIABLE "=keeper",
};

/* The environment with our role in it; the strings are borrowed. */
static char **environment_for(enum crew_role role)
{
    size_t count = 0, used = 0;

    while (environ[count] != NULL)
        count++;
    char **copy = calloc(count + 2, sizeof *copy);
    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], ROLE_VARIABLE "=", sizeof ROLE_VARIABLE) != 0)
            copy[used++] = environ[i];
    /* posix_spawn only reads it. */
    copy[used] = (char *)(uintptr_t)role_settings[role];
    return copy;
}

static void arguments_of(const struct keeper_page *page, char *argv[KEEPER_ARGS_MAX + 1])
{
    const char *next = page->argv;
    size_t count = 0;

    while (*next != '\0' && count < KEEPER_ARGS_MAX) {
        argv[count++] = (char *)(uintptr_t)next;
        next += strlen(next) + 1;
    }
    argv[count] = NULL;
}

static int actions_fill(posix_spawn_file_actions_t *actions, const struct handover *h)
{
    int failed = posix_spawn_file_actions_adddup2(actions, h->fuse_fd, KEPT_FUSE_FD);

    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(actions, h->memory_fd, KEPT_MEMORY_FD);
    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(actions, h->status_fd, KEPT_STATUS_FD);
    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(actions, h->peer_fd, KEPT_PEER_FD);
    for (size_t i = 0; failed == 0 && i < h->lock_count; i++)
        failed = posix_spawn_file_actions_adddup2(actions, h->lock_fds[i], KEPT_LOCK_FD + (int)i);
    if (failed == 0)
        failed =
            posix_spawn_file_actions_addclosefrom_np(actions, KEPT_LOCK_FD + (int)h->lock_count);
    return failed;
}

static int attributes_fill(posix_spawnattr_t *attributes)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    int failed = posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (failed == 0)
        failed = posix_spawnattr_setsigmask(attributes, &none);
    if (failed == 0)
        failed = posix_spawnattr_setsigdefault(attributes, &all);
    if (failed == 0)
        failed = posix_spawnattr_setpgroup(attributes, 0);
    return failed;
}

static void actions_release(posix_spawn_file_actions_t *actions)
{
    posix_spawn_file_actions_destroy(actions);
}

static void attributes_release(posix_spawnattr_t *attributes)
{
    posix_spawnattr_destroy(attributes);
}

bool crew_spawn(const struct keeper_page *page, enum crew_role role, const struct handover *h,
                pid_t *pid, struct err *err)
{
    char *argv[KEEPER_ARGS_MAX + 1];
    char **environment AUTO_FREE = environment_for(role);

    if (environment == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    posix_spawn_file_actions_t actions CLEANUP(actions_release);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_t attributes CLEANUP(attributes_release);
    posix_spawnattr_init(&attributes);
    arguments_of(page, argv);
    int failed = actions_fill(&actions, h);
    if (failed == 0)
        failed = attributes_fill(&attributes);
    if (failed == 0)
        failed = posix_spawn(pid, argv[0], &actions, &attributes, argv, environment);
    if (failed != 0)
        return err_errno(err, failed, "starting %s", argv[0]);
    return true;
}

/* Those that pass on, at their numbers. */
static bool descriptors_keep(size_t lock_count)
{
    const int end = KEPT_LOCK_FD + (int)lock_count;

    for (int fd = KEPT_FUSE_FD; fd < end; fd++)
        if (fcntl(fd, F_SETFD, 0) < 0)
            return false;
    return close_range((unsigned)end, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

void crew_exec_worker(struct keeper_page *page)
{
    char *argv[KEEPER_ARGS_MAX + 1];
    char **environment AUTO_FREE = environment_for(CREW_WORKER);
    sigset_t none;

    sigemptyset(&none);
    arguments_of(page, argv);
    if (environment == NULL || !descriptors_keep(page->lock_count))
        return;
    atomic_fetch_add(&page->starts, 1);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    /* The keeper does not see this start. One that comes to no end dies of it, and is seen. */
    alarm(page->give_up_seconds);
    execve(argv[0], argv, environment);
    alarm(0);
    log_error("becoming the next worker: %m");
}

enum crew_role crew_role_take(void)
{
    const char *role = getenv(ROLE_VARIABLE);
    enum crew_role found = CREW_NONE;

    if (role != NULL)
        found = strcmp(role, "keeper") == 0 ? CREW_KEEPER : CREW_WORKER;
    unsetenv(ROLE_VARIABLE);
    return found;
}

static void spare_from_oom_killer(bool warn)
{
    static const char score[] = "-1000";
    int fd AUTO_FD = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if ((fd < 0 || write(fd, score, sizeof score - 1) < 0) && warn)
        log_warning("cannot be spared by the OOM killer: %m");
}

/* What is mapped now (code above all) entirely; what comes later, page by page as it is touched:
 * the kept memory is several MiB per TiB of disk and mostly never touched. */
static bool lock_memory(void)
{
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

    /* Only helps who may; who has CAP_IPC_LOCK needs it not. */
    setrlimit(RLIMIT_MEMLOCK, &unlimited);
    if (mlockall(MCL_CURRENT) < 0 || mlockall(MCL_FUTURE | MCL_ONFAULT) < 0)
        return false;
    void *probe = mmap(NULL, LOCK_PROBE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe != MAP_FAILED) {
        munmap(probe, LOCK_PROBE_BYTES);
        return true;
    }
    /* A limit on locked memory would now fail every larger allocation: take the future back. */
    mlockall(MCL_CURRENT);
    return false;
}

void process_harden(bool warn)
{
    spare_from_oom_killer(warn);
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0 && warn)
        log_warning(
            "cannot be made an I/O flusher: %m; without CAP_SYS_RESOURCE a loop device over "
            "the mount may hang when its control group is short of memory: keep what "
            "writes there in another group");
    if (!lock_memory() && warn)
        log_warning("cannot lock memory; raise LimitMEMLOCK, or a loop device over the mount "
                    "may hang when memory is short");
}
