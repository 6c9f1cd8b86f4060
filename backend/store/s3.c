/* SPDX-License-Identifier: MIT */
#include "backend/store/s3.h"

#include "backend/store/rotation.h"
#include "backend/store/s3_identity.h"
#include "backend/store/s3_objects.h"

#include <stdio.h>

#define REGION_MAX 64u

struct s3 {
    struct cloud cloud;
    struct rotation *identity; /* of struct s3_identity */
    struct store_host host;
    char credential[STORE_URL_MAX]; /* the name of ours */
    char metadata[STORE_URL_MAX];   /* the endpoint's URL, "": the default */
    struct s3_parts parts;
    char bucket[256];
    char region[REGION_MAX];
    char endpoint[STORE_URL_MAX]; /* without the bucket */
};

static struct s3 *s3_of(struct cloud *c)
{
    return (struct s3 *)c;
}

/* --- the dialect --- */

static void wipe_credentials(struct s3_credentials *c)
{
    explicit_bzero(c, sizeof *c);
}

/* The body's digest is signed, so the server checks what arrived. */
static bool s3_sign(struct cloud *c, struct cloud_call *call, struct err *err)
{
    struct s3 *s = s3_of(c);
    struct s3_identity *i = rotation_now(s->identity);
    struct s3_credentials credentials CLEANUP(wipe_credentials);
    struct buf value AUTO_BUF = BUF_NONE;
    char date[S3_DATE_CHARS + 1], hex[2 * SHA256_BYTES + 1];

    call->identity = i;
    if (!s3_identity_get(i, &credentials, err))
        return err_wrap(err, "store %s", c->head.url);
    if (call->body_sha256 != NULL)
        snprintf(hex, sizeof hex, "%s", call->body_sha256);
    else
        sha256_hex(call->body, hex);
    s3_date(call->now_ms, date);
    cloud_header(call, "host", "%s", c->host);
    cloud_header(call, "x-amz-content-sha256", "%s", hex);
    cloud_header(call, "x-amz-date", "%s", date);
    if (credentials.token[0] != '\0')
        cloud_header(call, "x-amz-security-token", "%s", credentials.token);
    if (!s3_authorization(call, &credentials, s->region, "s3", hex, &value, err))
        return false;
    cloud_header(call, "authorization", "%s", (const char *)value.data);
    return true;
}

/* The digest stays with the object. An entity tag would not do for it: it is the body's MD5 in some
 * stores and for some kinds of encryption only. */
static bool s3_describe_put(struct cloud *c, struct cloud_call *call, struct err *err)
{
    char hex[2 * SHA256_BYTES + 1];
    (void)c, (void)err;
    if (call->digest != NULL)
        hex_of(call->digest->bytes, sizeof *call->digest, hex);
    else
        sha256_hex(call->body, hex);
    cloud_header(call, "content-type", "application/octet-stream");
    cloud_header(call, S3_DIGEST_HEADER, "%s", hex);
    call->body_sha256 = cloud_header_value(call, S3_DIGEST_HEADER);
    return true;
}

static bool s3_fits(const struct http_answer *answer)
{
    const char *wanted = http_answer_header(answer, S3_DIGEST_HEADER);
    char hex[2 * SHA256_BYTES + 1];
    if (wanted == NULL)
        return true;
    sha256_hex(buf_span(&answer->body), hex);
    return strcmp(wanted, hex) == 0;
}

static void s3_list(struct cloud_call *call, const char *prefix, const char *after,
                    const char *marker)
{
    if (marker[0] != '\0')
        cloud_query(call, "continuation-token", marker);
    cloud_query(call, "list-type", "2");
    if (prefix[0] != '\0')
        cloud_query(call, "prefix", prefix);
    if (after[0] != '\0' && marker[0] == '\0')
        cloud_query(call, "start-after", after);
}

/* --- refusals --- */

static const struct {
    const char *code;
    enum err_kind kind;
    const char *advice;
} refusals[] = {
    {"PreconditionFailed", ERR_EXISTS, ""},
    {"ConditionalRequestConflict", ERR_TRANSIENT, "another writer is at it"},
    {"OperationAborted", ERR_TRANSIENT, "another operation is at it"},
    {"NoSuchKey", ERR_NOT_FOUND, ""},
    {"NoSuchUpload", ERR_TRANSIENT, "the store no longer knows the upload"},
    {"NoSuchBucket", ERR_INVALID, "there is no such bucket: enable makes it, or make it yourself"},
    {"InvalidLocationConstraint", ERR_INVALID,
     "the store does not know this region: give the one it is in as region= in the store's URL"},
    {"InvalidRange", ERR_CORRUPT, "it ends before that"},
    {"AccessDenied", ERR_DENIED,
     "these credentials lack the right, or the bucket's policy forbids "
     "it: docs/STORES.md lists what each role needs"},
    {"SignatureDoesNotMatch", ERR_DENIED, "the secret key does not belong to the key id"},
    {"InvalidAccessKeyId", ERR_DENIED, "the store does not know the key id"},
    {"ExpiredToken", ERR_DENIED, "the session token has expired: get a new one"},
    {"InvalidToken", ERR_DENIED, "the session token is not accepted: get a new one"},
    {"RequestTimeTooSkewed", ERR_TRANSIENT, "the clocks differ: set this host's (chrony, ntpd)"},
    {"RequestExpired", ERR_TRANSIENT, "the clocks differ: set this host's (chrony, ntpd)"},
    {"QuotaExceeded", ERR_FULL, "the store's quota is used up: raise it, or thin the history"},
    {"NotImplemented", ERR_INVALID,
     "the store has not what farshore relies on (conditional writes): it cannot be used"},
    {"BadDigest", ERR_TRANSIENT, "the bytes changed on the way"},
    {"XAmzContentSHA256Mismatch", ERR_TRANSIENT, "the bytes changed on the way"},
    {"RequestTimeout", ERR_TRANSIENT, ""},
    {"SlowDown", ERR_TRANSIENT, "the store asks for fewer requests"},
};

/* The region that a store names when ours is wrong, or "". */
static void find_region(const struct http_answer *answer, char out[REGION_MAX])
{
    const char *header = http_answer_header(answer, "x-amz-bucket-region");
    if (header != NULL)
        snprintf(out, REGION_MAX, "%s", header);
    else if (!xml_text(buf_span(&answer->body), "Error/Region", out, REGION_MAX))
        out[0] = '\0';
    cloud_printable(out);
}

static bool refuse_region(struct cloud *c, const struct cloud_call *call,
                          const struct http_answer *answer, const char *code, struct err *err)
{
    char region[REGION_MAX], advice[256];
    find_region(answer, region);
    snprintf(advice, sizeof advice,
             "the bucket is elsewhere than in region %s: give %s%s in the store's URL",
             s3_of(c)->region, region[0] != '\0' ? "region=" : "its region= and endpoint=", region);
    return cloud_refuse(c, call, answer, code, ERR_INVALID, advice, err);
}

static enum err_kind kind_of_status(unsigned status)
{
    switch (status) {
    case 404:
        return ERR_NOT_FOUND;
    case 412:
        return ERR_EXISTS;
    default:
        return cloud_kind_of_status(status);
    }
}

static bool says(const char *code, const char *what)
{
    return strcmp(code, what) == 0;
}

/* What a second try may achieve. */
static bool mended(struct s3 *s, const struct cloud_call *call, const char *code,
                   enum err_kind kind)
{
    struct s3_identity *i = rotation_now(s->identity);
    if (says(code, "RequestTimeTooSkewed") || says(code, "RequestExpired"))
        return true; /* the answer's Date has taught us the time */
    if (s3_identity_fixed(i) != NULL)
        return kind == ERR_DENIED && rotation_renew(s->identity, call->identity);
    return (says(code, "ExpiredToken") || says(code, "InvalidToken")) && s3_identity_renew(i);
}

static bool s3_bucket_there(struct cloud *c, struct err *err);
static bool ask_bucket(struct cloud *c, struct err *err);

/* HEAD is answered without a body, and 400 says nothing (an expired token gives it): what is wrong
 * shows in a GET, which mends it where it can be mended. `err` holds the refusal. */
static bool head_mended(struct cloud *c, struct err *err)
{
    struct err reason = ERR_NONE;
    if (ask_bucket(c, &reason))
        return true;
    if (err != NULL)
        *err = reason;
    return false;
}

static bool s3_refuse(struct cloud *c, const struct cloud_call *call,
                      const struct http_answer *answer, const char *code, struct err *err)
{
    struct s3 *s = s3_of(c);
    enum err_kind kind = kind_of_status(answer->status);
    const char *advice = "";

    if (answer->status == 301 || answer->status == 307 ||
        says(code, "AuthorizationHeaderMalformed") ||
        says(code, "IllegalLocationConstraintException"))
        return refuse_region(c, call, answer, code, err);
    /* A 403 to HEAD has no body: a skewed clock may be the reason. */
    bool unsaid = code[0] == '\0' && strcmp(call->method, "HEAD") == 0;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (says(code, refusals[i].code)) {
            kind = refusals[i].kind;
            advice = refusals[i].advice;
        }
    if (answer->status == 501 && code[0] == '\0')
        advice = "the store has no conditional writes: it cannot be used";
    if (kind == ERR_DENIED && advice[0] == '\0')
        advice = "check the credentials and what they allow";
    if (kind == ERR_NOT_FOUND && unsaid && !s3_bucket_there(c, err))
        return false;
    if (kind == ERR_NOT_FOUND && code[0] == '\0' && !unsaid)
        kind = ERR_TRANSIENT; /* of what, is not said: not believed to be the object */
    cloud_refuse(c, call, answer, code, kind, advice, err);
    if (kind == ERR_DENIED)
        err_wrap(err, "credentials from %s", s3_identity_place(call->identity));
    if (unsaid && answer->status == 400)
        return head_mended(c, err);
    return mended(s, call, code, kind) || (unsaid && answer->status == 403);
}

static bool ask_bucket(struct cloud *c, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "GET", .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    cloud_query(&call, "list-type", "2");
    cloud_query(&call, "max-keys", "1");
    return cloud_send(c, &call, &answer, err);
}

/* A 404 to HEAD says not whether the object is missing or its whole bucket, and a missing bucket
 * must not look like an empty one. Asked until it was seen once. */
static bool s3_bucket_there(struct cloud *c, struct err *err)
{
    return c->container_seen || ask_bucket(c, err);
}

/* An instance is never replaced by another, so the one that holds now is the one that waits. */
static void s3_cancel(struct cloud *c, bool cancelled)
{
    s3_identity_cancel(rotation_now(s3_of(c)->identity), cancelled);
}

static const char *s3_metadata(struct cloud *c)
{
    return s3_identity_metadata(rotation_now(s3_of(c)->identity));
}

/* --- large bodies, copies --- */

static bool s3_put_large(struct cloud *c, const char *key, struct span body, struct err *err)
{
    return s3_parts_safe(c, &s3_of(c)->parts, key) ? s3_put_parts(c, key, body, err)
                                                   : cloud_put_whole(c, key, body, NULL, err);
}

/* The target's credentials read the source: they must be those that may. */
static bool s3_can_copy(struct cloud *c, struct cloud *from)
{
    const struct s3 *a = s3_of(c), *b = s3_of(from);
    struct s3_credentials ours CLEANUP(wipe_credentials), theirs CLEANUP(wipe_credentials);

    memset(&ours, 0, sizeof ours);
    memset(&theirs, 0, sizeof theirs);
    return strcmp(a->endpoint, b->endpoint) == 0 && strcmp(a->region, b->region) == 0 &&
           s3_identity_get(rotation_now(a->identity), &ours, NULL) &&
           s3_identity_get(rotation_now(b->identity), &theirs, NULL) &&
           strcmp(ours.key_id, theirs.key_id) == 0;
}

/* CopyObject replaces, and not everywhere can be told not to: what is there is left alone but for
 * a copy made in this very moment, which is its equal. */
static bool s3_copy(struct cloud *c, const char *key, struct cloud *from, const char *from_key,
                    const struct sha256 *digest, bool *proved, struct err *err)
{
    struct buf source AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    uint64_t there;

    if (store_size(&c->head, key, &there, &why))
        return err_set(err, ERR_EXISTS, "store %s: object %s exists", c->head.url, key);
    if (why.kind != ERR_NOT_FOUND) {
        if (err != NULL)
            *err = why;
        return false;
    }
    buf_put_u8(&source, '/');
    http_escape(&source, s3_of(from)->bucket, false);
    buf_put_u8(&source, '/');
    http_escape(&source, from->prefix, true);
    http_escape(&source, from_key, true);
    buf_put_u8(&source, 0);
    return buf_ok(&source, err) &&
           s3_copy_object(c, key, (const char *)source.data, digest, proved, err);
}

static void s3_release(struct cloud *c)
{
    rotation_release(&s3_of(c)->identity);
    s3_parts_release(&s3_of(c)->parts);
}

static const struct cloud_dialect s3_dialect = {
    .xml = XML_S3,
    .list = s3_list,
    .sign = s3_sign,
    .describe_put = s3_describe_put,
    .fits = s3_fits,
    .refuse = s3_refuse,
    .cancel = s3_cancel,
    .metadata = s3_metadata,
    .put_large = s3_put_large,
    .can_copy = s3_can_copy,
    .copy = s3_copy,
    .release = s3_release,
};

/* --- who we are --- */

static bool read_identity(void *context, void **out, struct err *err)
{
    const struct s3 *s = context;
    struct s3_identity *made = NULL;
    bool good = s3_identity_make(&s->host, s->credential,
                                 s->metadata[0] != '\0' ? s->metadata : NULL, &made, err);
    *out = made;
    return good;
}

/* An instance's role is no successor of a file that is gone for a moment. */
static bool same_identity(const void *before, const void *made)
{
    const struct s3_credentials *a = s3_identity_fixed(before), *b = s3_identity_fixed(made);
    return b == NULL || (strcmp(a->key_id, b->key_id) == 0 && strcmp(a->secret, b->secret) == 0 &&
                         strcmp(a->token, b->token) == 0);
}

static void release_identity(void *made)
{
    struct s3_identity *i = made;
    s3_identity_release(&i);
}

static const struct rotation_ops identity_ops = {
    .make = read_identity, .same = same_identity, .release = release_identity};

/* --- opening --- */

static const char *first_of(const char *a, const char *b, const char *c, const char *d)
{
    return a != NULL && *a != '\0'   ? a
           : b != NULL && *b != '\0' ? b
           : c != NULL && *c != '\0' ? c
                                     : d;
}

/* The bucket's URL: "path" style behind the endpoint, "host" style in front of its host. */
static bool bucket_url(struct s3 *s, const struct store_url *u, char out[STORE_URL_MAX],
                       struct err *err)
{
    char standard[256];
    const char *endpoint = store_url_option(u, "endpoint"), *style = store_url_option(u, "style");
    snprintf(standard, sizeof standard, "https://s3.%s.amazonaws.com", s->region);
    bool path = style != NULL ? strcmp(style, "path") == 0 : endpoint != NULL;
    if (style != NULL && !path && strcmp(style, "host") != 0)
        return err_set(err, ERR_INVALID, "style=%s: it is path or host", style);
    const char *base = endpoint != NULL ? endpoint : standard;
    const char *host = strstr(base, "://");
    size_t length = strlen(base);
    while (length > 0 && base[length - 1] == '/')
        length--;
    snprintf(s->endpoint, sizeof s->endpoint, "%.*s", (int)length, base);
    int used = path || host == NULL
                   ? snprintf(out, STORE_URL_MAX, "%.*s/%s", (int)length, base, s->bucket)
                   : snprintf(out, STORE_URL_MAX, "%.*s://%s.%s", (int)(host - base), base,
                              s->bucket, host + strlen("://"));
    return (used > 0 && used < (int)STORE_URL_MAX) ||
           err_set(err, ERR_INVALID, "its endpoint is too long");
}

static bool make_bucket(struct s3 *s, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err why = ERR_NONE;
    char body[256];

    snprintf(body, sizeof body,
             "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
             "<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
             s->region);
    if (strcmp(s->region, "us-east-1") != 0)
        call.body = span_of_text(body);
    if (cloud_send(&s->cloud, &call, &answer, &why))
        return true;
    /* Ours already, or not ours to make: whether it can be used shows when it is. */
    if (answer.status == 409 || answer.status == 403)
        return true;
    if (err != NULL)
        *err = why;
    return false;
}

/* It goes into headers and XML. */
static bool take_region(struct s3 *s, const char *region, struct err *err)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t length = strlen(region);
    if (length >= sizeof s->region || strspn(region, chars) != length)
        return err_set(
            err, ERR_INVALID,
            "region= of its URL, AWS_REGION or AWS_DEFAULT_REGION is no region: it is of "
            "letters, digits, - _ . and shorter than %u",
            REGION_MAX);
    memcpy(s->region, region, length + 1);
    return true;
}

static void name_identity(struct s3 *s, const struct store_host *host, const struct store_url *u)
{
    const char *credential = store_url_option(u, "credential");
    const char *metadata = store_url_option(u, "identity");
    s->host = *host;
    snprintf(s->credential, sizeof s->credential, "%s%s", credential != NULL ? "" : "s3.",
             credential != NULL ? credential : s->bucket);
    snprintf(s->metadata, sizeof s->metadata, "%s", metadata != NULL ? metadata : "");
}

static bool open_s3(struct s3 *s, const struct store_host *host, const char *url, bool create,
                    struct err *err)
{
    static const char *const options[] = {CLOUD_OPTIONS, "region", "style", NULL};
    struct store_url u;
    char base[STORE_URL_MAX];

    if (!store_url_parse(url, "s3://", options, &u, err))
        return false;
    snprintf(s->bucket, sizeof s->bucket, "%s", u.authority);
    const char *region = first_of(store_url_option(&u, "region"), host->env("AWS_REGION"),
                                  host->env("AWS_DEFAULT_REGION"), "us-east-1");
    name_identity(s, host, &u);
    s->cloud.large_bytes = S3_LARGE_BYTES;
    return ((take_region(s, region, err) && bucket_url(s, &u, base, err)) ||
            err_wrap(err, "store %s", url)) &&
           cloud_init(&s->cloud, &s3_dialect, host, url, &u, base, u.path, err) &&
           (rotation_make(&identity_ops, s, &s->identity, err) || err_wrap(err, "store %s", url)) &&
           (!create || make_bucket(s, err));
}

bool s3_store_open(const struct store_host *host, const char *url, bool create, struct store **out,
                   struct err *err)
{
    struct s3 *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_FULL, "out of memory opening store %s", url);
    s3_parts_init(&s->parts);
    if (open_s3(s, host, url, create, err)) {
        *out = &s->cloud.head;
        return true;
    }
    s3_release(&s->cloud);
    http_release(&s->cloud.http);
    free(s);
    return false;
}
