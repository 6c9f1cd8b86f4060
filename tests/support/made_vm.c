/* SPDX-License-Identifier: MIT */
#include "tests/support/made_vm.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#define STEPS_MAX 1000

void made_vm_init(struct made_vm *vm, uint16_t disks, uint64_t blocks)
{
    vm->world = fake_world_make(1);
    vm->cache_bucket = memory_bucket_make();
    vm->target_bucket = memory_bucket_make();
    vm->cache = memory_store_open(vm->cache_bucket);
    vm->target = memory_store_open(vm->target_bucket);
    epoch_maker_init(&vm->maker, vm->world, vm->target, vm->cache, disks, blocks);
}

void made_vm_release(struct made_vm *vm)
{
    epoch_maker_release(&vm->maker);
    store_close(&vm->cache);
    store_close(&vm->target);
    memory_bucket_release(&vm->cache_bucket);
    memory_bucket_release(&vm->target_bucket);
    fake_world_release(&vm->world);
}

void made_processor_open(struct made_vm *vm, struct made_processor *p)
{
    struct err err = ERR_NONE;
    p->caches[0] = memory_store_open(vm->cache_bucket);
    p->targets[0] = memory_store_open(vm->target_bucket);
    struct processor_config config = {
        .world = vm->world,
        .vm = MADE_VM,
        .keys = vm->maker.keys,
        .targets = p->targets,
        .caches = p->caches,
        .store_count = 1,
    };
    check_ok(processor_open(&config, &p->processor, &err), err);
}

void made_processor_close(struct made_processor *p)
{
    processor_close(&p->processor);
    store_close(&p->caches[0]);
    store_close(&p->targets[0]);
}

void made_vm_apply(struct made_vm *vm)
{
    struct made_processor p;
    struct err err = ERR_NONE;

    made_processor_open(vm, &p);
    for (int steps = 0; steps < STEPS_MAX; steps++) {
        enum processor_result result = processor_step(p.processor, &err);
        if (result == PROCESSOR_FAILED)
            fail_msg("processor_step: %s: %s", err_kind_name(err.kind), err.text);
        if (result == PROCESSOR_IDLE)
            break;
        assert_true(steps + 1 < STEPS_MAX);
    }
    made_processor_close(&p);
}

struct history *made_vm_history(struct made_vm *vm)
{
    struct err err = ERR_NONE;
    struct history *h = NULL;
    check_ok(history_open(vm->world, vm->target, MADE_VM, vm->maker.keys, &h, &err), err);
    return h;
}

static bool name_add(void *context, const char *key, uint64_t bytes)
{
    struct buf *out = context;
    (void)bytes;
    buf_put(out, key, strlen(key));
    buf_put(out, "\n", 1);
    return true;
}

void made_names(struct store *s, const char *prefix, struct buf *out)
{
    struct err err = ERR_NONE;
    buf_clear(out);
    check_ok(store_list(s, prefix, NULL, name_add, out, &err), err);
    buf_put_u8(out, 0);
}
