/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    {"planned", NULL, false, false, "Shut it down at the source first: nothing is lost."},
    {"point", "P", false, false,
     "The point to start from; else the newest verified one, or the latest."},
    {"host", "NAME", false, false, "The target host; else the one that is set, or this one."},
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const arguments[] = {"planned", "point", NULL};
    const struct ask ask = {
        .verb = "failover", .where = ASK_TARGET, .done = "failed over", .arguments = arguments};
    return ask_run(call, &ask, err);
}

const struct verb verb_failover = {
    .name = "failover",
    .summary = "Start a VM on its target host",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
