/* SPDX-License-Identifier: MIT
 * Bodies in parts against a small S3 of this test's own, which keeps the condition on Complete or
 * breaks it, loses replies and forgets uploads as told. Signatures are not looked at here. */
#include "backend/store/s3_objects.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>

#include "backend/store/attach.h"
#include "common/base64.h"
#include "tests/support/check.h"
#include "tests/support/test_host.h"

#define OBJECTS_MAX 8u
#define UPLOADS_MAX 32u
#define LARGE_BYTES (20u << 20)

struct object {
    char key[128];
    struct buf body;
};

struct upload {
    bool open;
    char key[128];
    struct buf parts[8];
};

enum complete {
    COMPLETE_KEEPS,       /* 412 when the name is taken */
    COMPLETE_REPLACES,    /* as radosgw 16 */
    COMPLETE_LOSES_REPLY, /* of what is not the proof: done, and the connection cut */
    COMPLETE_SAYS_200,    /* of what is not the proof: 200, white space, <Error> InternalError */
    COMPLETE_FORGETS,     /* of what is not the proof: 404 NoSuchUpload */
    COMPLETE_CONFLICTS,   /* 409 */
};

struct fake_s3 {
    struct MHD_Daemon *daemon;
    enum complete complete;
    unsigned fail_part; /* this part number is answered 500; 0: none */
    bool no_uploads;    /* Create is answered 403 */
    bool copy_checksum; /* the answer to a copy says its SHA-256 */
    bool copy_says_200; /* 200 with <Error> */
    pthread_mutex_t lock;
    struct object objects[OBJECTS_MAX];
    struct upload uploads[UPLOADS_MAX];
    size_t upload_count;
    unsigned whole_puts, completes, aborts, copies;
};

/* In the server's threads a failed check cannot end a test. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

struct request {
    struct buf body;
};

static struct object *find_locked(struct fake_s3 *s, const char *key)
{
    for (size_t i = 0; i < OBJECTS_MAX; i++)
        if (strcmp(s->objects[i].key, key) == 0)
            return &s->objects[i];
    return NULL;
}

/* An empty place has an empty key. */
static struct object *make_locked(struct fake_s3 *s, const char *key)
{
    struct object *o = find_locked(s, key);
    if (o == NULL)
        o = find_locked(s, "");
    must(o != NULL);
    snprintf(o->key, sizeof o->key, "%s", key);
    buf_clear(&o->body);
    return o;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *text,
                             const char *etag)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
    if (etag != NULL)
        MHD_add_response_header(r, "ETag", etag);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *code)
{
    char text[200];
    snprintf(text, sizeof text, "<Error><Code>%s</Code></Error>", code);
    return reply(c, status, text, NULL);
}

static enum MHD_Result put_whole(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                                 struct span body)
{
    const char *condition = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-None-Match");
    LOCK_SCOPE(&s->lock);
    s->whole_puts++;
    must(condition != NULL);
    if (find_locked(s, key) != NULL)
        return refuse(c, 412, "PreconditionFailed");
    buf_put(&make_locked(s, key)->body, body.data, body.length);
    return reply(c, 200, "", "\"whole\"");
}

static enum MHD_Result create(struct fake_s3 *s, struct MHD_Connection *c, const char *key)
{
    char text[200];
    LOCK_SCOPE(&s->lock);
    if (s->no_uploads)
        return refuse(c, 403, "AccessDenied");
    must(s->upload_count < UPLOADS_MAX);
    struct upload *u = &s->uploads[s->upload_count++];
    u->open = true;
    snprintf(u->key, sizeof u->key, "%s", key);
    snprintf(text, sizeof text,
             "<InitiateMultipartUploadResult><UploadId>up/%zu</UploadId>"
             "</InitiateMultipartUploadResult>",
             s->upload_count - 1);
    return reply(c, 200, text, NULL);
}

static struct upload *upload_locked(struct fake_s3 *s, const char *id)
{
    size_t n = UPLOADS_MAX;
    if (sscanf(id, "up/%zu", &n) != 1 || n >= s->upload_count || !s->uploads[n].open)
        return NULL;
    return &s->uploads[n];
}

static enum MHD_Result put_part(struct fake_s3 *s, struct MHD_Connection *c, const char *id,
                                unsigned number, struct span body)
{
    char etag[32];
    LOCK_SCOPE(&s->lock);
    struct upload *u = upload_locked(s, id);
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    if (number == s->fail_part)
        return refuse(c, 500, "InternalError");
    must(number >= 1 && number <= 8);
    buf_clear(&u->parts[number - 1]);
    buf_put(&u->parts[number - 1], body.data, body.length);
    snprintf(etag, sizeof etag, "\"part-%u\"", number);
    return reply(c, 200, "", etag);
}

/* Every part in order, with the ETag that it was given. */
static void check_list(const struct upload *u, struct span body)
{
    char text[2048], row[120];
    size_t rows = 0;
    snprintf(text, sizeof text, "%.*s", (int)body.length, (const char *)body.data);
    const char *at = text;
    for (; rows < 8 && u->parts[rows].length > 0; rows++) {
        snprintf(row, sizeof row,
                 "<Part><PartNumber>%zu</PartNumber><ETag>\"part-%zu\"</ETag></Part>", rows + 1,
                 rows + 1);
        at = strstr(at, row);
        must(at != NULL);
    }
    must(strstr(at + 1, "<Part>") == NULL);
}

static enum MHD_Result complete(struct fake_s3 *s, struct MHD_Connection *c, const char *id,
                                struct span body)
{
    const char *condition = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-None-Match");
    static const char done[] =
        "<CompleteMultipartUploadResult><ETag>x-2</ETag></CompleteMultipartUploadResult>";
    LOCK_SCOPE(&s->lock);
    struct upload *u = upload_locked(s, id);
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    s->completes++;
    bool proof = strstr(u->key, "check-parts") != NULL;
    must(condition != NULL);
    must(strcmp(condition, "*") == 0);
    check_list(u, body);
    if (s->complete == COMPLETE_CONFLICTS)
        return refuse(c, 409, "ConditionalRequestConflict");
    if (s->complete == COMPLETE_SAYS_200 && !proof)
        return reply(c, 200,
                     "  \n <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>", NULL);
    if (s->complete == COMPLETE_FORGETS && !proof) {
        u->open = false;
        return refuse(c, 404, "NoSuchUpload");
    }
    if (s->complete != COMPLETE_REPLACES && find_locked(s, u->key) != NULL)
        return refuse(c, 412, "PreconditionFailed");
    struct object *o = make_locked(s, u->key);
    for (size_t i = 0; i < 8; i++)
        buf_put(&o->body, u->parts[i].data, u->parts[i].length);
    u->open = false;
    if (s->complete == COMPLETE_LOSES_REPLY && !proof)
        return MHD_NO;
    return reply(c, 200, done, NULL);
}

static enum MHD_Result abort_upload(struct fake_s3 *s, struct MHD_Connection *c, const char *id)
{
    LOCK_SCOPE(&s->lock);
    struct upload *u = upload_locked(s, id);
    s->aborts++;
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    u->open = false;
    return reply(c, 204, "", NULL);
}

static enum MHD_Result copy(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                            const char *source)
{
    char text[300], base64[64] = "";
    LOCK_SCOPE(&s->lock);
    struct object *from = find_locked(s, source);
    s->copies++;
    if (from == NULL)
        return refuse(c, 404, "NoSuchKey");
    if (s->copy_says_200)
        return refuse(c, 200, "SlowDown");
    struct object *o = make_locked(s, key);
    buf_put(&o->body, from->body.data, from->body.length);
    struct sha256 digest = sha256_of(buf_span(&o->body));
    base64_write(span_of(digest.bytes, sizeof digest), base64);
    snprintf(text, sizeof text, "<CopyObjectResult><ETag>x</ETag>%s%s%s</CopyObjectResult>",
             s->copy_checksum ? "<ChecksumSHA256>" : "", s->copy_checksum ? base64 : "",
             s->copy_checksum ? "</ChecksumSHA256>" : "");
    return reply(c, 200, text, NULL);
}

static enum MHD_Result get(struct fake_s3 *s, struct MHD_Connection *c, const char *key)
{
    LOCK_SCOPE(&s->lock);
    struct object *o = find_locked(s, key);
    if (o == NULL)
        return refuse(c, 404, "NoSuchKey");
    struct MHD_Response *r =
        MHD_create_response_from_buffer(o->body.length, o->body.data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result answer(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                              const char *method, struct span body)
{
    const char *id = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "uploadId");
    const char *number = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "partNumber");
    const char *source = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "x-amz-copy-source");
    if (strcmp(method, "PUT") == 0 && source != NULL)
        return copy(s, c, key, source);
    if (strcmp(method, "PUT") == 0)
        return id != NULL ? put_part(s, c, id, (unsigned)atoi(number), body)
                          : put_whole(s, c, key, body);
    if (strcmp(method, "POST") == 0)
        return id != NULL ? complete(s, c, id, body) : create(s, c, key);
    if (strcmp(method, "DELETE") == 0)
        return abort_upload(s, c, id);
    return get(s, c, key);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *length, void **state)
{
    struct request *r = *state;
    (void)version;
    if (r == NULL) {
        *state = calloc(1, sizeof *r);
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*length > 0) {
        buf_put(&r->body, data, *length);
        *length = 0;
        return MHD_YES;
    }
    return answer(context, c, url, method, buf_span(&r->body));
}

static void forget(void *context, struct MHD_Connection *c, void **state,
                   enum MHD_RequestTerminationCode code)
{
    struct request *r = *state;
    (void)context, (void)c, (void)code;
    if (r != NULL)
        buf_release(&r->body);
    free(r);
}

/* --- the store on it --- */

static struct fake_s3 *fake_start(void)
{
    struct fake_s3 *s = calloc(1, sizeof *s);
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_non_null(s);
    pthread_mutex_init(&s->lock, NULL);
    s->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
                                 NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR, &loopback,
                                 MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    assert_non_null(s->daemon);
    return s;
}

static void fake_stop(struct fake_s3 **fake)
{
    struct fake_s3 *s = *fake;
    MHD_stop_daemon(s->daemon);
    for (size_t i = 0; i < OBJECTS_MAX; i++)
        buf_release(&s->objects[i].body);
    for (size_t i = 0; i < UPLOADS_MAX; i++)
        for (size_t n = 0; n < 8; n++)
            buf_release(&s->uploads[i].parts[n]);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *fake = NULL;
}

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
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(url, sizeof url, "s3://%s/pre?endpoint=http://127.0.0.1:%u", bucket, info->port);
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
    struct object *o = find_locked(s, key);
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
    struct fake_s3 *fake CLEANUP(fake_stop) = fake_start();                                        \
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
    struct fake_s3 *elsewhere CLEANUP(fake_stop) = fake_start();
    struct store *from AUTO_STORE = open_bucket(elsewhere, "bucket", false);
    assert_false(store_can_copy(s, from));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
