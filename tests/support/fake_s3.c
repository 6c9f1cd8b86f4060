/* SPDX-License-Identifier: MIT */
#include "tests/support/fake_s3.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>

#include "common/base64.h"

/* In the server's threads a failed check cannot end a test. */
static void must(bool holds)
{
    if (!holds)
        abort();
}

struct request {
    struct buf body;
};

struct fake_object *fake_s3_find_locked(struct fake_s3 *s, const char *key)
{
    for (size_t i = 0; i < FAKE_S3_OBJECTS_MAX; i++)
        if (strcmp(s->objects[i].key, key) == 0)
            return &s->objects[i];
    return NULL;
}

/* An empty place has an empty key. */
static struct fake_object *make_locked(struct fake_s3 *s, const char *key)
{
    struct fake_object *o = fake_s3_find_locked(s, key);
    if (o == NULL)
        o = fake_s3_find_locked(s, "");
    must(o != NULL);
    snprintf(o->key, sizeof o->key, "%s", key);
    buf_clear(&o->body);
    return o;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *text,
                             const char *etag)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
    if (etag != NULL)
        MHD_add_response_header(r, "ETag", etag);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *code)
{
    char text[200];
    snprintf(text, sizeof text, "<Error><Code>%s</Code></Error>", code);
    return reply(c, status, text, NULL);
}

static enum MHD_Result put_whole(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                                 struct span body)
{
    const char *condition = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-None-Match");
    LOCK_SCOPE(&s->lock);
    s->whole_puts++;
    must(condition != NULL);
    if (fake_s3_find_locked(s, key) != NULL)
        return refuse(c, 412, "PreconditionFailed");
    buf_put(&make_locked(s, key)->body, body.data, body.length);
    return reply(c, 200, "", "\"whole\"");
}

static enum MHD_Result create(struct fake_s3 *s, struct MHD_Connection *c, const char *key)
{
    char text[200];
    LOCK_SCOPE(&s->lock);
    if (s->no_uploads)
        return refuse(c, 403, "AccessDenied");
    must(s->upload_count < FAKE_S3_UPLOADS_MAX);
    struct fake_upload *u = &s->uploads[s->upload_count++];
    u->open = true;
    snprintf(u->key, sizeof u->key, "%s", key);
    snprintf(text, sizeof text,
             "<InitiateMultipartUploadResult><UploadId>up/%zu</UploadId>"
             "</InitiateMultipartUploadResult>",
             s->upload_count - 1);
    return reply(c, 200, text, NULL);
}

static struct fake_upload *upload_locked(struct fake_s3 *s, const char *id)
{
    size_t n = FAKE_S3_UPLOADS_MAX;
    if (sscanf(id, "up/%zu", &n) != 1 || n >= s->upload_count || !s->uploads[n].open)
        return NULL;
    return &s->uploads[n];
}

static enum MHD_Result put_part(struct fake_s3 *s, struct MHD_Connection *c, const char *id,
                                unsigned number, struct span body)
{
    char etag[32];
    LOCK_SCOPE(&s->lock);
    struct fake_upload *u = upload_locked(s, id);
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    if (number == s->fail_part)
        return refuse(c, 500, "InternalError");
    must(number >= 1 && number <= FAKE_S3_PARTS_MAX);
    buf_clear(&u->parts[number - 1]);
    buf_put(&u->parts[number - 1], body.data, body.length);
    snprintf(etag, sizeof etag, "\"part-%u\"", number);
    return reply(c, 200, "", etag);
}

/* Every part in order, with the ETag that it was given. */
static void check_list(const struct fake_upload *u, struct span body)
{
    char text[2048], row[120];
    size_t rows = 0;
    snprintf(text, sizeof text, "%.*s", (int)body.length, (const char *)body.data);
    const char *at = text;
    for (; rows < FAKE_S3_PARTS_MAX && u->parts[rows].length > 0; rows++) {
        snprintf(row, sizeof row,
                 "<Part><PartNumber>%zu</PartNumber><ETag>\"part-%zu\"</ETag></Part>", rows + 1,
                 rows + 1);
        at = strstr(at, row);
        must(at != NULL);
    }
    must(strstr(at + 1, "<Part>") == NULL);
}

static enum MHD_Result complete(struct fake_s3 *s, struct MHD_Connection *c, const char *id,
                                struct span body)
{
    const char *condition = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "If-None-Match");
    static const char done[] =
        "<CompleteMultipartUploadResult><ETag>x-2</ETag></CompleteMultipartUploadResult>";
    LOCK_SCOPE(&s->lock);
    struct fake_upload *u = upload_locked(s, id);
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    s->completes++;
    bool proof = strstr(u->key, "check-parts") != NULL;
    must(condition != NULL);
    must(strcmp(condition, "*") == 0);
    check_list(u, body);
    if (s->complete == COMPLETE_CONFLICTS)
        return refuse(c, 409, "ConditionalRequestConflict");
    if (s->complete == COMPLETE_SAYS_200 && !proof)
        return reply(c, 200,
                     "  \n <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>", NULL);
    if (s->complete == COMPLETE_FORGETS && !proof) {
        u->open = false;
        return refuse(c, 404, "NoSuchUpload");
    }
    if (s->complete != COMPLETE_REPLACES && fake_s3_find_locked(s, u->key) != NULL)
        return refuse(c, 412, "PreconditionFailed");
    struct fake_object *o = make_locked(s, u->key);
    for (size_t i = 0; i < FAKE_S3_PARTS_MAX; i++)
        buf_put(&o->body, u->parts[i].data, u->parts[i].length);
    u->open = false;
    if (s->complete == COMPLETE_LOSES_REPLY && !proof)
        return MHD_NO;
    return reply(c, 200, done, NULL);
}

static enum MHD_Result abort_upload(struct fake_s3 *s, struct MHD_Connection *c, const char *id)
{
    LOCK_SCOPE(&s->lock);
    struct fake_upload *u = upload_locked(s, id);
    s->aborts++;
    if (u == NULL)
        return refuse(c, 404, "NoSuchUpload");
    u->open = false;
    return reply(c, 204, "", NULL);
}

static enum MHD_Result copy(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                            const char *source)
{
    char text[300], base64[64] = "";
    LOCK_SCOPE(&s->lock);
    struct fake_object *from = fake_s3_find_locked(s, source);
    if (s->copies++ < s->copies_fail)
        return refuse(c, 503, "SlowDown");
    if (from == NULL)
        return refuse(c, 404, "NoSuchKey");
    if (s->copy_says_200)
        return refuse(c, 200, "SlowDown");
    struct fake_object *o = make_locked(s, key);
    buf_put(&o->body, from->body.data, from->body.length);
    struct sha256 digest = sha256_of(buf_span(&o->body));
    base64_write(span_of(digest.bytes, sizeof digest), base64);
    snprintf(text, sizeof text, "<CopyObjectResult><ETag>x</ETag>%s%s%s</CopyObjectResult>",
             s->copy_checksum ? "<ChecksumSHA256>" : "", s->copy_checksum ? base64 : "",
             s->copy_checksum ? "</ChecksumSHA256>" : "");
    return reply(c, 200, text, NULL);
}

static enum MHD_Result get(struct fake_s3 *s, struct MHD_Connection *c, const char *key)
{
    LOCK_SCOPE(&s->lock);
    struct fake_object *o = fake_s3_find_locked(s, key);
    if (o == NULL)
        return refuse(c, 404, "NoSuchKey");
    struct MHD_Response *r =
        MHD_create_response_from_buffer(o->body.length, o->body.data, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, "ETag", "\"whole\"");
    enum MHD_Result result = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result answer(struct fake_s3 *s, struct MHD_Connection *c, const char *key,
                              const char *method, struct span body)
{
    const char *id = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "uploadId");
    const char *number = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "partNumber");
    const char *source = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "x-amz-copy-source");
    if (strcmp(method, "PUT") == 0 && source != NULL)
        return copy(s, c, key, source);
    if (strcmp(method, "PUT") == 0)
        return id != NULL ? put_part(s, c, id, (unsigned)atoi(number), body)
                          : put_whole(s, c, key, body);
    if (strcmp(method, "POST") == 0)
        return id != NULL ? complete(s, c, id, body) : create(s, c, key);
    if (strcmp(method, "DELETE") == 0)
        return abort_upload(s, c, id);
    return get(s, c, key);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *length, void **state)
{
    struct request *r = *state;
    (void)version;
    if (r == NULL) {
        *state = calloc(1, sizeof *r);
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*length > 0) {
        buf_put(&r->body, data, *length);
        *length = 0;
        return MHD_YES;
    }
    return answer(context, c, url, method, buf_span(&r->body));
}

static void forget(void *context, struct MHD_Connection *c, void **state,
                   enum MHD_RequestTerminationCode code)
{
    struct request *r = *state;
    (void)context, (void)c, (void)code;
    if (r != NULL)
        buf_release(&r->body);
    free(r);
}

struct fake_s3 *fake_s3_start(void)
{
    struct fake_s3 *s = calloc(1, sizeof *s);
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(s != NULL);
    pthread_mutex_init(&s->lock, NULL);
    s->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0,
                                 NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR, &loopback,
                                 MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    must(s->daemon != NULL);
    s->port = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    return s;
}

void fake_s3_stop(struct fake_s3 **fake)
{
    struct fake_s3 *s = *fake;
    MHD_stop_daemon(s->daemon);
    for (size_t i = 0; i < FAKE_S3_OBJECTS_MAX; i++)
        buf_release(&s->objects[i].body);
    for (size_t i = 0; i < FAKE_S3_UPLOADS_MAX; i++)
        for (size_t n = 0; n < FAKE_S3_PARTS_MAX; n++)
            buf_release(&s->uploads[i].parts[n]);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *fake = NULL;
}
