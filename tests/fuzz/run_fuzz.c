/* SPDX-License-Identifier: MIT
 * Byte 0: how. 0: the rest is a run as stored. 1: the rest is a plain page of a root with two
 * salts and two segments, behind u16 entries, u16 disk and u64 first block. Else: the rest is u32
 * length and plain root, then u32 length and plain page each, which are sealed before the reader
 * gets them. */
#include "backend/history/merge.h"
#include "backend/history/run_internal.h"
#include "tests/fuzz/fuzz.h"

static const uint8_t vm[VM_ID_BYTES] = {0xa0};

static bool fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct span *bytes = context;
    (void)err;
    FUZZ_CHECK(offset <= bytes->length && out.length <= bytes->length - offset);
    memcpy(out.data, bytes->data + offset, out.length);
    return true;
}

/* A run that opens can be asked for anything; what it says can be written as a run again. */
static void use(struct run *r)
{
    struct err err = ERR_NONE;
    struct run_builder *b AUTO_RUN_BUILDER = NULL;
    struct run_entry e;
    bool found;
    for (uint64_t block = 0; block < 1u << 20; block = block * 3 + 1)
        for (uint16_t disk = 0; disk < 3; disk++) {
            run_may_touch(r, disk, block / REGION_BLOCKS);
            if (run_find(r, disk, block, &e, &found, &err) && found)
                FUZZ_CHECK(e.disk == disk && e.first + e.count > block);
        }
    FUZZ_CHECK(run_builder_make(run_head(r), &b, &err));
    struct run_merge_input input = {.run = r};
    struct run_merging *m AUTO_RUN_MERGING = NULL;
    if (!run_merging_make(&input, 1, &m, &err) || !run_merging_step(m, b, UINT64_MAX, &found, &err))
        return;
    struct buf out AUTO_BUF = BUF_NONE;
    struct seal_salt salt = {{1}};
    struct run *again AUTO_RUN = NULL;
    FUZZ_CHECK(run_builder_finish(b, fuzz_keys(), &salt, &out, &err));
    struct span bytes = buf_span(&out);
    struct run_source source = {.fetch = fetch, .context = &bytes, .bytes = bytes.length};
    FUZZ_CHECK(run_open(fuzz_keys(), vm, source, &again, &err));
    FUZZ_CHECK(run_entries(again) <= run_entries(r));
    struct run_cursor c = {.run = again};
    for (found = true; found;)
        FUZZ_CHECK(run_next(&c, &e, &found, &err));
}

static void open_stored(struct span bytes)
{
    struct err err = ERR_NONE;
    struct run *r AUTO_RUN = NULL;
    struct run_source source = {.fetch = fetch, .context = &bytes, .bytes = bytes.length};
    if (run_open(fuzz_keys(), vm, source, &r, &err))
        use(r);
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void parse_page(struct span input)
{
    static struct run_mark marks[RUN_PAGE_ENTRIES_MAX];
    static struct seal_salt salts[2];
    struct reader r = reader_of(input);
    struct run_page_ref page = {.entries = 1 + read_u16(&r) % RUN_PAGE_ENTRIES_MAX};
    page.disk = read_u16(&r);
    page.first_block = read_u64(&r);
    struct run_root root = {.page_count = 1, .pages = &page, .salt_count = 2, .salts = salts};
    root.segment_count = 2;
    struct span plain = read_span(&r, reader_left(&r));
    struct err err = ERR_NONE;
    page.bytes = (uint32_t)plain.length;
    if (!run_page_parse(&root, 0, plain, marks, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
        return;
    }
    for (uint32_t i = 1; i < page.entries; i++)
        FUZZ_CHECK(marks[i - 1].disk < marks[i].disk ||
                   (marks[i - 1].disk == marks[i].disk && marks[i - 1].end <= marks[i].first));
}

static void seal_part(struct buf *out, struct sealer *s, uint32_t counter, struct span plain)
{
    uint8_t aad[RUN_AAD_BYTES];
    uint8_t *sealed = buf_extend(out, plain.length + SEAL_TAG_BYTES);
    run_aad(out->data, vm, counter, aad);
    FUZZ_CHECK(seal(s, counter, span_of(aad, sizeof aad), plain,
                    mspan_of(sealed, plain.length + SEAL_TAG_BYTES), NULL));
}

static struct span next_part(struct reader *r)
{
    size_t length = read_u32(r);
    return read_span(r, length < reader_left(r) ? length : reader_left(r));
}

static void open_sealed_here(struct span input)
{
    struct seal_salt salt = {{2}};
    struct sealer *s AUTO_SEALER = NULL;
    struct buf out AUTO_BUF = BUF_NONE;
    struct reader r = reader_of(input);
    struct span root = next_part(&r);
    uint32_t pages = 0;
    uint64_t total = RUN_HEAD_BYTES + root.length + SEAL_TAG_BYTES;
    for (struct reader p = r; reader_left(&p) > 4; pages++)
        total += next_part(&p).length + SEAL_TAG_BYTES;
    head_put(&out, RUN_MAGIC, keys_id(fuzz_keys()));
    buf_put(&out, salt.bytes, sizeof salt.bytes);
    buf_put_u32(&out, (uint32_t)root.length);
    buf_put_u32(&out, pages);
    buf_put_u64(&out, total);
    FUZZ_CHECK(sealer_make(fuzz_keys(), SEAL_HISTORY, &salt, &s, NULL));
    seal_part(&out, s, 0, root);
    for (uint32_t i = 0; i < pages; i++)
        seal_part(&out, s, i + 1, next_part(&r));
    open_stored(buf_span(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] == 0)
        open_stored(rest);
    else if (data[0] == 1)
        parse_page(rest);
    else
        open_sealed_here(rest);
    return 0;
}
