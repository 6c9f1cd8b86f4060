/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    {"point", "P", false, false, "The point to try; the latest unless told."},
    {"host", "NAME", false, false, "The target host; else the one that is set, or this one."},
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const arguments[] = {"point", NULL};
    const struct ask ask = {.verb = "test-failover",
                            .where = ASK_TARGET,
                            .done = "test failover runs",
                            .arguments = arguments};
    return ask_run(call, &ask, err);
}

const struct verb verb_test_failover = {
    .name = "test-failover",
    .summary = "Try a failover: a copy in an isolated network",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
