/* SPDX-License-Identifier: MIT */
#include "backend/store/retry.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include <semaphore.h>
#include <stdio.h>

#define SCRIPT_MAX 32u
#define PAUSES_MAX 64u

/* A bucket behind a retry, whose calls go by a script and whose pauses only move the fake clock. */
struct rig {
    struct world *world;
    struct memory_bucket *bucket;
    struct store *store;
    enum memory_fault script[SCRIPT_MAX]; /* of the nth call; then `rest` */
    enum memory_fault rest;
    char calls[SCRIPT_MAX + 1]; /* one letter each: P G S L R */
    size_t call_count;
    uint32_t pauses[PAUSES_MAX];
    size_t pause_count;
    bool cancels; /* the pause ends because it is cancelled */
    void (*at_call)(struct rig *r);
    void (*at_pause)(struct rig *r);
};

static enum memory_fault by_script(void *context, const struct memory_call *call)
{
    struct rig *r = context;
    size_t at = r->call_count++;
    if (at < SCRIPT_MAX)
        r->calls[at] = "PGSLR"[call->op];
    if (r->at_call != NULL)
        r->at_call(r);
    return at < SCRIPT_MAX && r->script[at] != MEMORY_PASS ? r->script[at] : r->rest;
}

static bool pause_on_paper(void *context, uint32_t ms)
{
    struct rig *r = context;
    if (r->pause_count < PAUSES_MAX)
        r->pauses[r->pause_count++] = ms;
    fake_world_advance(r->world, ms * 1000000ull);
    if (r->at_pause != NULL)
        r->at_pause(r);
    if (r->cancels)
        store_cancel(r->store, true);
    return !r->cancels;
}

static struct retry_policy policy_of(struct rig *r)
{
    return (struct retry_policy){.pause_ms = 100,
                                 .pause_max_ms = 800,
                                 .deadline_ms = 60000,
                                 .budget = 1000,
                                 .pause = pause_on_paper,
                                 .context = r};
}

static void rig_open(struct rig *r, struct store *inner, const struct retry_policy *policy)
{
    struct err err = ERR_NONE;
    store_close(&r->store);
    check_ok(store_retry(r->world, inner, policy, &r->store, &err), err);
}

static void rig_open_bucket(struct rig *r, const struct retry_policy *policy)
{
    struct store *inner = memory_store_open(r->bucket);
    memory_store_hook(inner, by_script, NULL, r);
    rig_open(r, inner, policy);
}

static void rig_make(struct rig *r)
{
    *r = (struct rig){.world = fake_world_make(1), .bucket = memory_bucket_make()};
    struct retry_policy policy = policy_of(r);
    rig_open_bucket(r, &policy);
}

static void rig_release(struct rig *r)
{
    store_close(&r->store);
    memory_bucket_release(&r->bucket);
    fake_world_release(&r->world);
}
#define AUTO_RIG CLEANUP(rig_release)

static void rig_restart(struct rig *r)
{
    memset(r->calls, 0, sizeof r->calls);
    r->call_count = r->pause_count = 0;
}

static bool ask_size(struct rig *r, struct err *err)
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

static void rig_open_busy(struct rig *r, struct busy *b, const struct retry_policy *policy)
{
    b->head = (struct store){.ops = &busy_ops, .url = "busy://"};
    rig_open(r, &b->head, policy);
}

/* --- pauses --- */

static void pauses_are_anything_up_to_a_bound_that_doubles(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    uint32_t least[6], most[6] = {0};
    memset(least, 0xff, sizeof least);
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    for (size_t i = 0; i < 6; i++)
        r.script[i] = MEMORY_FAIL;
    for (unsigned round = 0; round < 100; round++) {
        rig_restart(&r);
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
    (void)state;
    struct busy b = {.kind = ERR_TRANSIENT, .retry_after_ms = 5000, .failures = 3};
    struct rig r AUTO_RIG; /* released first: it closes b */
    struct err err;
    rig_make(&r);
    struct retry_policy policy = policy_of(&r);
    rig_open_busy(&r, &b, &policy);
    check_ok(ask_size(&r, &err), err);
    assert_int_equal(r.pause_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_in_range(r.pauses[i], 5000, 5000 + (100u << i));
}

static void without_random_numbers_the_pause_is_the_bound(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    r.script[0] = r.script[1] = MEMORY_FAIL;
    fake_world_fail(r.world, FAKE_RANDOM, 1, 5, true);
    check_ok(ask_size(&r, &err), err);
    assert_int_equal(r.pauses[0], 100);
    assert_int_equal(r.pauses[1], 200);
}

static void a_pause_that_would_pass_the_deadline_is_not_begun(void **state)
{
    (void)state;
    struct busy b = {.kind = ERR_TRANSIENT, .retry_after_ms = 60001, .failures = 1};
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    struct retry_policy policy = policy_of(&r);
    rig_open_busy(&r, &b, &policy);
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(b.calls, 1);
    assert_int_equal(r.pause_count, 0);
    assert_int_equal(err.retry_after_ms, 60001); /* for who may wait longer */
}

static void a_call_ends_before_its_deadline_and_says_how_often_it_tried(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    char words[64];
    uint64_t spent_ms = 0;
    rig_make(&r);
    struct retry_policy policy = policy_of(&r);
    policy.deadline_ms = 10000;
    rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    for (size_t i = 0; i < r.pause_count; i++)
        spent_ms += r.pauses[i];
    assert_in_range(spent_ms, 10000 - 800, 10000);
    snprintf(words, sizeof words, "tried %zu times over 9 s", r.call_count);
    check_says(err, words);
}

static void five_seconds_pass(struct rig *r)
{
    fake_world_advance(r->world, 5000000000ull);
}

static void time_that_the_tries_take_counts_against_the_deadline(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    struct retry_policy policy = policy_of(&r);
    policy.deadline_ms = 9000;
    rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    r.at_call = five_seconds_pass;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 2);
}

static void only_what_may_pass_is_tried_again(void **state)
{
    (void)state;
    static const enum err_kind kinds[] = {ERR_NOT_FOUND, ERR_EXISTS,    ERR_DENIED,
                                          ERR_CORRUPT,   ERR_WRONG_KEY, ERR_FULL,
                                          ERR_CANCELLED, ERR_INVALID,   ERR_IO};
    struct rig r AUTO_RIG;
    rig_make(&r);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct busy b = {.kind = kinds[i], .failures = 9};
        struct err err;
        struct retry_policy policy = policy_of(&r);
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
    (void)state;
    struct rig r AUTO_RIG;
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    uint8_t byte;
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    r.script[0] = MEMORY_FAIL;
    check_ok(store_get(r.store, "a", 0, mspan_of(&byte, 1), &err), err);
    assert_string_equal(r.calls, "GG");
    rig_restart(&r);
    check_ok(ask_size(&r, &err), err);
    assert_string_equal(r.calls, "SS");
    rig_restart(&r);
    check_ok(store_load(r.store, "a", 9, &out, &err), err);
    assert_string_equal(r.calls, "SSG");
    assert_true(span_equal(buf_span(&out), span_of_text("x")));
    rig_restart(&r);
    check_ok(store_list(r.store, "", NULL, never, NULL, &err), err);
    assert_string_equal(r.calls, "LL");
    rig_restart(&r);
    check_ok(store_remove(r.store, "a", &err), err);
    assert_string_equal(r.calls, "RR");
}

/* --- the budget --- */

static void an_empty_budget_fails_at_once_and_ten_successes_pay_for_one_repeat(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    struct retry_policy policy = policy_of(&r);
    policy.budget = 2;
    rig_open_bucket(&r, &policy);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 3);
    rig_restart(&r);
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 1);
    for (unsigned successes = 1; successes <= 10; successes++) {
        r.rest = MEMORY_PASS;
        check_ok(ask_size(&r, &err), err);
        if (successes < 9)
            continue;
        rig_restart(&r);
        r.rest = MEMORY_FAIL;
        check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
        assert_int_equal(r.call_count, successes == 10 ? 2 : 1);
    }
}

static void no_more_is_saved_up_than_the_budget(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("x"));
    struct retry_policy policy = policy_of(&r);
    policy.budget = 2;
    rig_open_bucket(&r, &policy);
    for (unsigned i = 0; i < 100; i++)
        check_ok(ask_size(&r, &err), err);
    rig_restart(&r);
    r.rest = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_TRANSIENT);
    assert_int_equal(r.call_count, 3);
}

/* --- cancelling --- */

static void a_cancelled_pause_ends_the_call_as_cancelled(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.rest = MEMORY_FAIL;
    r.cancels = true;
    check_fails(ask_size(&r, &err), err, ERR_CANCELLED);
    assert_int_equal(r.call_count, 1);
    check_fails(ask_size(&r, &err), err, ERR_CANCELLED);
    assert_int_equal(r.pause_count, 1);
    r.cancels = false;
    store_cancel(r.store, false);
    rig_restart(&r);
    r.rest = MEMORY_PASS;
    r.script[0] = MEMORY_FAIL;
    check_fails(ask_size(&r, &err), err, ERR_NOT_FOUND);
    assert_string_equal(r.calls, "SS");
}

static sem_t called;

static void post_called(struct rig *r)
{
    (void)r;
    sem_post(&called);
}

static void *ask_in_thread(void *context)
{
    static struct err err;
    struct rig *r = context;
    bool good = ask_size(r, &err);
    assert_false(good);
    return &err;
}

/* Hours long, unless it is woken. */
static void a_pause_in_real_time_is_woken_by_cancelling(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    pthread_t thread;
    void *result;
    rig_make(&r);
    struct retry_policy policy = {
        .pause_ms = 36000000, .pause_max_ms = 36000000, .deadline_ms = UINT32_MAX, .budget = 9};
    rig_open_bucket(&r, &policy);
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

/* --- a put in doubt --- */

static bool put_ours(struct rig *r, struct err *err)
{
    *err = ERR_NONE;
    return store_put(r->store, "a", span_of_text("ours"), err);
}

static void a_put_whose_answer_was_lost_is_found_and_not_repeated(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = MEMORY_LOSE_REPLY;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSG");
}

static void an_empty_object_in_doubt_is_found(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err = ERR_NONE;
    rig_make(&r);
    r.script[0] = MEMORY_LOSE_REPLY;
    check_ok(store_put(r.store, "a", span_of("", 0), &err), err);
    assert_string_equal(r.calls, "PS");
}

static void a_put_that_left_nothing_is_repeated(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = r.script[2] = MEMORY_FAIL;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSPSP");
    assert_int_equal(memory_bucket_bytes(r.bucket), 4);
}

static void put_others(struct rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("else"));
}

static void put_longer(struct rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("ours and more"));
}

static void put_shorter(struct rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("our"));
}

static void somebody_elses_bytes_mean_that_the_key_is_taken(void **state)
{
    (void)state;
    static void (*const others[])(struct rig *) = {put_others, put_longer, put_shorter};
    for (size_t i = 0; i < 3; i++) {
        struct rig r AUTO_RIG;
        struct err err;
        rig_make(&r);
        r.script[0] = MEMORY_FAIL;
        r.at_pause = others[i];
        check_fails(put_ours(&r, &err), err, ERR_EXISTS);
        check_says(err, "with other bytes");
    }
}

static void a_key_taken_at_the_first_try_is_not_looked_at(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    memory_bucket_set(r.bucket, "a", span_of_text("ours")); /* of an earlier life, say */
    check_fails(put_ours(&r, &err), err, ERR_EXISTS);
    assert_string_equal(r.calls, "P");
}

static void ours_before_the_third_call(struct rig *r)
{
    if (r->call_count == 3)
        memory_bucket_set(r->bucket, "a", span_of_text("ours"));
}

/* It was under way while the key was still empty. */
static void a_put_that_arrives_late_is_ours(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = MEMORY_FAIL;
    r.at_call = ours_before_the_third_call;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSPSG");
}

static void comes_and_goes(struct rig *r)
{
    if (r->call_count == 3)
        memory_bucket_set(r->bucket, "a", span_of_text("else"));
    if (r->call_count == 4)
        memory_bucket_drop(r->bucket, "a");
}

static void an_object_that_comes_and_goes_leaves_the_doubt(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = MEMORY_FAIL;
    r.at_call = comes_and_goes;
    check_fails(put_ours(&r, &err), err, ERR_TRANSIENT);
    check_says(err, "comes and goes");
    assert_string_equal(r.calls, "PSPS");
}

static void looking_is_tried_again_too(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = MEMORY_LOSE_REPLY;
    r.script[1] = r.script[3] = MEMORY_FAIL;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSSGSG");
}

/* Fenced by its own put: the writer would stop for nothing. */
static void a_doubt_that_cannot_be_settled_is_transient_and_never_taken(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.script[0] = MEMORY_LOSE_REPLY;
    r.rest = MEMORY_FAIL;
    check_fails(put_ours(&r, &err), err, ERR_TRANSIENT);
    check_says(err, "tried");
    assert_int_equal(memory_bucket_objects(r.bucket), 1);
}

/* --- lists --- */

struct shown {
    char keys[64];
};

static bool note(void *context, const char *key, uint64_t bytes)
{
    struct shown *s = context;
    (void)bytes;
    strcat(s->keys, key);
    strcat(s->keys, " ");
    return true;
}

static void two_more_objects(struct rig *r)
{
    memory_bucket_set(r->bucket, "b1", span_of_text("x"));
    memory_bucket_set(r->bucket, "d", span_of_text("x"));
}

static void a_list_goes_on_behind_what_was_shown(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct shown s = {""};
    struct err err = ERR_NONE;
    rig_make(&r);
    for (char key[2] = "a"; key[0] <= 'c'; key[0]++)
        memory_bucket_set(r.bucket, key, span_of_text("x"));
    r.script[0] = MEMORY_LOSE_REPLY;
    r.at_pause = two_more_objects;
    check_ok(store_list(r.store, "", NULL, note, &s, &err), err);
    assert_string_equal(s.keys, "a b c d ");
    assert_string_equal(r.calls, "LL");
}

static void a_list_that_failed_before_it_showed_anything_starts_where_it_was_told(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct shown s = {""};
    struct err err = ERR_NONE;
    rig_make(&r);
    for (char key[2] = "a"; key[0] <= 'c'; key[0]++)
        memory_bucket_set(r.bucket, key, span_of_text("x"));
    r.script[0] = MEMORY_FAIL;
    check_ok(store_list(r.store, "", "a", note, &s, &err), err);
    assert_string_equal(s.keys, "b c ");
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
        cmocka_unit_test(no_more_is_saved_up_than_the_budget),
        cmocka_unit_test(a_cancelled_pause_ends_the_call_as_cancelled),
        cmocka_unit_test(a_pause_in_real_time_is_woken_by_cancelling),
        cmocka_unit_test(a_put_whose_answer_was_lost_is_found_and_not_repeated),
        cmocka_unit_test(an_empty_object_in_doubt_is_found),
        cmocka_unit_test(a_put_that_left_nothing_is_repeated),
        cmocka_unit_test(somebody_elses_bytes_mean_that_the_key_is_taken),
        cmocka_unit_test(a_key_taken_at_the_first_try_is_not_looked_at),
        cmocka_unit_test(a_put_that_arrives_late_is_ours),
        cmocka_unit_test(an_object_that_comes_and_goes_leaves_the_doubt),
        cmocka_unit_test(looking_is_tried_again_too),
        cmocka_unit_test(a_doubt_that_cannot_be_settled_is_transient_and_never_taken),
        cmocka_unit_test(a_list_goes_on_behind_what_was_shown),
        cmocka_unit_test(a_list_that_failed_before_it_showed_anything_starts_where_it_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
