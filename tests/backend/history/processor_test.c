/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <stdio.h>

#include "backend/history/frame.h"
#include "backend/history/history_internal.h"
#include "backend/history/progress.h"
#include "backend/history/sweep.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#define GENERATION "vm1/g0001-0123456789abcdef/"

static int setup(void **state)
{
    struct made_vm *vm = calloc(1, sizeof *vm);
    made_vm_init(vm, 2, 4096);
    *state = vm;
    return 0;
}

static int teardown(void **state)
{
    made_vm_release(*state);
    free(*state);
    return 0;
}

static struct processor_progress progress_of(struct made_vm *vm)
{
    struct err err = ERR_NONE;
    struct processor_progress p;
    check_ok(progress_read(vm->cache, MADE_VM, vm->maker.keys, &p, &err), err);
    return p;
}

static void check_cache(struct made_vm *vm, const char *expected)
{
    struct buf names AUTO_BUF = BUF_NONE;
    made_names(vm->cache, GENERATION, &names);
    assert_string_equal((const char *)names.data, expected);
}

/* --- reading runs back, frame by frame, without a view --- */

struct place {
    struct store *store;
    char key[KEY_MAX];
    uint64_t offset;
};

static bool place_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct place *p = context;
    return store_get(p->store, p->key, p->offset + offset, out, err);
}

/* A digest over all that the runs of the history say and hold, whatever the objects are called. */
static struct sha256 content_digest(struct made_vm *vm)
{
    struct history *h = made_vm_history(vm);
    struct err err = ERR_NONE;
    struct buf all AUTO_BUF = BUF_NONE;
    struct frame_codec *codec AUTO_FRAME_CODEC = NULL;

    check_ok(frame_codec_make(vm->maker.keys, &codec, &err), err);
    for (size_t i = 0; i < history_epochs(h); i++) {
        struct record_epoch e = history_epoch(h, i, NULL);
        struct place place = {.store = vm->target, .offset = e.run_offset};
        struct run *run AUTO_RUN = NULL;
        struct run_entry entry;
        bool found = true;

        buf_put_u64(&all, e.epoch);
        buf_put_u64(&all, e.point_ms);
        buf_put_u64(&all, e.data_bytes);
        buf_put_u8(&all, (uint8_t)e.kind);
        buf_put(&all, e.entry_digest.bytes, SHA256_BYTES);
        if (e.run_bytes == 0)
            continue;
        snprintf(place.key, sizeof place.key, "%s/%s", MADE_VM, e.run_key);
        struct run_source source = {.fetch = place_fetch, .context = &place, .bytes = e.run_bytes};
        check_ok(run_open(vm->maker.keys, vm->maker.vault.vm, source, &run, &err), err);
        struct run_cursor cursor = {.run = run};
        for (;;) {
            uint8_t stored[FRAME_SEALED_MAX], plain[FRAME_PLAIN_MAX];
            uint16_t store = 0;
            char segment[RUN_SEGMENT_NAME_MAX], key[KEY_MAX + RUN_SEGMENT_NAME_MAX];
            check_ok(run_next(&cursor, &entry, &found, &err), err);
            if (!found)
                break;
            buf_put_u8(&all, (uint8_t)entry.kind);
            buf_put_u16(&all, entry.disk);
            buf_put_u64(&all, entry.first);
            buf_put_u64(&all, entry.count);
            if (entry.kind != RUN_DATA)
                continue;
            const char *name = run_segment_name(run, entry.segment);
            if (strcmp(name, RUN_SEGMENT_SELF) == 0)
                snprintf(segment, sizeof segment, "%s", e.run_key);
            else
                assert_true(segment_name_parse(name, &store, segment));
            snprintf(key, sizeof key, "%s/%s", MADE_VM, segment);
            check_ok(store_get(vm->target, key, entry.offset, mspan_of(stored, entry.stored_bytes),
                               &err),
                     err);
            check_ok(frame_decode(codec, &entry.frame, span_of(stored, entry.stored_bytes),
                                  mspan_of(plain, entry.frame.blocks * BLOCK_BYTES), &err),
                     err);
            buf_put(&all, plain, entry.frame.blocks * BLOCK_BYTES);
        }
    }
    assert_false(all.failed);
    history_close(&h);
    return sha256_of(buf_span(&all));
}

/* Five epochs of all kinds, small and in parts; the same for every call. */
static void ship_some(struct made_vm *vm)
{
    struct epoch_maker *m = &vm->maker;

    epoch_maker_fill(m, 0, 5, 50);
    epoch_maker_fill(m, 1, 7, 70);
    epoch_maker_ship(m, EPOCH_PASS, 0, NULL);
    m->inline_max = 0;
    m->part_max = 64 * 1024;
    for (uint32_t i = 0; i < 64; i++)
        epoch_maker_fill(m, 0, 100 + i, 1000 + i);
    epoch_maker_cut(m);
    m->inline_max = EPOCH_INLINE_BYTES;
    epoch_maker_hole(m, 0, 100, 20);
    epoch_maker_unreadable(m, 1, 7);
    epoch_maker_ship(m, EPOCH_CUT, POINT_APPLICATION, "before the update");
    epoch_maker_ship(m, EPOCH_HEARTBEAT, 0, NULL);
    epoch_maker_fill(m, 0, 110, 11000);
    epoch_maker_cut(m);
}

/* --- tests --- */

static void one_epoch_becomes_a_point(void **state)
{
    struct made_vm *vm = *state;

    epoch_maker_fill(&vm->maker, 0, 3, 33);
    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_points(h), 1);
    assert_true(history_point(h, 0).ms == MADE_CLOCK_MS);
    assert_int_equal(history_point(h, 0).epoch, 1);
    history_close(&h);
    check_cache(vm, GENERATION "0000000000000000\n" GENERATION "0000000000000001\n");
}

static void many_epochs_become_history_and_leave_the_newest_two(void **state)
{
    struct made_vm *vm = *state;

    ship_some(vm);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_epochs(h), 5);
    assert_int_equal(history_points(h), 3);
    struct history_point first = history_point(h, 0);
    struct history_point held = history_point(h, 1);
    assert_int_equal(first.epoch, 2);
    assert_true(first.data_bytes >
                history_epoch(h, first.index, NULL).data_bytes); /* with the pass */
    assert_int_equal(held.kind, POINT_APPLICATION);
    assert_string_equal(held.label, "before the update");
    assert_true(held.until_ms == held.ms + 1000); /* the heartbeat said so */
    history_close(&h);
    check_cache(vm, GENERATION "0000000000000004\n" GENERATION "0000000000000005\n");
}

static void small_epochs_share_a_segment(void **state)
{
    struct made_vm *vm = *state;
    struct buf names AUTO_BUF = BUF_NONE;
    size_t lines = 0;

    for (uint32_t i = 1; i <= 20; i++) {
        epoch_maker_fill(&vm->maker, 0, i, i);
        epoch_maker_cut(&vm->maker);
    }
    made_vm_apply(vm);
    made_names(vm->target, "vm1/segments/", &names);
    for (size_t i = 0; i < names.length; i++)
        lines += names.data[i] == '\n';
    assert_int_equal(lines, 1);
    made_names(vm->target, "vm1/history/", &names);
    assert_non_null(strstr((const char *)names.data, "0000000000000002"));
    assert_null(strstr((const char *)names.data, "0000000000000003"));
}

static void an_idle_processor_puts_nothing(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct made_processor p;
    struct buf before AUTO_BUF = BUF_NONE;
    struct buf after AUTO_BUF = BUF_NONE;

    ship_some(vm);
    made_processor_open(vm, &p);
    while (processor_step(p.processor, &err) != PROCESSOR_IDLE)
        assert_int_equal(err.kind, ERR_OK);
    made_names(vm->cache, "vm1/", &before);
    for (int i = 0; i < 40; i++)
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_IDLE);
    made_names(vm->cache, "vm1/", &after);
    assert_string_equal((const char *)before.data, (const char *)after.data);
    made_processor_close(&p);
}

static size_t count_names(struct made_vm *vm, const char *prefix)
{
    struct buf names AUTO_BUF = BUF_NONE;
    size_t lines = 0;
    made_names(vm->cache, prefix, &names);
    for (size_t i = 0; i < names.length; i++)
        lines += names.data[i] == '\n';
    return lines;
}

/* Whatever a store lists, what is kept of it has a bound. */
static void a_sweep_takes_so_many_parts_and_the_next_the_others(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct err err = ERR_NONE;
    char key[KEY_MAX];

    for (unsigned i = 0; i < SWEEP_PARTS_MAX + 10; i++) {
        snprintf(key, sizeof key, GENERATION "parts/0000000000000001-00000000deadbeef-%05u", i);
        memory_bucket_set(vm->cache_bucket, key, span_of_text("stray"));
    }
    made_processor_open(vm, &p);
    epoch_maker_cut(&vm->maker);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED);
    assert_int_equal(count_names(vm, GENERATION "parts/"), 10);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_IDLE);
    assert_int_equal(count_names(vm, GENERATION "parts/"), 0);
    made_processor_close(&p);
}

static void old_progress_is_removed_so_many_at_a_time(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    char key[KEY_MAX];

    for (unsigned i = 0; i < PROGRESS_KEEP + PROGRESS_TIDY_MAX + 10; i++) {
        key_progress(key, MADE_VM, i + 1);
        memory_bucket_set(vm->cache_bucket, key, span_of_text("old"));
    }
    check_ok(progress_tidy(vm->cache, MADE_VM, &err), err);
    assert_int_equal(count_names(vm, "vm1/progress/"), PROGRESS_KEEP + 10);
    check_ok(progress_tidy(vm->cache, MADE_VM, &err), err);
    assert_int_equal(count_names(vm, "vm1/progress/"), PROGRESS_KEEP);
}

static void progress_says_how_far_it_is(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct processor_progress p;

    check_fails(progress_read(vm->cache, MADE_VM, vm->maker.keys, &p, &err), err, ERR_NOT_FOUND);
    ship_some(vm);
    made_vm_apply(vm);
    p = progress_of(vm);
    assert_int_equal(p.applied_epoch, 5);
    assert_true(p.applied_point_ms == MADE_CLOCK_MS + 4000);
    assert_int_equal(p.generation.number, 1);
    assert_string_equal(p.health, "ok");
}

static void progress_keeps_some_objects_and_survives_a_list_that_lags(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct err err = ERR_NONE;

    made_processor_open(vm, &p);
    for (uint32_t i = 1; i <= 40; i++) {
        epoch_maker_cut(&vm->maker);
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED);
    }
    made_processor_close(&p);
    assert_in_range(count_names(vm, "vm1/progress/"), PROGRESS_KEEP,
                    PROGRESS_KEEP + PROGRESS_TIDY_PUTS - 1);
    assert_int_equal(progress_of(vm).applied_epoch, 40);
    memory_bucket_lag_lists(vm->cache_bucket, 20);
    assert_true(progress_of(vm).applied_epoch >= 20); /* old, yet there */
}

/* A new processor whose list shows no progress object at all may not put a lower number. */
static void progress_makes_no_step_back(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct err err = ERR_NONE;

    made_processor_open(vm, &p);
    for (uint32_t i = 1; i <= 40; i++) {
        epoch_maker_cut(&vm->maker);
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED);
        fake_world_advance(vm->world, 5000000000);
    }
    made_processor_close(&p);
    epoch_maker_cut(&vm->maker);
    memory_bucket_lag_lists(vm->cache_bucket, 1000);
    made_vm_apply(vm);
    memory_bucket_lag_lists(vm->cache_bucket, 0);
    assert_int_equal(progress_of(vm).applied_epoch, 41);
}

/* A processor that begins while the list shows nothing yet: entries that it leaves behind would
 * stand before slots that it frees, and let in a source that slept meanwhile. */
static void entries_go_in_order_whatever_a_list_shows(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct err err = ERR_NONE;

    for (uint64_t lag = 1; lag <= 1000; lag = lag * 3 + 1) {
        uint64_t newest = 0;
        memory_bucket_lag_lists(vm->cache_bucket, lag);
        for (uint32_t i = 0; i < 6; i++)
            epoch_maker_cut(&vm->maker);
        made_processor_open(vm, &p);
        for (uint32_t i = 0; i < 4; i++) {
            while (processor_step(p.processor, &err) == PROCESSOR_APPLIED)
                ;
            newest = epoch_maker_cut(&vm->maker);
        }
        made_processor_close(&p);
        bool gone = false;
        for (uint64_t e = newest + 1; e-- > 0;) {
            char key[KEY_MAX];
            key_epoch(key, MADE_VM, vm->maker.generation, e);
            bool there = memory_bucket_has(vm->cache_bucket, key);
            if (there && gone)
                fail_msg("lag %llu: epoch %llu is there, behind it one is gone",
                         (unsigned long long)lag, (unsigned long long)e);
            gone = gone || !there;
        }
        assert_true(gone);
    }
    memory_bucket_lag_lists(vm->cache_bucket, 0);
}

/* --- faults --- */

struct fault {
    uint64_t at; /* the call that fails, counted over both stores; 0: none */
    enum memory_fault how;
    uint64_t calls;
};

static enum memory_fault fault_before(void *context, const struct memory_call *call)
{
    struct fault *f = context;
    (void)call;
    return ++f->calls == f->at ? f->how : MEMORY_PASS;
}

/* Steps a processor whose call number f->at goes wrong; it is thrown away when a step fails, as if
 * it had been killed there. */
static void apply_once_with_fault(struct made_vm *vm, struct fault *f)
{
    struct err err = ERR_NONE;
    struct made_processor p;
    struct processor_config config;

    p.caches[0] = memory_store_open(vm->cache_bucket);
    p.targets[0] = memory_store_open(vm->target_bucket);
    memory_store_hook(p.caches[0], fault_before, NULL, f);
    memory_store_hook(p.targets[0], fault_before, NULL, f);
    config = (struct processor_config){.world = vm->world,
                                       .vm = MADE_VM,
                                       .keys = vm->maker.keys,
                                       .targets = p.targets,
                                       .caches = p.caches,
                                       .store_count = 1};
    p.processor = NULL;
    if (processor_open(&config, &p.processor, &err)) {
        enum processor_result result;
        do
            result = processor_step(p.processor, &err);
        while (result == PROCESSOR_APPLIED || result == PROCESSOR_AGAIN);
    }
    made_processor_close(&p);
}

static void check_like(struct made_vm *vm, const struct sha256 *content, const char *cache,
                       uint64_t epoch)
{
    struct sha256 found = content_digest(vm);
    assert_memory_equal(found.bytes, content->bytes, SHA256_BYTES);
    check_cache(vm, cache);
    assert_string_equal(progress_of(vm).health, "ok");
    assert_int_equal(progress_of(vm).applied_epoch, epoch);
}

/* The source's bytes come of the fake world's seed, so every VM made here is the same. */
static void a_call_that_fails_anywhere_changes_nothing_in_the_end(void **state)
{
    const enum memory_fault how[] = {MEMORY_FAIL, MEMORY_LOSE_REPLY};
    struct made_vm plain;
    struct fault none = {.at = 0};
    struct buf cache AUTO_BUF = BUF_NONE;

    (void)state;
    made_vm_init(&plain, 2, 4096);
    ship_some(&plain);
    apply_once_with_fault(&plain, &none);
    struct sha256 content = content_digest(&plain);
    made_names(plain.cache, GENERATION, &cache);
    made_vm_release(&plain);
    assert_true(none.calls > 20);
    for (uint64_t at = 1; at <= none.calls; at++)
        for (size_t i = 0; i < 2; i++) {
            struct made_vm vm;
            struct fault f = {.at = at, .how = how[i]};
            made_vm_init(&vm, 2, 4096);
            ship_some(&vm);
            apply_once_with_fault(&vm, &f);
            made_vm_apply(&vm);
            check_like(&vm, &content, (const char *)cache.data, 5);
            made_vm_release(&vm);
        }
}

/* From the fault on, every call fails: the process was killed there. */
static enum memory_fault kill_before(void *context, const struct memory_call *call)
{
    struct fault *f = context;
    (void)call;
    return ++f->calls >= f->at ? f->how : MEMORY_PASS;
}

static void killed_at_every_call_it_ends_the_same(void **state)
{
    struct made_vm plain;
    struct fault none = {.at = 0};
    struct buf cache AUTO_BUF = BUF_NONE;

    (void)state;
    made_vm_init(&plain, 2, 4096);
    ship_some(&plain);
    apply_once_with_fault(&plain, &none);
    struct sha256 content = content_digest(&plain);
    made_names(plain.cache, GENERATION, &cache);
    made_vm_release(&plain);
    for (uint64_t at = 1; at <= none.calls; at++) {
        struct made_vm vm;
        struct fault f = {.at = at, .how = MEMORY_FAIL};
        struct made_processor p;
        struct err err = ERR_NONE;

        made_vm_init(&vm, 2, 4096);
        ship_some(&vm);
        made_processor_open(&vm, &p);
        memory_store_hook(p.caches[0], kill_before, NULL, &f);
        memory_store_hook(p.targets[0], kill_before, NULL, &f);
        while (processor_step(p.processor, &err) == PROCESSOR_APPLIED)
            continue;
        made_processor_close(&p);
        made_vm_apply(&vm);
        check_like(&vm, &content, (const char *)cache.data, 5);
        made_vm_release(&vm);
    }
}

/* One processor, idle after a first epoch, then steps through ship_some with a fault. */
static void apply_on_with_fault(struct made_vm *vm, struct fault *f)
{
    struct made_processor p;
    struct err err = ERR_NONE;
    int failures = 0;

    epoch_maker_fill(&vm->maker, 0, 1, 1);
    epoch_maker_cut(&vm->maker);
    made_processor_open(vm, &p);
    while (processor_step(p.processor, &err) != PROCESSOR_IDLE)
        assert_int_equal(err.kind, ERR_OK);
    ship_some(vm);
    memory_store_hook(p.caches[0], fault_before, NULL, f);
    memory_store_hook(p.targets[0], fault_before, NULL, f);
    for (enum processor_result r = PROCESSOR_AGAIN; r != PROCESSOR_IDLE && failures < 3;) {
        r = processor_step(p.processor, &err);
        failures += r == PROCESSOR_FAILED;
    }
    assert_true(failures <= 1);
    made_processor_close(&p);
}

static void the_same_processor_goes_on_after_any_failure(void **state)
{
    struct made_vm plain;
    struct fault none = {.at = 0};
    struct buf cache AUTO_BUF = BUF_NONE;

    (void)state;
    made_vm_init(&plain, 2, 4096);
    apply_on_with_fault(&plain, &none);
    struct sha256 content = content_digest(&plain);
    made_names(plain.cache, GENERATION, &cache);
    made_vm_release(&plain);
    assert_true(none.calls > 20);
    for (uint64_t at = 1; at <= none.calls; at++) {
        struct made_vm vm;
        struct fault f = {.at = at, .how = at % 2 ? MEMORY_LOSE_REPLY : MEMORY_FAIL};

        made_vm_init(&vm, 2, 4096);
        apply_on_with_fault(&vm, &f);
        check_like(&vm, &content, (const char *)cache.data, 6);
        made_vm_release(&vm);
    }
}

static void two_processors_are_as_one(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor a, b;
    struct sha256 shipped[31];
    struct err err = ERR_NONE;

    made_processor_open(vm, &a);
    made_processor_open(vm, &b);
    for (uint32_t i = 1; i <= 30; i++) {
        epoch_maker_fill(&vm->maker, 0, i, i);
        epoch_maker_cut(&vm->maker);
        shipped[i] = vm->maker.previous;
        struct made_processor *first = i % 3 ? &a : &b;
        struct made_processor *second = i % 3 ? &b : &a;
        assert_int_equal(processor_step(first->processor, &err), PROCESSOR_APPLIED);
        if (i % 2)
            assert_int_equal(processor_step(second->processor, &err), PROCESSOR_IDLE);
    }
    made_processor_close(&a);
    made_processor_close(&b);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_points(h), 30);
    for (uint32_t i = 1; i <= 30; i++) {
        struct record_epoch e = history_epoch(h, i - 1, NULL);
        assert_int_equal(e.epoch, i);
        assert_memory_equal(e.entry_digest.bytes, shipped[i].bytes, SHA256_BYTES);
    }
    history_close(&h);
    content_digest(vm); /* reads and opens every frame */
    check_cache(vm, GENERATION "0000000000000029\n" GENERATION "0000000000000030\n");
}

/* What is there stays readable, for whoever opens it next. */
static void a_full_history_takes_no_more_and_stays_readable(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct processor_progress progress;
    struct err err = ERR_NONE;

    made_processor_open(vm, &p);
    processor_history(p.processor)->epochs_max = 7;
    for (uint32_t i = 1; i <= 5; i++)
        epoch_maker_cut(&vm->maker);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED);
    check_ok(progress_read(vm->cache, MADE_VM, vm->maker.keys, &progress, &err), err);
    assert_non_null(strstr(progress.health, "room for 2 more epochs"));
    for (uint32_t i = 1; i <= 5; i++)
        epoch_maker_cut(&vm->maker);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED); /* two of them */
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
        assert_int_equal(err.kind, ERR_FULL);
        assert_non_null(strstr(err.text, "another --target"));
        check_ok(progress_read(vm->cache, MADE_VM, vm->maker.keys, &progress, &err), err);
        assert_non_null(strstr(progress.health, "another --target")); /* though it is cut short */
    }
    uint64_t calls = memory_store_calls(p.caches[0]);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
    assert_true(memory_store_calls(p.caches[0]) - calls <= 2); /* not all that waits is read */
    made_processor_close(&p);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_points(h), 7);
    history_close(&h);
}

struct rival {
    struct made_vm *vm;
    bool ran;
};

/* Another processor does everything just before this one's record is put. */
static enum memory_fault rival_before(void *context, const struct memory_call *call)
{
    struct rival *r = context;
    if (call->op == MEMORY_PUT && strstr(call->key, "/history/") && !r->ran) {
        r->ran = true;
        made_vm_apply(r->vm);
    }
    return MEMORY_PASS;
}

static void the_loser_of_a_race_is_overtaken_and_reads_again(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct rival rival = {.vm = vm};
    struct err err = ERR_NONE;

    ship_some(vm);
    made_processor_open(vm, &p);
    memory_store_hook(p.targets[0], rival_before, NULL, &rival);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_AGAIN);
    assert_true(rival.ran);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_IDLE);
    made_processor_close(&p);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_epochs(h), 5);
    history_close(&h);
}

/* Another one does everything just before call number `at`. */
struct rival_at {
    struct made_vm *vm;
    uint64_t at, calls;
};

static enum memory_fault rival_at_before(void *context, const struct memory_call *call)
{
    struct rival_at *r = context;
    (void)call;
    if (++r->calls == r->at)
        made_vm_apply(r->vm);
    return MEMORY_PASS;
}

static void ship_in_parts(struct made_vm *vm, uint32_t seed)
{
    for (uint32_t i = 0; i < 64; i++)
        epoch_maker_fill(&vm->maker, 0, 100 + i, seed * 1000 + i);
    epoch_maker_cut(&vm->maker);
}

static void overtaken_at_any_call_it_reads_again_and_complains_of_nothing(void **state)
{
    struct rival_at rival = {.at = 1};
    (void)state;
    do {
        struct made_vm vm;
        struct made_processor p;
        struct err err = ERR_NONE;
        enum processor_result result;
        made_vm_init(&vm, 2, 4096);
        vm.maker.inline_max = 0;
        for (uint32_t i = 1; i <= 3; i++)
            ship_in_parts(&vm, i);
        rival = (struct rival_at){.vm = &vm, .at = rival.at};
        made_processor_open(&vm, &p);
        memory_store_hook(p.caches[0], rival_at_before, NULL, &rival);
        memory_store_hook(p.targets[0], rival_at_before, NULL, &rival);
        do
            result = processor_step(p.processor, &err);
        while (result == PROCESSOR_APPLIED || result == PROCESSOR_AGAIN);
        if (result != PROCESSOR_IDLE)
            fail_msg("overtaken at call %llu: %s", (unsigned long long)rival.at, err.text);
        made_processor_close(&p);
        assert_string_equal(progress_of(&vm).health, "ok");
        struct history *h = made_vm_history(&vm);
        assert_int_equal(history_points(h), 3);
        history_close(&h);
        made_vm_release(&vm);
    } while (rival.calls >= rival.at++);
    assert_true(rival.at > 20);
}

/* --- damage --- */

/* Ships a good epoch and then one in parts, which `harm` has a go at. */
static void ship_with_parts(struct made_vm *vm, char part[KEY_MAX])
{
    struct epoch_maker *m = &vm->maker;
    epoch_maker_fill(m, 0, 1, 1);
    epoch_maker_cut(m);
    m->inline_max = 0;
    for (uint32_t i = 0; i < 64; i++)
        epoch_maker_fill(m, 0, 100 + i, 1000 + i);
    epoch_maker_cut(m);
    key_part(part, MADE_VM, m->generation, 2, m->attempt, 0);
}

/* The good epoch is applied, the damaged one is named, and nothing is lost. */
static void check_stops_at_two(struct made_vm *vm, const char *says)
{
    struct made_processor p;
    struct err err = ERR_NONE;

    made_processor_open(vm, &p);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_APPLIED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
        assert_int_equal(err.kind, ERR_CORRUPT);
        check_says(err, "epoch 2");
        check_says(err, says);
    }
    made_processor_close(&p);
    struct processor_progress progress = progress_of(vm);
    assert_int_equal(progress.applied_epoch, 1);
    assert_non_null(strstr(progress.health, "epoch 2"));
    assert_true(memory_bucket_has(vm->cache_bucket, GENERATION "0000000000000002"));
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_points(h), 1);
    history_close(&h);
}

static void a_damaged_part_stops_there_and_is_named(void **state)
{
    struct made_vm *vm = *state;
    char part[KEY_MAX];

    ship_with_parts(vm, part);
    assert_true(memory_bucket_damage(vm->cache_bucket, part, 777, 1));
    check_stops_at_two(vm, part);
    assert_true(memory_bucket_has(vm->cache_bucket, part));
    /* Undamaged again it goes on, and the health with it. */
    assert_true(memory_bucket_damage(vm->cache_bucket, part, 777, 1));
    made_vm_apply(vm);
    assert_string_equal(progress_of(vm).health, "ok");
    assert_int_equal(progress_of(vm).applied_epoch, 2);
}

static void a_missing_part_stops_there_and_is_named(void **state)
{
    struct made_vm *vm = *state;
    char part[KEY_MAX];

    ship_with_parts(vm, part);
    memory_bucket_drop(vm->cache_bucket, part);
    check_stops_at_two(vm, part);
}

static void a_damaged_entry_stops_there_and_is_named(void **state)
{
    struct made_vm *vm = *state;
    char part[KEY_MAX];

    ship_with_parts(vm, part);
    assert_true(memory_bucket_damage(vm->cache_bucket, GENERATION "0000000000000002", 100, 0x80));
    check_stops_at_two(vm, "epoch 2");
}

/* The bytes of a part and its digest may agree and yet be of other frames than the run names. */
static void a_frame_that_the_run_does_not_name_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct epoch_maker *m = &vm->maker;
    struct made_processor p;
    struct err err = ERR_NONE;
    struct buf entry AUTO_BUF = BUF_NONE;
    struct buf forged AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct epoch_part part;
    struct seal_salt salt = {{9}};
    uint8_t bytes[FRAME_SEALED_MAX];

    epoch_maker_fill(m, 0, 1, 1);
    epoch_maker_entry(m, EPOCH_CUT, POINT_CRASH, NULL, &entry);
    check_ok(epoch_decode(buf_span(&entry), m->keys, m->vault.vm, m->generation, 1, &d, &err), err);
    struct epoch_entry e = d.entry;
    memcpy(bytes, e.inline_part.data, e.inline_part.length);
    bytes[0] ^= 1;
    e.inline_part = span_of(bytes, e.inline_part.length);
    part = e.parts[0];
    part.digest = sha256_of(e.inline_part);
    e.parts = &part;
    check_ok(epoch_encode(&e, m->keys, &salt, &forged, &err), err);
    check_ok(store_put(vm->cache, GENERATION "0000000000000001", buf_span(&forged), &err), err);

    made_processor_open(vm, &p);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, "frame");
    made_processor_close(&p);
}

static void a_fork_below_the_head_is_kept_and_reported(void **state)
{
    struct made_vm *vm = *state;
    struct buf stray AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    char part[KEY_MAX];

    /* What an old copy of the source would put in the slot of epoch 1 once that is gone. */
    vm->maker.inline_max = 0;
    epoch_maker_fill(&vm->maker, 0, 1, 99);
    epoch_maker_entry(&vm->maker, EPOCH_CUT, POINT_CRASH, NULL, &stray);
    key_part(part, MADE_VM, vm->maker.generation, 1, vm->maker.attempt, 0);
    vm->maker.inline_max = EPOCH_INLINE_BYTES;
    ship_some(vm);
    made_vm_apply(vm);
    assert_false(
        memory_bucket_has(vm->cache_bucket, part)); /* of an attempt that came to nothing */
    check_ok(store_put(vm->cache, GENERATION "0000000000000001", buf_span(&stray), &err), err);
    check_ok(store_put(vm->cache, part, span_of("part", 4), &err), err);

    epoch_maker_fill(&vm->maker, 0, 2, 2);
    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct processor_progress p = progress_of(vm);
    assert_int_equal(p.applied_epoch, 6);
    assert_true(strncmp(p.health, "fork at epoch 1:", 16) == 0);
    assert_true(memory_bucket_has(vm->cache_bucket, GENERATION "0000000000000001"));
    assert_true(memory_bucket_has(vm->cache_bucket, part));
    memory_bucket_drop(vm->cache_bucket, GENERATION "0000000000000001");
    made_vm_apply(vm);
    assert_string_equal(progress_of(vm).health, "ok");
}

static void a_fork_at_the_head_is_never_built_upon(void **state)
{
    struct made_vm *vm = *state;
    struct buf stray AUTO_BUF = BUF_NONE;
    struct made_processor p;
    struct err err = ERR_NONE;

    epoch_maker_fill(&vm->maker, 0, 1, 99);
    epoch_maker_entry(&vm->maker, EPOCH_CUT, POINT_CRASH, NULL, &stray);
    epoch_maker_cut(&vm->maker); /* epoch 1, another attempt */
    made_vm_apply(vm);
    memory_bucket_set(vm->cache_bucket, GENERATION "0000000000000001", buf_span(&stray));
    vm->maker.previous = sha256_of(buf_span(&stray));
    made_processor_open(vm, &p);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
    check_says(err, "fork at epoch 1");
    /* An epoch that follows from the other one is refused as well. */
    epoch_maker_cut(&vm->maker);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
    check_says(err, "fork at epoch 2");
    assert_int_equal(err.kind, ERR_CORRUPT);
    made_processor_close(&p);
    assert_true(strncmp(progress_of(vm).health, "fork at epoch 2", 15) == 0);
    assert_int_equal(progress_of(vm).applied_epoch, 1);
}

static void a_head_that_vanished_is_an_error(void **state)
{
    struct made_vm *vm = *state;
    struct made_processor p;
    struct err err = ERR_NONE;

    ship_some(vm);
    made_vm_apply(vm);
    memory_bucket_drop(vm->cache_bucket, GENERATION "0000000000000005");
    made_processor_open(vm, &p);
    assert_int_equal(processor_step(p.processor, &err), PROCESSOR_FAILED);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, "gone");
    made_processor_close(&p);
}

static void a_fence_entry_ends_the_log(void **state)
{
    struct made_vm *vm = *state;

    epoch_maker_fill(&vm->maker, 0, 1, 1);
    epoch_maker_cut(&vm->maker);
    epoch_maker_ship(&vm->maker, EPOCH_FENCE, 0, NULL);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_epochs(h), 1);
    history_close(&h);
}

static void a_grown_disk_has_its_size_of_the_time(void **state)
{
    struct made_vm *vm = *state;
    struct epoch_disk disks[VM_DISKS_MAX];

    epoch_maker_fill(&vm->maker, 0, 1, 1);
    epoch_maker_cut(&vm->maker);
    vm->maker.vault.disks[0].size_bytes *= 2;
    epoch_maker_fill(&vm->maker, 0, 5000, 5);
    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_disks(h, 0, disks), 2);
    assert_int_equal(disks[0].size_bytes, 4096 * BLOCK_BYTES);
    assert_int_equal(history_disks(h, 1, disks), 2);
    assert_int_equal(disks[0].size_bytes, 8192 * BLOCK_BYTES);
    history_close(&h);
}

/* Disk 1 has stores of its own: its frames lie there, all runs and records in the VM's. */
static void a_disk_with_stores_of_its_own_keeps_its_frames_there(void **state)
{
    struct made_vm *vm = *state;
    struct memory_bucket *cache = memory_bucket_make();
    struct memory_bucket *target = memory_bucket_make();
    struct store *caches[2] = {vm->cache, memory_store_open(cache)};
    struct store *targets[2] = {vm->target, memory_store_open(target)};
    struct processor_config config = {.world = vm->world,
                                      .vm = MADE_VM,
                                      .keys = vm->maker.keys,
                                      .targets = targets,
                                      .caches = caches,
                                      .store_count = 2};
    struct processor *p = NULL;
    struct err err = ERR_NONE;
    struct buf names AUTO_BUF = BUF_NONE;

    vm->maker.vault.disks[1].store = 1;
    vm->maker.caches[1] = caches[1];
    for (uint32_t i = 0; i < 8; i++) {
        epoch_maker_fill(&vm->maker, 0, i, 1 + i);
        epoch_maker_fill(&vm->maker, 1, i, 100 + i);
    }
    epoch_maker_cut(&vm->maker);
    assert_int_equal(memory_bucket_objects(cache), 1);
    check_ok(processor_open(&config, &p, &err), err);
    assert_int_equal(processor_step(p, &err), PROCESSOR_APPLIED);
    processor_close(&p);
    assert_int_equal(memory_bucket_objects(cache), 0);
    made_names(targets[1], "vm1/", &names);
    assert_int_equal(memory_bucket_objects(target), 1);
    assert_non_null(strstr((const char *)names.data, "vm1/segments/"));

    struct history *h = made_vm_history(vm);
    struct record_epoch e = history_epoch(h, 0, NULL);
    struct place place = {.store = vm->target, .offset = e.run_offset};
    struct run *run AUTO_RUN = NULL;
    snprintf(place.key, sizeof place.key, "%s/%s", MADE_VM, e.run_key);
    struct run_source source = {.fetch = place_fetch, .context = &place, .bytes = e.run_bytes};
    check_ok(run_open(vm->maker.keys, vm->maker.vault.vm, source, &run, &err), err);
    struct run_entry entry;
    bool found = false;
    char segment[RUN_SEGMENT_NAME_MAX];
    uint16_t store = 0;
    check_ok(run_find(run, 1, 0, &entry, &found, &err), err);
    assert_true(found);
    assert_true(segment_name_parse(run_segment_name(run, entry.segment), &store, segment));
    assert_int_equal(store, 1);
    assert_non_null(strstr((const char *)names.data, segment));
    check_ok(run_find(run, 0, 0, &entry, &found, &err), err);
    assert_string_equal(run_segment_name(run, entry.segment), RUN_SEGMENT_SELF);
    history_close(&h);
    store_close(&caches[1]);
    store_close(&targets[1]);
    memory_bucket_release(&cache);
    memory_bucket_release(&target);
}

/* Parts as large as a segment are segments of their own, and the runs follow. */
static void a_large_epoch_is_streamed_part_by_part(void **state)
{
    struct made_vm *vm = *state;
    struct buf names AUTO_BUF = BUF_NONE;
    size_t lines = 0;

    vm->maker.inline_max = 0;
    vm->maker.part_max = 4u << 20;
    epoch_maker_write_noise(&vm->maker, 0, 3200); /* 12.5 MiB that do not compress */
    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    made_names(vm->target, "vm1/segments/", &names);
    for (size_t i = 0; i < names.length; i++)
        lines += names.data[i] == '\n';
    assert_true(lines >= 2);
    content_digest(vm); /* reads and opens every frame */
    made_names(vm->cache, GENERATION "parts/", &names);
    assert_string_equal((const char *)names.data, "");
}

static void a_processor_without_the_data_key_does_it_all(void **state)
{
    struct made_vm *vm = *state;
    struct keys *all = vm->maker.keys;
    struct keys *half AUTO_KEYS = NULL;
    struct err err = ERR_NONE;

    ship_some(vm);
    check_ok(keys_without_data(all, &half, &err), err);
    vm->maker.keys = half;
    made_vm_apply(vm);
    vm->maker.keys = all;
    content_digest(vm);
    assert_int_equal(progress_of(vm).applied_epoch, 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_epoch_becomes_a_point),
        TEST(many_epochs_become_history_and_leave_the_newest_two),
        TEST(small_epochs_share_a_segment),
        TEST(an_idle_processor_puts_nothing),
        TEST(progress_says_how_far_it_is),
        TEST(a_sweep_takes_so_many_parts_and_the_next_the_others),
        TEST(old_progress_is_removed_so_many_at_a_time),
        TEST(progress_keeps_some_objects_and_survives_a_list_that_lags),
        TEST(progress_makes_no_step_back),
        TEST(entries_go_in_order_whatever_a_list_shows),
        cmocka_unit_test(a_call_that_fails_anywhere_changes_nothing_in_the_end),
        cmocka_unit_test(killed_at_every_call_it_ends_the_same),
        cmocka_unit_test(the_same_processor_goes_on_after_any_failure),
        TEST(two_processors_are_as_one),
        TEST(a_full_history_takes_no_more_and_stays_readable),
        TEST(the_loser_of_a_race_is_overtaken_and_reads_again),
        cmocka_unit_test(overtaken_at_any_call_it_reads_again_and_complains_of_nothing),
        TEST(a_damaged_part_stops_there_and_is_named),
        TEST(a_missing_part_stops_there_and_is_named),
        TEST(a_damaged_entry_stops_there_and_is_named),
        TEST(a_frame_that_the_run_does_not_name_is_refused),
        TEST(a_fork_below_the_head_is_kept_and_reported),
        TEST(a_fork_at_the_head_is_never_built_upon),
        TEST(a_head_that_vanished_is_an_error),
        TEST(a_fence_entry_ends_the_log),
        TEST(a_grown_disk_has_its_size_of_the_time),
        TEST(a_disk_with_stores_of_its_own_keeps_its_frames_there),
        TEST(a_large_epoch_is_streamed_part_by_part),
        TEST(a_processor_without_the_data_key_does_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
