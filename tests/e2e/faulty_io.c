/* SPDX-License-Identifier: MIT
 * Preloaded into farshore (LD_PRELOAD), it spoils file I/O as the files of the folder $FAULTY_IO
 * say. Each is named for a call (pread, pwrite, fdatasync, fsync, fallocate, link, unlink) and
 * holds one line, ACTION COUNT OFFSET PATH. It concerns calls on files whose path begins with PATH
 * (of link, the new name) that touch the byte OFFSET (-1: any). COUNT 0: each of them, while the
 * rule is there; COUNT n: the nth from now, and with it the rule goes. What happens, by ACTION:
 *   eio          the call fails
 *   slow         it takes 20 ms longer
 *   hold         it waits until the file `held`, which it makes, is gone again
 *   kill         the process gets SIGKILL before the call is made
 *   kill-after   ... after it
 *   abort        the process aborts */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOW_US 20000

struct rule {
    char action[16];
    unsigned count;
    long long offset;
    char path[PATH_MAX];
};

/* Guards the rule files within the process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool rule_path(const char *name, char out[PATH_MAX])
{
    const char *folder = getenv("FAULTY_IO");

    return folder != NULL && snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static bool rule_read(const char *file, struct rule *r)
{
    FILE *f = fopen(file, "re");

    if (f == NULL)
        return false;
    bool good = fscanf(f, "%15s %u %lld %4095s", r->action, &r->count, &r->offset, r->path) == 4;
    fclose(f);
    return good;
}

static void rule_write(const char *file, const struct rule *r)
{
    char fresh[PATH_MAX + 8];

    snprintf(fresh, sizeof fresh, "%s.new", file);
    FILE *f = fopen(fresh, "we");
    if (f == NULL || fprintf(f, "%s %u %lld %s\n", r->action, r->count, r->offset, r->path) < 0 ||
        fclose(f) != 0 || rename(fresh, file) != 0)
        abort();
}

static bool concerns(const struct rule *r, const char *path, off_t offset, off_t length)
{
    return strncmp(path, r->path, strlen(r->path)) == 0 &&
           (r->offset < 0 || (r->offset >= offset && r->offset < offset + length));
}

/* Counts the call; true when it is the one that is hit. */
static bool hit(const char *call, const char *path, off_t offset, off_t length, struct rule *r)
{
    char file[PATH_MAX];
    bool is = false;

    if (!rule_path(call, file))
        return false;
    int saved = errno;
    pthread_mutex_lock(&lock);
    if (rule_read(file, r) && concerns(r, path, offset, length)) {
        is = r->count <= 1;
        if (r->count == 1)
            syscall(SYS_unlink, file);
        else if (r->count > 1)
            r->count--, rule_write(file, r);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return is;
}

static void hold(void)
{
    char held[PATH_MAX];

    if (!rule_path("held", held))
        return;
    close(open(held, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    while (access(held, F_OK) == 0)
        usleep(1000);
}

enum verdict { GO_ON, FAIL, THEN_DIE };

static enum verdict verdict_on(const char *call, const char *path, off_t offset, off_t length)
{
    struct rule r;

    if (!hit(call, path, offset, length, &r))
        return GO_ON;
    if (strcmp(r.action, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(r.action, "abort") == 0)
        abort();
    if (strcmp(r.action, "slow") == 0)
        usleep(SLOW_US);
    if (strcmp(r.action, "hold") == 0)
        hold();
    return strcmp(r.action, "eio") == 0          ? FAIL
           : strcmp(r.action, "kill-after") == 0 ? THEN_DIE
                                                 : GO_ON;
}

static enum verdict verdict_on_fd(const char *call, int fd, off_t offset, off_t length)
{
    char link[64], path[PATH_MAX];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (n < 0)
        return GO_ON;
    path[n] = '\0';
    return verdict_on(call, path, offset, length);
}

static long spoiled(enum verdict verdict, long number, long a, long b, long c, long d)
{
    if (verdict == FAIL) {
        errno = EIO;
        return -1;
    }
    long result = syscall(number, a, b, c, d);
    if (verdict == THEN_DIE)
        kill(getpid(), SIGKILL);
    return result;
}

ssize_t pread(int fd, void *out, size_t length, off_t offset)
{
    return spoiled(verdict_on_fd("pread", fd, offset, (off_t)length), SYS_pread64, fd, (long)out,
                   (long)length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return spoiled(verdict_on_fd("pwrite", fd, offset, (off_t)length), SYS_pwrite64, fd, (long)data,
                   (long)length, offset);
}

int fdatasync(int fd)
{
    return (int)spoiled(verdict_on_fd("fdatasync", fd, 0, 0), SYS_fdatasync, fd, 0, 0, 0);
}

int fsync(int fd)
{
    return (int)spoiled(verdict_on_fd("fsync", fd, 0, 0), SYS_fsync, fd, 0, 0, 0);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return (int)spoiled(verdict_on_fd("fallocate", fd, offset, length), SYS_fallocate, fd, mode,
                        offset, length);
}

int link(const char *from, const char *to)
{
    return (int)spoiled(verdict_on("link", to, 0, 0), SYS_link, (long)from, (long)to, 0, 0);
}

int unlink(const char *path)
{
    return (int)spoiled(verdict_on("unlink", path, 0, 0), SYS_unlink, (long)path, 0, 0, 0);
}
