/* SPDX-License-Identifier: MIT
 * A bound on bytes per second, as a wrapper of any store, shared by all stores that were given the
 * same `struct bandwidth`. Puts and gets wait for their turn before they start, in the order in
 * which they came; small ones (under 64 KiB) pass at once and are paid for by the next, so that end
 * objects and progress do not queue behind parts, until small ones alone owe ten seconds.
 * Spec: RATE or RATE,HH:MM-HH:MM=RATE,...: a rate and, by local time of day, others; the first
 * window that holds now counts, one may span midnight. RATE is bytes per second with k, M or G
 * (powers of 1024), or `unlimited`; `0` is refused: `pause` is the verb for that. */
#ifndef BACKEND_STORE_THROTTLE_H
#define BACKEND_STORE_THROTTLE_H

#include "backend/store/store.h"

#define BANDWIDTH_SPEC_MAX    256u
#define BANDWIDTH_WINDOWS_MAX 8u

struct bandwidth;

/* `pause` waits as in retry_policy; NULL: really waits. Any thread may use it. */
bool bandwidth_make(struct world *w, const char *spec, bool (*pause)(void *context, uint32_t ms),
                    void *context, struct bandwidth **out, struct err *err) MUST_CHECK;
void bandwidth_release(struct bandwidth **b); /* after the stores that use it */
#define AUTO_BANDWIDTH CLEANUP(bandwidth_release)
/* Changes the bound while in use. ERR_INVALID names the part of the spec that is wrong. */
bool bandwidth_set(struct bandwidth *b, const char *spec, struct err *err) MUST_CHECK;
/* Bytes per second now; 0: unlimited. */
uint64_t bandwidth_now(struct bandwidth *b);
/* Only whether a spec is one. */
bool bandwidth_check(const char *spec, struct err *err) MUST_CHECK;

/* Takes over `inner`, also when it fails; borrows `b`. */
bool store_throttle(struct store *inner, struct bandwidth *b, struct store **out,
                    struct err *err) MUST_CHECK;

#endif
