/* SPDX-License-Identifier: MIT
 * A protection document. What is taken is written and read again as the same. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/protection.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct protection *p AUTO_PROTECTION = NULL, *q AUTO_PROTECTION = NULL;
    struct buf once AUTO_BUF = BUF_NONE, twice AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    FUZZ_CHECK(protection_make(&p, &err) && protection_make(&q, &err));
    if (!protection_parse(span_of(data, size), p, &err)) {
        FUZZ_CHECK(err.kind != ERR_OK && err.text[0] != '\0');
        return 0;
    }
    FUZZ_CHECK(protection_write(p, &once, &err));
    FUZZ_CHECK(protection_parse(buf_span(&once), q, &err) && protection_write(q, &twice, &err));
    FUZZ_CHECK(span_equal(buf_span(&once), buf_span(&twice)));
    protection_settle(p);
    FUZZ_CHECK(p->state != PROTECTION_REPROTECTING);
    while (p->test_count > 0)
        protection_test_remove(p, p->tests[0].id);
    FUZZ_CHECK(p->state != PROTECTION_TEST_RUNNING || q->test_count == 0);
    return 0;
}
