/* SPDX-License-Identifier: MIT */
#include "common/deadline.h"

#include <errno.h>
#include <unistd.h>

#define NS_PER_S 1000000000

void deadline_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(c, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct timespec deadline_after(uint64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= NS_PER_S) {
        t.tv_sec++;
        t.tv_nsec -= NS_PER_S;
    }
    return t;
}

int poll_paced(struct pollfd *fds, nfds_t count, int ms)
{
    int ready = poll(fds, count, ms);
    if (ready < 0 && errno != EINTR) {
        int why = errno;
        usleep(POLL_FAILED_MS * 1000);
        errno = why;
    }
    return ready;
}
