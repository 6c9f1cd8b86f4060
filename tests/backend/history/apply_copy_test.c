/* SPDX-License-Identifier: MIT
 * Parts that become segments by copies within the store's service, whatever the copies do. */
#include "backend/history/apply.h"

#include <stdio.h>

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#define PART_BYTES (APPLY_COPY_BYTES + (64u << 10))
#define PARTS      2u

/* One epoch of two large parts and a small one; the same for every call. */
static void ship_large(struct made_vm *vm)
{
    struct epoch_maker *m = &vm->maker;

    m->inline_max = 0;
    m->part_max = PART_BYTES;
    epoch_maker_write_noise(m, 0, 560); /* they do not compress */
    epoch_maker_cut(m);
}

struct part {
    char key[KEY_MAX];     /* in the cache */
    char segment[KEY_MAX]; /* of its copy */
    struct buf bytes;
};

static void parts_release(struct part (*parts)[PARTS + 1])
{
    for (size_t i = 0; i < PARTS + 1; i++)
        buf_release(&(*parts)[i].bytes);
}

static bool part_see(void *context, const char *key, uint64_t bytes)
{
    struct part *parts = context;
    size_t i = 0;
    (void)bytes;
    while (parts[i].key[0] != '\0')
        i++;
    assert_true(i < PARTS + 1);
    snprintf(parts[i].key, KEY_MAX, "%s", key);
    return true;
}

static void parts_load(struct made_vm *vm, struct part parts[PARTS + 1])
{
    struct err err = ERR_NONE;
    memset(parts, 0, (PARTS + 1) * sizeof *parts);
    check_ok(
        store_list(vm->cache, "vm1/g0001-0123456789abcdef/parts/", NULL, part_see, parts, &err),
        err);
    for (size_t i = 0; i < PARTS + 1; i++) {
        char hex[2 * SHA256_BYTES + 1];
        check_ok(store_load(vm->cache, parts[i].key, STORE_OBJECT_MAX, &parts[i].bytes, &err), err);
        assert_true((parts[i].bytes.length >= APPLY_COPY_BYTES) == (i < PARTS));
        struct sha256 digest = sha256_of(buf_span(&parts[i].bytes));
        hex_of(digest.bytes, SHA256_BYTES, hex);
        key_segment(parts[i].segment, MADE_VM, hex);
    }
}

/* Of the same epoch, streamed. */
static struct sha256 expected;

static int group_setup(void **state)
{
    struct made_vm vm;
    (void)state;
    made_vm_init(&vm, 1, 4096);
    ship_large(&vm);
    made_vm_apply(&vm);
    expected = made_vm_frames_digest(&vm);
    made_vm_release(&vm);
    return 0;
}

static void check_content(struct made_vm *vm)
{
    struct sha256 found = made_vm_frames_digest(vm);
    struct buf names AUTO_BUF = BUF_NONE;
    assert_memory_equal(found.bytes, expected.bytes, SHA256_BYTES);
    made_names(vm->cache, "vm1/g0001-0123456789abcdef/parts/", &names);
    assert_string_equal((const char *)names.data, "");
}

/* --- a processor over stores that copy --- */

struct watch {
    enum memory_fault copies; /* how each copy goes */
    uint64_t kill_at;         /* from this call on nothing goes; 0: never */
    bool kill_after_copy;
    uint64_t calls;
    unsigned copied, part_gets, segment_gets, segment_puts;
    struct made_vm *rival; /* another processor does it all just before our record is put */
    enum memory_copies rival_copies;
};

struct end {
    struct store *cache, *target;
    struct processor *processor;
};

static void end_open(struct made_vm *vm, enum memory_copies copies, unsigned fetches,
                     memory_before_fn *before, void *context, struct end *e)
{
    struct err err = ERR_NONE;
    e->cache = memory_store_open(vm->cache_bucket);
    e->target = memory_store_open(vm->target_bucket);
    memory_store_copies(e->target, copies);
    struct processor_config config = {.world = vm->world,
                                      .vm = MADE_VM,
                                      .keys = vm->maker.keys,
                                      .targets = &e->target,
                                      .caches = &e->cache,
                                      .store_count = 1,
                                      .fetches = fetches};
    check_ok(processor_open(&config, &e->processor, &err), err);
    memory_store_hook(e->cache, before, NULL, context);
    memory_store_hook(e->target, before, NULL, context);
}

static void end_close(struct end *e)
{
    processor_close(&e->processor);
    store_close(&e->cache);
    store_close(&e->target);
}

static void apply_with(struct made_vm *vm, enum memory_copies copies)
{
    struct end e;
    struct err err = ERR_NONE;
    enum processor_result result;
    end_open(vm, copies, 0, NULL, NULL, &e);
    while ((result = processor_step(e.processor, &err)) != PROCESSOR_IDLE)
        if (result == PROCESSOR_FAILED)
            fail_msg("%s", err.text);
    end_close(&e);
}

static enum memory_fault watch_before(void *context, const struct memory_call *call)
{
    struct watch *w = context;
    bool of_part = strstr(call->key, "/parts/") != NULL;
    bool of_segment = strstr(call->key, "/segments/") != NULL;
    if (++w->calls >= w->kill_at && w->kill_at > 0)
        return MEMORY_FAIL;
    w->part_gets += of_part && call->op == MEMORY_GET;
    w->segment_gets += of_segment && call->op == MEMORY_GET;
    w->segment_puts += of_segment && call->op == MEMORY_PUT;
    if (w->rival != NULL && call->op == MEMORY_PUT && strstr(call->key, "/history/") != NULL) {
        struct made_vm *rival = w->rival;
        w->rival = NULL;
        apply_with(rival, w->rival_copies);
    }
    if (call->op != MEMORY_COPY)
        return MEMORY_PASS;
    w->copied++;
    if (w->kill_after_copy)
        w->kill_at = w->calls + 1;
    return w->copies;
}

/* Steps until idle or failed. */
static enum processor_result step_all(struct made_vm *vm, enum memory_copies copies,
                                      struct watch *w, struct err *err)
{
    struct end e;
    enum processor_result result;
    end_open(vm, copies, 0, watch_before, w, &e);
    do
        result = processor_step(e.processor, err);
    while (result != PROCESSOR_IDLE && result != PROCESSOR_FAILED);
    end_close(&e);
    return result;
}

#define BEGIN                                                                                      \
    struct made_vm vm CLEANUP(made_vm_release);                                                    \
    struct part parts[PARTS + 1] CLEANUP(parts_release);                                           \
    struct watch w = {.copies = MEMORY_PASS};                                                      \
    struct err err = ERR_NONE;                                                                     \
    (void)state;                                                                                   \
    made_vm_init(&vm, 1, 4096);                                                                    \
    ship_large(&vm);                                                                               \
    parts_load(&vm, parts)

static void large_parts_are_copied_and_read_by_nobody_where_a_checksum_proves_them(void **state)
{
    BEGIN;
    assert_int_equal(step_all(&vm, MEMORY_COPIES_PROVED, &w, &err), PROCESSOR_IDLE);
    assert_int_equal(w.copied, PARTS);
    assert_int_equal(w.part_gets, 1); /* the small one is not worth a segment */
    assert_int_equal(w.segment_gets, 0);
    assert_int_equal(w.segment_puts, 1);
    for (size_t i = 0; i < PARTS; i++)
        assert_true(memory_bucket_has(vm.target_bucket, parts[i].segment));
    check_content(&vm);
}

static void a_copy_without_a_checksum_is_read_once(void **state)
{
    BEGIN;
    assert_int_equal(step_all(&vm, MEMORY_COPIES, &w, &err), PROCESSOR_IDLE);
    assert_int_equal(w.copied, PARTS);
    assert_int_equal(w.part_gets, 1);
    assert_int_equal(w.segment_gets, PARTS);
    assert_int_equal(w.segment_puts, 1);
    check_content(&vm);
}

/* The name of a wrong copy is not believed, neither now nor by who comes later. */
static void a_wrong_copy_is_found_left_and_streamed_instead(void **state)
{
    const enum memory_fault how[] = {MEMORY_DAMAGE, MEMORY_CUT};
    for (size_t i = 0; i < 4; i++) {
        BEGIN;
        w.copies = how[i % 2];
        assert_int_equal(step_all(&vm, i < 2 ? MEMORY_COPIES : MEMORY_COPIES_PROVED, &w, &err),
                         PROCESSOR_IDLE);
        assert_int_equal(w.copied, PARTS);
        assert_int_equal(w.part_gets, PARTS + 1);
        assert_true(memory_bucket_has(vm.target_bucket, parts[0].segment));
        check_content(&vm);
    }
}

/* Says that it did it, and did nothing. */
static void a_copy_that_never_was_is_found_and_streamed(void **state)
{
    BEGIN;
    w.copies = MEMORY_DROP;
    assert_int_equal(step_all(&vm, MEMORY_COPIES, &w, &err), PROCESSOR_IDLE);
    assert_int_equal(w.part_gets, PARTS + 1);
    check_content(&vm);
}

static void a_service_that_refuses_is_asked_once_a_batch(void **state)
{
    BEGIN;
    w.copies = MEMORY_DENY;
    assert_int_equal(step_all(&vm, MEMORY_COPIES_PROVED, &w, &err), PROCESSOR_IDLE);
    assert_int_equal(w.copied, 1);
    assert_int_equal(w.part_gets, PARTS + 1);
    check_content(&vm);
}

/* Its reply was lost: the next batch finds the name taken, by the right bytes. */
static void a_copy_whose_reply_was_lost_counts_once_it_is_read(void **state)
{
    BEGIN;
    struct watch again = {.copies = MEMORY_PASS};
    w.copies = MEMORY_LOSE_REPLY;
    w.kill_after_copy = true;
    assert_int_equal(step_all(&vm, MEMORY_COPIES_PROVED, &w, &err), PROCESSOR_FAILED);
    assert_true(memory_bucket_has(vm.target_bucket, parts[0].segment));
    assert_int_equal(step_all(&vm, MEMORY_COPIES_PROVED, &again, &err), PROCESSOR_IDLE);
    assert_int_equal(again.copied, PARTS);
    assert_int_equal(again.segment_gets, 1);
    assert_int_equal(again.part_gets, 1);
    check_content(&vm);
}

/* An epoch of two parts of 5 MiB: over half a segment. */
static void ship_half_segments(struct made_vm *vm, struct part parts[2])
{
    struct epoch_maker *m = &vm->maker;
    struct err err = ERR_NONE;

    m->inline_max = 0;
    m->part_max = 5u << 20;
    epoch_maker_write_noise(m, 0, 2 * (5u << 20) / BLOCK_BYTES);
    epoch_maker_cut(m);
    for (uint32_t i = 0; i < 2; i++) {
        char hex[2 * SHA256_BYTES + 1];
        key_part(parts[i].key, MADE_VM, m->generation, m->epoch, m->attempt, i);
        parts[i].bytes = BUF_NONE;
        check_ok(store_load(vm->cache, parts[i].key, STORE_OBJECT_MAX, &parts[i].bytes, &err), err);
        struct sha256 digest = sha256_of(buf_span(&parts[i].bytes));
        hex_of(digest.bytes, SHA256_BYTES, hex);
        key_segment(parts[i].segment, MADE_VM, hex);
    }
}

static void a_large_part_is_a_segment_of_its_own_where_it_is_streamed_too(void **state)
{
    struct made_vm vm CLEANUP(made_vm_release);
    struct part parts[2];
    (void)state;
    made_vm_init(&vm, 1, 4096);
    ship_half_segments(&vm, parts);
    apply_with(&vm, MEMORY_COPIES_NOT);
    made_vm_frames_digest(&vm); /* opens every frame */
    for (size_t i = 0; i < 2; i++) {
        assert_true(memory_bucket_has(vm.target_bucket, parts[i].segment));
        buf_release(&parts[i].bytes);
    }
}

/* What a processor that was killed between a wrong copy and its proof has left there. */
static void a_streamed_segment_takes_another_name_when_its_own_holds_other_bytes(void **state)
{
    struct made_vm vm CLEANUP(made_vm_release);
    struct part parts[2];
    struct buf kept AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    (void)state;
    made_vm_init(&vm, 1, 4096);
    ship_half_segments(&vm, parts);
    parts[0].bytes.data[99] ^= 1;
    memory_bucket_set(vm.target_bucket, parts[0].segment, buf_span(&parts[0].bytes));
    apply_with(&vm, MEMORY_COPIES_NOT);
    made_vm_frames_digest(&vm);
    check_ok(store_load(vm.target, parts[0].segment, STORE_OBJECT_MAX, &kept, &err), err);
    assert_true(span_equal(buf_span(&kept), buf_span(&parts[0].bytes)));
    for (size_t i = 0; i < 2; i++)
        buf_release(&parts[i].bytes);
}

static enum memory_fault full_before(void *context, const struct memory_call *call)
{
    return call->op == MEMORY_PUT && strcmp(call->key, context) == 0 ? MEMORY_FILL : MEMORY_PASS;
}

/* Else the epochs before it would be applied alone, again and again. */
static void a_target_without_room_is_not_the_epochs_fault(void **state)
{
    struct made_vm vm CLEANUP(made_vm_release);
    struct part parts[2];
    struct end e;
    struct err err = ERR_NONE;

    (void)state;
    made_vm_init(&vm, 1, 4096);
    epoch_maker_cut(&vm.maker);
    ship_half_segments(&vm, parts);
    end_open(&vm, MEMORY_COPIES_NOT, 2, full_before, parts[1].segment, &e);
    assert_int_equal(processor_step(e.processor, &err), PROCESSOR_FAILED);
    assert_int_equal(err.kind, ERR_FULL);
    end_close(&e);
    struct history *h = made_vm_history(&vm);
    assert_int_equal(history_epochs(h), 0);
    history_close(&h);
    for (size_t i = 0; i < 2; i++)
        buf_release(&parts[i].bytes);
}

static void of_parts_fetched_at_once_the_damaged_one_is_named(void **state)
{
    BEGIN;
    struct end e;
    assert_true(memory_bucket_damage(vm.cache_bucket, parts[1].key, 777, 1));
    end_open(&vm, MEMORY_COPIES_NOT, PARTS + 1, NULL, NULL, &e);
    assert_int_equal(processor_step(e.processor, &err), PROCESSOR_FAILED);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, parts[1].key);
    end_close(&e);
    (void)w;
}

static void a_damaged_part_is_named_although_it_could_be_copied(void **state)
{
    for (size_t i = 0; i < 2; i++) {
        BEGIN;
        assert_true(memory_bucket_damage(vm.cache_bucket, parts[1].key, 777, 1));
        assert_int_equal(step_all(&vm, i == 0 ? MEMORY_COPIES : MEMORY_COPIES_PROVED, &w, &err),
                         PROCESSOR_FAILED);
        assert_int_equal(err.kind, ERR_CORRUPT);
        check_says(err, parts[1].key);
        assert_true(memory_bucket_damage(vm.cache_bucket, parts[1].key, 777, 1));
        apply_with(&vm, MEMORY_COPIES_PROVED);
        check_content(&vm);
    }
}

#define FORGED_PARTS 3u

/* An epoch of three parts, of which one was harmed before its digest was taken: what it holds is
 * not what the run says. */
static void ship_forged(struct made_vm *vm, size_t part_max, uint32_t part,
                        void (*harm)(struct buf *bytes))
{
    struct epoch_maker *m = &vm->maker;
    struct buf entry AUTO_BUF = BUF_NONE, forged AUTO_BUF = BUF_NONE, bytes AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct epoch_part parts[FORGED_PARTS];
    struct seal_salt salt = {{9}};
    struct err err = ERR_NONE;
    char key[KEY_MAX];

    m->inline_max = 0;
    m->part_max = part_max;
    epoch_maker_write_noise(m, 0, part_max * 11 / 4 / BLOCK_BYTES);
    epoch_maker_entry(m, EPOCH_CUT, POINT_CRASH, NULL, &entry);
    check_ok(epoch_decode(buf_span(&entry), m->keys, m->vault.vm, m->generation, 1, &d, &err), err);
    assert_int_equal(d.entry.part_count, FORGED_PARTS);
    memcpy(parts, d.entry.parts, sizeof parts);
    key_part(key, MADE_VM, m->generation, 1, d.entry.attempt, part);
    check_ok(store_load(vm->cache, key, STORE_OBJECT_MAX, &bytes, &err), err);
    harm(&bytes);
    memory_bucket_set(vm->cache_bucket, key, buf_span(&bytes));
    parts[part].bytes = bytes.length;
    parts[part].digest = sha256_of(buf_span(&bytes));
    d.entry.parts = parts;
    check_ok(epoch_encode(&d.entry, m->keys, &salt, &forged, &err), err);
    key_epoch(key, MADE_VM, m->generation, 1);
    check_ok(store_put(vm->cache, key, buf_span(&forged), &err), err);
}

static void cut_last(struct buf *b)
{
    b->length--;
}

static void flip_first(struct buf *b)
{
    b->data[0] ^= 1;
}

static void flip_last(struct buf *b)
{
    b->data[b->length - 1] ^= 1;
}

static void check_forged_is_refused(size_t part_max, uint32_t part, void (*harm)(struct buf *),
                                    const char *says)
{
    struct made_vm vm CLEANUP(made_vm_release);
    struct watch w = {.copies = MEMORY_PASS};
    struct err err = ERR_NONE;
    made_vm_init(&vm, 1, 4096);
    ship_forged(&vm, part_max, part, harm);
    assert_int_equal(step_all(&vm, MEMORY_COPIES_PROVED, &w, &err), PROCESSOR_FAILED);
    assert_int_equal(w.copied > 0, part_max >= APPLY_COPY_BYTES);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, says);
}

static void a_frame_outside_a_copied_part_is_refused(void **state)
{
    (void)state;
    check_forged_is_refused(PART_BYTES, 1, cut_last, "outside");
}

static void every_frame_of_every_streamed_part_is_compared(void **state)
{
    (void)state;
    for (uint32_t part = 0; part < FORGED_PARTS; part++) {
        check_forged_is_refused(150u << 10, part, flip_first, "is not the one of its run");
        check_forged_is_refused(150u << 10, part, flip_last, "is not the one of its run");
    }
}

static void killed_at_every_call_it_ends_the_same(void **state)
{
    const enum memory_copies copies[] = {MEMORY_COPIES, MEMORY_COPIES_PROVED};
    const enum memory_fault how[] = {MEMORY_PASS, MEMORY_DAMAGE};
    for (size_t i = 0; i < 4; i++)
        for (uint64_t at = 1, calls = at; at <= calls; at++) {
            BEGIN;
            w.kill_at = at;
            w.copies = how[i / 2];
            bool done = step_all(&vm, copies[i % 2], &w, &err) == PROCESSOR_IDLE;
            calls = done ? 0 : at + 1;
            /* Who comes next can copy, cannot, or is no better. */
            w = (struct watch){.copies = at % 3 == 0 ? MEMORY_DAMAGE : MEMORY_PASS};
            assert_int_equal(
                step_all(&vm, at % 3 == 1 ? MEMORY_COPIES_NOT : copies[i % 2], &w, &err),
                PROCESSOR_IDLE);
            check_content(&vm);
        }
}

static void two_processors_that_copy_are_as_one(void **state)
{
    for (enum memory_copies rival = MEMORY_COPIES_NOT; rival <= MEMORY_COPIES_PROVED; rival++) {
        BEGIN;
        w.rival = &vm;
        w.rival_copies = rival;
        assert_int_equal(step_all(&vm, MEMORY_COPIES, &w, &err), PROCESSOR_IDLE);
        assert_null(w.rival);
        check_content(&vm);
    }
}

/* --- several at once --- */

static enum memory_fault meet_before(void *context, const struct memory_call *call)
{
    if (call->op == MEMORY_GET && strstr(call->key, "/parts/") != NULL)
        pthread_barrier_wait(context);
    return MEMORY_PASS;
}

/* The four wait for each other: one after another this would never end. */
static void as_many_parts_as_told_are_fetched_at_once(void **state)
{
    BEGIN;
    pthread_barrier_t all;
    struct end e;
    pthread_barrier_init(&all, NULL, PARTS + 1);
    end_open(&vm, MEMORY_COPIES_NOT, PARTS + 1, meet_before, &all, &e);
    assert_int_equal(processor_step(e.processor, &err), PROCESSOR_APPLIED);
    end_close(&e);
    pthread_barrier_destroy(&all);
    (void)w;
    check_content(&vm);
}

static void copies_at_once_end_as_one_after_another(void **state)
{
    for (unsigned fetches = 2; fetches <= 16; fetches *= 2) {
        BEGIN;
        struct end e;
        end_open(&vm, fetches % 4 ? MEMORY_COPIES : MEMORY_COPIES_PROVED, fetches, NULL, NULL, &e);
        assert_int_equal(processor_step(e.processor, &err), PROCESSOR_APPLIED);
        end_close(&e);
        (void)w;
        check_content(&vm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_parts_are_copied_and_read_by_nobody_where_a_checksum_proves_them),
        cmocka_unit_test(a_copy_without_a_checksum_is_read_once),
        cmocka_unit_test(a_wrong_copy_is_found_left_and_streamed_instead),
        cmocka_unit_test(a_copy_that_never_was_is_found_and_streamed),
        cmocka_unit_test(a_service_that_refuses_is_asked_once_a_batch),
        cmocka_unit_test(a_copy_whose_reply_was_lost_counts_once_it_is_read),
        cmocka_unit_test(a_large_part_is_a_segment_of_its_own_where_it_is_streamed_too),
        cmocka_unit_test(a_target_without_room_is_not_the_epochs_fault),
        cmocka_unit_test(of_parts_fetched_at_once_the_damaged_one_is_named),
        cmocka_unit_test(a_streamed_segment_takes_another_name_when_its_own_holds_other_bytes),
        cmocka_unit_test(a_damaged_part_is_named_although_it_could_be_copied),
        cmocka_unit_test(a_frame_outside_a_copied_part_is_refused),
        cmocka_unit_test(every_frame_of_every_streamed_part_is_compared),
        cmocka_unit_test(killed_at_every_call_it_ends_the_same),
        cmocka_unit_test(two_processors_that_copy_are_as_one),
        cmocka_unit_test(as_many_parts_as_told_are_fetched_at_once),
        cmocka_unit_test(copies_at_once_end_as_one_after_another),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
