/* SPDX-License-Identifier: MIT
 * What a retry does when it cannot know what became of the try before: a put without an answer, a
 * list that broke off. */
#include "tests/support/retry_rig.h"

/* --- a put in doubt --- */

static bool put_ours(struct retry_rig *r, struct err *err)
{
    *err = ERR_NONE;
    return store_put(r->store, "a", span_of_text("ours"), err);
}

static void a_put_whose_answer_was_lost_is_found_and_not_repeated(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_LOSE_REPLY;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSG");
}

static void an_empty_object_in_doubt_is_found(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_LOSE_REPLY;
    check_ok(store_put(r.store, "a", span_of("", 0), &err), err);
    assert_string_equal(r.calls, "PS");
}

static void a_put_that_left_nothing_is_repeated(void **state)
{
    RETRY_RIG;
    r.script[0] = r.script[2] = MEMORY_FAIL;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSPSP");
    assert_int_equal(memory_bucket_bytes(r.bucket), 4);
}

static void put_others(struct retry_rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("else"));
}

static void put_longer(struct retry_rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("ours and more"));
}

static void put_shorter(struct retry_rig *r)
{
    memory_bucket_set(r->bucket, "a", span_of_text("our"));
}

static void somebody_elses_bytes_mean_that_the_key_is_taken(void **state)
{
    static void (*const others[])(struct retry_rig *) = {put_others, put_longer, put_shorter};
    for (size_t i = 0; i < 3; i++) {
        RETRY_RIG;
        r.script[0] = MEMORY_FAIL;
        r.at_pause = others[i];
        check_fails(put_ours(&r, &err), err, ERR_EXISTS);
        check_says(err, "with other bytes");
    }
}

static void a_key_taken_at_the_first_try_is_not_looked_at(void **state)
{
    RETRY_RIG;
    memory_bucket_set(r.bucket, "a", span_of_text("ours")); /* of an earlier life, say */
    check_fails(put_ours(&r, &err), err, ERR_EXISTS);
    assert_string_equal(r.calls, "P");
}

static void ours_before_the_third_call(struct retry_rig *r)
{
    if (r->call_count == 3)
        memory_bucket_set(r->bucket, "a", span_of_text("ours"));
}

/* It was under way while the key was still empty. */
static void a_put_that_arrives_late_is_ours(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_FAIL;
    r.at_call = ours_before_the_third_call;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSPSG");
}

static void comes_and_goes(struct retry_rig *r)
{
    if (r->call_count == 3)
        memory_bucket_set(r->bucket, "a", span_of_text("else"));
    if (r->call_count == 4)
        memory_bucket_drop(r->bucket, "a");
}

static void an_object_that_comes_and_goes_leaves_the_doubt(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_FAIL;
    r.at_call = comes_and_goes;
    check_fails(put_ours(&r, &err), err, ERR_TRANSIENT);
    check_says(err, "comes and goes");
    assert_string_equal(r.calls, "PSPS");
}

static void looking_is_tried_again_too(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_LOSE_REPLY;
    r.script[1] = r.script[3] = MEMORY_FAIL;
    check_ok(put_ours(&r, &err), err);
    assert_string_equal(r.calls, "PSSGSG");
}

/* Fenced by its own put: the writer would stop for nothing. */
static void a_doubt_that_cannot_be_settled_is_transient_and_never_taken(void **state)
{
    RETRY_RIG;
    r.script[0] = MEMORY_LOSE_REPLY;
    r.rest = MEMORY_FAIL;
    check_fails(put_ours(&r, &err), err, ERR_TRANSIENT);
    check_says(err, "tried");
    assert_int_equal(memory_bucket_objects(r.bucket), 1);
}

/* The first try may still arrive: who was told "refused" would take it for another writer's. */
static void a_put_without_an_answer_is_not_refused_by_what_comes_after_it(void **state)
{
    for (size_t then = 1; then <= 2; then++) { /* the look, or the next put */
        RETRY_RIG;
        r.script[0] = MEMORY_FAIL;
        r.script[then] = MEMORY_DENY;
        check_fails(put_ours(&r, &err), err, ERR_TRANSIENT);
        assert_string_equal(r.calls, then == 1 ? "PS" : "PSP");
    }
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

static void two_more_objects(struct retry_rig *r)
{
    memory_bucket_set(r->bucket, "b1", span_of_text("x"));
    memory_bucket_set(r->bucket, "d", span_of_text("x"));
}

static void a_list_goes_on_behind_what_was_shown(void **state)
{
    RETRY_RIG;
    struct shown s = {""};
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
    RETRY_RIG;
    struct shown s = {""};
    for (char key[2] = "a"; key[0] <= 'c'; key[0]++)
        memory_bucket_set(r.bucket, key, span_of_text("x"));
    r.script[0] = MEMORY_FAIL;
    check_ok(store_list(r.store, "", "a", note, &s, &err), err);
    assert_string_equal(s.keys, "b c ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_whose_answer_was_lost_is_found_and_not_repeated),
        cmocka_unit_test(an_empty_object_in_doubt_is_found),
        cmocka_unit_test(a_put_that_left_nothing_is_repeated),
        cmocka_unit_test(somebody_elses_bytes_mean_that_the_key_is_taken),
        cmocka_unit_test(a_key_taken_at_the_first_try_is_not_looked_at),
        cmocka_unit_test(a_put_that_arrives_late_is_ours),
        cmocka_unit_test(an_object_that_comes_and_goes_leaves_the_doubt),
        cmocka_unit_test(looking_is_tried_again_too),
        cmocka_unit_test(a_doubt_that_cannot_be_settled_is_transient_and_never_taken),
        cmocka_unit_test(a_put_without_an_answer_is_not_refused_by_what_comes_after_it),
        cmocka_unit_test(a_list_goes_on_behind_what_was_shown),
        cmocka_unit_test(a_list_that_failed_before_it_showed_anything_starts_where_it_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
