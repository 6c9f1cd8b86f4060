/* SPDX-License-Identifier: MIT
 * Merging runs: what the epochs of several runs changed, as one run, or as several of disjoint
 * blocks. For every block the newest run that says anything of it wins; a frame that is partly
 * covered stays as one or more entries for the blocks that are left of it. Reads each run once,
 * page by page, in one thread; memory grows with a result, and with the roots of what is open. */
#ifndef BACKEND_HISTORY_MERGE_H
#define BACKEND_HISTORY_MERGE_H

#include "backend/history/run.h"

#define RUN_MERGE_MAX 1024u /* runs in one merge */

/* One of the runs, or several of disjoint blocks, ascending, that are as one. */
struct run_merge_input {
    struct run *run;
    /* What the result says where the run says RUN_SEGMENT_SELF (history.h), as it lies elsewhere.
     * NULL: the same. */
    const char *self;
    /* NULL: there is one. Else it puts the next one in place of `run`, which is read to its end and
     * may be closed; NULL in its place: it was the last. */
    bool (*next)(void *context, struct run_merge_input *in, struct err *err);
    void *context;
};

/* A merge in steps. `inputs`, oldest first, are of one VM and outlive it. */
struct run_merging;
bool run_merging_make(struct run_merge_input *inputs, uint32_t count, struct run_merging **out,
                      struct err *err) MUST_CHECK;
void run_merging_release(struct run_merging **m);
#define AUTO_RUN_MERGING CLEANUP(run_merging_release)

/* Adds the merged entries that come next to the empty builder `b`, whose head the caller chose
 * (epoch_first of the oldest, epoch_last of the newest), and the segments that they name, until it
 * is about `bytes` long or takes no more segments. *more: something is left, for another builder.
 * What no run mentions stays unmentioned, so holes are kept: an older run may lie below the
 * result. */
bool run_merging_step(struct run_merging *m, struct run_builder *b, uint64_t bytes, bool *more,
                      struct err *err) MUST_CHECK;

#endif
