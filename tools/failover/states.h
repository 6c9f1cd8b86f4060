/* SPDX-License-Identifier: MIT
 * Which verb may run in which failover state: one table. docs/FAILOVER.md shows it, and a test
 * compares. Pure: any thread.
 *
 * The way round: none -> failed-over -> committed -> reprotecting -> none (the other way) ->
 * failing-back -> committed -> reprotecting -> none. Why a cell is as it is stands in states.c. */
#ifndef TOOLS_FAILOVER_STATES_H
#define TOOLS_FAILOVER_STATES_H

#include "tools/failover/protection.h"

enum states_verb {
    STATES_VALIDATE,
    STATES_TEST_FAILOVER,
    STATES_CLEANUP,
    STATES_FAILOVER, /* unplanned */
    STATES_FAILOVER_PLANNED,
    STATES_CHANGE_POINT,
    STATES_COMMIT,
    STATES_CANCEL,
    STATES_REPROTECT,
    STATES_REVERT,
    STATES_POINT,
    STATES_PAUSE, /* and resume */
    STATES_RESYNC,
    STATES_SET,
    STATES_DISABLE,
    STATES_VERBS
};

/* A cell may hang on one fact that the state alone does not tell. */
enum states_cell {
    STATES_NO,
    STATES_YES,
    STATES_DRILLS,  /* when drills are left from before */
    STATES_POINTS,  /* when a point of the new direction is applied */
    STATES_LEAVING, /* when a planned failover has told the source to stop, and is not begun */
};

struct states_facts {
    bool drills;  /* protection.test_count > 0 */
    bool leaving; /* protection.leaving has a job */
    bool points; /* the vault that is the authority has a point of the direction that it protects */
};

/* "failover --planned" */
const char *states_verb_name(enum states_verb v);
enum states_cell states_cell(enum states_verb v, enum protection_state s);
bool states_allows(enum states_verb v, enum protection_state s, struct states_facts facts);
/* ERR_INVALID names the state and the verbs that are allowed in it. */
bool states_check(enum states_verb v, const char *vm, enum protection_state s,
                  struct states_facts facts, struct err *err) MUST_CHECK;

/* The table as docs/FAILOVER.md has it. */
bool states_table(struct buf *out, struct err *err) MUST_CHECK;

#endif
