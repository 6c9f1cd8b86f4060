/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "tests/support/check.h"

#include <stdio.h>

#include "backend/history/history.h"
#include "backend/history/logs.h"
#include "backend/history/processor.h"
#include "tests/support/made_vm.h"

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

/* --- beginning --- */

static bool begin_again(struct made_vm *vm, const struct vault *vault, struct generation g,
                        const struct keys *keys, struct err *err)
{
    return history_begin(vm->world, vm->target, vm->cache, vault, g, keys, err);
}

static void beginning_again_with_the_same_vault_completes_it(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    const struct epoch_maker *m = &vm->maker;

    check_ok(begin_again(vm, &m->vault, m->generation, m->keys, &err), err);
    assert_int_equal(memory_bucket_objects(vm->target_bucket), 3);
    assert_int_equal(memory_bucket_objects(vm->cache_bucket), 1);
}

static void beginning_another_vault_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    const struct epoch_maker *m = &vm->maker;
    struct vault other = m->vault;
    struct generation later = {.number = 1, .id = 77};
    struct keys *keys AUTO_KEYS = made_keys(8);

    other.created_ms++;
    check_fails(begin_again(vm, &other, m->generation, m->keys, &err), err, ERR_EXISTS);
    check_says(err, "is enabled already");
    check_fails(begin_again(vm, &m->vault, later, m->keys, &err), err, ERR_EXISTS);
    check_fails(begin_again(vm, &m->vault, m->generation, keys, &err), err, ERR_EXISTS);
    check_says(err, "is enabled already");
    assert_int_equal(memory_bucket_objects(vm->cache_bucket), 1);
}

/* Entry 0 goes when epochs are applied; its slot is free then and must stay so. */
static void beginning_again_after_epochs_were_applied_touches_nothing(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    const struct epoch_maker *m = &vm->maker;
    struct buf before AUTO_BUF = BUF_NONE;
    struct buf after AUTO_BUF = BUF_NONE;

    for (int i = 0; i < 3; i++)
        epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    made_names(vm->cache, "vm1/", &before);
    check_ok(begin_again(vm, &m->vault, m->generation, m->keys, &err), err);
    made_names(vm->cache, "vm1/", &after);
    assert_string_equal((const char *)before.data, (const char *)after.data);
}

struct fault {
    uint64_t at, calls;
    enum memory_fault how;
};

static enum memory_fault fault_before(void *context, const struct memory_call *call)
{
    struct fault *f = context;
    (void)call;
    return ++f->calls == f->at ? f->how : MEMORY_PASS;
}

/* Two stores in which nothing was begun; a call of either goes wrong. */
struct empty {
    struct memory_bucket *cache_bucket, *target_bucket;
    struct store *cache, *target;
    struct fault fault;
};

static void empty_make(struct empty *e, uint64_t at, enum memory_fault how)
{
    *e = (struct empty){.cache_bucket = memory_bucket_make(),
                        .target_bucket = memory_bucket_make(),
                        .fault = {.at = at, .how = how}};
    e->cache = memory_store_open(e->cache_bucket);
    e->target = memory_store_open(e->target_bucket);
    memory_store_hook(e->cache, fault_before, NULL, &e->fault);
    memory_store_hook(e->target, fault_before, NULL, &e->fault);
}

static void empty_release(struct empty *e)
{
    store_close(&e->cache);
    store_close(&e->target);
    memory_bucket_release(&e->cache_bucket);
    memory_bucket_release(&e->target_bucket);
}

static bool begin_in(struct empty *e, struct made_vm *vm, const struct vault *vault,
                     struct generation g, struct err *err)
{
    *err = ERR_NONE;
    return history_begin(vm->world, e->target, e->cache, vault, g, vm->maker.keys, err);
}

static void a_beginning_that_failed_anywhere_is_completed_by_a_repeat(void **state)
{
    struct made_vm *vm = *state;
    const struct epoch_maker *m = &vm->maker;
    const enum memory_fault how[] = {MEMORY_FAIL, MEMORY_LOSE_REPLY};
    uint64_t failed = 0;

    for (uint64_t at = 1; at <= 30; at++)
        for (size_t i = 0; i < 2; i++) {
            struct empty e;
            struct history *h = NULL;
            struct sha256 entry0;
            struct err err;

            empty_make(&e, at, how[i]);
            if (!begin_in(&e, vm, &m->vault, m->generation, &err)) {
                failed++;
                check_ok(begin_in(&e, vm, &m->vault, m->generation, &err), err);
            }
            assert_int_equal(memory_bucket_objects(e.target_bucket), 3);
            assert_int_equal(memory_bucket_objects(e.cache_bucket), 1);
            e.fault.at = 0;
            check_ok(history_open(vm->world, e.target, MADE_VM, m->keys, &h, &err), err);
            assert_true(history_head(h).generation.id == m->generation.id);
            check_ok(history_entry0(e.cache, MADE_VM, m->vault.vm, m->generation, m->keys, &entry0,
                                    &err),
                     err);
            history_close(&h);
            empty_release(&e);
        }
    assert_true(failed > 5);
}

/* The vault object decides: who comes second hears that, and has left nothing behind. */
static void of_two_beginnings_one_wins_wherever_the_first_was_killed(void **state)
{
    struct made_vm *vm = *state;
    const struct epoch_maker *m = &vm->maker;
    struct vault other = m->vault;
    const struct generation its = {.number = 1, .id = 77};
    bool killed = true;

    other.vm[0] ^= 1;
    for (uint64_t at = 1; killed; at++) {
        struct empty e;
        struct err err;

        empty_make(&e, at, MEMORY_FAIL);
        killed = !begin_in(&e, vm, &m->vault, m->generation, &err);
        e.fault.at = 0;
        if (begin_in(&e, vm, &other, its, &err)) {
            assert_true(killed);
            check_fails(begin_in(&e, vm, &m->vault, m->generation, &err), err, ERR_EXISTS);
        } else {
            assert_int_equal(err.kind, ERR_EXISTS);
            check_ok(begin_in(&e, vm, &m->vault, m->generation, &err), err);
        }
        assert_int_equal(memory_bucket_objects(e.target_bucket), 3);
        assert_int_equal(memory_bucket_objects(e.cache_bucket), 1);
        empty_release(&e);
    }
}

/* --- opening --- */

static void a_wrong_key_a_damaged_vault_and_no_vault_are_told_apart(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history *h = NULL;
    struct keys *other AUTO_KEYS = made_keys(8);

    check_fails(history_open(vm->world, vm->target, MADE_VM, other, &h, &err), err, ERR_WRONG_KEY);
    check_fails(history_open(vm->world, vm->target, "vm2", vm->maker.keys, &h, &err), err,
                ERR_NOT_FOUND);
    check_says(err, "vm2");
    check_fails(history_open(vm->world, vm->target, "../x", vm->maker.keys, &h, &err), err,
                ERR_INVALID);
    assert_true(memory_bucket_damage(vm->target_bucket, "vm1/vault", 150, 1));
    check_fails(history_open(vm->world, vm->target, MADE_VM, vm->maker.keys, &h, &err), err,
                ERR_CORRUPT);
    assert_null(h);
}

static void a_vault_of_another_name_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history *h = NULL;
    struct buf vault AUTO_BUF = BUF_NONE;

    check_ok(store_load(vm->target, "vm1/vault", 1 << 20, &vault, &err), err);
    check_ok(store_put(vm->target, "vm2/vault", buf_span(&vault), &err), err);
    check_fails(history_open(vm->world, vm->target, "vm2", vm->maker.keys, &h, &err), err,
                ERR_CORRUPT);
    check_says(err, "vm1");
}

static void a_refresh_reads_what_was_added_and_keeps_indices(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;

    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    struct history_point first = history_point(h, 0);
    for (int i = 0; i < 3; i++)
        epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    assert_int_equal(history_points(h), 1);
    check_ok(history_refresh(h, &err), err);
    assert_int_equal(history_points(h), 4);
    assert_int_equal(history_epoch(h, first.index, NULL).epoch, 1);
    assert_int_equal(history_head(h).epoch, 4);
    assert_int_equal(history_index(h, vm->maker.generation, 3), 2);
    assert_true(history_index(h, vm->maker.generation, 5) == HISTORY_NONE);
    assert_true(history_before(h, 0) == HISTORY_NONE);
    assert_int_equal(history_before(h, 3), 2);
    history_close(&h);
}

static void a_vault_that_was_rolled_back_is_found_out(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    char key[KEY_MAX];

    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    key_history(key, MADE_VM, 2);
    memory_bucket_drop(vm->target_bucket, key);
    check_fails(history_refresh(h, &err), err, ERR_CORRUPT);
    check_says(err, "rolled back");
    assert_int_equal(history_points(h), 1);
    history_close(&h);
}

/* A record of the same number and VM, authentic, but of another line. */
static void a_record_that_does_not_follow_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history *h = NULL;
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt = {{3}};
    char key[KEY_MAX];
    struct record r = {.kind = RECORD_VERIFIED,
                       .number = 2,
                       .generation = vm->maker.generation,
                       .judged_epoch = 1,
                       .disk_count = vm->maker.vault.disk_count};

    memcpy(r.vm, vm->maker.vault.vm, VM_ID_BYTES);
    memcpy(r.disks, vm->maker.vault.disks, sizeof r.disks);
    check_ok(record_encode(&r, vm->maker.keys, &salt, &bytes, &err), err);
    key_history(key, MADE_VM, 2);
    check_ok(store_put(vm->target, key, buf_span(&bytes), &err), err);
    check_fails(history_open(vm->world, vm->target, MADE_VM, vm->maker.keys, &h, &err), err,
                ERR_CORRUPT);
    check_says(err, "record 2");
}

/* --- generations --- */

/* Appends a record at the head, as whoever begins a generation or applies to it would. */
static void record_add(struct made_vm *vm, struct record *r)
{
    struct err err = ERR_NONE;
    struct history *h = made_vm_history(vm);
    struct history_head head = history_head(h);
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt = {{(uint8_t)head.next_record, 9}};
    char key[KEY_MAX];

    r->number = head.next_record;
    r->previous = head.last_record;
    r->disk_count = vm->maker.vault.disk_count;
    memcpy(r->vm, vm->maker.vault.vm, VM_ID_BYTES);
    memcpy(r->disks, vm->maker.vault.disks, sizeof r->disks);
    check_ok(record_encode(r, vm->maker.keys, &salt, &bytes, &err), err);
    key_history(key, MADE_VM, r->number);
    check_ok(store_put(vm->target, key, buf_span(&bytes), &err), err);
    history_close(&h);
}

static void a_generation_goes_on_from_its_fork_and_leaves_a_branch(void **state)
{
    struct made_vm *vm = *state;
    struct generation second = {.number = 2, .id = 22};
    struct record begin = {.kind = RECORD_GENERATION,
                           .generation = second,
                           .parent = vm->maker.generation,
                           .parent_epoch = 2};
    struct record_epoch e = {
        .kind = EPOCH_CUT, .epoch = 1, .point_ms = MADE_CLOCK_MS + 1500, .point_kind = POINT_CRASH};
    struct record apply = {
        .kind = RECORD_APPLY, .generation = second, .epoch_count = 1, .epochs = &e};

    for (int i = 0; i < 4; i++)
        epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    record_add(vm, &begin);
    struct history *h = made_vm_history(vm);
    assert_int_equal(history_epochs(h), 4);
    assert_int_equal(history_points(h), 2);
    assert_int_equal(history_head(h).epoch, 0);
    assert_true(history_head(h).point_ms == MADE_CLOCK_MS + 1000);
    record_add(vm, &apply);
    struct err err = ERR_NONE;
    check_ok(history_refresh(h, &err), err);
    assert_int_equal(history_points(h), 3);
    struct history_point p = history_point(h, 2);
    assert_int_equal(p.generation.number, 2);
    assert_int_equal(p.epoch, 1);
    assert_int_equal(history_before(h, p.index), 1); /* epoch 2 of the parent */
    assert_int_equal(history_index(h, second, 1), p.index);
    assert_int_equal(history_index(h, vm->maker.generation, 4), 3);
    history_close(&h);
}

static void a_point_that_is_not_later_is_refused_whole(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct record_epoch e[2] = {
        {.kind = EPOCH_CUT, .epoch = 2, .point_ms = MADE_CLOCK_MS + 5, .point_kind = POINT_CRASH},
        {.kind = EPOCH_CUT, .epoch = 3, .point_ms = MADE_CLOCK_MS + 5, .point_kind = POINT_CRASH}};
    struct record apply = {
        .kind = RECORD_APPLY, .generation = vm->maker.generation, .epoch_count = 2, .epochs = e};

    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    record_add(vm, &apply);
    check_fails(history_refresh(h, &err), err, ERR_CORRUPT);
    assert_int_equal(history_points(h), 1);
    assert_int_equal(history_epochs(h), 1);
    assert_int_equal(history_head(h).epoch, 1);
    history_close(&h);
}

static void a_gap_between_epochs_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct record_epoch e = {
        .kind = EPOCH_CUT, .epoch = 3, .point_ms = MADE_CLOCK_MS + 5, .point_kind = POINT_CRASH};
    struct record apply = {
        .kind = RECORD_APPLY, .generation = vm->maker.generation, .epoch_count = 1, .epochs = &e};

    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    record_add(vm, &apply);
    check_fails(history_refresh(h, &err), err, ERR_CORRUPT);
    check_says(err, "gap");
    history_close(&h);
}

/* --- naming points --- */

static const struct {
    const char *text;
    uint64_t epoch; /* 0: err */
    enum err_kind err;
} RESOLVES[] = {
    {"latest", 5, ERR_OK},
    {"latest-application", 3, ERR_OK},
    {"latest-verified", 2, ERR_OK},
    {"2026-11-22T20:00:01.000Z", 2, ERR_OK},
    {"2026-11-22T20:00:01.001Z", 0, ERR_NOT_FOUND}, /* an id: gone is gone */
    {"2026-11-22T20:00:01.001+00:00", 2, ERR_OK},
    {"2026-11-22T20:00:01Z", 2, ERR_OK},
    {"2026-11-22T21:00:02.9+01:00", 3, ERR_OK},
    {"2026-11-22 20:00:03Z", 4, ERR_OK},
    {"2027-01-01T00:00:00Z", 5, ERR_OK},
    {"2026-11-22T19:59:59Z", 0, ERR_NOT_FOUND},
    {"now-6s", 5, ERR_OK}, /* now is 20:00:10 */
    {"now-7s", 4, ERR_OK},
    {"now-10s", 1, ERR_OK},
    {"now-11s", 0, ERR_NOT_FOUND},
    {"now-5m", 0, ERR_NOT_FOUND},
    {"now-2h", 0, ERR_NOT_FOUND},
    {"now-999999999d", 0, ERR_NOT_FOUND},
    {"now-1000000000d", 0, ERR_INVALID},
    {"now-", 0, ERR_INVALID},
    {"now-5", 0, ERR_INVALID},
    {"now-m", 0, ERR_INVALID},
    {"now-5mm", 0, ERR_INVALID},
    {"now-5w", 0, ERR_INVALID},
    {"now--5m", 0, ERR_INVALID},
    {"now", 0, ERR_INVALID},
    {"", 0, ERR_INVALID},
    {"Latest", 0, ERR_INVALID},
    {"yesterday", 0, ERR_INVALID},
    {"2026-13-22T20:00:01.000Z", 0, ERR_INVALID},
};

static void points_are_found_by_every_name_that_users_write(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history_point p;

    for (int i = 1; i <= 5; i++)
        epoch_maker_ship(&vm->maker, EPOCH_CUT, i == 3 ? POINT_APPLICATION : POINT_CRASH, NULL);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    check_fails(history_resolve(h, "latest-verified", &p, &err), err, ERR_NOT_FOUND);
    struct history_point second = history_point(h, 1);
    check_ok(history_append_verdict(h, &second, POINT_VERIFIED, &err), err);
    check_ok(history_refresh(h, &err), err);
    for (size_t i = 0; i < sizeof RESOLVES / sizeof RESOLVES[0]; i++) {
        uint64_t now_ms = MADE_CLOCK_MS + 10000;
        bool found = history_resolve_at(h, now_ms, RESOLVES[i].text, &p, &err);
        if (found != (RESOLVES[i].epoch != 0) || (found && p.epoch != RESOLVES[i].epoch) ||
            (!found && err.kind != RESOLVES[i].err))
            fail_msg("'%s': found %d, epoch %llu, %s", RESOLVES[i].text, found,
                     found ? (unsigned long long)p.epoch : 0, found ? "" : err_kind_name(err.kind));
    }
    history_close(&h);
}

static void without_points_every_name_is_not_found(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history_point p;
    struct history *h = made_vm_history(vm);

    check_fails(history_resolve(h, "latest", &p, &err), err, ERR_NOT_FOUND);
    check_fails(history_resolve(h, "now-1s", &p, &err), err, ERR_NOT_FOUND);
    check_fails(history_resolve(h, "2026-11-22T20:00:01Z", &p, &err), err, ERR_NOT_FOUND);
    history_close(&h);
}

static void a_verified_point_stays_so_and_is_recorded_once(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;

    epoch_maker_cut(&vm->maker);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    struct history *other = made_vm_history(vm);
    struct history_point p = history_point(h, 0);
    check_ok(history_append_verdict(h, &p, POINT_VERIFIED, &err), err);
    check_ok(history_append_verdict(other, &p, POINT_VERIFIED, &err), err);
    check_ok(history_append_verdict(h, &p, POINT_VERIFIED, &err), err);
    assert_int_equal(history_head(other).next_record, 4);
    history_close(&h);
    h = made_vm_history(vm);
    assert_int_equal(history_point(h, 0).verdict, POINT_VERIFIED);
    assert_int_equal(history_head(h).next_record, 4);
    history_close(&h);
    history_close(&other);
}

/* Of three points the middle one, then all: who looks for one passes over it, who names it gets it,
 * and the newest verdict counts. */
static void a_damaged_point_has_to_be_named(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history_point p, points[3];
    char id[POINT_TIME_CHARS + 1];

    for (int i = 1; i <= 3; i++)
        epoch_maker_ship(&vm->maker, EPOCH_CUT, POINT_APPLICATION, NULL);
    made_vm_apply(vm);
    struct history *h = made_vm_history(vm);
    for (size_t i = 0; i < 3; i++)
        points[i] = history_point(h, i);
    check_ok(history_append_verdict(h, &points[1], POINT_VERIFIED, &err), err);
    check_ok(history_append_verdict(h, &points[1], POINT_DAMAGED, &err), err);
    check_ok(history_append_verdict(h, &points[1], POINT_DAMAGED, &err), err);
    history_close(&h);
    h = made_vm_history(vm);
    assert_int_equal(history_head(h).next_record, 5);
    assert_int_equal(history_point(h, 1).verdict, POINT_DAMAGED);
    assert_true(history_find(h, points[1].ms, false, &p));
    assert_int_equal(p.epoch, points[0].epoch);
    point_time_format(points[1].ms, id);
    check_ok(history_resolve(h, id, &p, &err), err);
    assert_int_equal(p.epoch, points[1].epoch);
    check_fails(history_resolve(h, "latest-verified", &p, &err), err, ERR_NOT_FOUND);

    check_ok(history_append_verdict(h, &points[2], POINT_DAMAGED, &err), err);
    check_ok(history_resolve(h, "latest", &p, &err), err);
    assert_int_equal(p.epoch, points[0].epoch);
    check_ok(history_resolve(h, "latest-application", &p, &err), err);
    assert_int_equal(p.epoch, points[0].epoch);
    check_ok(history_append_verdict(h, &points[0], POINT_DAMAGED, &err), err);
    const char *const wanted[] = {"latest", "latest-application", "now-1s"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        check_fails(history_resolve(h, wanted[i], &p, &err), err, ERR_NOT_FOUND);
        assert_non_null(strstr(err.text, "every recovery point is marked as damaged"));
    }
    check_ok(history_append_verdict(h, &points[1], POINT_VERIFIED, &err), err);
    check_ok(history_resolve(h, "latest", &p, &err), err);
    assert_int_equal(p.epoch, points[1].epoch);
    history_close(&h);
}

static void segment_names_have_one_spelling(void **state)
{
    const char *hex = "segments/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char name[RUN_SEGMENT_NAME_MAX], key[RUN_SEGMENT_NAME_MAX], wrong[2 * RUN_SEGMENT_NAME_MAX];
    const char *bad[] = {"", ":", "x:", "0", "-1:", "+1:", " 1:", "00:", "65:", "99999999999999:"};
    uint16_t store = 9;

    (void)state;
    segment_name_format(name, 64, hex);
    assert_true(segment_name_parse(name, &store, key));
    assert_int_equal(store, 64);
    assert_string_equal(key, hex);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(wrong, sizeof wrong, "%s%s", bad[i], hex);
        assert_false(segment_name_parse(wrong, &store, key));
    }
    snprintf(wrong, sizeof wrong, "0:%.60s", hex);
    assert_false(segment_name_parse(wrong, &store, key));
    snprintf(wrong, sizeof wrong, "0:%s0", hex);
    assert_false(segment_name_parse(wrong, &store, key));
    snprintf(wrong, sizeof wrong, "0:%s", hex);
    wrong[12 + 10] = 'A';
    assert_false(segment_name_parse(wrong, &store, key));
    assert_false(segment_name_parse("0:../vault", &store, key));
    assert_false(segment_name_parse(RUN_SEGMENT_SELF, &store, key));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(beginning_again_with_the_same_vault_completes_it),
        TEST(beginning_another_vault_is_refused),
        TEST(beginning_again_after_epochs_were_applied_touches_nothing),
        TEST(a_beginning_that_failed_anywhere_is_completed_by_a_repeat),
        TEST(of_two_beginnings_one_wins_wherever_the_first_was_killed),
        TEST(a_wrong_key_a_damaged_vault_and_no_vault_are_told_apart),
        TEST(a_vault_of_another_name_is_refused),
        TEST(a_refresh_reads_what_was_added_and_keeps_indices),
        TEST(a_vault_that_was_rolled_back_is_found_out),
        TEST(a_record_that_does_not_follow_is_refused),
        TEST(a_generation_goes_on_from_its_fork_and_leaves_a_branch),
        TEST(a_point_that_is_not_later_is_refused_whole),
        TEST(a_gap_between_epochs_is_refused),
        TEST(points_are_found_by_every_name_that_users_write),
        TEST(without_points_every_name_is_not_found),
        TEST(a_verified_point_stays_so_and_is_recorded_once),
        TEST(a_damaged_point_has_to_be_named),
        cmocka_unit_test(segment_names_have_one_spelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
