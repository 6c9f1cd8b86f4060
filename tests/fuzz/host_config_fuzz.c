/* SPDX-License-Identifier: MIT
 * host.json. A name that is taken is a host's name. */
#include "tests/fuzz/fuzz.h"
#include "tools/host_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host_config c = {.name = ""};
    struct err err = ERR_NONE;

    if (host_config_parse(span_of(data, size), &c, &err))
        FUZZ_CHECK(host_name_valid(c.name) && c.libvirt[0] != '\0');
    else
        FUZZ_CHECK(err.kind != ERR_OK && err.text[0] != '\0');
    return 0;
}
