/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    {"point", "P", false, false, "The point to go back to."},
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const arguments[] = {"point", NULL};
    if (!option_given(call->options, "point"))
        return err_set(err, ERR_INVALID, "revert needs --point P: farshore points VM lists them");
    const struct ask ask = {.verb = "revert",
                            .where = ASK_RUNNING,
                            .done = "reverted; what it was before is a branch",
                            .arguments = arguments};
    return ask_run(call, &ask, err);
}

const struct verb verb_revert = {
    .name = "revert",
    .summary = "Go on from an earlier point, in place",
    .operands = "VM --point P",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
