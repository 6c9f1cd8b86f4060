/* SPDX-License-Identifier: MIT
 * Copies on Azure that are not done when they are answered, and what goes along with them. */
#include "backend/store/azure.h"

#include <stdio.h>

#include "tests/support/check.h"
#include "tests/support/http_store.h"

#define SAS "sv=2021-12-02&sp=rcl&sig=c2VjcmV0"
#define KEY "c2VjcmV0c2VjcmV0c2VjcmV0"

/* One whose copies are pending for so many questions, and have that status then. */
static struct http_store *service_start(unsigned polls, const char *at_last)
{
    struct http_store *s =
        http_store_start(&(struct http_store_config){.dialect = HTTP_AZURE, .record = true});
    assert_non_null(s);
    http_store_copies_end(s, polls, at_last);
    return s;
}

static char *key_env(const char *name)
{
    return strcmp(name, "AZURE_STORAGE_KEY") == 0 ? KEY : NULL;
}

static char *other_key_env(const char *name)
{
    return strcmp(name, "AZURE_STORAGE_KEY") == 0 ? "b3RoZXI=" : NULL;
}

static char *sas_env(const char *name)
{
    return strcmp(name, "AZURE_STORAGE_SAS_TOKEN") == 0 ? SAS : NULL;
}

static struct store *open_container(struct http_store *s, const char *place,
                                    char *(*env)(const char *))
{
    char url[200];
    struct store *out = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {.world = world_real(), .env = env};
    snprintf(url, sizeof url, "azure://%s?endpoint=http://127.0.0.1:%u/account", place,
             http_store_port(s));
    check_ok(store_open(&host, url, true, &out, &err), err);
    return out;
}

#define BEGIN(polls, at_last, env)                                                                 \
    struct http_store *service CLEANUP(http_store_stop) = service_start(polls, at_last);           \
    struct store *s AUTO_STORE = open_container(service, "account/target", env);                   \
    struct store *from AUTO_STORE = open_container(service, "account/cache/a.b", env);             \
    struct err err = ERR_NONE;                                                                     \
    check_ok(store_put(from, "vm/parts/1", span_of_text("a part"), &err), err);                    \
    (void)state

static bool copy(struct store *s, struct store *from, bool *proved, struct err *err)
{
    struct sha256 digest = sha256_of(span_of_text("a part"));
    char key[128] = "vm/segments/";
    hex_of(digest.bytes, SHA256_BYTES, key + strlen(key));
    return store_copy(s, key, from, "vm/parts/1", &digest, proved, err);
}

/* The request that asked for the copy; AUTO_HTTP_RECORD frees it. */
static struct http_record copy_asked(struct http_store *s)
{
    struct http_record r;
    for (size_t i = 0; http_store_record(s, i, &r); i++) {
        if (strstr(r.headers, "x-ms-copy-source: ") != NULL)
            return r;
        http_record_release(&r);
    }
    fail_msg("no copy was asked for");
    abort();
}

static void a_copy_that_is_pending_is_waited_for(void **state)
{
    BEGIN(3, "success", key_env);
    bool proved = true;
    assert_true(store_can_copy(s, from));
    check_ok(copy(s, from, &proved, &err), err);
    assert_false(proved); /* it has no SHA-256 to prove it by */
    assert_int_equal(http_store_requests(service, "HEAD"), 3);
    struct http_record asked AUTO_HTTP_RECORD = copy_asked(service);
    assert_non_null(strstr(asked.headers, "\nif-none-match: *\n"));
}

static void a_copy_that_fails_later_is_an_error(void **state)
{
    BEGIN(1, "failed", key_env);
    bool proved;
    check_fails(copy(s, from, &proved, &err), err, ERR_TRANSIENT);
    check_says(err, "failed");
}

/* Whatever the body of such an answer is: it is no copy. */
static void an_answer_without_a_status_is_no_copy(void **state)
{
    BEGIN(0, NULL, key_env);
    bool proved;
    check_fails(copy(s, from, &proved, &err), err, ERR_TRANSIENT);
}

static void a_sas_goes_along_and_a_key_does_not(void **state)
{
    bool proved;
    {
        BEGIN(0, "success", sas_env);
        check_ok(copy(s, from, &proved, &err), err);
        struct http_record asked AUTO_HTTP_RECORD = copy_asked(service);
        assert_non_null(strstr(asked.headers, "/cache/a.b/vm/parts/1?" SAS "\n"));
    }
    BEGIN(0, "success", key_env);
    check_ok(copy(s, from, &proved, &err), err);
    struct http_record asked AUTO_HTTP_RECORD = copy_asked(service);
    assert_non_null(strstr(asked.headers, "/cache/a.b/vm/parts/1\n"));
    assert_null(strchr(asked.headers, '?'));
}

static void no_error_tells_the_sas(void **state)
{
    BEGIN(0, "failed", sas_env);
    bool proved;
    check_fails(copy(s, from, &proved, &err), err, ERR_TRANSIENT);
    assert_null(strstr(err.text, "c2VjcmV0"));
}

/* No credential of the one store is shown to another account or for another right. */
static void nothing_is_copied_between_accounts_or_credentials(void **state)
{
    BEGIN(0, "success", key_env);
    struct store *account AUTO_STORE = open_container(service, "another/cache", key_env);
    struct store *key AUTO_STORE = open_container(service, "account/cache", other_key_env);
    struct store *sas AUTO_STORE = open_container(service, "account/cache", sas_env);
    (void)err;
    assert_true(store_can_copy(s, from));
    assert_false(store_can_copy(s, account));
    assert_false(store_can_copy(s, key));
    assert_false(store_can_copy(s, sas));
    assert_false(store_can_copy(sas, s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_that_is_pending_is_waited_for),
        cmocka_unit_test(a_copy_that_fails_later_is_an_error),
        cmocka_unit_test(an_answer_without_a_status_is_no_copy),
        cmocka_unit_test(a_sas_goes_along_and_a_key_does_not),
        cmocka_unit_test(no_error_tells_the_sas),
        cmocka_unit_test(nothing_is_copied_between_accounts_or_credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
