/* SPDX-License-Identifier: MIT
 * As S3 answers (https://docs.aws.amazon.com/AmazonS3/latest/API/Type_API_Reference.html). */
#include "common/base64.h"
#include "tests/support/http_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE_NAME_MAX 1600u
#define PARTS_MAX      10000

static void refuse(struct exchange *x, unsigned status, const char *code)
{
    x->status = status;
    buf_clear(&x->text);
    answer_header(x, "Content-Type", "application/xml");
    answer_add(x, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>",
               code);
}

static void begin_xml(struct exchange *x, const char *root)
{
    x->status = 200;
    answer_header(x, "Content-Type", "application/xml");
    answer_add(x, "<?xml version=\"1.0\"?><%s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
               root);
}

/* --- who asks, when, and whether the body is what was sent --- */

static bool time_fits(struct exchange *x)
{
    const char *date = exchange_header(x, "x-amz-date");
    struct tm utc = {0};
    if (date == NULL || strptime(date, "%Y%m%dT%H%M%SZ", &utc) == NULL)
        return date == NULL;
    return llabs((long long)timegm(&utc) - (long long)http_clock(x->store)) <=
           HTTP_STORE_SKEW_MAX_S;
}

static bool digest_fits(const struct exchange *x)
{
    const char *wanted = exchange_header(x, "x-amz-content-sha256");
    char hex[2 * SHA256_BYTES + 1];
    if (wanted == NULL || strlen(wanted) != sizeof hex - 1 || x->store->config.unchecked)
        return true;
    sha256_hex(buf_span(&x->body), hex);
    return strcmp(wanted, hex) == 0;
}

static bool admitted(struct exchange *x)
{
    const char *token = exchange_header(x, "x-amz-security-token");
    if (!time_fits(x)) {
        refuse(x, 403, "RequestTimeTooSkewed");
        return false;
    }
    pthread_mutex_lock(&x->store->lock);
    bool holds = token == NULL || http_token_holds_locked(x->store, token);
    pthread_mutex_unlock(&x->store->lock);
    if (!holds)
        refuse(x, 400, "ExpiredToken");
    else if (!digest_fits(x))
        refuse(x, 400, "XAmzContentSHA256Mismatch");
    else if (!exchange_md5_fits(x))
        refuse(x, 400, "BadDigest");
    return x->status == 0;
}

/* --- buckets --- */

static void show(struct exchange *x, const char *key, const struct http_object *object)
{
    answer_add(x, "<Contents><Key>%s</Key><ETag>&quot;%s&quot;</ETag><Size>%zu</Size></Contents>",
               key, object->etag, object->body.length);
}

static void list_locked(struct exchange *x)
{
    const char *prefix = exchange_parameter(x, "prefix"), *most = exchange_parameter(x, "max-keys");
    unsigned page = x->store->config.page;
    char next[HTTP_MARKER_MAX];
    if (most != NULL && strtoul(most, NULL, 10) < page)
        page = (unsigned)strtoul(most, NULL, 10);
    begin_xml(x, "ListBucketResult");
    http_list_locked(x, prefix != NULL ? prefix : "", exchange_parameter(x, "start-after"),
                     exchange_parameter(x, "continuation-token"), page, show, next);
    answer_add(x, "<IsTruncated>%s</IsTruncated>", next[0] != '\0' ? "true" : "false");
    if (next[0] != '\0')
        answer_add(x, "<NextContinuationToken>%s</NextContinuationToken>", next);
    answer_add(x, "</ListBucketResult>");
}

static void bucket_locked(struct exchange *x)
{
    bool there = http_objects_has_container(&x->store->objects, x->container);
    if (exchange_is(x, "PUT")) {
        if (there)
            return refuse(x, 409, "BucketAlreadyOwnedByYou");
        http_objects_add_container(&x->store->objects, x->container);
        x->status = 200;
    } else if (!there) {
        refuse(x, 404, "NoSuchBucket");
    } else if (exchange_is(x, "GET")) {
        list_locked(x);
    } else {
        x->status = exchange_is(x, "HEAD") ? 200 : 405;
    }
}

/* --- objects --- */

static bool taken_locked(const struct exchange *x)
{
    const char *condition = exchange_header(x, "If-None-Match");
    return condition != NULL && strcmp(condition, "*") == 0 && !x->store->conditions_ignored &&
           http_objects_find(&x->store->objects, x->name) != NULL;
}

static void keep(struct exchange *x, struct buf *headers)
{
    exchange_keep_headers(x, "x-amz-meta-", headers);
    exchange_keep_headers(x, "Content-Type", headers);
    exchange_keep_headers(x, "x-amz-checksum-", headers);
}

static void put_locked(struct exchange *x)
{
    struct buf headers = BUF_NONE;
    if (taken_locked(x))
        return refuse(x, 412, "PreconditionFailed");
    keep(x, &headers);
    const char *etag = x->store->config.unchecked ? "unchecked" : NULL;
    struct http_object *object = http_object_make(x->name, &x->body, &headers, etag);
    http_objects_put(&x->store->objects, object);
    x->status = 200;
    answer_header(x, "ETag", "\"%s\"", object->etag);
}

/* The object that "/BUCKET/KEY" names. */
static struct http_object *source_locked(struct exchange *x, const char *where)
{
    char name[PIECE_NAME_MAX];
    snprintf(name, sizeof name, "%s", where + (*where == '/'));
    MHD_http_unescape(name);
    return http_objects_find(&x->store->objects, name);
}

static void add_checksum(struct exchange *x, const struct http_object *object)
{
    struct sha256 digest = sha256_of(buf_span(&object->body));
    char text[BASE64_CHARS(SHA256_BYTES) + 1];
    base64_write(span_of(digest.bytes, sizeof digest), text);
    answer_add(x, "<ChecksumSHA256>%s</ChecksumSHA256>", text);
}

static void copy_locked(struct exchange *x, const char *from, const char *piece)
{
    const struct http_object *source = source_locked(x, from);
    const char *range = exchange_header(x, "x-amz-copy-source-range");
    unsigned long long first = 0, last;
    struct buf body = BUF_NONE, headers = BUF_NONE;
    if (source == NULL)
        return refuse(x, 404, "NoSuchKey");
    if (piece == NULL && taken_locked(x))
        return refuse(x, 412, "PreconditionFailed");
    last = source->body.length - 1;
    if (range != NULL && (sscanf(range, "bytes=%llu-%llu", &first, &last) != 2 || last < first ||
                          last >= source->body.length))
        return refuse(x, 416, "InvalidRange");
    if (source->body.length > 0)
        buf_put(&body, source->body.data + first, (size_t)(last - first + 1));
    buf_put(&headers, source->headers.data, source->headers.length);
    struct http_object *made =
        http_object_make(piece != NULL ? piece : x->name, &body, &headers, NULL);
    begin_xml(x, piece != NULL ? "CopyPartResult" : "CopyObjectResult");
    answer_add(x, "<ETag>&quot;%s&quot;</ETag>", made->etag);
    if (exchange_header(x, "x-amz-checksum-algorithm") != NULL)
        add_checksum(x, made);
    answer_add(x, piece != NULL ? "</CopyPartResult>" : "</CopyObjectResult>");
    if (piece != NULL)
        http_objects_put_piece(&x->store->objects, made);
    else
        http_objects_put(&x->store->objects, made);
}

static void get_locked(struct exchange *x)
{
    struct http_object *object = http_objects_find(&x->store->objects, x->name);
    if (object == NULL)
        return refuse(x, 404, "NoSuchKey");
    answer_header(x, "ETag", "\"%s\"", object->etag);
    if (!answer_object(x, object, exchange_header(x, "Range")))
        refuse(x, 416, "InvalidRange");
}

static void remove_locked(struct exchange *x)
{
    (void)http_objects_remove(&x->store->objects, x->name); /* there or not, it is gone */
    x->status = 204;
}

/* --- uploads in parts --- */

static void piece_name(const struct exchange *x, const char *part, char out[PIECE_NAME_MAX])
{
    const char *id = exchange_parameter(x, "uploadId");
    snprintf(out, PIECE_NAME_MAX, "%s %s %s", x->name, id != NULL ? id : "", part);
}

/* Its first piece, empty, stands for the upload and keeps its headers. */
static void initiate_locked(struct exchange *x)
{
    struct buf headers = BUF_NONE, body = BUF_NONE;
    char name[PIECE_NAME_MAX];
    unsigned id = ++x->store->objects.uploads;
    keep(x, &headers);
    snprintf(name, sizeof name, "%s upload-%u " HTTP_BEGUN, x->name, id);
    http_objects_put_piece(&x->store->objects, http_object_make(name, &body, &headers, NULL));
    begin_xml(x, "InitiateMultipartUploadResult");
    answer_add(x, "<UploadId>upload-%u</UploadId></InitiateMultipartUploadResult>", id);
}

static void put_part_locked(struct exchange *x)
{
    struct buf headers = BUF_NONE;
    const char *from = exchange_header(x, "x-amz-copy-source");
    char name[PIECE_NAME_MAX];
    piece_name(x, exchange_parameter(x, "partNumber"), name);
    if (from != NULL)
        return copy_locked(x, from, name);
    struct http_object *piece = http_object_make(name, &x->body, &headers, NULL);
    answer_header(x, "ETag", "\"%s\"", piece->etag);
    http_objects_put_piece(&x->store->objects, piece);
    x->status = 200;
}

/* The piece that the text from <Part> to </Part> names, when its tag is the right one. */
static const struct http_object *named_locked(const struct exchange *x, const char *part,
                                              const char *stop, int *last)
{
    char name[PIECE_NAME_MAX], number[16];
    const char *at = strstr(part, "<PartNumber>");
    int n = at != NULL ? atoi(at + strlen("<PartNumber>")) : 0;
    if (n <= *last || n > PARTS_MAX)
        return NULL;
    *last = n;
    snprintf(number, sizeof number, "%d", n);
    piece_name(x, number, name);
    const struct http_object *piece = http_objects_piece(&x->store->objects, name);
    const char *tag = piece != NULL ? strstr(part, piece->etag) : NULL;
    return tag != NULL && tag < stop ? piece : NULL;
}

/* Joins what <Part><PartNumber>N</PartNumber><ETag>"T"</ETag></Part> ... names; 0: not right. */
static unsigned join_locked(const struct exchange *x, struct buf *body)
{
    const char *at = (const char *)x->body.data, *stop;
    unsigned parts = 0;
    int last = 0;
    for (; (at = strstr(at, "<Part>")) != NULL; at = stop, parts++) {
        stop = strstr(at, "</Part>");
        const struct http_object *piece = stop != NULL ? named_locked(x, at, stop, &last) : NULL;
        if (piece == NULL)
            return 0;
        buf_put(body, piece->body.data, piece->body.length);
    }
    return parts;
}

static void complete_locked(struct exchange *x)
{
    struct buf body = BUF_NONE, headers = BUF_NONE;
    char name[PIECE_NAME_MAX];
    piece_name(x, HTTP_BEGUN, name);
    const struct http_object *begun = http_objects_piece(&x->store->objects, name);
    buf_put_u8(&x->body, 0);
    if (begun == NULL)
        return refuse(x, 404, "NoSuchUpload");
    if (!x->store->complete_replaces && taken_locked(x))
        return refuse(x, 412, "PreconditionFailed");
    unsigned parts = join_locked(x, &body);
    if (parts == 0) {
        buf_release(&body);
        return refuse(x, 400, "InvalidPart");
    }
    buf_put(&headers, begun->headers.data, begun->headers.length);
    struct http_object *object = http_object_make(x->name, &body, &headers, NULL);
    snprintf(object->etag + strlen(object->etag), 8, "-%u", parts);
    begin_xml(x, "CompleteMultipartUploadResult");
    answer_add(x, "<ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", object->etag);
    http_objects_put(&x->store->objects, object);
    piece_name(x, "", name);
    http_objects_drop_pieces(&x->store->objects, name);
}

static void abort_locked(struct exchange *x)
{
    char name[PIECE_NAME_MAX];
    piece_name(x, "", name);
    http_objects_drop_pieces(&x->store->objects, name);
    x->status = 204;
}

/* --- all --- */

static void object_locked(struct exchange *x)
{
    bool upload = exchange_parameter(x, "uploadId") != NULL;
    const char *from = exchange_header(x, "x-amz-copy-source");
    if (!http_objects_has_container(&x->store->objects, x->container))
        refuse(x, 404, "NoSuchBucket");
    else if (exchange_is(x, "PUT") && upload)
        put_part_locked(x);
    else if (exchange_is(x, "PUT") && from != NULL)
        copy_locked(x, from, NULL);
    else if (exchange_is(x, "PUT"))
        put_locked(x);
    else if (exchange_is(x, "POST") && upload)
        complete_locked(x);
    else if (exchange_is(x, "POST") && exchange_asks(x, "uploads"))
        initiate_locked(x);
    else if (exchange_is(x, "DELETE") && upload)
        abort_locked(x);
    else if (exchange_is(x, "DELETE"))
        remove_locked(x);
    else if (exchange_is(x, "GET") || exchange_is(x, "HEAD"))
        get_locked(x);
    else
        refuse(x, 405, "MethodNotAllowed");
}

void s3_answer(struct exchange *x)
{
    exchange_locate(x, x->path + 1);
    if (!admitted(x))
        return;
    LOCK_SCOPE(&x->store->lock);
    if (x->name == NULL)
        bucket_locked(x);
    else
        object_locked(x);
}
