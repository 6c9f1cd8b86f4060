/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    const struct ask ask = {.verb = "change-point",
                            .where = ASK_FAILOVER,
                            .done = "started from another point",
                            .operand = "point"};
    return ask_run(call, &ask, err);
}

const struct verb verb_change_point = {
    .name = "change-point",
    .summary = "Choose another point, before the commit",
    .operands = "VM P",
    .operands_least = 2,
    .operands_most = 2,
    .options = options,
    .run = run,
};
