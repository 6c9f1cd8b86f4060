/* SPDX-License-Identifier: MIT
 * S3 objects in parts and as copies, against a small S3 that keeps and breaks what these rely on.
 */
#include "backend/store/s3_objects.h"

#include <stdio.h>

#include "backend/store/attach.h"
#include "tests/support/check.h"
#include "tests/support/fake_s3.h"

#define LARGE_BYTES (20u << 20)

static char *fake_env(const char *name)
{
    if (strcmp(name, "AWS_ACCESS_KEY_ID") == 0)
        return "AKFAKE";
    return strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0 ? "secret" : NULL;
}

static struct store *open_bucket(struct fake_s3 *s, const char *bucket, bool tries_again)
{
    char url[200];
    struct store *out = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {.world = world_real(), .env = fake_env};
    snprintf(url, sizeof url, "s3://%s/pre?endpoint=http://127.0.0.1:%u", bucket, s->port);
    struct attach_config config = {.host = host, .url = url};
    check_ok(tries_again ? store_attach(&config, &out, &err)
                         : store_open(&host, url, false, &out, &err),
             err);
    return out;
}

static uint8_t *large_body(void)
{
    uint8_t *bytes = malloc(LARGE_BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    return bytes;
}

static unsigned open_uploads(struct fake_s3 *s)
{
    unsigned count = 0;
    LOCK_SCOPE(&s->lock);
    for (size_t i = 0; i < s->upload_count; i++)
        count += s->uploads[i].open;
    return count;
}

static void check_object(struct fake_s3 *s, const char *key, struct span body)
{
    LOCK_SCOPE(&s->lock);
    struct fake_object *o = fake_s3_find_locked(s, key);
    assert_non_null(o);
    assert_true(span_equal(buf_span(&o->body), body));
}

static unsigned count(struct fake_s3 *s, const unsigned *counter)
{
    LOCK_SCOPE(&s->lock);
    return *counter;
}

#define TELL(fake, what)                                                                           \
    do {                                                                                           \
        LOCK_SCOPE(&(fake)->lock);                                                                 \
        (fake)->what;                                                                              \
    } while (0)

#define BEGIN(tries_again)                                                                         \
    struct fake_s3 *fake CLEANUP(fake_s3_stop) = fake_s3_start();                                  \
    struct store *s AUTO_STORE = open_bucket(fake, "bucket", tries_again);                         \
    uint8_t *bytes AUTO_FREE = large_body();                                                       \
    struct span body = span_of(bytes, LARGE_BYTES);                                                \
    struct err err = ERR_NONE;                                                                     \
    (void)state, (void)body, (void)err

static void a_large_body_goes_in_parts_where_complete_keeps_the_contract(void **state)
{
    BEGIN(false);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_ok(store_put(s, "vm/k2", body, &err), err);
    check_object(fake, "/bucket/pre/vm/k1", body);
    check_object(fake, "/bucket/pre/vm/k2", body);
    assert_int_equal(count(fake, &fake->whole_puts), 1); /* the proof's object */
    assert_int_equal(count(fake, &fake->completes), 3);  /* it is proved once */
    assert_int_equal(open_uploads(fake), 0);
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_EXISTS);
    assert_int_equal(open_uploads(fake), 0);
}

static void where_complete_replaces_a_large_body_goes_in_one_put(void **state)
{
    BEGIN(false);
    TELL(fake, complete = COMPLETE_REPLACES);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_object(fake, "/bucket/pre/vm/k1", body);
    assert_int_equal(count(fake, &fake->completes), 1);
    assert_int_equal(count(fake, &fake->whole_puts), 2);
    check_fails(store_put(s, "vm/k1", span_of(bytes, LARGE_BYTES - 1), &err), err, ERR_EXISTS);
    check_object(fake, "/bucket/pre/vm/k1", body);
    assert_int_equal(count(fake, &fake->completes), 1);
}

static void where_uploads_are_not_allowed_a_large_body_goes_in_one_put(void **state)
{
    BEGIN(false);
    TELL(fake, no_uploads = true);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_object(fake, "/bucket/pre/vm/k1", body);
}

/* One that conflicts says nothing of the condition: the next large body asks again. */
static void a_proof_that_came_to_nothing_is_tried_again(void **state)
{
    BEGIN(false);
    TELL(fake, complete = COMPLETE_CONFLICTS);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    assert_int_equal(count(fake, &fake->whole_puts), 2);
    TELL(fake, complete = COMPLETE_KEEPS);
    check_ok(store_put(s, "vm/k2", body, &err), err);
    assert_int_equal(count(fake, &fake->completes), 3);
    check_object(fake, "/bucket/pre/vm/k2", body);
}

static void a_part_that_fails_aborts_the_upload(void **state)
{
    BEGIN(false);
    TELL(fake, fail_part = 2);
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_TRANSIENT);
    assert_int_equal(open_uploads(fake), 0);
    assert_int_equal(count(fake, &fake->aborts), 2); /* of the proof, and of this */
}

static void an_error_in_an_answer_200_is_an_error(void **state)
{
    BEGIN(false);
    TELL(fake, complete = COMPLETE_SAYS_200);
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_TRANSIENT);
    check_says(err, "InternalError");
    assert_int_equal(open_uploads(fake), 0);
}

static void a_complete_whose_reply_was_lost_is_read_back(void **state)
{
    BEGIN(true);
    TELL(fake, complete = COMPLETE_LOSES_REPLY);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_object(fake, "/bucket/pre/vm/k1", body);
    check_fails(store_put(s, "vm/k1", span_of(bytes, LARGE_BYTES - 1), &err), err, ERR_EXISTS);
}

static void an_upload_that_was_forgotten_is_in_doubt(void **state)
{
    BEGIN(false);
    TELL(fake, complete = COMPLETE_FORGETS);
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_TRANSIENT);
    check_says(err, "NoSuchUpload");
}

struct putter {
    struct store *store;
    struct span body;
    enum err_kind kind;
};

static void *put_one(void *context)
{
    struct putter *p = context;
    struct err err = ERR_NONE;
    (void)!store_put(p->store, "vm/race", p->body, &err);
    p->kind = err.kind;
    return NULL;
}

static void of_racing_uploads_exactly_one_wins(void **state)
{
    BEGIN(false);
    struct putter putters[4];
    pthread_t threads[4];
    unsigned winners = 0;
    for (size_t i = 0; i < 4; i++) {
        putters[i] = (struct putter){.store = s, .body = body};
        assert_int_equal(pthread_create(&threads[i], NULL, put_one, &putters[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        winners += putters[i].kind == ERR_OK;
        assert_true(putters[i].kind == ERR_OK || putters[i].kind == ERR_EXISTS);
    }
    assert_int_equal(winners, 1);
    assert_int_equal(count(fake, &fake->completes), 5); /* the proof once, however many ask */
    check_object(fake, "/bucket/pre/vm/race", body);
}

/* --- copies --- */

struct copied {
    char key[128];
    struct sha256 digest;
    bool proved;
};

static bool copy_text(struct store *to, struct store *from, const char *text, struct copied *c,
                      struct err *err)
{
    c->digest = sha256_of(span_of_text(text));
    strcpy(c->key, "vm/segments/");
    hex_of(c->digest.bytes, SHA256_BYTES, c->key + strlen(c->key));
    return store_copy(to, c->key, from, "vm/part", &c->digest, &c->proved, err);
}

static void a_copy_is_proved_by_the_checksum_that_the_service_gives(void **state)
{
    BEGIN(false);
    struct store *from AUTO_STORE = open_bucket(fake, "other", false);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    assert_true(store_can_copy(s, from));
    TELL(fake, copy_checksum = true);
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    assert_true(c.proved);
    check_ok(copy_text(s, from, "other bytes", &c, &err), err);
    assert_false(c.proved);
}

static void a_copy_without_a_checksum_is_not_proved(void **state)
{
    BEGIN(false);
    struct store *from AUTO_STORE = open_bucket(fake, "other", false);
    struct copied c = {.proved = true};
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    assert_false(c.proved);
}

static void an_error_in_an_answer_200_to_a_copy_is_an_error(void **state)
{
    BEGIN(false);
    struct store *from AUTO_STORE = open_bucket(fake, "other", false);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    TELL(fake, copy_says_200 = true);
    check_fails(copy_text(s, from, "a part", &c, &err), err, ERR_TRANSIENT);
}

static void nothing_is_copied_between_two_services(void **state)
{
    BEGIN(false);
    struct fake_s3 *elsewhere CLEANUP(fake_s3_stop) = fake_s3_start();
    struct store *from AUTO_STORE = open_bucket(elsewhere, "bucket", false);
    assert_false(store_can_copy(s, from));
}

/* A rate at which the part alone would take a day. */
static bool never_waits(void *context, uint32_t ms)
{
    (void)context, (void)ms;
    fail_msg("a copy waits for bandwidth");
    return false;
}

static struct store *attach_bucket(struct fake_s3 *s, const char *bucket, struct bandwidth *b)
{
    char url[200];
    struct store *out = NULL;
    struct err err = ERR_NONE;
    snprintf(url, sizeof url, "s3://%s/pre?endpoint=http://127.0.0.1:%u", bucket, s->port);
    struct attach_config config = {.host = {.world = world_real(), .env = fake_env},
                                   .url = url,
                                   .lazily = true,
                                   .bandwidth = b};
    check_ok(store_attach(&config, &out, &err), err);
    return out;
}

static void a_copy_passes_through_every_wrapper_and_costs_no_bandwidth(void **state)
{
    struct fake_s3 *fake CLEANUP(fake_s3_stop) = fake_s3_start();
    struct bandwidth *slow AUTO_BANDWIDTH = NULL;
    uint8_t *part AUTO_FREE = calloc(1, 1u << 20);
    struct err err = ERR_NONE;
    struct copied c;
    (void)state;

    check_ok(bandwidth_make(world_real(), "1", never_waits, NULL, &slow, &err), err);
    struct store *to AUTO_STORE = attach_bucket(fake, "bucket", slow);
    struct store *from AUTO_STORE = attach_bucket(fake, "other", slow);
    struct store *maker AUTO_STORE = open_bucket(fake, "other", false);
    memset(part, 'x', (1u << 20) - 1);
    check_ok(store_put(maker, "vm/part", span_of_text((const char *)part), &err), err);
    TELL(fake, copy_checksum = true);
    TELL(fake, copies_fail = 1);
    assert_true(store_can_copy(to, from));
    check_ok(copy_text(to, from, (const char *)part, &c, &err), err);
    assert_true(c.proved);
    assert_int_equal(count(fake, &fake->copies), 2); /* tried again */
    check_ok(store_put(to, "vm/next", span_of(part, 1u << 20), &err), err);
}

static void a_store_that_is_out_of_reach_can_copy_nothing(void **state)
{
    BEGIN(false);
    struct attach_config config = {.host = {.world = world_real(), .env = fake_env},
                                   .url = "file:///nowhere/at/all",
                                   .lazily = true};
    struct store *away AUTO_STORE = NULL;
    struct copied c;
    check_ok(store_attach(&config, &away, &err), err);
    assert_false(store_can_copy(s, away));
    assert_false(store_can_copy(away, s));
    check_fails(copy_text(s, away, "a part", &c, &err), err, ERR_TRANSIENT);
    check_fails(copy_text(away, s, "a part", &c, &err), err, ERR_TRANSIENT);
}

static void a_copy_goes_only_to_a_name_with_its_digest(void **state)
{
    BEGIN(false);
    struct store *from AUTO_STORE = open_bucket(fake, "other", false);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    c.digest.bytes[31] ^= 1;
    check_fails(store_copy(s, c.key, from, "vm/part", &c.digest, &c.proved, &err), err,
                ERR_INVALID);
    assert_int_equal(count(fake, &fake->copies), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_body_goes_in_parts_where_complete_keeps_the_contract),
        cmocka_unit_test(where_complete_replaces_a_large_body_goes_in_one_put),
        cmocka_unit_test(where_uploads_are_not_allowed_a_large_body_goes_in_one_put),
        cmocka_unit_test(a_proof_that_came_to_nothing_is_tried_again),
        cmocka_unit_test(a_part_that_fails_aborts_the_upload),
        cmocka_unit_test(an_error_in_an_answer_200_is_an_error),
        cmocka_unit_test(a_complete_whose_reply_was_lost_is_read_back),
        cmocka_unit_test(an_upload_that_was_forgotten_is_in_doubt),
        cmocka_unit_test(of_racing_uploads_exactly_one_wins),
        cmocka_unit_test(a_copy_is_proved_by_the_checksum_that_the_service_gives),
        cmocka_unit_test(a_copy_without_a_checksum_is_not_proved),
        cmocka_unit_test(an_error_in_an_answer_200_to_a_copy_is_an_error),
        cmocka_unit_test(nothing_is_copied_between_two_services),
        cmocka_unit_test(a_copy_passes_through_every_wrapper_and_costs_no_bandwidth),
        cmocka_unit_test(a_store_that_is_out_of_reach_can_copy_nothing),
        cmocka_unit_test(a_copy_goes_only_to_a_name_with_its_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
