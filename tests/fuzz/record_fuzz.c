/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a record as stored, 2 a pack of them, else it is the plain body,
 * which is also read behind a seal. */
#include "tests/fuzz/fuzz.h"

#include "backend/history/pack.h"

static const uint8_t vm[VM_ID_BYTES] = {0xa0};

/* Behind a seal nothing else is believed than in the plain. */
static void check_sealed(struct span body, bool good)
{
    const struct envelope_kind kind = {
        .noun = "history record", .magic = "FSRECORD", .bytes_max = RECORD_BYTES_MAX, .vm = vm};
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fuzz_seal(&kind, body, span_of(NULL, 0), &stored);
    if (record_decode(buf_span(&stored), fuzz_keys(), vm, 1, &r, &err))
        FUZZ_CHECK(good && r.number == 1 && memcmp(r.vm, vm, sizeof vm) == 0);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
}

/* What is believed is written again as the same bytes. */
static void check_canonical(const struct record *r, struct span body)
{
    struct seal_salt salt = {{3}};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct buf again AUTO_BUF = BUF_NONE;
    struct span tail;
    struct envelope_kind kind = {
        .noun = "history record", .magic = "FSRECORD", .bytes_max = RECORD_BYTES_MAX, .vm = r->vm};
    FUZZ_CHECK(record_encode(r, fuzz_keys(), &salt, &stored, NULL));
    FUZZ_CHECK(envelope_open(&kind, fuzz_keys(), buf_span(&stored), &again, &tail, NULL));
    FUZZ_CHECK(span_equal(buf_span(&again), body));
}

/* Pieces that follow on each other, none empty. */
static void check_pack(struct span pack)
{
    struct span left = pack, record;
    size_t bytes = 0;
    while (pack_next(&left, &record)) {
        FUZZ_CHECK(record.length > 0 && record.data == pack.data + bytes);
        bytes += record.length;
        FUZZ_CHECK(left.length == pack.length - bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct err err = ERR_NONE;
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] == 0) {
        if (!record_decode(rest, fuzz_keys(), vm, 1, &r, &err))
            FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
        return 0;
    }
    if (data[0] == 2) {
        check_pack(rest);
        return 0;
    }
    bool good = record_body_parse(rest, &r, &err);
    if (good)
        check_canonical(&r, rest);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
    check_sealed(rest, good);
    return 0;
}
