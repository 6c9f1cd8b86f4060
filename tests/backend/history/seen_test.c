/* SPDX-License-Identifier: MIT
 * What a host has seen of the logs of a vault, also after all its processes have ended. */
#include "backend/history/seen.h"

#include "backend/history/doclog.h"
#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include <errno.h>
#include <stdio.h>

#define STATE "/state/vms/vm1"

static int set_up(void **state)
{
    static struct made_vm vm;
    made_vm_init(&vm, 1, 16);
    *state = &vm;
    return 0;
}

static int tear_down(void **state)
{
    made_vm_release(*state);
    return 0;
}

static void ship(struct made_vm *vm, unsigned epochs)
{
    for (unsigned i = 0; i < epochs; i++) {
        epoch_maker_fill(&vm->maker, 0, i % 16, (uint32_t)(vm->maker.epoch + 1));
        epoch_maker_cut(&vm->maker);
        made_vm_apply(vm);
    }
}

/* A process that opens the history, and ends. */
static bool look(struct made_vm *vm, struct err *err)
{
    struct history *h = made_vm_history(vm);
    bool good = history_remember(h, NULL, STATE, err);
    history_close(&h);
    return good;
}

static void look_well(struct made_vm *vm)
{
    struct err err = ERR_NONE;
    check_ok(look(vm, &err), err);
}

static const char *record_key(uint64_t number)
{
    static char key[KEY_MAX];
    key_history(key, MADE_VM, number);
    return key;
}

static void a_vault_rolled_back_while_no_process_ran_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    ship(vm, 3);
    look_well(vm);
    memory_bucket_drop(vm->target_bucket, record_key(4));
    check_fails(look(vm, &err), err, ERR_CORRUPT);
    check_says(err, "vm1/history/0000000000000004");
    check_says(err, "rolled back below what this host has seen");
    check_says(err, "remove " STATE "/seen-history-");
}

static void a_vault_rolled_back_and_written_anew_is_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    ship(vm, 3);
    look_well(vm);
    memory_bucket_drop(vm->target_bucket, record_key(4));
    made_vm_apply(vm); /* the same epoch again, by a host that has seen nothing: another record */
    check_fails(look(vm, &err), err, ERR_CORRUPT);
    check_says(err, "rolled back and written anew");
    ship(vm, 2);
    check_fails(look(vm, &err), err, ERR_CORRUPT);
    check_says(err, "written anew");
}

static void a_vault_that_went_on_is_taken_and_remembered(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    ship(vm, 2);
    look_well(vm);
    ship(vm, 2);
    look_well(vm);
    memory_bucket_drop(vm->target_bucket, record_key(5));
    check_fails(look(vm, &err), err, ERR_CORRUPT);
}

static void what_a_refresh_shows_is_remembered(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history *h = made_vm_history(vm);
    check_ok(history_remember(h, NULL, STATE, &err), err);
    ship(vm, 1);
    check_ok(history_refresh(h, &err), err);
    history_close(&h);
    memory_bucket_drop(vm->target_bucket, record_key(2));
    check_fails(look(vm, &err), err, ERR_CORRUPT);
}

/* Else two processes of a host would take each other's news for a rollback. */
static void what_another_process_saw_meanwhile_is_read(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    ship(vm, 1);
    struct history *h = made_vm_history(vm);
    ship(vm, 1);
    look_well(vm);
    check_ok(history_remember(h, NULL, STATE, &err), err);
    assert_int_equal(history_points(h), 2);
    history_close(&h);
}

static void a_processor_refuses_a_vault_that_was_rolled_back(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct processor *p = NULL;
    struct processor_config config = {.world = vm->world,
                                      .vm = MADE_VM,
                                      .keys = vm->maker.keys,
                                      .targets = &vm->target,
                                      .caches = &vm->cache,
                                      .store_count = 1,
                                      .state = STATE};
    epoch_maker_cut(&vm->maker);
    check_ok(processor_open(&config, &p, &err), err);
    assert_int_equal(processor_step(p, &err), PROCESSOR_APPLIED);
    assert_int_equal(processor_step(p, &err), PROCESSOR_IDLE);
    processor_close(&p);
    memory_bucket_drop(vm->target_bucket, record_key(2));
    check_fails(processor_open(&config, &p, &err), err, ERR_CORRUPT);
    check_says(err, "rolled back");
}

static void a_host_that_has_seen_nothing_takes_what_is_there(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct history *h;
    ship(vm, 3);
    look_well(vm);
    memory_bucket_drop(vm->target_bucket, record_key(4));
    h = made_vm_history(vm);
    check_ok(history_remember(h, NULL, "/other/host", &err), err);
    history_close(&h);
}

/* --- documents --- */

static struct doclog_vault vault_of(struct made_vm *vm)
{
    return (struct doclog_vault){.world = vm->world,
                                 .target = vm->target,
                                 .keys = vm->maker.keys,
                                 .vm = MADE_VM,
                                 .id = vm->maker.vault.vm,
                                 .state = STATE};
}

/* A process that appends so many documents, and ends. */
static void append(struct made_vm *vm, unsigned count)
{
    struct doclog_vault vault = vault_of(vm);
    struct buf out AUTO_BUF = BUF_NONE;
    struct doclog l;
    doclog_begin(&l, &vault, "failover");
    for (unsigned i = 0; i < count; i++) {
        struct err err = ERR_NONE;
        if (!doclog_newest(&l, &out, &err))
            assert_int_equal(err.kind, ERR_NOT_FOUND);
        check_ok(doclog_append(&l, span_of_text("{}"), &err), err);
        check_ok(doclog_tidy(&l, &err), err);
    }
}

static bool newest(struct made_vm *vm, struct err *err)
{
    struct doclog_vault vault = vault_of(vm);
    struct buf out AUTO_BUF = BUF_NONE;
    struct doclog l;
    doclog_begin(&l, &vault, "failover");
    return doclog_newest(&l, &out, err);
}

static const char *document_key(uint64_t number)
{
    static char key[KEY_MAX];
    key_document(key, MADE_VM, "failover", number);
    return key;
}

static void documents_rolled_back_while_no_process_ran_are_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    append(vm, 4);
    memory_bucket_drop(vm->target_bucket, document_key(3));
    check_fails(newest(vm, &err), err, ERR_CORRUPT);
    check_says(err, "vm1/failover/0000000000000003");
    check_says(err, "rolled back below what this host has seen");
}

static void documents_that_are_gone_altogether_are_refused(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    append(vm, 2);
    memory_bucket_drop(vm->target_bucket, document_key(0));
    memory_bucket_drop(vm->target_bucket, document_key(1));
    check_fails(newest(vm, &err), err, ERR_CORRUPT);
    check_says(err, "the log has 0 entries");
}

static void documents_tidied_away_since_are_no_rollback(void **state)
{
    struct made_vm *vm = *state;
    struct err err = ERR_NONE;
    struct doclog_vault elsewhere = vault_of(vm);
    struct buf out AUTO_BUF = BUF_NONE;
    struct doclog l;
    append(vm, 2);
    elsewhere.state[0] = '\0';
    doclog_begin(&l, &elsewhere, "failover");
    check_ok(doclog_newest(&l, &out, &err), err);
    for (unsigned i = 0; i < 3 * DOCLOG_KEEP; i++)
        check_ok(doclog_append(&l, span_of_text("{}"), &err) && doclog_tidy(&l, &err), err);
    assert_false(memory_bucket_has(vm->target_bucket, document_key(1)));
    check_ok(newest(vm, &err), err);
}

/* --- the file --- */

static struct seen seen_here(struct made_vm *vm, const char *url)
{
    struct err err = ERR_NONE;
    struct seen seen;
    check_ok(seen_begin(&seen, vm->world, STATE, "history", url, vm->maker.vault.vm, &err), err);
    return seen;
}

static void each_store_and_each_vm_has_its_own(void **state)
{
    struct made_vm *vm = *state;
    static const uint8_t other[VM_ID_BYTES] = {9};
    struct sha256 digest = {{1}};
    struct seen seen = seen_here(vm, "file:///a"), another;
    struct err err = ERR_NONE;
    seen_keep(&seen, 5, &digest);
    assert_int_equal(seen_here(vm, "file:///a").number, 4);
    assert_false(seen_here(vm, "file:///b").known);
    check_ok(seen_begin(&another, vm->world, STATE, "history", "file:///a", other, &err), err);
    assert_false(another.known);
}

static void it_only_ever_rises(void **state)
{
    struct made_vm *vm = *state;
    struct sha256 digest = {{1}};
    struct seen old = seen_here(vm, "file:///a"), young = seen_here(vm, "file:///a");
    seen_keep(&young, 9, &digest);
    seen_keep(&old, 5, &digest);
    assert_int_equal(seen_here(vm, "file:///a").number, 8);
}

static void a_damaged_one_is_named_and_not_believed(void **state)
{
    struct made_vm *vm = *state;
    struct sha256 digest = {{1}};
    struct seen seen = seen_here(vm, "file:///a"), again;
    struct err err = ERR_NONE;
    seen_keep(&seen, 5, &digest);
    check_ok(file_replace(vm->world, seen.path, 0600, span_of_text("5\n"), &err), err);
    check_fails(
        seen_begin(&again, vm->world, STATE, "history", "file:///a", vm->maker.vault.vm, &err), err,
        ERR_CORRUPT);
    check_says(err, seen.path);
}

static void one_that_was_forgotten_begins_anew(void **state)
{
    struct made_vm *vm = *state;
    struct sha256 digest = {{1}};
    struct seen seen = seen_here(vm, "file:///a");
    struct err err = ERR_NONE;
    seen_keep(&seen, 5, &digest);
    check_ok(seen_forget(&seen, &err), err);
    assert_false(seen_here(vm, "file:///a").known);
    seen_keep(&seen, 1, &digest);
    assert_int_equal(seen_here(vm, "file:///a").number, 0);
}

static void one_that_cannot_be_written_costs_the_memory_alone(void **state)
{
    struct made_vm *vm = *state;
    ship(vm, 1);
    fake_world_fail(vm->world, FAKE_RENAME, 1, ENOSPC, true);
    look_well(vm);
    fake_world_fail(vm->world, FAKE_RENAME, 0, 0, false);
    look_well(vm);
    assert_true(seen_here(vm, vm->target->url).known);
}

static void it_survives_a_power_cut(void **state)
{
    struct made_vm *vm = *state;
    ship(vm, 2);
    look_well(vm);
    assert_int_equal(fake_world_unsynced(vm->world), 0);
    fake_world_power_cut(vm->world, 1);
    struct seen seen = seen_here(vm, vm->target->url);
    assert_true(seen.known);
    assert_int_equal(seen.number, 3);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_vault_rolled_back_while_no_process_ran_is_refused),
        T(a_vault_rolled_back_and_written_anew_is_refused),
        T(a_vault_that_went_on_is_taken_and_remembered),
        T(what_a_refresh_shows_is_remembered),
        T(what_another_process_saw_meanwhile_is_read),
        T(a_processor_refuses_a_vault_that_was_rolled_back),
        T(a_host_that_has_seen_nothing_takes_what_is_there),
        T(documents_rolled_back_while_no_process_ran_are_refused),
        T(documents_that_are_gone_altogether_are_refused),
        T(documents_tidied_away_since_are_no_rollback),
        T(each_store_and_each_vm_has_its_own),
        T(it_only_ever_rises),
        T(a_damaged_one_is_named_and_not_believed),
        T(one_that_was_forgotten_begins_anew),
        T(one_that_cannot_be_written_costs_the_memory_alone),
        T(it_survives_a_power_cut),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
