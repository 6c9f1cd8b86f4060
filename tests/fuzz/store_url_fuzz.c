/* SPDX-License-Identifier: MIT
 * The input is what stands behind "s3://", up to its first NUL. */
#include "backend/store/http.h"
#include "backend/store/url.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"endpoint", "ca", "plain", "region", NULL};

static void put_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

static void check_text(const char *text)
{
    for (; *text != '\0'; text++)
        FUZZ_CHECK((unsigned char)*text >= ' ' && *text != 0x7f);
}

/* What was understood is understood the same when it is written out again. */
static void check_again(const struct store_url *u)
{
    struct buf url AUTO_BUF = BUF_NONE;
    struct store_url again;
    put_text(&url, "s3://");
    put_text(&url, u->authority);
    put_text(&url, "/");
    http_escape(&url, u->path, true);
    for (size_t i = 0; i < u->option_count; i++) {
        put_text(&url, i == 0 ? "?" : "&");
        put_text(&url, u->options[i].name);
        put_text(&url, "=");
        http_escape(&url, u->options[i].value, false);
    }
    buf_put_u8(&url, 0);
    FUZZ_CHECK(store_url_parse((const char *)url.data, "s3://", names, &again, NULL));
    FUZZ_CHECK(strcmp(again.authority, u->authority) == 0 && strcmp(again.path, u->path) == 0);
    FUZZ_CHECK(again.option_count == u->option_count);
    for (size_t i = 0; i < u->option_count; i++)
        FUZZ_CHECK(strcmp(store_url_option(&again, u->options[i].name), u->options[i].value) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf url AUTO_BUF = BUF_NONE;
    struct store_url u;
    struct err err = ERR_NONE;
    put_text(&url, "s3://");
    buf_put(&url, data, size);
    buf_put_u8(&url, 0);
    if (!store_url_parse((const char *)url.data, "s3://", names, &u, &err)) {
        FUZZ_CHECK(err.kind == ERR_INVALID);
        check_text(err.text);
        return 0;
    }
    FUZZ_CHECK(u.authority[0] != '\0' && (u.path[0] == '\0' || store_key_valid(u.path)));
    for (size_t i = 0; i < u.option_count; i++)
        check_text(u.options[i].value);
    check_again(&u);
    return 0;
}
