/* SPDX-License-Identifier: MIT
 * Credentials that people replace while farshore runs. When the service refuses what we have, the
 * places are read again; what stands there now is used from then on. Calls under way go on with
 * what they began with, so everything that was made is kept until the end: a few KiB for each time
 * that somebody puts a new credential in place. Any thread may call. */
#ifndef BACKEND_STORE_ROTATION_H
#define BACKEND_STORE_ROTATION_H

#include "common/err.h"

#include <stddef.h>

#define ROTATION_MAX 4096u /* replaced more often than that: the last one stays */

struct rotation_ops {
    /* Reads the places. Not called by two threads at once. */
    bool (*make)(void *context, void **out, struct err *err);
    /* Whether trying `made` makes no sense after `before`: it proves the same, or nothing. */
    bool (*same)(const void *before, const void *made);
    void (*release)(void *made);
};

struct rotation;

/* Makes the first. `context` outlives the rotation. */
bool rotation_make(const struct rotation_ops *ops, void *context, struct rotation **out,
                   struct err *err) MUST_CHECK;
void rotation_release(struct rotation **r); /* NULL inside is fine; leaves NULL */
void *rotation_now(struct rotation *r);     /* borrowed until rotation_release */
/* `refused`, which came from here, was refused: true when there is another to try now. */
bool rotation_renew(struct rotation *r, const void *refused);

#endif
