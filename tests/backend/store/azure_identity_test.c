/* SPDX-License-Identifier: MIT */
#include "backend/store/azure_identity.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/instance.h"
#include "tests/support/check.h"
#include "tests/support/clock_world.h"
#include "tests/support/fake_env.h"
#include "tests/support/http_store.h"

#define MS          1000000ull
#define LARGE_WORDS (5u << 20) /* of 4 bytes: several blocks */
#define LARGE_NAME  "container/large"

struct fixture {
    struct clock_world world;
    struct store_host host;
    struct http_store *server;
    char endpoint[64], url[200];
    struct azure_identity *identity;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    fake_env_clear();
    clock_world_init(&f->world);
    f->host = (struct store_host){.world = &f->world.head, .env = fake_env};
    f->server =
        http_store_start(&(struct http_store_config){.dialect = HTTP_AZURE, .record = true});
    unsigned port = http_store_port(f->server);
    snprintf(f->endpoint, sizeof f->endpoint, "http://127.0.0.1:%u", port);
    snprintf(f->url, sizeof f->url, "azure://account/container?endpoint=%s/account&identity=%s",
             f->endpoint, f->endpoint);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    azure_identity_release(&f->identity);
    http_store_stop(&f->server);
    free(f);
    return 0;
}

static bool make(struct fixture *f, struct err *err)
{
    azure_identity_release(&f->identity);
    return azure_identity_make(&f->host, "account", "azure.account", f->endpoint, &f->identity,
                               err);
}

static void check_token(struct fixture *f, const char *wanted)
{
    struct buf token AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(azure_identity_token(f->identity, &token, &err), err);
    assert_string_equal((const char *)token.data, wanted);
}

static void a_sas_comes_before_a_key_and_loses_its_question_mark(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=a%2Bb");
    fake_env_set("AZURE_STORAGE_KEY", "a2V5");
    check_ok(make(f, &err), err);
    assert_int_equal(azure_identity_proof(f->identity), AZURE_SAS);
    assert_string_equal(azure_identity_sas(f->identity), "sv=1&sig=a%2Bb");
    assert_false(azure_identity_renew(f->identity));
}

static void a_key_is_decoded(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_KEY", "a2V5");
    fake_env_set("AZURE_STORAGE_ACCOUNT", "account");
    check_ok(make(f, &err), err);
    assert_int_equal(azure_identity_proof(f->identity), AZURE_KEY);
    assert_true(span_equal(azure_identity_key(f->identity), span_of_text("key")));
}

static void a_key_that_is_none_is_refused_without_being_shown(void **state)
{
    struct fixture *f = *state;
    struct err err;
    fake_env_set("AZURE_STORAGE_KEY", "not*base64");
    check_fails(make(f, &err), err, ERR_INVALID);
    check_says(err, "the environment");
    assert_null(strstr(err.text, "not*base64"));
}

static void the_key_of_another_account_is_not_used_for_this_one(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_KEY", "a2V5");
    fake_env_set("AZURE_STORAGE_ACCOUNT", "another");
    check_ok(make(f, &err), err);
    assert_int_equal(azure_identity_proof(f->identity), AZURE_TOKEN);
}

static void a_machine_is_asked_for_a_token_of_azure_storage_once(void **state)
{
    struct fixture *f = *state;
    struct http_record record AUTO_HTTP_RECORD = {.target = NULL};
    struct err err = ERR_NONE;
    check_ok(make(f, &err), err);
    assert_int_equal(azure_identity_proof(f->identity), AZURE_TOKEN);
    assert_int_equal(http_store_requests(f->server, NULL), 0);
    check_token(f, "secret-token-1");
    check_token(f, "secret-token-1");
    assert_int_equal(http_store_requests(f->server, NULL), 1);
    assert_true(http_store_record(f->server, 0, &record));
    assert_string_equal(record.method, "GET");
    assert_non_null(strstr(record.target, "resource=https://storage.azure.com/"));
    assert_null(strstr(record.target, "client_id"));
    assert_non_null(strstr(record.headers, "metadata: true\n"));
}

static void one_of_several_identities_is_chosen_by_its_client_id(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_CLIENT_ID", "01234567-89ab-cdef");
    check_ok(make(f, &err), err);
    check_token(f, "secret-token-1");
    assert_true(http_store_was_told(f->server, "client_id=01234567-89ab-cdef"));
    fake_env_set("AZURE_CLIENT_ID", "x&resource=other");
    check_ok(make(f, &err), err);
    check_token(f, "secret-token-2");
    assert_false(http_store_was_told(f->server, "resource=other"));
}

static void a_token_is_renewed_before_it_ends(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    http_store_token_lifetime(f->server, 1000);
    check_ok(make(f, &err), err);
    check_token(f, "secret-token-1");
    atomic_store(&f->world.passed_ns, 690 * 1000 * MS);
    check_token(f, "secret-token-1");
    atomic_store(&f->world.passed_ns, 701 * 1000 * MS);
    check_token(f, "secret-token-2");
}

static void a_token_that_holds_is_used_while_the_endpoint_is_down(void **state)
{
    struct fixture *f = *state;
    struct http_rule rule = {.per_mille = 1000, .status = 500};
    struct buf token AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    http_store_token_lifetime(f->server, 1000);
    check_ok(make(f, &err), err);
    check_token(f, "secret-token-1");
    http_store_fault(f->server, HTTP_REFUSE, &rule);
    atomic_store(&f->world.passed_ns, 990 * 1000 * MS);
    check_token(f, "secret-token-1");
    atomic_store(&f->world.passed_ns, 1001 * 1000 * MS);
    check_fails(azure_identity_token(f->identity, &token, &err), err, ERR_TRANSIENT);
    assert_null(strstr(err.text, "secret-token"));
}

static void a_machine_without_an_identity_says_what_was_looked_for(void **state)
{
    struct fixture *f = *state;
    struct http_rule rule = {.per_mille = 1000, .status = 400};
    struct buf token AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(make(f, &err), err);
    http_store_fault(f->server, HTTP_REFUSE, &rule);
    check_fails(azure_identity_token(f->identity, &token, &err), err, ERR_DENIED);
    check_says(err,
               "no credentials in a file (no folder for them is set), AZURE_STORAGE_SAS_TOKEN");
    check_says(err, "identity or role");
}

/* --- as the store uses it --- */

static void put(struct store *s, const char *key)
{
    struct err err = ERR_NONE;
    check_ok(store_put(s, key, span_of_text("x"), &err), err);
}

static void a_token_called_expired_is_renewed_once_and_the_request_repeated(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    put(s, "a");
    assert_true(http_store_was_told(f->server, "authorization: Bearer secret-token-1"));
    http_store_revoke_tokens(f->server);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    put(s, "b");
    put(s, "c");
    assert_int_equal(http_store_tokens(f->server), 2);
    assert_int_equal(http_store_objects(f->server), 3);
}

/* One of several blocks is the first that is told. */
static void a_token_that_expires_amid_an_upload_is_renewed_between_its_blocks(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct buf body AUTO_BUF = BUF_NONE, found AUTO_BUF = BUF_NONE;
    struct http_rule expired = {
        .method = "PUT", .path = "blockid=", .skip = 1, .next = 1, .status = 401};
    struct err err = ERR_NONE;
    for (uint32_t i = 0; i < LARGE_WORDS; i++)
        buf_put_u32(&body, i * 2654435761u);
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    put(s, "a");
    http_store_fault(f->server, HTTP_REFUSE, &expired);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    check_ok(store_put(s, "large", buf_span(&body), &err), err);
    assert_int_equal(http_store_faulted(f->server, HTTP_REFUSE), 1);
    assert_int_equal(http_store_tokens(f->server), 2);
    assert_true(http_store_object(f->server, LARGE_NAME, &found));
    assert_true(span_equal(buf_span(&found), buf_span(&body)));
}

static void a_store_that_takes_no_token_is_denied_after_one_renewal(void **state)
{
    struct fixture *f = *state;
    struct store *s AUTO_STORE = NULL;
    struct http_rule rule = {.method = "PUT", .per_mille = 1000, .status = 401};
    struct err err = ERR_NONE;
    check_ok(store_open(&f->host, f->url, true, &s, &err), err);
    atomic_store(&f->world.passed_ns, INSTANCE_PACE_MS * MS);
    http_store_fault(f->server, HTTP_REFUSE, &rule);
    check_fails(store_put(s, "a", span_of_text("x"), &err), err, ERR_DENIED);
    check_says(err, "managed identity");
    assert_null(strstr(err.text, "secret-token"));
    assert_int_equal(http_store_faulted(f->server, HTTP_REFUSE), 2);
    assert_int_equal(http_store_tokens(f->server), 2);
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
    struct http_rule rule = {.path = "/metadata/identity", .next = 1};
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
    const char *const texts[] = {long_one, "two\\nlines", ""};
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
        EACH(a_sas_comes_before_a_key_and_loses_its_question_mark),
        EACH(a_key_is_decoded),
        EACH(a_key_that_is_none_is_refused_without_being_shown),
        EACH(the_key_of_another_account_is_not_used_for_this_one),
        EACH(a_machine_is_asked_for_a_token_of_azure_storage_once),
        EACH(one_of_several_identities_is_chosen_by_its_client_id),
        EACH(a_token_is_renewed_before_it_ends),
        EACH(a_token_that_holds_is_used_while_the_endpoint_is_down),
        EACH(a_machine_without_an_identity_says_what_was_looked_for),
        EACH(a_token_called_expired_is_renewed_once_and_the_request_repeated),
        EACH(a_token_that_expires_amid_an_upload_is_renewed_between_its_blocks),
        EACH(a_store_that_takes_no_token_is_denied_after_one_renewal),
        EACH(a_cancel_reaches_a_call_that_waits_for_the_endpoint),
        EACH(an_answer_that_is_no_token_is_refused),
    };
#undef EACH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
