/* SPDX-License-Identifier: MIT
 * The fence file of a VM that has left: STATE/vms/VM/moved. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/moved.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moved m = {.ms = 0};
    struct err err = ERR_NONE;

    if (moved_parse(span_of(data, size), &m, &err))
        FUZZ_CHECK(memchr(m.host, 0, sizeof m.host) && memchr(m.reason, 0, sizeof m.reason));
    else
        FUZZ_CHECK(err.kind != ERR_OK && err.text[0] != '\0');
    return 0;
}
