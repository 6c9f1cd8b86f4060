/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    {"test", "ID", false, false, "This one; else all."},
    {"note", "TEXT", false, false, "What was found, kept with the job."},
    {"force", NULL, false, false, "The drill's host is lost: forget it, and say what is left."},
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const arguments[] = {"test", "note", "force", NULL};
    const struct ask ask = {.verb = "cleanup",
                            .where = option_given(call->options, "force") ? ASK_HERE : ASK_DRILL,
                            .done = "cleaned up",
                            .arguments = arguments};
    return ask_run(call, &ask, err);
}

const struct verb verb_cleanup = {
    .name = "cleanup",
    .summary = "End test failovers and remove all that they made",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
