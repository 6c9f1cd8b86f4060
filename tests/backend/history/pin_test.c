/* SPDX-License-Identifier: MIT */
#include "backend/history/pin.h"

#include "tests/support/check.h"
#include "tests/support/made_vm.h"
#include "tests/support/memory_store.h"
#include "tests/support/specimen.h"

struct fixture {
    struct memory_bucket *bucket;
    struct store *store;
    struct keys *keys;
};

static int set_up(void **state)
{
    static struct fixture f;
    f.bucket = memory_bucket_make();
    f.store = memory_store_open(f.bucket);
    f.keys = specimen_keys(0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->store);
    memory_bucket_release(&f->bucket);
    keys_release(&f->keys);
    return 0;
}

static struct pin some_pin(enum pin_kind kind, const char *name)
{
    struct pin pin = {
        .kind = kind,
        .generation = {.number = 3, .id = 0x1122334455667788},
        .epoch = 12,
        .point_ms = 1790000000123,
        .placed_ms = 1790000005000,
        .end_ms = kind == PIN_LEASE ? 1790000905000 : 0,
    };
    memcpy(pin.vm, specimen_vm, sizeof pin.vm);
    strcpy(pin.name, name);
    return pin;
}

static void check_same(const struct pin *a, const struct pin *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_memory_equal(a->vm, b->vm, sizeof a->vm);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->generation.number, b->generation.number);
    assert_int_equal(a->generation.id, b->generation.id);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->point_ms, b->point_ms);
    assert_int_equal(a->end_ms, b->end_ms);
}

static void encode(struct fixture *f, const struct pin *pin, struct buf *out)
{
    struct err err = ERR_NONE;
    struct seal_salt salt = specimen_salt(9);
    check_ok(pin_encode(pin, f->keys, &salt, out, &err), err);
}

static void a_pin_comes_back_as_it_was(void **state)
{
    struct fixture *f = *state;
    enum pin_kind kinds[] = {PIN_HOLD, PIN_LEASE};
    for (size_t i = 0; i < 2; i++) {
        struct buf stored AUTO_BUF = BUF_NONE;
        struct pin pin = some_pin(kinds[i], "some-pin"), back;
        struct err err = ERR_NONE;
        encode(f, &pin, &stored);
        check_ok(pin_decode(buf_span(&stored), f->keys, specimen_vm, "some-pin", &back, &err), err);
        check_same(&pin, &back);
        assert_int_equal(back.placed_ms, pin.placed_ms);
    }
}

static void a_pin_has_the_bytes_that_were_released(void **state)
{
    struct fixture *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct pin pin = some_pin(PIN_LEASE, "lease-golden");
    encode(f, &pin, &stored);
    specimen_golden(TEST_SOURCE_DIR, "pin-lease.bin", buf_span(&stored),
                    "3ae58fb5259f9b87526c43b9fb9e3d331f5a4dcbbe6c776c0721fddddc395e4b");
}

static bool refused(void *context, struct span damaged)
{
    struct fixture *f = context;
    struct pin back;
    struct err err = ERR_NONE;
    if (pin_decode(damaged, f->keys, specimen_vm, "some-pin", &back, &err))
        return false;
    return err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY;
}

static void every_damage_to_a_pin_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct pin pin = some_pin(PIN_HOLD, "some-pin");
    encode(f, &pin, &stored);
    specimen_damage(buf_span(&stored), refused, f);
}

static void a_pin_moved_to_another_name_or_vm_is_refused(void **state)
{
    struct fixture *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct pin pin = some_pin(PIN_HOLD, "some-pin"), back;
    struct err err = ERR_NONE;
    uint8_t other_vm[VM_ID_BYTES] = {1};
    encode(f, &pin, &stored);
    check_fails(pin_decode(buf_span(&stored), f->keys, specimen_vm, "other", &back, &err), err,
                ERR_CORRUPT);
    check_fails(pin_decode(buf_span(&stored), f->keys, other_vm, "some-pin", &back, &err), err,
                ERR_CORRUPT);
}

static void a_pin_of_another_key_is_told_from_damage(void **state)
{
    struct fixture *f = *state;
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct pin pin = some_pin(PIN_HOLD, "some-pin"), back;
    struct err err = ERR_NONE;
    encode(f, &pin, &stored);
    check_fails(pin_decode(buf_span(&stored), other, specimen_vm, "some-pin", &back, &err), err,
                ERR_WRONG_KEY);
}

static void a_hold_with_an_end_and_a_lease_without_are_no_pins(void **state)
{
    struct fixture *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct seal_salt salt = specimen_salt(9);
    struct err err = ERR_NONE;
    struct pin hold = some_pin(PIN_HOLD, "some-pin"), lease = some_pin(PIN_LEASE, "some-pin");
    hold.end_ms = 1;
    lease.end_ms = 0;
    check_fails(pin_encode(&hold, f->keys, &salt, &stored, &err), err, ERR_INVALID);
    check_fails(pin_encode(&lease, f->keys, &salt, &stored, &err), err, ERR_INVALID);
}

static bool put(struct fixture *f, const struct pin *pin, struct err *err)
{
    return pin_put(world_real(), f->store, "web1", f->keys, pin, err);
}

static void the_same_pin_put_again_is_fine_and_another_point_is_refused(void **state)
{
    struct fixture *f = *state;
    struct pin pin = some_pin(PIN_HOLD, "hold-a");
    struct err err = ERR_NONE;
    check_ok(put(f, &pin, &err), err);
    check_ok(put(f, &pin, &err), err);
    assert_int_equal(memory_bucket_objects(f->bucket), 1);
    pin.epoch++;
    check_fails(put(f, &pin, &err), err, ERR_EXISTS);
    check_says(err, "hold-a");
}

static void a_lease_put_again_must_last_as_long(void **state)
{
    struct fixture *f = *state;
    struct pin pin = some_pin(PIN_LEASE, "lease-a");
    struct err err = ERR_NONE;
    check_ok(put(f, &pin, &err), err);
    pin.end_ms--;
    check_ok(put(f, &pin, &err), err);
    pin.end_ms += 2;
    check_fails(put(f, &pin, &err), err, ERR_EXISTS);
}

static enum memory_fault lose_put_reply(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_LOSE_REPLY : MEMORY_PASS;
}

static enum memory_fault fail_put(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_FAIL : MEMORY_PASS;
}

static void a_put_in_doubt_is_settled_by_what_lies_there(void **state)
{
    struct fixture *f = *state;
    struct pin pin = some_pin(PIN_HOLD, "hold-a");
    struct err err = ERR_NONE;
    memory_store_hook(f->store, fail_put, NULL, NULL);
    check_fails(put(f, &pin, &err), err, ERR_TRANSIENT);
    memory_store_hook(f->store, lose_put_reply, NULL, NULL);
    check_ok(put(f, &pin, &err), err);
}

struct seen {
    size_t count;
    char names[8][PIN_NAME_MAX + 1];
    size_t stop_after;
};

static bool see(void *context, const struct pin *pin)
{
    struct seen *seen = context;
    strcpy(seen->names[seen->count++], pin->name);
    return seen->count != seen->stop_after;
}

static void a_list_shows_the_pins_of_one_vm_in_order(void **state)
{
    struct fixture *f = *state;
    struct pin a = some_pin(PIN_HOLD, "hold-a"), b = some_pin(PIN_LEASE, "lease-b");
    struct seen seen = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(put(f, &b, &err), err);
    check_ok(put(f, &a, &err), err);
    check_ok(pin_put(world_real(), f->store, "web2", f->keys, &a, &err), err);
    check_ok(pin_list(f->store, "web1", specimen_vm, f->keys, see, &seen, &err), err);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.names[0], "hold-a");
    assert_string_equal(seen.names[1], "lease-b");

    struct seen first = {.stop_after = 1};
    check_ok(pin_list(f->store, "web1", specimen_vm, f->keys, see, &first, &err), err);
    assert_int_equal(first.count, 1);
}

static void a_pin_that_cannot_be_read_fails_the_list(void **state)
{
    struct fixture *f = *state;
    struct pin a = some_pin(PIN_HOLD, "hold-a");
    struct seen seen = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(put(f, &a, &err), err);
    assert_true(memory_bucket_damage(f->bucket, "web1/pins/hold-a", 70, 1));
    check_fails(pin_list(f->store, "web1", specimen_vm, f->keys, see, &seen, &err), err,
                ERR_CORRUPT);
    check_says(err, "hold-a");
    assert_int_equal(seen.count, 0);
}

/* Takes the pin away between the list and the look at it. */
static enum memory_fault drop_before_size_or_get(void *context, const struct memory_call *call)
{
    if (call->op == MEMORY_SIZE || call->op == MEMORY_GET)
        memory_bucket_drop(context, "web1/pins/hold-a");
    return MEMORY_PASS;
}

static void a_pin_removed_during_the_list_is_left_out(void **state)
{
    struct fixture *f = *state;
    struct pin a = some_pin(PIN_HOLD, "hold-a"), b = some_pin(PIN_HOLD, "hold-b");
    struct seen seen = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(put(f, &a, &err), err);
    check_ok(put(f, &b, &err), err);
    memory_store_hook(f->store, drop_before_size_or_get, NULL, f->bucket);
    check_ok(pin_list(f->store, "web1", specimen_vm, f->keys, see, &seen, &err), err);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.names[0], "hold-b");
}

static void a_removed_pin_is_gone_and_removing_it_again_is_fine(void **state)
{
    struct fixture *f = *state;
    struct pin a = some_pin(PIN_HOLD, "hold-a");
    struct err err = ERR_NONE;
    check_ok(put(f, &a, &err), err);
    check_ok(pin_remove(f->store, "web1", "hold-a", &err), err);
    assert_int_equal(memory_bucket_objects(f->bucket), 0);
    check_ok(pin_remove(f->store, "web1", "hold-a", &err), err);
}

/* Who thinned before the pin was seen has said so in the head. */
static void the_head_is_read_again_once_a_hold_is_there(void **state)
{
    struct made_vm vm;
    struct err err = ERR_NONE;
    (void)state;
    made_vm_init(&vm, 1, 64);
    epoch_maker_cut(&vm.maker);
    made_vm_apply(&vm);
    struct history *h = made_vm_history(&vm);
    struct history_point first = history_point(h, 0);
    epoch_maker_cut(&vm.maker);
    made_vm_apply(&vm);
    assert_int_equal(history_points(h), 1);
    check_ok(pin_hold(vm.world, vm.target, h, vm.maker.keys, "kept", &first, &err), err);
    assert_int_equal(history_points(h), 2);
    history_close(&h);
    made_vm_release(&vm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pin_comes_back_as_it_was),
        TEST(a_pin_has_the_bytes_that_were_released),
        TEST(every_damage_to_a_pin_is_refused),
        TEST(a_pin_moved_to_another_name_or_vm_is_refused),
        TEST(a_pin_of_another_key_is_told_from_damage),
        TEST(a_hold_with_an_end_and_a_lease_without_are_no_pins),
        TEST(the_same_pin_put_again_is_fine_and_another_point_is_refused),
        TEST(a_lease_put_again_must_last_as_long),
        TEST(a_put_in_doubt_is_settled_by_what_lies_there),
        TEST(a_list_shows_the_pins_of_one_vm_in_order),
        TEST(a_pin_that_cannot_be_read_fails_the_list),
        TEST(a_pin_removed_during_the_list_is_left_out),
        cmocka_unit_test(the_head_is_read_again_once_a_hold_is_there),
        TEST(a_removed_pin_is_gone_and_removing_it_again_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
