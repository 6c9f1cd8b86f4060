/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "tools/vm.h"

#define TIMEOUT_DEFAULT_S 300u
#define TIMEOUT_MAX_S     86400u

static const struct option_spec options[] = {
    {"application", NULL, false, false,
     "The guest's applications were made quiet: kind application."},
    {"label", "TEXT", false, false, "Words kept with the point, at most 128 bytes."},
    {"wait", "target", true, false,
     "Return once the point is durable in the cache; =target: applied there."},
    {"timeout", "SECONDS", false, false, "How long to wait, 300 unless told."},
    OPTIONS_END,
};

static bool ask(const struct verb_call *call, enum wait_for wait, uint64_t timeout_s,
                cJSON **answer, struct err *err)
{
    cJSON *request AUTO_JSON = NULL;
    const char *label = option_value(call->options, "label", 0);
    if (label && strlen(label) > POINT_LABEL_MAX)
        return err_set(err, ERR_INVALID, "--label is longer than %u bytes", POINT_LABEL_MAX);
    return command_make("point", &request, err) &&
           json_add_bool(request, "application", option_given(call->options, "application"), err) &&
           json_add_text(request, "label", label ? label : "", err) &&
           json_add_bool(request, "wait", wait != WAIT_NOTHING, err) &&
           json_add_u64(request, "timeout_ms", timeout_s * 1000, err) &&
           command_ask(call, call->options->operands[0], request, timeout_s * 1000 + 10000, answer,
                       err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    const char *name = call->options->operands[0];
    struct vm vm AUTO_VM = VM_NONE;
    cJSON *answer AUTO_JSON = NULL;
    enum wait_for wait;
    uint64_t timeout_s, epoch;
    const char *id;

    if (!option_wait(call->options, &wait, err) ||
        !option_number(call->options, "timeout", TIMEOUT_DEFAULT_S, 1, TIMEOUT_MAX_S, &timeout_s,
                       err))
        return false;
    uint64_t deadline_ns = call->world->ops->boottime_ns(call->world) + timeout_s * 1000000000u;
    if (!ask(call, wait, timeout_s, &answer, err))
        return false;
    if (wait == WAIT_NOTHING) {
        printf("%s: a point is being made; farshore points %s lists it once it is applied\n", name,
               name);
        return true;
    }
    if (!json_text(answer, "id", &id, err) || !json_u64(answer, "epoch", &epoch, err))
        return err_wrap(err, "the mount's answer");
    if (wait == WAIT_TARGET &&
        !(vm_load(call, name, &vm, err) && vm_open_caches(&vm, VM_LOOKS, err) &&
          vm_wait_applied(&vm, epoch, deadline_ns, err)))
        return false;
    printf("%s\n", id);
    return true;
}

const struct verb verb_point = {
    .name = "point",
    .summary = "Make a recovery point now",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
