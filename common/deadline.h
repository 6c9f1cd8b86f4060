/* SPDX-License-Identifier: MIT
 * Waiting with an end, on the clock that no one sets: a condition variable that counts by
 * CLOCK_MONOTONIC, and moments of it; and waiting for descriptors. Any thread may call. */
#ifndef COMMON_DEADLINE_H
#define COMMON_DEADLINE_H

#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* For pthread_cond_timedwait with the moments below. */
void deadline_cond_init(pthread_cond_t *c);
struct timespec deadline_after(uint64_t ms);

/* poll() for who looks again whatever it says: a call that fails, other than by a signal, takes
 * POLL_FAILED_MS, so that none of them spins. */
#define POLL_FAILED_MS 100u
int poll_paced(struct pollfd *fds, nfds_t count, int ms);

#endif
