/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a vault as stored, else it is the plain body, which is also read
 * behind a seal. */
#include "tests/fuzz/fuzz.h"

static const struct envelope_kind kind = {
    .noun = "vault", .magic = "FSVAULT", .bytes_max = VAULT_BYTES_MAX};

/* Behind a seal nothing else is believed than in the plain. */
static void check_sealed(struct span body, bool good)
{
    static struct vault v;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fuzz_seal(&kind, body, span_of(NULL, 0), &stored);
    if (vault_decode(buf_span(&stored), fuzz_keys(), &v, &err))
        FUZZ_CHECK(good);
    else
        FUZZ_CHECK(!good && err.kind == ERR_CORRUPT);
}

/* What is believed is written again as the same bytes. */
static void check_canonical(const struct vault *v, struct span body)
{
    struct seal_salt salt = {{3}};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct buf again AUTO_BUF = BUF_NONE;
    struct span tail;
    FUZZ_CHECK(vault_encode(v, fuzz_keys(), &salt, &stored, NULL));
    FUZZ_CHECK(envelope_open(&kind, fuzz_keys(), buf_span(&stored), &again, &tail, NULL));
    FUZZ_CHECK(span_equal(buf_span(&again), body));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vault v;
    if (size < 1)
        return 0;
    struct err err = ERR_NONE;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] == 0) {
        if (!vault_decode(rest, fuzz_keys(), &v, &err))
            FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
        return 0;
    }
    bool good = vault_body_parse(rest, &v, &err);
    if (good)
        check_canonical(&v, rest);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
    check_sealed(rest, good);
    return 0;
}
