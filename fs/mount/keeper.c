/* SPDX-License-Identifier: MIT */
#include "fs/mount/keeper.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "fs/mount/daemon.h"
#include "fs/mount/handshake.h"
#include "fs/mount/keeper_page.h"
#include "fs/mount/mount_point.h"
#include "fs/mount/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A worker that lived shorter counts as a quick death; quick deaths in a row make the next start
 * wait, twice as long each time. A death by SIGKILL is none: the next one will do as well, and the
 * guest waits for it. */
#define QUICK_DEATH_MS 1000u
#define PAUSE_FIRST_MS 10u
#define PAUSE_MAX_MS   1000u

struct keeper {
    struct keeper_page *page;
    int fuse_fd;
    int memory_fd;
    int self_fd; /* pidfd of this process, for the workers */
    int signal_fd;
    int lock_fds[KEEPER_LOCKS_MAX];
    size_t lock_count;
    int *report_fd; /* to the waiting parent; -1 inside when nobody waits */

    int worker_fd; /* pidfd; -1: no worker lives */
    int status_fd; /* what that worker says; -1 */
    bool worker_ready;
    bool untold; /* who waits for the mount could not be told that it is usable */
    bool usable; /* some worker was ready: the mount stays until it is unmounted */
    struct err worker_err;

    unsigned quick_deaths;
    uint64_t started_ms;
    uint64_t lost_ms; /* since when no worker has been ready */
    uint64_t next_start_ms;

    int umount_fd; /* pidfd of the child that unmounts; -1 */
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- making it ---- */

static bool argv_record(struct keeper_page *page, char *const *argv, struct err *err)
{
    size_t used = 0;

    for (size_t i = 0; argv[i] != NULL; i++) {
        size_t length = strlen(argv[i]) + 1;
        if (i >= KEEPER_ARGS_MAX || length == 1 || length >= KEEPER_ARGV_BYTES - used)
            return err_set(err, ERR_INVALID, "the worker's command line is too long");
        memcpy(page->argv + used, argv[i], length);
        used += length;
    }
    return true;
}

/* The page alone is mapped here: what lies behind it is the workers'. */
static bool memory_make(struct keeper *k, const struct keeper_config *config, struct err *err)
{
    k->memory_fd = memfd_create("farshore", MFD_CLOEXEC);
    if (k->memory_fd < 0 || !fd_raise(&k->memory_fd, err) ||
        ftruncate(k->memory_fd, (off_t)(KEPT_MEMORY_OFFSET + config->memory_bytes)) < 0)
        return err_errno(err, errno, "making %zu bytes of kept memory", config->memory_bytes);
    void *page = mmap(NULL, KEEPER_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, k->memory_fd, 0);
    if (page == MAP_FAILED)
        return err_errno(err, errno, "mapping the kept memory");
    k->page = page;
    k->page->magic = KEEPER_PAGE_MAGIC;
    k->page->version = KEEPER_PAGE_VERSION;
    k->page->memory_bytes = config->memory_bytes;
    k->page->give_up_seconds = config->give_up_seconds;
    k->page->lock_count = (uint32_t)config->lock_count;
    atomic_store(&k->page->keeper_pid, getpid());
    return argv_record(k->page, config->worker_argv, err);
}

static bool locks_take(struct keeper *k, const struct keeper_config *config, struct err *err)
{
    for (size_t i = 0; i < config->lock_count; i++) {
        k->lock_fds[i] = fcntl(config->lock_fds[i], F_DUPFD_CLOEXEC, KEPT_FD_FLOOR);
        if (k->lock_fds[i] < 0)
            return err_errno(err, errno, "duplicating a lock's descriptor");
        k->lock_count++;
    }
    return true;
}

/* SIGTERM, SIGINT and SIGHUP come through a descriptor; a closed pipe is an error code. A terminal
 * that hangs up asks to stop like the others: by default it would end a disk that is in use. */
static bool signals_take(struct keeper *k, struct err *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    k->self_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (k->signal_fd < 0 || k->self_fd < 0)
        return err_errno(err, errno, "preparing the keeper");
    return fd_raise(&k->self_fd, err);
}

static bool resend_allowed(void)
{
    const char *value = getenv("FARSHORE_RESEND");

    return value == NULL || strcmp(value, "off") != 0;
}

static bool connection_make(struct keeper *k, const struct keeper_config *config, struct err *err)
{
    struct keeper_page *page = k->page;

    k->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (k->fuse_fd < 0)
        return err_errno(err, errno, "/dev/fuse (is the kernel's fuse module loaded?)");
    if (!fd_raise(&k->fuse_fd, err) ||
        !mount_point_mount(page->mount_point, config->vm, k->fuse_fd, &page->mount_id, err))
        return false;
    if (!handshake_answer(k->fuse_fd, resend_allowed(), page, err)) {
        mount_point_end(page->mount_point, page->mount_id);
        return false;
    }
    return true;
}

static void keeper_release(struct keeper *k)
{
    fd_close(&k->status_fd);
    fd_close(&k->worker_fd);
    fd_close(&k->umount_fd);
    fd_close(&k->signal_fd);
    fd_close(&k->self_fd);
    fd_close(&k->fuse_fd);
    if (k->page != NULL)
        munmap(k->page, KEEPER_PAGE_BYTES);
    fd_close(&k->memory_fd);
    for (size_t i = 0; i < k->lock_count; i++)
        close(k->lock_fds[i]);
}

#define KEEPER_NONE                                                                                \
    (struct keeper)                                                                                \
    {                                                                                              \
        .fuse_fd = -1, .memory_fd = -1, .self_fd = -1, .signal_fd = -1, .worker_fd = -1,           \
        .status_fd = -1, .umount_fd = -1                                                           \
    }

/* ---- workers ---- */

static bool worker_start(struct keeper *k, struct err *err)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, errno, "making the worker's pipe");
    int writer AUTO_FD = ends[1];
    k->status_fd = ends[0];
    bool piped = fd_raise(&writer, err) && (fcntl(k->status_fd, F_SETFL, O_NONBLOCK) == 0 ||
                                            err_errno(err, errno, "making the worker's pipe"));
    if (!piped) {
        fd_close(&k->status_fd);
        return false;
    }
    const struct handover h = {.fuse_fd = k->fuse_fd,
                               .memory_fd = k->memory_fd,
                               .status_fd = writer,
                               .peer_fd = k->self_fd,
                               .lock_fds = k->lock_fds,
                               .lock_count = k->lock_count};
    k->worker_ready = false;
    k->worker_err = ERR_NONE;
    k->started_ms = now_ms();
    atomic_fetch_add(&k->page->starts, 1);
    if (!crew_spawn(k->page, CREW_WORKER, &h, &pid, err)) {
        fd_close(&k->status_fd);
        return false;
    }
    /* Our child, not yet waited for: the number is its own. */
    k->worker_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (k->worker_fd >= 0)
        return true;
    err_errno(err, errno, "watching the worker");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fd_close(&k->status_fd);
    return false;
}

static void worker_kill(const struct keeper *k)
{
    if (k->worker_fd >= 0)
        syscall(SYS_pidfd_send_signal, k->worker_fd, SIGKILL, NULL, 0);
}

static void worker_listen(struct keeper *k)
{
    struct err err = ERR_NONE;

    switch (report_receive(k->status_fd, &err)) {
    case REPORT_READY:
        k->worker_ready = true;
        k->usable = true;
        k->untold = *k->report_fd >= 0 && !report_send(*k->report_fd, REPORT_READY, NULL);
        fd_close(k->report_fd);
        break;
    case REPORT_FAILURE:
        k->worker_err = err;
        if (k->usable)
            log_error("%s: the worker cannot start: %s", k->page->mount_point, err.text);
        break;
    case REPORT_NONE: /* it died, or it cannot be heard: then it has no use */
        worker_kill(k);
        break;
    }
    /* One word is all a worker says. */
    fd_close(&k->status_fd);
}

static void schedule_start(struct keeper *k, uint64_t now, bool killed)
{
    bool quick = !killed && (now - k->started_ms < QUICK_DEATH_MS || !k->worker_ready);
    uint64_t pause = 0;

    if (k->worker_ready || k->lost_ms == 0)
        k->lost_ms = now;
    k->quick_deaths = quick ? k->quick_deaths + 1 : 0;
    if (k->quick_deaths > 1) {
        unsigned doublings = k->quick_deaths - 2 < 16 ? k->quick_deaths - 2 : 16;
        pause = (uint64_t)PAUSE_FIRST_MS << doublings;
    }
    k->next_start_ms = now + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
    k->worker_ready = false;
}

/* How it died, if it was our child; a worker that a former keeper started is nobody's here. */
static void worker_describe(const siginfo_t *info, char *text, size_t size)
{
    if (info->si_pid == 0)
        snprintf(text, size, "died");
    else if (info->si_code == CLD_EXITED)
        snprintf(text, size, "exited with code %d", info->si_status);
    else
        snprintf(text, size, "was killed by signal %d (%s)", info->si_status,
                 strsignal(info->si_status));
}

/* The pidfd is readable: every thread of it has gone. */
static void worker_bury(struct keeper *k)
{
    siginfo_t info = {.si_pid = 0};
    char how[96];

    if (k->status_fd >= 0)
        worker_listen(k);
    if (waitid(P_PIDFD, (id_t)k->worker_fd, &info, WEXITED) < 0)
        info.si_pid = 0;
    worker_describe(&info, how, sizeof how);
    fd_close(&k->worker_fd);
    bool killed = info.si_pid != 0 && info.si_code == CLD_KILLED && info.si_status == SIGKILL;
    bool stopped = info.si_pid != 0 && info.si_code == CLD_EXITED && info.si_status == 0;
    suspects_after_death(&k->page->suspects, !killed && !stopped);
    if (atomic_load(&k->page->finished))
        return;
    if (!k->usable && k->worker_err.kind == ERR_OK)
        err_set(&k->worker_err, ERR_IO, "the worker %s before the mount was usable", how);
    if (k->usable)
        log_warning("%s: the worker %s; starting the next", k->page->mount_point, how);
    schedule_start(k, now_ms(), killed);
}

/* ---- unmounting on request ---- */

/* In a child: the worker must be kept meanwhile, for unmounting writes back what is mapped. */
static void unmount_begin(struct keeper *k)
{
    if (k->umount_fd >= 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        int failed = umount2(k->page->mount_point, UMOUNT_NOFOLLOW) < 0 ? errno : 0;
        _exit(failed);
    }
    k->umount_fd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (k->umount_fd < 0)
        log_error("%s: cannot unmount: %m", k->page->mount_point);
}

static void unmount_end(struct keeper *k)
{
    siginfo_t info = {.si_pid = 0};

    waitid(P_PIDFD, (id_t)k->umount_fd, &info, WEXITED);
    fd_close(&k->umount_fd);
    if (info.si_status == EBUSY)
        log_warning("%s: asked to stop, but the mount is in use: serving on", k->page->mount_point);
    else if (info.si_status != 0)
        log_error("%s: cannot unmount: %s", k->page->mount_point, strerror(info.si_status));
}

static void signals_read(struct keeper *k)
{
    struct signalfd_siginfo info;

    while (read(k->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        log_info("%s: asked to stop by signal %u from process %u", k->page->mount_point,
                 info.ssi_signo, info.ssi_pid);
    if (mount_point_is(k->page->mount_point, k->page->mount_id))
        unmount_begin(k);
}

/* ---- the loop ---- */

static bool given_up(const struct keeper *k, uint64_t now)
{
    return k->usable && !k->worker_ready && k->lost_ms != 0 &&
           now - k->lost_ms >= (uint64_t)k->page->give_up_seconds * 1000;
}

static int wait_ms(const struct keeper *k, uint64_t now)
{
    uint64_t until = UINT64_MAX;

    if (k->worker_fd < 0)
        until = k->next_start_ms;
    if (k->usable && !k->worker_ready && k->lost_ms != 0) {
        uint64_t deadline = k->lost_ms + (uint64_t)k->page->give_up_seconds * 1000;
        until = deadline < until ? deadline : until;
    }
    if (until == UINT64_MAX)
        return -1;
    if (until <= now)
        return 0;
    return until - now > 3600000 ? 3600000 : (int)(until - now);
}

/* False: the worker cannot be watched. A mount that is in use goes on all the same. */
static bool keeper_step(struct keeper *k, struct err *err)
{
    enum { SIGNALS, WORKER, STATUS, UMOUNT, WATCHED };
    struct pollfd fds[WATCHED] = {
        [SIGNALS] = {.fd = k->signal_fd, .events = POLLIN},
        [WORKER] = {.fd = k->worker_fd, .events = POLLIN},
        [STATUS] = {.fd = k->status_fd, .events = POLLIN},
        [UMOUNT] = {.fd = k->umount_fd, .events = POLLIN},
    };

    int ready = poll_paced(fds, WATCHED, wait_ms(k, now_ms()));
    if (ready < 0 && errno != EINTR && !k->usable)
        return err_errno(err, errno, "watching the worker of %s", k->page->mount_point);
    if (ready <= 0)
        return true;
    if (fds[SIGNALS].revents)
        signals_read(k);
    if (fds[STATUS].revents)
        worker_listen(k);
    if (fds[UMOUNT].revents)
        unmount_end(k);
    if (fds[WORKER].revents)
        worker_bury(k);
    return true;
}

static void end_mount(struct keeper *k)
{
    worker_kill(k);
    mount_point_end(k->page->mount_point, k->page->mount_id);
}

/* The mount's connection cannot be served: fail what waits in it rather than freeze the host. */
static bool give_up(struct keeper *k, struct err *err)
{
    log_error("%s: no worker could start for %u s: ending the mount", k->page->mount_point,
              k->page->give_up_seconds);
    end_mount(k);
    return err_set(err, ERR_IO, "%s: no worker could start for %u s; the mount was ended: %s",
                   k->page->mount_point, k->page->give_up_seconds,
                   k->worker_err.kind != ERR_OK ? k->worker_err.text : "see the log");
}

static bool start_if_due(struct keeper *k, struct err *err)
{
    if (k->worker_fd >= 0 || now_ms() < k->next_start_ms || worker_start(k, err))
        return true;
    if (!k->usable)
        return false;
    log_error("%s: cannot start a worker: %s", k->page->mount_point, err->text);
    schedule_start(k, now_ms(), false);
    return true;
}

/* Until the worker has finished. A mount that is still there then was ended by force: take it
 * away. */
static bool keeper_loop(struct keeper *k, struct err *err)
{
    for (;;) {
        if (given_up(k, now_ms()))
            return give_up(k, err);
        if (k->untold) { /* for him it has failed */
            end_mount(k);
            return err_set(err, ERR_IO, "%s: nobody could be told that it is usable",
                           k->page->mount_point);
        }
        if (!start_if_due(k, err))
            break;
        if (!keeper_step(k, err)) {
            worker_kill(k);
            break;
        }
        if (k->worker_fd >= 0)
            continue;
        if (atomic_load(&k->page->finished)) {
            mount_point_end(k->page->mount_point, k->page->mount_id);
            return true;
        }
        if (!k->usable && k->worker_err.kind != ERR_OK) {
            *err = k->worker_err;
            break;
        }
    }
    mount_point_end(k->page->mount_point, k->page->mount_id);
    return false;
}

/* Closes *report_fd when it has said there that the mount is usable. */
static bool keep(const struct keeper_config *config, int *report_fd, struct err *err)
{
    struct keeper k CLEANUP(keeper_release) = KEEPER_NONE;

    k.report_fd = report_fd;
    prctl(PR_SET_NAME, "farshore-keeper");
    if (!memory_make(&k, config, err) || !locks_take(&k, config, err) || !signals_take(&k, err))
        return false;
    if (!mount_point_prepare(config->mount_point, k.page->mount_point, err))
        return false;
    if (chdir("/") < 0)
        return err_errno(err, errno, "entering /");
    process_harden(true);
    if (!connection_make(&k, config, err))
        return false;
    return keeper_loop(&k, err);
}

/* A keeper died, its worker lives on and started this process. */
int keeper_continue(struct keeper_page *page)
{
    struct keeper k CLEANUP(keeper_release) = KEEPER_NONE;
    struct err err = ERR_NONE;
    int nobody = -1;

    prctl(PR_SET_NAME, "farshore-keeper");
    munmap((uint8_t *)page + KEEPER_PAGE_BYTES,
           KEPT_MEMORY_OFFSET - KEEPER_PAGE_BYTES + page->memory_bytes);
    k.page = page;
    k.report_fd = &nobody;
    k.fuse_fd = KEPT_FUSE_FD;
    k.memory_fd = KEPT_MEMORY_FD;
    k.worker_fd = KEPT_PEER_FD;
    k.lock_count = page->lock_count;
    for (size_t i = 0; i < k.lock_count; i++)
        k.lock_fds[i] = KEPT_LOCK_FD + (int)i;
    k.worker_ready = true;
    k.usable = true;
    k.started_ms = now_ms();
    atomic_store(&page->keeper_pid, getpid());
    log_warning("%s: the keeper died; this process took its place", page->mount_point);
    if (!signals_take(&k, &err) || !keeper_loop(&k, &err)) {
        log_error("%s", err.text);
        return 1;
    }
    return 0;
}

/* ---- starting it ---- */

static bool config_check(const struct keeper_config *config, struct err *err)
{
    if (config->lock_count > KEEPER_LOCKS_MAX)
        return err_set(err, ERR_INVALID, "%zu locks, at most %u", config->lock_count,
                       KEEPER_LOCKS_MAX);
    if (config->memory_bytes > (size_t)PTRDIFF_MAX - KEPT_MEMORY_OFFSET)
        return err_set(err, ERR_INVALID, "%zu bytes of kept memory: too many",
                       config->memory_bytes);
    if (config->worker_argv[0] == NULL || config->worker_argv[0][0] != '/')
        return err_set(err, ERR_INVALID, "the worker's program is not an absolute path");
    return true;
}

static void daemon_live(const struct keeper_config *config, int report_fd)
{
    struct err err = ERR_NONE;

    daemon_enter(config->log_fd);
    bool ok = keep(config, &report_fd, &err);
    if (!ok && report_fd >= 0)
        (void)report_send(report_fd, REPORT_FAILURE, &err); /* else our death says it */
    _exit(ok ? 0 : 1);
}

static bool daemon_run(const struct keeper_config *config, struct err *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, errno, "making the keeper's pipe");
    int reader AUTO_FD = ends[0], writer = ends[1];
    pid_t pid = fork();
    if (pid == 0)
        daemon_live(config, writer);
    close(writer);
    if (pid < 0)
        return err_errno(err, errno, "starting the keeper");
    switch (report_receive(reader, err)) {
    case REPORT_READY:
        return true;
    case REPORT_FAILURE:
        break;
    case REPORT_NONE:
        daemon_end(pid, false); /* by force its worker would take its place */
        return err_set(err, ERR_IO, "%s: the keeper died before the mount was usable",
                       config->mount_point);
    }
    waitpid(pid, NULL, 0);
    return false;
}

bool keeper_run(const struct keeper_config *config, struct err *err)
{
    if (!config_check(config, err))
        return false;
    int nobody = -1;
    return config->foreground ? keep(config, &nobody, err) : daemon_run(config, err);
}
