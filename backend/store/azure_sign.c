/* SPDX-License-Identifier: MIT */
#include "backend/store/azure_sign.h"

#include "common/base64.h"
#include "common/digest.h"

#include <stdio.h>
#include <time.h>

/* English names, whatever the locale: strftime would translate them. */
void azure_date(uint64_t now_ms, char out[AZURE_DATE_CHARS + 1])
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    snprintf(out, AZURE_DATE_CHARS + 1, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[utc.tm_wday],
             utc.tm_mday, months[utc.tm_mon], (utc.tm_year + 1900) % 10000, utc.tm_hour, utc.tm_min,
             utc.tm_sec);
}

static void put_line(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
    buf_put_u8(b, '\n');
}

/* x-ms-* headers in byte order, each once. */
static void put_ms_headers(const struct cloud_call *call, struct buf *b)
{
    const char *last = "";
    for (;;) {
        size_t next = call->header_count;
        for (size_t i = 0; i < call->header_count; i++) {
            const char *name = call->headers[i].name;
            if (strncmp(name, "x-ms-", 5) == 0 && strcmp(name, last) > 0 &&
                (next == call->header_count || strcmp(name, call->headers[next].name) < 0))
                next = i;
        }
        if (next == call->header_count)
            return;
        last = call->headers[next].name;
        buf_put(b, last, strlen(last));
        buf_put_u8(b, ':');
        put_line(b, call->headers[next].value);
    }
}

bool azure_string_to_sign(const struct cloud_call *call, const char *account, struct buf *out,
                          struct err *err)
{
    static const char *const standard[] = {"content-encoding",
                                           "content-language",
                                           NULL /* the length */,
                                           "content-md5",
                                           "content-type",
                                           NULL /* x-ms-date is */,
                                           "if-modified-since",
                                           "if-match",
                                           "if-none-match",
                                           "if-unmodified-since",
                                           "range"};
    char length[24] = "";

    if (call->body.length > 0)
        snprintf(length, sizeof length, "%zu", call->body.length);
    put_line(out, call->method);
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++)
        put_line(out, standard[i] != NULL ? cloud_header_value(call, standard[i])
                      : i == 2            ? length
                                          : "");
    put_ms_headers(call, out);
    buf_put_u8(out, '/');
    buf_put(out, account, strlen(account));
    buf_put(out, call->path, strlen(call->path));
    for (size_t i = 0; i < call->query_count; i++) {
        buf_put_u8(out, '\n');
        buf_put(out, call->query[i].name, strlen(call->query[i].name));
        buf_put_u8(out, ':');
        buf_put(out, call->query[i].value, strlen(call->query[i].value));
    }
    return buf_ok(out, err);
}

bool azure_authorization(const struct cloud_call *call, const char *account, struct span key,
                         struct buf *out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    char signature[BASE64_CHARS(SHA256_BYTES) + 1];

    if (!azure_string_to_sign(call, account, &text, err))
        return false;
    struct sha256 digest = hmac_sha256(key, buf_span(&text));
    base64_write(span_of(digest.bytes, sizeof digest), signature);
    buf_put(out, "SharedKey ", strlen("SharedKey "));
    buf_put(out, account, strlen(account));
    buf_put_u8(out, ':');
    buf_put(out, signature, strlen(signature) + 1);
    return buf_ok(out, err);
}
