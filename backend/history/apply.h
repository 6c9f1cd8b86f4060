/* SPDX-License-Identifier: MIT
 * Applying: copies the data of a batch of epochs, still sealed, from the cache stores into
 * segments of the target stores, and says in a record where everything lies. Every part is
 * compared with its digest and every frame with its keyed one before a byte is put. Segments are
 * named by the digest of what they hold, so a repeat finds them, reads them and compares.
 *
 * A large part is a segment of its own. Where the target's service can copy from the cache it
 * becomes one without passing here; such a copy counts when it is proved to have the part's digest.
 * One that is not right is never removed (another processor may have made, proved and recorded a
 * right one of that name meanwhile) and never used: the part is streamed, under another name.
 *
 * A name that a record calls dropped is never used again, as its object may be removed at any time:
 * what would have it gets a byte more, too. Who drops a name after this looked takes the record's
 * slot with that, and the batch is applied again.
 *
 * Memory: parts that are fetched at once, together APPLY_FETCH_BYTES or else a single one; a
 * segment of small parts per target store, PROCESSOR_SEGMENT_BYTES; the last object with its runs;
 * and, where a segment is there already, as much again to compare it with. One thread calls; it may
 * make others. */
#ifndef BACKEND_HISTORY_APPLY_H
#define BACKEND_HISTORY_APPLY_H

#include "backend/history/processor.h"

/* No object grows over this; the rest up to STORE_OBJECT_MAX is room for segment names in runs. */
#define APPLY_OBJECT_BYTES (STORE_OBJECT_MAX - (4u << 20))

#define APPLY_COPY_BYTES  (1u << 20)  /* of the smallest part that is worth a segment of its own */
#define APPLY_FETCH_BYTES (32u << 20) /* fetched ahead, when there is more than one part */

/* Writes the data of `epochs` (consecutive, of one generation and one set of disks). On success
 * `out` gets one record_epoch each, calloc'ed by the caller with room for `count`. When the cache
 * failed (a part is damaged, missing or out of reach) *bad is the index of that epoch, so that the
 * ones before it can be applied alone; it is `count` when a target failed. */
bool apply_write(const struct processor_config *config, struct history *h,
                 const struct epoch_decoded *epochs, size_t count, struct record_epoch *out,
                 size_t *bad, struct err *err) MUST_CHECK;

#endif
