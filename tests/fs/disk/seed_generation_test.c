/* SPDX-License-Identifier: MIT
 * Seeds of later generations: what differs from the parent's view, and nothing else. */
#include "backend/history/claim.h"
#include "common/file.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/marks.h"
#include "fs/disk/seed.h"
#include "fs/disk/ship_state.h"
#include "fs/view/view.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include <fcntl.h>

#include <stdio.h>

#define BLOCKS      2048u
#define COPY_BLOCKS 1500u /* the copy is shorter than the disk */
#define STATE       "/state"
#define SCRATCH     "/scratch"
#define COPY        "/copy.raw"

static const struct generation first = {.number = 1, .id = 0x0123456789abcdefull};
static const struct generation second = {.number = 2, .id = 0x22};
static const struct generation third = {.number = 3, .id = 0x33};

/* What the parent's point shows: in it an unreadable block, and one that only a branch wrote. */
#define UNREADABLE 600u
#define BRANCH     700u
static uint32_t parent_value(uint64_t block)
{
    if (block < 64)
        return (uint32_t)block + 1;
    return block == UNREADABLE || block == 900 || block == 1800 ? (uint32_t)block : 0;
}

/* The copy: equal, other, new, gone (a hole, zeros, and beyond its end). */
static uint32_t copy_value(uint64_t block)
{
    if (block >= COPY_BLOCKS || block == 900 || (block >= 20 && block < 30))
        return 0;
    if (block == 5 || block == 1200)
        return (uint32_t)block + 5000;
    return parent_value(block);
}

struct fixture {
    struct made_vm vm;
    struct memory_bucket *staging_bucket;
    struct store *cache, *target, *staging; /* with hooks */
    uint64_t fail_at, calls;
    uint64_t claim_at; /* `third` is claimed before that call */
};

static void claim_third(struct fixture *f);

static enum memory_fault fail_once(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    (void)call;
    if (f->calls + 1 == f->claim_at)
        claim_third(f);
    return ++f->calls == f->fail_at ? MEMORY_LOSE_REPLY : MEMORY_PASS;
}

static void make_copy(struct world *w, uint32_t (*value)(uint64_t), uint64_t blocks)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    uint8_t data[BLOCK_BYTES];
    check_ok(file_open(w, COPY, O_RDWR | O_CREAT, 0600, &f, &err), err);
    assert_int_equal(w->ops->truncate(f, blocks * BLOCK_BYTES), 0);
    for (uint64_t b = 0; b < blocks; b++)
        if (value(b) != 0 || b == 25) {
            made_block_bytes(value(b), data);
            check_ok(file_write(f, span_of(data, sizeof data), b * BLOCK_BYTES, &err), err);
        }
}

static void begin_history(struct fixture *f)
{
    struct epoch_maker *m = &f->vm.maker;
    for (uint32_t b = 0; b < BLOCKS; b++)
        if (parent_value(b) != 0)
            epoch_maker_fill(m, 0, b, b == 7 ? 4321 : parent_value(b));
    epoch_maker_cut(m);
    epoch_maker_fill(m, 0, 7, parent_value(7));
    epoch_maker_unreadable(m, 0, UNREADABLE);
    epoch_maker_cut(m);
    epoch_maker_fill(m, 0, BRANCH, 1);
    epoch_maker_hole(m, 0, 0, 64);
    epoch_maker_cut(m);
    made_vm_apply(&f->vm);
}

static void begin_at(struct fixture *f, uint64_t parent_epoch, uint32_t (*value)(uint64_t),
                     uint64_t blocks)
{
    struct err err = ERR_NONE;
    struct claim_result result;
    *f = (struct fixture){.fail_at = 0};
    made_vm_init(&f->vm, 1, BLOCKS);
    begin_history(f);
    struct claim_config config = {.world = f->vm.world,
                                  .target = f->vm.target,
                                  .cache = f->vm.cache,
                                  .vm = MADE_VM,
                                  .keys = f->vm.maker.keys};
    struct claim claim = {
        .generation = second, .ends = first, .parent = first, .parent_epoch = parent_epoch};
    check_ok(history_begin_generation(&config, &claim, &result, &err), err);
    f->staging_bucket = memory_bucket_make();
    f->cache = memory_store_open(f->vm.cache_bucket);
    f->target = memory_store_open(f->vm.target_bucket);
    f->staging = memory_store_open(f->staging_bucket);
    memory_store_hook(f->cache, fail_once, NULL, f);
    memory_store_hook(f->target, fail_once, NULL, f);
    memory_store_hook(f->staging, fail_once, NULL, f);
    make_copy(f->vm.world, value, blocks);
    check_ok(dir_make(f->vm.world, STATE, 0700, &err), err);
    check_ok(dir_make(f->vm.world, SCRATCH, 0700, &err), err);
}

static void begin(struct fixture *f)
{
    begin_at(f, 2, copy_value, COPY_BLOCKS);
}

static void end(struct fixture *f)
{
    store_close(&f->cache);
    store_close(&f->target);
    store_close(&f->staging);
    memory_bucket_release(&f->staging_bucket);
    made_vm_release(&f->vm);
}

static struct seed_config config_of(struct fixture *f)
{
    return (struct seed_config){.world = f->vm.world,
                                .vm = MADE_VM,
                                .keys = f->vm.maker.keys,
                                .encrypt = true,
                                .targets = &f->target,
                                .store_count = 1,
                                .cache = f->cache,
                                .generation = "g0002-0000000000000022"};
}

static bool write_seed(struct fixture *f, struct err *err)
{
    struct seed_config config = config_of(f);
    struct seed_copy copy = {.disk = 0};
    *err = ERR_NONE;
    check_ok(file_open(f->vm.world, COPY, O_RDONLY, 0, &copy.file, err), *err);
    bool good = seed_write(&config, &copy, 1, f->staging, SCRATCH, NULL, NULL, err);
    file_close(&copy.file);
    return good;
}

/* Who waited for the seed in vain does this, past all hooks. */
static void claim_third(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct claim_result result;
    struct history *h = NULL;
    struct claim_config config = {.world = f->vm.world,
                                  .target = f->vm.target,
                                  .cache = f->vm.cache,
                                  .vm = MADE_VM,
                                  .keys = f->vm.maker.keys};
    check_ok(history_open(f->vm.world, f->vm.target, MADE_VM, f->vm.maker.keys, &h, &err), err);
    struct history_head head = history_head(h);
    struct claim claim = {
        .generation = third, .ends = second, .parent = second, .parent_epoch = head.epoch};
    check_ok(history_begin_generation(&config, &claim, &result, &err), err);
    history_close(&h);
}

static void adopt(struct fixture *f, struct ship_state *state)
{
    struct err err = ERR_NONE;
    struct seed_config config = config_of(f);
    check_ok(seed_adopt(&config, STATE, &err), err);
    check_ok(ship_state_load(f->vm.world, STATE, second, state, &err), err);
}

static void check_digests(struct fixture *f, uint32_t (*value)(uint64_t), bool unreadable)
{
    static struct block_digest is[BLOCKS];
    struct err err = ERR_NONE;
    struct digest_file *file = NULL;
    struct block_digest zero = {{0}};
    uint8_t data[BLOCK_BYTES];
    check_ok(digest_file_open(f->vm.world, STATE "/disk0.digests", keys_id(f->vm.maker.keys), 0,
                              &file, &err),
             err);
    check_ok(digest_file_read(file, 0, BLOCKS, is, &err), err);
    digest_file_close(&file);
    for (uint64_t b = 0; b < BLOCKS; b++) {
        made_block_bytes(value(b), data);
        struct block_digest wanted =
            value(b) == 0 ? zero : keys_block_digest(f->vm.maker.keys, data);
        if (unreadable && b == UNREADABLE)
            wanted = digest_unknown;
        assert_memory_equal(&is[b], &wanted, sizeof wanted);
    }
}

/* A source goes on behind the seed; its point shows the copy, with what it wrote. */
static void check_view(struct fixture *f, const struct ship_state *state)
{
    struct err err = ERR_NONE;
    struct epoch_maker m = f->vm.maker;
    struct view_cache *cache = NULL;
    struct view *view = NULL;
    struct history_point p;
    static uint8_t got[BLOCK_BYTES], wanted[BLOCK_BYTES];
    m.generation = second;
    m.epoch = state->epoch;
    m.previous = state->digest;
    m.blocks = NULL;
    m.block_count = m.block_room = 0;
    epoch_maker_fill(&m, 0, 1999, 77);
    epoch_maker_cut(&m);
    free(m.blocks);
    made_vm_apply(&f->vm);
    struct history *h = made_vm_history(&f->vm);
    check_ok(history_resolve(h, "latest", &p, &err), err);
    assert_int_equal(p.generation.number, 2);
    check_ok(view_cache_make(1u << 20, &cache, &err), err);
    struct view_config config = {.history = h,
                                 .keys = f->vm.maker.keys,
                                 .targets = &f->vm.target,
                                 .target_count = 1,
                                 .cache = cache};
    check_ok(view_open(&config, &p, &view, &err), err);
    for (uint64_t b = 0; b < BLOCKS; b++) {
        check_ok(view_read(view, 0, b * BLOCK_BYTES, mspan_of(got, sizeof got), &err), err);
        made_block_bytes(b == 1999 ? 77 : copy_value(b), wanted);
        assert_memory_equal(got, wanted, sizeof got);
    }
    view_close(&view);
    view_cache_release(&cache);
    history_close(&h);
}

/* --- tests --- */

static void only_what_differs_from_the_parent_is_sealed(void **state)
{
    struct fixture f;
    struct err err;
    struct ship_state ship;
    (void)state;
    begin(&f);
    check_ok(write_seed(&f, &err), err);
    struct history *h = made_vm_history(&f.vm);
    struct history_head head = history_head(h);
    assert_int_equal(head.epoch, 1);
    struct record_epoch e = history_epoch(h, history_tip(h), NULL);
    assert_int_equal(e.kind, EPOCH_PASS);
    /* blocks 5, 600 (unknown) and 1200; all else is equal or a hole */
    assert_true(e.data_bytes < 4 * BLOCK_BYTES);
    history_close(&h);
    adopt(&f, &ship);
    check_digests(&f, copy_value, false);
    check_view(&f, &ship);
    end(&f);
}

/* As of epoch 1. */
static uint32_t first_value(uint64_t block)
{
    return block == 7 ? 4321 : parent_value(block);
}

static void a_copy_that_is_the_parent_s_view_needs_no_epoch(void **state)
{
    struct fixture f;
    struct err err;
    struct ship_state ship;
    struct sha256 entry0;
    (void)state;
    begin_at(&f, 1, first_value, BLOCKS);
    check_ok(write_seed(&f, &err), err);
    adopt(&f, &ship);
    assert_int_equal(ship.epoch, 0);
    check_ok(history_entry0(f.vm.cache, MADE_VM, f.vm.maker.vault.vm, second, f.vm.maker.keys,
                            &entry0, &err),
             err);
    assert_memory_equal(&entry0, &ship.digest, sizeof entry0);
    check_digests(&f, first_value, false);
    end(&f);
}

static void digests_are_those_of_the_head_s_line(void **state)
{
    struct fixture f;
    struct ship_state ship;
    (void)state;
    begin(&f);
    adopt(&f, &ship);
    check_digests(&f, parent_value, true);
    end(&f);
}

/* Of what was not synced the oldest change alone is lost: what those after it rest on. */
static unsigned lose_oldest(void *context, size_t unit)
{
    (void)context;
    return unit == 0 ? 0 : FAKE_WHOLE;
}

/* Also of one that is repeated: the state of the first is believed all the time. */
static void adopted_digests_are_whole_wherever_the_power_goes(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f);
    struct seed_config config = config_of(&f);
    for (unsigned time = 1; time <= 2; time++) {
        bool died = true;
        for (uint64_t call = 1; died; call++) {
            struct err err = ERR_NONE;
            struct ship_state ship;
            fake_world_stop(f.vm.world, call);
            bool done = seed_adopt(&config, STATE, &err);
            died = fake_world_stopped(f.vm.world);
            assert_true(done || died);
            fake_world_power_cut_by(f.vm.world, lose_oldest, NULL);
            check_ok(ship_state_load(f.vm.world, STATE, second, &ship, &err), err);
            if (done || time == 2)
                assert_true(ship.begun);
            if (ship.begun)
                check_digests(&f, parent_value, true);
        }
    }
    end(&f);
}

static void a_seed_made_twice_seals_nothing_twice(void **state)
{
    struct fixture f;
    struct err err;
    (void)state;
    begin(&f);
    check_ok(write_seed(&f, &err), err);
    size_t objects = memory_bucket_objects(f.vm.target_bucket);
    check_ok(write_seed(&f, &err), err);
    assert_int_equal(memory_bucket_objects(f.vm.target_bucket), objects);
    end(&f);
}

static void a_reply_lost_at_any_call_is_made_good_by_the_next_try(void **state)
{
    (void)state;
    bool failed = true;
    uint64_t tried = 0;
    for (; failed; tried++) {
        struct fixture f;
        struct err err;
        struct ship_state ship;
        begin(&f);
        f.calls = 0;
        f.fail_at = tried + 1;
        failed = !write_seed(&f, &err) || f.calls >= f.fail_at;
        f.fail_at = 0;
        check_ok(write_seed(&f, &err), err);
        adopt(&f, &ship);
        check_digests(&f, copy_value, false);
        check_view(&f, &ship);
        end(&f);
    }
    assert_true(tried > 20);
}

/* Whenever that is, it stays out of the new generation, and so does the seed that is tried again.
 */
static void a_seed_that_nobody_waits_for_any_more_leaves_the_next_generation_alone(void **state)
{
    bool claimed = true;
    uint64_t call = 1, refused = 0;
    (void)state;
    for (; claimed; call++) {
        struct fixture f;
        struct err err = ERR_NONE;
        struct history *h = NULL;
        begin(&f);
        f.calls = 0;
        f.claim_at = call;
        bool good = write_seed(&f, &err);
        claimed = f.calls >= call;
        if (claimed) {
            refused += !good;
            assert_true(good || err.kind == ERR_EXISTS);
            assert_false(write_seed(&f, &err));
            assert_int_equal(err.kind, ERR_EXISTS);
            check_ok(history_open(f.vm.world, f.vm.target, MADE_VM, f.vm.maker.keys, &h, &err),
                     err);
            assert_int_equal(history_head(h).generation.id, third.id);
            assert_int_equal(history_head(h).epoch, 0);
            history_close(&h);
        }
        end(&f);
    }
    assert_true(call > 20 && refused > 5);
}

static void a_source_marks_all_and_begins_behind_the_parent_s_newest_point(void **state)
{
    struct fixture f;
    struct ship_state ship;
    (void)state;
    begin(&f);
    adopt(&f, &ship);
    assert_true(ship.compare_all && ship.pass_open && !ship.initial_done);
    assert_true(ship.point_ms == MADE_CLOCK_MS + 1000); /* epoch 2's, not the branch's */
    end(&f);
}

/* Marks of a disk that lies over the head's view, whatever the folder held. */
static void disks_that_show_the_view_already_are_not_marked(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    struct ship_state ship;
    struct marks *marks = NULL;
    (void)state;
    begin(&f);
    check_ok(marks_open(f.vm.world, STATE "/disk0.marks", BLOCKS * BLOCK_BYTES, &marks, &err), err);
    assert_true(marks_count(marks) > 0);
    marks_close(&marks);
    struct seed_config config = config_of(&f);
    config.equal = true;
    check_ok(seed_adopt(&config, STATE, &err), err);
    check_ok(ship_state_load(f.vm.world, STATE, second, &ship, &err), err);
    assert_false(ship.compare_all);
    check_ok(marks_open(f.vm.world, STATE "/disk0.marks", BLOCKS * BLOCK_BYTES, &marks, &err), err);
    assert_int_equal(marks_count(marks), 0);
    marks_close(&marks);
    check_digests(&f, parent_value, true);
    end(&f);
}

static void what_another_log_left_in_the_folder_is_gone(void **state)
{
    static const char *const names[] = {"/journal", "/clean.json", "/held.json"};
    struct fixture f;
    struct err err = ERR_NONE;
    struct ship_state ship;
    char path[64];
    (void)state;
    begin(&f);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", STATE, names[i]);
        check_ok(file_replace(f.vm.world, path, 0600, span_of_text("x"), &err), err);
    }
    adopt(&f, &ship);
    for (size_t i = 0; i < 3; i++) {
        struct buf text AUTO_BUF = BUF_NONE;
        snprintf(path, sizeof path, "%s%s", STATE, names[i]);
        check_fails(file_load(f.vm.world, path, 64, &text, &err), err, ERR_NOT_FOUND);
    }
    end(&f);
}

static void without_entry_0_nothing_is_adopted_yet(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    char key[KEY_MAX];
    (void)state;
    begin(&f);
    key_epoch(key, MADE_VM, second, 0);
    memory_bucket_drop(f.vm.cache_bucket, key);
    struct seed_config config = config_of(&f);
    check_fails(seed_adopt(&config, STATE, &err), err, ERR_TRANSIENT);
    assert_false(write_seed(&f, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    end(&f);
}

static void a_processor_beside_a_seed_is_idle(void **state)
{
    struct fixture f;
    struct err err;
    char key[KEY_MAX];
    struct made_processor p;
    (void)state;
    begin(&f);
    made_processor_open(&f.vm, &p);
    check_ok(write_seed(&f, &err), err);
    key_epoch(key, MADE_VM, second, 1);
    memory_bucket_drop(f.vm.cache_bucket, key); /* as before the end of the seed */
    for (unsigned i = 0; i < 2 * PROCESSOR_LOOK_BACK_POLLS; i++)
        assert_int_equal(processor_step(p.processor, &err), PROCESSOR_IDLE);
    made_processor_close(&p);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_differs_from_the_parent_is_sealed),
        cmocka_unit_test(a_copy_that_is_the_parent_s_view_needs_no_epoch),
        cmocka_unit_test(digests_are_those_of_the_head_s_line),
        cmocka_unit_test(adopted_digests_are_whole_wherever_the_power_goes),
        cmocka_unit_test(a_seed_made_twice_seals_nothing_twice),
        cmocka_unit_test(a_reply_lost_at_any_call_is_made_good_by_the_next_try),
        cmocka_unit_test(a_seed_that_nobody_waits_for_any_more_leaves_the_next_generation_alone),
        cmocka_unit_test(a_source_marks_all_and_begins_behind_the_parent_s_newest_point),
        cmocka_unit_test(disks_that_show_the_view_already_are_not_marked),
        cmocka_unit_test(what_another_log_left_in_the_folder_is_gone),
        cmocka_unit_test(without_entry_0_nothing_is_adopted_yet),
        cmocka_unit_test(a_processor_beside_a_seed_is_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
