/* SPDX-License-Identifier: MIT */
#include "tools/failover/states.h"

#include <stdio.h>

/* Why, by column.
 *
 * test-running: replication goes on, so all that concerns the source may run. A planned failover
 * and revert wait for the cleanup: they have the time, and no drill is left behind. An unplanned
 * failover does not: an emergency is not blocked by a drill.
 *
 * failed-over, failing-back: the machine runs at a point that was not accepted yet: take another
 * one, accept it or go back, nothing else. The old side ships nothing, so there is nothing to cut,
 * to pause or to send again, and reprotect would end the choice of points.
 *
 * committed: the choice is over and nothing protects the machine: reprotect, or let go of it.
 *
 * reprotecting: it ships the other way, so what concerns the source may run there. A failover has
 * somewhere to go to only once a point of this direction is applied.
 *
 * cancel, before a planned failover is begun: it has told the source to stop, and cannot go on.
 *
 * validate and set change nothing that runs. cleanup of a drill that is left is always right. */
/* Y: yes. d: when drills are left. p: when a point of this direction is applied. l: when
 * a planned failover has told the source to stop, and is not begun. -: no. */
/* clang-format off */
static const char cells[STATES_VERBS][PROTECTION_STATES + 1] = {
    /*       none, test-running, failed-over, committed, reprotecting, failing-back: */
    [STATES_VALIDATE]         = "YYYYYY",
    [STATES_TEST_FAILOVER]    = "YY--p-",
    [STATES_CLEANUP]          = "-Ydddd",
    [STATES_FAILOVER]         = "YY--p-",
    [STATES_FAILOVER_PLANNED] = "Y---p-",
    [STATES_CHANGE_POINT]     = "--Y--Y",
    [STATES_COMMIT]           = "--Y--Y",
    [STATES_CANCEL]           = "llY-lY",
    [STATES_REPROTECT]        = "---YY-",
    [STATES_REVERT]           = "Y-----",
    [STATES_POINT]            = "YY--Y-",
    [STATES_PAUSE]            = "YY--Y-",
    [STATES_RESYNC]           = "YY--Y-",
    [STATES_SET]              = "YYYYYY",
    [STATES_DISABLE]          = "Y--YY-",
};
/* clang-format on */

const char *states_verb_name(enum states_verb v)
{
    static const char *const names[STATES_VERBS] = {
        [STATES_VALIDATE] = "validate",
        [STATES_TEST_FAILOVER] = "test-failover",
        [STATES_CLEANUP] = "cleanup",
        [STATES_FAILOVER] = "failover",
        [STATES_FAILOVER_PLANNED] = "failover --planned",
        [STATES_CHANGE_POINT] = "change-point",
        [STATES_COMMIT] = "commit",
        [STATES_CANCEL] = "cancel",
        [STATES_REPROTECT] = "reprotect",
        [STATES_REVERT] = "revert",
        [STATES_POINT] = "point",
        [STATES_PAUSE] = "pause",
        [STATES_RESYNC] = "resync",
        [STATES_SET] = "set",
        [STATES_DISABLE] = "disable",
    };
    return names[v];
}

enum states_cell states_cell(enum states_verb v, enum protection_state s)
{
    switch (cells[v][s]) {
    case 'Y':
        return STATES_YES;
    case 'd':
        return STATES_DRILLS;
    case 'p':
        return STATES_POINTS;
    case 'l':
        return STATES_LEAVING;
    default:
        return STATES_NO;
    }
}

bool states_allows(enum states_verb v, enum protection_state s, struct states_facts facts)
{
    switch (states_cell(v, s)) {
    case STATES_YES:
        return true;
    case STATES_DRILLS:
        return facts.drills;
    case STATES_POINTS:
        return facts.points;
    case STATES_LEAVING:
        return facts.leaving;
    default:
        return false;
    }
}

/* What would make it right, where the list of verbs does not tell. */
static const char *reason(enum states_verb v, enum protection_state s)
{
    switch (states_cell(v, s)) {
    case STATES_DRILLS:
        return "no drill is left; ";
    case STATES_POINTS:
        return "no point of this direction is applied yet: try again when farshore points shows "
               "one; ";
    default:
        return "";
    }
}

bool states_check(enum states_verb v, const char *vm, enum protection_state s,
                  struct states_facts facts, struct err *err)
{
    char list[256] = "";
    if (states_allows(v, s, facts))
        return true;
    for (int i = 0; i < STATES_VERBS; i++) {
        size_t used = strlen(list);
        if (states_allows((enum states_verb)i, s, facts))
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                     states_verb_name((enum states_verb)i));
    }
    return err_set(err, ERR_INVALID, "%s is %s: farshore %s is not allowed now; %sallowed are %s",
                   vm, protection_state_name(s), states_verb_name(v), reason(v, s), list);
}

bool states_table(struct buf *out, struct err *err)
{
    static const char *const words[] = {[STATES_NO] = "-",
                                        [STATES_YES] = "yes",
                                        [STATES_DRILLS] = "(1)",
                                        [STATES_POINTS] = "(2)",
                                        [STATES_LEAVING] = "(3)"};
    char text[64];

    buf_put(out, "| verb |", 8);
    for (int s = 0; s < PROTECTION_STATES; s++) {
        snprintf(text, sizeof text, " %s |", protection_state_name((enum protection_state)s));
        buf_put(out, text, strlen(text));
    }
    buf_put(out, "\n|---|", 6);
    for (int s = 0; s < PROTECTION_STATES; s++)
        buf_put(out, "---|", 4);
    buf_put(out, "\n", 1);
    for (int v = 0; v < STATES_VERBS; v++) {
        snprintf(text, sizeof text, "| `%s` |", states_verb_name((enum states_verb)v));
        buf_put(out, text, strlen(text));
        for (int s = 0; s < PROTECTION_STATES; s++) {
            enum states_cell c = states_cell((enum states_verb)v, (enum protection_state)s);
            snprintf(text, sizeof text, " %s |", words[c]);
            buf_put(out, text, strlen(text));
        }
        buf_put(out, "\n", 1);
    }
    return buf_ok(out, err);
}
