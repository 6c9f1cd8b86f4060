/* SPDX-License-Identifier: MIT
 * Which request a worker had in hand when it died. It lies in memory that the keeper owns. A
 * request that was there at SUSPECT_DEATHS_MAX deaths is answered EIO by the next worker.
 *
 * Requests in hand at a death become suspects. A worker executes suspects one at a time, and a
 * death then counts for that one (and for fresh requests beside it), so that the innocent which
 * only ran beside a deadly request are cleared and never failed. Deaths by SIGKILL blame nobody.
 *
 * `unique` is the kernel's number of the request without the bit that marks a resent one; it is
 * never zero and never used twice on one connection. */
#ifndef FS_MOUNT_SUSPECTS_H
#define FS_MOUNT_SUSPECTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SUSPECT_DEATHS_MAX  3u
#define SUSPECTS_MAX        96u /* when full, the one with the fewest deaths makes room */
#define SUSPECT_THREADS_MAX 80u

struct suspect {
    _Atomic uint64_t unique; /* 0: free */
    _Atomic uint32_t deaths;
};

struct suspects {
    _Atomic uint64_t in_hand[SUSPECT_THREADS_MAX]; /* fresh requests, by thread; 0: none */
    _Atomic uint64_t alone;                        /* the suspect being executed; 0: none */
    struct suspect entries[SUSPECTS_MAX];
};

/* The keeper, while no worker lives. */
void suspects_after_death(struct suspects *s, bool blame);
/* How many deaths the request was at; 0 for nearly all. Any thread. */
uint32_t suspects_deaths(const struct suspects *s, uint64_t unique);
/* It was answered. One thread at a time. */
void suspects_clear(struct suspects *s, uint64_t unique);

#endif
