/* SPDX-License-Identifier: MIT
 * A job as in the log of its VM. What is taken is written and read again as the same. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job *j AUTO_JOB = NULL, *again AUTO_JOB = NULL;
    struct buf once AUTO_BUF = BUF_NONE, twice AUTO_BUF = BUF_NONE;
    cJSON *shown AUTO_JSON = NULL;
    struct err err = ERR_NONE;

    if (!job_parse(span_of(data, size), &j, &err)) {
        FUZZ_CHECK(j == NULL && err.kind != ERR_OK && err.text[0] != '\0');
        return 0;
    }
    FUZZ_CHECK(job_write(j, &once, &err));
    FUZZ_CHECK(job_parse(buf_span(&once), &again, &err) && job_write(again, &twice, &err));
    FUZZ_CHECK(span_equal(buf_span(&once), buf_span(&twice)));
    FUZZ_CHECK(job_json(j, 1, &shown, &err));
    return 0;
}
