/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <stdatomic.h>

#include "backend/history/run_internal.h"
#include "tests/support/specimen.h"

static struct run_head head_of(void)
{
    struct run_head head = {.generation_id = 0x1122334455667788, .epoch_first = 5, .epoch_last = 9};
    memcpy(head.vm, specimen_vm, sizeof head.vm);
    return head;
}

static struct run_builder *builder_of(void)
{
    struct err err = ERR_NONE;
    struct run_head head = head_of();
    struct run_builder *b = NULL;
    check_ok(run_builder_make(&head, &b, &err), err);
    return b;
}

static uint32_t segment_of(struct run_builder *b, const char *name)
{
    struct err err = ERR_NONE;
    uint32_t index = 99;
    check_ok(run_builder_segment(b, name, &index, &err), err);
    return index;
}

static void add(struct run_builder *b, struct run_entry e)
{
    struct err err = ERR_NONE;
    check_ok(run_builder_add(b, &e, &err), err);
}

static void finish(struct run_builder *b, const struct keys *keys, struct buf *out)
{
    struct err err = ERR_NONE;
    struct seal_salt salt = specimen_salt(0x70);
    check_ok(run_builder_finish(b, keys, &salt, out, &err), err);
}

static struct run *open_run(const struct keys *keys, struct buf *bytes)
{
    struct err err = ERR_NONE;
    struct run *r = NULL;
    check_ok(run_open(keys, specimen_vm, specimen_source(bytes), &r, &err), err);
    return r;
}

static struct run_entry hole(uint16_t disk, uint64_t first, uint64_t count)
{
    return (struct run_entry){.kind = RUN_HOLE, .disk = disk, .first = first, .count = count};
}

static struct run_entry unreadable(uint16_t disk, uint64_t first, uint64_t count)
{
    return (struct run_entry){.kind = RUN_UNREADABLE, .disk = disk, .first = first, .count = count};
}

/* Live blocks [first, first + count) of a frame that has `before` blocks in front of them and
 * `behind` after them. */
static struct run_entry data(uint16_t disk, uint64_t first, uint64_t count, unsigned before,
                             unsigned behind)
{
    struct run_entry e = {.kind = RUN_DATA, .disk = disk, .first = first, .count = count};
    memcpy(e.frame.vm, specimen_vm, sizeof e.frame.vm);
    e.frame.disk = disk;
    e.frame.flags = FRAME_ENCRYPTED | FRAME_COMPRESSED;
    e.frame.blocks = (uint8_t)(before + count + behind);
    e.frame.first = first - before;
    e.frame.seal.salt = specimen_salt((uint8_t)(first >> 8));
    e.frame.seal.counter = (uint32_t)first;
    e.offset = (uint32_t)(first * 100 % 1000000);
    e.stored_bytes = (uint32_t)(1000 + first % 1000);
    specimen_noise(&e.sealed_digest, sizeof e.sealed_digest, first);
    specimen_noise(e.digests, (size_t)count * sizeof e.digests[0], first + 1);
    return e;
}

static void assert_same(const struct run_entry *a, const struct run_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->disk, b->disk);
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->count, b->count);
    if (a->kind != RUN_DATA)
        return;
    assert_memory_equal(a->frame.vm, b->frame.vm, VM_ID_BYTES);
    assert_int_equal(a->frame.disk, b->frame.disk);
    assert_int_equal(a->frame.flags, b->frame.flags);
    assert_int_equal(a->frame.blocks, b->frame.blocks);
    assert_int_equal(a->frame.first, b->frame.first);
    assert_memory_equal(&a->frame.seal.salt, &b->frame.seal.salt, SEAL_SALT_BYTES);
    assert_int_equal(a->frame.seal.counter, b->frame.seal.counter);
    assert_int_equal(a->segment, b->segment);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->stored_bytes, b->stored_bytes);
    assert_memory_equal(&a->sealed_digest, &b->sealed_digest, BLOCK_DIGEST_BYTES);
    assert_memory_equal(a->digests, b->digests, (size_t)a->count * BLOCK_DIGEST_BYTES);
}

/* A small run with one of everything. */
static void small_run(const struct keys *keys, struct buf *out)
{
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    segment_of(b, "parts/000-1");
    struct run_entry e = data(0, 10, 2, 1, 3);
    e.segment = segment_of(b, "inline");
    add(b, hole(0, 0, 4));
    add(b, e);
    add(b, unreadable(0, 12, 1));
    add(b, data(7, 256, 1, 0, 0));
    add(b, hole(7, 257, 1ull << 29)); /* 2 TiB */
    finish(b, keys, out);
}

static void entries_come_back_as_they_were_added(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    small_run(keys, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    assert_int_equal(run_head(r)->epoch_first, 5);
    assert_int_equal(run_head(r)->epoch_last, 9);
    assert_int_equal(run_head(r)->generation_id, 0x1122334455667788);
    assert_memory_equal(run_head(r)->vm, specimen_vm, VM_ID_BYTES);
    assert_int_equal(run_segments(r), 2);
    assert_string_equal(run_segment_name(r, 0), "parts/000-1");
    assert_string_equal(run_segment_name(r, 1), "inline");
    struct run_entry expected[] = {hole(0, 0, 4), data(0, 10, 2, 1, 3), unreadable(0, 12, 1),
                                   data(7, 256, 1, 0, 0), hole(7, 257, 1ull << 29)};
    expected[1].segment = 1;
    struct run_cursor c = {.run = r};
    struct run_entry e;
    bool found;
    assert_int_equal(run_entries(r), 5);
    for (size_t i = 0; i < 5; i++) {
        check_ok(run_next(&c, &e, &found, &err), err);
        assert_true(found);
        assert_same(&e, &expected[i]);
    }
    check_ok(run_next(&c, &e, &found, &err), err);
    assert_false(found);
}

static void a_run_without_entries_opens_and_finds_nothing(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    finish(b, keys, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    struct run_cursor c = {.run = r};
    struct run_entry e;
    bool found = true;
    assert_int_equal(run_entries(r), 0);
    check_ok(run_next(&c, &e, &found, &err), err);
    assert_false(found);
    check_ok(run_find(r, 0, 0, &e, &found, &err), err);
    assert_false(found);
    assert_false(run_may_touch(r, 0, 0));
}

static void adjacent_holes_join_and_other_neighbours_do_not(void **state)
{
    (void)state;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    add(b, hole(0, 0, 4));
    add(b, hole(0, 4, 4));
    assert_int_equal(run_builder_entries(b), 1);
    add(b, unreadable(0, 8, 1));
    add(b, unreadable(0, 9, 1));
    assert_int_equal(run_builder_entries(b), 2);
    add(b, hole(0, 10, 1));
    add(b, hole(0, 12, 1));
    add(b, hole(1, 13, 1));
    assert_int_equal(run_builder_entries(b), 5);
}

static void the_same_input_gives_the_same_bytes(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf a AUTO_BUF = BUF_NONE;
    struct buf b AUTO_BUF = BUF_NONE;
    small_run(keys, &a);
    small_run(keys, &b);
    assert_true(span_equal(buf_span(&a), buf_span(&b)));
}

static void the_golden_run_is_as_it_was(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    small_run(keys, &bytes);
    specimen_golden(TEST_SOURCE_DIR, "run", buf_span(&bytes),
                    "060199eb40ca269f612506322d1b85fdc5f3f30c192b63c13210fdaabbfc0ae3");
}

/* --- a large run, by random entries --- */

#define LARGE_ENTRIES 6000u

/* Sorted entries over three disks, some touching, some far apart. */
static uint32_t large_entries(struct run_entry *out, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    uint32_t n = 0;
    uint64_t at = 0;
    uint16_t disk = 2;
    while (n < LARGE_ENTRIES) {
        if (specimen_below(&state, LARGE_ENTRIES / 3) == 0) {
            disk = (uint16_t)(disk + 1 + specimen_below(&state, 3));
            at = 0;
        }
        at += specimen_below(&state, 3) ? specimen_below(&state, 40) : specimen_below(&state, 9999);
        uint64_t count = 1 + specimen_below(&state, 16);
        unsigned spare = (unsigned)(FRAME_BLOCKS_MAX - count);
        unsigned before = (unsigned)specimen_below(&state, spare + 1);
        if (before > at)
            before = 0;
        uint64_t kind = specimen_below(&state, 4);
        out[n++] = kind == 0   ? hole(disk, at + 1, count)
                   : kind == 1 ? unreadable(disk, at + 1, count)
                               : data(disk, at + 1, count, before, spare - before);
        at += 1 + count; /* a gap of one at least: nothing joins */
    }
    return n;
}

static void build_large(const struct keys *keys, const struct run_entry *entries, uint32_t count,
                        struct buf *out)
{
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    segment_of(b, "s");
    for (uint32_t i = 0; i < count; i++)
        add(b, entries[i]);
    finish(b, keys, out);
}

static struct run_entry *large_make(uint64_t seed, uint32_t *count)
{
    struct run_entry *entries = calloc(LARGE_ENTRIES, sizeof *entries);
    assert_non_null(entries);
    *count = large_entries(entries, seed);
    return entries;
}

/* The entry that holds the block or the next one of the disk, by looking at all of them. */
static const struct run_entry *slow_find(const struct run_entry *entries, uint32_t count,
                                         uint16_t disk, uint64_t block)
{
    for (uint32_t i = 0; i < count; i++)
        if (entries[i].disk == disk && entries[i].first + entries[i].count > block)
            return &entries[i];
    return NULL;
}

static void check_find(struct run *r, const struct run_entry *entries, uint32_t count,
                       uint16_t disk, uint64_t block)
{
    struct err err = ERR_NONE;
    struct run_entry e;
    bool found;
    const struct run_entry *expected = slow_find(entries, count, disk, block);
    check_ok(run_find(r, disk, block, &e, &found, &err), err);
    assert_int_equal(found, expected != NULL);
    if (found)
        assert_same(&e, expected);
}

static void finding_agrees_with_a_search_through_all_entries(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(1, &count);
    build_large(keys, entries, count, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    uint64_t random = 3;
    for (uint32_t i = 0; i < count; i += 7) {
        const struct run_entry *e = &entries[i];
        check_find(r, entries, count, e->disk, e->first);
        check_find(r, entries, count, e->disk, e->first + e->count);
        check_find(r, entries, count, e->disk, specimen_below(&random, 4000000));
        check_find(r, entries, count, (uint16_t)specimen_below(&random, 20), e->first - 1);
    }
}

static void a_cursor_walks_through_all_pages_in_order(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(2, &count);
    build_large(keys, entries, count, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    struct run_cursor c = {.run = r};
    bool found;
    struct run_entry e;
    for (uint32_t i = 0; i < count; i++) {
        check_ok(run_next(&c, &e, &found, &err), err);
        assert_true(found);
        assert_same(&e, &entries[i]);
    }
}

static void the_filter_denies_only_what_is_not_there(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(4, &count);
    build_large(keys, entries, count, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    uint32_t denied = 0;
    for (uint16_t disk = 0; disk < 12; disk++)
        for (uint64_t region = 0; region < 20000; region += 3) {
            uint64_t block = region * REGION_BLOCKS;
            const struct run_entry *e = slow_find(entries, count, disk, block);
            bool touched = e != NULL && e->first < block + REGION_BLOCKS;
            bool may = run_may_touch(r, disk, region);
            assert_int_equal(may, touched); /* exact while the rows fit */
            denied += !may;
        }
    assert_true(denied > 0);
}

static void
a_filter_with_too_many_rows_grows_its_units_and_denies_nothing_that_is_there(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    uint64_t step = 8 * REGION_BLOCKS;
    uint64_t holes = 3 * RUN_FILTER_RANGES_MAX;
    for (uint64_t i = 0; i < holes; i++)
        add(b, hole(1, i * step, 1));
    finish(b, keys, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    for (uint64_t i = 0; i < holes; i += 997)
        assert_true(run_may_touch(r, 1, i * 8));
    assert_true(run_may_touch(r, 1, (holes - 1) * 8));
    assert_false(run_may_touch(r, 1, (holes + 16) * 8));
    assert_false(run_may_touch(r, 0, 0));
    struct run_entry e;
    bool found;
    check_ok(run_find(r, 1, (holes - 1) * step - 5, &e, &found, &err), err);
    assert_true(found && e.first == (holes - 1) * step);
    check_ok(run_find(r, 1, (holes - 1) * step + 1, &e, &found, &err), err);
    assert_false(found);
}

/* --- what a lookup fetches --- */

struct counted {
    struct buf *bytes;
    atomic_uint fetches;
    unsigned fail_after; /* fetches that still succeed; UINT32_MAX: all */
};

static bool counted_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    struct counted *c = context;
    if (atomic_fetch_add(&c->fetches, 1) >= c->fail_after)
        return err_set(err, ERR_TRANSIENT, "the store is away");
    struct run_source s = specimen_source(c->bytes);
    return s.fetch(s.context, offset, out, err);
}

static struct run_source counted_source(struct counted *c)
{
    return (struct run_source){.fetch = counted_fetch, .context = c, .bytes = c->bytes->length};
}

static void a_lookup_fetches_its_page_once_and_a_denied_one_fetches_nothing(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(5, &count);
    build_large(keys, entries, count, &bytes);
    struct counted c = {.bytes = &bytes, .fail_after = UINT32_MAX};
    struct run *r AUTO_RUN = NULL;
    check_ok(run_open(keys, specimen_vm, counted_source(&c), &r, &err), err);
    unsigned before = atomic_load(&c.fetches);
    assert_true(before <= 2);
    struct run_entry e;
    bool found;
    for (int i = 0; i < 5; i++) {
        check_ok(run_find(r, entries[0].disk, entries[0].first, &e, &found, &err), err);
        assert_int_equal(atomic_load(&c.fetches), before + 1);
    }
    check_ok(run_find(r, 1, 77, &e, &found, &err), err);
    check_ok(run_find(r, entries[0].disk, DISK_BLOCKS_MAX - 1, &e, &found, &err), err);
    assert_false(found);
    assert_int_equal(atomic_load(&c.fetches), before + 1);
}

static void a_short_run_is_fetched_whole_when_it_is_opened(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    small_run(keys, &bytes);
    struct counted c = {.bytes = &bytes, .fail_after = 1};
    struct run *r AUTO_RUN = NULL;
    struct run_entry e;
    bool found;
    check_ok(run_open(keys, specimen_vm, counted_source(&c), &r, &err), err);
    check_ok(run_find(r, 7, 0, &e, &found, &err), err);
    assert_true(found && e.first == 256);
}

static void a_failed_fetch_is_told_and_the_next_lookup_tries_again(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(6, &count);
    build_large(keys, entries, count, &bytes);
    struct counted c = {.bytes = &bytes, .fail_after = UINT32_MAX};
    struct run *r AUTO_RUN = NULL;
    struct run_entry e;
    bool found;
    check_ok(run_open(keys, specimen_vm, counted_source(&c), &r, &err), err);
    c.fail_after = 0;
    check_fails(run_find(r, entries[9].disk, entries[9].first, &e, &found, &err), err,
                ERR_TRANSIENT);
    c.fail_after = UINT32_MAX;
    check_ok(run_find(r, entries[9].disk, entries[9].first, &e, &found, &err), err);
    assert_same(&e, &entries[9]);
}

struct searcher {
    struct run *run;
    const struct run_entry *entries;
    uint32_t count;
    uint64_t seed;
    uint32_t wrong;
};

static void *searcher_main(void *context)
{
    struct searcher *s = context;
    uint64_t random = s->seed * 2 + 1;
    for (int i = 0; i < 3000; i++) {
        const struct run_entry *want = &s->entries[specimen_below(&random, s->count)];
        struct err err = ERR_NONE;
        struct run_entry e;
        bool found = false;
        if (!run_find(s->run, want->disk, want->first, &e, &found, &err) || !found ||
            e.first != want->first || e.kind != want->kind || e.offset != want->offset)
            s->wrong++;
    }
    return NULL;
}

static void several_threads_search_one_run(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint32_t count;
    struct run_entry *entries AUTO_FREE = large_make(7, &count);
    build_large(keys, entries, count, &bytes);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    struct searcher searchers[4];
    pthread_t threads[4];
    for (uint64_t i = 0; i < 4; i++) {
        searchers[i] = (struct searcher){.run = r, .entries = entries, .count = count, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, searcher_main, &searchers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(searchers[i].wrong, 0);
    }
}

/* --- hostile bytes --- */

static bool run_reads_whole(const struct keys *keys, const uint8_t *vm, struct buf *bytes,
                            struct err *err)
{
    struct run *r AUTO_RUN = NULL;
    if (!run_open(keys, vm, specimen_source(bytes), &r, err))
        return false;
    struct run_cursor c = {.run = r};
    struct run_entry e;
    bool found = true;
    while (found)
        if (!run_next(&c, &e, &found, err))
            return false;
    return true;
}

static bool run_refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    struct buf bytes = {.data = (uint8_t *)(uintptr_t)damaged.data, .length = damaged.length};
    return !run_reads_whole(context, specimen_vm, &bytes, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_run_is_refused_at_every_position(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    small_run(keys, &bytes);
    specimen_damage(buf_span(&bytes), run_refused, keys);
}

static void another_key_or_vm_is_refused_by_name(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct buf bytes AUTO_BUF = BUF_NONE;
    uint8_t vm[VM_ID_BYTES] = {0};
    small_run(keys, &bytes);
    check_fails(run_reads_whole(other, specimen_vm, &bytes, &err), err, ERR_WRONG_KEY);
    check_fails(run_reads_whole(keys, vm, &bytes, &err), err, ERR_CORRUPT);
}

static void pages_cannot_change_places(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of();
    for (uint64_t i = 0; i < 2 * RUN_PAGE_ENTRIES_MAX; i++)
        add(b, hole(0, 128 * (i + 1), 64)); /* every page has the same length but the first */
    finish(b, keys, &bytes);
    check_ok(run_reads_whole(keys, specimen_vm, &bytes, &err), err);
    struct run *r AUTO_RUN = open_run(keys, &bytes);
    assert_int_equal(run_entries(r), 2 * RUN_PAGE_ENTRIES_MAX);
    size_t page = bytes.length / 3; /* inside the pages: they are most of the run */
    uint8_t keep[64];
    memcpy(keep, bytes.data + bytes.length - 64, 64);
    memcpy(bytes.data + bytes.length - 64, bytes.data + page, 64);
    check_fails(run_reads_whole(keys, specimen_vm, &bytes, &err), err, ERR_CORRUPT);
    memcpy(bytes.data + bytes.length - 64, keep, 64);
    check_ok(run_reads_whole(keys, specimen_vm, &bytes, &err), err);
}

static void huge_lengths_in_the_head_allocate_nothing(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf bytes AUTO_BUF = BUF_NONE;
    small_run(keys, &bytes);
    size_t root_bytes_at = RUN_HEAD_BYTES - 16;
    static const size_t at[] = {0, 4, 8, 12};
    for (size_t i = 0; i < 4; i++) {
        struct buf copy AUTO_BUF = BUF_NONE;
        buf_put(&copy, bytes.data, bytes.length);
        buf_set_u32(&copy, root_bytes_at + at[i], 0xfffffff0u);
        assert_true(run_refused(keys, buf_span(&copy)));
    }
}

/* The bytes of one plain page against a root of one segment and one salt. */
static bool page_parses(struct span plain, uint32_t entries, uint16_t disk, uint64_t first)
{
    struct err err = ERR_NONE;
    struct seal_salt salt = specimen_salt(0);
    struct run_page_ref page = {
        .entries = entries, .bytes = (uint32_t)plain.length, .disk = disk, .first_block = first};
    struct run_root root = {.page_count = 1, .pages = &page, .salt_count = 1, .salts = &salt};
    root.segment_count = 1;
    struct run_mark marks[16];
    return run_page_parse(&root, 0, plain, marks, &err);
}

static void entries_in_a_longer_form_than_needed_or_past_a_bound_are_refused(void **state)
{
    (void)state;
    static const uint8_t good[] = {RUN_HOLE, 5, 1, RUN_HOLE, 0, 1, RUN_HOLE | 4, 1, 0, 1};
    static const uint8_t long_form[] = {RUN_HOLE, 0x85, 0, 1};
    static const uint8_t no_disk[] = {RUN_HOLE | 4, 0, 5, 1};
    static const uint8_t no_kind[] = {0, 5, 1};
    static const uint8_t spare_bit[] = {RUN_HOLE | 8, 5, 1};
    static const uint8_t empty[] = {RUN_HOLE, 5, 0};
    static const uint8_t far[] = {RUN_HOLE, 5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1};
    static const uint8_t wide[] = {RUN_HOLE, 5,    0xff, 0xff, 0xff, 0xff,
                                   0xff,     0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t wider[] = {RUN_HOLE, 5,    0xff, 0xff, 0xff, 0xff,
                                    0xff,     0xff, 0xff, 0xff, 0xff, 0x02};
    assert_true(page_parses(span_of(good, sizeof good), 3, 0, 5));
    assert_false(page_parses(span_of(good, sizeof good), 2, 0, 5)); /* bytes left over */
    assert_false(page_parses(span_of(good, sizeof good), 3, 0, 4)); /* not the index's block */
    assert_false(page_parses(span_of(good, sizeof good), 3, 1, 5)); /* nor its disk */
    assert_false(page_parses(span_of(long_form, sizeof long_form), 1, 0, 5));
    assert_false(page_parses(span_of(no_disk, sizeof no_disk), 1, 0, 5));
    assert_false(page_parses(span_of(no_kind, sizeof no_kind), 1, 0, 5));
    assert_false(page_parses(span_of(spare_bit, sizeof spare_bit), 1, 0, 5));
    assert_false(page_parses(span_of(empty, sizeof empty), 1, 0, 5));
    assert_false(page_parses(span_of(far, sizeof far), 1, 0, 5));
    assert_false(page_parses(span_of(wide, sizeof wide), 1, 0, 5));
    assert_false(page_parses(span_of(wider, sizeof wider), 1, 0, 5));
}

/* counts, place, salt, counter, segment, offset, stored bytes, two digests of zeros */
static bool data_parses(const uint8_t fields[7], uint64_t first)
{
    struct buf page AUTO_BUF = BUF_NONE;
    uint8_t zeros[17 * BLOCK_DIGEST_BYTES] = {0};
    buf_put_u8(&page, RUN_DATA);
    buf_put_varint(&page, first);
    buf_put(&page, fields, 7);
    buf_put(&page, zeros, (1 + (fields[0] & 15u) + 1) * BLOCK_DIGEST_BYTES);
    return page_parses(buf_span(&page), 1, 0, first);
}

static void data_entries_must_lie_in_their_frame_and_name_what_is_in_the_tables(void **state)
{
    (void)state;
    assert_true(data_parses((const uint8_t[]){0x30, 0x03, 0, 9, 0, 9, 100}, 7));
    assert_false(data_parses((const uint8_t[]){0x30, 0x04, 0, 9, 0, 9, 100}, 7)); /* behind it */
    assert_false(data_parses((const uint8_t[]){0x31, 0x03, 0, 9, 0, 9, 100}, 7)); /* sticks out */
    assert_false(data_parses((const uint8_t[]){0x30, 0x03, 1, 9, 0, 9, 100}, 7)); /* no salt 1 */
    assert_false(data_parses((const uint8_t[]){0x30, 0x03, 0, 9, 1, 9, 100}, 7)); /* no segment 1 */
    assert_false(data_parses((const uint8_t[]){0x30, 0x03, 0, 9, 0, 9, 0}, 7));   /* no bytes */
    assert_false(data_parses((const uint8_t[]){0x30, 0x43, 0, 9, 0, 9, 100}, 7)); /* unknown flag */
    assert_false(data_parses((const uint8_t[]){0x30, 0x03, 0, 9, 0, 9, 100}, 2)); /* before 0 */
}

static void clipping_keeps_the_frame_and_moves_the_digests(void **state)
{
    (void)state;
    struct run_entry whole = data(0, 100, 8, 2, 1);
    struct run_entry e = whole;
    assert_true(run_entry_clip(&e, 103, 2));
    assert_int_equal(e.first, 103);
    assert_int_equal(e.count, 2);
    assert_memory_equal(&e.frame, &whole.frame, sizeof e.frame);
    assert_memory_equal(e.digests, whole.digests + 3, 2 * sizeof e.digests[0]);
    e = whole;
    assert_true(run_entry_clip(&e, 0, UINT64_MAX));
    assert_same(&e, &whole);
    assert_false(run_entry_clip(&e, 108, 5));
    assert_false(run_entry_clip(&e, 90, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_as_they_were_added),
        cmocka_unit_test(a_run_without_entries_opens_and_finds_nothing),
        cmocka_unit_test(adjacent_holes_join_and_other_neighbours_do_not),
        cmocka_unit_test(the_same_input_gives_the_same_bytes),
        cmocka_unit_test(the_golden_run_is_as_it_was),
        cmocka_unit_test(finding_agrees_with_a_search_through_all_entries),
        cmocka_unit_test(a_cursor_walks_through_all_pages_in_order),
        cmocka_unit_test(the_filter_denies_only_what_is_not_there),
        cmocka_unit_test(
            a_filter_with_too_many_rows_grows_its_units_and_denies_nothing_that_is_there),
        cmocka_unit_test(a_lookup_fetches_its_page_once_and_a_denied_one_fetches_nothing),
        cmocka_unit_test(a_short_run_is_fetched_whole_when_it_is_opened),
        cmocka_unit_test(a_failed_fetch_is_told_and_the_next_lookup_tries_again),
        cmocka_unit_test(several_threads_search_one_run),
        cmocka_unit_test(a_cut_or_flipped_run_is_refused_at_every_position),
        cmocka_unit_test(another_key_or_vm_is_refused_by_name),
        cmocka_unit_test(pages_cannot_change_places),
        cmocka_unit_test(huge_lengths_in_the_head_allocate_nothing),
        cmocka_unit_test(entries_in_a_longer_form_than_needed_or_past_a_bound_are_refused),
        cmocka_unit_test(data_entries_must_lie_in_their_frame_and_name_what_is_in_the_tables),
        cmocka_unit_test(clipping_keeps_the_frame_and_moves_the_digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
