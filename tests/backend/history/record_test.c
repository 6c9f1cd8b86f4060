/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "backend/history/codec_internal.h"
#include "tests/support/specimen.h"

/* A record of two applied epochs: a cut with a run, and a heartbeat. */
struct specimen {
    struct record record;
    struct record_epoch epochs[2];
};

static void specimen_fill(struct specimen *s)
{
    memset(s, 0, sizeof *s);
    s->record = (struct record){
        .kind = RECORD_APPLY,
        .number = 7,
        .written_ms = 1795377904000,
        .generation = {.number = 1, .id = 0x0123456789abcdef},
        .disk_count = 1,
        .disks = {{.name = "root", .disk = 0, .size_bytes = 10ull << 30}},
        .epoch_count = 2,
        .epochs = s->epochs,
    };
    memcpy(s->record.vm, specimen_vm, VM_ID_BYTES);
    specimen_noise(&s->record.previous, SHA256_BYTES, 21);
    s->epochs[0] = (struct record_epoch){
        .kind = EPOCH_CUT,
        .epoch = 12,
        .point_ms = 1795377903250,
        .clock_ms = 1795377903111,
        .point_kind = POINT_CRASH,
        .label = "nightly",
        .data_bytes = 123456,
        .run_key = "segments/0011",
        .run_offset = 4096,
        .run_bytes = 392,
    };
    specimen_noise(&s->epochs[0].entry_digest, SHA256_BYTES, 22);
    specimen_noise(&s->epochs[0].run_digest, SHA256_BYTES, 23);
    specimen_noise(s->epochs[0].cut_id, 16, 24);
    s->epochs[1] =
        (struct record_epoch){.kind = EPOCH_HEARTBEAT, .epoch = 13, .point_ms = 1795377999000};
}

static void encode(const struct record *r, struct buf *out)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x30);
    check_ok(record_encode(r, keys, &salt, out, &err), err);
}

static void assert_same_epoch(const struct record_epoch *a, const struct record_epoch *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->epoch, b->epoch);
    assert_memory_equal(&a->entry_digest, &b->entry_digest, SHA256_BYTES);
    assert_int_equal(a->point_ms, b->point_ms);
    assert_int_equal(a->clock_ms, b->clock_ms);
    assert_int_equal(a->point_kind, b->point_kind);
    assert_string_equal(a->label, b->label);
    assert_memory_equal(a->cut_id, b->cut_id, 16);
    assert_int_equal(a->data_bytes, b->data_bytes);
    assert_string_equal(a->run_key, b->run_key);
    assert_int_equal(a->run_offset, b->run_offset);
    assert_int_equal(a->run_bytes, b->run_bytes);
    assert_memory_equal(&a->run_digest, &b->run_digest, SHA256_BYTES);
}

static void check_comes_back(const struct record *r)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    encode(r, &stored);
    check_ok(record_decode(buf_span(&stored), keys, specimen_vm, r->number, &d, &err), err);
    assert_int_equal(d.kind, r->kind);
    assert_memory_equal(d.vm, r->vm, VM_ID_BYTES);
    assert_int_equal(d.number, r->number);
    assert_memory_equal(&d.previous, &r->previous, SHA256_BYTES);
    assert_int_equal(d.written_ms, r->written_ms);
    assert_int_equal(d.generation.number, r->generation.number);
    assert_int_equal(d.generation.id, r->generation.id);
    assert_int_equal(d.parent.number, r->parent.number);
    assert_int_equal(d.parent.id, r->parent.id);
    assert_int_equal(d.parent_epoch, r->parent_epoch);
    assert_int_equal(d.judged_epoch, r->judged_epoch);
    assert_int_equal(d.disk_count, r->disk_count);
    assert_memory_equal(d.disks, r->disks, sizeof d.disks);
    assert_int_equal(d.epoch_count, r->epoch_count);
    for (uint32_t i = 0; i < r->epoch_count; i++)
        assert_same_epoch(&d.epochs[i], &r->epochs[i]);
}

static void records_of_every_kind_come_back(void **state)
{
    (void)state;
    struct specimen s;
    specimen_fill(&s);
    check_comes_back(&s.record);
    s.record.epoch_count = 0;
    s.record.kind = RECORD_VERIFIED;
    s.record.judged_epoch = 12;
    check_comes_back(&s.record);
    s.record.kind = RECORD_DAMAGED;
    check_comes_back(&s.record);
    s.record.kind = RECORD_GENERATION;
    check_comes_back(&s.record);
    s.record.generation.number = 2;
    s.record.parent = (struct generation){.number = 1, .id = 99};
    s.record.parent_epoch = 12;
    check_comes_back(&s.record);
    s.record.kind = RECORD_OPEN;
    s.record.number = 0;
    s.record.previous = (struct sha256){{0}};
    s.record.parent = (struct generation){.number = 0};
    s.record.parent_epoch = 0;
    check_comes_back(&s.record);
}

static void as_many_epochs_as_may_be_come_back(void **state)
{
    (void)state;
    struct specimen s;
    specimen_fill(&s);
    struct record_epoch *epochs AUTO_FREE = calloc(RECORD_RUNS_MAX, sizeof *epochs);
    for (uint32_t i = 0; i < RECORD_RUNS_MAX; i++) {
        epochs[i] = s.epochs[0];
        epochs[i].epoch = i + 1;
    }
    s.record.epochs = epochs;
    s.record.epoch_count = RECORD_RUNS_MAX;
    check_comes_back(&s.record);
}

typedef void change_fn(struct specimen *s);

static void no_kind(struct specimen *s)
{
    s->record.kind = RECORD_DROP + 1;
}
static void opening_with_a_number(struct specimen *s)
{
    s->record.kind = RECORD_OPEN;
    s->record.epoch_count = 0;
}
static void number_0_that_does_not_open(struct specimen *s)
{
    s->record.number = 0;
}
static void no_generation(struct specimen *s)
{
    s->record.generation.id = 0;
}
static void parent_of_an_apply(struct specimen *s)
{
    s->record.parent = (struct generation){.number = 1, .id = 5};
}
static void fork_without_parent(struct specimen *s)
{
    s->record.parent_epoch = 5;
}
static void epochs_in_a_generation_record(struct specimen *s)
{
    s->record.kind = RECORD_GENERATION;
}
static void epochs_out_of_order(struct specimen *s)
{
    s->epochs[1].epoch = 12;
}
static void run_without_key(struct specimen *s)
{
    s->epochs[0].run_key[0] = '\0';
}
static void key_without_run(struct specimen *s)
{
    s->epochs[0].run_bytes = 0;
}
static void run_past_any_object(struct specimen *s)
{
    s->epochs[0].run_offset = STORE_OBJECT_MAX;
}
static void cut_without_point_kind(struct specimen *s)
{
    s->epochs[0].point_kind = 0;
}
static void control_character_in_label(struct specimen *s)
{
    s->epochs[0].label[0] = '\033';
}
static void disk_too_large(struct specimen *s)
{
    s->record.disks[0].size_bytes = DISK_BYTES_MAX + 1;
}

static void records_that_contradict_themselves_cannot_be_written(void **state)
{
    (void)state;
    static change_fn *const changes[] = {
        no_kind,
        opening_with_a_number,
        number_0_that_does_not_open,
        no_generation,
        parent_of_an_apply,
        fork_without_parent,
        epochs_in_a_generation_record,
        epochs_out_of_order,
        run_without_key,
        key_without_run,
        run_past_any_object,
        cut_without_point_kind,
        control_character_in_label,
        disk_too_large,
    };
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x30);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct specimen s;
        struct buf out AUTO_BUF = BUF_NONE;
        specimen_fill(&s);
        changes[i](&s);
        err = ERR_NONE;
        if (record_encode(&s.record, keys, &salt, &out, &err) || err.kind != ERR_INVALID)
            fail_msg("change %zu: %s", i, err.text);
    }
}

static void a_record_of_another_vm_number_or_key_is_refused(void **state)
{
    (void)state;
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    uint8_t vm[VM_ID_BYTES] = {0};
    struct specimen s;
    specimen_fill(&s);
    encode(&s.record, &stored);
    check_fails(record_decode(buf_span(&stored), keys, vm, 7, &d, &err), err, ERR_CORRUPT);
    check_fails(record_decode(buf_span(&stored), keys, specimen_vm, 8, &d, &err), err, ERR_CORRUPT);
    check_fails(record_decode(buf_span(&stored), other, specimen_vm, 7, &d, &err), err,
                ERR_WRONG_KEY);
}

static bool refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    return !record_decode(damaged, context, specimen_vm, 7, &d, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_record_is_refused_at_every_position(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct specimen s;
    specimen_fill(&s);
    encode(&s.record, &stored);
    specimen_damage(buf_span(&stored), refused, keys);
}

static void huge_lengths_allocate_nothing(void **state)
{
    (void)state;
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct specimen s;
    specimen_fill(&s);
    for (size_t at = ENVELOPE_HEAD_BYTES - 8; at < ENVELOPE_HEAD_BYTES; at += 4) {
        struct buf stored AUTO_BUF = BUF_NONE;
        encode(&s.record, &stored);
        buf_set_u32(&stored, at, 0xffffffffu);
        assert_true(refused(keys, buf_span(&stored)));
    }
    struct record d CLEANUP(record_release) = {.epochs = NULL};
    uint8_t body[400];
    memset(body, 0xff, sizeof body);
    check_fails(record_body_parse(span_of(body, sizeof body), &d, &err), err, ERR_CORRUPT);
    assert_null(d.epochs);
}

static void the_golden_record_is_as_it_was(void **state)
{
    (void)state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct specimen s;
    specimen_fill(&s);
    encode(&s.record, &stored);
    specimen_golden(TEST_SOURCE_DIR, "record", buf_span(&stored),
                    "7d10550e71a718e54864d9dea81c5bf1bb56e70ab2ccf72d44ba77de3e3eb196");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_of_every_kind_come_back),
        cmocka_unit_test(as_many_epochs_as_may_be_come_back),
        cmocka_unit_test(records_that_contradict_themselves_cannot_be_written),
        cmocka_unit_test(a_record_of_another_vm_number_or_key_is_refused),
        cmocka_unit_test(a_cut_or_flipped_record_is_refused_at_every_position),
        cmocka_unit_test(huge_lengths_allocate_nothing),
        cmocka_unit_test(the_golden_record_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
