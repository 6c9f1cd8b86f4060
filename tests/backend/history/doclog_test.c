/* SPDX-License-Identifier: MIT */
#include "backend/history/doclog.h"

#include "tests/support/check.h"
#include "tests/support/doc_vault.h"
#include "tests/support/specimen.h"

#include <pthread.h>
#include <stdio.h>

#define CALLS_MAX 64u

static void append(struct doclog *l, const char *text)
{
    struct err err = ERR_NONE;
    check_ok(doclog_append(l, span_of_text(text), &err), err);
}

static void check_newest(const struct doclog_vault *v, const char *text)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    doclog_begin(&l, v, "failover");
    check_ok(doclog_newest(&l, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of_text(text)));
}

/* As many entries as make a log that is tidied, by a writer of its own. */
static void go_on(const struct doclog_vault *v, unsigned entries)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    doclog_begin(&l, v, "failover");
    if (!doclog_newest(&l, &out, &err))
        assert_int_equal(err.kind, ERR_NOT_FOUND);
    for (unsigned i = 0; i < entries; i++) {
        char text[32];
        snprintf(text, sizeof text, "entry %llu", (unsigned long long)(l.newest + 1));
        append(&l, text);
        check_ok(doclog_tidy(&l, &err), err);
    }
}

static void what_was_appended_last_is_the_newest(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    doclog_begin(&l, &f->vault, "failover");
    check_fails(doclog_newest(&l, &out, &err), err, ERR_NOT_FOUND);
    assert_int_equal(l.newest, DOCLOG_NONE);
    append(&l, "first");
    check_newest(&f->vault, "first");
    append(&l, "second");
    check_newest(&f->vault, "second");
    assert_int_equal(l.newest, 1);
    check_ok(doclog_read(&l, 0, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of_text("first")));
    assert_true(memory_bucket_has(f->bucket, "web/failover/0000000000000001"));
}

static void a_document_of_the_largest_size_is_taken_and_no_larger_one(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    uint8_t *bytes AUTO_FREE = calloc(1, DOCLOG_DOCUMENT_MAX + 1);
    assert_non_null(bytes);
    memset(bytes, 'x', DOCLOG_DOCUMENT_MAX + 1);
    doclog_begin(&l, &f->vault, "failover");
    check_ok(doclog_append(&l, span_of(bytes, DOCLOG_DOCUMENT_MAX), &err), err);
    check_ok(doclog_newest(&l, &out, &err), err);
    assert_int_equal(out.length, DOCLOG_DOCUMENT_MAX);
    check_fails(doclog_append(&l, span_of(bytes, DOCLOG_DOCUMENT_MAX + 1), &err), err, ERR_FULL);
    specimen_noise(bytes, DOCLOG_BYTES_MAX, 1); /* nothing makes it shorter */
    check_fails(doclog_append(&l, span_of(bytes, DOCLOG_BYTES_MAX), &err), err, ERR_FULL);
    assert_int_equal(l.newest, 0);
}

static void of_two_writers_the_second_is_told_to_read_on(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog a, b;
    doclog_begin(&a, &f->vault, "failover");
    doclog_begin(&b, &f->vault, "failover");
    append(&a, "a0");
    check_fails(doclog_append(&b, span_of_text("b0"), &err), err, ERR_EXISTS);
    check_ok(doclog_newest(&b, &out, &err), err);
    append(&b, "b1");
    check_fails(doclog_append(&a, span_of_text("a1"), &err), err, ERR_EXISTS);
    check_newest(&f->vault, "b1");
}

/* The log as a writer of its own sees it, over a store that a test may hook. It stays where it is.
 */
struct own_log {
    struct store *store;
    struct doclog_vault vault;
    struct doclog log;
};

static void own_log_begin(const struct doc_vault *f, struct own_log *o)
{
    o->store = memory_store_open(f->bucket);
    o->vault = f->vault;
    o->vault.target = o->store;
    doclog_begin(&o->log, &o->vault, "failover");
}

static void own_log_end(struct own_log *o)
{
    store_close(&o->store);
}

#define WRITERS 4
#define ADDED   12

struct adder {
    struct doc_vault *vault;
    size_t own; /* which digit of the document */
};

/* Counts its own digit up, again and again. Whoever hears of a race or of doubt reads on. */
static void *add(void *context)
{
    const struct adder *a = context;
    struct own_log own CLEANUP(own_log_end) = {.store = NULL};
    own_log_begin(a->vault, &own);
    for (;;) {
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        char text[WRITERS + 1] = "aaaa";
        if (doclog_newest(&own.log, &out, &err))
            memcpy(text, out.data, WRITERS);
        else if (err.kind != ERR_NOT_FOUND)
            return "reading";
        if (text[a->own]++ == 'a' + ADDED)
            return NULL;
        if (!doclog_append(&own.log, span_of_text(text), &err) && err.kind != ERR_EXISTS &&
            err.kind != ERR_TRANSIENT)
            return "appending";
        if (!doclog_tidy(&own.log, &err))
            return "tidying";
    }
}

static void writers_that_race_lose_no_change(void **state)
{
    pthread_t threads[WRITERS];
    struct adder adders[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) {
        adders[i] = (struct adder){.vault = *state, .own = i};
        assert_int_equal(pthread_create(&threads[i], NULL, add, &adders[i]), 0);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        if (result != NULL)
            fail_msg("a writer: %s", (const char *)result);
    }
    check_newest(&((struct doc_vault *)*state)->vault, "mmmm");
}

/* Others who go on as soon as an entry has been put, before its writer looks back. */
struct meanwhile {
    const struct doclog_vault *vault;
    unsigned entries;
};

static void go_on_then(void *context, const struct memory_call *call, bool ok)
{
    struct meanwhile *m = context;
    if (!ok || call->op != MEMORY_PUT || strstr(call->key, "tidied") != NULL || m->entries == 0)
        return;
    unsigned entries = m->entries;
    m->entries = 0;
    go_on(m->vault, entries);
}

/* Appends "ours" as entry `n`, and others `entries` behind it before the append returns. */
static bool overtaken_append(struct doc_vault *f, unsigned n, unsigned entries, struct err *err)
{
    struct own_log own CLEANUP(own_log_end) = {.store = NULL};
    struct meanwhile m = {.vault = &f->vault, .entries = entries};
    struct buf out AUTO_BUF = BUF_NONE;
    go_on(&f->vault, n);
    own_log_begin(f, &own);
    if (n > 0)
        check_ok(doclog_newest(&own.log, &out, err), *err);
    memory_store_hook(own.store, NULL, go_on_then, &m);
    bool good = doclog_append(&own.log, span_of_text("ours"), err);
    assert_int_equal(m.entries, 0);
    if (good)
        assert_int_equal(own.log.newest, n);
    return good;
}

static void forget_all(const struct doclog_vault *v)
{
    struct err err = ERR_NONE;
    struct doclog l;
    doclog_begin(&l, v, "failover");
    check_ok(doclog_remove(&l, &err), err);
}

/* Its writer must not hear that it lost a race, and decide and add once more. */
static void an_entry_that_others_went_on_from_counts_however_late_its_writer_looks(void **state)
{
    struct doc_vault *f = *state;
    struct err err = ERR_NONE;
    char last[32];
    for (unsigned first = 0; first < 2; first++)
        for (unsigned entries = 1; entries < 3 * DOCLOG_KEEP; entries++) {
            bool kept = entries <= DOCLOG_KEEP; /* the one behind it is there */
            unsigned n = first == 0 ? 0 : 5;
            if (kept)
                check_ok(overtaken_append(f, n, entries, &err), err);
            else
                check_fails(overtaken_append(f, n, entries, &err), err, ERR_TRANSIENT);
            snprintf(last, sizeof last, "entry %u", n + entries);
            check_newest(&f->vault, last);
            forget_all(&f->vault);
        }
}

/* A put whose answer is lost, and all answers up to the second put of the same; others go on in
 * between, and one of them reads the first. */
struct put_twice {
    const struct doclog_vault *vault;
    struct doclog *reader;
    unsigned puts;
};

static enum memory_fault put_twice(void *context, const struct memory_call *call)
{
    struct put_twice *p = context;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    if (call->op != MEMORY_PUT)
        return p->puts == 1 ? MEMORY_FAIL : MEMORY_PASS;
    if (++p->puts == 1)
        return MEMORY_LOSE_REPLY;
    if (p->puts == 2) {
        check_ok(doclog_newest(p->reader, &out, &err), err);
        go_on(p->vault, 3 * DOCLOG_KEEP);
    }
    return MEMORY_PASS;
}

/* It comes back into a slot that was freed: its writer cannot say whether the first put counted,
 * and nothing that follows on it counts. */
static void an_entry_that_is_put_again_long_after_it_went_is_doubt_and_no_head(void **state)
{
    struct doc_vault *f = *state;
    for (unsigned n = 0; n < 6; n += 5) { /* as entry 0, and as another */
        struct own_log writer CLEANUP(own_log_end) = {.store = NULL};
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        struct doclog reader;
        struct put_twice p = {.vault = &f->vault, .reader = &reader};
        go_on(&f->vault, n);
        own_log_begin(f, &writer);
        doclog_begin(&reader, &f->vault, "failover");
        if (n > 0)
            check_ok(doclog_newest(&writer.log, &out, &err), err);
        memory_store_hook(writer.store, put_twice, NULL, &p);
        check_fails(doclog_append(&writer.log, span_of_text("ours"), &err), err, ERR_TRANSIENT);
        assert_int_equal(p.puts, 2);
        assert_int_equal(reader.newest, n);
        check_fails(doclog_append(&reader, span_of_text("more"), &err), err, ERR_TRANSIENT);
        check_newest(&f->vault, n == 0 ? "entry 24" : "entry 29");
        forget_all(&f->vault);
    }
}

static enum memory_fault deny_after_a_put(void *context, const struct memory_call *call)
{
    bool *put = context;
    *put = *put || call->op == MEMORY_PUT;
    return *put && call->op != MEMORY_PUT ? MEMORY_DENY : MEMORY_PASS;
}

static void what_may_be_there_is_doubt_whatever_the_store_says_then(void **state)
{
    struct doc_vault *f = *state;
    struct own_log own CLEANUP(own_log_end) = {.store = NULL};
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    bool put = false;
    go_on(&f->vault, 5);
    own_log_begin(f, &own);
    check_ok(doclog_newest(&own.log, &out, &err), err);
    memory_store_hook(own.store, deny_after_a_put, NULL, &put);
    check_fails(doclog_append(&own.log, span_of_text("ours"), &err), err, ERR_TRANSIENT);
    check_newest(&f->vault, "ours");
}

/* --- stores that fail --- */

struct faulty {
    enum memory_fault how;
    uint64_t at; /* the call, from 1 */
    bool for_ever;
};

static enum memory_fault fail_there(void *context, const struct memory_call *call)
{
    const struct faulty *f = context;
    bool now = f->for_ever ? call->number >= f->at : call->number == f->at;
    return now ? f->how : MEMORY_PASS;
}

/* Reads and appends over a store that fails at call `at`. *calls: how many it took. */
static bool change_with(struct doc_vault *f, struct faulty *fault, const char *text,
                        uint64_t *calls, struct err *err)
{
    struct own_log own CLEANUP(own_log_end) = {.store = NULL};
    struct buf out AUTO_BUF = BUF_NONE;
    own_log_begin(f, &own);
    memory_store_hook(own.store, fail_there, NULL, fault);
    bool good = (doclog_newest(&own.log, &out, err) || err->kind == ERR_NOT_FOUND) &&
                doclog_append(&own.log, span_of_text(text), err) && doclog_tidy(&own.log, err);
    *calls = memory_store_calls(own.store);
    return good;
}

static void a_failure_at_any_call_leaves_the_old_or_the_new_document(void **state)
{
    struct doc_vault *f = *state;
    const enum memory_fault faults[] = {MEMORY_FAIL, MEMORY_LOSE_REPLY, MEMORY_DENY};
    unsigned round = 0, failures = 0;
    go_on(&f->vault, 12);
    for (size_t k = 0; k < 3; k++)
        for (int for_ever = 0; for_ever < 2; for_ever++)
            for (uint64_t at = 1, calls = CALLS_MAX; at <= calls && at < CALLS_MAX; at++) {
                struct faulty fault = {.how = faults[k], .at = at, .for_ever = for_ever};
                struct buf out AUTO_BUF = BUF_NONE;
                struct err err = ERR_NONE, why = ERR_NONE;
                struct doclog l;
                char text[32];
                uint64_t took;
                doclog_begin(&l, &f->vault, "failover");
                check_ok(doclog_newest(&l, &out, &err), err);
                uint64_t before = l.newest;
                snprintf(text, sizeof text, "round %u", ++round);
                bool good = change_with(f, &fault, text, &took, &why);
                failures += !good;
                calls = good ? took : CALLS_MAX;
                check_ok(doclog_newest(&l, &out, &err), err);
                bool there = span_equal(buf_span(&out), span_of_text(text));
                assert_true(there || !good);
                assert_int_equal(l.newest, there ? before + 1 : before);
            }
    assert_true(failures > 10);
}

static enum memory_fault lose_puts(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_LOSE_REPLY : MEMORY_PASS;
}

static void an_append_whose_answer_was_lost_counts_once(void **state)
{
    struct doc_vault *f = *state;
    struct doclog l;
    memory_store_hook(f->store, lose_puts, NULL, NULL);
    doclog_begin(&l, &f->vault, "failover");
    append(&l, "first");
    append(&l, "second");
    assert_int_equal(l.newest, 1);
    check_newest(&f->vault, "second");
    assert_int_equal(memory_bucket_objects(f->bucket), 2);
}

static enum memory_fault fail_first_put(void *context, const struct memory_call *call)
{
    unsigned *puts = context;
    return call->op == MEMORY_PUT && (*puts)++ == 0 ? MEMORY_FAIL : MEMORY_PASS;
}

static void a_put_that_did_not_arrive_is_made_again(void **state)
{
    struct doc_vault *f = *state;
    unsigned puts = 0;
    struct doclog l;
    memory_store_hook(f->store, fail_first_put, NULL, &puts);
    doclog_begin(&l, &f->vault, "failover");
    append(&l, "first");
    assert_int_equal(puts, 2);
    check_newest(&f->vault, "first");
}

/* --- tidied logs --- */

static void a_tidied_log_keeps_its_newest(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    go_on(&f->vault, 40);
    check_newest(&f->vault, "entry 39");
    assert_int_equal(memory_bucket_objects(f->bucket), DOCLOG_KEEP + 1);
    doclog_begin(&l, &f->vault, "failover");
    check_fails(doclog_read(&l, 0, &out, &err), err, ERR_NOT_FOUND);
}

static void a_list_that_lags_misleads_nobody(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    go_on(&f->vault, 40);
    for (uint64_t lag = 1; lag <= DOCLOG_KEEP - 2; lag++) {
        memory_bucket_lag_lists(f->bucket, lag);
        check_newest(&f->vault, "entry 39");
    }
    memory_bucket_lag_lists(f->bucket, 1000); /* it shows nothing at all */
    doclog_begin(&l, &f->vault, "failover");
    check_fails(doclog_newest(&l, &out, &err), err, ERR_TRANSIENT);
}

static void who_slept_while_the_log_was_tidied_puts_nothing_that_counts(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog empty, early;
    doclog_begin(&empty, &f->vault, "failover");
    doclog_begin(&early, &f->vault, "failover");
    check_fails(doclog_newest(&empty, &out, &err), err, ERR_NOT_FOUND);
    append(&early, "entry 0");
    go_on(&f->vault, 40);
    check_fails(doclog_append(&empty, span_of_text("stray"), &err), err, ERR_TRANSIENT);
    check_fails(doclog_append(&early, span_of_text("stray"), &err), err, ERR_TRANSIENT);
    assert_true(memory_bucket_has(f->bucket, "web/failover/0000000000000000")); /* it is there */
    check_newest(&f->vault, "entry 40");
    memory_bucket_lag_lists(f->bucket, 1000);
    check_fails(doclog_newest(&empty, &out, &err), err, ERR_TRANSIENT); /* and not believed */
}

static void a_poll_costs_two_reads_and_says_what_is_new(void **state)
{
    struct doc_vault *f = *state;
    struct own_log own CLEANUP(own_log_end) = {.store = NULL};
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    bool changed = false;
    go_on(&f->vault, 3);
    own_log_begin(f, &own);
    check_ok(doclog_poll(&own.log, &out, &changed, &err), err);
    assert_true(changed);
    uint64_t calls = memory_store_calls(own.store);
    check_ok(doclog_poll(&own.log, &out, &changed, &err), err);
    assert_false(changed);
    assert_true(memory_store_calls(own.store) - calls <= 3);
    go_on(&f->vault, 40); /* past what it knew */
    check_ok(doclog_poll(&own.log, &out, &changed, &err), err);
    assert_true(changed);
    assert_true(span_equal(buf_span(&out), span_of_text("entry 42")));
}

static void encode(struct doc_vault *f, const char *name, uint64_t number, struct buf *out);

static void a_log_that_became_shorter_is_refused(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    go_on(&f->vault, 3);
    doclog_begin(&l, &f->vault, "failover");
    check_ok(doclog_newest(&l, &out, &err), err);
    memory_bucket_drop(f->bucket, "web/failover/0000000000000002");
    check_fails(doclog_newest(&l, &out, &err), err, ERR_CORRUPT);
    check_says(err, "shorter");
}

static void entries_that_do_not_follow_each_other_are_refused(void **state)
{
    struct doc_vault *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE, out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    go_on(&f->vault, 3);
    encode(f, "failover", 1, &stored); /* of another life of this log */
    memory_bucket_set(f->bucket, "web/failover/0000000000000001", buf_span(&stored));
    doclog_begin(&l, &f->vault, "failover");
    check_fails(doclog_newest(&l, &out, &err), err, ERR_CORRUPT);
}

static void a_removed_log_is_gone(void **state)
{
    struct doc_vault *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    go_on(&f->vault, 20);
    doclog_begin(&l, &f->vault, "failover");
    check_ok(doclog_newest(&l, &out, &err), err);
    check_ok(doclog_remove(&l, &err), err);
    assert_int_equal(memory_bucket_objects(f->bucket), 0);
}

static enum memory_fault fail_from(void *context, const struct memory_call *call)
{
    return call->number >= *(const uint64_t *)context ? MEMORY_FAIL : MEMORY_PASS;
}

/* Whatever a list shows: slot 0 is empty and was used. */
static void a_log_whose_tidying_was_cut_off_never_looks_empty(void **state)
{
    struct doc_vault *f = *state;
    bool tidied = false;
    for (uint64_t at = 1; !tidied; at++) {
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        struct doclog l, fresh;
        doclog_begin(&l, &f->vault, "failover");
        for (unsigned i = 0; i < DOCLOG_KEEP + 3; i++)
            append(&l, "some");
        uint64_t stop = memory_store_calls(f->store) + at;
        memory_store_hook(f->store, fail_from, NULL, &stop);
        tidied = doclog_tidy(&l, &err);
        memory_store_hook(f->store, NULL, NULL, NULL);
        memory_bucket_lag_lists(f->bucket, 1000);
        doclog_begin(&fresh, &f->vault, "failover");
        err = ERR_NONE;
        if (!doclog_newest(&fresh, &out, &err))
            assert_int_equal(err.kind, ERR_TRANSIENT);
        memory_bucket_lag_lists(f->bucket, 0);
        check_ok(doclog_remove(&l, &err), err);
    }
}

static void a_removal_that_was_cut_off_anywhere_is_begun_again(void **state)
{
    struct doc_vault *f = *state;
    bool removed = false;
    for (uint64_t at = 1; !removed; at++) {
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        struct doclog l;
        go_on(&f->vault, 20);
        doclog_begin(&l, &f->vault, "failover");
        check_ok(doclog_newest(&l, &out, &err), err);
        uint64_t stop = memory_store_calls(f->store) + at;
        memory_store_hook(f->store, fail_from, NULL, &stop);
        removed = doclog_remove(&l, &err);
        memory_store_hook(f->store, NULL, NULL, NULL);
        bool there = memory_bucket_objects(f->bucket) > 0, removing = false;
        doclog_begin(&l, &f->vault, "failover");
        check_ok(doclog_removing(&l, &removing, &err), err);
        if (there && !removing) /* it had not begun */
            check_ok(doclog_newest(&l, &out, &err), err);
        check_ok(doclog_remove(&l, &err), err);
        assert_int_equal(memory_bucket_objects(f->bucket), 0);
    }
}

/* --- bytes from a hostile store --- */

static void encode(struct doc_vault *f, const char *name, uint64_t number, struct buf *out)
{
    struct err err = ERR_NONE;
    struct seal_salt salt = specimen_salt(0x70);
    struct sha256 previous = sha256_of(span_of_text("before"));
    buf_clear(out);
    check_ok(doclog_encode(&f->vault, name, number, &previous, 1795377903000,
                           span_of_text("{\"version\":1}"), &salt, out, &err),
             err);
}

static bool decode(struct doc_vault *f, const char *name, uint64_t number, struct span stored,
                   struct err *err)
{
    struct buf document AUTO_BUF = BUF_NONE;
    struct sha256 previous;
    return doclog_decode(&f->vault, name, number, stored, &previous, &document, err);
}

static void no_entry_stands_for_another(void **state)
{
    struct doc_vault *f = *state;
    static const uint8_t other[VM_ID_BYTES] = {1};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    encode(f, "failover", 7, &stored);
    check_ok(decode(f, "failover", 7, buf_span(&stored), &err), err);
    check_fails(decode(f, "failover", 8, buf_span(&stored), &err), err, ERR_CORRUPT);
    check_fails(decode(f, "jobs/1", 7, buf_span(&stored), &err), err, ERR_CORRUPT);
    f->vault.id = other;
    check_fails(decode(f, "failover", 7, buf_span(&stored), &err), err, ERR_CORRUPT);
    f->vault.id = specimen_vm;
    f->vault.vm = "db";
    check_fails(decode(f, "failover", 7, buf_span(&stored), &err), err, ERR_CORRUPT);
}

static bool refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    return !decode(context, "failover", 7, damaged, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_entry_is_refused_at_every_position(void **state)
{
    struct doc_vault *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE;
    encode(f, "failover", 7, &stored);
    specimen_damage(buf_span(&stored), refused, f);
}

static void the_golden_document_is_read_as_it_was(void **state)
{
    struct doc_vault *f = *state;
    struct buf stored AUTO_BUF = BUF_NONE, golden AUTO_BUF = BUF_NONE;
    struct buf document AUTO_BUF = BUF_NONE;
    struct sha256 previous, expected = sha256_of(span_of_text("before"));
    struct err err = ERR_NONE;
    encode(f, "failover", 7, &stored);
    specimen_kept(TEST_SOURCE_DIR, "document", buf_span(&stored),
                  "20bcf09a4a87a577f550b0a48f1751479f9bf5cab12d9630fb432524a6705827", &golden);
    check_ok(doclog_decode(&f->vault, "failover", 7, buf_span(&golden), &previous, &document, &err),
             err);
    assert_memory_equal(&previous, &expected, sizeof previous);
    assert_true(span_equal(buf_span(&document), span_of_text("{\"version\":1}")));
}

#define T(test) cmocka_unit_test_setup_teardown(test, doc_vault_set_up, doc_vault_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_was_appended_last_is_the_newest),
        T(a_document_of_the_largest_size_is_taken_and_no_larger_one),
        T(of_two_writers_the_second_is_told_to_read_on),
        T(writers_that_race_lose_no_change),
        T(an_entry_that_others_went_on_from_counts_however_late_its_writer_looks),
        T(an_entry_that_is_put_again_long_after_it_went_is_doubt_and_no_head),
        T(what_may_be_there_is_doubt_whatever_the_store_says_then),
        T(a_failure_at_any_call_leaves_the_old_or_the_new_document),
        T(an_append_whose_answer_was_lost_counts_once),
        T(a_put_that_did_not_arrive_is_made_again),
        T(a_tidied_log_keeps_its_newest),
        T(a_list_that_lags_misleads_nobody),
        T(who_slept_while_the_log_was_tidied_puts_nothing_that_counts),
        T(a_poll_costs_two_reads_and_says_what_is_new),
        T(a_log_that_became_shorter_is_refused),
        T(entries_that_do_not_follow_each_other_are_refused),
        T(a_removed_log_is_gone),
        T(a_log_whose_tidying_was_cut_off_never_looks_empty),
        T(a_removal_that_was_cut_off_anywhere_is_begun_again),
        T(no_entry_stands_for_another),
        T(a_cut_or_flipped_entry_is_refused_at_every_position),
        T(the_golden_document_is_read_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
