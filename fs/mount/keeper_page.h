/* SPDX-License-Identifier: MIT
 * What a keeper and its workers share: the first bytes of the kept memory, and the descriptors that
 * pass from one process to the next. Inside fs/mount only. */
#ifndef FS_MOUNT_KEEPER_PAGE_H
#define FS_MOUNT_KEEPER_PAGE_H

#include "fs/mount/keeper.h"
#include "fs/mount/suspects.h"

#include <limits.h>

#define KEEPER_PAGE_BYTES   (64u << 10) /* what follows: see slots.h */
#define KEEPER_PAGE_MAGIC   0x6570656568737266ull
#define KEEPER_PAGE_VERSION 3u
#define KEEPER_ARGV_BYTES   (16u << 10) /* the worker's command line */
#define KEEPER_ARGS_MAX     256u
#define INIT_REQUEST_BYTES  512u

/* Numbers of the descriptors after exec. PEER is a pidfd: of the keeper in a worker, of the worker
 * in a replacing keeper. */
enum {
    KEPT_FUSE_FD = 3,
    KEPT_MEMORY_FD,
    KEPT_STATUS_FD,
    KEPT_PEER_FD,
    KEPT_LOCK_FD, /* and up */
    KEPT_FD_FLOOR = KEPT_LOCK_FD + (int)KEEPER_LOCKS_MAX
};

/* Written by the keeper before the first worker starts, but for the atomics. */
struct keeper_page {
    uint64_t magic;
    uint32_t version;
    uint32_t lock_count;
    uint64_t memory_bytes;
    uint64_t mount_id; /* of /proc/self/mountinfo */
    uint32_t give_up_seconds;
    uint32_t init_bytes;
    uint8_t init[INIT_REQUEST_BYTES]; /* the kernel's FUSE_INIT: see handshake_answer */
    char mount_point[PATH_MAX];
    char argv[KEEPER_ARGV_BYTES]; /* NUL after each, an empty one ends */
    _Atomic uint32_t starts;      /* workers started so far */
    _Atomic uint32_t finished;    /* the worker's last word */
    _Atomic int32_t keeper_pid;
    struct suspects suspects;
};
_Static_assert(sizeof(struct keeper_page) <= KEEPER_PAGE_BYTES, "the page is too small");

/* One message over a pipe, written at once. */
enum report_kind { REPORT_NONE, REPORT_READY, REPORT_FAILURE };

/* False: somebody waits for it and will not get it. */
bool report_send(int fd, enum report_kind kind, const struct err *err);
/* REPORT_NONE at the end of the pipe, or when nothing is there and the pipe does not block. */
enum report_kind report_receive(int fd, struct err *err);

struct handover {
    int fuse_fd, memory_fd, status_fd, peer_fd;
    const int *lock_fds;
    size_t lock_count;
};

/* Moves a descriptor out of the way of the fixed numbers, close-on-exec; closes `fd`. */
bool fd_raise(int *fd, struct err *err) MUST_CHECK;
enum crew_role { CREW_NONE, CREW_WORKER, CREW_KEEPER };
/* What this process was started as; its own children are not. */
enum crew_role crew_role_take(void);
/* Execs the page's command line in `role`, with default signals in a process group of its own. The
 * descriptors are raised ones, or have their fixed number already. */
bool crew_spawn(const struct keeper_page *page, enum crew_role role, const struct handover *h,
                pid_t *pid, struct err *err) MUST_CHECK;

/* In a worker that serves: this process becomes the next one, so there is always one that holds the
 * descriptors. Its other threads end as by a kill. Returns when that cannot be. */
void crew_exec_worker(struct keeper_page *page);

/* Spares this process: no reclaim through our own mount, no OOM kill, memory locked. What fails is
 * a warning if `warn` (the keeper says it for its workers): the mount works, but not when memory is
 * short. */
void process_harden(bool warn);

/* The worker's keeper is dead: starts the next one and returns its pidfd. */
bool keeper_replace(const struct worker_inheritance *inherited, int *pidfd,
                    struct err *err) MUST_CHECK;
/* The life of a replacing keeper; returns when the mount has ended. */
int keeper_continue(struct keeper_page *page);

#endif
