/* SPDX-License-Identifier: MIT */
#include "backend/store/azure.h"

#include "backend/store/azure_identity.h"
#include "backend/store/azure_sign.h"
#include "backend/store/rotation.h"
#include "common/base64.h"
#include "common/digest.h"
#include "common/parallel.h"

#include <stdio.h>

#define API_VERSION       "2021-12-02"
#define BLOCK_BYTES_LARGE (8u << 20)
#define LARGE_BYTES       (16u << 20) /* above this a body goes in blocks */
#define BLOCK_THREADS     4u
#define BLOCK_ID_BYTES    12u /* 8 random, 4 of the number: 16 characters */
#define CONTAINER_MAX     63u
#define SOURCE_URL_MAX    2048u /* of a copy: the service takes no more */
#define COPY_WAIT_MS      30000u
#define COPY_POLL_MS      250u

struct azure {
    struct cloud cloud;
    struct rotation *identity; /* of struct azure_identity */
    struct store_host host;
    char account[256];
    char credential[STORE_URL_MAX]; /* the name of ours */
    char metadata[STORE_URL_MAX];   /* the endpoint's URL, "": the default */
};

static struct azure *azure_of(struct cloud *c)
{
    return (struct azure *)c;
}

/* --- the dialect --- */

static bool add_token(struct azure *a, struct azure_identity *i, struct cloud_call *call,
                      struct err *err)
{
    struct buf token AUTO_SECRET_BUF = BUF_NONE;
    if (!buf_reserve(&token, 16u << 10))
        return err_set(err, ERR_FULL, "out of memory");
    if (!azure_identity_token(i, &token, err))
        return err_wrap(err, "store %s", a->cloud.head.url);
    cloud_header(call, "authorization", "Bearer %s", (const char *)token.data);
    return true;
}

static bool azure_sign(struct cloud *c, struct cloud_call *call, struct err *err)
{
    struct azure *a = azure_of(c);
    struct azure_identity *i = rotation_now(a->identity);
    struct buf value AUTO_BUF = BUF_NONE;
    char date[AZURE_DATE_CHARS + 1];

    call->identity = i;
    call->secret_query = NULL;
    azure_date(call->now_ms, date);
    cloud_header(call, "x-ms-date", "%s", date);
    cloud_header(call, "x-ms-version", API_VERSION);
    switch (azure_identity_proof(i)) {
    case AZURE_SAS:
        call->secret_query = azure_identity_sas(i);
        return true;
    case AZURE_TOKEN:
        return add_token(a, i, call, err);
    default:
        if (!azure_authorization(call, a->account, azure_identity_key(i), &value, err))
            return false;
        cloud_header(call, "authorization", "%s", (const char *)value.data);
        return true;
    }
}

static void write_md5(struct span body, char text[BASE64_CHARS(MD5_BYTES) + 1])
{
    struct md5 digest = md5_of(body);
    base64_write(span_of(digest.bytes, sizeof digest), text);
}

/* The service compares it with what arrived. */
static void add_md5(struct cloud_call *call)
{
    char text[BASE64_CHARS(MD5_BYTES) + 1];
    write_md5(call->body, text);
    cloud_header(call, "content-md5", "%s", text);
}

/* The service keeps the digest of what came in one request, and the one that came with a block
 * list.
 */
static bool azure_fits(const struct http_answer *answer)
{
    const char *wanted = http_answer_header(answer, "Content-MD5");
    char text[BASE64_CHARS(MD5_BYTES) + 1];
    if (wanted == NULL)
        return true;
    write_md5(buf_span(&answer->body), text);
    return strcmp(wanted, text) == 0;
}

static bool azure_describe_put(struct cloud *c, struct cloud_call *call, struct err *err)
{
    (void)c, (void)err;
    cloud_header(call, "content-type", "application/octet-stream");
    cloud_header(call, "x-ms-blob-type", "BlockBlob");
    add_md5(call);
    return true;
}

/* There is no parameter for names behind another one before version 2024-08-04: pages before it are
 * read and passed over. */
static void azure_list(struct cloud_call *call, const char *prefix, const char *after,
                       const char *marker)
{
    (void)after;
    cloud_query(call, "comp", "list");
    if (marker[0] != '\0')
        cloud_query(call, "marker", marker);
    if (prefix[0] != '\0')
        cloud_query(call, "prefix", prefix);
    cloud_query(call, "restype", "container");
}

/* --- refusals --- */

#define RIGHTS "docs/STORES.md lists what each role needs"

static const struct {
    const char *code;
    enum err_kind kind;
    const char *advice;
} refusals[] = {
    {"BlobAlreadyExists", ERR_EXISTS, ""},
    {"ConditionNotMet", ERR_EXISTS, ""},
    {"UnauthorizedBlobOverwrite", ERR_EXISTS, ""}, /* a SAS that may create and not write */
    {"BlobNotFound", ERR_NOT_FOUND, ""},
    {"ContainerNotFound", ERR_INVALID,
     "there is no such container: enable makes it, or make it yourself"},
    {"ContainerBeingDeleted", ERR_TRANSIENT, "the container is being deleted"},
    {"ContainerDisabled", ERR_DENIED, "the container is disabled"},
    {"InvalidRange", ERR_CORRUPT, "it ends before that"},
    {"AuthenticationFailed", ERR_DENIED,
     "the key or SAS token is wrong, or has expired: get a new one"},
    {"AuthorizationFailure", ERR_DENIED,
     "the key is wrong, or it is not allowed from here: " RIGHTS},
    {"AuthorizationPermissionMismatch", ERR_DENIED, "the SAS or role lacks the right: " RIGHTS},
    {"AuthorizationProtocolMismatch", ERR_DENIED, "the SAS is for https only"},
    {"AuthorizationResourceTypeMismatch", ERR_DENIED, "the SAS is for other things: " RIGHTS},
    {"AuthorizationServiceMismatch", ERR_DENIED, "the SAS is for another service: " RIGHTS},
    {"AuthorizationSourceIPMismatch", ERR_DENIED,
     "the SAS is for other addresses than this host's"},
    {"InsufficientAccountPermissions", ERR_DENIED, RIGHTS},
    {"KeyBasedAuthenticationNotPermitted", ERR_DENIED,
     "the account allows no keys: use a managed identity, or a SAS signed by one"},
    {"BlobImmutableDueToPolicy", ERR_DENIED, "a policy keeps it for some time yet"},
    {"AccountIsDisabled", ERR_DENIED, "the account is disabled"},
    {"InvalidBlobType", ERR_INVALID, "something else than a block blob lies there"},
    {"Md5Mismatch", ERR_TRANSIENT, "the bytes changed on the way"},
    {"ServerBusy", ERR_TRANSIENT, "the store asks for fewer requests"},
    {"OperationTimedOut", ERR_TRANSIENT, ""},
    {"InternalError", ERR_TRANSIENT, ""},
};

static enum err_kind kind_of_status(unsigned status)
{
    /* Of what, is not said: not believed to be the object. */
    return status == 404 ? ERR_TRANSIENT : cloud_kind_of_status(status);
}

static bool says(const char *code, const char *what)
{
    return strcmp(code, what) == 0;
}

/* What a second try may achieve. A new token; a credential that was put in the old one's place; or
 * the same one, refused for its date, which the answer has just taught us. */
static bool mended(struct azure *a, const struct cloud_call *call, unsigned status,
                   const char *code)
{
    struct azure_identity *i = rotation_now(a->identity);
    if (azure_identity_proof(i) == AZURE_TOKEN)
        return status == 401 && azure_identity_renew(i);
    return rotation_renew(a->identity, call->identity) ||
           (says(code, "AuthenticationFailed") && azure_identity_proof(i) == AZURE_KEY);
}

/* Under a SAS that may create and not write, a PUT to a taken key can be refused as not permitted
 * before its condition is looked at: then whether the key is taken is asked. */
static bool taken(struct cloud *c, const struct cloud_call *call, const char *code)
{
    uint64_t bytes;
    struct err ignored = ERR_NONE; /* then the refusal stands as it is */
    return says(code, "AuthorizationPermissionMismatch") && call->key != NULL &&
           says(cloud_header_value(call, "if-none-match"), "*") &&
           store_size(&c->head, call->key, &bytes, &ignored);
}

static bool azure_refuse(struct cloud *c, const struct cloud_call *call,
                         const struct http_answer *answer, const char *code, struct err *err)
{
    struct azure *a = azure_of(c);
    enum err_kind kind = kind_of_status(answer->status);
    const char *advice = answer->status == 401 || answer->status == 403 ? RIGHTS : "";

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (says(code, refusals[i].code)) {
            kind = refusals[i].kind;
            advice = refusals[i].advice;
        }
    if (taken(c, call, code)) {
        kind = ERR_EXISTS;
        advice = "";
    }
    if (answer->status == 404 && says(code, "CannotVerifyCopySource")) {
        kind = ERR_NOT_FOUND;
        advice = "there is nothing to copy from";
    }
    cloud_refuse(c, call, answer, code, kind, advice, err);
    if (kind != ERR_DENIED)
        return false;
    err_wrap(err, "credentials from %s", azure_identity_place(call->identity));
    return mended(a, call, answer->status, code);
}

/* --- large bodies --- */

static void block_id(const uint8_t random[8], uint32_t number, char out[20])
{
    uint8_t id[BLOCK_ID_BYTES];
    memcpy(id, random, 8);
    store_u32(id + 8, number);
    base64_write(span_of(id, sizeof id), out);
}

struct blocks {
    struct cloud *cloud;
    const char *key;
    struct span body;
    uint8_t random[8];
};

static bool put_block(void *context, size_t index, struct err *err)
{
    const struct blocks *b = context;
    size_t at = index * BLOCK_BYTES_LARGE, left = b->body.length - at;
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT",
        .key = b->key,
        .body = span_part(b->body, at, left < BLOCK_BYTES_LARGE ? left : BLOCK_BYTES_LARGE)};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char id[20];
    block_id(b->random, (uint32_t)index, id);
    cloud_query(&call, "blockid", id);
    cloud_query(&call, "comp", "block");
    add_md5(&call);
    return cloud_send(b->cloud, &call, &answer, err);
}

static bool put_block_list(struct cloud *c, const char *key, struct span list, const char *md5,
                           struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .key = key, .body = list};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    cloud_query(&call, "comp", "blocklist");
    cloud_header(&call, "if-none-match", "*");
    cloud_header(&call, "x-ms-blob-content-md5", "%s", md5);
    add_md5(&call);
    return cloud_send_object(c, &call, &answer, err);
}

/* Blocks that are not yet part of anything, then the list that makes the object, if there is none.
 * Random ids keep the blocks of writers who race apart; what is not listed the service forgets. */
static bool azure_put_large(struct cloud *c, const char *key, struct span body, struct err *err)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
    struct blocks b = {.cloud = c, .key = key, .body = body};
    size_t count = (body.length + BLOCK_BYTES_LARGE - 1) / BLOCK_BYTES_LARGE;
    struct buf list AUTO_BUF = BUF_NONE;
    char id[20], row[64], md5[BASE64_CHARS(MD5_BYTES) + 1];

    write_md5(body, md5);
    int result = c->world->ops->random(c->world, b.random, sizeof b.random);
    if (result < 0)
        return err_errno(err, -result, "random bytes for the blocks of %s", key);
    if (!parallel_each(count, BLOCK_THREADS, put_block, &b, err))
        return false;
    buf_put(&list, head, sizeof head - 1);
    for (uint32_t n = 0; n < count; n++) {
        block_id(b.random, n, id);
        int used = snprintf(row, sizeof row, "<Latest>%s</Latest>", id);
        buf_put(&list, row, (size_t)used);
    }
    buf_put(&list, "</BlockList>", strlen("</BlockList>"));
    return buf_ok(&list, err) && put_block_list(c, key, buf_span(&list), md5, err);
}

/* An instance is never replaced by another, so the one that holds now is the one that waits. */
static void azure_cancel(struct cloud *c, bool cancelled)
{
    azure_identity_cancel(rotation_now(azure_of(c)->identity), cancelled);
}

static const char *azure_metadata(struct cloud *c)
{
    return azure_identity_metadata(rotation_now(azure_of(c)->identity));
}

/* --- copies: https://learn.microsoft.com/rest/api/storageservices/copy-blob --- */

/* The same account, and credentials that hold for both. */
static bool azure_can_copy(struct cloud *c, struct cloud *from)
{
    const struct azure *a = azure_of(c), *b = azure_of(from);
    size_t root = (size_t)(c->base_path - c->base);
    return strcmp(a->account, b->account) == 0 && strncmp(c->base, from->base, root) == 0 &&
           (size_t)(from->base_path - from->base) == root &&
           azure_identity_same(rotation_now(a->identity), rotation_now(b->identity));
}

/* The source's URL. A SAS goes with it, which makes it a secret: for no other account or token is
 * it asked for. */
static bool source_url(struct cloud *from, const char *key, struct buf *out, struct err *err)
{
    const struct azure_identity *i = rotation_now(azure_of(from)->identity);
    buf_put(out, from->base, strlen(from->base));
    buf_put_u8(out, '/');
    http_escape(out, from->prefix, true);
    http_escape(out, key, true);
    if (azure_identity_proof(i) == AZURE_SAS) {
        const char *sas = azure_identity_sas(i);
        buf_put_u8(out, '?');
        buf_put(out, sas, strlen(sas));
    }
    buf_put_u8(out, 0);
    return buf_ok(out, err) &&
           (out->length <= SOURCE_URL_MAX ||
            err_set(err, ERR_INVALID, "store %s: the URL of %s is too long to be copied from",
                    from->head.url, key));
}

/* The blob stays, empty: nothing may rest on it before it was read. */
static void copy_abort(struct cloud *c, const char *key, const char *id)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .key = key};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    cloud_query(&call, "comp", "copy");
    cloud_query(&call, "copyid", id);
    cloud_header(&call, "x-ms-copy-action", "abort");
    (void)!cloud_send(c, &call, &answer, NULL); /* too late is as good */
}

/* Within one account a copy is done when it is answered, as a rule; else it is waited for. */
static bool copy_wait(struct cloud *c, const char *key, const struct http_answer *begun,
                      struct err *err)
{
    const char *id = http_answer_header(begun, "x-ms-copy-id");
    const char *status = http_answer_header(begun, "x-ms-copy-status");
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    for (uint32_t waited_ms = 0; status != NULL && strcmp(status, "pending") == 0;
         waited_ms += COPY_POLL_MS) {
        struct cloud_call call AUTO_CLOUD_CALL = {.method = "HEAD", .key = key};
        if (waited_ms >= COPY_WAIT_MS) {
            copy_abort(c, key, id != NULL ? id : "");
            return err_set(err, ERR_TRANSIENT, "store %s: the copy %s takes over %u s", c->head.url,
                           key, COPY_WAIT_MS / 1000);
        }
        usleep(COPY_POLL_MS * 1000);
        if (!cloud_send(c, &call, &answer, err))
            return false;
        status = http_answer_header(&answer, "x-ms-copy-status");
    }
    if (status != NULL && strcmp(status, "success") == 0)
        return true;
    char shown[33];
    snprintf(shown, sizeof shown, "%s", status != NULL ? status : "not told");
    cloud_printable(shown);
    return err_set(err, ERR_TRANSIENT, "store %s: the copy %s has failed: its status is %s",
                   c->head.url, key, shown);
}

/* The service has no SHA-256 of what it keeps, so nothing is ever proved here. */
static bool azure_copy(struct cloud *c, const char *key, struct cloud *from, const char *from_key,
                       const struct sha256 *digest, bool *proved, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .key = key};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct buf source AUTO_SECRET_BUF = BUF_NONE;

    (void)digest, (void)proved;
    if (!buf_reserve(&source, 8u << 10)) /* does not move: no secret is left behind */
        return err_set(err, ERR_FULL, "out of memory");
    if (!source_url(from, from_key, &source, err))
        return false;
    cloud_header(&call, "if-none-match", "*");
    cloud_header(&call, "x-ms-copy-source", "%s", (const char *)source.data);
    return cloud_send(c, &call, &answer, err) && copy_wait(c, key, &answer, err);
}

static void azure_release(struct cloud *c)
{
    rotation_release(&azure_of(c)->identity);
}

static const struct cloud_dialect azure_dialect = {
    .xml = XML_AZURE,
    .list = azure_list,
    .sign = azure_sign,
    .describe_put = azure_describe_put,
    .fits = azure_fits,
    .refuse = azure_refuse,
    .put_large = azure_put_large,
    .cancel = azure_cancel,
    .metadata = azure_metadata,
    .can_copy = azure_can_copy,
    .copy = azure_copy,
    .release = azure_release,
};

/* --- who we are --- */

static bool read_identity(void *context, void **out, struct err *err)
{
    const struct azure *a = context;
    struct azure_identity *made = NULL;
    bool good = azure_identity_make(&a->host, a->account, a->credential,
                                    a->metadata[0] != '\0' ? a->metadata : NULL, &made, err);
    *out = made;
    return good;
}

/* A machine's identity is no successor of a file that is gone for a moment. */
static bool same_identity(const void *before, const void *made)
{
    enum azure_proof proof = azure_identity_proof(made);
    return proof == AZURE_TOKEN ||
           (proof == azure_identity_proof(before) &&
            span_equal(azure_identity_key(before), azure_identity_key(made)));
}

static void release_identity(void *made)
{
    struct azure_identity *i = made;
    azure_identity_release(&i);
}

static const struct rotation_ops identity_ops = {
    .make = read_identity, .same = same_identity, .release = release_identity};

/* --- opening --- */

/* Whether it could be made or not: that it can be used shows when it is. */
static bool make_container(struct azure *a, struct err *err)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .body_max = XML_BYTES_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    struct err why = ERR_NONE;

    cloud_query(&call, "restype", "container");
    if (cloud_send(&a->cloud, &call, &answer, &why) || answer.status == 409 || answer.status == 403)
        return true;
    if (err != NULL)
        *err = why;
    return false;
}

static bool container_valid(const char *name)
{
    size_t length = strlen(name);
    return length >= 3 && length <= CONTAINER_MAX && name[0] != '-' && name[length - 1] != '-' &&
           strstr(name, "--") == NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static bool account_valid(const char *name)
{
    size_t length = strlen(name);
    return length >= 3 && length <= 24 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == length;
}

static void name_identity(struct azure *a, const struct store_host *host, const struct store_url *u)
{
    const char *credential = store_url_option(u, "credential");
    const char *metadata = store_url_option(u, "identity");
    a->host = *host;
    snprintf(a->credential, sizeof a->credential, "%s%s", credential != NULL ? "" : "azure.",
             credential != NULL ? credential : a->account);
    snprintf(a->metadata, sizeof a->metadata, "%s", metadata != NULL ? metadata : "");
}

static bool open_azure(struct azure *a, const struct store_host *host, const char *url, bool create,
                       struct err *err)
{
    static const char *const options[] = {CLOUD_OPTIONS, NULL};
    struct store_url u;
    char base[STORE_URL_MAX];

    if (!store_url_parse(url, "azure://", options, &u, err))
        return false;
    char *slash = strchr(u.path, '/');
    const char *prefix = slash != NULL ? slash + 1 : "";
    if (slash != NULL)
        *slash = '\0';
    if (!account_valid(u.authority) || !container_valid(u.path))
        return err_set(err, ERR_INVALID,
                       "store %s: write azure://ACCOUNT/CONTAINER/PREFIX: 3 to 24 letters and "
                       "digits, and 3 to 63 letters, digits and single -, all in lower case",
                       url);
    snprintf(a->account, sizeof a->account, "%s", u.authority);
    const char *endpoint = store_url_option(&u, "endpoint");
    char standard[300];
    snprintf(standard, sizeof standard, "https://%s.blob.core.windows.net", a->account);
    size_t length = strlen(endpoint != NULL ? endpoint : standard);
    while (endpoint != NULL && length > 0 && endpoint[length - 1] == '/')
        length--;
    snprintf(base, sizeof base, "%.*s/%s", (int)length, endpoint != NULL ? endpoint : standard,
             u.path);
    name_identity(a, host, &u);
    a->cloud.large_bytes = LARGE_BYTES;
    return cloud_init(&a->cloud, &azure_dialect, host, url, &u, base, prefix, err) &&
           (rotation_make(&identity_ops, a, &a->identity, err) || err_wrap(err, "store %s", url)) &&
           (!create || make_container(a, err));
}

bool azure_store_open(const struct store_host *host, const char *url, bool create,
                      struct store **out, struct err *err)
{
    struct azure *a = calloc(1, sizeof *a);
    if (a == NULL)
        return err_set(err, ERR_FULL, "out of memory opening store %s", url);
    if (open_azure(a, host, url, create, err)) {
        *out = &a->cloud.head;
        return true;
    }
    azure_release(&a->cloud);
    http_release(&a->cloud.http);
    free(a);
    return false;
}
