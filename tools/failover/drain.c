/* SPDX-License-Identifier: MIT */
#include "tools/failover/drain.h"

static void cleanup_processor(struct processor **p)
{
    processor_close(p);
}

static bool step_until_idle(struct vm *vm, struct processor *p, uint64_t wait_s, struct err *err)
{
    struct world *w = vm->call->world;
    uint64_t deadline_ns = w->ops->boottime_ns(w) + wait_s * 1000000000u;
    for (;;) {
        enum processor_result result = processor_step(p, err);
        if (result == PROCESSOR_IDLE)
            return true;
        if (result == PROCESSOR_FAILED)
            return err_wrap(err, "%s: applying what waits in the cache store", vm->settings.name);
        if (w->ops->boottime_ns(w) >= deadline_ns)
            return err_set(err, ERR_TRANSIENT,
                           "%s: not all that waits in the cache store was applied in time: run it "
                           "again, it goes on from there",
                           vm->settings.name);
    }
}

bool drain_cache(struct vm *vm, uint64_t wait_s, struct err *err)
{
    struct processor *p CLEANUP(cleanup_processor) = NULL;
    struct processor_config config = vm_processor(vm);
    config.history = vm->history;
    return processor_open(&config, &p, err) && step_until_idle(vm, p, wait_s, err);
}
