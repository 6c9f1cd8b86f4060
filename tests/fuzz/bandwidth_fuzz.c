/* SPDX-License-Identifier: MIT
 * Bytes 0 and 1: the minute of the week at which it is; the rest is a `bandwidth` setting, up to
 * its first NUL. */
#include "backend/store/throttle.h"
#include "tests/fuzz/fuzz.h"

static uint64_t minute;

static uint64_t realtime_ns(struct world *w)
{
    (void)w;
    return minute * 60 * 1000000000;
}

static const struct world_ops ops = {.realtime_ns = realtime_ns, .boottime_ns = realtime_ns};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf spec AUTO_BUF = BUF_NONE;
    struct world w = {.ops = &ops};
    struct bandwidth *b AUTO_BANDWIDTH = NULL;
    struct err err = ERR_NONE;
    if (size < 2)
        return 0;
    minute = data[0] | (uint64_t)data[1] << 8;
    buf_put(&spec, data + 2, size - 2);
    buf_put_u8(&spec, 0);
    const char *text = (const char *)spec.data;
    bool good = bandwidth_make(&w, text, NULL, NULL, &b, &err);
    FUZZ_CHECK(good == bandwidth_check(text, NULL));
    if (!good) {
        FUZZ_CHECK(err.kind == ERR_INVALID);
        return 0;
    }
    uint64_t rate = bandwidth_now(b);
    FUZZ_CHECK(rate < 1ull << 60);
    FUZZ_CHECK(rate > 0 || strstr(text, "unlimited") != NULL);
    return 0;
}
