/* SPDX-License-Identifier: MIT */
#include "backend/store/http_internal.h"

#include <stdio.h>

#define BUFFER_BYTES (512L << 10)
#define POLL_MS      500u /* how late a time-out may be noticed */
#define ANSWERS_MAX  16u  /* to one request, with interim ones (1xx) */
#define USER_AGENT   "farshore/" FARSHORE_VERSION

/* --- libcurl's callbacks; the client's thread --- */

static size_t give_body(char *out, size_t size, size_t count, void *context)
{
    struct http_exchange *x = context;
    size_t room = size * count, left = x->request->body.length - x->sent;
    size_t length = left < room ? left : room;
    if (length > 0)
        memcpy(out, x->request->body.data + x->sent, length);
    x->sent += length;
    return length;
}

/* One within a value would be one in whatever that is put into. */
static void without_line_ends(struct buf *headers, size_t start)
{
    for (size_t i = start; !headers->failed && i < headers->length; i++)
        if (headers->data[i] == '\r' || headers->data[i] == '\n')
            headers->data[i] = '?';
}

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    struct http_exchange *x = context;
    struct buf *headers = &x->answer->headers;
    size_t length = size * count, kept = length;

    x->answered = true;
    if (length > 5 && memcmp(line, "HTTP/", 5) == 0) { /* what was before was an interim answer */
        buf_clear(headers);
        x->too_long = ++x->answers > ANSWERS_MAX;
        return x->too_long ? 0 : length;
    }
    if (headers->length + length > HTTP_HEADERS_BYTES_MAX || memchr(line, '\0', length) != NULL) {
        x->too_long = true;
        return 0;
    }
    while (kept > 0 && (line[kept - 1] == '\r' || line[kept - 1] == '\n' || line[kept - 1] == ' '))
        kept--;
    if (kept > 0) {
        size_t start = headers->length;
        buf_put(headers, line, kept);
        buf_put_u8(headers, 0);
        without_line_ends(headers, start);
    }
    return length;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct http_exchange *x = context;
    const struct http_request *r = x->request;
    struct http_answer *a = x->answer;
    size_t length = size * count, room;
    long status = 0;

    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    bool good = status >= 200 && status < 300;
    if (good && r->into.data != NULL) {
        if (length > r->into.length - a->into_length) {
            x->too_long = true;
            return 0;
        }
        memcpy(r->into.data + a->into_length, data, length);
        a->into_length += length;
        return length;
    }
    room = (good ? r->body_max : HTTP_REFUSAL_BYTES_MAX) - a->body.length;
    if (good && length > room) {
        x->too_long = true;
        return 0;
    }
    buf_put(&a->body, data, length < room ? length : room);
    x->cut = length > room; /* what explains a failure need not be whole */
    return x->cut || a->body.failed ? 0 : length;
}

static uint64_t now_ns(const struct http_exchange *x)
{
    struct world *w = x->http->config.world;
    return w->ops->boottime_ns(w);
}

/* PUT and POST. A DELETE may be repeated by anyone. */
static bool changes(const struct http_request *r)
{
    return strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0;
}

/* Called again when a connection that had been kept closes without an answer: libcurl takes it for
 * one that was dead before, and begins anew. But the server may have acted, and a create-if-absent
 * that is repeated unseen finds its own object and is told that the name is taken. */
static int begin(void *context, char *ip, char *local_ip, int port, int local_port)
{
    struct http_exchange *x = context;
    (void)ip, (void)local_ip, (void)port, (void)local_port;
    if (x->connected && changes(x->request))
        return CURL_PREREQFUNC_ABORT;
    x->connected = true;
    x->last_move_ns = now_ns(x);
    x->begun_ns = x->last_move_ns;
    return CURL_PREREQFUNC_OK;
}

static int see_progress(void *context, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                        curl_off_t up)
{
    struct http_exchange *x = context;
    (void)down_total, (void)up_total;
    uint64_t moved = (uint64_t)(down + up) + (x->answered ? 1 : 0);
    if (moved != x->moved)
        x->last_move_ns = now_ns(x);
    x->moved = moved;
    return 0;
}

/* --- an exchange --- */

static bool add_headers(struct http_exchange *x)
{
    const struct buf *lines = &x->request->headers;
    if (lines->failed)
        return false;
    /* No waiting for "100 Continue": refusals are rare, and the wait is a round trip. */
    x->headers = curl_slist_append(NULL, "Expect:");
    for (size_t at = 0; at < lines->length && x->headers != NULL;) {
        const char *line = (const char *)lines->data + at;
        struct curl_slist *longer = curl_slist_append(x->headers, line);
        if (longer == NULL)
            return false;
        x->headers = longer;
        at += strlen(line) + 1;
    }
    return x->headers != NULL;
}

static void set_method(struct http_exchange *x)
{
    const char *method = x->request->method;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(x->easy, CURLOPT_NOBODY, 1L);
    } else if (changes(x->request)) {
        curl_easy_setopt(x->easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(x->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->request->body.length);
        curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, method);
    } else {
        curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, method);
    }
}

static void set_transport(struct http_exchange *x)
{
    const struct http_config *c = &x->http->config;
    curl_easy_setopt(x->easy, CURLOPT_URL, x->request->url);
    curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (c->ca_file != NULL)
        curl_easy_setopt(x->easy, CURLOPT_CAINFO, c->ca_file);
    if (x->direct)
        curl_easy_setopt(x->easy, CURLOPT_PROXY, ""); /* none, whatever the variables say */
    curl_easy_setopt(x->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->connect_ms);
    /* Who is given up while its name is looked up is not waited for: it would hold all others up,
     * for as long as glibc asks on. The thread that asks ends by itself and frees what it has. */
    curl_easy_setopt(x->easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(x->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(x->easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(x->easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(x->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(x->easy, CURLOPT_USERAGENT, USER_AGENT);
}

static void set_callbacks(struct http_exchange *x)
{
    curl_easy_setopt(x->easy, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(x->easy, CURLOPT_READDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(x->easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_PREREQFUNCTION, begin);
    curl_easy_setopt(x->easy, CURLOPT_PREREQDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_XFERINFOFUNCTION, see_progress);
    curl_easy_setopt(x->easy, CURLOPT_XFERINFODATA, x);
    curl_easy_setopt(x->easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->reason);
    curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x);
}

bool http_exchange_prepare(struct http_exchange *x, struct err *err)
{
    x->easy = curl_easy_init();
    if (x->easy == NULL || !add_headers(x)) {
        http_exchange_release(x);
        return err_set(err, ERR_FULL, "%s: out of memory", x->shown);
    }
    set_transport(x);
    set_method(x);
    set_callbacks(x);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers);
    return true;
}

void http_exchange_release(struct http_exchange *x)
{
    for (struct curl_slist *line = x->headers; line != NULL; line = line->next)
        explicit_bzero(line->data, strlen(line->data)); /* may be a token */
    curl_slist_free_all(x->headers);
    curl_easy_cleanup(x->easy);
    x->headers = NULL;
    x->easy = NULL;
}

/* --- its end --- */

/* Whether the request may have changed something: what is wrong with its answer leaves it in doubt,
 * and who is told otherwise takes its own object for another's when it shows. */
static bool in_doubt(const struct http_exchange *x)
{
    return x->connected && changes(x->request);
}

static bool explain(struct http_exchange *x, CURLcode code)
{
    /* A proxy that is not written as one is shown whole, with its password. */
    bool told = x->reason[0] != '\0' && strchr(x->reason, '@') == NULL;
    const char *why = told ? x->reason : curl_easy_strerror(code);
    struct err *err = &x->err;
    if (x->too_long)
        return err_set(err, in_doubt(x) ? ERR_TRANSIENT : ERR_CORRUPT,
                       "%s: the answer is longer than it may be", x->shown);
    if (x->answer->body.failed || x->answer->headers.failed)
        return err_set(err, in_doubt(x) ? ERR_TRANSIENT : ERR_FULL, "%s: out of memory", x->shown);
    if (x->cut && code == CURLE_WRITE_ERROR)
        return true;
    switch (code) {
    case CURLE_OK:
        return true;
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_SEND_FAIL_REWIND: /* it would have begun anew */
        return err_set(err, ERR_TRANSIENT, "%s: the connection closed before an answer came",
                       x->shown);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        return err_set(err, ERR_DENIED,
                       "%s: its certificate is not trusted (%s): for a CA of your own add "
                       "ca=FILE.pem to the store's URL, or install it on this host",
                       x->shown, why);
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(err, ERR_INVALID, "%s: the CA file %s holds no certificates", x->shown,
                       x->http->config.ca_file != NULL ? x->http->config.ca_file : "of this host");
    case CURLE_OUT_OF_MEMORY:
        return err_set(err, in_doubt(x) ? ERR_TRANSIENT : ERR_FULL, "%s: out of memory", x->shown);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_INVALID, "%s: %s", x->shown, curl_easy_strerror(code));
    default:
        return err_set(err, ERR_TRANSIENT, "%s: %s", x->shown, why);
    }
}

static void learn_date(struct http_exchange *x)
{
    struct http *h = x->http;
    const char *value = http_answer_header(x->answer, "Date");
    time_t date = value != NULL ? curl_getdate(value, NULL) : -1;
    if (date < 0)
        return;
    struct world *w = h->config.world;
    /* Whole seconds, cut: the middle of them is the better guess. */
    int64_t theirs = (int64_t)date * 1000 + 500;
    atomic_store(&h->skew_ms, theirs - (int64_t)(w->ops->realtime_ns(w) / 1000000));
}

static void note_answer(struct http_exchange *x)
{
    struct http_answer *a = x->answer;
    curl_off_t length = -1;
    long status = 0;

    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (status < 100 || status > 999) {
        err_set(&x->err, in_doubt(x) ? ERR_TRANSIENT : ERR_CORRUPT,
                "%s: the answer's status, %ld, is none of HTTP", x->shown, status);
        return;
    }
    a->status = (unsigned)status;
    a->content_length = length >= 0 ? (uint64_t)length : UINT64_MAX;
    learn_date(x);
}

static void wake(struct http_exchange *x)
{
    LOCK_SCOPE(&x->http->lock);
    x->done = true;
    pthread_cond_signal(&x->finished);
}

/* `x` is the caller's again after this. */
static void finish(struct http *h, struct http_exchange *x)
{
    struct http_exchange **link = &h->active;
    while (*link != x)
        link = &(*link)->next;
    *link = x->next;
    curl_multi_remove_handle(h->multi, x->easy);
    wake(x);
}

/* --- the loop --- */

static void take_queue(struct http *h, bool *cancelled, bool *ending)
{
    pthread_mutex_lock(&h->lock);
    struct http_exchange *queue = TAKE(h->queue);
    *cancelled = h->cancelled;
    *ending = h->ending;
    pthread_mutex_unlock(&h->lock);
    while (queue != NULL) {
        struct http_exchange *x = queue;
        queue = x->next;
        x->next = h->active;
        h->active = x;
        if (curl_multi_add_handle(h->multi, x->easy) != CURLM_OK) {
            err_set(&x->err, ERR_FULL, "%s: out of memory", x->shown);
            finish(h, x);
        }
    }
}

static void finish_done(struct http *h)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(h->multi, &left)) != NULL) {
        struct http_exchange *x = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&x);
        if (explain(x, code))
            note_answer(x);
        finish(h, x);
    }
}

/* The bound that holds now, from the last move on; 0 while libcurl's own holds. */
static uint32_t bound_ms(const struct http_exchange *x)
{
    const struct http_config *c = &x->http->config;
    if (!x->connected)
        return 0;
    bool waits = !x->answered && x->sent == x->request->body.length;
    return waits ? c->first_byte_ms : c->stall_ms;
}

/* Why it may go on no longer; NULL: it may. */
static const char *late(const struct http_exchange *x)
{
    uint64_t now = now_ns(x), most_ms = HTTP_GRACE_MS + x->moved * 1000 / HTTP_BYTES_PER_S_LEAST;
    uint32_t bound = bound_ms(x);
    if (bound == 0)
        return NULL;
    if (now > x->last_move_ns + (uint64_t)bound * 1000000)
        return x->answered ? "nothing more came" : "no answer";
    return now > x->begun_ns + most_ms * 1000000 ? "next to nothing came" : NULL;
}

static void finish_late(struct http *h, bool cancelled)
{
    for (struct http_exchange *x = h->active, *next; x != NULL; x = next) {
        next = x->next;
        const char *why = late(x);
        if (cancelled)
            err_set(&x->err, ERR_CANCELLED, "%s: asked to stop", x->shown);
        else if (why != NULL)
            err_set(&x->err, ERR_TRANSIENT, "%s: %s for %llu s", x->shown, why,
                    (unsigned long long)((now_ns(x) - x->begun_ns) / 1000000000));
        if (cancelled || why != NULL)
            finish(h, x);
    }
}

void *http_loop(void *context)
{
    struct http *h = context;
    bool cancelled, ending;
    int running;

    for (;;) {
        take_queue(h, &cancelled, &ending);
        if (ending)
            return NULL;
        curl_multi_perform(h->multi, &running);
        finish_done(h);
        finish_late(h, cancelled);
        curl_multi_poll(h->multi, NULL, 0, h->active != NULL ? POLL_MS : 60000, NULL);
    }
}
