/* SPDX-License-Identifier: MIT
 * Applying: copies the data of a batch of epochs, still sealed, from the cache stores into
 * segments of the target stores, and says in a record where everything lies. Every part is
 * compared with its digest and every frame with its keyed one before a byte is put. Segments are
 * named by the digest of what they hold, so a repeat finds them. Memory: one part, one segment per
 * target store, one run. One thread. */
#ifndef BACKEND_HISTORY_APPLY_H
#define BACKEND_HISTORY_APPLY_H

#include "backend/history/processor.h"

/* No object grows over this; the rest up to STORE_OBJECT_MAX is room for segment names in runs. */
#define APPLY_OBJECT_BYTES (STORE_OBJECT_MAX - (4u << 20))

/* Writes the data of `epochs` (consecutive, of one generation and one set of disks). On success
 * `out` gets one record_epoch each, calloc'ed by the caller with room for `count`. When the cache
 * failed (a part is damaged, missing or out of reach) *bad is the index of that epoch, so that the
 * ones before it can be applied alone; it is `count` when a target failed. */
bool apply_write(const struct processor_config *config, const struct epoch_decoded *epochs,
                 size_t count, struct record_epoch *out, size_t *bad, struct err *err) MUST_CHECK;

#endif
