/* SPDX-License-Identifier: MIT */
#include "backend/history/claim.h"
#include "tools/failover/dispatch.h"

static bool fenced(void *context, struct protection *p, bool *same, struct err *err)
{
    (void)context;
    (void)err;
    *same = !p->failover.fence_pending;
    p->failover.fence_pending = false;
    return true;
}

static bool run(const struct verb_call *call, struct vm *vm, struct job_run *job, cJSON **values,
                struct err *err)
{
    struct claim_result result = {.fence_pending = false};
    struct doclog_vault vault = vm_vault(vm);
    cJSON *j AUTO_JSON = NULL;

    if (!job_step(job, "fence", 0, 0, err, "the logs of older generations in the cache store") ||
        !vm_open_caches(vm, VM_LOOKS, err))
        return false;
    const struct claim_config config = {.world = call->world,
                                        .target = vm->targets[0],
                                        .cache = vm->caches[0],
                                        .vm = vm->settings.name,
                                        .keys = vm->keys};
    if (!history_fence(&config, &result, err))
        return false;
    if (result.fence_pending)
        return err_set(err, ERR_TRANSIENT, "the fence is still pending: %s", result.reason);
    if (!protection_change(&vault, fenced, NULL, NULL, err) || !json_make(&j, err) ||
        !json_add_u64(j, "tail_epochs", result.tail_epochs, err) ||
        !json_add_u64(j, "tail_points", result.tail_points, err))
        return false;
    *values = TAKE(j);
    return true;
}

const struct handler handler_fence = {.verb = "fence", .resumable = true, .run = run};
