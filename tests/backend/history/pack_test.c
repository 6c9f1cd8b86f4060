/* SPDX-License-Identifier: MIT
 * Packs: a history that is read from them is the one that its records are, whatever packs hold. */
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include "backend/history/codec_internal.h"
#include "backend/history/history_internal.h"
#include "backend/history/thinner.h"

#include <stdio.h>

#define RECORDS 41u /* of which 40 are in packs of 8 */
#define OF_PACK 8u

struct fixture {
    struct made_vm vm;
    struct store *target; /* what the histories read, hooked */
    unsigned records_read, packs_read, removed;
    const char *fault_key;
    enum memory_fault fault;
    unsigned fault_times; /* 0: each time */
};

static enum memory_fault on_call(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (call->op == MEMORY_GET) {
        f->records_read += strstr(call->key, "/history/") != NULL;
        f->packs_read += strstr(call->key, "/packs/") != NULL;
    }
    f->removed += call->op == MEMORY_REMOVE;
    if (f->fault_key == NULL || strcmp(call->key, f->fault_key) != 0 ||
        (call->op != MEMORY_GET && call->op != MEMORY_PUT))
        return MEMORY_PASS;
    if (f->fault_times > 0 && --f->fault_times == 0)
        f->fault_key = NULL;
    return f->fault;
}

static struct history *open_history(struct fixture *f)
{
    struct history *h = NULL;
    struct err err = ERR_NONE;
    f->records_read = f->packs_read = 0;
    check_ok(history_open(f->vm.world, f->target, MADE_VM, f->vm.maker.keys, &h, &err), err);
    h->pack_records = OF_PACK;
    return h;
}

/* Says again and again what a point is. */
static void append_until(struct history *h, uint64_t records)
{
    struct err err = ERR_NONE;
    struct history_point p = history_point(h, 0);
    while (history_head(h).next_record < records) {
        p = history_point(h, 0);
        enum point_verdict next = p.verdict == POINT_VERIFIED ? POINT_DAMAGED : POINT_VERIFIED;
        check_ok(history_append_verdict(h, &p, next, &err), err);
    }
}

static unsigned pack_all(struct history *h)
{
    struct err err = ERR_NONE;
    unsigned made = 0;
    for (; history_pack_due(h); made++)
        check_ok(history_pack(h, &err), err);
    return made;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    made_vm_init(&f->vm, 2, 64);
    for (unsigned i = 0; i < 4; i++) {
        epoch_maker_fill(&f->vm.maker, 0, i, i);
        epoch_maker_cut(&f->vm.maker);
        made_vm_apply(&f->vm);
    }
    f->target = memory_store_open(f->vm.target_bucket);
    memory_store_hook(f->target, on_call, NULL, f);
    struct history *h CLEANUP(history_close) = open_history(f);
    append_until(h, RECORDS);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->target);
    made_vm_release(&f->vm);
    free(f);
    return 0;
}

static void load(struct fixture *f, const char *key, struct buf *out)
{
    struct err err = ERR_NONE;
    check_ok(store_load(f->vm.target, key, PACK_BYTES_MAX, out, &err), err);
}

/* The digest of the newest record, as it lies in its own place. */
static struct sha256 newest_record(struct fixture *f, uint64_t records)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    key_history(key, MADE_VM, records - 1);
    load(f, key, &stored);
    return sha256_of(buf_span(&stored));
}

static void check_is(struct fixture *f, struct history *h, uint64_t records)
{
    struct history_head head = history_head(h);
    struct sha256 newest = newest_record(f, records);
    assert_int_equal(head.next_record, records);
    assert_memory_equal(&head.last_record, &newest, sizeof newest);
    assert_int_equal(history_points(h), 4);
    assert_int_equal(history_epochs(h), 4);
}

static void make_packs(struct fixture *f)
{
    struct history *h CLEANUP(history_close) = open_history(f);
    assert_int_equal(pack_all(h), RECORDS / OF_PACK);
}

static void what_is_in_packs_is_not_read_record_by_record(void **state)
{
    struct fixture *f = *state;
    make_packs(f);
    assert_true(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000000"));
    assert_true(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000032"));
    assert_false(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000040"));
    struct history *h CLEANUP(history_close) = open_history(f);
    check_is(f, h, RECORDS);
    assert_in_range(f->records_read, 1, 6); /* the one behind them, and looks back */
    assert_int_equal(pack_all(h), 0);
    append_until(h, RECORDS + OF_PACK);
    assert_int_equal(pack_all(h), 1);
    history_close(&h);
    h = open_history(f);
    check_is(f, h, RECORDS + OF_PACK);
    assert_in_range(f->records_read, 1, 6);
}

static void a_pack_that_cannot_be_read_is_as_none(void **state)
{
    static const enum memory_fault faults[] = {MEMORY_FAIL, MEMORY_DENY};
    struct fixture *f = *state;
    make_packs(f);
    f->fault_key = MADE_VM "/packs/0000000000000016";
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        f->fault = faults[i];
        struct history *h CLEANUP(history_close) = open_history(f);
        check_is(f, h, RECORDS);
        assert_in_range(f->records_read, RECORDS - 16, RECORDS - 16 + 30);
    }
}

static void a_vault_whose_purge_has_begun_is_none_though_it_has_packs(void **state)
{
    struct fixture *f = *state;
    make_packs(f);
    memory_bucket_drop(f->vm.target_bucket, MADE_VM "/history/0000000000000000");
    struct history *h CLEANUP(history_close) = open_history(f);
    assert_int_equal(history_head(h).next_record, 0);
}

/* --- packs that are not what the records are --- */

static void one_that_is_read_wrong_once_is_read_again(void **state)
{
    struct fixture *f = *state;
    make_packs(f);
    f->fault_key = MADE_VM "/packs/0000000000000016";
    f->fault = MEMORY_DAMAGE;
    f->fault_times = 1;
    struct history *h CLEANUP(history_close) = open_history(f);
    assert_null(f->fault_key);
    check_is(f, h, RECORDS);
    assert_true(f->packs_read > RECORDS / OF_PACK + 2);
    assert_in_range(f->records_read, 1, 8);
}

static void pack_set(struct fixture *f, const struct buf *bytes, size_t length)
{
    memory_bucket_set(f->vm.target_bucket, MADE_VM "/packs/0000000000000016",
                      span_part(buf_span(bytes), 0, length));
}

static void wrong_byte(struct fixture *f, struct buf *pack)
{
    pack->data[pack->length / 2] ^= 4;
    pack_set(f, pack, pack->length);
}
static void wrong_length(struct fixture *f, struct buf *pack)
{
    /* The head of its first record says more than there is. */
    pack->data[ENVELOPE_HEAD_BYTES - 6] ^= 0x7f;
    pack_set(f, pack, pack->length);
}
static void cut_off(struct fixture *f, struct buf *pack)
{
    pack_set(f, pack, pack->length - 1);
}
static void half_a_head(struct fixture *f, struct buf *pack)
{
    pack_set(f, pack, ENVELOPE_HEAD_BYTES - 1);
}
static void empty(struct fixture *f, struct buf *pack)
{
    pack_set(f, pack, 0);
}
static void more_behind_it(struct fixture *f, struct buf *pack)
{
    buf_put_u64(pack, 0);
    pack_set(f, pack, pack->length);
}
static void another_pack(struct fixture *f, struct buf *pack)
{
    load(f, MADE_VM "/packs/0000000000000008", pack);
    pack_set(f, pack, pack->length);
}

static const struct {
    const char *name;
    void (*make)(struct fixture *f, struct buf *pack);
} wrongs[] = {
    {"wrong byte", wrong_byte},
    {"wrong length", wrong_length},
    {"cut off", cut_off},
    {"half a head", half_a_head},
    {"empty", empty},
    {"more behind it", more_behind_it},
    {"another pack", another_pack},
};

static void a_wrong_pack_changes_nothing_and_is_made_anew(void **state)
{
    struct fixture *f = *state;
    make_packs(f);
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        struct buf right AUTO_BUF = BUF_NONE, pack AUTO_BUF = BUF_NONE, again AUTO_BUF = BUF_NONE;
        print_message("%s\n", wrongs[i].name);
        load(f, MADE_VM "/packs/0000000000000016", &right);
        buf_put(&pack, right.data, right.length);
        wrongs[i].make(f, &pack);
        struct history *h CLEANUP(history_close) = open_history(f);
        check_is(f, h, RECORDS);
        assert_true(f->records_read > RECORDS);
        assert_int_equal(pack_all(h), RECORDS / OF_PACK + 1); /* and looks behind them */
        load(f, MADE_VM "/packs/0000000000000016", &again);
        assert_true(span_equal(buf_span(&right), buf_span(&again)));
    }
}

static void packs_of_an_earlier_vm_of_that_name_are_not_read(void **state)
{
    struct fixture *f = *state;
    struct keys *other AUTO_KEYS = made_keys(8);
    struct seal_salt salt = {{3}};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct record r = {.kind = RECORD_OPEN};
    struct err err = ERR_NONE;
    check_ok(record_encode(&r, other, &salt, &stored, &err), err);
    memory_bucket_set(f->vm.target_bucket, MADE_VM "/packs/0000000000000000", buf_span(&stored));
    struct history *h CLEANUP(history_close) = open_history(f);
    check_is(f, h, RECORDS);
}

/* Packs are made, and the store comes back as it was before this record. */
static struct history *roll_back(struct fixture *f, uint64_t record)
{
    char key[KEY_MAX];
    make_packs(f);
    for (uint64_t n = record; n < RECORDS; n++) {
        key_history(key, MADE_VM, n);
        memory_bucket_drop(f->vm.target_bucket, key);
    }
    struct history *h = open_history(f);
    check_is(f, h, record);
    return h;
}

/* It goes on in another way. */
static void packs_of_what_was_rolled_back_are_not_read(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = roll_back(f, 20);
    append_until(h, RECORDS);
    history_close(&h);
    h = open_history(f);
    check_is(f, h, RECORDS);
    assert_true(f->records_read > RECORDS);
    assert_int_equal(pack_all(h), RECORDS / OF_PACK + 1);
    history_close(&h);
    h = open_history(f);
    check_is(f, h, RECORDS);
    assert_in_range(f->records_read, 1, 6);
}

/* Another one in its place would come when there are records enough: in months, perhaps. */
static void a_pack_that_goes_beyond_what_there_is_now_is_removed(void **state)
{
    struct fixture *f = *state;
    struct history *h CLEANUP(history_close) = roll_back(f, 20);
    append_until(h, 22);
    pack_all(h);
    assert_true(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000008"));
    assert_false(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000016"));
    assert_false(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000032"));
    history_close(&h);
    h = open_history(f);
    check_is(f, h, 22);
    assert_in_range(f->records_read, 6, 16);
}

/* --- making them --- */

static void a_record_that_is_read_wrong_once_is_not_packed(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = open_history(f);
    f->fault_key = MADE_VM "/history/0000000000000005";
    f->fault = MEMORY_DAMAGE;
    check_fails(history_pack(h, &err), err, ERR_CORRUPT);
    f->fault = MEMORY_FAIL;
    check_fails(history_pack(h, &err), err, ERR_TRANSIENT);
    f->fault_key = NULL;
    assert_false(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000000"));
    err = ERR_NONE;
    check_ok(history_pack(h, &err), err);
}

/* It is authentic, and follows on what is before it; but the next one follows another. */
static void the_last_record_of_a_pack_is_the_one_that_the_next_follows(void **state)
{
    struct fixture *f = *state;
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    struct seal_salt salt = {{9}};
    struct buf right AUTO_BUF = BUF_NONE, other AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = open_history(f);
    const char *key = MADE_VM "/history/0000000000000007";
    load(f, key, &right);
    check_ok(record_decode(buf_span(&right), f->vm.maker.keys, f->vm.maker.vault.vm, 7, &r, &err),
             err);
    check_ok(record_encode(&r, f->vm.maker.keys, &salt, &other, &err), err);
    memory_bucket_set(f->vm.target_bucket, key, buf_span(&other));
    check_fails(history_pack(h, &err), err, ERR_CORRUPT);
    check_says(err, "record 8");
    memory_bucket_set(f->vm.target_bucket, key, buf_span(&right));
    err = ERR_NONE;
    check_ok(history_pack(h, &err), err);
}

static void one_whose_reply_was_lost_is_found_there(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = open_history(f);
    f->fault_key = MADE_VM "/packs/0000000000000000";
    f->fault = MEMORY_LOSE_REPLY;
    check_fails(history_pack(h, &err), err, ERR_TRANSIENT);
    f->fault_key = NULL;
    err = ERR_NONE;
    assert_int_equal(pack_all(h), RECORDS / OF_PACK);
    assert_int_equal(f->removed, 0);
}

/* As after an outage: more in each record than usual. */
static void long_records_end_a_pack_before_it_is_too_long(void **state)
{
    struct fixture *f = *state;
    struct sha256 *drops AUTO_FREE = calloc(RECORD_RUNS_MAX, sizeof *drops);
    struct history *h CLEANUP(history_close) = open_history(f);
    struct err err = ERR_NONE;
    uint64_t bytes, records = RECORDS + 2 * PACK_BYTES_MAX / (RECORD_RUNS_MAX * SHA256_BYTES);
    for (uint64_t n = RECORDS; n < records; n++) {
        for (uint32_t i = 0; i < RECORD_RUNS_MAX; i++) {
            drops[i].bytes[0] = (uint8_t)(i >> 8); /* no two begin alike, as with real ones */
            drops[i].bytes[1] = (uint8_t)i;
            store_u32(drops[i].bytes + 2, (uint32_t)n + 1);
        }
        struct record r = {.kind = RECORD_DROP,
                           .generation = f->vm.maker.generation,
                           .drop_count = RECORD_RUNS_MAX,
                           .drops = drops};
        assert_int_equal(history_append(h, n, &r, &err), NUMLOG_DONE);
    }
    h->pack_records = records - 2;
    assert_int_equal(pack_all(h), 1);
    check_ok(store_size(f->vm.target, MADE_VM "/packs/0000000000000000", &bytes, &err), err);
    assert_in_range(bytes, PACK_BYTES_MAX - 150000, PACK_BYTES_MAX);
    h->pack_records = OF_PACK;
    pack_all(h);
    history_close(&h);
    h = open_history(f);
    check_is(f, h, records);
    assert_in_range(f->records_read, 1, OF_PACK + 3);
}

static void they_are_made_when_nothing_else_is_to_be_done(void **state)
{
    struct fixture *f = *state;
    struct thinner *t CLEANUP(thinner_close) = NULL;
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = open_history(f);
    const struct retention policy = retention_default();
    const struct processor_config config = {.world = f->vm.world,
                                            .vm = MADE_VM,
                                            .keys = f->vm.maker.keys,
                                            .targets = &f->target,
                                            .caches = &f->vm.cache,
                                            .store_count = 1};
    check_ok(thinner_open(&config, h, &policy, &t, &err), err);
    thinner_only_look(t);
    assert_int_equal(thinner_step(t, &err), THINNER_IDLE);
    assert_false(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000000"));
    thinner_close(&t);
    check_ok(thinner_open(&config, h, &policy, &t, &err), err);
    f->fault_key = MADE_VM "/packs/0000000000000000";
    f->fault = MEMORY_FILL;
    assert_int_equal(thinner_step(t, &err), THINNER_IDLE);
    f->fault_key = NULL;
    f->records_read = 0;
    assert_int_equal(thinner_step(t, &err), THINNER_IDLE);
    assert_int_equal(f->records_read, 0); /* in an hour */
    fake_world_advance(f->vm.world, THINNER_PACK_MS * 1000000ull);
    for (unsigned i = 0; i < 100 && thinner_step(t, &err) == THINNER_WORKED; i++)
        ;
    assert_true(memory_bucket_has(f->vm.target_bucket, MADE_VM "/packs/0000000000000032"));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(what_is_in_packs_is_not_read_record_by_record),
        EACH(a_pack_that_cannot_be_read_is_as_none),
        EACH(a_vault_whose_purge_has_begun_is_none_though_it_has_packs),
        EACH(one_that_is_read_wrong_once_is_read_again),
        EACH(a_wrong_pack_changes_nothing_and_is_made_anew),
        EACH(packs_of_an_earlier_vm_of_that_name_are_not_read),
        EACH(packs_of_what_was_rolled_back_are_not_read),
        EACH(a_pack_that_goes_beyond_what_there_is_now_is_removed),
        EACH(a_record_that_is_read_wrong_once_is_not_packed),
        EACH(the_last_record_of_a_pack_is_the_one_that_the_next_follows),
        EACH(one_whose_reply_was_lost_is_found_there),
        EACH(long_records_end_a_pack_before_it_is_too_long),
        EACH(they_are_made_when_nothing_else_is_to_be_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
