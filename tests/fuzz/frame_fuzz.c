/* SPDX-License-Identifier: MIT
 * Bytes 0 and 1: flags and blocks; then the payload. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t plain[FRAME_PLAIN_MAX];
    static uint8_t again[FRAME_PLAIN_MAX];
    if (size < 2)
        return 0;
    struct frame_codec *c AUTO_FRAME_CODEC = NULL;
    struct frame_id id = {.flags = data[0] & 3, .blocks = (uint8_t)(1 + data[1] % 16), .first = 5};
    struct span payload = span_of(data + 2, size - 2);
    struct mspan out = mspan_of(plain, id.blocks * BLOCK_BYTES);
    struct err err = ERR_NONE;
    FUZZ_CHECK(frame_codec_make(fuzz_keys(), &c, &err));
    if (id.flags & FRAME_ENCRYPTED) {
        FUZZ_CHECK(!frame_decode(c, &id, payload, out, &err) && err.kind == ERR_CORRUPT);
        return 0;
    }
    if (!frame_decode(c, &id, payload, out, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
        return 0;
    }
    /* What was read can be written and read again. */
    struct buf stored AUTO_BUF = BUF_NONE;
    FUZZ_CHECK(frame_encode(c, &id, span_of_mspan(out), &stored, &err));
    FUZZ_CHECK(frame_decode(c, &id, buf_span(&stored), mspan_of(again, out.length), &err));
    FUZZ_CHECK(memcmp(again, plain, out.length) == 0);
    return 0;
}
