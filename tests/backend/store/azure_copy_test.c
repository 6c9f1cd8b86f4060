/* SPDX-License-Identifier: MIT
 * Copies on Azure that are not done when they are answered, and what goes along with them: against
 * a service of this test's own that copies nothing and says what it is told to. */
#include "backend/store/azure.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>

#include "tests/support/check.h"

#define SAS "sv=2021-12-02&sp=rcl&sig=c2VjcmV0"
#define KEY "c2VjcmV0c2VjcmV0c2VjcmV0"

struct service {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock; /* guards: */
    unsigned polls_pending;
    const char *at_last; /* what the copy's status is after so many polls */
    unsigned puts, polls;
    char source[2200], condition[16]; /* of the last PUT */
};

static enum MHD_Result reply(struct MHD_Connection *c, unsigned code, const char *status)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "x-ms-copy-id", "id-1");
    if (status != NULL)
        MHD_add_response_header(r, "x-ms-copy-status", status);
    enum MHD_Result result = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return result;
}

static void take_header(struct MHD_Connection *c, const char *name, char *out, size_t size)
{
    const char *value = MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
    snprintf(out, size, "%s", value != NULL ? value : "");
}

static enum MHD_Result handle(void *context, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *length, void **state)
{
    struct service *s = context;
    (void)url, (void)version, (void)data, (void)length, (void)state;
    LOCK_SCOPE(&s->lock);
    if (strcmp(method, "PUT") == 0) {
        s->puts++;
        take_header(c, "x-ms-copy-source", s->source, sizeof s->source);
        take_header(c, "If-None-Match", s->condition, sizeof s->condition);
        return reply(c, 202, s->polls_pending > 0 ? "pending" : s->at_last);
    }
    return reply(c, 200, ++s->polls < s->polls_pending ? "pending" : s->at_last);
}

static struct service *service_start(unsigned polls_pending, const char *at_last)
{
    struct service *s = calloc(1, sizeof *s);
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_non_null(s);
    s->polls_pending = polls_pending;
    s->at_last = at_last;
    pthread_mutex_init(&s->lock, NULL);
    s->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle, s,
                                 MHD_OPTION_SOCK_ADDR, &loopback, MHD_OPTION_END);
    assert_non_null(s->daemon);
    return s;
}

static void service_stop(struct service **service)
{
    MHD_stop_daemon((*service)->daemon);
    pthread_mutex_destroy(&(*service)->lock);
    free(*service);
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

static struct store *open_container(struct service *s, const char *place,
                                    char *(*env)(const char *))
{
    char url[200];
    struct store *out = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {.world = world_real(), .env = env};
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(url, sizeof url, "azure://%s?endpoint=http://127.0.0.1:%u", place, info->port);
    check_ok(store_open(&host, url, false, &out, &err), err);
    return out;
}

#define BEGIN(polls, at_last, env)                                                                 \
    struct service *service CLEANUP(service_stop) = service_start(polls, at_last);                 \
    struct store *s AUTO_STORE = open_container(service, "account/target", env);                   \
    struct store *from AUTO_STORE = open_container(service, "account/cache/a.b", env);             \
    struct err err = ERR_NONE;                                                                     \
    (void)state

static bool copy(struct store *s, struct store *from, bool *proved, struct err *err)
{
    struct sha256 digest = sha256_of(span_of_text("a part"));
    char key[128] = "vm/segments/";
    hex_of(digest.bytes, SHA256_BYTES, key + strlen(key));
    return store_copy(s, key, from, "vm/parts/1", &digest, proved, err);
}

static void a_copy_that_is_pending_is_waited_for(void **state)
{
    BEGIN(3, "success", key_env);
    bool proved = true;
    assert_true(store_can_copy(s, from));
    check_ok(copy(s, from, &proved, &err), err);
    assert_false(proved); /* it has no SHA-256 to prove it by */
    LOCK_SCOPE(&service->lock);
    assert_int_equal(service->polls, 3);
    assert_string_equal(service->condition, "*");
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
        LOCK_SCOPE(&service->lock);
        assert_non_null(strstr(service->source, "/cache/a.b/vm/parts/1?" SAS));
    }
    BEGIN(0, "success", key_env);
    check_ok(copy(s, from, &proved, &err), err);
    LOCK_SCOPE(&service->lock);
    assert_null(strchr(service->source, '?'));
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
