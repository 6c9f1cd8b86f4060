/* SPDX-License-Identifier: MIT */
#include "fs/mount/source_mount.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/mount/handshake.h"
#include "fs/mount/source_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A slot of the pool is one page for the request's head, which ends where the page ends, and the
 * data behind it on whole pages: so the local file can be written straight from it. */
#define SLOT_HEAD_BYTES 4096u
#define SLOT_BYTES      (SLOT_HEAD_BYTES + MOUNT_WRITE_MAX)
_Static_assert(SLOT_HEAD_BYTES >= MOUNT_REQUEST_HEAD, "a request's head must fit its page");
_Static_assert(SOURCE_MOUNT_THREADS <= SUSPECT_THREADS_MAX, "every thread needs its place");

/* Interrupts a thread's read() of /dev/fuse. */
#define WAKE_SIGNAL     SIGUSR2
#define WAKE_AGAIN_MS   10
#define KEEPER_AGAIN_MS 1000 /* a new keeper could not be started: how long until another try */
/* At the first start: a worker of a mount that was killed whole may still have I/O to end. */
#define LOCK_TRIES  100
#define LOCK_TRY_US 50000

struct server {
    struct source_mount *mount;
    pthread_t thread;
    uint8_t *slot;
    _Atomic uint64_t *in_hand; /* in the keeper's page */
    atomic_bool ended;
};

struct source_mount {
    struct source_ops ops;
    const struct worker_inheritance *inherited;
    struct fuse_session *session;
    uint8_t *pool;
    bool key_made;

    int wake_fd;        /* eventfd: a server ended, or stop was called */
    int keeper_fd;      /* pidfd of the keeper; -1: none could be started */
    pid_t keeper_child; /* the keeper is ours to reap; 0: it is not */
    atomic_bool stopping;
    atomic_bool unmounted;
    _Atomic int failed; /* errno of a read() that nobody expected */

    /* Held while a suspect is executed, I/O included: they run one at a time. */
    pthread_mutex_t quarantine;
    struct server servers[SOURCE_MOUNT_THREADS];
    unsigned started;
};

/* ---- one request ---- */

static void reply_raw(const struct source_mount *m, uint64_t unique, int errnum)
{
    const struct fuse_out_header out = {.len = sizeof out, .error = -errnum, .unique = unique};

    /* ENOENT: the asker was killed meanwhile. Nothing to do about other errors. */
    if (write(m->inherited->fuse_fd, &out, sizeof out) < 0 && errno != ENOENT)
        log_warning("answering a FUSE request: %m");
}

static bool wants_no_reply(uint32_t opcode)
{
    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

static void execute(struct server *s, size_t length)
{
    uint8_t *request = s->slot + SLOT_HEAD_BYTES - MOUNT_REQUEST_HEAD;

    fuse_session_process_buf(s->mount->session, &(struct fuse_buf){.mem = request, .size = length});
}

/* A request that workers died on. */
static void execute_suspect(struct server *s, const struct fuse_in_header *in, size_t length,
                            uint32_t deaths)
{
    struct suspects *suspects = &s->mount->inherited->page->suspects;
    uint64_t unique = in->unique & ~MOUNT_UNIQUE_RESENT;

    LOCK_SCOPE(&s->mount->quarantine);
    if (deaths >= SUSPECT_DEATHS_MAX) {
        log_error("request %" PRIu64 " (opcode %u, inode %" PRIu64 ") ended %u workers: answered "
                  "with an I/O error",
                  unique, in->opcode, in->nodeid, deaths);
        if (!wants_no_reply(in->opcode))
            reply_raw(s->mount, in->unique, EIO);
        suspects_clear(suspects, unique);
        return;
    }
    atomic_store(&suspects->alone, unique);
    execute(s, length);
    suspects_clear(suspects, unique);
    atomic_store(&suspects->alone, 0);
}

static void handle(struct server *s, size_t length)
{
    struct fuse_in_header in;

    memcpy(&in, s->slot + SLOT_HEAD_BYTES - MOUNT_REQUEST_HEAD, sizeof in);
    /* No request lasts; told so once, the kernel asks no more. */
    if (in.opcode == FUSE_INTERRUPT)
        return reply_raw(s->mount, in.unique, ENOSYS);
    uint64_t unique = in.unique & ~MOUNT_UNIQUE_RESENT;
    uint32_t deaths = suspects_deaths(&s->mount->inherited->page->suspects, unique);
    if (deaths > 0)
        return execute_suspect(s, &in, length, deaths);
    atomic_store_explicit(s->in_hand, unique, memory_order_release);
    execute(s, length);
    atomic_store_explicit(s->in_hand, 0, memory_order_release);
}

/* ---- the servers ---- */

/* True when there may be another request. */
static bool read_failed(struct source_mount *m, int errnum)
{
    switch (errnum) {
    case EINTR:
    case EAGAIN:
    case ENOENT: /* the request was taken back before it was read */
        return true;
    case ENODEV: /* unmounted */
    case ECONNABORTED:
        atomic_store(&m->unmounted, true);
        return false;
    default:
        atomic_store(&m->failed, errnum);
        return false;
    }
}

static void wake(struct source_mount *m)
{
    const uint64_t one = 1;

    if (write(m->wake_fd, &one, sizeof one) < 0)
        log_error("waking the mount's main thread: %m");
}

static void *serve_requests(void *argument)
{
    struct server *s = argument;
    struct source_mount *m = s->mount;
    uint8_t *request = s->slot + SLOT_HEAD_BYTES - MOUNT_REQUEST_HEAD;

    pthread_setspecific(m->ops.buffer, s->slot + SLOT_HEAD_BYTES);
    while (!atomic_load(&m->stopping)) {
        ssize_t length = read(m->inherited->fuse_fd, request, MOUNT_REQUEST_HEAD + MOUNT_WRITE_MAX);
        if (length >= (ssize_t)sizeof(struct fuse_in_header))
            handle(s, (size_t)length);
        else if (!read_failed(m, length < 0 ? errno : EPROTO))
            break;
    }
    atomic_store(&s->ended, true);
    wake(m);
    return NULL;
}

static void wake_signal_handler(int signal_number)
{
    (void)signal_number;
}

/* The servers take no signal but the one that wakes them. */
static bool servers_start(struct source_mount *m, struct err *err)
{
    struct sigaction action = {.sa_handler = wake_signal_handler};
    sigset_t others, before;
    int failed = 0;

    sigaction(WAKE_SIGNAL, &action, NULL);
    sigfillset(&others);
    sigdelset(&others, WAKE_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    while (m->started < SOURCE_MOUNT_THREADS && failed == 0) {
        struct server *s = &m->servers[m->started];
        failed = pthread_create(&s->thread, NULL, serve_requests, s);
        if (failed == 0) {
            pthread_setname_np(s->thread, "farshore-fuse");
            m->started++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 || err_errno(err, failed, "starting the mount's threads");
}

static bool servers_ended(const struct source_mount *m)
{
    for (unsigned i = 0; i < m->started; i++)
        if (!atomic_load(&m->servers[i].ended))
            return false;
    return true;
}

static void servers_interrupt(struct source_mount *m)
{
    for (unsigned i = 0; i < m->started; i++)
        if (!atomic_load(&m->servers[i].ended))
            pthread_kill(m->servers[i].thread, WAKE_SIGNAL);
}

/* ---- the keeper, seen from here ---- */

static void keeper_lost(struct source_mount *m)
{
    struct err err = ERR_NONE;

    close(m->keeper_fd);
    m->keeper_fd = -1;
    if (m->keeper_child > 0)
        waitpid(m->keeper_child, NULL, 0);
    m->keeper_child = 0;
    if (!keeper_replace(m->inherited, &m->keeper_fd, &m->keeper_child, &err))
        log_error("the keeper died and no other can be started: %s; until one can, the death of "
                  "this process would end the mount",
                  err.text);
}

/* Waits for something to do: a server that ended, stop, the keeper's death. */
static void serve_wait(struct source_mount *m)
{
    struct pollfd fds[] = {{.fd = m->wake_fd, .events = POLLIN},
                           {.fd = m->keeper_fd, .events = POLLIN}};
    uint64_t count;
    int timeout = m->keeper_fd < 0 ? KEEPER_AGAIN_MS : -1;

    if (atomic_load(&m->stopping)) {
        servers_interrupt(m);
        timeout = WAKE_AGAIN_MS; /* one that was not yet in read() did not notice */
    }
    int ready = poll(fds, sizeof fds / sizeof *fds, timeout);
    if (ready > 0 && fds[0].revents && read(m->wake_fd, &count, sizeof count) < 0)
        log_error("waiting for the mount's threads: %m");
    if (atomic_load(&m->stopping) || atomic_load(&m->unmounted))
        return;
    if (m->keeper_fd < 0 || (ready > 0 && fds[1].revents))
        keeper_lost(m);
}

bool source_mount_serve(struct source_mount *m, struct err *err)
{
    bool ok = servers_start(m, err);

    if (!ok)
        source_mount_stop(m);
    while (!servers_ended(m)) {
        serve_wait(m);
        if (atomic_load(&m->failed) != 0)
            source_mount_stop(m);
    }
    for (unsigned i = 0; i < m->started; i++)
        pthread_join(m->servers[i].thread, NULL);
    m->started = 0;
    int failed = atomic_load(&m->failed);
    if (ok && failed != 0)
        return err_errno(err, failed, "reading requests from /dev/fuse");
    return ok;
}

void source_mount_stop(struct source_mount *m)
{
    atomic_store(&m->stopping, true);
    wake(m);
}

bool source_mount_unmounted(const struct source_mount *m)
{
    return atomic_load(&m->unmounted);
}

/* ---- adopting the connection ---- */

/* Locked, mapped in, never copied by a fork, never moved into huge pages: a worker that is killed
 * while the kernel copies into a page that is not there fails the request with EIO. */
static bool pool_make(struct source_mount *m, struct err *err)
{
    const size_t bytes = (size_t)SOURCE_MOUNT_THREADS * SLOT_BYTES;
    void *pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (pool == MAP_FAILED)
        return err_errno(err, errno, "making the pool of request buffers");
    m->pool = pool;
    madvise(pool, bytes, MADV_DONTFORK);
    madvise(pool, bytes, MADV_NOHUGEPAGE);
    if (mlock(pool, bytes) < 0)
        log_warning("cannot lock the request buffers: %m; raise LimitMEMLOCK");
    memset(pool, 0, bytes);
    for (unsigned i = 0; i < SOURCE_MOUNT_THREADS; i++)
        m->servers[i] = (struct server){.mount = m,
                                        .slot = m->pool + (size_t)i * SLOT_BYTES,
                                        .in_hand = &m->inherited->page->suspects.in_hand[i]};
    return true;
}

/* The lock of a dead worker goes only when its last I/O has ended: else an old write lands on newer
 * data. It is this worker's own open file description that holds it, and it is never given back
 * before the description goes. */
static bool disk_lock(const struct source *source, size_t disk, bool first_start, struct err *err)
{
    int fd = source_disk_fd(source, disk);
    int result = flock(fd, LOCK_EX | LOCK_NB);

    for (int i = 0; first_start && result < 0 && errno == EWOULDBLOCK && i < LOCK_TRIES; i++) {
        usleep(LOCK_TRY_US);
        result = flock(fd, LOCK_EX | LOCK_NB);
    }
    if (result == 0)
        return true;
    if (errno == EWOULDBLOCK && first_start)
        return err_set(err, ERR_BUSY,
                       "disk %s: another process holds a lock (flock) on its local file; end it",
                       source_disk_name(source, disk));
    do
        result = flock(fd, LOCK_EX);
    while (result < 0 && errno == EINTR);
    return result == 0 ||
           err_errno(err, errno, "disk %s: locking its local file", source_disk_name(source, disk));
}

static bool disks_lock(const struct source *source, bool first_start, struct err *err)
{
    for (size_t i = 0; i < source_disks(source); i++)
        if (!disk_lock(source, i, first_start, err))
            return false;
    return true;
}

static bool session_make(struct source_mount *m, struct err *err)
{
    char name[] = "farshore", path[32];
    char *argv[] = {name, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);

    m->session =
        fuse_session_new(&args, &source_mount_operations, sizeof source_mount_operations, &m->ops);
    fuse_opt_free_args(&args); /* libfuse replaced them by its own */
    if (m->session == NULL)
        return err_set(err, ERR_INVALID, "libfuse refused the session");
    /* Of its own: libfuse closes it. The same open file, not a clone. */
    int fd = fcntl(m->inherited->fuse_fd, F_DUPFD_CLOEXEC, KEPT_FD_FLOOR);
    if (fd < 0)
        return err_errno(err, errno, "duplicating /dev/fuse");
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    if (fuse_session_mount(m->session, path) < 0) {
        close(fd);
        return err_set(err, ERR_INVALID, "libfuse refused the connection");
    }
    return handshake_replay(m->session, m->inherited->page, err);
}

static bool mount_prepare(struct source_mount *m, struct err *err)
{
    if (pthread_key_create(&m->ops.buffer, NULL) != 0)
        return err_set(err, ERR_FULL, "no thread key is left");
    m->key_made = true;
    m->wake_fd = eventfd(0, EFD_CLOEXEC);
    m->keeper_fd = fcntl(KEPT_PEER_FD, F_DUPFD_CLOEXEC, KEPT_FD_FLOOR);
    if (m->wake_fd < 0 || m->keeper_fd < 0)
        return err_errno(err, errno, "preparing the mount");
    return pool_make(m, err);
}

bool source_mount_open(struct source *source, const struct worker_inheritance *inherited,
                       struct source_mount **out, struct err *err)
{
    struct source_mount *m CLEANUP(source_mount_close) = calloc(1, sizeof *m);
    bool first_start = inherited->restarts == 0;

    if (m == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    m->ops.source = source;
    m->inherited = inherited;
    m->wake_fd = m->keeper_fd = -1;
    pthread_mutex_init(&m->quarantine, NULL);
    if (!mount_prepare(m, err) || !disks_lock(source, first_start, err) || !session_make(m, err))
        return false;
    if (!first_start && handshake_can_resend(inherited->page) &&
        !handshake_resend(inherited->fuse_fd, err))
        return false;
    *out = TAKE(m);
    return true;
}

void source_mount_close(struct source_mount **mount)
{
    struct source_mount *m = TAKE(*mount);

    if (m == NULL)
        return;
    assert(m->started == 0);
    if (m->session != NULL)
        fuse_session_destroy(m->session);
    if (m->pool != NULL)
        munmap(m->pool, (size_t)SOURCE_MOUNT_THREADS * SLOT_BYTES);
    if (m->key_made)
        pthread_key_delete(m->ops.buffer);
    if (m->wake_fd >= 0)
        close(m->wake_fd);
    if (m->keeper_fd >= 0)
        close(m->keeper_fd);
    pthread_mutex_destroy(&m->quarantine);
    free(m);
}
