/* SPDX-License-Identifier: MIT
 * undo, begun by the agent of a host that was away while its failover was cancelled without it:
 * what a cancel would have ended and removed here. */
#include "tools/failover/handlers.h"

#include "tools/failover/takeover.h"

static bool run_undo(const struct verb_call *call, struct vm *vm, struct job_run *job,
                     cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    (void)values;
    if (!flow_open(call, vm, job, &f, err) || !flow_alone(&f, err))
        return false;
    return takeover_left(&vm->settings, f.protection, f.host.name)
               ? takeover_undo(&f, err)
               : flow_step(&f, "undo", err, "nothing to do");
}

const struct handler handler_undo = {.verb = "undo", .resumable = true, .run = run_undo};
