/* SPDX-License-Identifier: MIT
 * Which blocks of an overlay are present: a bit per block in memory, in pages that exist only where
 * a bit is set, and the same pages in a presence record. Bits are only ever set.
 * Any thread may call; take and put of one batch belong to one thread at a time. */
#ifndef FS_VIEW_PRESENCE_H
#define FS_VIEW_PRESENCE_H

#include "fs/view/presence_record.h"

struct presence;
/* ERR_NOT_FOUND: no record. ERR_CORRUPT: damaged, or it belongs to another VM, point or disk. */
bool presence_open(struct world *w, const char *path, const struct presence_head *head,
                   struct presence **out, struct err *err) MUST_CHECK;
void presence_close(struct presence **p); /* stores nothing */

/* Takes the memory that presence_set needs for these blocks. */
bool presence_reserve(struct presence *p, struct extent blocks, struct err *err) MUST_CHECK;
void presence_set(struct presence *p, struct extent blocks);
/* Whether block `blocks.first` is present; *run gets how many blocks from it, at most blocks.count,
 * share that state. */
bool presence_test(struct presence *p, struct extent blocks, uint64_t *run);

/* The pages that changed since the last batch, as they are now. */
struct presence_batch {
    size_t count;
    uint64_t *indices;
    uint8_t *bits; /* count pages */
};
bool presence_take(struct presence *p, struct presence_batch *out, struct err *err) MUST_CHECK;
/* Writes the batch and syncs. After a failure its pages count as changed again, so that a later
 * batch writes them anew. */
bool presence_put(struct presence *p, const struct presence_batch *batch,
                  struct err *err) MUST_CHECK;
/* The batch is not going to be put: its pages count as changed again. */
void presence_return(struct presence *p, const struct presence_batch *batch);
void presence_batch_release(struct presence_batch *batch);
#define AUTO_PRESENCE_BATCH CLEANUP(presence_batch_release)

#endif
