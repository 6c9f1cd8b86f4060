/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a pin as stored, 1 that it is the body of one, which is sealed
 * here; 2 and 3 the same of a progress object. What is taken is written again as the same bytes. */
#include "backend/history/pin.h"
#include "backend/history/progress.h"
#include "tests/fuzz/fuzz.h"

#define VM     "web"
#define PIN    "hold-drill-1"
#define NUMBER 1795377600000ull

static const uint8_t vm[VM_ID_BYTES] = {0xa0};
static const struct seal_salt salt = {{3}};

static bool pin_read(struct span stored, struct buf *again)
{
    struct pin pin;
    struct err err = ERR_NONE;
    if (!pin_decode(stored, fuzz_keys(), vm, PIN, &pin, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
        return false;
    }
    FUZZ_CHECK(strcmp(pin.name, PIN) == 0 && (pin.kind == PIN_HOLD) == (pin.end_ms == 0));
    FUZZ_CHECK(pin_encode(&pin, fuzz_keys(), &salt, again, &err));
    return true;
}

static bool progress_read_here(struct span stored, struct buf *again)
{
    struct processor_progress p;
    struct err err = ERR_NONE;
    if (!progress_decode(stored, VM, NUMBER, fuzz_keys(), &p, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
        return false;
    }
    FUZZ_CHECK(memchr(p.health, 0, sizeof p.health) != NULL);
    FUZZ_CHECK(progress_encode(&p, VM, NUMBER, fuzz_keys(), &salt, again, &err));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct envelope_kind pin = {
        .noun = "pin", .magic = "FSPIN", .bytes_max = PIN_BYTES_MAX, .vm = vm};
    struct envelope_kind progress = {
        .noun = "progress object", .magic = "FSPROGR", .bytes_max = PROGRESS_BYTES_MAX};
    struct buf sealed AUTO_BUF = BUF_NONE, again AUTO_BUF = BUF_NONE;
    if (size < 1 || size > PIN_BYTES_MAX / 2)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    bool (*read)(struct span, struct buf *) = data[0] < 2 ? pin_read : progress_read_here;
    if (data[0] % 2 == 0) {
        read(rest, &again);
        return 0;
    }
    fuzz_seal(data[0] < 2 ? &pin : &progress, rest, span_of(NULL, 0), &sealed);
    if (read(buf_span(&sealed), &again))
        FUZZ_CHECK(span_equal(buf_span(&again), buf_span(&sealed)));
    return 0;
}
