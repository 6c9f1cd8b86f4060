/* SPDX-License-Identifier: MIT
 * Merging runs: what the epochs of several runs changed, as one run. For every block the newest
 * run that says anything of it wins; a frame that is partly covered stays as one or more entries
 * for the blocks that are left of it. Reads each run once, page by page, in one thread; memory
 * grows with the result. */
#ifndef BACKEND_HISTORY_MERGE_H
#define BACKEND_HISTORY_MERGE_H

#include "backend/history/run.h"

#define RUN_MERGE_MAX 1024u /* runs in one merge */

/* One of the runs; `self`: what the result says where the run says RUN_SEGMENT_SELF (history.h), as
 * it lies elsewhere. NULL: the same. */
struct run_merge_input {
    struct run *run;
    const char *self;
};

/* Adds the merged entries of inputs[0 .. count), oldest first, to the empty builder `b`, whose head
 * the caller chose (epoch_first of the oldest, epoch_last of the newest), and the segments that
 * they name. The runs are of one VM. What a run does not mention stays unmentioned, so holes are
 * kept: an older run may lie below the result. */
bool run_merge(const struct run_merge_input *inputs, uint32_t count, struct run_builder *b,
               struct err *err) MUST_CHECK;

#endif
