/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <stdio.h>

#include "backend/history/merge.h"
#include "tests/support/specimen.h"

#define DISKS      3u
#define BLOCKS     200u
#define RUNS_MAX   6u
#define LEVEL_MAX  (DISKS * BLOCKS) /* runs that come of one merge */
#define RANDOM_MAX 150u             /* rounds */

/* What a run says of one block: nothing (kind 0), or the entry cut to this block. */
struct said {
    struct run_entry entry;
    char segment[RUN_SEGMENT_NAME_MAX];
};

struct model {
    struct said blocks[DISKS][BLOCKS];
};

struct made {
    struct buf bytes;
    struct run *run;
};

static void made_release(struct made *m)
{
    run_close(&m->run);
    buf_release(&m->bytes);
}

static struct run_builder *builder_of(uint64_t first, uint64_t last)
{
    struct err err = ERR_NONE;
    struct run_head head = {.generation_id = 1, .epoch_first = first, .epoch_last = last};
    struct run_builder *b = NULL;
    memcpy(head.vm, specimen_vm, sizeof head.vm);
    check_ok(run_builder_make(&head, &b, &err), err);
    return b;
}

static void finish(struct run_builder *b, const struct keys *keys, struct made *out)
{
    struct err err = ERR_NONE;
    struct seal_salt salt = specimen_salt(1);
    check_ok(run_builder_finish(b, keys, &salt, &out->bytes, &err), err);
    check_ok(run_open(keys, specimen_vm, specimen_source(&out->bytes), &out->run, &err), err);
}

static struct run_entry random_entry(uint64_t *random, uint16_t disk, uint64_t first)
{
    struct run_entry e = {.disk = disk, .first = first, .count = 1 + specimen_below(random, 16)};
    if (e.first + e.count > BLOCKS)
        e.count = BLOCKS - e.first;
    e.kind = (enum run_kind)(1 + specimen_below(random, 3));
    if (e.kind != RUN_DATA)
        return e;
    uint64_t before = specimen_below(random, FRAME_BLOCKS_MAX - e.count + 1);
    if (before > e.first)
        before = e.first;
    memcpy(e.frame.vm, specimen_vm, VM_ID_BYTES);
    e.frame.disk = disk;
    e.frame.flags = FRAME_ENCRYPTED;
    e.frame.first = e.first - before;
    e.frame.blocks = (uint8_t)(before + e.count);
    e.frame.seal.salt = specimen_salt((uint8_t)specimen_below(random, 4));
    e.frame.seal.counter = (uint32_t)specimen_random(random);
    e.offset = (uint32_t)specimen_below(random, 1u << 20);
    e.stored_bytes = (uint32_t)(1 + specimen_below(random, 4000));
    specimen_noise(&e.sealed_digest, sizeof e.sealed_digest, specimen_random(random));
    specimen_noise(e.digests, (size_t)e.count * sizeof e.digests[0], specimen_random(random));
    return e;
}

/* Lays the entry over what the model says already. */
static void model_add(struct model *m, const struct run_entry *e, const char *segment)
{
    for (uint64_t block = e->first; block < e->first + e->count; block++) {
        struct said *s = &m->blocks[e->disk][block];
        memset(s, 0, sizeof *s);
        s->entry = *e;
        assert_true(run_entry_clip(&s->entry, block, 1));
        if (e->kind == RUN_DATA)
            snprintf(s->segment, sizeof s->segment, "%s", segment);
    }
}

static void random_run(uint64_t *random, uint32_t number, const struct keys *keys, struct model *m,
                       struct made *out)
{
    struct err err = ERR_NONE;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of(number, number);
    uint64_t sparse = 1 + specimen_below(random, 60);
    for (uint16_t disk = 0; disk < DISKS; disk++)
        for (uint64_t at = specimen_below(random, sparse); at < BLOCKS;) {
            struct run_entry e = random_entry(random, disk, at);
            char segment[32];
            snprintf(segment, sizeof segment, "part-%u", (unsigned)specimen_below(random, 4));
            if (e.kind == RUN_DATA)
                check_ok(run_builder_segment(b, segment, &e.segment, &err), err);
            check_ok(run_builder_add(b, &e, &err), err);
            model_add(m, &e, segment);
            at += e.count + specimen_below(random, sparse);
        }
    finish(b, keys, out);
}

static void assert_block(const struct said *expected, const struct run_entry *e,
                         const char *segment)
{
    const struct run_entry *x = &expected->entry;
    assert_int_equal(e->kind, x->kind);
    if (e->kind != RUN_DATA)
        return;
    assert_memory_equal(&e->frame.seal.salt, &x->frame.seal.salt, SEAL_SALT_BYTES);
    assert_int_equal(e->frame.seal.counter, x->frame.seal.counter);
    assert_int_equal(e->frame.first, x->frame.first);
    assert_int_equal(e->frame.blocks, x->frame.blocks);
    assert_int_equal(e->frame.flags, x->frame.flags);
    assert_int_equal(e->offset, x->offset);
    assert_int_equal(e->stored_bytes, x->stored_bytes);
    assert_memory_equal(&e->sealed_digest, &x->sealed_digest, BLOCK_DIGEST_BYTES);
    assert_memory_equal(e->digests, x->digests, BLOCK_DIGEST_BYTES);
    assert_string_equal(segment, expected->segment);
}

/* Every block of the runs, which are disjoint and ascend, is as the model says, and nothing else is
 * in them. */
static void assert_runs_are(const struct made *runs, uint32_t count, const struct model *m)
{
    struct err err = ERR_NONE;
    struct run_entry e;
    uint32_t said = 0, seen = 0, next = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct run_cursor c = {.run = runs[i].run};
        bool found;
        check_ok(run_next(&c, &e, &found, &err), err);
        while (found) {
            assert_true(e.disk * BLOCKS + e.first >= next);
            next = e.disk * BLOCKS + (uint32_t)(e.first + e.count);
            for (uint64_t block = e.first; block < e.first + e.count; block++, seen++) {
                struct run_entry one = e;
                assert_true(run_entry_clip(&one, block, 1));
                assert_block(&m->blocks[e.disk][block], &one,
                             e.kind == RUN_DATA ? run_segment_name(runs[i].run, e.segment) : "");
            }
            check_ok(run_next(&c, &e, &found, &err), err);
        }
    }
    for (uint32_t disk = 0; disk < DISKS; disk++)
        for (uint32_t block = 0; block < BLOCKS; block++)
            said += m->blocks[disk][block].entry.kind != 0;
    assert_int_equal(seen, said);
}

static void merge(struct made *runs, uint32_t count, const struct keys *keys, struct made *out)
{
    struct err err = ERR_NONE;
    struct run_merge_input open[RUNS_MAX];
    struct run_merging *m AUTO_RUN_MERGING = NULL;
    struct run_builder *b AUTO_RUN_BUILDER = builder_of(0, count);
    bool more;
    for (uint32_t i = 0; i < count; i++)
        open[i] = (struct run_merge_input){.run = runs[i].run};
    check_ok(run_merging_make(open, count, &m, &err), err);
    check_ok(run_merging_step(m, b, UINT64_MAX, &more, &err), err);
    assert_false(more);
    finish(b, keys, out);
}

static void a_merge_says_of_every_block_what_the_newest_run_says(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct model *m AUTO_FREE = malloc(sizeof *m);
    uint64_t random = 42;
    for (uint32_t round = 0; round < RANDOM_MAX; round++) {
        struct made runs[RUNS_MAX] = {{.run = NULL}};
        struct made merged CLEANUP(made_release) = {.run = NULL};
        uint32_t count = 1 + (uint32_t)specimen_below(&random, RUNS_MAX);
        memset(m, 0, sizeof *m);
        for (uint32_t i = 0; i < count; i++)
            random_run(&random, i, keys, m, &runs[i]);
        merge(runs, count, keys, &merged);
        assert_runs_are(&merged, 1, m);
        for (uint32_t i = 0; i < count; i++)
            made_release(&runs[i]);
    }
}

static void merging_in_steps_gives_the_same_blocks_as_merging_at_once(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct model *m AUTO_FREE = calloc(1, sizeof *m);
    uint64_t random = 7;
    struct made runs[4] = {{.run = NULL}};
    for (uint32_t i = 0; i < 4; i++)
        random_run(&random, i, keys, m, &runs[i]);
    struct made halves[2] = {{.run = NULL}};
    struct made whole CLEANUP(made_release) = {.run = NULL};
    merge(runs, 2, keys, &halves[0]);
    merge(runs + 2, 2, keys, &halves[1]);
    merge(halves, 2, keys, &whole);
    assert_runs_are(&whole, 1, m);
    for (uint32_t i = 0; i < 4; i++)
        made_release(&runs[i]);
    made_release(&halves[0]);
    made_release(&halves[1]);
}

/* The next of the runs of a level. */
struct level {
    struct made *runs;
    uint32_t count, at;
};

static bool next_of_level(void *context, struct run_merge_input *in, struct err *err)
{
    struct level *level = context;
    (void)err;
    made_release(&level->runs[level->at]);
    in->run = ++level->at < level->count ? level->runs[level->at].run : NULL;
    return true;
}

/* What comes of the inputs when no run is longer than `bytes`; returns how many. */
static uint32_t merge_apart(struct run_merge_input *inputs, uint32_t count, uint64_t bytes,
                            const struct keys *keys, struct made *out)
{
    struct err err = ERR_NONE;
    struct run_merging *m AUTO_RUN_MERGING = NULL;
    uint32_t made = 0;
    check_ok(run_merging_make(inputs, count, &m, &err), err);
    for (bool more = true; more; made++) {
        struct run_builder *b AUTO_RUN_BUILDER = builder_of(0, count);
        assert_true(made < LEVEL_MAX);
        check_ok(run_merging_step(m, b, bytes, &more, &err), err);
        assert_true(run_builder_entries(b) > 0 || !more);
        finish(b, keys, &out[made]);
    }
    return made;
}

static void runs_of_disjoint_blocks_come_of_a_merge_and_go_into_the_next_as_one(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct model *m AUTO_FREE = malloc(sizeof *m);
    struct made *level AUTO_FREE = calloc(LEVEL_MAX, sizeof *level);
    struct made *next AUTO_FREE = calloc(LEVEL_MAX, sizeof *next);
    uint64_t random = 43, several = 0;
    assert_non_null(level);
    assert_non_null(next);
    for (uint32_t round = 0; round < RANDOM_MAX; round++) {
        struct run_merge_input open[RUNS_MAX] = {{.run = NULL}};
        struct made runs[RUNS_MAX] = {{.run = NULL}};
        uint32_t count = 1 + (uint32_t)specimen_below(&random, RUNS_MAX);
        uint32_t old = 1 + (uint32_t)specimen_below(&random, count);
        uint64_t bytes = 1 + specimen_below(&random, 3000);
        memset(m, 0, sizeof *m);
        for (uint32_t i = 0; i < old; i++) {
            random_run(&random, i, keys, m, &runs[i]);
            open[i] = (struct run_merge_input){.run = runs[i].run};
        }
        struct level first = {.runs = level};
        first.count = merge_apart(open, old, bytes, keys, level);
        several += first.count > 1;
        assert_runs_are(level, first.count, m);
        open[0] =
            (struct run_merge_input){.run = level[0].run, .next = next_of_level, .context = &first};
        for (uint32_t i = old; i < count; i++) {
            random_run(&random, i, keys, m, &runs[i]);
            open[1 + i - old] = (struct run_merge_input){.run = runs[i].run};
        }
        uint32_t made = merge_apart(open, 1 + count - old, bytes, keys, next);
        assert_int_equal(first.at, first.count); /* it was read to its end */
        assert_runs_are(next, made, m);
        for (uint32_t i = 0; i < made; i++)
            made_release(&next[i]);
        memset(next, 0, LEVEL_MAX * sizeof *next);
        memset(level, 0, LEVEL_MAX * sizeof *level);
        for (uint32_t i = 0; i < count; i++)
            made_release(&runs[i]);
    }
    assert_true(several > RANDOM_MAX / 2);
}

static void a_block_in_the_middle_leaves_two_pieces_of_the_frame(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct made runs[2] = {{.run = NULL}};
    struct made merged CLEANUP(made_release) = {.run = NULL};
    struct run_builder *old AUTO_RUN_BUILDER = builder_of(1, 1);
    struct run_builder *new AUTO_RUN_BUILDER = builder_of(2, 2);
    struct run_entry frame = {.kind = RUN_DATA, .first = 10, .count = 16, .stored_bytes = 9};
    frame.frame = (struct frame_id){.first = 10, .blocks = 16};
    struct run_entry hole = {.kind = RUN_HOLE, .first = 14, .count = 2};
    check_ok(run_builder_segment(old, "part-0", &frame.segment, &err), err);
    check_ok(run_builder_add(old, &frame, &err), err);
    check_ok(run_builder_add(new, &hole, &err), err);
    finish(old, keys, &runs[0]);
    finish(new, keys, &runs[1]);
    merge(runs, 2, keys, &merged);
    static const uint64_t expected[3][3] = {
        {RUN_DATA, 10, 4}, {RUN_HOLE, 14, 2}, {RUN_DATA, 16, 10}};
    struct run_cursor c = {.run = merged.run};
    assert_int_equal(run_entries(merged.run), 3);
    for (size_t i = 0; i < 3; i++) {
        struct run_entry e;
        bool found;
        check_ok(run_next(&c, &e, &found, &err), err);
        assert_int_equal(e.kind, expected[i][0]);
        assert_int_equal(e.first, expected[i][1]);
        assert_int_equal(e.count, expected[i][2]);
        assert_true(e.kind == RUN_HOLE || (e.frame.first == 10 && e.frame.blocks == 16));
    }
    made_release(&runs[0]);
    made_release(&runs[1]);
}

static void nothing_merged_is_an_empty_run(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct made merged CLEANUP(made_release) = {.run = NULL};
    merge(NULL, 0, keys, &merged);
    assert_int_equal(run_entries(merged.run), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_says_of_every_block_what_the_newest_run_says),
        cmocka_unit_test(merging_in_steps_gives_the_same_blocks_as_merging_at_once),
        cmocka_unit_test(runs_of_disjoint_blocks_come_of_a_merge_and_go_into_the_next_as_one),
        cmocka_unit_test(a_block_in_the_middle_leaves_two_pieces_of_the_frame),
        cmocka_unit_test(nothing_merged_is_an_empty_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
