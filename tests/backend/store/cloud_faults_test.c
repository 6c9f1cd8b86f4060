/* SPDX-License-Identifier: MIT
 * What azure.c and s3.c, and the wrapper that tries again, make of a store that fails: lost
 * replies, storms, lists cut and lagging, create-if-absent ignored, clocks. In both dialects. */
#include "backend/store/attach.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/backend/store/contract.h"
#include "tests/support/check.h"
#include "tests/support/cloud_fixture.h"

#define WRITERS  4u
#define SLOTS    30u
#define HOUR_NS  3600000000000
#define AFTER_MS 2000u /* what a refusal asks for */

/* --- 7: replies that are lost --- */

struct writer {
    struct cloud_fixture *fixture;
    struct store *store;
    pthread_t thread;
    unsigned number;
    enum err_kind kinds[SLOTS];
};

static void slot_key(unsigned slot, char out[16])
{
    snprintf(out, 16, "slots/%02u", slot);
}

static void writers_body(unsigned number, unsigned slot, uint8_t out[CLOUD_BODY_BYTES])
{
    memset(out, 'a' + (int)number, CLOUD_BODY_BYTES);
    out[0] = (uint8_t)slot;
}

static void *write_slots(void *context)
{
    struct writer *w = context;
    uint8_t body[CLOUD_BODY_BYTES];
    char key[16];
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        struct err err = ERR_NONE;
        writers_body(w->number, slot, body);
        slot_key(slot, key);
        (void)!store_put(w->store, key, span_of(body, sizeof body), &err); /* `err` says it */
        w->kinds[slot] = err.kind;
    }
    return NULL;
}

static void check_slot(struct cloud_fixture *f, const struct writer *writers, unsigned slot)
{
    uint8_t body[CLOUD_BODY_BYTES];
    unsigned winner = WRITERS;
    char key[16];
    for (unsigned i = 0; i < WRITERS; i++) {
        enum err_kind kind = writers[i].kinds[slot];
        if (kind == ERR_OK) {
            assert_int_equal(winner, WRITERS);
            winner = i;
        } else {
            assert_int_equal(kind, ERR_EXISTS);
        }
    }
    assert_true(winner < WRITERS);
    slot_key(slot, key);
    writers_body(winner, slot, body);
    cloud_fixture_check(f, key, span_of(body, sizeof body));
}

static void of_racing_puts_one_is_true_although_replies_are_lost(void **state)
{
    struct cloud_fixture *f = *state;
    struct writer writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++)
        writers[i] = (struct writer){
            .fixture = f, .number = i, .store = cloud_rig_open_retry(&f->rig, &cloud_tireless)};
    cloud_rig_often(&f->rig, HTTP_LOSE_REPLY, NULL, 300);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_slots, &writers[i]), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        store_close(&writers[i].store);
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        check_slot(f, writers, slot);
    assert_int_equal(http_store_objects(f->rig.server), SLOTS);
    assert_true(http_store_faulted(f->rig.server, HTTP_LOSE_REPLY) > SLOTS / 2);
}

static void a_lone_writer_is_never_told_that_its_own_name_is_taken(void **state)
{
    struct cloud_fixture *f = *state;
    struct writer w = {.fixture = f, .store = cloud_rig_open_retry(&f->rig, &cloud_tireless)};
    cloud_rig_often(&f->rig, HTTP_LOSE_REPLY, "PUT", 300);
    write_slots(&w);
    store_close(&w.store);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        assert_int_equal(w.kinds[slot], ERR_OK);
    assert_true(http_store_faulted(f->rig.server, HTTP_LOSE_REPLY) > 0);
}

static void a_put_without_an_answer_is_in_doubt(void **state)
{
    struct cloud_fixture *f = *state;
    struct err err;
    cloud_fixture_put(f, "first"); /* the connection has served */
    cloud_rig_next(&f->rig, HTTP_LOSE_REPLY, "PUT", NULL, 1);
    check_fails(store_put(f->store, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
}

/* Else who put it would take it for another's when it shows, and be fenced. */
static void a_put_whose_answer_has_no_end_is_in_doubt(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    enum http_fault faults[] = {HTTP_ENDLESS_HEADERS, HTTP_ENDLESS_BODY};
    struct err err;
    for (size_t i = 0; i < 2; i++) {
        const char *key = i == 0 ? "headers" : "body", *again = i == 0 ? "headers2" : "body2";
        cloud_rig_next(&f->rig, faults[i], "PUT", NULL, 1);
        check_fails(store_put(f->store, key, cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
        cloud_fixture_check(f, key, cloud_fixture_body(f));
        cloud_rig_next(&f->rig, faults[i], "PUT", NULL, 1);
        check_ok(store_put(s, again, cloud_fixture_body(f), &err), err);
        assert_int_equal(http_store_faulted(f->rig.server, faults[i]), 2);
    }
}

/* A portal that wants a login, a gateway that shows its maintenance page. */
static void an_answer_200_that_is_not_the_stores_is_no_put(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct http_rule rule = {.method = "PUT", .next = 1, .status = 200};
    struct err err;
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_fails(store_put(f->store, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    check_says(err, "proxy");
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_ok(store_put(s, "k", cloud_fixture_body(f), &err), err);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
}

/* A log's writer would take the page for another writer's entry. */
static void an_answer_200_that_is_not_the_stores_is_no_object(void **state)
{
    struct cloud_fixture *f = *state;
    struct http_rule rule = {.per_mille = 1000, .status = 200};
    struct buf out AUTO_BUF = BUF_NONE;
    uint8_t page[CLOUD_BODY_BYTES];
    uint64_t bytes;
    struct err err;
    cloud_fixture_put(f, "k");
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_fails(store_load(f->store, "k", 1000, &out, &err), err, ERR_TRANSIENT);
    check_fails(store_size(f->store, "k", &bytes, &err), err, ERR_TRANSIENT);
    rule.text = "a page that is as long as what was put there: it is of 64 bytes.";
    assert_int_equal(strlen(rule.text), sizeof page);
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_fails(store_get(f->store, "k", 0, mspan_of(page, sizeof page), &err), err, ERR_TRANSIENT);
}

static void refuse(struct cloud_fixture *f, const char *method, unsigned status)
{
    struct http_rule rule = {.method = method, .per_mille = 1000, .status = status};
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
}

/* Rights that were taken away, a token that expired: it has happened all the same. */
static void a_put_without_an_answer_stays_in_doubt_where_reading_is_denied(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct err err;
    cloud_rig_next(&f->rig, HTTP_LOSE_REPLY, "PUT", NULL, 1);
    refuse(f, "GET", 403);
    check_fails(store_put(s, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
}

static bool deny_from_now_on(void *context, uint32_t ms)
{
    (void)ms;
    refuse(context, "PUT", 403);
    return true;
}

/* The first may still arrive. */
static void a_put_in_doubt_stays_so_when_the_next_try_is_denied(void **state)
{
    struct cloud_fixture *f = *state;
    struct retry_policy policy = cloud_tireless;
    struct err err;
    policy.pause = deny_from_now_on;
    policy.context = f;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &policy);
    cloud_rig_next(&f->rig, HTTP_CUT_UP, "PUT", NULL, 1);
    check_fails(store_put(s, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    check_says(err, "403");
}

/* However many requests it is made of. */
static void a_large_put_survives_the_loss_of_replies(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    size_t length = (16u << 20) + 12345;
    uint8_t *body AUTO_FREE = calloc(1, length);
    struct err err = ERR_NONE;
    char key[16];
    assert_non_null(body);
    for (unsigned lost = 1; lost <= 5; lost++) {
        snprintf(key, sizeof key, "large/%u", lost);
        body[lost * 1000] = 1;
        cloud_rig_next(&f->rig, HTTP_LOSE_REPLY, "PUT", NULL, lost);
        check_ok(store_put(s, key, span_of(body, length), &err), err);
        cloud_fixture_check(f, key, span_of(body, length));
    }
    assert_true(http_store_faulted(f->rig.server, HTTP_LOSE_REPLY) >= 5);
}

/* --- 8: storms --- */

struct pauses {
    pthread_mutex_t lock;
    unsigned count;
    uint32_t least_ms;
};

static bool count_pause(void *context, uint32_t ms)
{
    struct pauses *p = context;
    LOCK_SCOPE(&p->lock);
    p->count++;
    if (ms < p->least_ms)
        p->least_ms = ms;
    return true;
}

static void storm(struct cloud_fixture *f, unsigned status, uint32_t per_mille)
{
    struct http_rule rule = {.per_mille = per_mille, .status = status, .retry_after = "2"};
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
}

/* As a shipper does: what failed is put again later. */
static void all_is_put_in_the_end(struct cloud_fixture *f, unsigned status)
{
    struct pauses pauses = {.lock = PTHREAD_MUTEX_INITIALIZER, .least_ms = UINT32_MAX};
    struct retry_policy policy = RETRY_POLICY_DEFAULT;
    char key[32];
    policy.pause = count_pause;
    policy.context = &pauses;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &policy);
    storm(f, status, 500);
    for (unsigned i = 0; i < 2 * SLOTS; i++) {
        struct err err = ERR_NONE;
        snprintf(key, sizeof key, "storm/%u/%u", status, i);
        while (!store_put(s, key, cloud_fixture_body(f), &err))
            assert_int_equal(err.kind, ERR_TRANSIENT);
        cloud_fixture_check(f, key, cloud_fixture_body(f));
    }
    assert_true(pauses.count > 0);
    assert_true(pauses.least_ms >= AFTER_MS);
    http_store_fault(f->rig.server, HTTP_REFUSE, NULL);
}

static void all_is_put_in_the_end_of_a_storm_with_the_pauses_that_were_asked_for(void **state)
{
    all_is_put_in_the_end(*state, 503);
    all_is_put_in_the_end(*state, 429);
    all_is_put_in_the_end(*state, 500);
}

static void a_store_that_refuses_all_is_asked_no_more_than_the_budget_allows(void **state)
{
    struct cloud_fixture *f = *state;
    struct retry_policy policy = cloud_tireless;
    policy.budget = 10;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &policy);
    storm(f, 503, 1000);
    uint64_t before = http_store_requests(f->rig.server, NULL);
    for (unsigned i = 0; i < 50; i++) {
        struct err err;
        check_fails(store_put(s, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    }
    assert_in_range(http_store_requests(f->rig.server, NULL) - before, 50, 60);
}

static void a_conflict_is_looked_into_and_tried_again(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct http_rule rule = {.method = "PUT", .next = 1, .status = 409};
    struct err err = ERR_NONE;
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_ok(store_put(s, "k", cloud_fixture_body(f), &err), err);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
}

/* Whoever answers so may not be the store at all. */
static void an_answer_404_that_names_nothing_is_not_believed(void **state)
{
    struct cloud_fixture *f = *state;
    struct http_rule rule = {.method = "GET", .next = 1, .status = 404};
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err;
    cloud_fixture_put(f, "k");
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    check_fails(store_load(f->store, "k", CLOUD_BODY_BYTES, &out, &err), err, ERR_TRANSIENT);
}

struct stopped {
    struct store *store;
    struct cloud_fixture *fixture;
    pthread_t thread;
    struct err err;
};

static void *put_for_ever(void *context)
{
    struct stopped *s = context;
    (void)!store_put(s->store, "k", cloud_fixture_body(s->fixture), &s->err); /* `err` says it */
    return NULL;
}

static void cancel_ends_the_wait_for_another_try(void **state)
{
    struct cloud_fixture *f = *state;
    struct retry_policy policy = {.pause_ms = UINT32_MAX / 2,
                                  .pause_max_ms = UINT32_MAX / 2,
                                  .deadline_ms = UINT32_MAX,
                                  .budget = 10};
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &policy);
    struct stopped stopped = {.store = s, .fixture = f};
    storm(f, 503, 1000);
    assert_int_equal(pthread_create(&stopped.thread, NULL, put_for_ever, &stopped), 0);
    while (http_store_faulted(f->rig.server, HTTP_REFUSE) == 0)
        sched_yield();
    store_cancel(s, true);
    assert_int_equal(pthread_join(stopped.thread, NULL), 0);
    assert_int_equal(stopped.err.kind, ERR_CANCELLED);
}

/* --- 12: lists --- */

static bool count_key(void *context, const char *key, uint64_t bytes)
{
    unsigned *count = context;
    char wanted[16];
    (void)bytes;
    slot_key((*count)++, wanted);
    assert_string_equal(key, wanted);
    return true;
}

static void put_slots(struct cloud_fixture *f)
{
    char key[16];
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        slot_key(slot, key);
        cloud_fixture_put(f, key);
    }
}

/* Of several pages; what was shown is not shown again. */
static void a_list_cut_in_the_middle_goes_on_where_it_was(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct err err = ERR_NONE;
    unsigned count = 0;
    put_slots(f);
    cloud_rig_often(&f->rig, HTTP_CUT_DOWN, "GET", 500);
    check_ok(store_list(s, "slots/", NULL, count_key, &count, &err), err);
    assert_int_equal(count, SLOTS);
    assert_true(http_store_faulted(f->rig.server, HTTP_CUT_DOWN) > 0);
}

/* --- 11: create-if-absent ignored --- */

static void a_store_that_ignores_create_if_absent_is_refused_by_its_name(void **state)
{
    struct cloud_fixture *f = *state;
    http_store_ignore_conditions(f->rig.server, true);
    for (enum store_role role = 0; role < STORE_ROLES; role++) {
        struct store *s AUTO_STORE = NULL;
        struct err err;
        struct attach_config config = {
            .host = f->rig.host, .url = f->rig.url, .check = true, .role = role, .prefix = "vm/"};
        check_fails(store_attach(&config, &s, &err), err, ERR_INVALID);
        check_says(err, "create-if-absent is ignored");
        check_says(err, f->rig.url);
    }
}

static void a_list_that_lags_shows_less_and_nothing_rests_on_it(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    struct attach_config config = {.host = f->rig.host,
                                   .url = f->rig.url,
                                   .check = true,
                                   .role = STORE_ROLE_PROCESSOR,
                                   .prefix = "vm/"};
    unsigned count = 0;
    char key[16];
    http_store_lag_lists(f->rig.server, 12);
    check_ok(store_attach(&config, &s, &err), err);
    put_slots(f);
    check_ok(store_list(s, "slots/", NULL, count_key, &count, &err), err);
    assert_int_equal(count, SLOTS - 12);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        uint64_t bytes = 0;
        slot_key(slot, key);
        check_ok(store_size(s, key, &bytes, &err), err);
        assert_int_equal(bytes, CLOUD_BODY_BYTES);
    }
}

/* --- 16: clocks --- */

/* The first request with a wrong date is refused, and teaches the right one. */
static void check_signed_right(struct cloud_fixture *f, const char *key)
{
    struct err err = ERR_NONE;
    uint64_t before = http_store_requests(f->rig.server, NULL);
    check_ok(store_put(f->store, key, cloud_fixture_body(f), &err), err);
    assert_int_equal(http_store_requests(f->rig.server, NULL), before + 2);
    char second[32];
    snprintf(second, sizeof second, "%s-2", key);
    check_ok(store_put(f->store, second, cloud_fixture_body(f), &err), err);
    assert_int_equal(http_store_requests(f->rig.server, NULL), before + 3);
}

static void requests_are_signed_with_the_stores_time(void **state)
{
    struct cloud_fixture *f = *state;
    http_store_skew_date(f->rig.server, 20 * 60);
    check_signed_right(f, "ahead");
    http_store_skew_date(f->rig.server, -20 * 60);
    check_signed_right(f, "behind");
}

static void a_clock_that_is_set_does_not_spoil_signatures(void **state)
{
    struct cloud_fixture *f = *state;
    cloud_fixture_put(f, "before");
    atomic_store(&f->rig.world.jumped_ns, -HOUR_NS);
    check_signed_right(f, "back");
    atomic_store(&f->rig.world.jumped_ns, 10 * 365 * 24 * HOUR_NS);
    check_signed_right(f, "forward");
}

/* Its refusal has no body that could say why. */
static void a_wrong_date_is_learned_from_an_answer_to_head_too(void **state)
{
    struct cloud_fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t bytes = 0;
    cloud_fixture_put(f, "k");
    http_store_skew_date(f->rig.server, 20 * 60);
    check_ok(store_size(f->store, "k", &bytes, &err), err);
    assert_int_equal(bytes, CLOUD_BODY_BYTES);
}

/* --- digests that callers have --- */

/* Through all wrappers: S3's service refuses a body with another one, and nothing else takes it. */
static void a_digest_that_is_told_is_what_is_sent(void **state)
{
    struct cloud_fixture *f = *state;
    struct bandwidth *bandwidth AUTO_BANDWIDTH = NULL;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    struct sha256 digest = sha256_of(cloud_fixture_body(f)), wrong = digest;
    check_ok(bandwidth_make(&f->rig.world.head, "1G", NULL, NULL, &bandwidth, &err), err);
    struct attach_config config = {.host = f->rig.host,
                                   .url = f->rig.url,
                                   .create = true,
                                   .lazily = true,
                                   .deadline_ms = 1,
                                   .bandwidth = bandwidth};
    check_ok(store_attach(&config, &s, &err), err);
    check_ok(store_put_digested(s, "right", cloud_fixture_body(f), &digest, &err), err);
    cloud_fixture_check(f, "right", cloud_fixture_body(f));
    wrong.bytes[7] ^= 1;
    if (f->rig.dialect == HTTP_S3)
        check_fails(store_put_digested(s, "wrong", cloud_fixture_body(f), &wrong, &err), err,
                    ERR_TRANSIENT);
    else /* it has an MD5 of its own */
        check_ok(store_put_digested(s, "wrong", cloud_fixture_body(f), &wrong, &err), err);
}

/* --- 24: what must not be told --- */

/* It ends up on a terminal. */
static void what_a_store_says_is_shown_in_printable_characters(void **state)
{
    struct cloud_fixture *f = *state;
    struct http_rule rule = {.method = "PUT",
                             .next = 1,
                             .status = 301,
                             .text = "<Error><Code>\xc2\x9b"
                                     "31mRed</Code>"
                                     "<Region>\xc2\x9b"
                                     "2J</Region></Error>"};
    struct err err = ERR_NONE;
    http_store_fault(f->rig.server, HTTP_REFUSE, &rule);
    assert_false(store_put(f->store, "k", cloud_fixture_body(f), &err));
    check_says(err, "31mRed");
    for (const char *p = err.text; *p != '\0'; p++)
        assert_in_range(*p, ' ', '~');
}

static void a_redirected_put_tells_nothing_to_anyone_else(void **state)
{
    struct cloud_fixture *f = *state;
    struct http_store *other =
        http_store_start(&(struct http_store_config){.dialect = f->rig.dialect, .record = true});
    struct http_rule rule = {.per_mille = 1000, .status = 307, .port = http_store_port(other)};
    struct err err;
    http_store_fault(f->rig.server, HTTP_REDIRECT, &rule);
    check_fails(store_put(f->store, "k", cloud_fixture_body(f), &err), err, ERR_INVALID);
    assert_null(strstr(err.text, CLOUD_RIG_SECRET));
    assert_int_equal(http_store_connections(other), 0);
    http_store_stop(&other);
}

static void neither_requests_nor_errors_hold_the_secret(void **state)
{
    struct cloud_fixture *f = *state;
    for (enum http_fault fault = 0; fault < HTTP_STALL; fault++) {
        struct err err = ERR_NONE;
        cloud_rig_often(&f->rig, fault, NULL, 1000);
        (void)!store_put(f->store, "k", cloud_fixture_body(f),
                         &err); /* what it says is looked at */
        http_store_fault(f->rig.server, fault, NULL);
        assert_null(strstr(err.text, CLOUD_RIG_SECRET));
    }
    assert_false(http_store_was_told(f->rig.server, CLOUD_RIG_SECRET));
    assert_true(http_store_was_told(f->rig.server, "authorization: "));
}

static struct store *open_one(void *context)
{
    return cloud_rig_open(context);
}

static int run(enum http_dialect dialect, const char *name)
{
#define EACH(test)                                                                                 \
    cmocka_unit_test_prestate_setup_teardown(test, cloud_fixture_set_up, cloud_fixture_tear_down,  \
                                             &dialect)
    const struct CMUnitTest tests[] = {
        EACH(of_racing_puts_one_is_true_although_replies_are_lost),
        EACH(a_lone_writer_is_never_told_that_its_own_name_is_taken),
        EACH(a_put_without_an_answer_is_in_doubt),
        EACH(a_put_whose_answer_has_no_end_is_in_doubt),
        EACH(an_answer_200_that_is_not_the_stores_is_no_put),
        EACH(an_answer_200_that_is_not_the_stores_is_no_object),
        EACH(a_put_without_an_answer_stays_in_doubt_where_reading_is_denied),
        EACH(a_put_in_doubt_stays_so_when_the_next_try_is_denied),
        EACH(a_large_put_survives_the_loss_of_replies),
        EACH(all_is_put_in_the_end_of_a_storm_with_the_pauses_that_were_asked_for),
        EACH(a_store_that_refuses_all_is_asked_no_more_than_the_budget_allows),
        EACH(a_conflict_is_looked_into_and_tried_again),
        EACH(an_answer_404_that_names_nothing_is_not_believed),
        EACH(cancel_ends_the_wait_for_another_try),
        EACH(a_list_cut_in_the_middle_goes_on_where_it_was),
        EACH(a_store_that_ignores_create_if_absent_is_refused_by_its_name),
        EACH(a_list_that_lags_shows_less_and_nothing_rests_on_it),
        EACH(requests_are_signed_with_the_stores_time),
        EACH(a_clock_that_is_set_does_not_spoil_signatures),
        EACH(a_wrong_date_is_learned_from_an_answer_to_head_too),
        EACH(what_a_store_says_is_shown_in_printable_characters),
        EACH(a_digest_that_is_told_is_what_is_sent),
        EACH(a_redirected_put_tells_nothing_to_anyone_else),
        EACH(neither_requests_nor_errors_hold_the_secret),
    };
#undef EACH
    struct cloud_rig rig;
    cloud_rig_init(&rig, dialect, 3);
    struct contract c = {
        .open = open_one,
        .open_source = open_one,
        .context = &rig,
        .racers = 8,
        .large_bytes = (16u << 20) + 1,
    };
    int failures = contract_run(name, &c);
    cloud_rig_release(&rig);
    return failures + cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run(HTTP_S3, "S3") + run(HTTP_AZURE, "Azure");
}
