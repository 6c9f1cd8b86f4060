/* SPDX-License-Identifier: MIT
 * What services answer to the stores of the cloud, and machines to who asks for credentials: the
 * program is linked with http_call taken out, and the input gives the answers.
 * Byte 0: bit 0 the dialect (Azure, S3), bit 1 where credentials come from (fixed, the instance),
 * bit 2 whether uploads are in parts; byte 1: what is done. Then answer by answer: u8 status, u16
 * bytes of headers, u16 bytes of body, the headers (each ended by a NUL), the body. */
#include "backend/store/cloud.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_env.h"

#define CALLS_MAX 64u
#define BODY      4096u

static struct reader input;
static unsigned calls;

bool __wrap_http_call(struct http *h, const struct http_request *request,
                      struct http_answer *answer, struct err *err);

static void take_headers(struct span text, struct http_answer *answer)
{
    struct reader r = reader_of(text);
    while (reader_left(&r) > 0) {
        const uint8_t *line = r.data + r.offset, *stop = memchr(line, 0, reader_left(&r));
        size_t length = stop != NULL ? (size_t)(stop - line) : reader_left(&r);
        buf_put(&answer->headers, line, length);
        buf_put_u8(&answer->headers, 0);
        read_span(&r, length + (stop != NULL));
    }
}

/* As http.h promises: never more than was asked for. */
bool __wrap_http_call(struct http *h, const struct http_request *request,
                      struct http_answer *answer, struct err *err)
{
    static const unsigned statuses[] = {200, 206, 201, 202, 204, 301, 304, 307, 400, 401, 403,
                                        404, 408, 409, 412, 416, 429, 500, 501, 503, 507, 100};
    (void)h;
    *answer = HTTP_ANSWER_NONE;
    FUZZ_CHECK(strncmp(request->url, "http", 4) == 0 && strpbrk(request->url, " \r\n") == NULL);
    FUZZ_CHECK(++calls < CALLS_MAX);
    if (reader_left(&input) < 5)
        return err_set(err, ERR_TRANSIENT, "no more answers");
    answer->status = statuses[read_u8(&input) % (sizeof statuses / sizeof statuses[0])];
    size_t headers = read_u16(&input), body = read_u16(&input), left = reader_left(&input);
    take_headers(read_span(&input, headers < left ? headers : left), answer);
    left = reader_left(&input);
    struct span bytes = read_span(&input, body < left ? body : left);
    bool good = answer->status >= 200 && answer->status < 300;
    answer->content_length = body % 7 == 0 ? UINT64_MAX : body;
    if (good && request->into.data != NULL) {
        if (bytes.length > request->into.length)
            return err_set(err, ERR_CORRUPT, "the answer is longer than it may be");
        answer->into_length = bytes.length;
        if (bytes.length > 0)
            memcpy(request->into.data, bytes.data, bytes.length);
        return true;
    }
    if (good && bytes.length > request->body_max)
        return err_set(err, ERR_CORRUPT, "the answer is longer than it may be");
    buf_put(&answer->body, bytes.data, bytes.length);
    return buf_ok(&answer->body, err) && buf_ok(&answer->headers, err);
}

static bool see(void *context, const char *key, uint64_t bytes)
{
    char *last = context;
    (void)bytes;
    FUZZ_CHECK(store_key_valid(key) && strncmp(key, "p/", 2) == 0 && strcmp(key, last) > 0);
    snprintf(last, STORE_KEY_MAX + 1, "%s", key);
    return true;
}

static struct store *open_store(unsigned how)
{
    static const char *const urls[] = {
        "azure://acct/box/pre?endpoint=http://127.0.0.1:1&plain=yes",
        "s3://box/pre?endpoint=http://127.0.0.1:1&plain=yes&region=us-east-1"};
    const struct store_host host = {.world = world_real(), .env = fake_env};
    struct store *s = NULL;
    struct err err = ERR_NONE;
    fake_env_clear();
    fake_env_set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:2");
    fake_env_set("HOME", "/nonexistent");
    if ((how & 2) == 0) {
        fake_env_set("AWS_ACCESS_KEY_ID", "AKID");
        fake_env_set("AWS_SECRET_ACCESS_KEY", "secret");
        fake_env_set("AZURE_STORAGE_KEY", "c2VjcmV0");
    }
    if (!store_open(&host, urls[how & 1], false, &s, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    if (how & 4)
        ((struct cloud *)s)->large_bytes = 16;
    return s;
}

static bool act(struct store *s, uint8_t what, struct err *err)
{
    static uint8_t bytes[BODY];
    struct buf out AUTO_BUF = BUF_NONE;
    char last[STORE_KEY_MAX + 1] = "";
    uint64_t size;
    switch (what % 7) {
    case 0:
        return store_get(s, "p/k", what / 7, mspan_of(bytes, 1 + what % 64), err);
    case 1:
        if (!store_load(s, "p/k", BODY, &out, err))
            return false;
        FUZZ_CHECK(out.length <= BODY);
        return true;
    case 2:
        return store_size(s, "p/k", &size, err);
    case 3:
        return store_list(s, "p/", what > 100 ? "p/b" : NULL, see, last, err);
    case 4:
        return store_put(s, "p/k", span_of(bytes, what), err);
    case 5:
        return store_remove(s, "p/k", err);
    default:
        return store_load(s, "p/k", BODY, &out, err) && store_remove(s, "p/k", err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_NONE;
    if (size < 2)
        return 0;
    struct store *s AUTO_STORE = open_store(data[0]);
    input = reader_of(span_of(data + 2, size - 2));
    calls = 0;
    if (!act(s, data[1], &err)) {
        fuzz_check_refusal(&err);
        for (const char *c = err.text; *c != '\0'; c++) /* it goes to terminals and logs */
            FUZZ_CHECK((unsigned char)*c >= ' ');
        FUZZ_CHECK(err.retry_after_ms <= 3600u * 1000);
    }
    return 0;
}
