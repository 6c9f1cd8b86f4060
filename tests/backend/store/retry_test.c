/* SPDX-License-Identifier: MIT
 * When a call is tried again, and when no more. */
#include "tests/support/retry_rig.h"

#include <semaphore.h>
#include <stdio.h>

static bool ask_size(struct retry_rig *r, struct err *err)
{
    uint64_t bytes;
    *err = ERR_NONE;
    return store_size(r->store, "a", &bytes, err);
}

/* --- a store that is busy --- */

struct busy {
    struct store head;
    enum err_kind kind;
    unsigned retry_after_ms, failures, calls;
};

static bool busy_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct busy *b = (struct busy *)s;
    b->calls++;
    *bytes = 0;
    if (b->failures == 0)
        return true;
    b->failures--;
    err_set(err, b->kind, "busy with %s", key);
    err->retry_after_ms = b->retry_after_ms;
    return false;
}

static void busy_close(struct store *s)
{
    (void)s;
}

static const struct store_ops busy_ops = {.size = busy_size, .close = busy_close};

static void rig_open_busy(struct retry_rig *r, struct busy *b, const struct retry_policy *policy)
{
    b->head = (struct store){.ops = &busy_ops, .url = "busy://"};
    retry_rig_open(r, &b->head, policy);
}

/* --- pauses --- */

static void pauses_are_anything_up_to_a_bound_that_doubles(void **state)
{
    RETRY_RIG;
    uint32_t least[6], most[6] = {0};
    memset(least, 0xff, sizeof least);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    for (size_t i = 0; i < 6; i++)
        r.script[i] = MEMORY_FAIL;
    for (unsigned round = 0; round < 100; round++) {
        retry_rig_restart(&r);
        check_ok(ask_size(&r, &err), err);
        assert_int_equal(r.pause_count, 6);
        for (size_t i = 0; i < 6; i++) {
            least[i] = r.pauses[i] < least[i] ? r.pauses[i] : least[i];
            most[i] = r.pauses[i] > most[i] ? r.pauses[i] : most[i];
        }
    }
    for (size_t i = 0; i < 6; i++) {
        uint32_t bound = i < 3 ? 100u << i : 800;
        assert_in_range(least[i], 0, bound / 10);
        assert_in_range(most[i], bound - bound / 10, bound);
    }
}

static void what_the_store_asks_for_is_the_least(void **state)
{
    struct busy b = {.kind = ERR_TRANSIENT, .retry_after_ms = 5000, .failures = 3};
    RETRY_RIG; /* released first: it closes b */
    struct retry_policy policy = retry_rig_policy(&r);
    rig_open_busy(&r, &b, &policy);
    check_ok(ask_size(&r, &err), err);
    assert_int_equal(r.pause_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_in_range(r.pauses[i], 5000, 5000 + (100u << i));
}

static void without_random_numbers_the_pause_is_the_bound(void **state)
{
    RETRY_RIG;
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    r.script[0] = r.script[1] = MEMORY_FAIL;
    fake_world_fail(r.world, FAKE_RANDOM, 1, 5, true);
    check_ok(ask_size(&r, &err), err);
    assert_int_equal(r.pauses[0], 100);
    assert_int_equal(r.pauses[1], 200);
}

static void a_pause_that_would_pass_the_deadline_is_not_begun(void **state)
{
    struct busy b = {.kind = ERR_TRANSIENT, .retry_after_ms = 60001, .failures = 1};
    RETRY_RIG;
    struct retry_policy policy = retry_rig_policy(&r);
    rig_open_busy(&r, &b, &policy);
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(b.calls, 1);
    assert_int_equal(r.pause_count, 0);
    assert_int_equal(err.retry_after_ms, 60001); /* for who may wait longer */
}

static void a_call_ends_before_its_deadline_and_says_how_often_it_tried(void **state)
{
    RETRY_RIG;
    char words[64];
    uint64_t spent_ms = 0;
    struct retry_policy policy = retry_rig_policy(&r);
    policy.deadline_ms = 10000;
    retry_rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    for (size_t i = 0; i < r.pause_count; i++)
        spent_ms += r.pauses[i];
    assert_in_range(spent_ms, 10000 - 800, 10000);
    snprintf(words, sizeof words, "tried %zu times over 9 s", r.call_count);
    check_says(err, words);
}

static void five_seconds_pass(struct retry_rig *r)
{
    fake_world_advance(r->world, 5000000000ull);
}

static void time_that_the_tries_take_counts_against_the_deadline(void **state)
{
    RETRY_RIG;
    struct retry_policy policy = retry_rig_policy(&r);
    policy.deadline_ms = 9000;
    retry_rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    r.at_call = five_seconds_pass;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 2);
}

static void only_what_may_pass_is_tried_again(void **state)
{
    static const enum err_kind kinds[] = {ERR_NOT_FOUND, ERR_EXISTS,    ERR_DENIED,
                                          ERR_CORRUPT,   ERR_WRONG_KEY, ERR_FULL,
                                          ERR_CANCELLED, ERR_INVALID,   ERR_IO};
    RETRY_RIG;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct busy b = {.kind = kinds[i], .failures = 9};
        struct retry_policy policy = retry_rig_policy(&r);
        rig_open_busy(&r, &b, &policy);
        check_fails(ask_size(&r, &err), err, kinds[i]);
        assert_string_equal(err.text, "busy with a");
        assert_int_equal(b.calls, 1);
        store_close(&r.store);
    }
}

static bool never(void *context, const char *key, uint64_t bytes)
{
    (void)context, (void)key, (void)bytes;
    return true;
}

static void every_call_is_tried_again(void **state)
{
    RETRY_RIG;
    struct buf out AUTO_BUF = BUF_NONE;
    uint8_t byte;
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    r.script[0] = MEMORY_FAIL;
    check_ok(store_get(r.store, "a", 0, mspan_of(&byte, 1), &err), err);
    assert_string_equal(r.calls, "GG");
    retry_rig_restart(&r);
    check_ok(ask_size(&r, &err), err);
    assert_string_equal(r.calls, "SS");
    retry_rig_restart(&r);
    check_ok(store_load(r.store, "a", 9, &out, &err), err);
    assert_string_equal(r.calls, "SSG");
    assert_true(span_equal(buf_span(&out), span_of_text("x")));
    retry_rig_restart(&r);
    check_ok(store_list(r.store, "", NULL, never, NULL, &err), err);
    assert_string_equal(r.calls, "LL");
    retry_rig_restart(&r);
    check_ok(store_remove(r.store, "a", &err), err);
    assert_string_equal(r.calls, "RR");
}

/* --- the budget --- */

static void an_empty_budget_fails_at_once_and_ten_successes_pay_for_one_repeat(void **state)
{
    RETRY_RIG;
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    struct retry_policy policy = retry_rig_policy(&r);
    policy.budget = 2;
    retry_rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 3);
    retry_rig_restart(&r);
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 1);
    for (unsigned successes = 1; successes <= 10; successes++) {
        r.rest = MEMORY_PASS;
        check_ok(ask_size(&r, &err), err);
        if (successes < 9)
            continue;
        retry_rig_restart(&r);
        r.rest = MEMORY_FAIL;
        check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
        assert_int_equal(r.call_count, successes == 10 ? 2 : 1);
    }
}

static void a_call_that_succeeds_gives_back_what_its_repeats_took(void **state)
{
    RETRY_RIG;
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    struct retry_policy policy = retry_rig_policy(&r);
    policy.budget = 2;
    retry_rig_open_bucket(&r, &policy);
    for (unsigned i = 0; i < 20; i++) {
        retry_rig_restart(&r);
        r.script[0] = r.script[1] = MEMORY_FAIL;
        check_ok(ask_size(&r, &err), err);
        assert_int_equal(r.call_count, 3);
    }
}

static void no_more_is_saved_up_than_the_budget(void **state)
{
    RETRY_RIG;
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    struct retry_policy policy = retry_rig_policy(&r);
    policy.budget = 2;
    retry_rig_open_bucket(&r, &policy);
    for (unsigned i = 0; i < 100; i++)
        check_ok(ask_size(&r, &err), err);
    retry_rig_restart(&r);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 3);
}

/* --- cancelling --- */

static void a_cancelled_pause_ends_the_call_as_cancelled(void **state)
{
    RETRY_RIG;
    r.rest = MEMORY_FAIL;
    r.cancels = true;
    check_fails(ask_size(&r, &err), err, ERR_CANCELLED);
    assert_int_equal(r.call_count, 1);
    check_fails(ask_size(&r, &err), err, ERR_CANCELLED);
    assert_int_equal(r.pause_count, 1);
    r.cancels = false;
    store_cancel(r.store, false);
    retry_rig_restart(&r);
    r.rest = MEMORY_PASS;
    r.script[0] = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_NOT_FOUND);
    assert_string_equal(r.calls, "SS");
}

static sem_t called;

static void post_called(struct retry_rig *r)
{
    (void)r;
    sem_post(&called);
}

static void *ask_in_thread(void *context)
{
    static struct err err;
    struct retry_rig *r = context;
    bool good = ask_size(r, &err);
    assert_false(good);
    return &err;
}

/* Hours long, unless it is woken. */
static void a_pause_in_real_time_is_woken_by_cancelling(void **state)
{
    RETRY_RIG;
    pthread_t thread;
    void *result;
    struct retry_policy policy = {
        .pause_ms = 36000000, .pause_max_ms = 36000000, .deadline_ms = UINT32_MAX, .budget = 9};
    retry_rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    r.at_call = post_called;
    sem_init(&called, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, &r), 0);
    sem_wait(&called);
    store_cancel(r.store, true);
    pthread_join(thread, &result);
    sem_destroy(&called);
    assert_int_equal(((struct err *)result)->kind, ERR_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_are_anything_up_to_a_bound_that_doubles),
        cmocka_unit_test(what_the_store_asks_for_is_the_least),
        cmocka_unit_test(without_random_numbers_the_pause_is_the_bound),
        cmocka_unit_test(a_pause_that_would_pass_the_deadline_is_not_begun),
        cmocka_unit_test(a_call_ends_before_its_deadline_and_says_how_often_it_tried),
        cmocka_unit_test(time_that_the_tries_take_counts_against_the_deadline),
        cmocka_unit_test(only_what_may_pass_is_tried_again),
        cmocka_unit_test(every_call_is_tried_again),
        cmocka_unit_test(an_empty_budget_fails_at_once_and_ten_successes_pay_for_one_repeat),
        cmocka_unit_test(a_call_that_succeeds_gives_back_what_its_repeats_took),
        cmocka_unit_test(no_more_is_saved_up_than_the_budget),
        cmocka_unit_test(a_cancelled_pause_ends_the_call_as_cancelled),
        cmocka_unit_test(a_pause_in_real_time_is_woken_by_cancelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
