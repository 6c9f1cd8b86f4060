/* SPDX-License-Identifier: MIT
 * Private to thinner.c (which points go), thinner_merge.c and thinner_level.c (which runs become
 * one, and what many large ones become), thinner_sweep.c (which objects go), thinner_compact.c
 * (which objects are mostly dead) and thinner_move.c (what moves out of them). */
#ifndef BACKEND_HISTORY_THINNER_INTERNAL_H
#define BACKEND_HISTORY_THINNER_INTERNAL_H

#include "backend/history/merge.h"
#include "backend/history/policy.h"
#include "backend/history/stored_run.h"
#include "backend/history/thin_plan.h"
#include "backend/history/thinner.h"

/* A record that announces something, and since when we have seen it. */
struct watched {
    struct notice notice;
    uint64_t since_ms; /* boot time */
};

/* What thinner.h says; less in tests. */
struct thinner_limits {
    uint64_t merge_bytes, merge_small, level_run_bytes;
    struct level_rule level;
};

/* A run that goes into another; `self`: what that one says for its own object. */
struct thinner_input {
    struct stored_run stored;
    char self[RUN_SEGMENT_NAME_MAX];
};

/* One input of a level: a run, or runs of the same epochs. */
struct level_input {
    struct thinner *t;
    size_t at, end; /* of the runs of the level in hand */
    struct thinner_input opened;
};

/* A point whose many runs become a level, an output a step. */
struct thinner_level {
    struct run_merging *merging; /* NULL: none is under way */
    struct generation generation;
    uint64_t epoch;
    struct run_place *runs; /* its oldest, newest first */
    size_t count;
    struct level_input *opened;     /* oldest first */
    struct run_merge_input *inputs; /* the same */
    size_t open_count;
    bool more;
    uint64_t bytes; /* of an output */
    struct record_run *out;
    size_t out_count;
};

enum thinner_sweep_phase { SWEEP_NOT, SWEEP_MARK, SWEEP_LIST, SWEEP_DROP };

struct seen_object {
    struct sha256 object;
    uint64_t bytes;
};

/* One look at all objects. */
struct thinner_sweep {
    enum thinner_sweep_phase phase;
    struct run_place *live; /* sorted by place: their roots are read, up to `marked` */
    size_t live_count, marked;
    uint64_t began_at; /* the number of the record that was next then */
    struct object_set needed;
    size_t store;                 /* that is being listed */
    char after[KEY_MAX];          /* the last key that was looked at; "": none */
    struct seen_object *unneeded; /* room for RECORD_RUNS_MAX */
    size_t unneeded_count;
    uint64_t locked;   /* the store, or a pin, keeps them */
    bool dropped_left; /* some that were dropped are there still, before their time */
};

enum thinner_compact_phase { COMPACT_NOT, COMPACT_WEIGH, COMPACT_LIST, COMPACT_MOVE };

struct weight {
    struct sha256 object;
    uint64_t live, bytes; /* of it that runs refer to, and runs in it; its size, 0: not seen */
    bool known;           /* the slot is in use */
    bool fixed;           /* a run that cannot be replaced refers to it */
    bool leaves;          /* chosen: what is live of it moves */
};

/* One look at what all runs refer to. */
struct thinner_compact {
    enum thinner_compact_phase phase;
    size_t at, end;         /* the next epoch, and where that ends: indices of the history */
    size_t run;             /* the next of that epoch's runs, unless a merge put others in front */
    struct weight *weights; /* a hash table */
    size_t count, room;     /* a power of two, or 0 */
    size_t store;           /* that is being listed */
    char after[KEY_MAX];    /* the last key that was looked at; "": none */
    bool moved;
};

struct thinner {
    const struct processor_config *config;
    struct history *history;
    struct world *world;
    struct doclog_vault vault;
    struct doclog policies;
    struct retention policy;
    bool policy_given;
    bool only_looks;

    uint64_t at; /* the number of the next record, as of this step */
    struct watched thin, drop;
    /* In boot time; merges wait when there was no room for one. */
    uint64_t look_at_ms, merge_at_ms, level_at_ms, sweep_at_ms, compact_at_ms, pack_at_ms;
    uint64_t swept_at_ms; /* when the last sweep ended; 0: none has */
    struct sha256 chosen; /* of the epochs that were let go last */

    struct thin_pins pins;
    bool pins_short;   /* of memory */
    uint64_t pins_for; /* the record for which they were listed in time; 0: none */

    struct thinner_limits limits;
    struct thinner_level level;
    uint64_t leveled_merges;     /* that the history had when no point needed a level */
    unsigned level_voids;        /* in a row: others rewrote what it was made of */
    struct object_set unleveled; /* the oldest run of a point that could not get one: it is left */
    struct thinner_sweep sweep;
    bool sweep_waits; /* for the grace period of what was dropped */
    struct thinner_compact compact;
    uint64_t compacted_merges; /* that the history had at the end of the last one */
    struct object_set damaged; /* of which a frame could not be moved: they stay */
    struct thinner_report report;
};

uint64_t thinner_boot_ms(const struct thinner *t);
uint64_t thinner_now_ms(const struct thinner *t);
bool thinner_ripe(const struct thinner *t, const struct watched *w);
/* Those that count now, into t->pins. One that cannot be read fails it. */
bool thinner_pins_load(struct thinner *t, struct err *err) MUST_CHECK;
enum thinner_result thinner_append(struct thinner *t, struct record *r, struct err *err) MUST_CHECK;

/* One merge; IDLE: there is none. */
enum thinner_result thinner_merge_step(struct thinner *t, struct err *err) MUST_CHECK;

/* Whether runs of a point are being rewritten, or may have to be. */
bool thinner_leveling(const struct thinner *t);
bool thinner_level_due(const struct thinner *t);
enum thinner_result thinner_level_step(struct thinner *t, struct err *err) MUST_CHECK;
void thinner_level_release(struct thinner_level *l);

/* What another run calls the object that this one lies in. */
void thinner_self_name(const struct thinner *t, const struct stored_run *r,
                       char out[RUN_SEGMENT_NAME_MAX]);
/* Opens a run for a merge: `in` stays where it is as long as *out is used. */
bool thinner_input_open(struct thinner *t, const struct run_place *place, struct thinner_input *in,
                        struct run_merge_input *out, struct err *err) MUST_CHECK;

/* The next run that comes of a merge of `runs`, newest first, as run_merging_step makes it. */
struct thinner_output {
    const struct run_place *runs;
    size_t count;
    uint64_t number; /* of the runs that came of it before */
    uint64_t bytes;
};
bool thinner_output_put(struct thinner *t, struct run_merging *m, const struct thinner_output *o,
                        struct record_run *out, bool *more, struct err *err) MUST_CHECK;

/* Finishes `b`, the run of `head`, and puts and checks it; `salt` is what no other run has. */
bool thinner_run_put(struct thinner *t, struct run_builder *b, const struct run_head *head,
                     const struct sha256 *salt, struct record_run *out, struct err *err) MUST_CHECK;

/* When views have had time to leave what a merge has made unneeded. */
void thinner_sweep_soon(struct thinner *t);
bool thinner_sweeping(const struct thinner_sweep *s);
enum thinner_result thinner_sweep_step(struct thinner *t, struct err *err) MUST_CHECK;
void thinner_sweep_release(struct thinner_sweep *s);

bool thinner_compacting(const struct thinner_compact *c);
enum thinner_result thinner_compact_step(struct thinner *t, struct err *err) MUST_CHECK;
/* What is known of an object; NULL: nothing. */
struct weight *thinner_weight(const struct thinner_compact *c, const struct sha256 *object);
/* The object of a segment that the run names, and the store that it lies in. */
bool thinner_segment(const struct stored_run *s, uint32_t index, uint16_t *store,
                     struct sha256 *object, struct err *err) MUST_CHECK;
/* Replaces those runs of one epoch, from compact.run on, that name what leaves, by one record;
 * IDLE: none does. *more: something is left that does: a step does not move all of it, or a damaged
 * object, which stays from now on, was found among it (ERR_CORRUPT). */
enum thinner_result thinner_epoch_move(struct thinner *t, const struct merge_range *own, bool *more,
                                       struct err *err) MUST_CHECK;
void thinner_compact_release(struct thinner_compact *c);

#endif
