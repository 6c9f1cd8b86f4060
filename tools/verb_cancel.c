/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

static const struct option_spec options[] = {
    {"force", NULL, false, false,
     "The target host is lost: do without it. It must not run the VM any more."},
    ASK_OPTIONS,
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const arguments[] = {"force", NULL};
    bool force = option_given(call->options, "force");
    const struct ask ask = {.verb = "cancel",
                            .where = force ? ASK_HERE : ASK_FAILOVER,
                            .arguments = arguments,
                            .done = "cancelled, the old source goes on"};
    return ask_run(call, &ask, err);
}

const struct verb verb_cancel = {
    .name = "cancel",
    .summary = "Take a failover back, before the commit",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
