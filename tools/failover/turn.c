/* SPDX-License-Identifier: MIT */
#include "tools/failover/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define TURN_TEXT_MAX 96u
#define LOOK_NS       50000000l

/* Who has it, for people: what cannot be written or read is only not shown. */
static void note_owner(int fd, const char *verb)
{
    char text[TURN_TEXT_MAX];
    int length = snprintf(text, sizeof text, "process %ld, farshore %.40s", (long)getpid(), verb);
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, (size_t)length, 0);
}

static void read_owner(int fd, char out[TURN_TEXT_MAX])
{
    ssize_t n = pread(fd, out, TURN_TEXT_MAX - 1, 0);
    out[n > 0 ? n : 0] = '\0';
}

bool turn_take(struct world *w, const struct paths *p, const char *vm, const char *verb,
               uint64_t wait_ms, int *fd, struct err *err)
{
    char path[PATH_BYTES_MAX], owner[TURN_TEXT_MAX];
    uint64_t end_ns = w->ops->boottime_ns(w) + wait_ms * 1000000;
    int made AUTO_FD = -1;

    if (!dir_make(w, p->run, 0700, err))
        return false;
    snprintf(path, sizeof path, "%s/%.*s.turn", p->run, (int)VM_NAME_MAX, vm);
    made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (made < 0)
        return err_errno(err, errno, "%s", path);
    while (flock(made, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(err, errno, "%s", path);
        if (w->ops->boottime_ns(w) >= end_ns) {
            read_owner(made, owner);
            return err_set(err, ERR_BUSY,
                           "%s of this host is at work on %s: try again when it has ended, "
                           "farshore jobs %s shows it",
                           owner[0] ? owner : "another process", vm, vm);
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    note_owner(made, verb);
    *fd = made;
    made = -1;
    return true;
}
