/* SPDX-License-Identifier: MIT */
#include "backend/store/s3_identity.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/instance.h"
#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/clock_world.h"
#include "tests/support/fake_env.h"
#include "tests/support/http_store.h"
#include "tests/support/tmp_dir.h"

#define MS          1000000ull
#define LARGE_WORDS (5u << 20) /* of 4 bytes: three parts */

struct fixture {
    struct clock_world world;
    struct store_host host;
    struct http_store *server;
    struct tmp_dir dir;
    char shared[PATH_MAX + 8];
    char endpoint[64], url[200];
    struct s3_identity *identity;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    fake_env_clear();
    tmp_dir_make(&f->dir);
    clock_world_init(&f->world);
    f->host = (struct store_host){.world = &f->world.head, .env = fake_env};
    f->server = http_store_start(&(struct http_store_config){.dialect = HTTP_S3, .record = true});
    unsigned port = http_store_port(f->server);
    snprintf(f->endpoint, sizeof f->endpoint, "http://127.0.0.1:%u", port);
    snprintf(f->url, sizeof f->url, "s3://bucket?endpoint=%s&identity=%s", f->endpoint,
             f->endpoint);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    s3_identity_release(&f->identity);
    http_store_stop(&f->server);
    tmp_dir_remove(&f->dir);
    free(f);
    return 0;
}

static bool make(struct fixture *f, struct err *err)
{
    s3_identity_release(&f->identity);
    return s3_identity_make(&f->host, "s3.bucket", f->endpoint, &f->identity, err);
}

static void check_gives(struct fixture *f, const char *key_id, const char *secret,
                        const char *token)
{
    struct s3_credentials found;
    struct err err = ERR_NONE;
    check_ok(s3_identity_get(f->identity, &found, &err), err);
    assert_string_equal(found.key_id, key_id);
    assert_string_equal(found.secret, secret);
    assert_string_equal(found.token, token);
}

static void write_shared(struct fixture *f, mode_t mode, const char *text)
{
    struct err err = ERR_NONE;
    snprintf(f->shared, sizeof f->shared, "%s", tmp_dir_path(&f->dir, "shared"));
    fake_env_set("AWS_SHARED_CREDENTIALS_FILE", f->shared);
    check_ok(file_replace(world_real(), f->shared, mode, span_of_text(text), &err), err);
}

static void the_environment_comes_before_the_shared_file(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    write_shared(f, 0600, "[default]\naws_access_key_id=B\naws_secret_access_key=b\n");
    fake_env_set("AWS_ACCESS_KEY_ID", "A");
    fake_env_set("AWS_SECRET_ACCESS_KEY", "a");
    fake_env_set("AWS_SESSION_TOKEN", "t");
    check_ok(make(f, &err), err);
    check_gives(f, "A", "a", "t");
    assert_false(s3_identity_renew(f->identity));
    assert_int_equal(http_store_requests(f->server, NULL), 0);
}

static void half_a_key_is_refused_without_being_shown(void **state)
{
    struct fixture *f = *state;
    struct err err;
    fake_env_set("AWS_ACCESS_KEY_ID", "HALFAKEY");
    check_fails(make(f, &err), err, ERR_INVALID);
    check_says(err, "AWS_SECRET_ACCESS_KEY");
    assert_null(strstr(err.text, "HALFAKEY"));
}

static void a_profile_of_the_shared_file_is_taken_by_its_name(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    write_shared(f, 0600,
                 "[default]\naws_access_key_id = A\naws_secret_access_key = a\n"
                 "[other]\naws_access_key_id=B\naws_secret_access_key=b\naws_session_token=s\n");
    check_ok(make(f, &err), err);
    check_gives(f, "A", "a", "");
    fake_env_set("AWS_PROFILE", "other");
    check_ok(make(f, &err), err);
    check_gives(f, "B", "b", "s");
    fake_env_set("AWS_PROFILE", "third");
    check_fails(make(f, &err), err, ERR_INVALID);
    check_says(err, "third");
}

static void a_shared_file_that_others_may_read_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;
    write_shared(f, 0644, "[default]\naws_access_key_id=A\naws_secret_access_key=a\n");
    check_fails(make(f, &err), err, ERR_DENIED);
    check_says(err, "chmod 600");
}

/* A session first, by PUT; then the role's name and its credentials, with the session's token. */
static void a_role_is_asked_for_by_imdsv2(void **state)
{
    static const char *const targets[] = {
        "/latest/api/token",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/iam/security-credentials/farshore-role",
    };
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    check_ok(make(f, &err), err);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    assert_int_equal(http_store_requests(f->server, NULL), 3);
    for (size_t i = 0; i < 3; i++) {
        struct http_record record AUTO_HTTP_RECORD = {.target = NULL};
        assert_true(http_store_record(f->server, i, &record));
        assert_string_equal(record.method, i == 0 ? "PUT" : "GET");
        assert_string_equal(record.target, targets[i]);
        assert_non_null(strstr(record.headers, i == 0 ? "x-aws-ec2-metadata-token-ttl-seconds: "
                                                      : "x-aws-ec2-metadata-token: imds-session"));
    }
}

static void the_endpoint_can_be_set_as_the_tools_of_aws_do(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    fake_env_set("AWS_EC2_METADATA_SERVICE_ENDPOINT", f->endpoint);
    check_ok(s3_identity_make(&f->host, "s3.bucket", NULL, &f->identity, &err), err);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
}

static void a_role_is_not_asked_for_when_that_is_switched_off(void **state)
{
    struct fixture *f = *state;
    struct err err;
    fake_env_set("AWS_EC2_METADATA_DISABLED", "True");
    check_fails(make(f, &err), err, ERR_DENIED);
    check_says(err, "AWS_ACCESS_KEY_ID");
    assert_int_equal(http_store_requests(f->server, NULL), 0);
}

static void a_roles_credentials_are_renewed_before_they_end(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    http_store_token_lifetime(f->server, 1000);
    check_ok(make(f, &err), err);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    atomic_store(&f->world.passed_ns, 600 * 1000 * MS);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    atomic_store(&f->world.passed_ns, 710 * 1000 * MS);
    check_gives(f, "ASIA2", "secret-key-2", "secret-token-2");
}

/* Their end is a time of the endpoint's clock. */
static void a_clock_that_is_off_ends_no_credentials(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    atomic_store(&f->world.jumped_ns, (int64_t)(10ull * 365 * 24 * 3600 * 1000 * MS));
    check_ok(make(f, &err), err);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    atomic_store(&f->world.passed_ns, 3000 * 1000 * MS);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    atomic_store(&f->world.jumped_ns, 0);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
}

static void credentials_that_hold_are_used_while_the_endpoint_is_down(void **state)
{
    struct fixture *f = *state;
    struct http_rule rule = {.per_mille = 1000, .status = 500};
    struct s3_credentials found;
    struct err err = ERR_NONE;
    http_store_token_lifetime(f->server, 1000);
    check_ok(make(f, &err), err);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    http_store_fault(f->server, HTTP_REFUSE, &rule);
    atomic_store(&f->world.passed_ns, 900 * 1000 * MS);
    check_gives(f, "ASIA1", "secret-key-1", "secret-token-1");
    atomic_store(&f->world.passed_ns, 1001 * 1000 * MS);
    check_fails(s3_identity_get(f->identity, &found, &err), err, ERR_TRANSIENT);
    assert_null(strstr(err.text, "secret-"));
}

/* --- as the store uses it --- */

static void put(struct store *s, const char *key)
{
    struct err err = ERR_NONE;
    check_ok(store_put(s, key, span_of_text("x"), &err), err);
}

static void credentials_called_expired_are_renewed_once_and_the_request_repeated(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    put(s, "a");
    assert_true(http_store_was_told(f->server, "x-amz-security-token: secret-token-1"));
    http_store_revoke_tokens(f->server);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    put(s, "b");
    put(s, "c");
    assert_int_equal(http_store_tokens(f->server), 2);
    assert_int_equal(http_store_objects(f->server), 3);
    assert_false(http_store_was_told(f->server, "secret-key-"));
}

/* The second of several parts is the first that is told. */
static void credentials_that_expire_amid_an_upload_are_renewed_between_its_parts(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct buf body AUTO_BUF = BUF_NONE, found AUTO_BUF = BUF_NONE;
    struct http_rule expired = {.method = "PUT",
                                .path = "partNumber=2",
                                .next = 1,
                                .status = 400,
                                .text = "<Error><Code>ExpiredToken</Code></Error>"};
    struct err err = ERR_NONE;
    for (uint32_t i = 0; i < LARGE_WORDS; i++)
        buf_put_u32(&body, i * 2654435761u);
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    check_ok(store_put(s, "first", buf_span(&body), &err), err); /* proves that parts may be used */
    http_store_fault(f->server, HTTP_REFUSE, &expired);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    check_ok(store_put(s, "large", buf_span(&body), &err), err);
    assert_int_equal(http_store_faulted(f->server, HTTP_REFUSE), 1);
    assert_int_equal(http_store_tokens(f->server), 2);
    assert_true(http_store_object(f->server, "bucket/large", &found));
    assert_true(span_equal(buf_span(&found), buf_span(&body)));
    assert_int_equal(http_store_uploads(f->server), 0);
}

/* The answer to HEAD has no body that could say so: 400 and nothing more. */
static void credentials_that_expired_are_renewed_when_head_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    uint64_t bytes = 0;
    struct err err = ERR_NONE;
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    put(s, "a");
    http_store_revoke_tokens(f->server);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    check_ok(store_size(s, "a", &bytes, &err), err);
    assert_int_equal(bytes, 1);
    assert_int_equal(http_store_tokens(f->server), 2);
}

static void a_region_that_is_none_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    fake_env_set("AWS_REGION", "us-east-1\n");
    check_fails(store_open(&f->host, f->url, false, &s, &err), err, ERR_INVALID);
    check_says(err, "AWS_REGION");
}

/* It cannot be renewed here: who gave it must. */
static void a_session_token_that_has_expired_is_said(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    fake_env_set("AWS_ACCESS_KEY_ID", "A");
    fake_env_set("AWS_SECRET_ACCESS_KEY", "a");
    fake_env_set("AWS_SESSION_TOKEN", "secret-token-7"); /* of which this server knows nothing */
    check_ok(store_open(&f->host, f->url, false, &s, &err), err);
    check_fails(store_put(s, "a", span_of_text("x"), &err), err, ERR_DENIED);
    check_says(err, "expired");
    check_says(err, "the environment");
    assert_null(strstr(err.text, "secret-token"));
    assert_int_equal(http_store_requests(f->server, NULL), 1);
}

struct caller {
    struct store *store;
    pthread_t thread;
    struct err err;
};

static void *put_once(void *context)
{
    struct caller *c = context;
    (void)!store_put(c->store, "a", span_of_text("x"), &c->err); /* `err` says it */
    return NULL;
}

static void a_cancel_reaches_a_call_that_waits_for_the_endpoint(void **state)
{
    struct fixture *f = *state;
    struct caller c = {.err = ERR_NONE};
    struct http_rule rule = {.path = "/latest/api/token", .next = 1};
    struct err err = ERR_NONE;
    check_ok(store_open(&f->host, f->url, false, &c.store, &err), err);
    http_store_fault(f->server, HTTP_STALL, &rule);
    assert_int_equal(pthread_create(&c.thread, NULL, put_once, &c), 0);
    while (http_store_faulted(f->server, HTTP_STALL) == 0)
        sched_yield();
    store_cancel(c.store, true);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(c.err.kind, ERR_CANCELLED);
    store_cancel(c.store, false);
    check_fails(store_put(c.store, "a", span_of_text("x"), &err), err,
                ERR_INVALID); /* no container */
    store_close(&c.store);
}

static void an_answer_that_is_no_token_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    char *long_one AUTO_FREE = calloc(1, 9001);
    struct err err = ERR_NONE;
    assert_non_null(long_one);
    memset(long_one, 'a', 9000);
    const char *const texts[] = {long_one, "two\nlines", ""};
    check_ok(store_open(&f->host, f->url, false, &s, &err), err);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        http_store_token_text(f->server, texts[i]);
        check_fails(store_put(s, "a", span_of_text("x"), &err), err, ERR_CORRUPT);
        assert_null(strstr(err.text, "aaaa"));
    }
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(the_environment_comes_before_the_shared_file),
        EACH(half_a_key_is_refused_without_being_shown),
        EACH(a_profile_of_the_shared_file_is_taken_by_its_name),
        EACH(a_shared_file_that_others_may_read_is_refused),
        EACH(a_role_is_asked_for_by_imdsv2),
        EACH(the_endpoint_can_be_set_as_the_tools_of_aws_do),
        EACH(a_role_is_not_asked_for_when_that_is_switched_off),
        EACH(a_roles_credentials_are_renewed_before_they_end),
        EACH(a_clock_that_is_off_ends_no_credentials),
        EACH(credentials_that_hold_are_used_while_the_endpoint_is_down),
        EACH(credentials_called_expired_are_renewed_once_and_the_request_repeated),
        EACH(credentials_that_expire_amid_an_upload_are_renewed_between_its_parts),
        EACH(credentials_that_expired_are_renewed_when_head_is_refused),
        EACH(a_region_that_is_none_is_refused),
        EACH(a_session_token_that_has_expired_is_said),
        EACH(a_cancel_reaches_a_call_that_waits_for_the_endpoint),
        EACH(an_answer_that_is_no_token_is_refused),
    };
#undef EACH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
