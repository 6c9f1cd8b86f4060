/* SPDX-License-Identifier: MIT
 * Byte 0: the method (GET into a buffer, GET, HEAD, PUT); the rest is what a server sends, over a
 * connection of loopback that it then closes. */
#include "backend/store/http.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_MAX 2048u

static struct http *client;
static char url[64];
static int listener;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct buf sends; /* guarded by it: a call may end before all was sent */

/* The request's head is enough: bodies here fit into the socket. */
static void serve_one(int fd)
{
    char request[8192];
    struct buf answer AUTO_BUF = BUF_NONE;
    size_t used = 0;
    for (ssize_t n = 1; n > 0 && used < sizeof request;) {
        n = recv(fd, request + used, sizeof request - used, 0);
        used += n > 0 ? (size_t)n : 0;
        if (memmem(request, used, "\r\n\r\n", 4) != NULL)
            break;
    }
    pthread_mutex_lock(&lock);
    buf_put(&answer, sends.data, sends.length);
    pthread_mutex_unlock(&lock);
    for (size_t at = 0; at < answer.length;) {
        ssize_t n = send(fd, answer.data + at, answer.length - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    while (recv(fd, request, sizeof request, 0) > 0) {
    }
    close(fd);
}

static void *serve(void *unused)
{
    (void)unused;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            serve_one(fd);
    }
    return NULL;
}

static void begin(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    struct http_config config = {.world = world_real(), .plain = true, .stall_ms = 3000};
    struct err err = ERR_NONE;
    pthread_t thread;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 16) == 0 &&
               getsockname(listener, (struct sockaddr *)&a, &length) == 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/o", ntohs(a.sin_port));
    FUZZ_CHECK(pthread_create(&thread, NULL, serve, NULL) == 0 && pthread_detach(thread) == 0);
    FUZZ_CHECK(http_make(&config, &client, &err));
}

static void check_answer(const struct http_request *r, const struct http_answer *a)
{
    bool good = a->status >= 200 && a->status < 300;
    FUZZ_CHECK(a->status < 1000 && a->headers.length <= HTTP_HEADERS_BYTES_MAX + 1024);
    FUZZ_CHECK(a->body.length <= (good ? r->body_max : HTTP_REFUSAL_BYTES_MAX));
    FUZZ_CHECK(a->into_length <= r->into.length);
    const char *etag = http_answer_header(a, "ETag");
    FUZZ_CHECK(etag == NULL || strpbrk(etag, "\r\n") == NULL);
    FUZZ_CHECK(http_retry_after_ms(client, a) <= 3600u * 1000);
    FUZZ_CHECK(http_now_ms(client) <= 253402300799999ull);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"GET", "GET", "HEAD", "PUT"};
    static uint8_t room[512];
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err err = ERR_NONE;
    if (size < 1)
        return 0;
    if (client == NULL)
        begin();
    unsigned how = data[0] % 4;
    struct http_request request AUTO_HTTP_REQUEST = {.method = methods[how], .url = url};
    if (how == 0)
        request.into = mspan_of(room, sizeof room);
    else
        request.body_max = BODY_MAX;
    if (how == 3)
        request.body = span_of(room, 100);
    pthread_mutex_lock(&lock);
    buf_clear(&sends);
    buf_put(&sends, data + 1, size - 1);
    pthread_mutex_unlock(&lock);
    if (http_call(client, &request, &answer, &err))
        check_answer(&request, &answer);
    else
        FUZZ_CHECK(err.kind == ERR_TRANSIENT || err.kind == ERR_CORRUPT || err.kind == ERR_INVALID);
    return 0;
}
