/* SPDX-License-Identifier: MIT
 * What a worker takes over from its keeper and says to it. See keeper.h. */
#include "fs/mount/keeper_page.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/mount/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool page_valid(const struct keeper_page *page, uint64_t file_bytes, struct err *err)
{
    if (page->magic != KEEPER_PAGE_MAGIC || page->version != KEEPER_PAGE_VERSION)
        return err_set(err, ERR_INVALID,
                       "the keeper of this mount is of another version of farshore: unmount, then "
                       "mount again");
    if (page->lock_count > KEEPER_LOCKS_MAX || page->init_bytes > sizeof page->init ||
        page->memory_bytes > file_bytes || file_bytes - page->memory_bytes < KEPT_MEMORY_OFFSET)
        return err_set(err, ERR_CORRUPT, "the keeper's memory is damaged");
    return true;
}

static bool map_kept(struct keeper_page **out, struct err *err)
{
    struct stat st;

    if (fstat(KEPT_MEMORY_FD, &st) < 0 || st.st_size < (off_t)KEPT_MEMORY_OFFSET)
        return err_set(err, ERR_INVALID, "not started by a keeper: use `farshore mount`");
    void *base =
        mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, KEPT_MEMORY_FD, 0);
    if (base == MAP_FAILED)
        return err_errno(err, errno, "mapping the keeper's memory");
    if (!page_valid(base, (uint64_t)st.st_size, err)) {
        munmap(base, (size_t)st.st_size);
        return false;
    }
    *out = base;
    return true;
}

/* Programs that the worker runs must not hold what is kept. */
static bool close_on_exec(size_t lock_count, struct err *err)
{
    for (int fd = KEPT_FUSE_FD; fd < KEPT_LOCK_FD + (int)lock_count; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return err_errno(err, errno, "descriptor %d of the keeper", fd);
    return true;
}

static void memory_at(struct worker_inheritance *w, struct keeper_page *page)
{
    w->page = page;
    w->memory = (uint8_t *)page + KEPT_MEMORY_OFFSET;
    w->memory_bytes = page->memory_bytes;
}

bool worker_inherit(struct worker_inheritance *out, struct err *err)
{
    enum crew_role role = crew_role_take();
    struct keeper_page *page = NULL;

    if (role == CREW_NONE)
        return err_set(err, ERR_INVALID, "not started by a keeper: use `farshore mount`");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* the keeper's to act on */
    process_harden(false);
    if (!map_kept(&page, err) || !close_on_exec(page->lock_count, err))
        return false;
    if (role == CREW_KEEPER)
        _exit(keeper_continue(page));
    prctl(PR_SET_NAME, "farshore-worker");
    suspects_after_death(&page->suspects, false); /* the keeper has blamed whom it could */
    *out = (struct worker_inheritance){.fuse_fd = KEPT_FUSE_FD,
                                       .memory_fresh = atomic_load(&page->starts) <= 1,
                                       .restarts = atomic_load(&page->starts) - 1,
                                       .lock_count = page->lock_count};
    memory_at(out, page);
    for (size_t i = 0; i < out->lock_count; i++)
        out->lock_fds[i] = KEPT_LOCK_FD + (int)i;
    return true;
}

/* The file first: a worker killed in between leaves one that is longer than the page says. */
bool worker_memory_grow(struct worker_inheritance *w, size_t bytes, struct err *err)
{
    struct keeper_page *page;

    if (bytes <= w->memory_bytes)
        return true;
    if (ftruncate(KEPT_MEMORY_FD, (off_t)(KEPT_MEMORY_OFFSET + bytes)) < 0)
        return err_errno(err, errno, "growing the kept memory to %zu bytes", bytes);
    w->page->memory_bytes = bytes;
    if (!map_kept(&page, err))
        return false;
    munmap(w->page, KEPT_MEMORY_OFFSET + w->memory_bytes);
    memory_at(w, page);
    return true;
}

void worker_report_ready(void)
{
    alarm(0); /* of crew_exec_worker */
    if (report_send(KEPT_STATUS_FD, REPORT_READY, NULL))
        return;
    log_error("cannot tell the keeper that the mount is usable: %m");
    _exit(1);
}

void worker_report_failure(const struct err *err)
{
    (void)report_send(KEPT_STATUS_FD, REPORT_FAILURE, err); /* else our death says it */
}

void worker_report_finished(const struct worker_inheritance *inherited)
{
    atomic_store(&inherited->page->finished, 1);
}

pid_t worker_keeper_pid(const struct worker_inheritance *inherited)
{
    return atomic_load(&inherited->page->keeper_pid);
}

bool keeper_replace(const struct worker_inheritance *inherited, int *pidfd, struct err *err)
{
    pid_t pid;
    int status AUTO_FD = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int self AUTO_FD = (int)syscall(SYS_pidfd_open, getpid(), 0);

    if (status < 0 || self < 0)
        return err_errno(err, errno, "preparing a new keeper");
    if (!fd_raise(&status, err) || !fd_raise(&self, err))
        return false;
    const struct handover h = {.fuse_fd = KEPT_FUSE_FD,
                               .memory_fd = KEPT_MEMORY_FD,
                               .status_fd = status,
                               .peer_fd = self,
                               .lock_fds = inherited->lock_fds,
                               .lock_count = inherited->lock_count};
    if (!crew_spawn(inherited->page, CREW_KEEPER, &h, &pid, err))
        return false;
    *pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (*pidfd < 0)
        return err_errno(err, errno, "watching the new keeper");
    return true;
}
