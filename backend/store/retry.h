/* SPDX-License-Identifier: MIT
 * Trying again, as a wrapper of any store. What failed with ERR_TRANSIENT is repeated after a
 * pause: exponential, with full jitter (a random time up to the bound), never shorter than what the
 * store asked for (err.retry_after_ms), until the call's deadline. A budget shared by all calls
 * keeps many callers from hammering a store that is down: each repeat costs, a success gives back
 * what its own took and a little more, and when it is empty a call fails at its first failure
 * (Brooker, "Exponential backoff and jitter" and the retry quota of the AWS SDKs).
 *
 * A put that got no answer may have happened, so it is looked at before it is repeated or called
 * taken: our own bytes under that key are success, other bytes ERR_EXISTS, nothing means put again.
 * So a put here may succeed for two callers of the same bytes, when one of them was in doubt.
 * Any thread may call. store_cancel ends the pauses. */
#ifndef BACKEND_STORE_RETRY_H
#define BACKEND_STORE_RETRY_H

#include "backend/store/store.h"

struct retry_policy {
    uint32_t pause_ms;     /* bound of the first pause, doubled for each that follows */
    uint32_t pause_max_ms; /* Retry-After may ask for more */
    uint32_t deadline_ms;  /* from the call's start; a pause that would pass it is not begun */
    uint32_t budget;       /* repeats in hand at most */
    /* Waits, or returns false at once when cancelled; NULL: really waits. */
    bool (*pause)(void *context, uint32_t ms);
    void *context;
};

#define RETRY_POLICY_DEFAULT                                                                       \
    (struct retry_policy)                                                                          \
    {                                                                                              \
        .pause_ms = 200, .pause_max_ms = 20000, .deadline_ms = 60000, .budget = 64                 \
    }

/* Takes over `inner`, also when it fails. */
bool store_retry(struct world *w, struct store *inner, const struct retry_policy *policy,
                 struct store **out, struct err *err) MUST_CHECK;

#endif
