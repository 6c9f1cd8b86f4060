/* SPDX-License-Identifier: MIT
 * Byte 0: which text the rest is, up to its first NUL: 0 an RFC 3339 time, 1 a point's id, 2 a
 * generation's name, 3 a segment's name, else a recovery point as users write it. */
#include "common/rfc3339.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/made_vm.h"

static void read_time(const char *text)
{
    char id[POINT_TIME_CHARS + 1];
    uint64_t ms, again;
    if (!rfc3339_parse(text, &ms))
        return;
    point_time_format(ms, id);
    FUZZ_CHECK(point_time_parse(id, &again) && again == ms);
}

static void read_id(const char *text)
{
    char id[POINT_TIME_CHARS + 1];
    uint64_t ms, other;
    if (!point_time_parse(text, &ms))
        return;
    point_time_format(ms, id);
    /* One spelling, but for a leap second, which is the second after it. */
    FUZZ_CHECK(strcmp(id, text) == 0 || memcmp(text + 17, "60", 2) == 0);
    FUZZ_CHECK(rfc3339_parse(text, &other) && other == ms);
}

static void read_generation(const char *text)
{
    char name[GENERATION_NAME_MAX];
    struct generation g;
    if (!generation_parse(text, &g))
        return;
    generation_name(g, name);
    FUZZ_CHECK(strcmp(name, text) == 0);
}

static void read_segment(const char *text)
{
    char key[RUN_SEGMENT_NAME_MAX], name[RUN_SEGMENT_NAME_MAX];
    uint16_t store;
    if (!segment_name_parse(text, &store, key))
        return;
    segment_name_format(name, store, key);
    FUZZ_CHECK(strcmp(name, text) == 0 && store_key_valid(key));
}

/* Three points, one of them application-consistent. */
static struct history *history_here(void)
{
    static struct made_vm made;
    static struct history *h;
    if (h != NULL)
        return h;
    made_vm_init(&made, 1, 16);
    for (uint32_t i = 1; i <= 3; i++) {
        epoch_maker_fill(&made.maker, 0, i, i);
        epoch_maker_ship(&made.maker, EPOCH_CUT, i == 2 ? POINT_APPLICATION : POINT_CRASH, NULL);
    }
    made_vm_apply(&made);
    return h = made_vm_history(&made);
}

static void resolve(const char *text)
{
    struct history_point p;
    struct err err = ERR_NONE;
    if (history_resolve_at(history_here(), MADE_CLOCK_MS + 60000, text, &p, &err))
        FUZZ_CHECK(p.epoch >= 1 && p.epoch <= 3 && p.ms >= MADE_CLOCK_MS);
    else
        FUZZ_CHECK((err.kind == ERR_NOT_FOUND || err.kind == ERR_INVALID) && err.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const reads[])(const char *) = {read_time, read_id, read_generation, read_segment,
                                                  resolve};
    struct buf text AUTO_BUF = BUF_NONE;
    if (size < 1)
        return 0;
    buf_put(&text, data + 1, size - 1);
    buf_put_u8(&text, 0);
    reads[data[0] < 4 ? data[0] : 4]((const char *)text.data);
    return 0;
}
