/* SPDX-License-Identifier: MIT */
#include "backend/store/http_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

#define RETRY_AFTER_MAX_S 3600
#define TIME_MS_MAX       253402300799999 /* 9999-12-31T23:59:59.999Z: dates have four digits */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* --- requests and answers --- */

void http_request_release(struct http_request *r)
{
    if (r->headers.data != NULL)
        explicit_bzero(r->headers.data, r->headers.capacity);
    buf_release(&r->headers);
}

void http_request_header(struct http_request *r, const char *name, const char *format, ...)
{
    va_list args;
    char value[8192];

    va_start(args, format);
    int length = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    assert(length >= 0 && (size_t)length < sizeof value && strpbrk(value, "\r\n") == NULL);
    buf_put(&r->headers, name, strlen(name));
    /* libcurl sends a header without a value only when it is written so. */
    buf_put(&r->headers, value[0] != '\0' ? ": " : ";", value[0] != '\0' ? 2 : 1);
    buf_put(&r->headers, value, (size_t)length + 1);
    explicit_bzero(value, sizeof value);
}

void http_answer_release(struct http_answer *a)
{
    buf_release(&a->body);
    buf_release(&a->headers);
}

const char *http_answer_header(const struct http_answer *a, const char *name)
{
    const char *found = NULL;
    size_t length = strlen(name);
    for (size_t at = 0; at < a->headers.length;) {
        const char *line = (const char *)a->headers.data + at;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':')
            found = line + length + 1 + strspn(line + length + 1, " \t");
        at += strlen(line) + 1;
    }
    return found;
}

void http_escape(struct buf *out, const char *text, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '.' || c == '_' || c == '~' || c == '-' || (c == '/' && keep_slash);
        if (plain) {
            buf_put_u8(out, c);
        } else {
            buf_put_u8(out, '%');
            buf_put_u8(out, (uint8_t)digits[c >> 4]);
            buf_put_u8(out, (uint8_t)digits[c & 15]);
        }
    }
}

/* --- time --- */

int64_t http_skew_ms(struct http *h)
{
    return atomic_load(&h->skew_ms);
}

uint64_t http_now_ms(struct http *h)
{
    struct world *w = h->config.world;
    int64_t now_ms = (int64_t)(w->ops->realtime_ns(w) / 1000000) + http_skew_ms(h);
    return now_ms < 0 ? 0 : (uint64_t)(now_ms < TIME_MS_MAX ? now_ms : TIME_MS_MAX);
}

uint32_t http_retry_after_ms(struct http *h, const struct http_answer *a)
{
    const char *value = http_answer_header(a, "Retry-After");
    if (value == NULL)
        return 0;
    char *end;
    long long seconds = strtoll(value, &end, 10);
    if (end == value || *end != '\0') {
        time_t date = curl_getdate(value, NULL);
        seconds = date < 0 ? 0 : (long long)date - (long long)(http_now_ms(h) / 1000);
    }
    if (seconds <= 0)
        return 0;
    return (uint32_t)(seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) * 1000;
}

/* --- where to --- */

static void cleanup_url(CURLU **u)
{
    curl_url_cleanup(*u);
}

static void cleanup_part(char **part)
{
    curl_free(*part);
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Checks where the request goes, and writes what may be shown of it. */
static bool check_place(struct http *h, const char *method, const char *url,
                        char shown[HTTP_SHOWN_MAX], bool *loopback, struct err *err)
{
    CURLU *u CLEANUP(cleanup_url) = curl_url();
    char *scheme CLEANUP(cleanup_part) = NULL, *host CLEANUP(cleanup_part) = NULL;
    char *port CLEANUP(cleanup_part) = NULL, *path CLEANUP(cleanup_part) = NULL;

    if (u == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_PATH, &path, 0) != CURLUE_OK)
        return err_set(err, ERR_INVALID, "a store's endpoint is no URL: write https://HOST[:PORT]");
    (void)curl_url_get(u, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT); /* may have none */
    snprintf(shown, HTTP_SHOWN_MAX, "%s %s://%s%s%s%.256s", method, scheme, host,
             port != NULL ? ":" : "", port != NULL ? port : "", path);
    *loopback = is_loopback(host);
    if (strcmp(scheme, "https") == 0)
        return true;
    if (strcmp(scheme, "http") != 0)
        return err_set(err, ERR_INVALID, "%s: only https and http are spoken", shown);
    return *loopback || h->config.plain ||
           err_set(err, ERR_INVALID,
                   "%s: plain http goes to this host only, as others on the way could read and "
                   "change it: use https, or add plain=yes to the store's URL",
                   shown);
}

/* --- calls --- */

static void wait_until_done(struct http *h, struct http_exchange *x)
{
    LOCK_SCOPE(&h->lock);
    x->next = h->queue;
    h->queue = x;
    curl_multi_wakeup(h->multi);
    while (!x->done)
        pthread_cond_wait(&x->finished, &h->lock);
}

bool http_call(struct http *h, const struct http_request *request, struct http_answer *answer,
               struct err *err)
{
    struct http_exchange x = {.http = h, .request = request, .answer = answer};
    if (!check_place(h, request->method, request->url, x.shown, &x.direct, err))
        return false;
    x.direct |= h->config.direct;
    if (!http_exchange_prepare(&x, err))
        return false;
    pthread_cond_init(&x.finished, NULL);
    wait_until_done(h, &x);
    pthread_cond_destroy(&x.finished);
    http_exchange_release(&x);
    if (x.err.kind == ERR_OK)
        return true;
    if (err != NULL)
        *err = x.err;
    return false;
}

bool http_check(struct http *h, const char *url, struct err *err)
{
    char shown[HTTP_SHOWN_MAX];
    bool loopback;
    return check_place(h, "requests to", url, shown, &loopback, err);
}

void http_cancel(struct http *h, bool cancelled)
{
    LOCK_SCOPE(&h->lock);
    h->cancelled = cancelled;
    curl_multi_wakeup(h->multi);
}

/* --- life --- */

static bool check_ca_file(const struct http_config *c, struct err *err)
{
    if (c->ca_file == NULL || access(c->ca_file, R_OK) == 0)
        return true;
    return err_set(err, ERR_INVALID,
                   "the CA file %s cannot be read: ca= in a store's URL names a PEM file on this "
                   "host",
                   c->ca_file);
}

static void fill_defaults(struct http_config *c)
{
    const struct {
        uint32_t *value, fallback;
    } rows[] = {
        {&c->connect_ms, HTTP_CONNECT_MS_DEFAULT},
        {&c->first_byte_ms, HTTP_FIRST_BYTE_MS_DEFAULT},
        {&c->stall_ms, HTTP_STALL_MS_DEFAULT},
        {&c->connections_max, HTTP_CONNECTIONS_DEFAULT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (*rows[i].value == 0)
            *rows[i].value = rows[i].fallback;
}

bool http_make(const struct http_config *config, struct http **out, struct err *err)
{
    if (!check_ca_file(config, err))
        return false;
    pthread_once(&curl_once, curl_start);
    struct http *h AUTO_HTTP = calloc(1, sizeof *h);
    if (h == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    h->config = *config;
    h->config.ca_file = NULL;
    fill_defaults(&h->config);
    pthread_mutex_init(&h->lock, NULL);
    h->multi = curl_multi_init();
    if (config->ca_file != NULL)
        h->config.ca_file = strdup(config->ca_file);
    if (h->multi == NULL || (config->ca_file != NULL && h->config.ca_file == NULL))
        return err_set(err, ERR_FULL, "out of memory");
    long connections = (long)h->config.connections_max;
    curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, connections);
    int rc = pthread_create(&h->thread, NULL, http_loop, h);
    if (rc != 0)
        return err_errno(err, rc, "cannot start a thread for transfers");
    h->running = true;
    *out = TAKE(h);
    return true;
}

void http_release(struct http **http)
{
    struct http *h = *http;
    if (h == NULL)
        return;
    *http = NULL;
    if (h->running) {
        pthread_mutex_lock(&h->lock);
        assert(h->queue == NULL);
        h->ending = true;
        curl_multi_wakeup(h->multi);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->thread, NULL);
    }
    curl_multi_cleanup(h->multi);
    pthread_mutex_destroy(&h->lock);
    free((char *)h->config.ca_file);
    free(h);
}
