/* SPDX-License-Identifier: MIT
 * Settings of a VM. What is taken is written and read again as the same. */
#include "tests/fuzz/fuzz.h"
#include "tools/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL}, t AUTO_SETTINGS = {.disks = NULL};
    struct buf once AUTO_BUF = BUF_NONE, twice AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    FUZZ_CHECK(settings_make(&s, &err) && settings_make(&t, &err));
    if (!settings_parse(span_of(data, size), &s, &err)) {
        FUZZ_CHECK(err.kind != ERR_OK && err.text[0] != '\0');
        return 0;
    }
    FUZZ_CHECK(settings_write(&s, &once, &err));
    FUZZ_CHECK(settings_parse(buf_span(&once), &t, &err) && settings_write(&t, &twice, &err));
    FUZZ_CHECK(span_equal(buf_span(&once), buf_span(&twice)));
    struct vault *v AUTO_FREE = settings_vault(&s);
    FUZZ_CHECK(v != NULL);
    return 0;
}
