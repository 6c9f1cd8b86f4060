/* SPDX-License-Identifier: MIT
 * What retention can do next, as seen from what is held of a history: no store is asked anything.
 * Between thinner.c and history_thin.c; nothing else includes this header. */
#ifndef BACKEND_HISTORY_THIN_PLAN_H
#define BACKEND_HISTORY_THIN_PLAN_H

#include "backend/history/history_internal.h"
#include "backend/history/retention.h"

#define MERGE_RUNS 256u /* in one merge, a level as one; more only when two points have more */

/* Epochs that pins keep. */
struct thin_pin {
    struct generation generation;
    uint64_t epoch;
};
struct thin_pins {
    struct thin_pin *list;
    size_t count, room;
};

/* Points of one generation that the policy lets go, oldest first; total: of all generations. */
struct thin_victims {
    struct generation generation;
    uint64_t epochs[RECORD_RUNS_MAX];
    size_t count, total;
};
bool history_victims(struct history *h, const struct retention *policy, uint64_t now_ms,
                     const struct thin_pins *pins, struct thin_victims *out,
                     struct err *err) MUST_CHECK;

/* The newest record of that kind. */
struct notice history_notice(struct history *h, enum record_kind kind);
/* How many records of merges there are. */
uint64_t history_merges(struct history *h);
/* How many points are leaving. */
size_t history_leaving(struct history *h);
/* False when a pin keeps an epoch that is gone. */
bool history_pins_stand(struct history *h, const struct thin_pins *pins);

/* Epochs first..last that become one; all points but the last were leaving and are not pinned. */
struct merge_range {
    struct generation generation;
    uint64_t first, last;
    size_t points; /* how many go */
    size_t newest, before;
    struct run_place *runs; /* newest first */
    size_t run_count;
};
static inline void merge_range_release(struct merge_range *m)
{
    free(m->runs);
}
#define AUTO_MERGE_RANGE CLEANUP(merge_range_release)
bool history_merge_next(struct history *h, const struct thin_pins *pins, struct merge_range *out,
                        bool *found, struct err *err) MUST_CHECK;

/* The epoch that is `epoch` of that generation, or the one that it was merged into; HISTORY_NONE.
 */
size_t history_holder(struct history *h, struct generation g, uint64_t epoch);

/* When the runs of a point become a new level: when those newer than its oldest level are longer
 * than that and than `bytes` together, or more than `runs`, each level counted as one. */
struct level_rule {
    uint64_t bytes;
    size_t runs;
};
/* A point of which that is true, but for those whose oldest run lies in one of `without`. */
bool history_level_next(struct history *h, const struct level_rule *rule,
                        const struct object_set *without, struct merge_range *out, bool *found,
                        struct err *err) MUST_CHECK;

/* The runs of the epoch `index` alone, none when it is gone. *replaceable: it is a point, so that a
 * record may give it others. */
bool history_epoch_own(struct history *h, size_t index, struct merge_range *out, bool *replaceable,
                       struct err *err) MUST_CHECK;

/* The runs of all epochs that are not gone, on every line: what is needed. free() it. */
bool history_live_runs(struct history *h, struct run_place **out, size_t *count,
                       struct err *err) MUST_CHECK;

#endif
