/* SPDX-License-Identifier: MIT
 * A set of objects `segments/DIGEST`: which are needed, which were dropped. In whichever of a VM's
 * target stores they lie: two of them may be one. Objects are only added; of each digest the first
 * half is kept, which no two objects share. One thread at a time. */
#ifndef BACKEND_HISTORY_OBJECT_SET_H
#define BACKEND_HISTORY_OBJECT_SET_H

#include "common/digest.h"
#include "common/err.h"

#define OBJECT_NAME_BYTES 16u

struct object_name {
    uint8_t bytes[OBJECT_NAME_BYTES];
};

struct object_set {
    struct object_name *slots; /* zero: free */
    size_t room;               /* a power of two, or 0 */
    size_t count;
};

/* A second time is success. ERR_CORRUPT: a digest of zeros, which no object has. */
bool object_set_add(struct object_set *s, const struct sha256 *o, struct err *err) MUST_CHECK;
bool object_set_has(const struct object_set *s, const struct sha256 *o);
void object_set_release(struct object_set *s); /* empty afterwards */

#endif
