/* SPDX-License-Identifier: MIT
 * Waiting with an end, on the clock that no one sets: a condition variable that counts by
 * CLOCK_MONOTONIC, and moments of it. Any thread may call. */
#ifndef COMMON_DEADLINE_H
#define COMMON_DEADLINE_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* For pthread_cond_timedwait with the moments below. */
void deadline_cond_init(pthread_cond_t *c);
struct timespec deadline_after(uint64_t ms);

#endif
