/* SPDX-License-Identifier: MIT
 * Thinning: lets points go as the policy says, merges their runs into the next point's, and removes
 * the objects that no run needs any more. A state machine that is stepped; all that lasts is in the
 * history, so killed anywhere and begun again it ends in the same state, and of two at once one
 * appends and the other reads again. One thread per thinner, that of the processor beside it.
 *
 * In this order, each written where it is enforced:
 *   1. A record says which points are leaving. From then on nobody begins to use one (pin.h).
 *   2. The grace period. Pins are listed once more: who pinned a point before saw the record is
 *      found now, and that point stays; the next record of 1. lists it again.
 *   3. The merged run is put, read back and checked; then a record says that it counts. Frames stay
 *      where they are. The old runs and what only they name stay, too: views go on with them.
 *   4. Objects that no run of the history needs are listed; a record says that they are dropped.
 * Its slot decides: who refers to such an object in a later record knows that it is dropped, and
 *      takes another name (apply.h).
 *   5. The grace period, for readers of no point in particular; then they are removed. A view that
 *      meets one asks the history again (fs/view/view.h).
 * Bounded: a step merges MERGE_RUNS runs of MERGE_BYTES_MAX, or makes one run of a level, reads
 * THINNER_MARKS roots of runs, looks at THINNER_KEYS objects, or moves about COMPACT_STEP_BYTES of
 * frames out of COMPACT_STEP_OBJECTS objects. Larger runs count among several of one point, until
 * there are so many that they are rewritten as a level; that goes on over many steps, and a thinner
 * that is killed in the middle begins it anew. */
#ifndef BACKEND_HISTORY_THINNER_H
#define BACKEND_HISTORY_THINNER_H

#include "backend/history/processor.h"
#include "backend/history/retention.h"

/* Of the runs that go into one; what comes out fits an object. */
#define MERGE_BYTES_MAX (24u << 20)
#define MERGE_SMALL     (256u << 10) /* a run up to this is merged whatever the others have */
#define MERGE_RATIO     4u           /* one so many times as large as all newer ones stays */
/* A point whose newer runs together are longer than this and than its oldest level, or are more
 * than LEVEL_RUNS, gets a new level of all of them, or of the oldest LEVEL_INPUTS: runs of disjoint
 * blocks, so long each, or as much longer as makes them about LEVEL_PARTS. */
#define LEVEL_BYTES     (48u << 20)
#define LEVEL_RUNS      128u
#define LEVEL_INPUTS    256u
#define LEVEL_RUN_BYTES (8u << 20)
#define LEVEL_PARTS     1024u
#define LEVEL_RUNS_MOST 1536u /* two points with a level each can become one */
#define THINNER_MARKS   64u
#define THINNER_KEYS    1024u

/* A lease counts so much longer than it says: its reader's clock may be slow. */
#define THINNER_LEASE_SLACK_MS 3600000u
/* The policy is looked at so often, or every grace period when that is shorter; garbage so many
 * grace periods after a merge. */
#define THINNER_EVERY_MS     60000u
#define THINNER_SWEEP_GRACES 6u
#define THINNER_COMPACT_MS   3600000u
#define THINNER_PACK_MS      3600000u /* after a pack that could not be made */
/* An object of which this part or less is needed gives up what is, when all of them together give
 * back that part of all bytes or more. */
#define COMPACT_LIVE_PART    2u
#define COMPACT_GAIN_PART    8u
#define COMPACT_STEP_BYTES   (16u << 20)
#define COMPACT_STEP_OBJECTS 256u /* and runs that name them */

enum thinner_result {
    THINNER_WORKED, /* step again */
    THINNER_IDLE,   /* nothing to do */
    THINNER_WAITS,  /* for the grace period, then there is */
    THINNER_AGAIN,  /* overtaken: step again */
    THINNER_FAILED, /* err says why; state is unharmed, step again later */
};

/* Since it was opened. */
struct thinner_report {
    uint64_t leaving; /* points that a record of ours let go */
    uint64_t points, merges;
    uint64_t leveled;                /* runs that became a level */
    uint64_t compacted, moved_bytes; /* runs that were rewritten, frames that moved for that */
    uint64_t dropped, dropped_bytes; /* objects */
    uint64_t removed, removed_bytes;
    uint64_t locked; /* that the store would not remove, when last looked at */
};

struct thinner;
/* `config` and `h` are borrowed. `policy`: NULL for what the vault says (policy.h). */
bool thinner_open(const struct processor_config *config, struct history *h,
                  const struct retention *policy, struct thinner **out, struct err *err) MUST_CHECK;
void thinner_close(struct thinner **t);
enum thinner_result thinner_step(struct thinner *t, struct err *err) MUST_CHECK;
/* What is done now and then is due now; grace periods stay. */
void thinner_hurry(struct thinner *t);
/* Changes nothing from now on: the report counts what would leave, and be dropped. */
void thinner_only_look(struct thinner *t);
struct thinner_report thinner_report(const struct thinner *t);

#endif
