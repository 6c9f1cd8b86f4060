/* SPDX-License-Identifier: MIT */
#include "fs/mount/source_mount.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "fs/mount/slots.h"
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

_Static_assert(SLOT_COUNT <= SUSPECT_THREADS_MAX, "every thread needs its place");

/* Interrupts a thread's read() of /dev/fuse. */
#define WAKE_SIGNAL     SIGUSR2
#define WAKE_AGAIN_MS   10
#define LOOK_AGAIN_MS   5000 /* servers that could not say that they have ended are seen to have */
#define KEEPER_AGAIN_MS 1000 /* a new keeper could not be started: how long until another try */
/* At the first start: a worker of a mount that was killed whole may still have I/O to end. */
#define LOCK_TRIES  100
#define LOCK_TRY_US 50000

/* Of one slot: NONE -start-> RUNS -its thread has nothing more to do-> ENDED -start (joins)-> RUNS
 */
enum server_life { SERVER_NONE, SERVER_RUNS, SERVER_ENDED };

struct server {
    struct source_mount *mount;
    pthread_t thread;
    struct slot *slot;         /* in the kept memory */
    _Atomic uint64_t *in_hand; /* in the keeper's page */
    enum server_life life;     /* guarded by crew_lock */
};

struct source_mount {
    struct source_ops ops;
    const struct worker_inheritance *inherited;
    struct fuse_session *session;
    bool key_made;

    int wake_fd;   /* eventfd: a server ended, or one of these was set: */
    int keeper_fd; /* pidfd of the keeper; -1: none could be started */
    atomic_bool stopping;
    atomic_bool restarting;
    atomic_bool unmounted;
    _Atomic int failed; /* errno of a read() that nobody expected */

    /* Held while a suspect is executed, I/O included: they run one at a time. */
    pthread_mutex_t quarantine;
    struct server servers[SLOT_COUNT];

    pthread_mutex_t crew_lock; /* guards the servers' lives, and changes of: */
    _Atomic unsigned running;
    _Atomic unsigned waiting; /* of them, for long (long_wait.h) */
};

static void server_waits(struct source_mount *m, bool waits);

/* ---- one request ---- */

/* An answer that the kernel did not take, while somebody waits for it: as it has no memory for a
 * moment. He would wait for ever; the next worker answers him, and in the end with an I/O error. */
static void check_sent(ssize_t sent)
{
    /* ENOENT: the asker was killed meanwhile, or has the answer. The others: unmounted. */
    static const int nobody_waits[] = {ENOENT, ENODEV, ECONNABORTED, ENOTCONN, EPERM};
    const int errnum = errno;

    if (sent >= 0)
        return;
    for (size_t i = 0; i < sizeof nobody_waits / sizeof *nobody_waits; i++)
        if (errnum == nobody_waits[i])
            return;
    log_error("cannot answer a FUSE request, the next worker will: %m");
    _exit(1);
}

/* Every answer, libfuse's too, by way of the calling thread's slot. The slot's data are the
 * thread's buffer; the main thread, which answers the replayed FUSE_INIT, has none. */
static ssize_t reply_send(int fd, struct iovec *iov, int count, void *userdata)
{
    const struct source_ops *ops = userdata;
    uint8_t *buffer = pthread_getspecific(ops->buffer);

    ssize_t sent = buffer == NULL
                       ? writev(fd, iov, count)
                       : slot_answer((struct slot *)(void *)(buffer - offsetof(struct slot, data)),
                                     fd, iov, (size_t)count);
    check_sent(sent);
    return sent;
}

/* libfuse wants it and never calls it: the servers read. */
static ssize_t read_unused(int fd, void *data, size_t bytes, void *userdata)
{
    (void)userdata;
    return read(fd, data, bytes);
}

static void reply_raw(struct server *s, uint64_t unique, int errnum)
{
    struct fuse_out_header out = {.len = sizeof out, .error = -errnum, .unique = unique};
    struct iovec iov = {.iov_base = &out, .iov_len = sizeof out};

    (void)reply_send(s->mount->inherited->fuse_fd, &iov, 1, &s->mount->ops);
}

static bool wants_no_reply(uint32_t opcode)
{
    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

static void execute(struct server *s, size_t length)
{
    fuse_session_process_buf(s->mount->session,
                             &(struct fuse_buf){.mem = slot_request(s->slot), .size = length});
}

/* A request that workers died on. */
static void execute_suspect(struct server *s, const struct fuse_in_header *in, size_t length,
                            uint32_t deaths)
{
    struct suspects *suspects = &s->mount->inherited->page->suspects;
    uint64_t unique = in->unique & ~MOUNT_UNIQUE_RESENT;

    server_waits(s->mount, true); /* the one before may wait for long */
    LOCK_SCOPE(&s->mount->quarantine);
    server_waits(s->mount, false);
    if (deaths >= SUSPECT_DEATHS_MAX) {
        log_error("request %" PRIu64 " (opcode %u, inode %" PRIu64 ") ended %u workers: answered "
                  "with an I/O error",
                  unique, in->opcode, in->nodeid, deaths);
        if (!wants_no_reply(in->opcode))
            reply_raw(s, in->unique, EIO);
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
    const struct fuse_in_header in = s->slot->in;

    /* No request lasts; told so once, the kernel asks no more. */
    if (in.opcode == FUSE_INTERRUPT)
        return reply_raw(s, in.unique, ENOSYS);
    uint64_t unique = in.unique & ~MOUNT_UNIQUE_RESENT;
    uint32_t deaths = suspects_deaths(&s->mount->inherited->page->suspects, unique);
    if (deaths > 0)
        return execute_suspect(s, &in, length, deaths);
    atomic_store_explicit(s->in_hand, unique, memory_order_release);
    execute(s, length);
    atomic_store_explicit(s->in_hand, 0, memory_order_release);
}

static void reply_again(struct server *s)
{
    const struct worker_inheritance *inherited = s->mount->inherited;
    struct span reply = slot_reply(s->slot);

    check_sent(write(inherited->fuse_fd, reply.data, reply.length));
    LOCK_SCOPE(&s->mount->quarantine);
    suspects_clear(&inherited->page->suspects, s->slot->in.unique);
}

/* What the thread's predecessor had in hand when it died. */
static void handle_kept(struct server *s)
{
    const struct fuse_in_header in = s->slot->in;

    switch (slot_state(s->slot)) {
    case SLOT_FREE:
        break;
    case SLOT_TAKEN:
        handle(s, in.len);
        break;
    case SLOT_EXECUTED:
        reply_again(s);
        break;
    case SLOT_DAMAGED:
        log_error("request %" PRIu64 " was damaged by the worker that died: answered with an I/O "
                  "error",
                  in.unique);
        reply_raw(s, in.unique, EIO);
        break;
    }
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

static bool server_is_wanted(const struct source_mount *m)
{
    return !atomic_load(&m->stopping) && m->running - m->waiting <= SERVERS_MAX + SERVERS_SPARE;
}

/* Whether this server may go on. It ends when others that had to wait are back, and are enough.
 * Asked before each request: without the lock, which decides only that one is too many. */
static bool server_goes_on(struct server *s)
{
    struct source_mount *m = s->mount;

    if (server_is_wanted(m))
        return true;
    LOCK_SCOPE(&m->crew_lock);
    if (server_is_wanted(m))
        return true;
    s->life = SERVER_ENDED;
    m->running--;
    return false;
}

static void server_ends(struct server *s)
{
    LOCK_SCOPE(&s->mount->crew_lock);
    s->life = SERVER_ENDED;
    s->mount->running--;
}

static void *serve_requests(void *argument)
{
    struct server *s = argument;
    struct source_mount *m = s->mount;

    pthread_setspecific(m->ops.buffer, s->slot->data);
    handle_kept(s);
    for (slot_clear(s->slot); server_goes_on(s); slot_clear(s->slot)) {
        ssize_t length = read(m->inherited->fuse_fd, slot_request(s->slot), SLOT_REQUEST_MAX);
        if (length >= (ssize_t)sizeof(struct fuse_in_header)) {
            handle(s, (size_t)length);
        } else if (!read_failed(m, length < 0 ? errno : EPROTO)) {
            server_ends(s);
            break;
        }
    }
    wake(m);
    return NULL;
}

static void wake_signal_handler(int signal_number)
{
    (void)signal_number;
}

/* Locked, mapped in, never moved into huge pages: a worker that is killed while the kernel copies
 * into a page that is not there fails the request with EIO. (Shared memory: a fork copies nothing.)
 * What lies in the slot stays. */
static void slot_take(struct slot *slot)
{
    volatile uint8_t *bytes = (volatile uint8_t *)slot;

    madvise(slot, sizeof *slot, MADV_NOHUGEPAGE);
    if (mlock(slot, sizeof *slot) < 0)
        log_warning("cannot lock a request buffer: %m; raise LimitMEMLOCK");
    /* Written, so that every page is mapped in for writing. */
    for (size_t i = 0; i < sizeof *slot; i += SLOT_HEAD_BYTES)
        bytes[i] = bytes[i];
}

/* The errno of a failure. The thread inherits the caller's signals. */
static int server_start_locked(struct source_mount *m, struct server *s)
{
    assert(s->life != SERVER_RUNS);
    if (s->life == SERVER_ENDED)
        pthread_join(s->thread, NULL);
    s->life = SERVER_NONE;
    slot_take(s->slot);
    int failed = pthread_create(&s->thread, NULL, serve_requests, s);
    if (failed != 0)
        return failed;
    pthread_setname_np(s->thread, "farshore-fuse");
    s->life = SERVER_RUNS;
    m->running++;
    return 0;
}

/* Another one serves while a server waits for long, as long as there are slots. */
static void server_waits(struct source_mount *m, bool waits)
{
    LOCK_SCOPE(&m->crew_lock);
    if (waits)
        m->waiting++;
    else
        m->waiting--;
    if (!waits || m->running - m->waiting >= SERVERS_MAX || atomic_load(&m->stopping))
        return;
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        if (m->servers[i].life == SERVER_RUNS)
            continue;
        int failed = server_start_locked(m, &m->servers[i]);
        if (failed != 0)
            log_warning("no more threads to serve the mount: %s", strerror(failed));
        return;
    }
}

/* Of a thread that is no server, such as the shipper's, nobody waits for the slot. */
static void thread_waits(void *context, bool waits)
{
    struct source_mount *m = context;

    if (pthread_getspecific(m->ops.buffer) != NULL)
        server_waits(m, waits);
}

/* The servers take no signal but the one that wakes them. Without resending each slot that a dead
 * worker had a request in gets its server. */
static bool servers_start(struct source_mount *m, struct err *err)
{
    struct sigaction action = {.sa_handler = wake_signal_handler};
    sigset_t others, before;
    int failed = 0;

    sigaction(WAKE_SIGNAL, &action, NULL);
    sigfillset(&others);
    sigdelset(&others, WAKE_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    pthread_mutex_lock(&m->crew_lock);
    for (unsigned i = 0; i < SLOT_COUNT && failed == 0; i++)
        if (i < SERVERS_MAX || slot_state(m->servers[i].slot) != SLOT_FREE)
            failed = server_start_locked(m, &m->servers[i]);
    pthread_mutex_unlock(&m->crew_lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 || err_errno(err, failed, "starting the mount's threads");
}

static bool servers_ended(struct source_mount *m)
{
    LOCK_SCOPE(&m->crew_lock);
    return m->running == 0;
}

static void servers_interrupt(struct source_mount *m)
{
    LOCK_SCOPE(&m->crew_lock);
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        if (m->servers[i].life == SERVER_RUNS)
            pthread_kill(m->servers[i].thread, WAKE_SIGNAL);
}

static void servers_join(struct source_mount *m)
{
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        if (m->servers[i].life == SERVER_ENDED)
            pthread_join(m->servers[i].thread, NULL);
        m->servers[i].life = SERVER_NONE;
    }
}

/* ---- the keeper, seen from here ---- */

static void keeper_lost(struct source_mount *m)
{
    struct err err = ERR_NONE;

    if (m->keeper_fd >= 0) {
        siginfo_t unused;
        (void)waitid(P_PIDFD, (id_t)m->keeper_fd, &unused, WEXITED); /* if it was our child */
        close(m->keeper_fd);
    }
    m->keeper_fd = -1;
    if (!keeper_replace(m->inherited, &m->keeper_fd, &err))
        log_error("the keeper died and no other can be started: %s; until one can, the death of "
                  "this process would end the mount",
                  err.text);
}

/* The keeper may have been replaced: the next worker watches the one that is, or finds that the
 * first is dead. When it cannot be this process a keeper starts it. */
static void become_next(struct source_mount *m)
{
    if (m->keeper_fd < 0 || dup2(m->keeper_fd, KEPT_PEER_FD) >= 0)
        crew_exec_worker(m->inherited->page);
    if (m->keeper_fd >= 0)
        _exit(0);
}

/* Waits for something to do: a server that ended, stop, the keeper's death. */
static void serve_wait(struct source_mount *m)
{
    struct pollfd fds[] = {{.fd = m->wake_fd, .events = POLLIN},
                           {.fd = m->keeper_fd, .events = POLLIN}};
    uint64_t count;
    int timeout = m->keeper_fd < 0 ? KEEPER_AGAIN_MS : LOOK_AGAIN_MS;

    if (atomic_load(&m->stopping)) {
        servers_interrupt(m);
        timeout = WAKE_AGAIN_MS; /* one that was not yet in read() did not notice */
    }
    int ready = poll_paced(fds, sizeof fds / sizeof *fds, timeout);
    if (ready > 0 && fds[0].revents && read(m->wake_fd, &count, sizeof count) < 0)
        log_error("waiting for the mount's threads: %m");
    if (atomic_load(&m->stopping) || atomic_load(&m->unmounted))
        return;
    if (m->keeper_fd < 0 || (ready > 0 && fds[1].revents))
        keeper_lost(m);
    if (atomic_load(&m->restarting))
        become_next(m);
}

static void serve_stop(struct source_mount *m)
{
    atomic_store(&m->stopping, true);
    wake(m);
}

bool source_mount_serve(struct source_mount *m, struct err *err)
{
    bool ok = servers_start(m, err);

    if (!ok)
        serve_stop(m);
    while (!servers_ended(m)) {
        serve_wait(m);
        if (atomic_load(&m->failed) != 0)
            serve_stop(m);
    }
    servers_join(m);
    int failed = atomic_load(&m->failed);
    if (ok && failed != 0)
        return err_errno(err, failed, "reading requests from /dev/fuse");
    return ok;
}

void source_mount_restart(struct source_mount *m)
{
    atomic_store(&m->restarting, true);
    wake(m);
}

/* ---- adopting the connection ---- */

static void slots_lay_out(struct source_mount *m)
{
    struct slot *slots = (struct slot *)((uint8_t *)m->inherited->page + KEPT_SLOTS_OFFSET);

    for (unsigned i = 0; i < SLOT_COUNT; i++)
        m->servers[i] = (struct server){
            .mount = m, .slot = &slots[i], .in_hand = &m->inherited->page->suspects.in_hand[i]};
}

/* What a dead worker had in hand comes again: from the kernel, where it can do that, or else each
 * server begins with what lies in its slot. After the locks of the disks: I/O of the dead worker
 * from a slot has ended. */
static bool requests_recover(struct source_mount *m, struct err *err)
{
    if (!handshake_can_resend(m->inherited->page))
        return true;
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        slot_clear(m->servers[i].slot);
    return m->inherited->restarts == 0 || handshake_resend(m->inherited->fuse_fd, err);
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
    static const struct fuse_custom_io io = {.writev = reply_send, .read = read_unused};
    char name[] = "farshore";
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
    if (fuse_session_custom_io(m->session, &io, fd) != 0) {
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
    slots_lay_out(m);
    return true;
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
    pthread_mutex_init(&m->crew_lock, NULL);
    if (!mount_prepare(m, err) || !disks_lock(source, first_start, err) || !session_make(m, err) ||
        !requests_recover(m, err))
        return false;
    source_on_wait(source, (struct long_wait){.tell = thread_waits, .context = m});
    *out = TAKE(m);
    return true;
}

void source_mount_close(struct source_mount **mount)
{
    struct source_mount *m = TAKE(*mount);

    if (m == NULL)
        return;
    assert(m->running == 0);
    source_on_wait(m->ops.source, (struct long_wait){.tell = NULL});
    if (m->session != NULL)
        fuse_session_destroy(m->session);
    if (m->key_made)
        pthread_key_delete(m->ops.buffer);
    if (m->wake_fd >= 0)
        close(m->wake_fd);
    if (m->keeper_fd >= 0)
        close(m->keeper_fd);
    pthread_mutex_destroy(&m->quarantine);
    pthread_mutex_destroy(&m->crew_lock);
    free(m);
}
