/* SPDX-License-Identifier: MIT */
#include "backend/store/s3_sign.h"

#include "common/digest.h"

#include <stdio.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"

void s3_date(uint64_t now_ms, char out[S3_DATE_CHARS + 1])
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    strftime(out, S3_DATE_CHARS + 1, "%Y%m%dT%H%M%SZ", &utc);
}

static void put_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

/* Indices of the headers in byte order of their names. */
static void sort_headers(const struct cloud_call *call, size_t order[CLOUD_HEADERS_MAX])
{
    for (size_t i = 0; i < call->header_count; i++) {
        size_t at = i;
        for (; at > 0 && strcmp(call->headers[order[at - 1]].name, call->headers[i].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static void put_signed_names(const struct cloud_call *call, const size_t *order, struct buf *b)
{
    for (size_t i = 0; i < call->header_count; i++) {
        put_text(b, i > 0 ? ";" : "");
        put_text(b, call->headers[order[i]].name);
    }
}

/* A value without space at its ends, and with one space where there were several. */
static void put_trimmed(struct buf *b, const char *value)
{
    bool space = false, any = false;
    for (; *value != '\0'; value++) {
        if (*value == ' ') {
            space = any;
            continue;
        }
        if (space)
            buf_put_u8(b, ' ');
        buf_put_u8(b, (uint8_t)*value);
        space = false;
        any = true;
    }
}

/* The canonical request. Parameters are in byte order in the call. */
static void put_canonical(const struct cloud_call *call, const size_t *order,
                          const char *body_digest, struct buf *b)
{
    put_text(b, call->method);
    put_text(b, "\n");
    put_text(b, call->path);
    put_text(b, "\n");
    for (size_t i = 0; i < call->query_count; i++) {
        put_text(b, i > 0 ? "&" : "");
        http_escape(b, call->query[i].name, false);
        put_text(b, "=");
        http_escape(b, call->query[i].value, false);
    }
    put_text(b, "\n");
    for (size_t i = 0; i < call->header_count; i++) {
        put_text(b, call->headers[order[i]].name);
        put_text(b, ":");
        put_trimmed(b, call->headers[order[i]].value);
        put_text(b, "\n");
    }
    put_text(b, "\n");
    put_signed_names(call, order, b);
    put_text(b, "\n");
    put_text(b, body_digest);
}

static struct sha256 hmac_text(struct span key, const char *text)
{
    return hmac_sha256(key, span_of_text(text));
}

static struct sha256 signing_key(const char *secret, const char *day, const char *region,
                                 const char *service)
{
    char first[sizeof((struct s3_credentials *)0)->secret + 8];
    snprintf(first, sizeof first, "AWS4%s", secret);
    struct sha256 key = hmac_text(span_of_text(first), day);
    explicit_bzero(first, sizeof first);
    key = hmac_text(span_of(key.bytes, sizeof key), region);
    key = hmac_text(span_of(key.bytes, sizeof key), service);
    struct sha256 last = hmac_text(span_of(key.bytes, sizeof key), "aws4_request");
    explicit_bzero(&key, sizeof key);
    return last;
}

bool s3_authorization(const struct cloud_call *call, const struct s3_credentials *credentials,
                      const char *region, const char *service, const char *body_digest,
                      struct buf *out, struct err *err)
{
    struct buf canonical AUTO_BUF = BUF_NONE;
    size_t order[CLOUD_HEADERS_MAX];
    char scope[160], text[512], hex[2 * SHA256_BYTES + 1];
    const char *date = cloud_header_value(call, "x-amz-date");

    sort_headers(call, order);
    put_canonical(call, order, body_digest, &canonical);
    if (!buf_ok(&canonical, err))
        return false;
    snprintf(scope, sizeof scope, "%.8s/%.64s/%.32s/aws4_request", date, region, service);
    struct sha256 digest = sha256_of(buf_span(&canonical));
    hex_of(digest.bytes, sizeof digest, hex);
    snprintf(text, sizeof text, ALGORITHM "\n%s\n%s\n%s", date, scope, hex);
    char day[9] = "";
    memcpy(day, date, strlen(date) < 8 ? strlen(date) : 8);
    struct sha256 key = signing_key(credentials->secret, day, region, service);
    struct sha256 signature = hmac_text(span_of(key.bytes, sizeof key), text);
    explicit_bzero(&key, sizeof key);
    hex_of(signature.bytes, sizeof signature, hex);
    put_text(out, ALGORITHM " Credential=");
    put_text(out, credentials->key_id);
    put_text(out, "/");
    put_text(out, scope);
    put_text(out, ", SignedHeaders=");
    put_signed_names(call, order, out);
    put_text(out, ", Signature=");
    put_text(out, hex);
    buf_put_u8(out, 0);
    return buf_ok(out, err);
}
