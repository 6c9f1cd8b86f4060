/* SPDX-License-Identifier: MIT
 * pause, resume and resync: one word each to the running mount. */
#include "tools/failover/glance.h"
#include "tools/vm.h"

#define ANSWER_MS 30000u

static const struct option_spec no_options[] = {OPTIONS_END};

static bool tell(const struct verb_call *call, enum states_verb verb, const char *command,
                 const char *done, struct err *err)
{
    const char *vm = call->options->operands[0];
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    cJSON *request AUTO_JSON = NULL;
    if (!settings_load(call->world, call->paths, vm, &s, err) ||
        !glance_check(call, &s, verb, false, err) || !command_make(command, &request, err) ||
        !vm_ask(call, vm, request, ANSWER_MS, NULL, err))
        return false;
    printf("%s: %s\n", vm, done);
    return true;
}

static bool run_pause(const struct verb_call *call, struct err *err)
{
    return tell(call, STATES_PAUSE, "pause",
                "paused: writes are tracked and nothing ships until resume", err);
}

static bool run_resume(const struct verb_call *call, struct err *err)
{
    return tell(call, STATES_PAUSE, "resume", "shipping again", err);
}

static bool run_resync(const struct verb_call *call, struct err *err)
{
    return tell(call, STATES_RESYNC, "resync",
                "every block is read and compared; what differs ships", err);
}

const struct verb verb_pause = {
    .name = "pause",
    .summary = "Stop shipping; writes go on and are tracked",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = no_options,
    .run = run_pause,
};

const struct verb verb_resume = {
    .name = "resume",
    .summary = "Ship again after pause",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = no_options,
    .run = run_resume,
};

const struct verb verb_resync = {
    .name = "resync",
    .summary = "Compare every block with the replica and ship what differs",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = no_options,
    .run = run_resync,
};
