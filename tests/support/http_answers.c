/* SPDX-License-Identifier: MIT
 * What both dialects do alike. */
#include "common/base64.h"
#include "tests/support/http_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *exchange_header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *exchange_parameter(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* One without a value counts too. */
bool exchange_asks(const struct exchange *x, const char *name)
{
    char *found = strstr(x->target, "?");
    size_t length = strlen(name);
    while (found != NULL) {
        if (strncmp(++found, name, length) == 0 && strchr("=&", found[length]) != NULL)
            return true;
        found = strchr(found, '&');
    }
    return false;
}

bool exchange_is(const struct exchange *x, const char *method)
{
    return strcmp(x->method, method) == 0;
}

void exchange_locate(struct exchange *x, const char *where)
{
    size_t length = strcspn(where, "/");
    snprintf(x->container, sizeof x->container, "%.*s", (int)length, where);
    x->name = where[length] == '/' && where[length + 1] != '\0' ? where : NULL;
}

struct keeper {
    const char *prefix;
    struct buf *out;
};

static enum MHD_Result keep_header(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct keeper *k = context;
    (void)kind;
    if (strncasecmp(name, k->prefix, strlen(k->prefix)) == 0) {
        buf_put(k->out, name, strlen(name) + 1);
        buf_put(k->out, value, strlen(value) + 1);
    }
    return MHD_YES;
}

void exchange_keep_headers(const struct exchange *x, const char *prefix, struct buf *out)
{
    struct keeper keeper = {.prefix = prefix, .out = out};
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, keep_header, &keeper);
}

bool exchange_md5_fits(const struct exchange *x)
{
    const char *wanted = exchange_header(x, "Content-MD5");
    char text[BASE64_CHARS(MD5_BYTES) + 1];
    if (wanted == NULL || x->store->config.unchecked)
        return true;
    struct md5 digest = md5_of(buf_span(&x->body));
    base64_write(span_of(digest.bytes, sizeof digest), text);
    return strcmp(wanted, text) == 0;
}

void answer_header(struct exchange *x, const char *name, const char *format, ...)
{
    char value[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    buf_put(&x->headers, name, strlen(name) + 1);
    buf_put(&x->headers, value, strlen(value) + 1);
}

void answer_add(struct exchange *x, const char *format, ...)
{
    char text[16384];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_put(&x->text, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

static void send_kept_headers(struct exchange *x, const struct http_object *object, bool whole)
{
    for (size_t at = 0; at < object->headers.length;) {
        const char *name = (const char *)object->headers.data + at;
        const char *value = name + strlen(name) + 1;
        /* Of a part, the whole's digest has another name. */
        bool digest = strcasecmp(name, "Content-MD5") == 0;
        answer_header(x, digest && !whole ? "x-ms-blob-content-md5" : name, "%s", value);
        at += strlen(name) + strlen(value) + 2;
    }
}

bool answer_object(struct exchange *x, struct http_object *object, const char *range)
{
    unsigned long long from = 0, to = object->body.length;
    uint64_t all = object->body.length;
    bool part = range != NULL && sscanf(range, "bytes=%llu-%llu", &from, &to) == 2;
    if (part && from >= all)
        return false;
    if (part)
        to = to < all ? to + 1 : all;
    x->status = part ? 206 : 200;
    x->offset = from;
    x->length = to - from;
    x->object = object;
    http_object_use(object);
    if (part)
        answer_header(x, "Content-Range", "bytes %llu-%llu/%llu", from, to - 1,
                      (unsigned long long)all);
    answer_header(x, "Accept-Ranges", "bytes");
    send_kept_headers(x, object, !part);
    return true;
}

/* --- lists --- */

/* Opaque, with characters in it that must be escaped. */
static void read_marker(const char *marker, struct buf *out)
{
    if (marker != NULL && !base64_parse(marker, out))
        buf_clear(out);
    buf_put_u8(out, 0);
}

void http_list_locked(struct exchange *x, const char *prefix, const char *after, const char *marker,
                      unsigned page, http_each_fn *each, char next[HTTP_MARKER_MAX])
{
    const struct http_objects *o = &x->store->objects;
    struct buf behind AUTO_BUF = BUF_NONE, start AUTO_BUF = BUF_NONE;
    size_t head = strlen(x->container) + 1;
    unsigned shown = 0;

    read_marker(marker, &behind);
    uint64_t now_ms = http_objects_now_ms();
    const char *least = behind.length > 1 ? (const char *)behind.data : after != NULL ? after : "";
    buf_put(&start, x->container, head - 1);
    buf_put_u8(&start, '/');
    buf_put(&start, prefix, strlen(prefix) + 1);
    size_t length = start.length - 1;
    next[0] = '\0';
    for (size_t i = http_objects_at(o, (const char *)start.data); i < o->count; i++) {
        const struct http_object *object = o->rows[i];
        const char *key = object->name + head;
        if (strncmp(object->name, (const char *)start.data, length) != 0)
            return;
        if (strcmp(key, least) <= 0 || object->number + x->store->list_lag > o->puts ||
            object->put_ms + x->store->list_lag_ms > now_ms)
            continue;
        if (shown++ == page) {
            base64_write(span_of_text(x->last), next);
            return;
        }
        each(x, key, object);
        x->last = key;
    }
}
