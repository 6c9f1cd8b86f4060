/* SPDX-License-Identifier: MIT
 * S3 objects in parts and as copies, on a service that keeps and breaks what these rely on.
 */
#include "backend/store/s3_objects.h"

#include <stdio.h>

#include "backend/store/attach.h"
#include "tests/support/check.h"
#include "tests/support/cloud_rig.h"

#define LARGE_BYTES (20u << 20)

/* Another bucket of the service. */
static struct store *open_bucket(struct cloud_rig *r, const char *bucket, bool lazily,
                                 struct bandwidth *bandwidth)
{
    char url[STORE_URL_MAX];
    struct store *out = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {.world = world_real(), .env = r->host.env};
    snprintf(url, sizeof url, "s3://%s/some/prefix?endpoint=http://127.0.0.1:%u", bucket,
             http_store_port(r->server));
    struct attach_config config = {
        .host = host, .url = url, .create = !lazily, .lazily = lazily, .bandwidth = bandwidth};
    check_ok(store_attach(&config, &out, &err), err);
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

static void check_object(struct cloud_rig *r, const char *key, struct span body)
{
    struct buf found AUTO_BUF = BUF_NONE;
    assert_true(http_store_object(r->server, cloud_rig_name(r, key), &found));
    assert_true(span_equal(buf_span(&found), body));
}

static size_t whole_puts(struct cloud_rig *r)
{
    return http_store_asked(r->server, "PUT", "if-none-match: *");
}

static size_t completes(struct cloud_rig *r)
{
    return http_store_asked(r->server, "POST", "uploadId=");
}

static size_t copies(struct cloud_rig *r)
{
    return http_store_asked(r->server, "PUT", "x-amz-copy-source: ");
}

/* The next requests of that kind are answered so, and nothing else happens. */
static void answer_so(struct cloud_rig *r, const char *method, const char *path, unsigned status,
                      const char *text)
{
    struct http_rule rule = {
        .method = method, .path = path, .next = UINT32_MAX, .status = status, .text = text};
    http_store_fault(r->server, HTTP_REFUSE, &rule);
}

#define ERROR(code)    "<Error><Code>" code "</Code></Error>"
#define COMPLETE_OF_K1 "/vm/k1?uploadId=" /* not of the proof */

#define BEGIN                                                                                      \
    struct cloud_rig rig CLEANUP(cloud_rig_release);                                               \
    cloud_rig_init(&rig, HTTP_S3, 0);                                                              \
    struct store *s AUTO_STORE = cloud_rig_open(&rig);                                             \
    struct err err = ERR_NONE;                                                                     \
    (void)state, (void)s, (void)err

#define BEGIN_LARGE                                                                                \
    BEGIN;                                                                                         \
    uint8_t *bytes AUTO_FREE = large_body();                                                       \
    struct span body = span_of(bytes, LARGE_BYTES)

static void a_large_body_goes_in_parts_where_complete_keeps_the_contract(void **state)
{
    BEGIN_LARGE;
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_ok(store_put(s, "vm/k2", body, &err), err);
    check_object(&rig, "vm/k1", body);
    check_object(&rig, "vm/k2", body);
    assert_int_equal(whole_puts(&rig), 1); /* the proof's object */
    assert_int_equal(completes(&rig), 3);  /* it is proved once */
    assert_int_equal(http_store_uploads(rig.server), 0);
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_EXISTS);
    assert_int_equal(http_store_uploads(rig.server), 0);
}

static void where_complete_replaces_a_large_body_goes_in_one_put(void **state)
{
    BEGIN_LARGE;
    http_store_complete_replaces(rig.server, true);
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_object(&rig, "vm/k1", body);
    assert_int_equal(completes(&rig), 1);
    assert_int_equal(whole_puts(&rig), 2);
    check_fails(store_put(s, "vm/k1", span_of(bytes, LARGE_BYTES - 1), &err), err, ERR_EXISTS);
    check_object(&rig, "vm/k1", body);
    assert_int_equal(completes(&rig), 1);
}

static void where_uploads_are_not_allowed_a_large_body_goes_in_one_put(void **state)
{
    BEGIN_LARGE;
    answer_so(&rig, "POST", "?uploads", 403, ERROR("AccessDenied"));
    check_ok(store_put(s, "vm/k1", body, &err), err);
    check_object(&rig, "vm/k1", body);
}

/* One that conflicts says nothing of the condition: the next large body asks again. */
static void a_proof_that_came_to_nothing_is_tried_again(void **state)
{
    BEGIN_LARGE;
    answer_so(&rig, "POST", "uploadId=", 409, ERROR("ConditionalRequestConflict"));
    check_ok(store_put(s, "vm/k1", body, &err), err);
    assert_int_equal(whole_puts(&rig), 2);
    http_store_fault(rig.server, HTTP_REFUSE, NULL);
    check_ok(store_put(s, "vm/k2", body, &err), err);
    assert_int_equal(completes(&rig), 3);
    check_object(&rig, "vm/k2", body);
}

static void a_part_that_fails_aborts_the_upload(void **state)
{
    BEGIN_LARGE;
    answer_so(&rig, "PUT", "partNumber=2", 500, ERROR("InternalError"));
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_TRANSIENT);
    assert_int_equal(http_store_uploads(rig.server), 0);
    assert_int_equal(http_store_asked(rig.server, "DELETE", "uploadId="),
                     2); /* of the proof, and of this */
}

static void an_error_in_an_answer_200_is_an_error(void **state)
{
    BEGIN_LARGE;
    answer_so(&rig, "POST", COMPLETE_OF_K1, 200,
              "  \n <?xml version=\"1.0\"?>" ERROR("InternalError"));
    check_fails(store_put(s, "vm/k1", body, &err), err, ERR_TRANSIENT);
    check_says(err, "InternalError");
    assert_int_equal(http_store_uploads(rig.server), 0);
}

static void a_complete_whose_reply_was_lost_is_read_back(void **state)
{
    BEGIN_LARGE;
    struct store *tireless AUTO_STORE = open_bucket(&rig, "bucket", false, NULL);
    cloud_rig_next(&rig, HTTP_LOSE_REPLY, "POST", COMPLETE_OF_K1, 1);
    check_ok(store_put(tireless, "vm/k1", body, &err), err);
    check_object(&rig, "vm/k1", body);
    check_fails(store_put(tireless, "vm/k1", span_of(bytes, LARGE_BYTES - 1), &err), err,
                ERR_EXISTS);
}

static void an_upload_that_was_forgotten_is_in_doubt(void **state)
{
    BEGIN_LARGE;
    answer_so(&rig, "POST", COMPLETE_OF_K1, 404, ERROR("NoSuchUpload"));
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
    BEGIN_LARGE;
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
    assert_int_equal(completes(&rig), 5); /* the proof once, however many ask */
    check_object(&rig, "vm/race", body);
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
    BEGIN;
    struct store *from AUTO_STORE = open_bucket(&rig, "other", false, NULL);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    assert_true(store_can_copy(s, from));
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    assert_true(c.proved);
    check_ok(copy_text(s, from, "other bytes", &c, &err), err);
    assert_false(c.proved);
}

static void a_copy_without_a_checksum_is_not_proved(void **state)
{
    BEGIN;
    struct store *from AUTO_STORE = open_bucket(&rig, "other", false, NULL);
    struct copied c = {.proved = true};
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    answer_so(&rig, "PUT", "/vm/segments/", 200,
              "<CopyObjectResult><ETag>x</ETag></CopyObjectResult>");
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    assert_false(c.proved);
}

static void an_error_in_an_answer_200_to_a_copy_is_an_error(void **state)
{
    BEGIN;
    struct store *from AUTO_STORE = open_bucket(&rig, "other", false, NULL);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    answer_so(&rig, "PUT", "/vm/segments/", 200, ERROR("SlowDown"));
    check_fails(copy_text(s, from, "a part", &c, &err), err, ERR_TRANSIENT);
}

static void nothing_is_copied_between_two_services(void **state)
{
    BEGIN;
    struct cloud_rig elsewhere CLEANUP(cloud_rig_release);
    cloud_rig_init(&elsewhere, HTTP_S3, 0);
    struct store *from AUTO_STORE = cloud_rig_open(&elsewhere);
    assert_false(store_can_copy(s, from));
}

/* A rate at which the part alone would take a day. */
static bool never_waits(void *context, uint32_t ms)
{
    (void)context, (void)ms;
    fail_msg("a copy waits for bandwidth");
    return false;
}

static void a_copy_passes_through_every_wrapper_and_costs_no_bandwidth(void **state)
{
    BEGIN;
    struct store *from AUTO_STORE = open_bucket(&rig, "other", false, NULL);
    struct bandwidth *slow AUTO_BANDWIDTH = NULL;
    uint8_t *part AUTO_FREE = calloc(1, 1u << 20);
    struct copied c;

    check_ok(bandwidth_make(world_real(), "1", never_waits, NULL, &slow, &err), err);
    struct store *to AUTO_STORE = open_bucket(&rig, "bucket", true, slow);
    struct store *slow_from AUTO_STORE = open_bucket(&rig, "other", true, slow);
    memset(part, 'x', (1u << 20) - 1);
    check_ok(store_put(from, "vm/part", span_of_text((const char *)part), &err), err);
    cloud_rig_next(&rig, HTTP_REFUSE, "PUT", "/vm/segments/", 1);
    assert_true(store_can_copy(to, slow_from));
    check_ok(copy_text(to, slow_from, (const char *)part, &c, &err), err);
    assert_true(c.proved);
    assert_int_equal(copies(&rig), 2); /* tried again */
    check_ok(store_put(to, "vm/next", span_of(part, 1u << 20), &err), err);
}

static void a_store_that_is_out_of_reach_can_copy_nothing(void **state)
{
    BEGIN;
    struct attach_config config = {.host = {.world = world_real(), .env = rig.host.env},
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
    BEGIN;
    struct store *from AUTO_STORE = open_bucket(&rig, "other", false, NULL);
    struct copied c;
    check_ok(store_put(from, "vm/part", span_of_text("a part"), &err), err);
    check_ok(copy_text(s, from, "a part", &c, &err), err);
    c.digest.bytes[31] ^= 1;
    check_fails(store_copy(s, c.key, from, "vm/part", &c.digest, &c.proved, &err), err,
                ERR_INVALID);
    assert_int_equal(copies(&rig), 1);
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
