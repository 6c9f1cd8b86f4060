/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <stdio.h>

#include "backend/history/numlog.h"
#include "tests/support/memory_store.h"

/* A log of texts: entry n of the true line is "entry n". */
struct fixture {
    struct memory_bucket *bucket;
    struct store *store;
    struct numlog log;
    /* What happens to the nth call of a kind, from 1; 0 = never. */
    enum memory_op fault_op;
    enum memory_fault fault;
    unsigned fault_first, fault_last;
    unsigned seen;
    /* Run after the first put, as if another host had done it just then. */
    void (*after_put)(struct fixture *f);
};

static void key_of(void *context, uint64_t n, char *out)
{
    (void)context;
    snprintf(out, 256, "vm/log/%016llu", (unsigned long long)n);
}

static enum memory_fault before_call(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (call->op != f->fault_op || f->fault_first == 0)
        return MEMORY_PASS;
    f->seen++;
    return f->seen >= f->fault_first && f->seen <= f->fault_last ? f->fault : MEMORY_PASS;
}

static void after_call(void *context, const struct memory_call *call, bool ok)
{
    struct fixture *f = context;
    (void)ok;
    void (*then)(struct fixture *) = f->after_put;
    if (call->op != MEMORY_PUT || then == NULL)
        return;
    f->after_put = NULL;
    then(f);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    f->bucket = memory_bucket_make();
    f->store = memory_store_open(f->bucket);
    f->log = (struct numlog){.store = f->store, .bytes_max = 100, .key = key_of};
    memory_store_hook(f->store, before_call, after_call, f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->store);
    memory_bucket_release(&f->bucket);
    free(f);
    return 0;
}

static void fault(struct fixture *f, enum memory_op op, enum memory_fault what, unsigned first,
                  unsigned last)
{
    f->fault_op = op;
    f->fault = what;
    f->fault_first = first;
    f->fault_last = last;
    f->seen = 0;
}

static const char *text_of(uint64_t n)
{
    static char texts[4][32];
    static unsigned next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "entry %llu", (unsigned long long)n);
    return text;
}

static struct sha256 digest_of(uint64_t n)
{
    return sha256_of(span_of_text(text_of(n)));
}

static void set(struct fixture *f, uint64_t n, const char *text)
{
    char key[256];
    key_of(NULL, n, key);
    memory_bucket_set(f->bucket, key, span_of_text(text));
}

static void drop(struct fixture *f, uint64_t n)
{
    char key[256];
    key_of(NULL, n, key);
    memory_bucket_drop(f->bucket, key);
}

static bool has(struct fixture *f, uint64_t n)
{
    char key[256];
    key_of(NULL, n, key);
    return memory_bucket_has(f->bucket, key);
}

/* The true line from entry `first` to entry `last`. */
static void fill(struct fixture *f, uint64_t first, uint64_t last)
{
    for (uint64_t n = first; n <= last; n++)
        set(f, n, text_of(n));
}

static void check_put(struct fixture *f, uint64_t n, const char *text, enum numlog_result wanted,
                      enum err_kind kind)
{
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    struct sha256 previous = n > 0 ? digest_of(n - 1) : (struct sha256){{0}};
    enum numlog_result result =
        numlog_put(&f->log, n, span_of_text(text), n > 0 ? &previous : NULL, &out, &err);
    if (result != wanted || err.kind != kind)
        fail_msg("put %llu: result %d, %s: %s", (unsigned long long)n, result,
                 err_kind_name(err.kind), err.text);
    if (wanted == NUMLOG_TAKEN)
        assert_false(span_equal(buf_span(&out), span_of_text(text)));
}

static void check_read(struct fixture *f, uint64_t n, enum numlog_result wanted)
{
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    struct sha256 previous = n > 0 ? digest_of(n - 1) : (struct sha256){{0}};
    enum numlog_result result = numlog_read(&f->log, n, n > 0 ? &previous : NULL, &out, &err);
    if (result != wanted)
        fail_msg("read %llu: result %d: %s", (unsigned long long)n, result, err.text);
    if (wanted == NUMLOG_DONE)
        assert_true(span_equal(buf_span(&out), span_of_text(text_of(n))));
}

/* --- put --- */

static void entries_are_put_one_after_the_other(void **state)
{
    struct fixture *f = *state;
    for (uint64_t n = 0; n < 5; n++)
        check_put(f, n, text_of(n), NUMLOG_DONE, ERR_OK);
    assert_int_equal(memory_bucket_objects(f->bucket), 5);
}

static void a_lost_reply_is_settled_by_reading_back(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_PUT, MEMORY_LOSE_REPLY, 1, 1);
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK); /* and again, from the start */
    assert_int_equal(memory_bucket_objects(f->bucket), 4);
}

static void a_lost_reply_for_entry_0_is_settled_too(void **state)
{
    struct fixture *f = *state;
    fault(f, MEMORY_PUT, MEMORY_LOSE_REPLY, 1, 1);
    check_put(f, 0, text_of(0), NUMLOG_DONE, ERR_OK);
    check_put(f, 0, "another", NUMLOG_TAKEN, ERR_EXISTS);
}

static void a_put_that_never_arrived_is_doubt_and_may_be_put_again(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_PUT, MEMORY_FAIL, 1, 1);
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_TRANSIENT);
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
}

static void no_answer_to_the_read_back_or_the_look_back_is_doubt(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_GET, MEMORY_FAIL, 1, 100);
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_TRANSIENT); /* the look back */
    assert_true(has(f, 3));
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_TRANSIENT); /* the read back */
    fault(f, MEMORY_SIZE, MEMORY_DENY, 1, 100);
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_DENIED);
    fault(f, MEMORY_GET, MEMORY_PASS, 0, 0);
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
}

static void a_slot_with_another_entry_is_taken(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 3);
    check_put(f, 3, "mine", NUMLOG_TAKEN, ERR_EXISTS);
    fault(f, MEMORY_PUT, MEMORY_FAIL, 1, 1);
    check_put(f, 3, "mine", NUMLOG_TAKEN, ERR_EXISTS);
}

static void a_refusal_is_failure(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_PUT, MEMORY_DENY, 1, 1);
    check_put(f, 3, text_of(3), NUMLOG_FAILED, ERR_DENIED);
    fault(f, MEMORY_PUT, MEMORY_FILL, 1, 1);
    check_put(f, 3, text_of(3), NUMLOG_FAILED, ERR_FULL);
    assert_false(has(f, 3));
    f->log.bytes_max = 5;
    check_put(f, 3, text_of(3), NUMLOG_FAILED, ERR_INVALID);
    assert_false(has(f, 3));
}

/* A removed slot is a free slot: the store accepts the put of a paused writer. */
static void a_put_into_a_slot_that_was_used_and_removed_is_overtaken(void **state)
{
    struct fixture *f = *state;
    fill(f, 6, 7); /* 0 to 5 were applied and removed */
    check_put(f, 3, "paused", NUMLOG_OVERTAKEN, ERR_FENCED);
    check_put(f, 3, "paused", NUMLOG_OVERTAKEN, ERR_FENCED); /* its own stray is there now */
    check_put(f, 4, "paused", NUMLOG_OVERTAKEN, ERR_FENCED); /* behind its own stray */
    check_put(f, 6, "paused", NUMLOG_OVERTAKEN, ERR_FENCED); /* taken, and 5 is gone */
    check_put(f, 7, "paused", NUMLOG_TAKEN, ERR_EXISTS);
}

static void a_put_is_overtaken_when_the_entry_before_differs(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 1);
    set(f, 2, "forked");
    check_put(f, 3, text_of(3), NUMLOG_OVERTAKEN, ERR_FENCED);
    fill(f, 2, 2);
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
    set(f, 2,
        "much longer than any entry of this log may ever be, so that it is not even loaded, "
        "and not one of ours");
    check_put(f, 3, text_of(3), NUMLOG_OVERTAKEN, ERR_FENCED);
}

static void move_on(struct fixture *f)
{
    fill(f, 4, 5);
    for (uint64_t n = 0; n < 4; n++)
        drop(f, n);
}

/* Between our put and its reply the others went on and removed it. */
static void a_log_that_moves_on_during_the_put_overtakes_it(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    f->after_put = move_on;
    check_put(f, 3, text_of(3), NUMLOG_OVERTAKEN, ERR_FENCED);

    fill(f, 0, 2);
    fault(f, MEMORY_PUT, MEMORY_LOSE_REPLY, 1, 1);
    f->after_put = move_on;
    check_put(f, 3, text_of(3), NUMLOG_OVERTAKEN, ERR_FENCED);
}

/* From now on, one answer to the question for a size. */
static void lose_answers(struct fixture *f)
{
    fault(f, MEMORY_SIZE, MEMORY_SWELL, 1, 1);
}

static void one_bit_flipped_on_the_way_fences_nobody(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_GET, MEMORY_DAMAGE, 1, 1); /* the look back */
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
    fault(f, MEMORY_GET, MEMORY_DAMAGE, 1, 1); /* the read back */
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
}

/* A gateway's answer in the store's place, for once. */
static void one_answer_longer_than_any_entry_fences_nobody(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    fault(f, MEMORY_SIZE, MEMORY_SWELL, 1, 1); /* the look back */
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
    drop(f, 3);
    f->after_put = lose_answers;
    fault(f, MEMORY_PUT, MEMORY_LOSE_REPLY, 1, 1); /* the read back */
    check_put(f, 3, text_of(3), NUMLOG_DONE, ERR_OK);
}

/* Whose it is nobody knows, so it may be ours: not refused. */
static void what_is_in_the_slot_and_cannot_be_read_is_doubt(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 2);
    set(f, 3,
        "much longer than any entry of this log may ever be, so that it is not even loaded, "
        "and perhaps ours after all");
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_CORRUPT);
}

static void a_store_that_answers_differently_each_time_is_doubt(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 1);
    set(f, 2, "forked");
    fault(f, MEMORY_GET, MEMORY_DAMAGE, 2, 2); /* forked, damaged, forked */
    check_put(f, 3, text_of(3), NUMLOG_DOUBT, ERR_TRANSIENT);
}

/* Entry n - 1 with a changed end: seen only by who reads it whole. */
static void set_with_other_end(struct fixture *f, uint64_t n)
{
    char text[NUMLOG_HEAD_BYTES + 21], key[256];
    key_of(NULL, n, key);
    snprintf(text, sizeof text, "%-64s%s", text_of(n), "another end");
    memory_bucket_set(f->bucket, key, span_of_text(text));
}

static void the_look_back_at_an_entry_seen_whole_reads_its_head_alone(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    char body[NUMLOG_HEAD_BYTES + 21];
    fill(f, 0, 4);
    snprintf(body, sizeof body, "%-64s%s", text_of(5), "and its end");
    struct sha256 before = digest_of(4), digest = sha256_of(span_of_text(body));
    assert_int_equal(numlog_put(&f->log, 5, span_of_text(body), &before, NULL, &err), NUMLOG_DONE);
    set_with_other_end(f, 5);
    assert_int_equal(numlog_put(&f->log, 6, span_of_text("six"), &digest, NULL, &err), NUMLOG_DONE);
    /* Another log has seen nothing, and reads it whole. */
    struct numlog other = {.store = f->store, .bytes_max = 100, .key = key_of};
    drop(f, 6);
    assert_int_equal(numlog_put(&other, 6, span_of_text("six"), &digest, NULL, &err),
                     NUMLOG_OVERTAKEN);
}

/* Whose repeats are spent must not ask again at once what was refused. */
static void a_refused_look_back_is_doubt_and_not_asked_again(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 4);
    check_put(f, 5, text_of(5), NUMLOG_DONE, ERR_OK);
    fault(f, MEMORY_GET, MEMORY_FAIL, 1, 1);
    check_put(f, 6, text_of(6), NUMLOG_DOUBT, ERR_TRANSIENT);
    assert_int_equal(f->seen, 1);
}

static void an_entry_seen_whole_that_was_replaced_overtakes(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 4);
    check_put(f, 5, text_of(5), NUMLOG_DONE, ERR_OK);
    set(f, 5, "entry V");
    check_put(f, 6, text_of(6), NUMLOG_OVERTAKEN, ERR_FENCED);
    drop(f, 5);
    check_put(f, 6, text_of(6), NUMLOG_OVERTAKEN, ERR_FENCED);
}

static void what_was_seen_is_not_taken_for_another_entry_that_is_expected(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct sha256 expected = sha256_of(span_of_text("another 5"));
    fill(f, 0, 4);
    check_put(f, 5, text_of(5), NUMLOG_DONE, ERR_OK);
    assert_int_equal(numlog_put(&f->log, 6, span_of_text("six"), &expected, NULL, &err),
                     NUMLOG_OVERTAKEN);
}

static void a_flipped_bit_in_the_head_of_an_entry_seen_whole_fences_nobody(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 4);
    check_put(f, 5, text_of(5), NUMLOG_DONE, ERR_OK);
    fault(f, MEMORY_GET, MEMORY_DAMAGE, 1, 1);
    check_put(f, 6, text_of(6), NUMLOG_DONE, ERR_OK);
}

static void out_may_be_null(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct sha256 previous = digest_of(2);
    fill(f, 0, 3);
    assert_int_equal(numlog_put(&f->log, 3, span_of_text("mine"), &previous, NULL, &err),
                     NUMLOG_TAKEN);
    assert_int_equal(numlog_put(&f->log, 3, span_of_text("mine"), &previous, NULL, NULL),
                     NUMLOG_TAKEN);
}

/* --- read --- */

static void entries_read_up_to_the_head(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 3);
    for (uint64_t n = 0; n < 4; n++)
        check_read(f, n, NUMLOG_DONE);
    check_read(f, 4, NUMLOG_ABSENT);
}

static void an_empty_log_has_no_entry_0(void **state)
{
    check_read(*state, 0, NUMLOG_ABSENT);
}

static void absent_is_no_head_when_the_entry_before_is_gone_or_differs(void **state)
{
    struct fixture *f = *state;
    fill(f, 6, 7);
    check_read(f, 4, NUMLOG_OVERTAKEN);
    fill(f, 0, 2);
    set(f, 3, "forked");
    check_read(f, 4, NUMLOG_OVERTAKEN);
}

static void an_entry_does_not_count_when_the_one_before_is_gone_or_differs(void **state)
{
    struct fixture *f = *state;
    fill(f, 3, 3);
    check_read(f, 3, NUMLOG_OVERTAKEN);
    set(f, 2, "forked");
    check_read(f, 3, NUMLOG_OVERTAKEN);
    fill(f, 2, 2);
    check_read(f, 3, NUMLOG_DONE);
}

static void a_read_without_the_look_back_tells_of_its_slot_alone(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    fill(f, 6, 6);
    assert_int_equal(numlog_read(&f->log, 6, NULL, &out, &err), NUMLOG_DONE);
    assert_int_equal(numlog_read(&f->log, 3, NULL, &out, &err), NUMLOG_ABSENT);
}

static void a_read_without_an_answer_is_doubt_and_a_refused_one_fails(void **state)
{
    struct fixture *f = *state;
    fill(f, 0, 3);
    fault(f, MEMORY_GET, MEMORY_FAIL, 1, 1);
    check_read(f, 3, NUMLOG_DOUBT);
    fault(f, MEMORY_GET, MEMORY_FAIL, 2, 2); /* the look back */
    check_read(f, 3, NUMLOG_DOUBT);
    fault(f, MEMORY_SIZE, MEMORY_DENY, 1, 1);
    check_read(f, 3, NUMLOG_FAILED);
    f->log.bytes_max = 3;
    check_read(f, 3, NUMLOG_FAILED);
}

/* --- start --- */

static void start_is_what_the_list_shows_else_the_hint(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t first, last;
    check_ok(numlog_start(&f->log, "vm/log/", 42, &first, &last, &err), err);
    assert_int_equal(first, 42);
    assert_int_equal(last, 42);
    fill(f, 8, 12);
    memory_bucket_set(f->bucket, "vm/log/parts/0000000000000003-x-0", span_of_text("x"));
    memory_bucket_set(f->bucket, "vm/log/0000000000000001x", span_of_text("x"));
    memory_bucket_set(f->bucket, "vm/log/1", span_of_text("x"));
    memory_bucket_set(f->bucket, "vm/log2/0000000000000099", span_of_text("x"));
    check_ok(numlog_start(&f->log, "vm/log/", 42, &first, &last, &err), err);
    assert_int_equal(first, 8);
    assert_int_equal(last, 12);
    fault(f, MEMORY_LIST, MEMORY_FAIL, 1, 1);
    check_fails(numlog_start(&f->log, "vm/log/", 42, &first, &last, &err), err, ERR_TRANSIENT);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(entries_are_put_one_after_the_other),
        EACH(a_lost_reply_is_settled_by_reading_back),
        EACH(a_lost_reply_for_entry_0_is_settled_too),
        EACH(a_put_that_never_arrived_is_doubt_and_may_be_put_again),
        EACH(no_answer_to_the_read_back_or_the_look_back_is_doubt),
        EACH(a_slot_with_another_entry_is_taken),
        EACH(a_refusal_is_failure),
        EACH(a_put_into_a_slot_that_was_used_and_removed_is_overtaken),
        EACH(a_put_is_overtaken_when_the_entry_before_differs),
        EACH(a_log_that_moves_on_during_the_put_overtakes_it),
        EACH(one_bit_flipped_on_the_way_fences_nobody),
        EACH(one_answer_longer_than_any_entry_fences_nobody),
        EACH(what_is_in_the_slot_and_cannot_be_read_is_doubt),
        EACH(a_store_that_answers_differently_each_time_is_doubt),
        EACH(the_look_back_at_an_entry_seen_whole_reads_its_head_alone),
        EACH(a_refused_look_back_is_doubt_and_not_asked_again),
        EACH(an_entry_seen_whole_that_was_replaced_overtakes),
        EACH(what_was_seen_is_not_taken_for_another_entry_that_is_expected),
        EACH(a_flipped_bit_in_the_head_of_an_entry_seen_whole_fences_nobody),
        EACH(out_may_be_null),
        EACH(entries_read_up_to_the_head),
        EACH(an_empty_log_has_no_entry_0),
        EACH(absent_is_no_head_when_the_entry_before_is_gone_or_differs),
        EACH(an_entry_does_not_count_when_the_one_before_is_gone_or_differs),
        EACH(a_read_without_the_look_back_tells_of_its_slot_alone),
        EACH(a_read_without_an_answer_is_doubt_and_a_refused_one_fails),
        EACH(start_is_what_the_list_shows_else_the_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
