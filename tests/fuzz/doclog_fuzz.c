/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is an entry as stored; 1 that it is the body, which is sealed here;
 * else it is a document, which comes back as it was. */
#include "backend/history/doclog.h"
#include "tests/fuzz/fuzz.h"

static const uint8_t id[VM_ID_BYTES] = {7};
static const struct seal_salt salt = {{3}};

static bool decode(const struct doclog_vault *v, struct span stored, struct buf *document)
{
    struct sha256 previous;
    struct err err = ERR_NONE;
    bool good = doclog_decode(v, "failover", 5, stored, &previous, document, &err);
    FUZZ_CHECK(good || err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct envelope_kind kind = {
        .noun = "document", .magic = "FSDOC", .bytes_max = DOCLOG_BYTES_MAX, .vm = id};
    const struct doclog_vault v = {.keys = fuzz_keys(), .vm = "web", .id = id};
    struct buf stored AUTO_BUF = BUF_NONE, document AUTO_BUF = BUF_NONE;
    struct sha256 previous = {{1}};
    struct err err = ERR_NONE;
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    bool taken = false;
    if (data[0] == 0)
        taken = decode(&v, rest, &document);
    else if (data[0] == 1 &&
             envelope_seal(&kind, v.keys, &salt, rest, span_of(NULL, 0), &stored, &err))
        taken = decode(&v, buf_span(&stored), &document);
    else if (doclog_encode(&v, "failover", 5, &previous, 9, rest, &salt, &stored, &err))
        FUZZ_CHECK(decode(&v, buf_span(&stored), &document) &&
                   span_equal(buf_span(&document), rest));
    FUZZ_CHECK(!taken || (document.length > 0 && document.length <= DOCLOG_DOCUMENT_MAX));
    return 0;
}
