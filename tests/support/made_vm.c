/* SPDX-License-Identifier: MIT */
#include "tests/support/made_vm.h"

#include "backend/history/frame.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#include <stdio.h>

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

/* --- frames --- */

struct place {
    struct store *store;
    char key[KEY_MAX + RUN_SEGMENT_NAME_MAX];
    uint64_t offset;
};

static bool place_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct place *p = context;
    return store_get(p->store, p->key, p->offset + offset, out, err);
}

struct sha256 made_vm_frames_digest(struct made_vm *vm)
{
    struct history *h = made_vm_history(vm);
    struct frame_codec *codec AUTO_FRAME_CODEC = NULL;
    struct run *run AUTO_RUN = NULL;
    struct buf all AUTO_BUF = BUF_NONE;
    struct run_entry entry;
    struct err err = ERR_NONE;
    bool found = true;

    struct record_epoch e = history_epoch(h, history_epochs(h) - 1, NULL);
    struct place place = {.store = vm->target, .offset = e.run_offset};
    snprintf(place.key, sizeof place.key, "%s/%s", MADE_VM, e.run_key);
    struct run_source source = {.fetch = place_fetch, .context = &place, .bytes = e.run_bytes};
    check_ok(run_open(vm->maker.keys, vm->maker.vault.vm, source, &run, &err), err);
    check_ok(frame_codec_make(vm->maker.keys, &codec, &err), err);
    for (struct run_cursor cursor = {.run = run};;) {
        uint8_t stored[FRAME_SEALED_MAX], plain[FRAME_PLAIN_MAX];
        char segment[RUN_SEGMENT_NAME_MAX];
        struct place at = {.store = vm->target};
        uint16_t store;
        check_ok(run_next(&cursor, &entry, &found, &err), err);
        if (!found)
            break;
        const char *name = run_segment_name(run, entry.segment);
        if (strcmp(name, RUN_SEGMENT_SELF) == 0)
            snprintf(segment, sizeof segment, "%s", e.run_key);
        else
            assert_true(segment_name_parse(name, &store, segment));
        snprintf(at.key, sizeof at.key, "%s/%s", MADE_VM, segment);
        check_ok(place_fetch(&at, entry.offset, mspan_of(stored, entry.stored_bytes), &err), err);
        check_ok(frame_decode(codec, &entry.frame, span_of(stored, entry.stored_bytes),
                              mspan_of(plain, entry.frame.blocks * BLOCK_BYTES), &err),
                 err);
        buf_put_u64(&all, entry.first);
        buf_put(&all, plain, entry.frame.blocks * BLOCK_BYTES);
    }
    history_close(&h);
    return sha256_of(buf_span(&all));
}
