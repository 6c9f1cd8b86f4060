/* SPDX-License-Identifier: MIT */
#include "tests/backend/store/contract.h"
#include "tests/support/check.h"
#include "tests/support/memory_store.h"

static struct store *open_one(void *context)
{
    struct store *s = memory_store_open(context);
    memory_store_copies(s, MEMORY_COPIES_PROVED);
    return s;
}

static enum memory_fault give(void *context, const struct memory_call *call)
{
    (void)call;
    return *(enum memory_fault *)context;
}

static void faults_do_what_they_are_called(void **state)
{
    (void)state;
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    enum memory_fault fault = MEMORY_FAIL;
    struct err err = ERR_NONE;
    uint8_t out[1];
    memory_store_hook(s, give, NULL, &fault);

    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_TRANSIENT);
    assert_false(memory_bucket_has(b, "k"));
    fault = MEMORY_DROP;
    check_ok(store_put(s, "k", span_of_text("x"), &err), err);
    assert_false(memory_bucket_has(b, "k"));
    fault = MEMORY_LOSE_REPLY;
    check_fails(store_put(s, "k", span_of_text("x"), &err), err, ERR_TRANSIENT);
    assert_true(memory_bucket_has(b, "k"));
    fault = MEMORY_REPLACE;
    check_ok(store_put(s, "k", span_of_text("y"), &err), err);
    fault = MEMORY_DAMAGE;
    check_ok(store_get(s, "k", 0, mspan_of(out, 1), &err), err);
    assert_int_equal(out[0], 'y' ^ 1);
    fault = MEMORY_DENY;
    check_fails(store_remove(s, "k", &err), err, ERR_DENIED);
    fault = MEMORY_FILL;
    check_fails(store_put(s, "k2", span_of_text("x"), &err), err, ERR_FULL);
    fault = MEMORY_CUT;
    check_ok(store_put(s, "k3", span_of_text("xyz"), &err), err);
    assert_int_equal(memory_bucket_bytes(b), 3);
    assert_int_equal(memory_store_calls(s), 8);
}

static bool count_one(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    (void)bytes;
    (*(unsigned *)context)++;
    return true;
}

static void lists_lag_when_told(void **state)
{
    (void)state;
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct store *s AUTO_STORE = memory_store_open(b);
    struct err err = ERR_NONE;
    unsigned count = 0;
    check_ok(store_put(s, "b", span_of_text("x"), &err), err);
    check_ok(store_put(s, "a", span_of_text("x"), &err), err);
    memory_bucket_lag_lists(b, 1);
    check_ok(store_list(s, "", NULL, count_one, &count, &err), err);
    assert_int_equal(count, 1);
    check_ok(store_list(s, "a", NULL, count_one, &count, &err), err);
    assert_int_equal(count, 1);
}

int main(void)
{
    struct memory_bucket *b CLEANUP(memory_bucket_release) = memory_bucket_make();
    struct contract c = {.open = open_one,
                         .context = b,
                         .open_source = open_one,
                         .racers = 8,
                         .large_bytes = 3u << 20};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_do_what_they_are_called),
        cmocka_unit_test(lists_lag_when_told),
    };
    return contract_run("memory", &c) + cmocka_run_group_tests(tests, NULL, NULL);
}
