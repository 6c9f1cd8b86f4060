/* SPDX-License-Identifier: MIT */
#include "backend/history/claim.h"

#include "backend/history/logs.h"
#include "backend/history/pin.h"
#include "backend/history/processor.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include <stdio.h>

#define LABEL "failed over to host b"

static const struct generation first = {.number = 1, .id = 0x0123456789abcdefull};
static const struct generation second = {.number = 2, .id = 0x22};
static const struct generation third = {.number = 3, .id = 0x33};

struct fixture {
    struct made_vm vm;
    struct store *cache, *target; /* the claimer's, with hooks */
    uint64_t calls, fail_at;
    bool lose;                  /* what fails happens all the same */
    bool down;                  /* the cache does not answer */
    uint64_t gets, flip_at;     /* reads from the cache; in this one a bit flips */
    unsigned ship_before_fence; /* epochs that the old writer puts just before a fence */
    struct epoch_maker *writer;
};

static enum memory_fault cache_call(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (f->down)
        return MEMORY_FAIL;
    if (call->op == MEMORY_PUT && f->ship_before_fence > 0 && strstr(call->key, "g0001") != NULL) {
        f->ship_before_fence--;
        epoch_maker_fill(f->writer, 0, 9, 900 + f->ship_before_fence);
        epoch_maker_cut(f->writer);
    }
    if (++f->calls == f->fail_at)
        return f->lose ? MEMORY_LOSE_REPLY : MEMORY_FAIL;
    if (call->op == MEMORY_GET && ++f->gets == f->flip_at)
        return MEMORY_DAMAGE;
    return MEMORY_PASS;
}

static enum memory_fault target_call(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    (void)call;
    if (++f->calls == f->fail_at)
        return f->lose ? MEMORY_LOSE_REPLY : MEMORY_FAIL;
    return MEMORY_PASS;
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){.calls = 0};
    made_vm_init(&f->vm, 1, 4096);
    f->cache = memory_store_open(f->vm.cache_bucket);
    f->target = memory_store_open(f->vm.target_bucket);
    memory_store_hook(f->cache, cache_call, NULL, f);
    memory_store_hook(f->target, target_call, NULL, f);
    f->writer = &f->vm.maker;
    for (uint32_t i = 1; i <= 4; i++) {
        epoch_maker_fill(&f->vm.maker, 0, i, i);
        epoch_maker_cut(&f->vm.maker);
    }
}

static void end(struct fixture *f)
{
    store_close(&f->cache);
    store_close(&f->target);
    made_vm_release(&f->vm);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    begin(f);
    made_vm_apply(&f->vm);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    end(*state);
    free(*state);
    return 0;
}

static struct claim_config config_of(struct fixture *f)
{
    return (struct claim_config){.world = f->vm.world,
                                 .target = f->target,
                                 .cache = f->cache,
                                 .vm = MADE_VM,
                                 .keys = f->vm.maker.keys,
                                 .label = LABEL};
}

static struct claim claim_of(uint64_t parent_epoch)
{
    return (struct claim){
        .generation = second, .ends = first, .parent = first, .parent_epoch = parent_epoch};
}

static bool try_claim(struct fixture *f, struct claim claim, struct claim_result *result,
                      struct err *err)
{
    struct claim_config config = config_of(f);
    *err = ERR_NONE;
    return history_begin_generation(&config, &claim, result, err);
}

static struct claim_result claim(struct fixture *f, struct claim claim)
{
    struct err err = ERR_NONE;
    struct claim_result result;
    check_ok(try_claim(f, claim, &result, &err), err);
    return result;
}

static struct history_tail tail_of(struct fixture *f, struct generation g)
{
    struct err err = ERR_NONE;
    struct history_tail tail;
    struct history *h CLEANUP(history_close) = made_vm_history(&f->vm);
    struct claim_config config = config_of(f);
    config.cache = f->vm.cache;
    config.target = f->vm.target;
    check_ok(history_tail(&config, h, g, &tail, &err), err);
    return tail;
}

/* A writer that goes on in `g` behind its entry 0. */
static struct epoch_maker writer_of(struct fixture *f, struct generation g, uint64_t clock_ms)
{
    struct err err = ERR_NONE;
    struct epoch_maker m = f->vm.maker;
    m.generation = g;
    m.epoch = 0;
    m.clock_ms = clock_ms;
    m.blocks = NULL;
    m.block_count = m.block_room = 0;
    check_ok(history_entry0(f->vm.cache, MADE_VM, m.vault.vm, g, m.keys, &m.previous, &err), err);
    return m;
}

static size_t points_of(struct fixture *f, size_t *branches)
{
    struct err err = ERR_NONE;
    struct history *h = made_vm_history(&f->vm);
    struct history_point *list AUTO_FREE = NULL;
    size_t points = history_points(h);
    check_ok(history_branches(h, &list, branches, &err), err);
    history_close(&h);
    return points;
}

static enum processor_result step(struct fixture *f, struct generation branch, bool fences,
                                  struct err *err)
{
    struct processor *p = NULL;
    struct processor_config config = {.world = f->vm.world,
                                      .vm = MADE_VM,
                                      .keys = f->vm.maker.keys,
                                      .targets = &f->vm.target,
                                      .caches = &f->vm.cache,
                                      .store_count = 1,
                                      .branch = branch,
                                      .fences = fences};
    *err = ERR_NONE;
    check_ok(processor_open(&config, &p, err), *err);
    enum processor_result result = processor_step(p, err);
    processor_close(&p);
    return result;
}

/* --- the claim --- */

static void a_claim_goes_on_from_its_parent_and_fences_the_old_writer(void **state)
{
    struct fixture *f = *state;
    size_t branches;
    struct claim_result result = claim(f, claim_of(3));
    assert_false(result.fence_pending);
    assert_int_equal(result.tail_epochs, 0);
    assert_int_equal(points_of(f, &branches), 3);
    assert_int_equal(branches, 1);
    assert_true(tail_of(f, first).fenced);
    struct epoch_maker m = writer_of(f, second, f->vm.maker.clock_ms);
    epoch_maker_fill(&m, 0, 3, 333);
    epoch_maker_cut(&m);
    made_vm_apply(&f->vm);
    assert_int_equal(points_of(f, &branches), 4);
    free(m.blocks);
}

static void the_old_writer_s_next_slot_holds_the_fence_with_its_label(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct epoch_log log;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    claim(f, claim_of(3));
    epoch_log_init(&log, f->vm.cache, MADE_VM, first);
    assert_int_equal(numlog_read(&log.log, 5, &f->vm.maker.previous, &stored, &err), NUMLOG_DONE);
    check_ok(
        epoch_decode(buf_span(&stored), f->vm.maker.keys, f->vm.maker.vault.vm, first, 5, &d, &err),
        err);
    assert_int_equal(d.entry.kind, EPOCH_FENCE);
    assert_string_equal(d.entry.label, LABEL);
}

static void a_claim_of_what_was_never_applied_or_does_not_exist_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;
    struct claim_result result;
    struct claim strange = claim_of(1);
    strange.parent = third;
    assert_false(try_claim(f, claim_of(5), &result, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_false(try_claim(f, strange, &result, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_false(tail_of(f, first).fenced);
}

static void of_two_claims_one_succeeds_and_the_other_hears_of_it(void **state)
{
    struct fixture *f = *state;
    struct err err;
    struct claim_result result;
    struct claim other = claim_of(2);
    other.generation.id = 0x99;
    claim(f, claim_of(3));
    assert_false(try_claim(f, other, &result, &err));
    assert_int_equal(err.kind, ERR_EXISTS);
    check_says(err, "g0002-0000000000000022");
    /* decided again */
    other.generation.number = 3;
    other.ends = second;
    claim(f, other);
    assert_false(try_claim(f, claim_of(3), &result, &err));
    assert_int_equal(err.kind, ERR_FENCED);
    assert_true(tail_of(f, first).fenced);
    assert_true(tail_of(f, second).fenced);
}

static void a_repeated_claim_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct buf before AUTO_BUF = BUF_NONE, after AUTO_BUF = BUF_NONE;
    claim(f, claim_of(3));
    size_t objects = memory_bucket_objects(f->vm.cache_bucket);
    made_names(f->vm.target, MADE_VM, &before);
    claim(f, claim_of(3));
    made_names(f->vm.target, MADE_VM, &after);
    assert_string_equal((const char *)before.data, (const char *)after.data);
    assert_int_equal(memory_bucket_objects(f->vm.cache_bucket), objects);
}

static void a_claim_may_be_killed_at_any_call_and_repeated(void **state)
{
    (void)state;
    for (int lose = 0; lose < 2; lose++)
        for (uint64_t at = 1;; at++) {
            struct fixture f;
            struct err err;
            struct claim_result result;
            size_t branches;
            begin(&f);
            made_vm_apply(&f.vm);
            f.lose = lose == 1;
            f.fail_at = at;
            bool done = try_claim(&f, claim_of(2), &result, &err);
            bool hit = f.calls >= at;
            if (!done || result.fence_pending) {
                f.fail_at = 0;
                result = claim(&f, claim_of(2));
            }
            assert_false(result.fence_pending);
            assert_int_equal(points_of(&f, &branches), 2);
            assert_int_equal(branches, 2);
            assert_true(tail_of(&f, first).fenced);
            assert_int_equal(tail_of(&f, first).epochs, 0);
            struct epoch_maker m = writer_of(&f, second, f.vm.maker.clock_ms);
            free(m.blocks);
            end(&f);
            if (!hit)
                break;
        }
}

/* Fenced from the oldest on: a repeat takes a fenced log for a sign that all before it are. */
static void a_claim_killed_between_two_fences_is_repeated_for_both(void **state)
{
    bool hit = true;
    (void)state;
    for (uint64_t at = 1; hit; at++) {
        struct fixture f;
        struct err err;
        struct claim_result result;
        struct claim next = {.generation = third, .ends = second, .parent = first};
        next.parent_epoch = 2;
        begin(&f);
        made_vm_apply(&f.vm);
        f.down = true;
        claim(&f, claim_of(3)); /* its fence is pending */
        f.down = false;
        f.calls = 0;
        f.fail_at = at;
        bool done = try_claim(&f, next, &result, &err);
        hit = f.calls >= at;
        f.fail_at = 0;
        if (!done || result.fence_pending)
            result = claim(&f, next);
        assert_false(result.fence_pending);
        assert_true(tail_of(&f, first).fenced && tail_of(&f, second).fenced);
        end(&f);
    }
}

static void what_the_old_writer_puts_meanwhile_is_its_tail_and_the_fence_lies_behind(void **state)
{
    struct fixture *f = *state;
    size_t branches;
    f->ship_before_fence = 3;
    struct claim_result result = claim(f, claim_of(4));
    assert_false(result.fence_pending);
    assert_int_equal(result.tail_epochs, 3);
    assert_int_equal(result.tail_points, 3);
    struct history_tail tail = tail_of(f, first);
    assert_true(tail.fenced && !tail.lost);
    assert_int_equal(tail.epochs, 3);
    made_vm_apply(&f->vm);
    assert_int_equal(points_of(f, &branches), 4);
    assert_int_equal(branches, 0);
}

static void a_bit_that_flips_on_the_way_leaves_no_writer_unfenced(void **state)
{
    struct claim_result result;
    struct err err;
    (void)state;
    for (uint64_t at = 0, gets = 0; at <= gets; at++) { /* first without */
        struct fixture f;
        begin(&f);
        made_vm_apply(&f.vm);
        for (uint32_t i = 0; i < 2; i++) { /* its tail */
            epoch_maker_fill(f.writer, 0, 9, 900 + i);
            epoch_maker_cut(f.writer);
        }
        f.flip_at = at;
        if (try_claim(&f, claim_of(2), &result, &err) && !result.fence_pending) {
            struct history_tail tail = tail_of(&f, first);
            assert_true(tail.fenced && !tail.lost);
            assert_int_equal(tail.epochs, 2);
        }
        gets = at == 0 ? f.gets : gets;
        end(&f);
    }
}

static void a_generation_may_go_on_from_a_branch_and_from_the_parent_s_own_fork(void **state)
{
    struct fixture *f = *state;
    size_t branches;
    claim(f, claim_of(2));
    struct claim change = {.generation = third, .ends = second, .parent = first, .parent_epoch = 3};
    claim(f, change);
    assert_int_equal(points_of(f, &branches), 3);
    struct claim again = {
        .generation = {.number = 4, .id = 0x44}, .ends = third, .parent = third, .parent_epoch = 0};
    claim(f, again);
    assert_int_equal(points_of(f, &branches), 3);
    assert_int_equal(branches, 1);
    assert_true(tail_of(f, second).fenced && tail_of(f, third).fenced);
}

/* One more could not be read. */
static void a_vault_has_no_more_generations_than_can_be_read(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct claim_result result;
    struct history *h CLEANUP(history_close) = made_vm_history(&f->vm);
    struct generation newest = first;
    while (history_generations(h) < HISTORY_GENERATIONS_MAX - 1) {
        struct record r = {.kind = RECORD_GENERATION, .parent = newest, .parent_epoch = 0};
        r.generation = (struct generation){.number = newest.number + 1, .id = 0x77};
        if (newest.number == 1)
            r.parent_epoch = 3;
        assert_int_equal(history_append(h, history_head(h).next_record, &r, &err), NUMLOG_DONE);
        newest = r.generation;
    }
    struct claim_config config = config_of(f);
    config.cache = NULL;
    struct claim next = {.ends = newest, .parent = first, .parent_epoch = 2};
    check_ok(claim_generation(h, &next.generation, &err), err);
    check_ok(history_begin_generation_in(&config, h, &next, &result, &err), err);
    next.ends = next.generation;
    next.generation.number++;
    check_fails(history_begin_generation_in(&config, h, &next, &result, &err), err, ERR_FULL);
    check_says(err, "another --target");
    check_fails(claim_generation(h, &next.generation, &err), err, ERR_FULL);
    err = ERR_NONE;
    check_ok(history_refresh(h, &err), err);
}

/* --- the cache out of reach --- */

static void without_the_cache_the_record_is_made_and_the_fence_is_pending(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct claim_config config = config_of(f);
    size_t branches;
    f->down = true;
    struct claim_result result = claim(f, claim_of(3));
    assert_true(result.fence_pending);
    assert_true(result.reason[0] != '\0');
    assert_int_equal(points_of(f, &branches), 3);
    /* the old writer ships on: into a branch */
    epoch_maker_fill(&f->vm.maker, 0, 7, 7);
    epoch_maker_cut(&f->vm.maker);
    assert_int_equal(step(f, (struct generation){.id = 0}, false, &err), PROCESSOR_IDLE);
    assert_int_equal(points_of(f, &branches), 3);
    check_ok(history_fence(&config, &result, &err), err);
    assert_true(result.fence_pending);
    f->down = false;
    check_ok(history_fence(&config, &result, &err), err);
    assert_false(result.fence_pending);
    assert_int_equal(result.tail_points, 1);
    assert_true(tail_of(f, first).fenced);
    struct epoch_maker m = writer_of(f, second, f->vm.maker.clock_ms);
    free(m.blocks);
}

static void a_generation_that_never_opened_its_log_is_fenced_all_the_same(void **state)
{
    struct fixture *f = *state;
    f->down = true;
    claim(f, claim_of(3));
    f->down = false;
    struct claim change = {.generation = third, .ends = second, .parent = first, .parent_epoch = 2};
    assert_false(claim(f, change).fence_pending);
    assert_true(tail_of(f, first).fenced);
    assert_true(tail_of(f, second).fenced);
}

static void a_processor_puts_a_pending_fence_and_follows_the_new_generation(void **state)
{
    struct fixture *f = *state;
    struct err err;
    size_t branches;
    f->down = true;
    claim(f, claim_of(3));
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_IDLE);
    assert_true(tail_of(f, first).fenced);
    struct epoch_maker m = writer_of(f, second, f->vm.maker.clock_ms);
    epoch_maker_fill(&m, 0, 3, 333);
    epoch_maker_cut(&m);
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_APPLIED);
    assert_int_equal(points_of(f, &branches), 4);
    free(m.blocks);
}

static void a_cache_that_was_lost_fences_its_writer_by_itself(void **state)
{
    struct fixture *f = *state;
    struct buf names AUTO_BUF = BUF_NONE;
    made_names(f->vm.cache, MADE_VM, &names);
    for (char *key = strtok((char *)names.data, "\n"); key; key = strtok(NULL, "\n"))
        memory_bucket_drop(f->vm.cache_bucket, key);
    struct claim_result result = claim(f, claim_of(4));
    assert_false(result.fence_pending);
    assert_true(tail_of(f, first).lost);
}

/* --- branches --- */

static void what_waits_in_an_old_log_is_kept_and_may_be_applied_as_a_branch(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history_point p;
    char name[POINT_NAME_MAX];
    size_t branches;
    f->ship_before_fence = 3;
    claim(f, claim_of(4));
    struct epoch_maker m = writer_of(f, second, f->vm.maker.clock_ms);
    for (uint32_t i = 0; i < 5; i++) {
        epoch_maker_fill(&m, 0, 3, 333 + i);
        epoch_maker_cut(&m);
    }
    free(m.blocks);
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_APPLIED);
    assert_int_equal(tail_of(f, first).points, 3);
    assert_int_equal(step(f, first, true, &err), PROCESSOR_APPLIED);
    assert_int_equal(step(f, first, true, &err), PROCESSOR_IDLE);
    assert_int_equal(points_of(f, &branches), 9);
    assert_int_equal(branches, 3);
    assert_int_equal(tail_of(f, first).points, 0);
    assert_true(tail_of(f, first).fenced);
    /* by name, and held */
    struct history *h = made_vm_history(&f->vm);
    check_ok(history_point_at(h, first, 6, &p, &err), err);
    history_point_name(&p, name);
    struct history_point found;
    check_ok(history_resolve(h, name, &found, &err), err);
    assert_int_equal(found.index, p.index);
    check_ok(history_append_verdict(h, &p, POINT_VERIFIED, &err), err);
    check_ok(history_append_verdict(h, &p, POINT_VERIFIED, &err), err);
    check_ok(history_point_at(h, first, 6, &p, &err), err);
    assert_int_equal(p.verdict, POINT_VERIFIED);
    check_ok(pin_hold(f->vm.world, f->vm.target, h, f->vm.maker.keys, "failover-1", &p, &err), err);
    check_ok(pin_hold(f->vm.world, f->vm.target, h, f->vm.maker.keys, "failover-1", &p, &err), err);
    history_close(&h);
    assert_true(memory_bucket_has(f->vm.target_bucket, MADE_VM "/pins/failover-1"));
    /* the line of the head goes on all the same */
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_IDLE);
}

static void of_an_ended_log_what_is_applied_goes_and_the_tail_stays(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct buf names AUTO_BUF = BUF_NONE;
    char stray[KEY_MAX];
    key_part(stray, MADE_VM, first, 2, 77, 0); /* of an attempt that came to nothing */
    check_ok(store_put(f->vm.cache, stray, span_of_text("x"), &err), err);
    f->vm.maker.inline_max = 0;
    f->ship_before_fence = 2;
    claim(f, claim_of(4));
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_IDLE);
    assert_int_equal(step(f, (struct generation){.id = 0}, true, &err), PROCESSOR_IDLE);
    assert_false(memory_bucket_has(f->vm.cache_bucket, stray));
    made_names(f->vm.cache, MADE_VM "/g0001-0123456789abcdef/", &names);
    size_t lines = 0, parts = 0;
    for (char *key = strtok((char *)names.data, "\n"); key; key = strtok(NULL, "\n")) {
        lines++;
        parts += strstr(key, "/parts/") != NULL;
    }
    assert_int_equal(parts, 2);     /* the tail's */
    assert_int_equal(lines, 5 + 2); /* entries 3 and 4, the tail, the fence */
    assert_int_equal(step(f, first, false, &err), PROCESSOR_APPLIED);
}

static void a_heartbeat_on_a_branch_says_nothing_of_the_line(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    claim(f, claim_of(4));
    struct history *h = made_vm_history(&f->vm);
    uint64_t until_ms = history_head(h).point_ms;
    history_close(&h);
    /* A new log of the same generation, as if the heartbeat had come before the fence. */
    memory_bucket_drop(f->vm.cache_bucket, MADE_VM "/g0001-0123456789abcdef/0000000000000005");
    f->vm.maker.clock_ms += 60000;
    epoch_maker_ship(&f->vm.maker, EPOCH_HEARTBEAT, 0, NULL);
    assert_int_equal(step(f, first, false, &err), PROCESSOR_APPLIED);
    h = made_vm_history(&f->vm);
    assert_int_equal(history_epochs(h), 5);
    assert_true(history_head(h).point_ms == until_ms);
    history_close(&h);
}

static void a_name_with_a_slash_that_is_none_is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history_point p;
    struct history *h = made_vm_history(&f->vm);
    check_fails(history_resolve(h, "g0001-0123456789abcdef/latest", &p, &err), err, ERR_INVALID);
    check_fails(history_resolve(h, "x/2026-11-22T20:00:00.000Z", &p, &err), err, ERR_INVALID);
    check_fails(history_resolve(h, "g0009-0123456789abcdef/2026-11-22T20:00:00.000Z", &p, &err),
                err, ERR_NOT_FOUND);
    check_fails(history_resolve(h, "g0001-0123456789abcdef/2026-11-22T20:00:00.001Z", &p, &err),
                err, ERR_NOT_FOUND);
    check_ok(history_resolve(h, "g0001-0123456789abcdef/2026-11-22T20:00:00.000Z", &p, &err), err);
    assert_int_equal(p.epoch, 1);
    history_close(&h);
}

static void a_new_name_is_behind_all_numbers(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct generation g;
    claim(f, claim_of(3));
    struct history *h = made_vm_history(&f->vm);
    check_ok(claim_generation(h, &g, &err), err);
    assert_int_equal(g.number, 3);
    assert_true(g.id != 0);
    history_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_claim_goes_on_from_its_parent_and_fences_the_old_writer,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_writer_s_next_slot_holds_the_fence_with_its_label,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_claim_of_what_was_never_applied_or_does_not_exist_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(of_two_claims_one_succeeds_and_the_other_hears_of_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_repeated_claim_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_claim_may_be_killed_at_any_call_and_repeated, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_claim_killed_between_two_fences_is_repeated_for_both,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_the_old_writer_puts_meanwhile_is_its_tail_and_the_fence_lies_behind, setup,
            teardown),
        cmocka_unit_test(a_bit_that_flips_on_the_way_leaves_no_writer_unfenced),
        cmocka_unit_test_setup_teardown(
            a_generation_may_go_on_from_a_branch_and_from_the_parent_s_own_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vault_has_no_more_generations_than_can_be_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            without_the_cache_the_record_is_made_and_the_fence_is_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_generation_that_never_opened_its_log_is_fenced_all_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_processor_puts_a_pending_fence_and_follows_the_new_generation, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cache_that_was_lost_fences_its_writer_by_itself, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            what_waits_in_an_old_log_is_kept_and_may_be_applied_as_a_branch, setup, teardown),
        cmocka_unit_test_setup_teardown(of_an_ended_log_what_is_applied_goes_and_the_tail_stays,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_heartbeat_on_a_branch_says_nothing_of_the_line, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_name_with_a_slash_that_is_none_is_refused_by_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_new_name_is_behind_all_numbers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
