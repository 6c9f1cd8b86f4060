/* SPDX-License-Identifier: MIT */
#include "tests/support/made_thinner.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#define STEPS_MAX 100000
#define MS        1000000ull

struct retention made_policy(const char *keep, uint64_t application, uint64_t grace_ms)
{
    struct retention r = {.application = application, .grace_ms = grace_ms};
    struct err err = ERR_NONE;
    check_ok(retention_parse_keep(keep, &r, &err), err);
    return r;
}

static void thinner_begin(struct made_thinner *t, const struct retention *policy)
{
    struct err err = ERR_NONE;
    check_ok(
        history_open(t->vm->world, t->targets[0], MADE_VM, t->vm->maker.keys, &t->history, &err),
        err);
    check_ok(thinner_open(&t->config, t->history, policy, &t->thinner, &err), err);
    if (t->small)
        made_thinner_small(t);
}

struct thinner_limits made_small_limits(void)
{
    return (struct thinner_limits){.merge_bytes = 800,
                                   .merge_small = 300,
                                   .level_run_bytes = 300,
                                   .level = {.bytes = 1000, .runs = 2}};
}

void made_thinner_small(struct made_thinner *t)
{
    t->small = true;
    t->thinner->limits = made_small_limits();
}

void made_thinner_open(struct made_vm *vm, const struct retention *policy, struct made_thinner *t)
{
    uint64_t now_ms = vm->world->ops->realtime_ns(vm->world) / MS;
    if (now_ms < vm->maker.clock_ms)
        fake_world_jump(vm->world, (int64_t)((vm->maker.clock_ms - now_ms) * MS));
    *t = (struct made_thinner){.vm = vm};
    t->caches[0] = memory_store_open(vm->cache_bucket);
    t->targets[0] = memory_store_open(vm->target_bucket);
    t->config = (struct processor_config){.world = vm->world,
                                          .vm = MADE_VM,
                                          .keys = vm->maker.keys,
                                          .targets = t->targets,
                                          .caches = t->caches,
                                          .store_count = 1};
    thinner_begin(t, policy);
}

void made_thinner_restart(struct made_thinner *t, const struct retention *policy)
{
    thinner_close(&t->thinner);
    history_close(&t->history);
    thinner_begin(t, policy);
}

void made_thinner_close(struct made_thinner *t)
{
    thinner_close(&t->thinner);
    history_close(&t->history);
    store_close(&t->caches[0]);
    store_close(&t->targets[0]);
}

void made_vm_pass_ms(struct made_vm *vm, uint64_t ms)
{
    fake_world_advance(vm->world, ms * MS);
    vm->maker.clock_ms += ms;
}

void made_thinner_settle(struct made_thinner *t)
{
    struct err err = ERR_NONE;
    struct thinner_report before = {.leaving = UINT64_MAX};

    for (int steps = 0;; steps++) {
        assert_true(steps < STEPS_MAX);
        enum thinner_result result = thinner_step(t->thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("thinner_step: %s: %s", err_kind_name(err.kind), err.text);
        if (result == THINNER_WAITS)
            fake_world_advance(t->vm->world, 1000 * MS);
        if (result != THINNER_IDLE)
            continue;
        struct thinner_report now = thinner_report(t->thinner);
        if (memcmp(&now, &before, sizeof now) == 0)
            return;
        before = now;
        thinner_hurry(t->thinner); /* what is due by time is due then */
    }
}

void made_vm_thin(struct made_vm *vm, const struct retention *policy)
{
    struct made_thinner t;
    made_thinner_open(vm, policy, &t);
    thinner_hurry(t.thinner);
    made_thinner_settle(&t);
    made_thinner_close(&t);
}
