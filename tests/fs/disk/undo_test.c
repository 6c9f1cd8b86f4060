/* SPDX-License-Identifier: MIT */
#include "fs/disk/undo.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#define MEMORY_BLOCKS 8u
#define FILE_BLOCKS   24u
#define ALL_BLOCKS    (MEMORY_BLOCKS + FILE_BLOCKS)

struct fixture {
    struct world *w;
    struct undo *u;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;

    f->w = fake_world_make(1);
    check_ok(
        undo_make(f->w, "/", MEMORY_BLOCKS * BLOCK_BYTES, FILE_BLOCKS * BLOCK_BYTES, &f->u, &err),
        err);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    undo_release(&f->u);
    fake_world_release(&f->w);
    free(f);
    return 0;
}

static void fill(uint8_t data[BLOCK_BYTES], uint64_t tag)
{
    for (size_t i = 0; i < BLOCK_BYTES; i += sizeof tag)
        memcpy(data + i, &tag, sizeof tag);
}

static bool save(struct undo *u, size_t disk, uint64_t block, uint64_t tag)
{
    uint8_t data[BLOCK_BYTES];

    fill(data, tag);
    return undo_save(u, undo_era(u), disk, block, data);
}

static void assert_saved(struct undo *u, size_t disk, uint64_t block, uint64_t tag)
{
    uint8_t data[BLOCK_BYTES], wanted[BLOCK_BYTES];
    struct err err = ERR_NONE;
    bool found = false;

    fill(wanted, tag);
    check_ok(undo_load(u, disk, block, data, &found, &err), err);
    assert_true(found);
    assert_memory_equal(data, wanted, BLOCK_BYTES);
    assert_true(undo_has(u, disk, block));
}

static void assert_absent(struct undo *u, size_t disk, uint64_t block)
{
    uint8_t data[BLOCK_BYTES];
    struct err err = ERR_NONE;
    bool found = true;

    check_ok(undo_load(u, disk, block, data, &found, &err), err);
    assert_false(found);
    assert_false(undo_has(u, disk, block));
}

static void every_saved_block_comes_back_from_memory_and_file(void **state)
{
    struct undo *u = ((struct fixture *)*state)->u;

    for (uint64_t i = 0; i < ALL_BLOCKS; i++) {
        assert_absent(u, i % 3, i * 1000003);
        assert_true(save(u, i % 3, i * 1000003, i + 1));
    }
    assert_int_equal(undo_blocks(u), ALL_BLOCKS);
    for (uint64_t i = 0; i < ALL_BLOCKS; i++) {
        assert_saved(u, i % 3, i * 1000003, i + 1);
        assert_absent(u, i % 3 + 1, i * 1000003); /* the same block of another disk */
    }
}

static void memory_is_filled_before_the_file_is_touched(void **state)
{
    struct fixture *f = *state;
    uint64_t before = fake_world_calls(f->w, FAKE_PWRITE);

    for (uint64_t i = 0; i < MEMORY_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    assert_int_equal(fake_world_calls(f->w, FAKE_PWRITE), before);
    assert_true(save(f->u, 0, 99, 99));
    assert_int_equal(fake_world_calls(f->w, FAKE_PWRITE), before + 1);
}

static void a_saved_block_stays_as_it_is(void **state)
{
    struct undo *u = ((struct fixture *)*state)->u;

    assert_true(save(u, 0, 5, 1));
    assert_true(save(u, 0, 5, 2));
    assert_int_equal(undo_blocks(u), 1);
    assert_saved(u, 0, 5, 1);
}

static void a_full_undo_refuses_new_blocks_and_keeps_the_old(void **state)
{
    struct undo *u = ((struct fixture *)*state)->u;

    for (uint64_t i = 0; i < ALL_BLOCKS; i++)
        assert_true(save(u, 0, i, i));
    assert_false(save(u, 0, ALL_BLOCKS, 1));
    assert_absent(u, 0, ALL_BLOCKS);
    assert_true(save(u, 0, 3, 77)); /* has a place already */
    assert_saved(u, 0, 3, 3);
}

static void clear_keeps_nothing_and_makes_room_again(void **state)
{
    struct fixture *f = *state;

    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < ALL_BLOCKS; i++)
            assert_true(save(f->u, 0, i * 7 + (uint64_t)round, i + 100));
        undo_clear(f->u);
        assert_int_equal(undo_blocks(f->u), 0);
        for (uint64_t i = 0; i < ALL_BLOCKS; i++)
            assert_absent(f->u, 0, i * 7 + (uint64_t)round);
    }
}

static void a_save_for_a_cut_that_is_over_is_dropped(void **state)
{
    struct undo *u = ((struct fixture *)*state)->u;
    uint32_t old_era = undo_era(u);
    uint8_t data[BLOCK_BYTES];

    fill(data, 1);
    undo_clear(u);
    assert_true(undo_save(u, old_era, 0, 5, data));
    assert_absent(u, 0, 5);
    assert_true(save(u, 0, 5, 2));
    assert_saved(u, 0, 5, 2);
}

static void a_failing_file_refuses_until_the_next_cut(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 0; i < MEMORY_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    fake_world_fail(f->w, FAKE_PWRITE, 1, ENOSPC, false);
    assert_false(save(f->u, 0, 50, 1));
    assert_false(save(f->u, 0, 51, 1));
    assert_absent(f->u, 0, 50);
    assert_saved(f->u, 0, 3, 3);
    undo_clear(f->u);
    for (uint64_t i = 0; i < ALL_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    assert_saved(f->u, 0, ALL_BLOCKS - 1, ALL_BLOCKS - 1);
}

static void room_that_is_given_away_comes_back_with_the_next_cut(void **state)
{
    struct fixture *f = *state;
    _Atomic bool lost = false;
    for (uint64_t i = 0; i < MEMORY_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    assert_false(undo_give_room(f->u, &lost)); /* the file has none */
    assert_false(lost);
    assert_true(save(f->u, 0, 50, 50));
    assert_true(undo_give_room(f->u, &lost));
    assert_true(lost);
    assert_int_equal(fake_world_calls(f->w, FAKE_TRUNCATE), 1);
    assert_false(save(f->u, 0, 51, 51));
    undo_clear(f->u);
    for (uint64_t i = 0; i < ALL_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    assert_saved(f->u, 0, ALL_BLOCKS - 1, ALL_BLOCKS - 1);
}

static void a_read_error_is_an_error_and_not_a_missing_block(void **state)
{
    struct fixture *f = *state;
    uint8_t data[BLOCK_BYTES];
    struct err err = ERR_NONE;
    bool found;

    for (uint64_t i = 0; i <= MEMORY_BLOCKS; i++)
        assert_true(save(f->u, 0, i, i));
    fake_world_fail(f->w, FAKE_PREAD, 1, EIO, false);
    check_fails(undo_load(f->u, 0, MEMORY_BLOCKS, data, &found, &err), err, ERR_IO);
}

static void the_file_has_no_name(void **state)
{
    struct fixture *f = *state;
    struct world_file *file;

    assert_int_equal(f->w->ops->open(f->w, "/undo", 0, 0, &file), -ENOENT);
}

static void memory_alone_needs_no_file(void **state)
{
    struct world *w = fake_world_make(1);
    struct err err = ERR_NONE;
    struct undo *u;

    (void)state;
    check_ok(undo_make(w, "/no/such/folder", 2 * BLOCK_BYTES, 0, &u, &err), err);
    assert_true(save(u, 0, 1, 1));
    assert_true(save(u, 0, 2, 2));
    assert_false(save(u, 0, 3, 3));
    undo_release(&u);
    check_ok(undo_make(w, "/", 0, 2 * BLOCK_BYTES, &u, &err), err);
    assert_true(save(u, 0, 1, 1));
    assert_saved(u, 0, 1, 1);
    undo_release(&u);
    check_fails(undo_make(w, "/no/such/folder", 0, BLOCK_BYTES, &u, &err), err, ERR_NOT_FOUND);
    fake_world_release(&w);
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS  300

struct storm {
    struct undo *u;
    _Atomic int left;
};

struct saver {
    pthread_t thread;
    struct storm *storm;
    uint64_t lane;
};

static void *save_lane(void *argument)
{
    struct saver *s = argument;
    struct undo *u = s->storm->u;

    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t b = 0; b < ALL_BLOCKS / THREADS; b++) {
            uint8_t data[BLOCK_BYTES];
            uint64_t block = b * THREADS + s->lane;
            uint32_t era = undo_era(u);

            fill(data, (uint64_t)era << 32 | block);
            (void)undo_save(u, era, 0, block, data); /* no room, or a late one: both are fine */
            (void)undo_has(u, 0, block);
        }
    }
    atomic_fetch_sub(&s->storm->left, 1);
    return NULL;
}

/* The ship machine's view: while an era lasts, every block found is of that era and that block. */
static void eras_never_mix(void **state)
{
    struct fixture *f = *state;
    struct storm storm = {.u = f->u, .left = THREADS};
    struct saver savers[THREADS];
    uint8_t data[BLOCK_BYTES], wanted[BLOCK_BYTES];
    uint64_t seen = 0;

    for (uint64_t i = 0; i < THREADS; i++) {
        savers[i] = (struct saver){.storm = &storm, .lane = i};
        assert_int_equal(pthread_create(&savers[i].thread, NULL, save_lane, &savers[i]), 0);
    }
    while (atomic_load(&storm.left) > 0) {
        uint32_t era = undo_era(f->u);
        for (uint64_t block = 0; block < ALL_BLOCKS; block++) {
            struct err err = ERR_NONE;
            bool found = false;
            check_ok(undo_load(f->u, 0, block, data, &found, &err), err);
            if (!found)
                continue;
            seen++;
            fill(wanted, (uint64_t)era << 32 | block);
            assert_memory_equal(data, wanted, BLOCK_BYTES);
        }
        undo_clear(f->u);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(savers[i].thread, NULL);
    assert_true(seen > 0);
}

int main(void)
{
#define with_undo(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        with_undo(every_saved_block_comes_back_from_memory_and_file),
        with_undo(memory_is_filled_before_the_file_is_touched),
        with_undo(a_saved_block_stays_as_it_is),
        with_undo(a_full_undo_refuses_new_blocks_and_keeps_the_old),
        with_undo(clear_keeps_nothing_and_makes_room_again),
        with_undo(a_save_for_a_cut_that_is_over_is_dropped),
        with_undo(a_failing_file_refuses_until_the_next_cut),
        with_undo(room_that_is_given_away_comes_back_with_the_next_cut),
        with_undo(a_read_error_is_an_error_and_not_a_missing_block),
        with_undo(the_file_has_no_name),
        cmocka_unit_test(memory_alone_needs_no_file),
        with_undo(eras_never_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
