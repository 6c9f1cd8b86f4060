/* SPDX-License-Identifier: MIT
 * As Azure Blob answers
 * (https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api), path style:
 * /ACCOUNT/CONTAINER/KEY. */
#include "common/base64.h"
#include "tests/support/http_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PIECE_NAME_MAX 1600u

static void refuse(struct exchange *x, unsigned status, const char *code)
{
    x->status = status;
    buf_clear(&x->text);
    answer_header(x, "x-ms-error-code", "%s", code);
    answer_header(x, "Content-Type", "application/xml");
    answer_add(x, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>",
               code);
}

/* --- who asks, when, and whether the body is what was sent --- */

static bool time_fits(struct exchange *x)
{
    const char *date = exchange_header(x, "x-ms-date"), *who = exchange_header(x, "Authorization");
    struct tm utc = {0};
    if (who == NULL || strncmp(who, "SharedKey ", 10) != 0)
        return true;
    if (date == NULL || strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &utc) == NULL)
        return false;
    return llabs((long long)timegm(&utc) - (long long)http_clock(x->store)) <=
           HTTP_STORE_SKEW_MAX_S;
}

static bool token_holds(struct exchange *x)
{
    const char *who = exchange_header(x, "Authorization");
    if (who == NULL || strncmp(who, "Bearer ", 7) != 0)
        return true;
    LOCK_SCOPE(&x->store->lock);
    return http_token_holds_locked(x->store, who + 7);
}

static bool admitted(struct exchange *x)
{
    if (!time_fits(x))
        refuse(x, 403, "AuthenticationFailed");
    else if (!token_holds(x))
        refuse(x, 401, "InvalidAuthenticationInfo");
    else if (!exchange_md5_fits(x))
        refuse(x, 400, "Md5Mismatch");
    return x->status == 0;
}

/* --- containers --- */

static void show(struct exchange *x, const char *key, const struct http_object *object)
{
    answer_add(x,
               "<Blob><Name>%s</Name><Properties><Content-Length>%zu</Content-Length>"
               "<BlobType>BlockBlob</BlobType></Properties></Blob>",
               key, object->body.length);
}

static void list_locked(struct exchange *x)
{
    const char *prefix = exchange_parameter(x, "prefix");
    char next[HTTP_MARKER_MAX];
    x->status = 200;
    answer_header(x, "Content-Type", "application/xml");
    answer_add(x, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
                  "ContainerName=\"c\"><Blobs>");
    http_list_locked(x, prefix != NULL ? prefix : "", NULL, exchange_parameter(x, "marker"),
                     x->store->config.page, show, next);
    answer_add(x, "</Blobs><NextMarker>%s</NextMarker></EnumerationResults>", next);
}

static void container_locked(struct exchange *x)
{
    bool there = http_objects_has_container(&x->store->objects, x->container);
    if (exchange_is(x, "PUT")) {
        if (there)
            return refuse(x, 409, "ContainerAlreadyExists");
        http_objects_add_container(&x->store->objects, x->container);
        x->status = 201;
    } else if (!there) {
        refuse(x, 404, "ContainerNotFound");
    } else if (exchange_is(x, "GET") && exchange_parameter(x, "comp") != NULL) {
        list_locked(x);
    } else {
        x->status = 200;
    }
}

/* --- blobs --- */

static bool taken_locked(const struct exchange *x)
{
    const char *condition = exchange_header(x, "If-None-Match");
    return condition != NULL && strcmp(condition, "*") == 0 && !x->store->conditions_ignored &&
           http_objects_find(&x->store->objects, x->name) != NULL;
}

static void keep(struct exchange *x, struct buf *headers)
{
    exchange_keep_headers(x, "x-ms-meta-", headers);
    exchange_keep_headers(x, "Content-Type", headers);
}

static void keep_md5(struct buf *headers, const char *digest)
{
    buf_put(headers, "Content-MD5", sizeof "Content-MD5");
    buf_put(headers, digest, strlen(digest) + 1);
}

static void made(struct exchange *x, struct http_object *object)
{
    http_objects_put(&x->store->objects, object);
    answer_header(x, "ETag", "\"0x%llX\"", (unsigned long long)object->number);
    x->status = 201;
}

/* The service takes the digest of what comes in one request itself. */
static void put_locked(struct exchange *x)
{
    const char *type = exchange_header(x, "x-ms-blob-type");
    struct buf headers = BUF_NONE;
    char text[BASE64_CHARS(MD5_BYTES) + 1];
    if (type == NULL || strcmp(type, "BlockBlob") != 0)
        return refuse(x, 400, "MissingRequiredHeader");
    if (taken_locked(x))
        return refuse(x, 409, "BlobAlreadyExists");
    struct md5 digest = md5_of(buf_span(&x->body));
    base64_write(span_of(digest.bytes, sizeof digest), text);
    keep(x, &headers);
    keep_md5(&headers, text);
    made(x, http_object_make(x->name, &x->body, &headers, NULL));
}

/* "http://HOST/ACCOUNT/CONTAINER/KEY[?SAS]" */
static struct http_object *source_locked(struct exchange *x, const char *where)
{
    char name[PIECE_NAME_MAX];
    const char *path = strstr(where, "://");
    path = path != NULL ? strchr(path + 3, '/') : NULL;
    path = path != NULL ? strchr(path + 1, '/') : NULL;
    if (path == NULL)
        return NULL;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(path + 1, "?"), path + 1);
    MHD_http_unescape(name);
    return http_objects_find(&x->store->objects, name);
}

static void tell_copy_locked(struct exchange *x)
{
    const struct http_store *s = x->store;
    const char *status = s->copy_polls > 0 ? "pending" : s->copy_status;
    answer_header(x, "x-ms-copy-id", "copy-%llu", (unsigned long long)s->objects.puts);
    if (status != NULL)
        answer_header(x, "x-ms-copy-status", "%s", status);
}

/* Copy Blob is answered 202 and may go on, Put Blob From URL (with a blob type) 201 when done. */
static void copy_locked(struct exchange *x, const char *from)
{
    const struct http_object *source = source_locked(x, from);
    struct buf body = BUF_NONE, headers = BUF_NONE;
    if (source == NULL)
        return refuse(x, 404, "CannotVerifyCopySource");
    if (taken_locked(x))
        return refuse(x, 409, "BlobAlreadyExists");
    buf_put(&body, source->body.data, source->body.length);
    buf_put(&headers, source->headers.data, source->headers.length);
    struct http_object *object = http_object_make(x->name, &body, &headers, NULL);
    object->copied = true;
    made(x, object);
    tell_copy_locked(x);
    if (exchange_header(x, "x-ms-blob-type") == NULL)
        x->status = 202;
}

static void get_locked(struct exchange *x)
{
    struct http_object *object = http_objects_find(&x->store->objects, x->name);
    const char *range = exchange_header(x, "x-ms-range");
    if (object == NULL)
        return refuse(x, 404, "BlobNotFound");
    if (object->copied) {
        x->store->copy_polls -= x->store->copy_polls > 0;
        tell_copy_locked(x);
    }
    answer_header(x, "ETag", "\"0x%llX\"", (unsigned long long)object->number);
    if (!answer_object(x, object, range != NULL ? range : exchange_header(x, "Range")))
        refuse(x, 416, "InvalidRange");
}

static void remove_locked(struct exchange *x)
{
    if (http_objects_remove(&x->store->objects, x->name))
        x->status = 202;
    else
        refuse(x, 404, "BlobNotFound");
}

/* --- in blocks --- */

static void put_block_locked(struct exchange *x)
{
    const char *id = exchange_parameter(x, "blockid");
    struct buf headers = BUF_NONE;
    char name[PIECE_NAME_MAX];
    if (id == NULL)
        return refuse(x, 400, "InvalidQueryParameterValue");
    snprintf(name, sizeof name, "%s %s", x->name, id);
    http_objects_put_piece(&x->store->objects, http_object_make(name, &x->body, &headers, NULL));
    x->status = 201;
}

/* Joins what <Latest>ID</Latest> ... names. */
static bool join_locked(const struct exchange *x, struct buf *body)
{
    const char *at = (const char *)x->body.data;
    char name[PIECE_NAME_MAX];
    for (; (at = strstr(at, "<Latest>")) != NULL;) {
        at += strlen("<Latest>");
        snprintf(name, sizeof name, "%s %.*s", x->name, (int)strcspn(at, "<"), at);
        const struct http_object *piece = http_objects_piece(&x->store->objects, name);
        if (piece == NULL)
            return false;
        buf_put(body, piece->body.data, piece->body.length);
    }
    return true;
}

static void put_list_locked(struct exchange *x)
{
    const char *digest = exchange_header(x, "x-ms-blob-content-md5");
    struct buf body = BUF_NONE, headers = BUF_NONE;
    char name[PIECE_NAME_MAX];
    buf_put_u8(&x->body, 0);
    if (taken_locked(x))
        return refuse(x, 409, "BlobAlreadyExists");
    if (!join_locked(x, &body)) {
        buf_release(&body);
        return refuse(x, 400, "InvalidBlockList");
    }
    keep(x, &headers);
    if (digest != NULL)
        keep_md5(&headers, digest);
    made(x, http_object_make(x->name, &body, &headers, NULL));
    snprintf(name, sizeof name, "%s ", x->name);
    http_objects_drop_pieces(&x->store->objects, name);
}

/* --- all --- */

static void blob_locked(struct exchange *x)
{
    const char *comp = exchange_parameter(x, "comp");
    const char *from = exchange_header(x, "x-ms-copy-source");
    if (!http_objects_has_container(&x->store->objects, x->container))
        refuse(x, 404, "ContainerNotFound");
    else if (exchange_is(x, "PUT") && comp != NULL && strcmp(comp, "block") == 0)
        put_block_locked(x);
    else if (exchange_is(x, "PUT") && comp != NULL && strcmp(comp, "blocklist") == 0)
        put_list_locked(x);
    else if (exchange_is(x, "PUT") && from != NULL)
        copy_locked(x, from);
    else if (exchange_is(x, "PUT"))
        put_locked(x);
    else if (exchange_is(x, "DELETE"))
        remove_locked(x);
    else if (exchange_is(x, "GET") || exchange_is(x, "HEAD"))
        get_locked(x);
    else
        refuse(x, 405, "UnsupportedHttpVerb");
}

void azure_answer(struct exchange *x)
{
    const char *container = strchr(x->path + 1, '/');
    exchange_locate(x, container != NULL ? container + 1 : "");
    if (!admitted(x))
        return;
    LOCK_SCOPE(&x->store->lock);
    if (x->name == NULL)
        container_locked(x);
    else
        blob_locked(x);
}
