/* SPDX-License-Identifier: MIT */
#include "backend/store/http.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/clock_world.h"
#include "tests/support/http_store.h"

#define SECRET      "SECRET-that-nobody-may-see"
#define CALLERS     8u
#define SHORT_MS    50u
#define MINUTE_NS   60000000000
#define BODY_BYTES  1000u
#define NO_SUCH_END 3600000u /* a bound that no test reaches */

struct fixture {
    struct clock_world world;
    struct http_store *server;
    struct http *http;
    uint8_t body[BODY_BYTES];
};

/* A client whose bounds are out of reach, but those that a test gives. */
static void make_http(struct fixture *f, struct http_config config)
{
    struct err err = ERR_NONE;
    config.world = &f->world.head;
    if (config.connect_ms == 0)
        config.connect_ms = NO_SUCH_END;
    if (config.first_byte_ms == 0)
        config.first_byte_ms = NO_SUCH_END;
    if (config.stall_ms == 0)
        config.stall_ms = NO_SUCH_END;
    http_release(&f->http);
    check_ok(http_make(&config, &f->http, &err), err);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    clock_world_init(&f->world);
    f->server = http_store_start(&(struct http_store_config){.dialect = HTTP_S3, .record = true});
    for (size_t i = 0; i < sizeof f->body; i++)
        f->body[i] = (uint8_t)(i * 7);
    make_http(f, (struct http_config){.connect_ms = 0});
    *state = f;
    return f->server != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_release(&f->http);
    http_store_stop(&f->server);
    free(f);
    return 0;
}

static const char *url_of(const struct fixture *f, const char *path)
{
    static _Thread_local char url[200];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", http_store_port(f->server), path);
    return url;
}

static bool call(struct fixture *f, const char *method, const char *path, struct span body,
                 struct http_answer *answer, struct err *err)
{
    struct http_request request AUTO_HTTP_REQUEST = {.method = method,
                                                     .url = url_of(f, path),
                                                     .headers = BUF_NONE,
                                                     .body = body,
                                                     .body_max = 1u << 20};
    http_answer_release(answer);
    *answer = HTTP_ANSWER_NONE;
    return http_call(f->http, &request, answer, err);
}

/* A bucket with one object, "/b/k". */
static void put_object(struct fixture *f)
{
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    check_ok(call(f, "PUT", "/b", span_of(NULL, 0), &answer, &err), err);
    check_ok(call(f, "PUT", "/b/k", span_of(f->body, BODY_BYTES), &answer, &err), err);
    assert_int_equal(answer.status, 200);
}

static bool get(struct fixture *f, struct http_answer *answer, struct err *err)
{
    return call(f, "GET", "/b/k", span_of(NULL, 0), answer, err);
}

static void fault(struct fixture *f, enum http_fault which, struct http_rule rule)
{
    rule.next = 1;
    http_store_fault(f->server, which, &rule);
}

/* --- connections --- */

static void one_connection_serves_calls_one_after_another(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    put_object(f);
    for (int i = 0; i < 20; i++)
        check_ok(get(f, &answer, &err), err);
    assert_true(span_equal(buf_span(&answer.body), span_of(f->body, BODY_BYTES)));
    assert_int_equal(http_store_requests(f->server, "GET"), 20);
    assert_int_equal(http_store_connections(f->server), 1);
}

struct caller {
    struct fixture *fixture;
    pthread_t thread;
    struct err err;
    unsigned status;
};

static void *get_once(void *context)
{
    struct caller *c = context;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    if (get(c->fixture, &answer, &c->err))
        c->status = answer.status;
    return NULL;
}

static void start_callers(struct fixture *f, struct caller callers[CALLERS])
{
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.fixture = f};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, get_once, &callers[i]), 0);
    }
}

static void end_callers(struct caller callers[CALLERS])
{
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
}

/* The server answers none of them before all are there. */
static void calls_of_several_threads_are_under_way_at_once(void **state)
{
    struct fixture *f = *state;
    struct caller callers[CALLERS];
    put_object(f);
    http_store_gather(f->server, CALLERS);
    start_callers(f, callers);
    end_callers(callers);
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(callers[i].status, 200);
    assert_int_equal(http_store_most_at_once(f->server), CALLERS);
}

static void more_calls_than_connections_wait_for_one(void **state)
{
    struct fixture *f = *state;
    struct caller callers[CALLERS];
    put_object(f);
    make_http(f, (struct http_config){.connections_max = 2});
    http_store_gather(f->server, 2);
    start_callers(f, callers);
    end_callers(callers);
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(callers[i].status, 200);
    assert_int_equal(http_store_most_at_once(f->server), 2);
    assert_int_equal(http_store_connections(f->server), 3); /* with the one that put */
}

static void an_empty_body_is_sent_with_its_length(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct http_record record AUTO_HTTP_RECORD = {.target = NULL};
    struct err err = ERR_NONE;
    check_ok(call(f, "PUT", "/b", span_of(NULL, 0), &answer, &err), err);
    assert_true(http_store_record(f->server, 0, &record));
    assert_non_null(strstr(record.headers, "content-length: 0\n"));
}

/* --- what ends a call --- */

static int listen_somewhere(int backlog, uint16_t *port)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof where;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&where, sizeof where), 0);
    assert_int_equal(listen(listener, backlog), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&where, &length), 0);
    *port = ntohs(where.sin_port);
    return listener;
}

/* An address of loopback where no connection is ever taken: its queue of one is full. */
struct deaf {
    int listener, waiting[3];
    uint16_t port;
};

static void deaf_make(struct deaf *d)
{
    d->listener = listen_somewhere(0, &d->port);
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons(d->port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 3; i++) {
        d->waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(d->waiting[i], (struct sockaddr *)&where, sizeof where);
    }
}

static void deaf_close(struct deaf *d)
{
    for (int i = 0; i < 3; i++)
        close(d->waiting[i]);
    close(d->listener);
}

static void a_connection_that_is_not_taken_ends_by_its_bound(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct deaf deaf CLEANUP(deaf_close);
    struct err err;
    char url[80];
    deaf_make(&deaf);
    make_http(f, (struct http_config){.connect_ms = SHORT_MS});
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", deaf.port);
    struct http_request request = {.method = "GET", .url = url, .headers = BUF_NONE};
    check_fails(http_call(f->http, &request, &answer, &err), err, ERR_TRANSIENT);
    check_says(err, url);
}

static void an_answer_that_does_not_begin_ends_by_its_bound(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    make_http(f, (struct http_config){.first_byte_ms = SHORT_MS});
    fault(f, HTTP_STALL, (struct http_rule){.method = "GET"});
    check_fails(get(f, &answer, &err), err, ERR_TRANSIENT);
    check_says(err, "no answer");
    check_ok(get(f, &answer, &err), err);
}

static void an_answer_that_stops_ends_by_its_bound(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    make_http(f, (struct http_config){.stall_ms = SHORT_MS});
    fault(f, HTTP_STALL_DOWN, (struct http_rule){.method = "GET"});
    check_fails(get(f, &answer, &err), err, ERR_TRANSIENT);
    check_says(err, "nothing more came");
    check_ok(get(f, &answer, &err), err);
}

/* However small its pace, it never stops. */
static void an_answer_that_creeps_ends_in_the_end(void **state)
{
    struct fixture *f = *state;
    struct caller waiting = {.fixture = f};
    put_object(f);
    fault(f, HTTP_TRICKLE, (struct http_rule){.method = "GET", .ms = NO_SUCH_END});
    assert_int_equal(pthread_create(&waiting.thread, NULL, get_once, &waiting), 0);
    while (http_store_faulted(f->server, HTTP_TRICKLE) == 0)
        sched_yield();
    atomic_store(&f->world.passed_ns, 3 * MINUTE_NS);
    assert_int_equal(pthread_join(waiting.thread, NULL), 0);
    assert_int_equal(waiting.err.kind, ERR_TRANSIENT);
    check_says(waiting.err, "next to nothing came");
}

static void an_answer_cut_in_its_middle_is_no_answer(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    fault(f, HTTP_CUT_DOWN, (struct http_rule){.method = "GET"});
    check_fails(get(f, &answer, &err), err, ERR_TRANSIENT);
    check_ok(get(f, &answer, &err), err);
    assert_true(span_equal(buf_span(&answer.body), span_of(f->body, BODY_BYTES)));
}

static void an_answer_byte_by_byte_is_as_good(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    put_object(f);
    fault(f, HTTP_TRICKLE, (struct http_rule){.method = "GET", .ms = 1});
    check_ok(get(f, &answer, &err), err);
    assert_true(span_equal(buf_span(&answer.body), span_of(f->body, BODY_BYTES)));
    assert_int_equal(http_store_faulted(f->server, HTTP_TRICKLE), 1);
}

static void a_body_cut_on_its_way_up_is_no_answer(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    fault(f, HTTP_CUT_UP, (struct http_rule){.method = "PUT"});
    check_fails(call(f, "PUT", "/b/other", span_of(f->body, BODY_BYTES), &answer, &err), err,
                ERR_TRANSIENT);
    assert_int_equal(http_store_objects(f->server), 1);
}

/* The connection had served before, so libcurl might take it for one that was dead all the time. */
static void lose_one_put(struct fixture *f, const char *path, struct span body)
{
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    uint64_t puts = http_store_requests(f->server, "PUT");
    fault(f, HTTP_LOSE_REPLY, (struct http_rule){.method = "PUT"});
    check_fails(call(f, "PUT", path, body, &answer, &err), err, ERR_TRANSIENT);
    check_says(err, "before an answer came");
    assert_int_equal(http_store_requests(f->server, "PUT"), puts + 1);
}

static void a_put_without_an_answer_is_not_repeated_behind_our_back(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    put_object(f);
    lose_one_put(f, "/b/other", span_of(f->body, BODY_BYTES));
    check_ok(get(f, &answer, &err), err); /* a connection that has served, again */
    lose_one_put(f, "/b/empty", span_of(NULL, 0));
    assert_int_equal(http_store_objects(f->server), 3);
}

static void await_requests(struct fixture *f, uint64_t count)
{
    while (http_store_requests(f->server, "GET") < count)
        sched_yield();
}

static void cancel_ends_a_call_that_waits_and_those_that_follow(void **state)
{
    struct fixture *f = *state;
    struct caller waiting = {.fixture = f};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    fault(f, HTTP_STALL, (struct http_rule){.method = "GET"});
    assert_int_equal(pthread_create(&waiting.thread, NULL, get_once, &waiting), 0);
    await_requests(f, 1);
    http_cancel(f->http, true);
    assert_int_equal(pthread_join(waiting.thread, NULL), 0);
    assert_int_equal(waiting.err.kind, ERR_CANCELLED);
    check_fails(get(f, &answer, &err), err, ERR_CANCELLED);
    http_cancel(f->http, false);
    check_ok(get(f, &answer, &err), err);
}

/* --- answers without measure --- */

static void an_answer_longer_than_its_room_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err;
    uint8_t room[BODY_BYTES - 1];
    put_object(f);
    struct http_request requests[] = {
        {.method = "GET", .body_max = BODY_BYTES - 1},
        {.method = "GET", .into = mspan_of(room, sizeof room)},
    };
    for (size_t i = 0; i < 2; i++) {
        struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
        requests[i].url = url_of(f, "/b/k");
        check_fails(http_call(f->http, &requests[i], &answer, &err), err, ERR_CORRUPT);
        check_says(err, "longer");
    }
}

static void an_answer_without_end_is_refused(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    fault(f, HTTP_ENDLESS_BODY, (struct http_rule){.method = "GET"});
    check_fails(get(f, &answer, &err), err, ERR_CORRUPT);
    fault(f, HTTP_ENDLESS_HEADERS, (struct http_rule){.method = "GET"});
    check_fails(get(f, &answer, &err), err, ERR_CORRUPT);
    assert_int_equal(http_store_faulted(f->server, HTTP_ENDLESS_HEADERS), 1);
}

static void a_refusal_without_end_is_cut(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    put_object(f);
    fault(f, HTTP_ENDLESS_BODY, (struct http_rule){.method = "GET"});
    check_ok(call(f, "GET", "/b/missing", span_of(NULL, 0), &answer, &err), err);
    assert_int_equal(answer.status, 404);
    assert_int_equal(answer.body.length, HTTP_REFUSAL_BYTES_MAX);
    check_ok(get(f, &answer, &err), err);
}

/* Takes one connection and says "go on" until nobody listens any more. */
static void *say_go_on(void *context)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    int taken = accept(*(int *)context, NULL, NULL);
    while (send(taken, text, sizeof text - 1, MSG_NOSIGNAL) > 0)
        ;
    close(taken);
    return NULL;
}

static void interim_answers_without_end_are_refused(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    uint16_t port;
    int listener = listen_somewhere(8, &port);
    pthread_t server;
    struct err err;
    char url[80];
    assert_int_equal(pthread_create(&server, NULL, say_go_on, &listener), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    struct http_request request = {.method = "GET", .url = url, .headers = BUF_NONE};
    check_fails(http_call(f->http, &request, &answer, &err), err, ERR_CORRUPT);
    assert_int_equal(pthread_join(server, NULL), 0);
    close(listener);
}

/* --- where requests go --- */

static void a_redirect_is_an_answer_and_nothing_goes_there(void **state)
{
    static const unsigned statuses[] = {301, 302, 307, 308};
    struct fixture *f = *state;
    struct http_store *other =
        http_store_start(&(struct http_store_config){.dialect = HTTP_S3, .record = true});
    put_object(f);
    for (size_t i = 0; i < 4; i++) {
        struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
        struct err err;
        fault(f, HTTP_REDIRECT,
              (struct http_rule){.status = statuses[i], .port = http_store_port(other)});
        check_ok(get(f, &answer, &err), err);
        assert_int_equal(answer.status, statuses[i]);
        assert_non_null(http_answer_header(&answer, "Location"));
    }
    assert_int_equal(http_store_connections(other), 0);
    http_store_stop(&other);
}

static void plain_http_goes_to_loopback_only(void **state)
{
    static const char *const refused[] = {
        "http://192.0.2.1/", "http://127.0.0.1.example.invalid/", "http://localhost.invalid/",
        "http://[::2]/",     "http://user:password@127.0.0.1/",   "ftp://127.0.0.1/",
    };
    struct fixture *f = *state;
    struct err err;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
        struct http_request request = {.method = "GET", .url = refused[i], .headers = BUF_NONE};
        check_fails(http_call(f->http, &request, &answer, &err), err, ERR_INVALID);
    }
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct http_request request = {.method = "GET", .url = refused[0], .headers = BUF_NONE};
    check_fails(http_call(f->http, &request, &answer, &err), err, ERR_INVALID);
    check_says(err, "plain=yes");
}

/* --- time --- */

static uint32_t retry_after(struct fixture *f, const char *value)
{
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    fault(f, HTTP_REFUSE, (struct http_rule){.status = 503, .retry_after = value});
    check_ok(get(f, &answer, &err), err);
    assert_int_equal(answer.status, 503);
    return http_retry_after_ms(f->http, &answer);
}

static void retry_after_is_read_as_seconds(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(retry_after(f, "7"), 7000);
    assert_int_equal(retry_after(f, "0"), 0);
    assert_int_equal(retry_after(f, "-5"), 0);
    assert_int_equal(retry_after(f, "soon"), 0);
    assert_int_equal(retry_after(f, "99999999999999999999"), 3600000);
    assert_int_equal(retry_after(f, NULL), 0);
}

static void http_date(int64_t seconds, char out[40])
{
    time_t t = (time_t)seconds;
    struct tm utc;
    gmtime_r(&t, &utc);
    strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &utc);
}

/* Its date is one of the store's clock, which is 20 minutes ahead of ours. */
static void retry_after_is_read_as_a_date(void **state)
{
    struct fixture *f = *state;
    int64_t now = (int64_t)time(NULL) + 1200;
    char date[40];
    http_store_skew_date(f->server, 1200);
    http_date(now + 600, date);
    uint32_t ms = retry_after(f, date);
    assert_in_range(ms, 300000, 602000);
    http_date(now - 600, date);
    assert_int_equal(retry_after(f, date), 0);
}

static void check_time(struct fixture *f, int64_t skew_s)
{
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err;
    http_store_skew_date(f->server, skew_s);
    check_ok(get(f, &answer, &err), err);
    int64_t off_s = (int64_t)(http_now_ms(f->http) / 1000) - (int64_t)time(NULL) - skew_s;
    if (off_s < -60 || off_s > 60)
        fail_msg("the store's clock was taken to be %lld s off", (long long)off_s);
}

static void the_other_sides_clock_is_learned(void **state)
{
    struct fixture *f = *state;
    check_time(f, 1200);
    check_time(f, -1200);
    atomic_store(&f->world.jumped_ns, -60 * MINUTE_NS);
    check_time(f, 0);
    atomic_store(&f->world.jumped_ns, 10 * 365 * 24 * 60 * MINUTE_NS);
    check_time(f, 1200);
}

/* --- what is not said --- */

/* What is signed with them must fit. */
static void no_date_leads_out_of_the_calendar(void **state)
{
    struct fixture *f = *state;
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    const int64_t last_s = 253402300799;
    int64_t now_s = (int64_t)time(NULL);
    struct err err = ERR_NONE;
    put_object(f);
    http_store_skew_date(f->server, last_s - 3600 - now_s);
    check_ok(get(f, &answer, &err), err);
    atomic_store(&f->world.jumped_ns, 180 * MINUTE_NS);
    assert_true(http_now_ms(f->http) == (uint64_t)last_s * 1000 + 999);
    atomic_store(&f->world.jumped_ns, 0);
    http_store_skew_date(f->server, 3600 - now_s);
    check_ok(get(f, &answer, &err), err);
    atomic_store(&f->world.jumped_ns, -180 * MINUTE_NS);
    assert_true(http_now_ms(f->http) == 0);
}

static void no_error_text_holds_a_query_or_a_header(void **state)
{
    static const enum http_fault faults[] = {HTTP_LOSE_REPLY,   HTTP_CUT_DOWN, HTTP_ENDLESS_HEADERS,
                                             HTTP_ENDLESS_BODY, HTTP_STALL,    HTTP_STALL_DOWN};
    struct fixture *f = *state;
    put_object(f);
    make_http(f, (struct http_config){.first_byte_ms = SHORT_MS, .stall_ms = SHORT_MS});
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
        struct http_request request AUTO_HTTP_REQUEST = {.method = "GET",
                                                         .url = url_of(f, "/b/k?sig=" SECRET),
                                                         .headers = BUF_NONE,
                                                         .body_max = BODY_BYTES};
        struct err err = ERR_NONE;
        http_request_header(&request, "Authorization", "%s", SECRET);
        http_store_fault(f->server, faults[i], &(struct http_rule){.per_mille = 1000});
        assert_false(http_call(f->http, &request, &answer, &err));
        http_store_fault(f->server, faults[i], NULL);
        assert_non_null(strstr(err.text, "/b/k"));
        assert_null(strstr(err.text, SECRET));
    }
    assert_true(http_store_was_told(f->server, "sig=" SECRET));
    assert_true(http_store_was_told(f->server, "authorization: " SECRET));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(one_connection_serves_calls_one_after_another),
        EACH(calls_of_several_threads_are_under_way_at_once),
        EACH(more_calls_than_connections_wait_for_one),
        EACH(an_empty_body_is_sent_with_its_length),
        EACH(a_connection_that_is_not_taken_ends_by_its_bound),
        EACH(an_answer_that_does_not_begin_ends_by_its_bound),
        EACH(an_answer_that_stops_ends_by_its_bound),
        EACH(an_answer_that_creeps_ends_in_the_end),
        EACH(an_answer_cut_in_its_middle_is_no_answer),
        EACH(an_answer_byte_by_byte_is_as_good),
        EACH(a_body_cut_on_its_way_up_is_no_answer),
        EACH(a_put_without_an_answer_is_not_repeated_behind_our_back),
        EACH(cancel_ends_a_call_that_waits_and_those_that_follow),
        EACH(an_answer_longer_than_its_room_is_refused),
        EACH(an_answer_without_end_is_refused),
        EACH(a_refusal_without_end_is_cut),
        EACH(interim_answers_without_end_are_refused),
        EACH(a_redirect_is_an_answer_and_nothing_goes_there),
        EACH(plain_http_goes_to_loopback_only),
        EACH(retry_after_is_read_as_seconds),
        EACH(retry_after_is_read_as_a_date),
        EACH(the_other_sides_clock_is_learned),
        EACH(no_date_leads_out_of_the_calendar),
        EACH(no_error_text_holds_a_query_or_a_header),
    };
#undef EACH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
