/* SPDX-License-Identifier: MIT
 * A plan as `plan create --file` reads it. What is taken is written and read again as the same. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/plan.h"

static void write_again(const struct plan *p, struct buf *out)
{
    cJSON *j AUTO_JSON = NULL;
    struct err err = ERR_NONE;
    FUZZ_CHECK(plan_json(p, &j, &err) && json_write(j, true, out, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan *p AUTO_PLAN = NULL, *q AUTO_PLAN = NULL;
    cJSON *j AUTO_JSON = NULL, *k AUTO_JSON = NULL;
    struct buf once AUTO_BUF = BUF_NONE, twice AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    FUZZ_CHECK(plan_make("all", &p, &err) && plan_make("all", &q, &err));
    if (!json_parse(span_of(data, size), &j, &err) || !plan_read(j, p, &err)) {
        FUZZ_CHECK(err.kind != ERR_OK && err.text[0] != '\0');
        return 0;
    }
    write_again(p, &once);
    FUZZ_CHECK(json_parse(buf_span(&once), &k, &err) && plan_read(k, q, &err));
    write_again(q, &twice);
    FUZZ_CHECK(span_equal(buf_span(&once), buf_span(&twice)));
    return 0;
}
