/* SPDX-License-Identifier: MIT
 * The run of a recovery plan. Its state is a file, STATE/plans/NAME.json, replaced at each change,
 * with the plan as it was when the run began: so it may be killed anywhere and goes on by
 * plan_run_go. The VMs of a group go at once, each by its verb in a process of its own, which
 * outlives the run when that is killed; the run goes on when all have ended well. After a failure
 * it stops behind that step; going on repeats what failed. Scripts are repeated too when they were
 * cut off. One thread; one run to a plan (a lock). */
#ifndef TOOLS_FAILOVER_PLAN_RUN_H
#define TOOLS_FAILOVER_PLAN_RUN_H

#include "tools/failover/plan.h"

#define PLAN_AT_ONCE 8u /* processes */

enum plan_mode {
    PLAN_TEST,      /* test-failover */
    PLAN_PLANNED,   /* failover --planned */
    PLAN_UNPLANNED, /* failover */
    PLAN_CLEANUP,   /* cleanup, from the last group to the first; no scripts, no pauses */
    PLAN_COMMIT,    /* commit; no scripts, no pauses */
    PLAN_REPROTECT, /* reprotect; no scripts, no pauses */
    PLAN_MODES
};
const char *plan_mode_name(enum plan_mode m);

enum plan_state { PLAN_WAITING, PLAN_RUNNING, PLAN_PAUSED, PLAN_FAILED, PLAN_DONE };
const char *plan_state_name(enum plan_state s);

/* A VM of a group, a script or a pause. */
struct plan_row {
    uint16_t step;
    char vm[VM_NAME_MAX + 1]; /* "": the step itself */
    enum plan_state state;
    uint64_t began_ms, ended_ms; /* of the last attempt; 0: not yet */
    uint64_t pid, pid_start;     /* of its process while running */
    uint32_t attempts;
    char text[256]; /* why it failed: the last line that it said */
};

struct plan_run {
    struct plan *plan;
    enum plan_mode mode;
    char point[64]; /* "": none given */
    enum plan_state state;
    uint64_t began_ms, ended_ms;
    uint64_t paused_ms; /* of all this a person took to go on */
    uint16_t row_count;
    struct plan_row rows[PLAN_ROWS_MAX];
};

void plan_run_release(struct plan_run **r);
#define AUTO_PLAN_RUN CLEANUP(plan_run_release)

struct plan_runner {
    struct world *world;
    const struct paths *paths;
    const char *program; /* whose verbs; NULL: this one */
    /* Whether the verb of the mode has done its work for the VM since then: asked for one whose
     * process was lost from sight. */
    bool (*reached)(void *context, const char *vm, enum plan_mode mode, uint64_t since_ms);
    /* Something has changed. May be NULL. */
    void (*show)(void *context, const struct plan_run *r, const struct plan_row *row);
    void *context;
};

/* A run of `plan` (taken over) as a file, nothing started. ERR_BUSY: the last one has not ended,
 * and not `anew`. */
bool plan_run_begin(const struct plan_runner *x, struct plan **plan, enum plan_mode mode,
                    const char *point, bool anew, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND: it was never run. */
bool plan_run_load(const struct plan_runner *x, const char *name, struct plan_run **out,
                   struct err *err) MUST_CHECK;
/* Runs until it ends, pauses or fails; `out` is how it stands then. `answered`: the pause at which
 * it stands is over. False: it failed (out is set), or could not go on (out is NULL): ERR_BUSY, it
 * is run by another process. */
bool plan_run_go(const struct plan_runner *x, const char *name, bool answered,
                 struct plan_run **out, struct err *err) MUST_CHECK;

bool plan_run_json(const struct plan_run *r, uint64_t now_ms, cJSON **out,
                   struct err *err) MUST_CHECK;

#endif
