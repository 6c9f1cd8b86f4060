/* SPDX-License-Identifier: MIT
 * A history over a network: many records are asked for at once, and it is the one that lies there,
 * whatever goes wrong meanwhile. */
#include "tests/support/check.h"
#include "tests/support/cloud_rig.h"
#include "tests/support/made_vm.h"

#include "backend/history/history.h"
#include "backend/history/logs.h"
#include "backend/history/pack.h"

#include <stdio.h>

#define RECORDS 150u /* besides the first two */

struct fixture {
    struct made_vm vm;
    struct cloud_rig rig;
    struct store *away; /* what the VM's target has, as a network store */
};

static bool copy_one(void *context, const char *key, uint64_t bytes)
{
    struct fixture *f = context;
    struct buf body AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(store_load(f->vm.target, key, (size_t)bytes, &body, &err), err);
    check_ok(store_put(f->away, key, buf_span(&body), &err), err);
    return true;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;
    made_vm_init(&f->vm, 1, 64);
    for (unsigned i = 0; i < RECORDS; i++) {
        epoch_maker_cut(&f->vm.maker);
        made_vm_apply(&f->vm);
    }
    cloud_rig_init(&f->rig, HTTP_S3, 0);
    f->away = cloud_rig_open(&f->rig);
    check_ok(store_list(f->vm.target, MADE_VM "/", NULL, copy_one, f, &err), err);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->away);
    cloud_rig_release(&f->rig);
    made_vm_release(&f->vm);
    free(f);
    return 0;
}

static bool open_away(struct fixture *f, struct history **out, struct err *err)
{
    return history_open(f->vm.world, f->away, MADE_VM, f->vm.maker.keys, out, err);
}

static void check_same(struct fixture *f, struct history *read)
{
    struct history *h CLEANUP(history_close) = made_vm_history(&f->vm);
    struct history_head here = history_head(h), there = history_head(read);
    assert_int_equal(there.next_record, here.next_record);
    assert_memory_equal(&there.last_record, &here.last_record, sizeof here.last_record);
    assert_int_equal(history_points(read), history_points(h));
}

static void many_records_are_asked_for_at_once(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = NULL;
    struct err err = ERR_NONE;
    uint64_t before = http_store_requests(f->rig.server, "GET");
    http_store_delay(f->rig.server, 2);
    check_ok(open_away(f, &h, &err), err);
    check_same(f, h);
    assert_in_range(http_store_most_at_once(f->rig.server), 2, 16);
    /* Not one more for each, to look back. */
    assert_in_range(http_store_requests(f->rig.server, "GET") - before, RECORDS, RECORDS * 3 / 2);
}

static void one_that_is_refused_among_them_is_the_answer(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    for (unsigned skip = 12; skip < 60; skip += 7) {
        struct history *h CLEANUP(history_close) = NULL;
        const struct http_rule rule = {.method = "GET", .skip = skip, .next = 1, .status = 503};
        uint64_t before = http_store_faulted(f->rig.server, HTTP_REFUSE);
        http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
        check_fails(open_away(f, &h, &err), err, ERR_TRANSIENT);
        assert_int_equal(http_store_faulted(f->rig.server, HTTP_REFUSE), before + 1);
        err = ERR_NONE;
        check_ok(open_away(f, &h, &err), err);
        check_same(f, h);
    }
}

/* Days of it: packs stand for thousands of requests. */
static void packs_are_asked_for_together(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = made_vm_history(&f->vm);
    struct err err = ERR_NONE;
    while (history_head(h).next_record < 5 * PACK_RECORDS + 2) {
        struct history_point p = history_point(h, 0);
        enum point_verdict next = p.verdict == POINT_VERIFIED ? POINT_DAMAGED : POINT_VERIFIED;
        check_ok(history_append_verdict(h, &p, next, &err), err);
    }
    while (history_pack_due(h))
        check_ok(history_pack(h, &err), err);
    check_ok(store_list(f->vm.target, MADE_VM "/packs/", NULL, copy_one, f, &err), err);
    check_ok(store_list(f->vm.target, MADE_VM "/history/0000000000005", NULL, copy_one, f, &err),
             err);
    history_close(&h);
    uint64_t before = http_store_requests(f->rig.server, "GET");
    http_store_delay(f->rig.server, 2);
    check_ok(open_away(f, &h, &err), err);
    check_same(f, h);
    assert_in_range(http_store_most_at_once(f->rig.server), 2, 16);
    assert_in_range(http_store_requests(f->rig.server, "GET") - before, 5, 20);
}

static const char *record_key(uint64_t number)
{
    static char key[64];
    snprintf(key, sizeof key, MADE_VM "/history/%016llu", (unsigned long long)number);
    return key;
}

static void what_lies_behind_a_gap_is_not_read(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = NULL;
    struct err err = ERR_NONE;
    check_ok(store_remove(f->away, record_key(40), &err), err);
    check_ok(open_away(f, &h, &err), err);
    assert_int_equal(history_head(h).next_record, 40);
}

static void a_record_that_follows_another_one_is_refused(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = NULL;
    struct buf other AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(store_load(f->away, record_key(41), 1u << 20, &other, &err), err);
    check_ok(store_remove(f->away, record_key(40), &err), err);
    check_ok(store_put(f->away, record_key(40), buf_span(&other), &err), err);
    check_fails(open_away(f, &h, &err), err, ERR_CORRUPT);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(many_records_are_asked_for_at_once),
        EACH(packs_are_asked_for_together),
        EACH(one_that_is_refused_among_them_is_the_answer),
        EACH(what_lies_behind_a_gap_is_not_read),
        EACH(a_record_that_follows_another_one_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
