/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is an entry as stored, else it is the length of the inline part at
 * the end of the rest, in front of which lies the plain body, which is also read behind a seal. */
#include "tests/fuzz/fuzz.h"

static const uint8_t vm[VM_ID_BYTES] = {0xa0};

static void decode_stored(struct span stored)
{
    struct err err = ERR_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct generation g = {.number = 1, .id = 1};
    if (!epoch_decode(stored, fuzz_keys(), vm, g, 1, &d, &err))
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

/* Behind a seal nothing else is believed than in the plain. */
static void check_sealed(struct span body, struct span tail, bool good)
{
    const struct envelope_kind kind = {.noun = "epoch entry",
                                       .magic = "FSEPOCH",
                                       .bytes_max = EPOCH_BYTES_MAX,
                                       .vm = vm,
                                       .has_tail = true};
    struct generation g = {.number = 1, .id = 1};
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fuzz_seal(&kind, body, tail, &stored);
    if (epoch_decode(buf_span(&stored), fuzz_keys(), vm, g, 1, &d, &err))
        FUZZ_CHECK(good && d.entry.epoch == 1 && d.entry.generation.id == 1);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
}

/* What is believed is written again as the same bytes. */
static void check_canonical(const struct epoch_entry *e, struct span body, struct span tail)
{
    struct seal_salt salt = {{3}};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct buf again AUTO_BUF = BUF_NONE;
    struct span tail_again;
    struct envelope_kind kind = {.noun = "epoch entry",
                                 .magic = "FSEPOCH",
                                 .bytes_max = EPOCH_BYTES_MAX,
                                 .vm = e->vm,
                                 .has_tail = true};
    FUZZ_CHECK(epoch_encode(e, fuzz_keys(), &salt, &stored, NULL));
    FUZZ_CHECK(envelope_open(&kind, fuzz_keys(), buf_span(&stored), &again, &tail_again, NULL));
    FUZZ_CHECK(span_equal(buf_span(&again), body) && span_equal(tail_again, tail));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] == 0) {
        decode_stored(rest);
        return 0;
    }
    size_t tail_bytes = data[0] - 1u;
    if (tail_bytes > rest.length)
        return 0;
    struct span body = span_part(rest, 0, rest.length - tail_bytes);
    struct span tail = span_part(rest, body.length, tail_bytes);
    struct err err = ERR_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    buf_put(&d.memory, body.data, body.length);
    bool good = epoch_body_parse(&d, tail, &err);
    if (good)
        check_canonical(&d.entry, body, tail);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
    check_sealed(body, tail, good);
    return 0;
}
