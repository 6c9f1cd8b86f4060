/* SPDX-License-Identifier: MIT
 * The records of retention: points that leave, merges, objects that are dropped. */
#include "tests/support/check.h"

#include "backend/history/codec_internal.h"
#include "tests/support/specimen.h"

struct specimen {
    struct record record;
    uint64_t thin[3];
    struct record_run runs[2];
    struct sha256 drops[2];
};

static void specimen_fill(struct specimen *s, enum record_kind kind)
{
    memset(s, 0, sizeof *s);
    s->record = (struct record){.kind = kind,
                                .number = 9,
                                .written_ms = 1795377904000,
                                .generation = {.number = 1, .id = 0x0123456789abcdef}};
    memcpy(s->record.vm, specimen_vm, VM_ID_BYTES);
    specimen_noise(&s->record.previous, SHA256_BYTES, 31);
    if (kind != RECORD_MERGE)
        s->record.newest_ms = 1795377903250;
    if (kind == RECORD_THIN) {
        memcpy(s->thin, (const uint64_t[]){3, 4, 900}, sizeof s->thin);
        s->record.thin = s->thin;
        s->record.thin_count = 3;
    } else if (kind == RECORD_MERGE) {
        s->runs[0] = (struct record_run){.epoch_first = 4, .epoch_last = 7, .bytes = 500};
        s->runs[1] =
            (struct record_run){.epoch_first = 2, .epoch_last = 3, .offset = 4096, .bytes = 400};
        for (unsigned i = 0; i < 2; i++) {
            specimen_noise(&s->runs[i].object, SHA256_BYTES, 32 + i);
            specimen_noise(&s->runs[i].digest, SHA256_BYTES, 34 + i);
        }
        s->record.merge_first = 2;
        s->record.merge_last = 8;
        s->record.runs = s->runs;
        s->record.run_count = 2;
    } else {
        specimen_noise(&s->drops[0], SHA256_BYTES, 36);
        specimen_noise(&s->drops[1], SHA256_BYTES, 37);
        s->drops[0].bytes[0] = 1;
        s->drops[1].bytes[0] = 2;
        s->record.drops = s->drops;
        s->record.drop_count = 2;
    }
}

static void encode(const struct record *r, struct buf *out)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x40);
    check_ok(record_encode(r, keys, &salt, out, &err), err);
}

static void they_come_back(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    for (enum record_kind kind = RECORD_THIN; kind <= RECORD_DROP; kind++) {
        struct specimen s;
        struct err err = ERR_NONE;
        struct buf stored AUTO_BUF = BUF_NONE;
        struct record d CLEANUP(record_release) = {.epochs = NULL};
        specimen_fill(&s, kind);
        encode(&s.record, &stored);
        check_ok(record_decode(buf_span(&stored), keys, specimen_vm, 9, &d, &err), err);
        assert_int_equal(d.kind, kind);
        assert_int_equal(d.newest_ms, s.record.newest_ms);
        assert_int_equal(d.thin_count, s.record.thin_count);
        assert_memory_equal(d.thin != NULL ? d.thin : s.thin, s.thin,
                            s.record.thin_count * sizeof s.thin[0]);
        assert_int_equal(d.merge_first, s.record.merge_first);
        assert_int_equal(d.merge_last, s.record.merge_last);
        assert_int_equal(d.run_count, s.record.run_count);
        if (d.run_count > 0)
            assert_memory_equal(d.runs, s.runs, sizeof s.runs);
        assert_int_equal(d.drop_count, s.record.drop_count);
        if (d.drop_count > 0)
            assert_memory_equal(d.drops, s.drops, sizeof s.drops);
    }
}

/* Runs of one level have the same epochs. */
static void a_level_comes_back(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct specimen s;
    struct err err = ERR_NONE;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    specimen_fill(&s, RECORD_MERGE);
    s.runs[1].epoch_first = s.runs[0].epoch_first;
    s.runs[1].epoch_last = s.runs[0].epoch_last;
    encode(&s.record, &stored);
    check_ok(record_decode(buf_span(&stored), keys, specimen_vm, 9, &d, &err), err);
    assert_int_equal(d.run_count, 2);
    assert_memory_equal(d.runs, s.runs, sizeof s.runs);
}

static void one_that_says_nothing_comes_back(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    for (enum record_kind kind = RECORD_THIN; kind <= RECORD_DROP; kind++) {
        struct specimen s;
        struct err err = ERR_NONE;
        struct buf stored AUTO_BUF = BUF_NONE;
        struct record d CLEANUP(record_release) = {.epochs = NULL};
        specimen_fill(&s, kind);
        s.record.thin_count = s.record.run_count = s.record.drop_count = 0;
        encode(&s.record, &stored);
        check_ok(record_decode(buf_span(&stored), keys, specimen_vm, 9, &d, &err), err);
    }
}

typedef void change_fn(struct specimen *s);

static void points_out_of_order(struct specimen *s)
{
    s->thin[1] = 3;
}
static void epoch_zero(struct specimen *s)
{
    s->thin[0] = 0;
}
static void points_in_a_merge(struct specimen *s)
{
    s->record.kind = RECORD_MERGE;
}
static void merge_backwards(struct specimen *s)
{
    s->record.merge_last = s->record.merge_first - 1;
    s->record.run_count = 0;
}
static void merge_from_nothing(struct specimen *s)
{
    s->record.merge_first = 0;
}
static void run_before_the_merge(struct specimen *s)
{
    s->runs[1].epoch_first = 1;
}
static void run_behind_the_merge(struct specimen *s)
{
    s->runs[0].epoch_last = 9;
}
static void runs_that_overlap(struct specimen *s)
{
    s->runs[1].epoch_last = 4;
}
static void runs_oldest_first(struct specimen *s)
{
    struct record_run first = s->runs[0];
    s->runs[0] = s->runs[1];
    s->runs[1] = first;
}
static void run_backwards(struct specimen *s)
{
    s->runs[0].epoch_first = 8;
}
static void run_within_a_level(struct specimen *s)
{
    s->runs[1].epoch_first = s->runs[0].epoch_first;
    s->runs[1].epoch_last = s->runs[0].epoch_last - 1;
}
static void run_of_no_bytes(struct specimen *s)
{
    s->runs[0].bytes = 0;
}
static void run_past_any_object(struct specimen *s)
{
    s->runs[0].offset = STORE_OBJECT_MAX;
}
static void time_of_a_merge(struct specimen *s)
{
    s->record.newest_ms = 1;
}
static void merge_in_a_drop(struct specimen *s)
{
    s->record.merge_last = 3;
}
static void object_twice(struct specimen *s)
{
    s->drops[1] = s->drops[0];
}
static void object_of_zeros(struct specimen *s)
{
    s->drops[0] = (struct sha256){{0}};
}

static void what_contradicts_itself_cannot_be_written(void **state)
{
    (void)state;
    static const struct {
        enum record_kind kind;
        change_fn *change;
    } changes[] = {
        {RECORD_THIN, points_out_of_order},   {RECORD_THIN, epoch_zero},
        {RECORD_THIN, points_in_a_merge},     {RECORD_MERGE, merge_backwards},
        {RECORD_MERGE, merge_from_nothing},   {RECORD_MERGE, run_before_the_merge},
        {RECORD_MERGE, run_behind_the_merge}, {RECORD_MERGE, runs_that_overlap},
        {RECORD_MERGE, runs_oldest_first},    {RECORD_MERGE, run_backwards},
        {RECORD_MERGE, run_within_a_level},   {RECORD_MERGE, run_of_no_bytes},
        {RECORD_MERGE, run_past_any_object},  {RECORD_MERGE, time_of_a_merge},
        {RECORD_DROP, merge_in_a_drop},       {RECORD_DROP, object_twice},
        {RECORD_DROP, object_of_zeros},
    };
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x40);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct specimen s;
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        specimen_fill(&s, changes[i].kind);
        changes[i].change(&s);
        if (record_encode(&s.record, keys, &salt, &out, &err) || err.kind != ERR_INVALID)
            fail_msg("change %zu: %s", i, err.text);
    }
}

static bool refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    return !record_decode(damaged, context, specimen_vm, 9, &d, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_one_is_refused_at_every_position(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    for (enum record_kind kind = RECORD_THIN; kind <= RECORD_DROP; kind++) {
        struct buf stored AUTO_BUF = BUF_NONE;
        struct specimen s;
        specimen_fill(&s, kind);
        encode(&s.record, &stored);
        specimen_damage(buf_span(&stored), refused, keys);
    }
}

static void the_golden_ones_are_as_they_were(void **state)
{
    (void)state;
    static const struct {
        enum record_kind kind;
        const char *name, *sha256;
    } golden[] = {
        {RECORD_THIN, "record-thin",
         "852f40fb4bc5f88893c9b7baf64f8bfde4b502cf210693d29ba6f4d732628f8d"},
        {RECORD_MERGE, "record-merge",
         "d5fea6c458571bcadd507b526c7463aa7cd2b9a7f3793808b859f2beb325e7ae"},
        {RECORD_DROP, "record-drop",
         "82b710363d4886c2ff2076a07c0b7521dde641577031658392d5f20ad9afd886"},
    };
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        struct buf stored AUTO_BUF = BUF_NONE;
        struct specimen s;
        specimen_fill(&s, golden[i].kind);
        encode(&s.record, &stored);
        specimen_golden(TEST_SOURCE_DIR, golden[i].name, buf_span(&stored), golden[i].sha256);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_come_back),
        cmocka_unit_test(a_level_comes_back),
        cmocka_unit_test(one_that_says_nothing_comes_back),
        cmocka_unit_test(what_contradicts_itself_cannot_be_written),
        cmocka_unit_test(a_cut_or_flipped_one_is_refused_at_every_position),
        cmocka_unit_test(the_golden_ones_are_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
