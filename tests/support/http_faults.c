/* SPDX-License-Identifier: MIT
 * How answers go out, whole or spoiled. */
#include "tests/support/http_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES     (512u << 10)
#define ENDLESS_HEADERS 6000u /* of 50 bytes and more */

/* --- choosing --- */

static bool matches(const struct exchange *x, const struct http_rule *rule)
{
    return (rule->method == NULL || strstr(rule->method, x->method) != NULL) &&
           (rule->path == NULL || strstr(x->target, rule->path) != NULL);
}

/* Whether the rule takes this one. */
static bool happens_locked(struct http_store *s, struct http_fault_row *row)
{
    if (row->rule.skip > 0) {
        row->rule.skip--;
        return false;
    }
    if (row->rule.next > 0) {
        row->rule.next--;
        return true;
    }
    return http_random_locked(s) % 1000 < row->rule.per_mille;
}

void fault_choose(struct exchange *x)
{
    struct http_store *s = x->store;
    LOCK_SCOPE(&s->lock);
    x->fault = HTTP_FAULTS;
    for (enum http_fault f = 0; f < HTTP_FAULTS; f++) {
        struct http_fault_row *row = s->faults + f;
        if (!row->on || !matches(x, &row->rule) || !happens_locked(s, row))
            continue;
        row->happened++;
        x->fault = f;
        x->rule = row->rule;
        x->chance = http_random_locked(s);
        return;
    }
}

/* --- an answer's body, as it is sent --- */

struct reply {
    struct http_store *store;
    struct http_object *object;
    struct buf text;
    struct span bytes;
    enum http_fault fault;
    uint64_t flip; /* bit */
    uint32_t ms;
};

static void reply_free(void *context)
{
    struct reply *r = context;
    if (r->object != NULL)
        http_object_drop(r->object);
    buf_release(&r->text);
    free(r);
}

static ssize_t reply_read(void *context, uint64_t at, char *out, size_t room)
{
    struct reply *r = context;
    size_t half = r->bytes.length / 2, left = r->bytes.length - (size_t)at;
    if (r->fault == HTTP_CUT_DOWN || r->fault == HTTP_STALL_DOWN) {
        if (at >= half && r->fault == HTTP_STALL_DOWN)
            http_wait(r->store, 0);
        if (at >= half)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        left = half - (size_t)at;
    }
    if (r->fault == HTTP_TRICKLE) {
        if (!http_wait(r->store, r->ms))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        left = 1;
    }
    size_t length = left < room ? left : room;
    memcpy(out, r->bytes.data + at, length);
    if (r->fault == HTTP_FLIP_DOWN && r->flip / 8 >= at && r->flip / 8 < at + length)
        out[r->flip / 8 - at] = (char)(out[r->flip / 8 - at] ^ (1 << r->flip % 8));
    return (ssize_t)length;
}

static ssize_t endless_read(void *context, uint64_t at, char *out, size_t room)
{
    struct reply *r = context;
    (void)at;
    LOCK_SCOPE(&r->store->lock);
    memset(out, 'x', room);
    return r->store->ending ? MHD_CONTENT_READER_END_WITH_ERROR : (ssize_t)room;
}

static struct reply *reply_of(struct exchange *x)
{
    struct reply *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    *r = (struct reply){.store = x->store, .fault = x->fault, .ms = x->rule.ms};
    r->object = TAKE(x->object);
    r->text = x->text;
    x->text = BUF_NONE;
    r->bytes = r->object != NULL
                   ? span_part(buf_span(&r->object->body), (size_t)x->offset, (size_t)x->length)
                   : buf_span(&r->text);
    uint64_t bits = (uint64_t)r->bytes.length * 8;
    r->flip = x->rule.at != HTTP_ANYWHERE ? x->rule.at : bits > 0 ? x->chance % bits : 0;
    return r;
}

/* --- sending --- */

static void add_date(const struct exchange *x, struct MHD_Response *response)
{
    char text[64];
    time_t now = (time_t)http_clock(x->store);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    MHD_add_response_header(response, "Date", text);
}

static void add_headers(const struct exchange *x, struct MHD_Response *response)
{
    char name[32];
    for (size_t at = 0; at < x->headers.length;) {
        const char *header = (const char *)x->headers.data + at;
        const char *value = header + strlen(header) + 1;
        MHD_add_response_header(response, header, value);
        at += strlen(header) + strlen(value) + 2;
    }
    for (unsigned i = 0; x->fault == HTTP_ENDLESS_HEADERS && i < ENDLESS_HEADERS; i++) {
        snprintf(name, sizeof name, "X-Endless-%u", i);
        MHD_add_response_header(response, name, "and another one, and another one, and ...");
    }
    add_date(x, response);
}

void fault_prepare(struct exchange *x)
{
    struct http_store *s = x->store;
    if (x->fault == HTTP_REFUSE) {
        static const unsigned busy[] = {503, 429, 500};
        x->status = x->rule.status != 0 ? x->rule.status : busy[x->chance % 3];
        answer_add(x, "%s",
                   x->rule.text != NULL
                       ? x->rule.text
                       : "<Error><Code></Code><Message>refused as told</Message></Error>");
        if (x->rule.retry_after != NULL)
            answer_header(x, "Retry-After", "%s", x->rule.retry_after);
    } else if (x->fault == HTTP_REDIRECT) {
        x->status = x->rule.status;
        answer_header(x, "Location", "http%s://127.0.0.1:%u%s",
                      s->config.tls_key != NULL ? "s" : "", x->rule.port, x->path);
    }
}

static enum MHD_Result send_reply(struct exchange *x)
{
    bool endless = x->fault == HTTP_ENDLESS_BODY;
    struct reply *r = reply_of(x);
    struct MHD_Response *response =
        MHD_create_response_from_callback(endless ? MHD_SIZE_UNKNOWN : r->bytes.length, BLOCK_BYTES,
                                          endless ? endless_read : reply_read, r, reply_free);
    if (response == NULL)
        abort();
    add_headers(x, response);
    enum MHD_Result result = MHD_queue_response(x->connection, x->status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result fault_send(struct exchange *x)
{
    bool empty = x->object != NULL ? x->length == 0 : x->text.length == 0;
    if (x->store->config.tell && x->fault != HTTP_FAULTS)
        fprintf(stderr, "fault %s %s\n", x->method, x->target);
    if (x->fault == HTTP_LOSE_REPLY || (x->fault == HTTP_CUT_DOWN && empty))
        return MHD_NO;
    if (x->fault == HTTP_STALL) {
        http_wait(x->store, 0);
        return MHD_NO;
    }
    return send_reply(x);
}
