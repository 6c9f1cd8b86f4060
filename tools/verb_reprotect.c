/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    const struct ask ask = {
        .verb = "reprotect", .where = ASK_RUNNING, .done = "protected the other way"};
    return ask_run(call, &ask, err);
}

const struct verb verb_reprotect = {
    .name = "reprotect",
    .summary = "Replicate a failed-over VM the other way",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
