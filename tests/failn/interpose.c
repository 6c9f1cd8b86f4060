/* SPDX-License-Identifier: MIT
 * The gate of failn.h. Defines malloc and its kin for the whole program, over the allocator of libc
 * or of the sanitizer, and __wrap_NAME for every call that the linker is told to wrap. Allocates
 * nothing. */
#include "tests/failn/failn.h"

#include "backend/store/store.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

const char *const failn_class_names[FAILN_CLASSES] = {"alloc", "call", "store"};
const char *const failn_mode_names[] = {"record", "once", "ever", "open"};

extern const char __executable_start, etext; /* the linker's */

static struct failn_gate *the_gate;
static atomic_bool armed;
static uintptr_t the_root;
static _Thread_local bool inside; /* the gate's own work passes */
/* So does what a sanitizer does before a thread is the program's, and after. */
static _Thread_local bool ours = !SANITIZED;

static void *shared(size_t bytes, int flags, int fd)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

void *failn_shared(size_t bytes)
{
    return shared(bytes, MAP_ANONYMOUS, -1);
}

struct failn_gate *failn_gate_of(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct failn_gate)) != 0)
        abort();
    struct failn_gate *gate = shared(sizeof *gate, 0, fd);
    close(fd);
    return gate;
}

void failn_use(struct failn_gate *gate)
{
    the_gate = gate;
}

void failn_arm(uintptr_t root)
{
    the_root = root;
    ours = true;
    atomic_store(&armed, true);
}

void failn_disarm(void)
{
    atomic_store(&armed, false);
}

/* --- stacks --- */

struct walk {
    uint32_t frames[FAILN_FRAMES_MAX];
    size_t count;
    bool deep;
    uint64_t hash;
};

/* FNV-1a. */
static void add_hash(struct walk *w, uint64_t value)
{
    for (unsigned shift = 0; shift < 64; shift += 8)
        w->hash = (w->hash ^ (value >> shift & 0xff)) * 0x100000001b3u;
}

static _Unwind_Reason_Code take_frame(struct _Unwind_Context *context, void *argument)
{
    struct walk *w = argument;
    struct dl_find_object library;
    uintptr_t at = _Unwind_GetIP(context), start = (uintptr_t)&__executable_start;
    if (_Unwind_GetRegionStart(context) == the_root)
        return _URC_END_OF_STACK;
    if (at >= start && at < (uintptr_t)&etext) {
        w->frames[w->count++] = (uint32_t)(at - start);
        add_hash(w, at - start);
    } else if (w->deep && _dl_find_object((void *)at, &library) == 0) {
        add_hash(w, at - library.dlfo_link_map->l_addr);
    }
    return w->count < FAILN_FRAMES_MAX ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static void note(struct failn_gate *g, enum failn_class kind, const char *name,
                 const struct walk *w)
{
    uint64_t hash = w->hash;
    while (atomic_exchange(&g->lock, 1))
        sched_yield();
    size_t i = hash % FAILN_STACKS_MAX, tries = 0;
    while (g->stacks[i].hash != 0 && g->stacks[i].hash != hash && ++tries < FAILN_STACKS_MAX)
        i = (i + 1) % FAILN_STACKS_MAX;
    struct failn_stack *s = &g->stacks[i];
    if (s->hash == 0) {
        *s = (struct failn_stack){.hash = hash, .kind = kind};
        strncpy(s->name, name, sizeof s->name - 1);
        memcpy(s->frames, w->frames, w->count * sizeof *w->frames);
    }
    g->overflow |= s->hash != hash;
    s->calls++;
    atomic_store(&g->lock, 0);
}

/* Frames of the gate itself come first: of a wrapper one, of an allocation its own. */
static bool stack_fails(struct failn_gate *g, enum failn_class kind, const char *name)
{
    struct walk w = {.deep = g->deep, .hash = 0xcbf29ce484222325u};
    bool expected = false;
    for (const char *c = name; *c; c++)
        add_hash(&w, (uint64_t)*c);
    _Unwind_Backtrace(take_frame, &w);
    if (g->mode != FAILN_RECORD)
        return w.hash == g->target && atomic_compare_exchange_strong(&g->fired, &expected, true);
    note(g, kind, name, &w);
    return false;
}

/* Whether the call fails. */
static bool gate(enum failn_class kind, const char *name)
{
    struct failn_gate *g = the_gate;
    if (!atomic_load_explicit(&armed, memory_order_relaxed) || g == NULL || inside || !ours ||
        g->mode == FAILN_OPEN)
        return false;
    bool fails = false;
    inside = true;
    if (g->mode == FAILN_RECORD || (!atomic_load(&g->fired) && kind == g->kind))
        fails = stack_fails(g, kind, name);
    else if (g->mode == FAILN_EVER && kind == g->kind)
        fails = atomic_load(&g->fired);
    if (fails)
        atomic_fetch_add(&g->failed, 1);
    inside = false;
    return fails;
}

/* --- allocations --- */

#if SANITIZED
#define BELOW(name) __interceptor_##name
#else
#define BELOW(name) __libc_##name
#endif
void *BELOW(malloc)(size_t bytes);
void *BELOW(calloc)(size_t count, size_t bytes);
void *BELOW(realloc)(void *old, size_t bytes);
void *BELOW(memalign)(size_t alignment, size_t bytes);

static bool no_memory(const char *name)
{
    if (!gate(FAILN_ALLOC, name))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    return no_memory("malloc") ? NULL : BELOW(malloc)(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return no_memory("calloc") ? NULL : BELOW(calloc)(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return no_memory("realloc") ? NULL : BELOW(realloc)(old, bytes);
}

void *reallocarray(void *old, size_t count, size_t bytes)
{
    size_t sum;
    bool passes = !__builtin_mul_overflow(count, bytes, &sum) && !no_memory("realloc");
    return passes ? BELOW(realloc)(old, sum) : NULL;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return no_memory("aligned_alloc") ? NULL : BELOW(memalign)(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    if (no_memory("posix_memalign"))
        return ENOMEM;
    *out = BELOW(memalign)(alignment, bytes);
    return *out ? 0 : ENOMEM;
}

char *strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = no_memory("strdup") ? NULL : BELOW(malloc)(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

char *strndup(const char *text, size_t most)
{
    size_t length = strnlen(text, most);
    char *copy = no_memory("strdup") ? NULL : BELOW(malloc)(length + 1);
    if (copy == NULL)
        return NULL;
    copy[length] = '\0';
    return memcpy(copy, text, length);
}

/* --- calls of the system --- */

#define CALL(result, name, parameters, arguments, failure, number)                                 \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters                                                                \
    {                                                                                              \
        if (!gate(FAILN_CALL, #name))                                                              \
            return __real_##name arguments;                                                        \
        errno = number;                                                                            \
        return failure;                                                                            \
    }

CALL(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int how), (fd, a, n, how), -1, EMFILE)
CALL(int, access, (const char *p, int mode), (p, mode), -1, EIO)
CALL(int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1, EADDRINUSE)
CALL(int, chdir, (const char *p), (p), -1, EIO)
CALL(int, chmod, (const char *p, mode_t mode), (p, mode), -1, EIO)
CALL(int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1, ECONNREFUSED)
CALL(int, dup2, (int from, int to), (from, to), -1, EMFILE)
CALL(int, eventfd, (unsigned n, int flags), (n, flags), -1, EMFILE)
CALL(int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), -1, ENOSPC)
CALL(int, fchmod, (int fd, mode_t mode), (fd, mode), -1, EIO)
CALL(int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g), -1, EPERM)
CALL(int, fdatasync, (int fd), (fd), -1, EIO)
CALL(int, flock, (int fd, int how), (fd, how), -1, ENOLCK)
CALL(FILE *, fopen64, (const char *p, const char *how), (p, how), NULL, EMFILE)
CALL(pid_t, fork, (void), (), -1, EAGAIN)
CALL(int, fstat64, (int fd, struct stat *st), (fd, st), -1, EIO)
CALL(int, fstatat64, (int fd, const char *p, struct stat *st, int how), (fd, p, st, how), -1, EIO)
CALL(int, fsync, (int fd), (fd), -1, EIO)
CALL(int, ftruncate64, (int fd, off_t n), (fd, n), -1, ENOSPC)
CALL(int, futimens, (int fd, const struct timespec t[2]), (fd, t), -1, EIO)
CALL(char *, getcwd, (char *out, size_t n), (out, n), NULL, EIO)
CALL(int, gethostname, (char *out, size_t n), (out, n), -1, EIO)
CALL(ssize_t, getrandom, (void *out, size_t n, unsigned how), (out, n, how), -1, EIO)
CALL(int, link, (const char *from, const char *to), (from, to), -1, ENOSPC)
CALL(int, listen, (int fd, int n), (fd, n), -1, EADDRINUSE)
CALL(off_t, lseek64, (int fd, off_t at, int from), (fd, at, from), -1, EIO)
CALL(int, madvise, (void *at, size_t n, int how), (at, n, how), -1, ENOMEM)
CALL(int, memfd_create, (const char *name, unsigned how), (name, how), -1, EMFILE)
CALL(int, mkdir, (const char *p, mode_t mode), (p, mode), -1, ENOSPC)
CALL(int, mlock, (const void *at, size_t n), (at, n), -1, ENOMEM)
CALL(int, mlockall, (int how), (how), -1, ENOMEM)
CALL(void *, mmap64, (void *at, size_t n, int prot, int how, int fd, off_t from),
     (at, n, prot, how, fd, from), MAP_FAILED, ENOMEM)
CALL(int, mount,
     (const char *from, const char *to, const char *type, unsigned long how, const void *data),
     (from, to, type, how, data), -1, EPERM)
CALL(DIR *, opendir, (const char *p), (p), NULL, EMFILE)
CALL(int, pipe2, (int fd[2], int how), (fd, how), -1, EMFILE)
CALL(int, poll, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms), -1, ENOMEM)
CALL(int, posix_fadvise64, (int fd, off_t at, off_t n, int how), (fd, at, n, how), EIO, EIO)
CALL(int, posix_spawn,
     (pid_t * pid, const char *p, const posix_spawn_file_actions_t *files,
      const posix_spawnattr_t *a, char *const *argv, char *const *env),
     (pid, p, files, a, argv, env), EAGAIN, EAGAIN)
CALL(int, posix_spawnp,
     (pid_t * pid, const char *p, const posix_spawn_file_actions_t *files,
      const posix_spawnattr_t *a, char *const *argv, char *const *env),
     (pid, p, files, a, argv, env), EAGAIN, EAGAIN)
CALL(ssize_t, pread64, (int fd, void *out, size_t n, off_t at), (fd, out, n, at), -1, EIO)
CALL(ssize_t, pwrite64, (int fd, const void *in, size_t n, off_t at), (fd, in, n, at), -1, ENOSPC)
CALL(ssize_t, read, (int fd, void *out, size_t n), (fd, out, n), -1, EIO)
CALL(struct dirent *, readdir64, (DIR * d), (d), NULL, EIO)
CALL(ssize_t, readlink, (const char *p, char *out, size_t n), (p, out, n), -1, EIO)
CALL(char *, realpath, (const char *p, char *out), (p, out), NULL, EIO)
CALL(ssize_t, recv, (int fd, void *out, size_t n, int how), (fd, out, n, how), -1, ECONNRESET)
CALL(int, remove, (const char *p), (p), -1, EIO)
CALL(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)
CALL(int, rmdir, (const char *p), (p), -1, EIO)
CALL(ssize_t, send, (int fd, const void *in, size_t n, int how), (fd, in, n, how), -1, EPIPE)
CALL(int, signalfd, (int fd, const sigset_t *set, int how), (fd, set, how), -1, EMFILE)
CALL(int, socket, (int family, int type, int protocol), (family, type, protocol), -1, EMFILE)
CALL(int, stat64, (const char *p, struct stat *st), (p, st), -1, EIO)
CALL(int, statvfs64, (const char *p, struct statvfs *st), (p, st), -1, EIO)
CALL(int, umount2, (const char *p, int how), (p, how), -1, EBUSY)
CALL(int, unlink, (const char *p), (p), -1, EIO)
CALL(int, waitid, (idtype_t type, id_t id, siginfo_t *info, int how), (type, id, info, how), -1,
     EINVAL)
CALL(ssize_t, write, (int fd, const void *in, size_t n), (fd, in, n), -1, ENOSPC)

CALL(ssize_t, writev, (int fd, const struct iovec *in, int n), (fd, in, n), -1, EIO)

/* With a last argument that may be left out. */
#define CALL_MORE(name, type, after, parameters, arguments, number)                                \
    int __real_##name parameters;                                                                  \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        va_list list;                                                                              \
        va_start(list, after);                                                                     \
        type more = va_arg(list, type);                                                            \
        va_end(list);                                                                              \
        if (!gate(FAILN_CALL, #name))                                                              \
            return __real_##name arguments;                                                        \
        errno = number;                                                                            \
        return -1;                                                                                 \
    }

CALL_MORE(open64, mode_t, flags, (const char *p, int flags, ...), (p, flags, more), EMFILE)
CALL_MORE(fcntl64, void *, what, (int fd, int what, ...), (fd, what, more), ENOLCK)
CALL_MORE(ioctl, void *, what, (int fd, unsigned long what, ...), (fd, what, more), EIO)

/* As many arguments as there may be: who takes fewer reads no others. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (!gate(FAILN_CALL, "syscall"))
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errno = EMFILE;
    return -1;
}

int __wrap_dprintf(int fd, const char *format, ...);
int __wrap_dprintf(int fd, const char *format, ...)
{
    if (gate(FAILN_CALL, "dprintf")) {
        errno = ENOSPC;
        return -1;
    }
    va_list list;
    va_start(list, format);
    int length = vdprintf(fd, format, list);
    va_end(list);
    return length;
}

struct thread {
    void *(*run)(void *);
    void *context;
};

static void *run_thread(void *argument)
{
    struct thread t = *(struct thread *)argument;
    free(argument);
    ours = true;
    void *result = t.run(t.context);
    ours = !SANITIZED;
    return result;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *a, void *(*run)(void *),
                          void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *a, void *(*run)(void *),
                          void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *a, void *(*run)(void *),
                          void *context)
{
    if (gate(FAILN_CALL, "pthread_create"))
        return EAGAIN;
    struct thread *t = BELOW(malloc)(sizeof *t);
    if (t == NULL)
        return EAGAIN;
    *t = (struct thread){run, context};
    int failed = __real_pthread_create(thread, a, run_thread, t);
    if (failed != 0)
        free(t);
    return failed;
}

/* --- calls of stores --- */

#define STORE(name, parameters, arguments)                                                         \
    bool __real_store_##name parameters;                                                           \
    bool __wrap_store_##name parameters;                                                           \
    bool __wrap_store_##name parameters                                                            \
    {                                                                                              \
        return gate(FAILN_STORE, "store_" #name)                                                   \
                   ? err_set(err, ERR_TRANSIENT, "store %s: out of reach", s->url)                 \
                   : __real_store_##name arguments;                                                \
    }

STORE(put, (struct store * s, const char *key, struct span body, struct err *err),
      (s, key, body, err))
STORE(put_digested,
      (struct store * s, const char *key, struct span body, const struct sha256 *digest,
       struct err *err),
      (s, key, body, digest, err))
STORE(get, (struct store * s, const char *key, uint64_t offset, struct mspan out, struct err *err),
      (s, key, offset, out, err))
STORE(size, (struct store * s, const char *key, uint64_t *bytes, struct err *err),
      (s, key, bytes, err))
STORE(list,
      (struct store * s, const char *prefix, const char *after, store_list_fn *each, void *context,
       struct err *err),
      (s, prefix, after, each, context, err))
STORE(remove, (struct store * s, const char *key, struct err *err), (s, key, err))
STORE(load, (struct store * s, const char *key, size_t bytes_max, struct buf *out, struct err *err),
      (s, key, bytes_max, out, err))

/* --- time --- */

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __real_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_usleep(useconds_t us);
int __real_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until);

static bool real_time(void)
{
    return the_gate == NULL || the_gate->real_time;
}

static uint64_t ns_of(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * NS_PER_S + (uint64_t)t->tv_nsec;
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

static uint64_t passed_ns(void)
{
    return real_time() ? 0 : atomic_load(&the_gate->passed_ns);
}

static void pass_ns(uint64_t ns)
{
    if (the_gate)
        atomic_fetch_add(&the_gate->passed_ns, ns);
}

void failn_pass_ms(uint64_t ms)
{
    pass_ns(ms * NS_PER_MS);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    int result = __real_clock_gettime(clock, out);
    *out = time_of(ns_of(out) + passed_ns());
    return result;
}

int __wrap_nanosleep(const struct timespec *pause, struct timespec *left)
{
    if (real_time())
        return __real_nanosleep(pause, left);
    pass_ns(ns_of(pause));
    sched_yield(); /* who waits for another thread this way lets it run */
    return 0;
}

int __wrap_usleep(useconds_t us)
{
    return __wrap_nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

/* Of conditions that go by CLOCK_MONOTONIC, as all do that wait with a deadline
 * (common/deadline.h). */
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until)
{
    struct timespec now;
    if (real_time())
        return __real_pthread_cond_timedwait(c, m, until);
    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t begin_ns = ns_of(&now), ahead_ns = passed_ns(), end_ns = ns_of(until);
    if (end_ns <= begin_ns + ahead_ns)
        return ETIMEDOUT;
    bool watch = end_ns - begin_ns - ahead_ns >= FAILN_WATCH_MS * NS_PER_MS;
    uint64_t patient_ns = begin_ns + (watch ? FAILN_BOUND_MS : FAILN_PATIENCE_MS) * NS_PER_MS;
    struct timespec real_end =
        time_of(end_ns - ahead_ns < patient_ns ? end_ns - ahead_ns : patient_ns);
    int result = __real_pthread_cond_timedwait(c, m, &real_end);
    if (result == ETIMEDOUT && end_ns > patient_ns + passed_ns())
        pass_ns(end_ns - patient_ns - passed_ns());
    return result;
}
