/* SPDX-License-Identifier: MIT
 * Name servers that do not answer: this program's own getaddrinfo stands in libcurl's way. */
#include "backend/store/http.h"

#include <netdb.h>
#include <stdio.h>

#include "tests/support/check.h"
#include "tests/support/http_store.h"

#define DEAF_HOST "deaf.test"
#define LONG_MS   3600000u /* a bound that no test reaches */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned asked, answered;
    bool answers;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

/* Waits until the test is over with it. Only names come here: libcurl reads addresses itself. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    (void)name, (void)service, (void)hints, (void)out;
    LOCK_SCOPE(&resolver.lock);
    resolver.asked++;
    pthread_cond_broadcast(&resolver.change);
    while (!resolver.answers)
        pthread_cond_wait(&resolver.change, &resolver.lock);
    resolver.answered++;
    pthread_cond_broadcast(&resolver.change);
    return EAI_AGAIN;
}

static void resolver_await_asked(unsigned count)
{
    LOCK_SCOPE(&resolver.lock);
    while (resolver.asked < count)
        pthread_cond_wait(&resolver.change, &resolver.lock);
}

static void resolver_answer(void)
{
    LOCK_SCOPE(&resolver.lock);
    resolver.answers = true;
    pthread_cond_broadcast(&resolver.change);
    while (resolver.answered < resolver.asked)
        pthread_cond_wait(&resolver.change, &resolver.lock);
    resolver.answers = false;
}

struct caller {
    struct http *http;
    pthread_t thread;
    struct err err;
};

static bool get(struct http *h, const char *url, struct err *err)
{
    struct http_request request = {
        .method = "GET", .url = url, .headers = BUF_NONE, .body_max = 65536};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    return http_call(h, &request, &answer, err);
}

static void *ask_deaf(void *context)
{
    struct caller *c = context;
    (void)!get(c->http, "http://" DEAF_HOST "/", &c->err); /* `err` says it */
    return NULL;
}

static void make(struct http **out, uint32_t connect_ms)
{
    struct http_config config = {
        .world = world_real(), .plain = true, .direct = true, .connect_ms = connect_ms};
    struct err err = ERR_NONE;
    check_ok(http_make(&config, out, &err), err);
}

/* An unmount must not wait for glibc's patience. */
static void a_cancel_does_not_wait_for_a_name_server(void **state)
{
    struct caller c = {.err = ERR_NONE};
    (void)state;
    make(&c.http, LONG_MS);
    assert_int_equal(pthread_create(&c.thread, NULL, ask_deaf, &c), 0);
    resolver_await_asked(resolver.answered + 1);
    http_cancel(c.http, true);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(c.err.kind, ERR_CANCELLED);
    http_release(&c.http);
    resolver_answer();
}

static void other_calls_go_on_while_a_name_server_is_out_of_patience(void **state)
{
    struct http_store *server = http_store_start(&(struct http_store_config){.dialect = HTTP_S3});
    struct caller c = {.err = ERR_NONE};
    struct err err = ERR_NONE;
    char url[64];
    (void)state;
    assert_non_null(server);
    make(&c.http, 50);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/b", http_store_port(server));
    check_fails(get(c.http, "http://" DEAF_HOST "/", &err), err, ERR_TRANSIENT);
    err = ERR_NONE;
    check_ok(get(c.http, url, &err), err);
    http_release(&c.http);
    http_store_stop(&server);
    resolver_answer();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cancel_does_not_wait_for_a_name_server),
        cmocka_unit_test(other_calls_go_on_while_a_name_server_is_out_of_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
