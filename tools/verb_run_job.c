/* SPDX-License-Identifier: MIT
 * One job in a process of its own: what the agent starts. */
#include "tools/failover/dispatch.h"

static const struct option_spec options[] = {
    {"begin", "VERB", false, false, "Begin a job, instead of claiming one."},
    {"host", "NAME", false, false, "With --begin: the host that is to run it, not this one."},
    {"still", NULL, false, false, "Nothing new was seen of it for the time of a lease."},
    OPTIONS_END,
};

static bool begin(const struct verb_call *call, struct vm *vm, const char *verb, struct err *err)
{
    struct host_config me;
    if (!host_config_load(call->world, call->paths, &me, err))
        return false;
    const char *host = option_value(call->options, "host", 0);
    const struct dispatch d = {
        .verb = verb, .host = host != NULL ? host : me.name, .quiet = host == NULL};
    return dispatch(call, vm, &d, NULL, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    const char *verb = option_value(o, "begin", 0);
    struct vm vm AUTO_VM = VM_NONE;
    if ((verb != NULL) != (o->operand_count == 1))
        return err_set(err, ERR_INVALID, "run-job: a job's id or --begin");
    if (!vm_load(call, o->operands[0], &vm, err) || !vm_open_targets(&vm, VM_LOOKS, err))
        return false;
    return verb != NULL
               ? begin(call, &vm, verb, err)
               : dispatch_claimed(call, &vm, o->operands[1], option_given(o, "still"), err);
}

const struct verb verb_run_job = {
    .name = "run-job",
    .summary = "Run a job of this host (started by farshore host)",
    .operands = "VM [ID]",
    .operands_least = 1,
    .operands_most = 2,
    .options = options,
    .hidden = true,
    .run = run,
};
