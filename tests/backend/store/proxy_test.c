/* SPDX-License-Identifier: MIT
 * What goes past a proxy: this host, and the machine's metadata endpoint. */
#include "tests/support/check.h"

#include "backend/store/http.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answers every connection with 204 and counts them, until its stop pipe closes. */
struct responder {
    int listener, stop[2];
    unsigned port;
    atomic_uint asked;
    pthread_t thread;
};

static void *respond(void *context)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    struct responder *r = context;
    struct pollfd p[2] = {{.fd = r->listener, .events = POLLIN}, {.fd = r->stop[0]}};
    char request[4096];
    while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
        int fd = accept(r->listener, NULL, NULL);
        if (fd < 0)
            continue;
        r->asked++;
        if (recv(fd, request, sizeof request, 0) > 0)
            send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static int set_up(void **state)
{
    static struct responder r;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    memset(&r, 0, sizeof r);
    r.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(r.listener, (struct sockaddr *)&at, length) != 0 || listen(r.listener, 8) != 0 ||
        getsockname(r.listener, (struct sockaddr *)&at, &length) != 0 || pipe(r.stop) != 0)
        return -1;
    r.port = ntohs(at.sin_port);
    *state = &r;
    return pthread_create(&r.thread, NULL, respond, &r);
}

static int tear_down(void **state)
{
    struct responder *r = *state;
    close(r->stop[1]);
    pthread_join(r->thread, NULL);
    close(r->stop[0]);
    close(r->listener);
    return unsetenv("http_proxy");
}

/* The answer's status, 0 when there was none. */
static unsigned get(const char *url, bool direct)
{
    struct http_config config = {
        .world = world_real(), .plain = true, .direct = direct, .connect_ms = 300};
    struct http *h AUTO_HTTP = NULL;
    struct http_request request = {.method = "GET", .url = url, .body_max = 4096};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    check_ok(http_make(&config, &h, &err), err);
    return http_call(h, &request, &answer, &err) ? answer.status : 0;
}

static void loopback_is_reached_past_the_proxy(void **state)
{
    struct responder *r = *state;
    char url[64];
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0); /* nobody is there */
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", r->port);
    assert_int_equal(get(url, false), 204);
}

static void other_hosts_are_reached_through_the_proxy(void **state)
{
    struct responder *r = *state;
    char proxy[64];
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", r->port);
    assert_int_equal(setenv("http_proxy", proxy, 1), 0);
    assert_int_equal(get("http://store.invalid/", false), 204);
    assert_int_equal(r->asked, 1);
}

static void a_direct_client_never_asks_the_proxy(void **state)
{
    struct responder *r = *state;
    char proxy[64];
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", r->port);
    assert_int_equal(setenv("http_proxy", proxy, 1), 0);
    assert_int_not_equal(get("http://store.invalid/", true), 204);
    assert_int_equal(r->asked, 0);
}

/* libcurl would show it whole. */
static void a_proxys_password_is_in_no_error(void **state)
{
    static const char *const proxies[] = {"http://user:Secret1@proxy.invalid:no-port",
                                          "what://user:Secret1@proxy.invalid",
                                          "http://user:Secret1@proxy.invalid",
                                          "http://user:Secret1@127.0.0.1:1", "user:Secret1@[::bad"};
    struct http_config config = {.world = world_real(), .plain = true, .connect_ms = 300};
    (void)state;
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++) {
        struct http *h AUTO_HTTP = NULL;
        struct http_request request = {
            .method = "GET", .url = "http://store.invalid/", .body_max = 4096};
        struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
        struct err err = ERR_NONE;
        assert_int_equal(setenv("http_proxy", proxies[i], 1), 0);
        check_ok(http_make(&config, &h, &err), err);
        check_fails(http_call(h, &request, &answer, &err), err, ERR_TRANSIENT);
        assert_null(strstr(err.text, "Secret1"));
    }
    unsetenv("http_proxy");
}

static void where_plain_http_may_not_go_is_said_before_it_is_tried(void **state)
{
    (void)state;
    struct http_config config = {.world = world_real()};
    struct http *h AUTO_HTTP = NULL;
    struct err err = ERR_NONE;
    check_ok(http_make(&config, &h, &err), err);
    check_fails(http_check(h, "http://store.invalid/box", &err), err, ERR_INVALID);
    check_says(err, "plain=yes");
    check_ok(http_check(h, "https://store.invalid/box", &err), err);
    check_ok(http_check(h, "http://127.0.0.2:81/box", &err), err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loopback_is_reached_past_the_proxy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_hosts_are_reached_through_the_proxy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_direct_client_never_asks_the_proxy, set_up, tear_down),
        cmocka_unit_test(a_proxys_password_is_in_no_error),
        cmocka_unit_test(where_plain_http_may_not_go_is_said_before_it_is_tried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
