/* SPDX-License-Identifier: MIT
 * Byte 0: 0 and 1 mean that the rest is a page of a list, of Azure or of S3; else it is an answer
 * of which one text is wanted. */
#include "backend/store/xml.h"
#include "tests/fuzz/fuzz.h"

static bool see(void *context, const char *key, uint64_t bytes)
{
    size_t *count = context;
    (void)bytes;
    FUZZ_CHECK(key[0] != '\0' && strlen(key) <= STORE_KEY_MAX + 512);
    return ++*count < 1000;
}

static void read_page(enum xml_dialect dialect, struct span text)
{
    static char marker[XML_MARKER_MAX];
    struct err err = ERR_NONE;
    size_t count = 0;
    bool stopped;
    memset(marker, 'x', sizeof marker);
    if (!xml_list(dialect, text, see, &count, &stopped, marker, &err))
        FUZZ_CHECK(err.kind == ERR_CORRUPT && count == 0);
    else
        FUZZ_CHECK(memchr(marker, 0, sizeof marker) != NULL && stopped == (count >= 1000));
}

static void read_text_of(struct span text)
{
    char small[4], large[XML_MARKER_MAX];
    bool in_small = xml_text(text, "Error/Code", small, sizeof small);
    bool in_large = xml_text(text, "Error/Code", large, sizeof large);
    FUZZ_CHECK(strlen(small) < sizeof small && strlen(large) < sizeof large);
    FUZZ_CHECK(in_small == (in_large && strlen(large) < sizeof small));
    FUZZ_CHECK(!in_small || strcmp(small, large) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] > 1)
        read_text_of(rest);
    else
        read_page(data[0] == 0 ? XML_AZURE : XML_S3, rest);
    return 0;
}
