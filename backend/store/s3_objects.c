/* SPDX-License-Identifier: MIT */
#include "backend/store/s3_objects.h"

#include "common/base64.h"
#include "common/parallel.h"

#include <stdio.h>

#define UPLOAD_ID_MAX 1024u
#define ETAG_MAX      160u
#define PARTS_MAX     (STORE_OBJECT_MAX / S3_PART_BYTES)

/* A long request is answered 200 at once, with white space while it runs, and says in the body at
 * last whether it went well. `root` is the element of one that did. */
static bool said_done(struct cloud *c, const struct cloud_call *call,
                      const struct http_answer *answer, const char *root, struct err *err)
{
    struct span text = buf_span(&answer->body);
    char code[96], rest[16];
    struct err why = ERR_NONE;

    while (text.length > 0 && strchr(" \t\r\n", text.data[0]) != NULL)
        text = span_part(text, 1, text.length - 1);
    if (xml_text(text, root, rest, sizeof rest))
        return true;
    if (!xml_text(text, "Error/Code", code, sizeof code))
        return cloud_refuse(c, call, answer, "", ERR_TRANSIENT,
                            "its body does not say whether it was done", err);
    (void)c->dialect->refuse(c, call, answer, code, &why); /* the caller tries again, or not */
    if (why.kind == ERR_INVALID) /* judged by the status, which says nothing here */
        why.kind = ERR_TRANSIENT;
    if (err != NULL)
        *err = why;
    return false;
}

/* --- one upload --- */

struct upload {
    struct cloud *cloud;
    const char *key;
    struct span body;
    char id[UPLOAD_ID_MAX];
    char etags[PARTS_MAX][ETAG_MAX]; /* as the service gave them */
};

static size_t part_count(const struct upload *u)
{
    size_t count = (u->body.length + S3_PART_BYTES - 1) / S3_PART_BYTES;
    return count > 0 ? count : 1;
}

static bool upload_create(struct upload *u, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "POST", .key = u->key, .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char hex[2 * SHA256_BYTES + 1];

    sha256_hex(u->body, hex);
    cloud_query(&call, "uploads", "");
    cloud_header(&call, "content-type", "application/octet-stream");
    cloud_header(&call, S3_DIGEST_HEADER, "%s", hex);
    if (!cloud_send(u->cloud, &call, &answer, err))
        return false;
    return (xml_text(buf_span(&answer.body), "InitiateMultipartUploadResult/UploadId", u->id,
                     sizeof u->id) &&
            u->id[0] != '\0') ||
           cloud_refuse(u->cloud, &call, &answer, "", ERR_CORRUPT, "it names no upload", err);
}

/* What can stand in XML as it is. */
static bool etag_take(const char *etag, char out[ETAG_MAX])
{
    if (etag == NULL || strlen(etag) >= ETAG_MAX || strpbrk(etag, "<>&") != NULL)
        return false;
    memcpy(out, etag, strlen(etag) + 1);
    return true;
}

static bool upload_part(void *context, size_t index, struct err *err)
{
    struct upload *u = context;
    size_t at = index * S3_PART_BYTES, left = u->body.length - at;
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT",
        .key = u->key,
        .body = span_part(u->body, at, left < S3_PART_BYTES ? left : S3_PART_BYTES)};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char number[8];

    snprintf(number, sizeof number, "%zu", index + 1);
    cloud_query(&call, "partNumber", number);
    cloud_query(&call, "uploadId", u->id);
    return cloud_send(u->cloud, &call, &answer, err) &&
           (etag_take(http_answer_header(&answer, "ETag"), u->etags[index]) ||
            cloud_refuse(u->cloud, &call, &answer, "", ERR_CORRUPT, "it gives the part no ETag",
                         err));
}

static void put_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

static bool upload_complete(struct upload *u, struct err *err)
{
    struct buf list AUTO_BUF = BUF_NONE;
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "POST", .key = u->key, .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char row[ETAG_MAX + 80];

    put_text(&list, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < part_count(u); i++) {
        snprintf(row, sizeof row, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>", i + 1,
                 u->etags[i]);
        put_text(&list, row);
    }
    put_text(&list, "</CompleteMultipartUpload>");
    if (!buf_ok(&list, err))
        return false;
    call.body = buf_span(&list);
    cloud_query(&call, "uploadId", u->id);
    cloud_header(&call, "content-type", "application/xml");
    cloud_header(&call, "if-none-match", "*");
    return cloud_send(u->cloud, &call, &answer, err) &&
           said_done(u->cloud, &call, &answer, "CompleteMultipartUploadResult", err);
}

/* What cannot be aborted costs room until the bucket's life cycle rule ends it; an upload that is
 * complete is no longer one. */
static void upload_abort(struct upload *u)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "DELETE", .key = u->key};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    cloud_query(&call, "uploadId", u->id);
    (void)!cloud_send(u->cloud, &call, &answer, NULL);
}

bool s3_put_parts(struct cloud *c, const char *key, struct span body, struct err *err)
{
    struct upload u = {.cloud = c, .key = key, .body = body};
    struct err why = ERR_NONE;

    assert(part_count(&u) <= PARTS_MAX);
    if (upload_create(&u, &why)) {
        if (parallel_each(part_count(&u), S3_PART_THREADS, upload_part, &u, &why) &&
            upload_complete(&u, &why))
            return true;
        upload_abort(&u);
    }
    /* Not found is no outcome of a put: the upload is gone, or the name was removed meanwhile. */
    if (why.kind == ERR_NOT_FOUND)
        why.kind = ERR_TRANSIENT;
    if (err != NULL)
        *err = why;
    return false;
}

/* --- whether Complete keeps the contract --- */

static const char proof_body[] = "farshore asks: does Complete refuse a name that is taken?";

void s3_parts_init(struct s3_parts *p)
{
    pthread_mutex_init(&p->proving, NULL);
    p->proof = S3_PARTS_UNKNOWN;
}

void s3_parts_release(struct s3_parts *p)
{
    pthread_mutex_destroy(&p->proving);
}

/* The same bytes both times: also where they replace what is there, nothing changes. It stays, for
 * who may only create cannot remove it, and of two who ask at once neither removes it under the
 * other. */
static enum s3_proof prove(struct cloud *c, const char *key)
{
    char proof_key[STORE_KEY_MAX + 1];
    struct span body = span_of_text(proof_body);
    struct err err = ERR_NONE;
    const char *slash = strchr(key, '/');

    snprintf(proof_key, sizeof proof_key, "%.*scheck-parts",
             slash != NULL ? (int)(slash - key + 1) : 0, key);
    if (!cloud_put_whole(c, proof_key, body, NULL, &err) && err.kind != ERR_EXISTS)
        return err.kind == ERR_TRANSIENT ? S3_PARTS_UNKNOWN : S3_PARTS_UNSAFE;
    if (s3_put_parts(c, proof_key, body, &err))
        return S3_PARTS_UNSAFE;
    return err.kind == ERR_EXISTS                                   ? S3_PARTS_SAFE
           : err.kind == ERR_TRANSIENT || err.kind == ERR_CANCELLED ? S3_PARTS_UNKNOWN
                                                                    : S3_PARTS_UNSAFE;
}

bool s3_parts_safe(struct cloud *c, struct s3_parts *p, const char *key)
{
    LOCK_SCOPE(&p->proving);
    if (p->proof == S3_PARTS_UNKNOWN)
        p->proof = prove(c, key);
    return p->proof == S3_PARTS_SAFE;
}

/* --- copies --- */

bool s3_copy_object(struct cloud *c, const char *key, const char *source,
                    const struct sha256 *digest, bool *proved, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT", .key = key, .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char ours[BASE64_CHARS(SHA256_BYTES) + 1], theirs[BASE64_CHARS(SHA256_BYTES) + 16];

    cloud_header(&call, "x-amz-checksum-algorithm", "SHA256");
    cloud_header(&call, "x-amz-copy-source", "%s", source);
    if (!cloud_send(c, &call, &answer, err) ||
        !said_done(c, &call, &answer, "CopyObjectResult", err))
        return false;
    base64_write(span_of(digest->bytes, SHA256_BYTES), ours);
    *proved = xml_text(buf_span(&answer.body), "CopyObjectResult/ChecksumSHA256", theirs,
                       sizeof theirs) &&
              strcmp(ours, theirs) == 0;
    return true;
}
