/* SPDX-License-Identifier: MIT
 * Compaction: what is needed leaves objects that are mostly dead, and reads as before. */
#include "backend/history/thinner.h"

#include "backend/history/stored_run.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_thinner.h"
#include "tests/support/specimen.h"

#include <stdio.h>

#define GRACE_MS 5000u
#define BLOCKS   64u
#define AGAIN    52u /* in the middle of the last frame */

struct fixture {
    struct made_vm vm;
    struct retention policy;
    struct memory_death death;
};

/* Bytes that nothing makes shorter, by `seed` and block. */
static void write_every(struct fixture *f, uint32_t first, uint32_t end, uint32_t step,
                        uint64_t seed)
{
    uint8_t data[BLOCK_BYTES];
    for (uint32_t b = first; b < end; b += step) {
        specimen_noise(data, sizeof data, seed + b);
        epoch_maker_write(&f->vm.maker, 0, b, 1, data);
    }
}

static void write_blocks(struct fixture *f, uint32_t count, uint64_t seed)
{
    write_every(f, 0, count, 1, seed);
}

static void cut(struct fixture *f)
{
    epoch_maker_cut(&f->vm.maker);
    made_vm_apply(&f->vm);
}

static void begin_empty(struct fixture *f, uint32_t blocks, bool encrypt)
{
    *f = (struct fixture){.policy = made_policy("1s:all", 0, GRACE_MS)};
    made_vm_init(&f->vm, 1, blocks);
    f->vm.maker.encrypt = encrypt;
}

/* Epoch 1 has all blocks, epoch 2 those up to `again`; when epoch 1 has gone its object holds what
 * the merged run still refers to. */
static void begin_as(struct fixture *f, uint32_t again, bool encrypt)
{
    begin_empty(f, BLOCKS, encrypt);
    write_blocks(f, BLOCKS, 1);
    cut(f);
    f->vm.maker.clock_ms += 3600000;
    write_blocks(f, again, 1001);
    cut(f);
}

static void begin(struct fixture *f, uint32_t again)
{
    begin_as(f, again, true);
}

static void end(struct fixture *f)
{
    made_vm_release(&f->vm);
}

/* --- what a point shows --- */

static void check_entry(struct fixture *f, const struct stored_run *stored,
                        const struct run_entry *e, uint64_t block, uint32_t value)
{
    struct frame_codec *codec AUTO_FRAME_CODEC = NULL;
    uint8_t sealed[FRAME_SEALED_MAX], plain[FRAME_PLAIN_MAX], wanted[BLOCK_BYTES];
    char segment[RUN_SEGMENT_NAME_MAX], key[KEY_MAX];
    struct err err = ERR_NONE;
    uint16_t store;
    const char *name = run_segment_name(stored->run, e->segment);
    snprintf(key, sizeof key, "%s", stored->key);
    if (strcmp(name, RUN_SEGMENT_SELF) != 0) {
        assert_true(segment_name_parse(name, &store, segment));
        snprintf(key, sizeof key, "%s/%s", MADE_VM, segment);
    }
    check_ok(store_get(f->vm.target, key, e->offset, mspan_of(sealed, e->stored_bytes), &err), err);
    check_ok(frame_codec_make(f->vm.maker.keys, &codec, &err), err);
    check_ok(frame_decode(codec, &e->frame, span_of(sealed, e->stored_bytes),
                          mspan_of(plain, e->frame.blocks * BLOCK_BYTES), &err),
             err);
    specimen_noise(wanted, sizeof wanted, value);
    assert_memory_equal(plain + (block - e->frame.first) * BLOCK_BYTES, wanted, BLOCK_BYTES);
}

static void check_block(struct fixture *f, struct stored_run *runs, size_t count, uint64_t block,
                        uint32_t value)
{
    for (size_t i = 0; i < count; i++) {
        struct err err = ERR_NONE;
        struct run_entry e;
        bool found = false;
        check_ok(run_find(runs[i].run, 0, block, &e, &found, &err), err);
        if (!found || !run_entry_clip(&e, block, 1))
            continue;
        assert_int_equal(e.kind, RUN_DATA);
        check_entry(f, &runs[i], &e, block, value);
        return;
    }
    fail_msg("no run has block %llu", (unsigned long long)block);
}

/* The newest point is as it was shipped. */
static void check_content(struct fixture *f, uint32_t again)
{
    struct history *h = made_vm_history(&f->vm);
    struct run_place *places AUTO_FREE = NULL;
    struct stored_run runs[2];
    struct err err = ERR_NONE;
    size_t count;
    check_ok(history_runs(h, history_tip(h), &places, &count, &err), err);
    assert_true(count <= 2);
    for (size_t i = 0; i < count; i++)
        check_ok(stored_run_open(h, &places[i], f->vm.target, f->vm.maker.keys, &runs[i], &err),
                 err);
    for (uint32_t b = 0; b < BLOCKS; b++)
        check_block(f, runs, count, b, b < again ? 1001 + b : 1 + b);
    for (size_t i = 0; i < count; i++)
        stored_run_close(&runs[i]);
    history_close(&h);
}

static struct thinner_report settle(struct fixture *f)
{
    struct made_thinner t;
    made_thinner_open(&f->vm, &f->policy, &t);
    thinner_hurry(t.thinner);
    made_thinner_settle(&t);
    struct thinner_report report = thinner_report(t.thinner);
    made_thinner_close(&t);
    return report;
}

/* --- the tests --- */

static void what_is_needed_of_a_dead_object_moves_and_reads_as_before(void **state)
{
    (void)state;
    for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
        struct fixture f;
        begin_as(&f, AGAIN, encrypted);
        uint64_t before = memory_bucket_bytes(f.vm.target_bucket);
        struct thinner_report report = settle(&f);
        assert_int_equal(report.points, 1);
        assert_int_equal(report.compacted, 1);
        assert_true(report.moved_bytes > 15 * BLOCK_BYTES && report.moved_bytes < 20 * BLOCK_BYTES);
        assert_true(memory_bucket_bytes(f.vm.target_bucket) < before - 40 * BLOCK_BYTES);
        check_content(&f, AGAIN);
        report = settle(&f); /* and that was that */
        assert_int_equal(report.compacted, 0);
        assert_int_equal(report.dropped, 0);
        end(&f);
    }
}

static void an_object_that_is_half_alive_stays(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 24);
    assert_int_equal(settle(&f).compacted, 0);
    check_content(&f, 24);
    end(&f);
}

static void run_until_dead(struct fixture *f)
{
    struct made_thinner t;
    struct err err = ERR_NONE;
    made_thinner_open(&f->vm, &f->policy, &t);
    memory_store_hook(t.targets[0], memory_store_die, NULL, &f->death);
    thinner_hurry(t.thinner);
    for (unsigned i = 0; !f->death.dead && i < 200; i++) {
        enum thinner_result result = thinner_step(t.thinner, &err);
        if (result == THINNER_WAITS)
            fake_world_advance(f->vm.world, GRACE_MS * 1000000ull);
        if (result == THINNER_IDLE || result == THINNER_WAITS)
            thinner_hurry(t.thinner);
    }
    memory_store_hook(t.targets[0], NULL, NULL, NULL);
    made_thinner_close(&t);
}

static void killed_at_any_store_call_it_ends_in_the_same_state(void **state)
{
    (void)state;
    struct fixture undisturbed;
    begin(&undisturbed, AGAIN);
    settle(&undisturbed);
    size_t objects = memory_bucket_objects(undisturbed.vm.target_bucket);
    uint64_t bytes = memory_bucket_bytes(undisturbed.vm.target_bucket);
    end(&undisturbed);

    bool reached = true; /* that call */
    uint64_t at = 1;
    for (; reached; at++)
        for (unsigned lose = 0; lose < 2; lose++) {
            struct fixture f;
            begin(&f, AGAIN);
            f.death = (struct memory_death){.at = at, .lose = lose};
            run_until_dead(&f);
            reached = f.death.dead;
            settle(&f);
            check_content(&f, AGAIN);
            /* But for records of what a killed one had left behind. */
            size_t extra = memory_bucket_objects(f.vm.target_bucket) - objects;
            if (extra > 4 || memory_bucket_bytes(f.vm.target_bucket) > bytes + 4096)
                fail_msg("killed at call %llu: %zu objects more", (unsigned long long)at, extra);
            end(&f);
        }
    assert_true(at > 60);
}

struct largest {
    char key[KEY_MAX];
    uint64_t bytes;
};

static bool largest_see(void *context, const char *key, uint64_t bytes)
{
    struct largest *l = context;
    if (bytes > l->bytes) {
        l->bytes = bytes;
        snprintf(l->key, sizeof l->key, "%s", key);
    }
    return true;
}

/* A damaged frame is copied nowhere: its point stays as it is, and all that is not damaged reads.
 */
static void what_is_damaged_does_not_move(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = ERR_NONE;
    struct largest l = {.bytes = 0}; /* that of epoch 1 */
    begin(&f, AGAIN);
    check_ok(store_list(f.vm.target, MADE_VM "/segments/", NULL, largest_see, &l, &err), err);
    assert_true(memory_bucket_damage(f.vm.target_bucket, l.key, 60 * BLOCK_BYTES, 1));
    struct thinner_report report = settle(&f);
    assert_int_equal(report.points, 1); /* merged: no frame was looked at for that */
    assert_int_equal(report.compacted, 0);
    assert_true(memory_bucket_has(f.vm.target_bucket, l.key));
    end(&f);
}

/* The damaged one does not keep others from moving, and nothing is copied again and again. */
static void what_is_damaged_keeps_nothing_else(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = ERR_NONE;
    struct largest l = {.bytes = 0};
    begin_empty(&f, 2 * BLOCKS, true);
    write_every(&f, 0, BLOCKS, 1, 1);
    epoch_maker_hole(&f.vm.maker, 0, 2 * BLOCKS - 1, 1); /* the largest */
    cut(&f);
    check_ok(store_list(f.vm.target, MADE_VM "/segments/", NULL, largest_see, &l, &err), err);
    assert_true(memory_bucket_damage(f.vm.target_bucket, l.key, 60 * BLOCK_BYTES, 1));
    write_every(&f, BLOCKS, 2 * BLOCKS - 1, 1, 1);
    cut(&f);
    f.vm.maker.clock_ms += 3600000;
    write_every(&f, 0, AGAIN, 1, 1001);
    write_every(&f, BLOCKS, BLOCKS + AGAIN, 1, 1001);
    cut(&f);
    struct thinner_report report = settle(&f);
    assert_int_equal(report.compacted, 1);
    assert_true(memory_bucket_has(f.vm.target_bucket, l.key));
    report = settle(&f);
    assert_int_equal(report.compacted, 0);
    assert_int_equal(report.dropped, 0);
    end(&f);
}

/* What is left of one frame in many pieces is weighed once. */
static void a_frame_in_pieces_weighs_what_it_is(void **state)
{
    (void)state;
    struct fixture f;
    begin_empty(&f, BLOCKS, true);
    write_blocks(&f, BLOCKS, 1);
    cut(&f);
    f.vm.maker.clock_ms += 3600000;
    write_blocks(&f, BLOCKS - FRAME_BLOCKS_MAX, 1001);
    write_every(&f, BLOCKS - FRAME_BLOCKS_MAX, BLOCKS, 2, 1001);
    cut(&f);
    assert_int_equal(settle(&f).compacted, 1);
    end(&f);
}

/* A page of a run: what the run names stays, and all else goes on. */
static void a_damaged_run_stops_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = ERR_NONE;
    struct run_place *runs AUTO_FREE = NULL;
    size_t count;
    char hex[2 * SHA256_BYTES + 1], key[KEY_MAX];
    begin_empty(&f, 4096, true);
    for (uint32_t b = 0; b < 4096; b++)
        epoch_maker_fill(&f.vm.maker, 0, b, 1 + b);
    cut(&f);
    struct history *h = made_vm_history(&f.vm);
    check_ok(history_runs(h, history_tip(h), &runs, &count, &err), err);
    assert_int_equal(count, 1);
    hex_of(runs[0].run.object.bytes, SHA256_BYTES, hex);
    key_segment(key, MADE_VM, hex);
    assert_true(runs[0].run.bytes > 40000);
    assert_true(memory_bucket_damage(f.vm.target_bucket, key,
                                     runs[0].run.offset + runs[0].run.bytes - 100, 1));
    history_close(&h);
    f.vm.maker.clock_ms += 3600000;
    for (uint32_t b = 0; b < 4000; b++)
        epoch_maker_fill(&f.vm.maker, 0, b, 10001 + b);
    cut(&f);
    struct thinner_report report = settle(&f);
    assert_int_equal(report.points, 1);
    assert_int_equal(report.compacted, 0);
    assert_true(memory_bucket_has(f.vm.target_bucket, key));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_needed_of_a_dead_object_moves_and_reads_as_before),
        cmocka_unit_test(an_object_that_is_half_alive_stays),
        cmocka_unit_test(killed_at_any_store_call_it_ends_in_the_same_state),
        cmocka_unit_test(what_is_damaged_does_not_move),
        cmocka_unit_test(what_is_damaged_keeps_nothing_else),
        cmocka_unit_test(a_frame_in_pieces_weighs_what_it_is),
        cmocka_unit_test(a_damaged_run_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
