/* SPDX-License-Identifier: MIT */
#include "backend/store/cloud.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#define SCRATCH_BYTES (64u << 10)
#define CODE_MAX      96u

/* Pages without a key of ours, on end: a store may answer so while it looks on, but not for ever.
 */
#define BARREN_PAGES_MAX 1000u

static struct cloud *cloud_of(struct store *s)
{
    return (struct cloud *)s;
}

/* --- a call --- */

void cloud_query(struct cloud_call *call, const char *name, const char *value)
{
    assert(call->query_count < CLOUD_QUERY_MAX);
    assert(call->query_count == 0 || strcmp(call->query[call->query_count - 1].name, name) < 0);
    call->query[call->query_count].name = name;
    call->query[call->query_count++].value = value;
}

void cloud_header(struct cloud_call *call, const char *name, const char *format, ...)
{
    va_list args;
    struct buf *b = &call->scratch;

    /* Reserved whole: values that were made before must not move. */
    assert(call->header_count < CLOUD_HEADERS_MAX);
    if (b->data == NULL && !buf_reserve(b, SCRATCH_BYTES))
        return;
    char *value = (char *)b->data + b->length;
    size_t room = SCRATCH_BYTES - b->length;
    va_start(args, format);
    int length = vsnprintf(value, room, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= room) {
        b->failed = true;
        return;
    }
    b->length += (size_t)length + 1;
    call->headers[call->header_count].name = name;
    call->headers[call->header_count++].value = value;
}

const char *cloud_header_value(const struct cloud_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strcmp(call->headers[i].name, name) == 0)
            return call->headers[i].value;
    return "";
}

void cloud_call_release(struct cloud_call *call)
{
    buf_wipe(&call->scratch);
}

/* --- sending --- */

static void write_path(const struct cloud *c, const char *key, struct buf *out)
{
    buf_put(out, c->base_path, strlen(c->base_path));
    if (key != NULL || c->base_path[0] == '\0')
        buf_put_u8(out, '/');
    if (key != NULL) {
        http_escape(out, c->prefix, true);
        http_escape(out, key, true);
    }
    buf_put_u8(out, 0);
}

static void write_query(const struct cloud_call *call, struct buf *out)
{
    for (size_t i = 0; i < call->query_count; i++) {
        buf_put_u8(out, i == 0 ? '?' : '&');
        http_escape(out, call->query[i].name, false);
        buf_put_u8(out, '=');
        http_escape(out, call->query[i].value, false);
    }
    if (call->secret_query != NULL) {
        buf_put_u8(out, call->query_count == 0 ? '?' : '&');
        buf_put(out, call->secret_query, strlen(call->secret_query));
    }
    buf_put_u8(out, 0);
}

/* One try. False: no answer at all. */
static bool send_once(struct cloud *c, struct cloud_call *call, struct http_answer *answer,
                      struct err *err)
{
    struct buf path AUTO_BUF = BUF_NONE, url AUTO_SECRET_BUF = BUF_NONE;
    struct http_request request AUTO_HTTP_REQUEST = {.method = call->method,
                                                     .headers = BUF_NONE,
                                                     .body = call->body,
                                                     .into = call->into,
                                                     .body_max = call->body_max};
    bool get = strcmp(call->method, "GET") == 0;
    if (!get && request.body_max == 0) /* nothing is wanted, but some say more than they must */
        request.body_max = HTTP_REFUSAL_BYTES_MAX;

    write_path(c, call->key, &path);
    if (!buf_reserve(&url, SCRATCH_BYTES) || !buf_ok(&path, err))
        return err_set(err, ERR_FULL, "store %s: out of memory", c->head.url);
    call->path = (const char *)path.data;
    call->now_ms = http_now_ms(c->http);
    if (!c->dialect->sign(c, call, err))
        return false;
    size_t root = (size_t)(c->base_path - c->base);
    buf_put(&url, c->base, root);
    buf_put(&url, path.data, path.length - 1);
    write_query(call, &url);
    if (!buf_ok(&url, err) || call->scratch.failed)
        return err_set(err, ERR_FULL, "store %s: out of memory", c->head.url);
    request.url = (const char *)url.data;
    for (size_t i = 0; i < call->header_count; i++)
        http_request_header(&request, call->headers[i].name, "%s", call->headers[i].value);
    return http_call(c->http, &request, answer, err) || err_wrap(err, "store %s", c->head.url);
}

void cloud_printable(char *text)
{
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

/* What the service calls the failure: in a header (Azure, also for HEAD) or in the body. */
static void find_code(const struct http_answer *answer, char code[CODE_MAX])
{
    const char *header = http_answer_header(answer, "x-ms-error-code");
    code[0] = '\0';
    if (header != NULL)
        snprintf(code, CODE_MAX, "%s", header);
    else if (!xml_text(buf_span(&answer->body), "Error/Code", code, CODE_MAX))
        code[0] = '\0';
    cloud_printable(code);
}

bool cloud_send(struct cloud *c, struct cloud_call *call, struct http_answer *answer,
                struct err *err)
{
    size_t header_count = call->header_count, scratch_length = call->scratch.length;
    struct err why = ERR_NONE;
    char code[CODE_MAX];

    for (bool again = true;;) {
        call->header_count = header_count;
        call->scratch.length = scratch_length;
        http_answer_release(answer);
        *answer = HTTP_ANSWER_NONE;
        if (!send_once(c, call, answer, err))
            return false;
        if (answer->status >= 200 && answer->status < 300) {
            atomic_store(&c->container_seen, true);
            return true;
        }
        find_code(answer, code);
        again = c->dialect->refuse(c, call, answer, code, &why) && again;
        if (!again)
            break;
        again = false;
        why = ERR_NONE;
    }
    if (why.kind == ERR_TRANSIENT)
        why.retry_after_ms = http_retry_after_ms(c->http, answer);
    if (err != NULL)
        *err = why;
    return false;
}

bool cloud_refuse(const struct cloud *c, const struct cloud_call *call,
                  const struct http_answer *answer, const char *code, enum err_kind kind,
                  const char *advice, struct err *err)
{
    return err_set(err, kind, "store %s: %s%s%s: answer %u%s%s%s%s", c->head.url, call->method,
                   call->key != NULL ? " of " : "", call->key != NULL ? call->key : "",
                   answer->status, code[0] != '\0' ? " " : "", code, advice[0] != '\0' ? ": " : "",
                   advice);
}

enum err_kind cloud_kind_of_status(unsigned status)
{
    switch (status) {
    case 401:
    case 403:
        return ERR_DENIED;
    case 408:
    case 409: /* what conflicts for good has a code that says so */
    case 429:
        return ERR_TRANSIENT;
    case 416:
        return ERR_CORRUPT;
    case 501:
        return ERR_INVALID;
    case 507:
        return ERR_FULL;
    default:
        return status >= 500 ? ERR_TRANSIENT : ERR_INVALID;
    }
}

/* --- the contract --- */

bool cloud_send_object(struct cloud *c, struct cloud_call *call, struct http_answer *answer,
                       struct err *err)
{
    return cloud_send(c, call, answer, err) &&
           (http_answer_header(answer, "ETag") != NULL ||
            cloud_refuse(c, call, answer, "", ERR_TRANSIENT,
                         "this is no answer of such a store: does a proxy or portal stand between?",
                         err));
}

bool cloud_put_whole(struct cloud *c, const char *key, struct span body,
                     const struct sha256 *digest, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT", .key = key, .body = body, .digest = digest};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    cloud_header(&call, "if-none-match", "*");
    return c->dialect->describe_put(c, &call, err) && cloud_send_object(c, &call, &answer, err);
}

static bool cloud_put(struct store *s, const char *key, struct span body,
                      const struct sha256 *digest, struct err *err)
{
    struct cloud *c = cloud_of(s);
    return c->dialect->put_large != NULL && body.length > c->large_bytes
               ? c->dialect->put_large(c, key, body, err)
               : cloud_put_whole(c, key, body, digest, err);
}

static bool ends_early(const struct cloud *c, const char *key, uint64_t offset, size_t length,
                       struct err *err)
{
    return err_set(err, ERR_CORRUPT, "store %s: object %s ends at or before %llu + %zu",
                   c->head.url, key, (unsigned long long)offset, length);
}

/* "bytes FROM-TO/ALL": whether it is what was asked for. */
static bool range_fits(const struct http_answer *answer, uint64_t offset, size_t length)
{
    unsigned long long from, to;
    const char *range = http_answer_header(answer, "Content-Range");
    return range != NULL && sscanf(range, "bytes %llu-%llu/", &from, &to) == 2 && from == offset &&
           to == offset + length - 1;
}

static bool cloud_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                      struct err *err)
{
    struct cloud *c = cloud_of(s);
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "GET", .key = key, .into = out};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err why = ERR_NONE;

    cloud_header(&call, "range", "bytes=%llu-%llu", (unsigned long long)offset,
                 (unsigned long long)(offset + out.length - 1));
    if (!cloud_send_object(c, &call, &answer, &why)) {
        if (answer.status == 416)
            return ends_early(c, key, offset, out.length, err);
        if (err != NULL)
            *err = why;
        return false;
    }
    /* An answer of the whole object is as good when that is what was asked for. */
    bool whole = answer.status == 200 && offset == 0;
    if (answer.into_length == out.length && (whole || range_fits(&answer, offset, out.length)))
        return true;
    if (answer.status == 200)
        return err_set(err, ERR_CORRUPT, "store %s: object %s: the store ignores ranges",
                       c->head.url, key);
    return ends_early(c, key, offset, out.length, err);
}

static bool cloud_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct cloud *c = cloud_of(s);
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "HEAD", .key = key};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    if (!cloud_send_object(c, &call, &answer, err))
        return false;
    *bytes = answer.content_length;
    return answer.content_length != UINT64_MAX ||
           err_set(err, ERR_CORRUPT, "store %s: HEAD of %s: no Content-Length in the answer",
                   c->head.url, key);
}

/* Two readings that differ from the object's digest: the same bytes each time lie in the store so,
 * else they were damaged on the way, and nothing is known of the object. */
static bool damaged(const struct cloud *c, const char *key, bool same, struct err *err)
{
    return err_set(err, same ? ERR_CORRUPT : ERR_TRANSIENT,
                   "store %s: object %s came twice with bytes that differ from its digest: it is "
                   "damaged %s",
                   c->head.url, key, same ? "in the store" : "on the way");
}

static bool load_once(struct cloud *c, const char *key, size_t bytes_max, struct buf *out,
                      bool *fits, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "GET", .key = key, .body_max = bytes_max};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    if (!cloud_send_object(c, &call, &answer, err))
        return false;
    *fits = c->dialect->fits(&answer);
    *out = answer.body;
    answer.body = BUF_NONE;
    return true;
}

static bool cloud_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                       struct err *err)
{
    struct cloud *c = cloud_of(s);
    struct buf first AUTO_BUF = BUF_NONE, second AUTO_BUF = BUF_NONE;
    bool fits;

    if (!load_once(c, key, bytes_max, &first, &fits, err))
        return false;
    if (!fits) {
        if (!load_once(c, key, bytes_max, &second, &fits, err))
            return false;
        if (!fits)
            return damaged(c, key, span_equal(buf_span(&first), buf_span(&second)), err);
        buf_release(&first);
        first = second;
        second = BUF_NONE;
    }
    buf_release(out);
    *out = first;
    first = BUF_NONE;
    return true;
}

static bool cloud_remove(struct store *s, const char *key, struct err *err)
{
    struct cloud *c = cloud_of(s);
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "DELETE", .key = key};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err why = ERR_NONE;

    if (cloud_send(c, &call, &answer, &why) || why.kind == ERR_NOT_FOUND)
        return true;
    if (err != NULL)
        *err = why;
    return false;
}

/* --- lists --- */

struct page {
    const struct cloud *cloud;
    const char *full;  /* what every name asked for begins with */
    const char *after; /* of the caller */
    store_list_fn *each;
    void *context;
    char last[STORE_KEY_MAX + 1]; /* of all pages so far */
    unsigned barren;              /* pages on end that brought no key */
    bool unordered;
};

/* Names as the store has them; what is none of ours, or was not asked for, is passed over: callers
 * take the prefix for granted. */
static bool show(void *context, const char *name, uint64_t bytes)
{
    struct page *p = context;
    if (strncmp(name, p->full, strlen(p->full)) != 0)
        return true;
    const char *key = name + strlen(p->cloud->prefix);
    if (!store_key_valid(key))
        return true;
    p->unordered = strcmp(key, p->last) <= 0;
    if (p->unordered)
        return false;
    memcpy(p->last, key, strlen(key) + 1);
    p->barren = 0;
    return (p->after != NULL && strcmp(key, p->after) <= 0) || p->each(p->context, key, bytes);
}

static bool list_page(struct cloud *c, const char *prefix, const char *after, struct page *page,
                      char marker[XML_MARKER_MAX], bool *stopped, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "GET", .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    c->dialect->list(&call, prefix, after, marker);
    return cloud_send(c, &call, &answer, err) &&
           (xml_list(c->dialect->xml, buf_span(&answer.body), show, page, stopped, marker, err) ||
            err_wrap(err, "store %s", c->head.url));
}

static bool cloud_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                       void *context, struct err *err)
{
    struct cloud *c = cloud_of(s);
    struct page page = {.cloud = c, .after = after, .each = each, .context = context};
    char full[STORE_URL_MAX + STORE_KEY_MAX], behind[STORE_URL_MAX + STORE_KEY_MAX] = "";
    char marker[XML_MARKER_MAX] = "", last[XML_MARKER_MAX];
    bool stopped = false;

    snprintf(full, sizeof full, "%s%s", c->prefix, prefix);
    page.full = full;
    if (after != NULL)
        snprintf(behind, sizeof behind, "%s%s", c->prefix, after);
    do {
        memcpy(last, marker, sizeof last);
        page.barren++;
        if (!list_page(c, full, behind, &page, marker, &stopped, err))
            return false;
        if (page.unordered)
            return err_set(err, ERR_CORRUPT, "store %s: its list is not in byte order behind %s",
                           c->head.url, page.last);
        if (marker[0] != '\0' && (strcmp(marker, last) == 0 || page.barren == BARREN_PAGES_MAX))
            return err_set(err, ERR_CORRUPT, "store %s: its list goes round in a circle",
                           c->head.url);
    } while (!stopped && marker[0] != '\0');
    return true;
}

/* --- copies --- */

static bool cloud_can_copy(struct store *s, struct store *from)
{
    struct cloud *c = cloud_of(s);
    return from->ops == &cloud_ops && cloud_of(from)->dialect == c->dialect &&
           c->dialect->can_copy != NULL && c->dialect->can_copy(c, cloud_of(from));
}

static bool cloud_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                       const struct sha256 *digest, bool *proved, struct err *err)
{
    struct cloud *c = cloud_of(s);
    return c->dialect->copy(c, key, cloud_of(from), from_key, digest, proved, err);
}

/* --- life --- */

static void cloud_cancel(struct store *s, bool cancelled)
{
    struct cloud *c = cloud_of(s);
    http_cancel(c->http, cancelled);
    c->dialect->cancel(c, cancelled);
}

static void cloud_endpoint(struct store *s, struct store_endpoint *out)
{
    struct cloud *c = cloud_of(s);
    const char *metadata = c->dialect->metadata(c);
    url_origin(c->base, out->store);
    if (metadata != NULL)
        url_origin(metadata, out->metadata);
}

static void cloud_close(struct store *s)
{
    struct cloud *c = cloud_of(s);
    c->dialect->release(c);
    http_release(&c->http);
    free(c);
}

const struct store_ops cloud_ops = {
    .put = cloud_put,
    .get = cloud_get,
    .size = cloud_size,
    .list = cloud_list,
    .remove = cloud_remove,
    .close = cloud_close,
    .load = cloud_load,
    .cancel = cloud_cancel,
    .endpoint = cloud_endpoint,
    .can_copy = cloud_can_copy,
    .copy = cloud_copy,
};

/* "https://HOST[:PORT][/PATH]", nothing behind it. */
static bool split_base(struct cloud *c, const char *base, struct err *err)
{
    snprintf(c->base, sizeof c->base, "%s", base);
    for (size_t n = strlen(c->base); n > 0 && c->base[n - 1] == '/'; n--)
        c->base[n - 1] = '\0';
    const char *host = strstr(c->base, "://");
    if (host == NULL || strlen(base) >= sizeof c->base || strpbrk(c->base, "?#@ ") != NULL ||
        (strncmp(base, "http://", 7) != 0 && strncmp(base, "https://", 8) != 0))
        return err_set(err, ERR_INVALID,
                       "store %s: endpoint= is written https://HOST[:PORT][/PATH]", c->head.url);
    host += strlen("://");
    size_t length = strcspn(host, "/");
    if (length == 0 || length >= sizeof c->host)
        return err_set(err, ERR_INVALID, "store %s: its endpoint names no host", c->head.url);
    memcpy(c->host, host, length);
    c->host[length] = '\0';
    c->base_path = host + length;
    return true;
}

bool cloud_init(struct cloud *c, const struct cloud_dialect *dialect, const struct store_host *host,
                const char *url, const struct store_url *parsed, const char *base,
                const char *prefix, struct err *err)
{
    const char *plain = store_url_option(parsed, "plain");
    c->head.ops = &cloud_ops;
    c->dialect = dialect;
    c->world = host->world;
    snprintf(c->head.url, sizeof c->head.url, "%s", url);
    snprintf(c->prefix, sizeof c->prefix, "%s%s", prefix, prefix[0] != '\0' ? "/" : "");
    if (plain != NULL && strcmp(plain, "yes") != 0 && strcmp(plain, "no") != 0)
        return err_set(err, ERR_INVALID, "store %s: plain=%s: it is yes or no", url, plain);
    struct http_config config = {.world = host->world,
                                 .ca_file = store_url_option(parsed, "ca"),
                                 .plain = plain != NULL && strcmp(plain, "yes") == 0};
    return split_base(c, base, err) &&
           ((http_make(&config, &c->http, err) && http_check(c->http, c->base, err)) ||
            err_wrap(err, "store %s", url));
}
