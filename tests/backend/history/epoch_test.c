/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <stdio.h>

#include "backend/history/codec_internal.h"
#include "tests/support/specimen.h"

static const struct generation generation = {.number = 2, .id = 0x0123456789abcdef};

/* A cut of two disks whose frames ride inside, with one of everything. */
struct specimen {
    struct epoch_entry entry;
    struct epoch_part parts[2];
    uint8_t frames[40];
    uint8_t run[24];
};

static void specimen_fill(struct specimen *s)
{
    memset(s, 0, sizeof *s);
    specimen_noise(s->frames, sizeof s->frames, 11);
    specimen_noise(s->run, sizeof s->run, 12);
    s->parts[0].bytes = sizeof s->frames;
    s->parts[0].digest = sha256_of(span_of(s->frames, sizeof s->frames));
    s->entry = (struct epoch_entry){
        .kind = EPOCH_CUT,
        .generation = generation,
        .epoch = 12,
        .attempt = 0xfeedfacecafebeef,
        .point_ms = 1795377903250,
        .clock_ms = 1795377903111,
        .point_kind = POINT_APPLICATION,
        .label = "before the upgrade",
        .disk_count = 2,
        .disks = {{.name = "root", .disk = 0, .size_bytes = 10ull << 30},
                  {.name = "data", .disk = 5, .store = 1, .size_bytes = 4097}},
        .part_count = 1,
        .parts = s->parts,
        .has_inline = true,
        .inline_part = span_of(s->frames, sizeof s->frames),
        .run = span_of(s->run, sizeof s->run),
    };
    memcpy(s->entry.vm, specimen_vm, VM_ID_BYTES);
    specimen_noise(s->entry.previous.bytes, SHA256_BYTES, 13);
    specimen_noise(s->entry.cut_id, sizeof s->entry.cut_id, 14);
}

static void encode(const struct epoch_entry *e, struct buf *out)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x20);
    check_ok(epoch_encode(e, keys, &salt, out, &err), err);
}

static void assert_same(const struct epoch_entry *a, const struct epoch_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_memory_equal(a->vm, b->vm, VM_ID_BYTES);
    assert_int_equal(a->generation.number, b->generation.number);
    assert_int_equal(a->generation.id, b->generation.id);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->attempt, b->attempt);
    assert_memory_equal(&a->previous, &b->previous, SHA256_BYTES);
    assert_int_equal(a->point_ms, b->point_ms);
    assert_int_equal(a->clock_ms, b->clock_ms);
    assert_int_equal(a->point_kind, b->point_kind);
    assert_string_equal(a->label, b->label);
    assert_memory_equal(a->cut_id, b->cut_id, sizeof a->cut_id);
    assert_int_equal(a->disk_count, b->disk_count);
    for (size_t i = 0; i < a->disk_count; i++) {
        assert_string_equal(a->disks[i].name, b->disks[i].name);
        assert_int_equal(a->disks[i].disk, b->disks[i].disk);
        assert_int_equal(a->disks[i].store, b->disks[i].store);
        assert_int_equal(a->disks[i].size_bytes, b->disks[i].size_bytes);
    }
    assert_int_equal(a->part_count, b->part_count);
    for (size_t i = 0; i < a->part_count; i++) {
        assert_int_equal(a->parts[i].bytes, b->parts[i].bytes);
        assert_int_equal(a->parts[i].store, b->parts[i].store);
        assert_memory_equal(&a->parts[i].digest, &b->parts[i].digest, SHA256_BYTES);
    }
    assert_int_equal(a->has_inline, b->has_inline);
    assert_true(span_equal(a->inline_part, b->inline_part));
    assert_true(span_equal(a->run, b->run));
}

static void check_comes_back(const struct epoch_entry *e)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    encode(e, &stored);
    struct sha256 digest = sha256_of(buf_span(&stored));
    check_ok(epoch_decode(buf_span(&stored), keys, specimen_vm, e->generation, e->epoch, &d, &err),
             err);
    memset(stored.data, 0xdd, stored.length); /* it may go away */
    assert_same(&d.entry, e);
    assert_memory_equal(&d.digest, &digest, SHA256_BYTES);
}

static void entries_come_back_with_an_inline_part_with_parts_and_without_data(void **state)
{
    (void)state;
    struct specimen s;
    specimen_fill(&s);
    check_comes_back(&s.entry);

    s.entry.has_inline = false;
    s.entry.inline_part = span_of(NULL, 0);
    s.parts[1] = (struct epoch_part){.bytes = STORE_OBJECT_MAX, .store = 3};
    s.entry.part_count = 2;
    check_comes_back(&s.entry);
    s.entry.kind = EPOCH_PASS;
    s.entry.point_kind = 0;
    check_comes_back(&s.entry);

    s.entry.kind = EPOCH_HEARTBEAT;
    s.entry.part_count = 0;
    s.entry.run = span_of(NULL, 0);
    check_comes_back(&s.entry);
    s.entry.kind = EPOCH_FENCE;
    check_comes_back(&s.entry);
    s.entry.kind = EPOCH_OPEN;
    s.entry.epoch = 0;
    memset(&s.entry.previous, 0, sizeof s.entry.previous);
    check_comes_back(&s.entry);
}

static void a_cut_of_holes_alone_or_of_nothing_has_no_parts(void **state)
{
    (void)state;
    struct specimen s;
    specimen_fill(&s);
    s.entry.has_inline = false;
    s.entry.inline_part = span_of(NULL, 0);
    s.entry.part_count = 0;
    check_comes_back(&s.entry);
    s.entry.run = span_of(NULL, 0);
    check_comes_back(&s.entry);
}

static void as_many_parts_and_disks_as_may_be_come_back(void **state)
{
    (void)state;
    struct specimen s;
    specimen_fill(&s);
    struct epoch_part *parts AUTO_FREE = calloc(EPOCH_PARTS_MAX, sizeof *parts);
    for (uint32_t i = 0; i < EPOCH_PARTS_MAX; i++)
        parts[i] = (struct epoch_part){.bytes = i + 1, .digest = {{(uint8_t)i}}};
    for (uint16_t i = 0; i < VM_DISKS_MAX; i++) {
        snprintf(s.entry.disks[i].name, sizeof s.entry.disks[i].name, "disk%u", i);
        s.entry.disks[i].disk = i;
    }
    s.entry.disk_count = VM_DISKS_MAX;
    s.entry.has_inline = false;
    s.entry.inline_part = span_of(NULL, 0);
    s.entry.parts = parts;
    s.entry.part_count = EPOCH_PARTS_MAX;
    check_comes_back(&s.entry);
}

static bool encodes(const struct specimen *s)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x20);
    struct buf out AUTO_BUF = BUF_NONE;
    bool ok = epoch_encode(&s->entry, keys, &salt, &out, &err);
    assert_true(ok || err.kind == ERR_INVALID);
    return ok;
}

typedef void change_fn(struct specimen *s);

static void no_kind(struct specimen *s)
{
    s->entry.kind = 6;
}
static void cut_without_point_kind(struct specimen *s)
{
    s->entry.point_kind = 0;
}
static void open_with_a_number(struct specimen *s)
{
    s->entry.kind = EPOCH_OPEN;
}
static void number_0_that_does_not_open(struct specimen *s)
{
    s->entry.epoch = 0;
}
static void no_generation(struct specimen *s)
{
    s->entry.generation.id = 0;
}
static void control_character_in_label(struct specimen *s)
{
    s->entry.label[3] = '\n';
}
static void disk_twice(struct specimen *s)
{
    s->entry.disks[1].disk = 0;
}
static void disk_name_twice(struct specimen *s)
{
    strcpy(s->entry.disks[1].name, "root");
}
static void disk_name_with_a_slash(struct specimen *s)
{
    strcpy(s->entry.disks[1].name, "../x");
}
static void disk_too_large(struct specimen *s)
{
    s->entry.disks[1].size_bytes = DISK_BYTES_MAX + 1;
}
static void empty_part(struct specimen *s)
{
    s->parts[0].bytes = 0;
}
static void part_too_large(struct specimen *s)
{
    s->entry.has_inline = false;
    s->entry.inline_part = span_of(NULL, 0);
    s->parts[0].bytes = STORE_OBJECT_MAX + 1;
}
static void parts_without_run(struct specimen *s)
{
    s->entry.run = span_of(NULL, 0);
}
static void heartbeat_with_run(struct specimen *s)
{
    s->entry.kind = EPOCH_HEARTBEAT;
    s->entry.has_inline = false;
    s->entry.inline_part = span_of(NULL, 0);
    s->entry.part_count = 0;
}
static void inline_of_another_length(struct specimen *s)
{
    s->parts[0].bytes--;
}
static void inline_of_another_digest(struct specimen *s)
{
    s->parts[0].digest.bytes[31] ^= 1;
}
static void inline_beside_a_part(struct specimen *s)
{
    s->parts[1] = s->parts[0];
    s->entry.part_count = 2;
}

static void entries_that_contradict_themselves_cannot_be_written(void **state)
{
    (void)state;
    static change_fn *const changes[] = {
        no_kind,
        cut_without_point_kind,
        open_with_a_number,
        number_0_that_does_not_open,
        no_generation,
        control_character_in_label,
        disk_twice,
        disk_name_twice,
        disk_name_with_a_slash,
        disk_too_large,
        empty_part,
        part_too_large,
        parts_without_run,
        heartbeat_with_run,
        inline_of_another_length,
        inline_of_another_digest,
        inline_beside_a_part,
    };
    struct specimen s;
    specimen_fill(&s);
    assert_true(encodes(&s));
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        specimen_fill(&s);
        changes[i](&s);
        if (encodes(&s))
            fail_msg("change %zu was written", i);
    }
}

static void an_entry_of_another_vm_generation_or_number_is_refused(void **state)
{
    (void)state;
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct specimen s;
    uint8_t vm[VM_ID_BYTES] = {0};
    struct generation number = {.number = 3, .id = generation.id};
    struct generation id = {.number = 2, .id = generation.id + 1};
    specimen_fill(&s);
    encode(&s.entry, &stored);
    struct span bytes = buf_span(&stored);
    check_fails(epoch_decode(bytes, keys, vm, generation, 12, &d, &err), err, ERR_CORRUPT);
    check_fails(epoch_decode(bytes, keys, specimen_vm, number, 12, &d, &err), err, ERR_CORRUPT);
    check_fails(epoch_decode(bytes, keys, specimen_vm, id, 12, &d, &err), err, ERR_CORRUPT);
    check_fails(epoch_decode(bytes, keys, specimen_vm, generation, 13, &d, &err), err, ERR_CORRUPT);
    assert_null(d.memory.data);
}

static void another_key_and_a_newer_version_are_told_from_damage(void **state)
{
    (void)state;
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct specimen s;
    specimen_fill(&s);
    encode(&s.entry, &stored);
    check_fails(epoch_decode(buf_span(&stored), other, specimen_vm, generation, 12, &d, &err), err,
                ERR_WRONG_KEY);
    stored.data[MAGIC_BYTES]++;
    check_fails(epoch_decode(buf_span(&stored), keys, specimen_vm, generation, 12, &d, &err), err,
                ERR_CORRUPT);
    check_says(err, "update");
}

static bool refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    return !epoch_decode(damaged, context, specimen_vm, generation, 12, &d, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_entry_is_refused_at_every_position(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct specimen s;
    specimen_fill(&s);
    encode(&s.entry, &stored);
    specimen_damage(buf_span(&stored), refused, keys);
}

static void huge_lengths_allocate_nothing(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct specimen s;
    specimen_fill(&s);
    for (size_t at = ENVELOPE_HEAD_BYTES - 8; at < ENVELOPE_HEAD_BYTES; at += 4) {
        struct buf stored AUTO_BUF = BUF_NONE;
        encode(&s.entry, &stored);
        buf_set_u32(&stored, at, 0xffffffffu);
        assert_true(refused(keys, buf_span(&stored)));
    }
    /* The same behind the seal: a part count that the body cannot hold. */
    struct err err = ERR_NONE;
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    uint8_t body[400];
    memset(body, 0xff, sizeof body);
    buf_put(&d.memory, body, sizeof body);
    check_fails(epoch_body_parse(&d, span_of(NULL, 0), &err), err, ERR_CORRUPT);
}

static void the_golden_entry_is_as_it_was(void **state)
{
    (void)state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct specimen s;
    specimen_fill(&s);
    encode(&s.entry, &stored);
    specimen_golden(TEST_SOURCE_DIR, "epoch", buf_span(&stored),
                    "d792175459f836253805473d3297766aa851c7255afd7e1f589e69b4d3556f1b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_with_an_inline_part_with_parts_and_without_data),
        cmocka_unit_test(a_cut_of_holes_alone_or_of_nothing_has_no_parts),
        cmocka_unit_test(as_many_parts_and_disks_as_may_be_come_back),
        cmocka_unit_test(entries_that_contradict_themselves_cannot_be_written),
        cmocka_unit_test(an_entry_of_another_vm_generation_or_number_is_refused),
        cmocka_unit_test(another_key_and_a_newer_version_are_told_from_damage),
        cmocka_unit_test(a_cut_or_flipped_entry_is_refused_at_every_position),
        cmocka_unit_test(huge_lengths_allocate_nothing),
        cmocka_unit_test(the_golden_entry_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
