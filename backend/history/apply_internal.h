/* SPDX-License-Identifier: MIT
 * Private to apply.c (segments, runs, the whole) and apply_parts.c (an epoch's parts: fetched,
 * checked, and put where they are large). */
#ifndef BACKEND_HISTORY_APPLY_INTERNAL_H
#define BACKEND_HISTORY_APPLY_INTERNAL_H

#include "backend/history/apply.h"
#include "common/parallel.h"

#include <stdatomic.h>

/* Where a part went: which of the segments, and where in it. */
struct placed {
    size_t segment;
    uint32_t base;
};

/* A segment being filled. */
struct filling {
    struct buf bytes;
    size_t segment;
};

/* A part on its way. */
struct fetched {
    struct buf memory;
    struct span bytes; /* no data: copied, and read by nobody */
    bool own;          /* it is a segment of its own already, of the name `hex` */
    char hex[2 * SHA256_BYTES + 1];
    bool failed;
    bool target_failed; /* the target store is to blame, not the epoch */
};

struct packer {
    const struct processor_config *config;
    struct history *history;
    struct filling *filling; /* one per target store */
    char (*names)[RUN_SEGMENT_NAME_MAX];
    size_t name_count, name_room;
    struct placed *placed; /* of all parts of all epochs in order */
    size_t placed_count;
    struct fetched fetched[PARALLEL_THREADS_MAX];
    bool *copies;             /* for each store: the target can copy from the cache */
    atomic_bool copy_refused; /* once is enough: the rest of the batch is streamed */
};

/* Puts bytes under their digest, whose hex it gives. What is there under that name already is
 * read: a repeat after a kill, or a reply that was lost, are the same thing; a copy that went wrong
 * is not. That one stays (see apply.h), and a byte more, which nothing points to, gives what we
 * have another name; so it does when the name is one that was dropped. Any thread. */
bool apply_object_put(const struct processor_config *config, struct history *h, uint16_t store,
                      struct buf *bytes, char hex[2 * SHA256_BYTES + 1],
                      struct err *err) MUST_CHECK;

/* The next part goes into the segment that is being filled, or is the segment `hex`. */
bool apply_place(struct packer *p, uint16_t store, struct span part, struct err *err) MUST_CHECK;
bool apply_place_own(struct packer *p, uint16_t store, const char *hex, struct err *err) MUST_CHECK;

/* Checks one epoch's parts and places them, in order. *cache_fault: the epoch is to blame. */
bool apply_parts(struct packer *p, const struct epoch_entry *e, bool *cache_fault,
                 struct err *err) MUST_CHECK;

/* Opens the entry's run (*run NULL when it has none) and checks that it is of this epoch and that
 * its segment table is the list of parts. The entry outlives the run. */
bool apply_run_open(const struct packer *p, const struct epoch_entry *e, struct run **run,
                    struct err *err) MUST_CHECK;

#endif
