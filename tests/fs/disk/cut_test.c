/* SPDX-License-Identifier: MIT */
#include "fs/disk/cut.h"

#include "common/cleanup.h"
#include "fs/disk/source_private.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"

#include <errno.h>

/* What a cut shows, disk by disk; blocks that it does not hold keep the byte 0xee. */
struct shown {
    uint8_t bytes[RIG_DISKS][RIG_DISK_BYTES_MAX + BLOCK_BYTES];
    bool taken[RIG_DISKS][RIG_DISK_BYTES_MAX / BLOCK_BYTES];
    bool unreadable[RIG_DISKS][RIG_DISK_BYTES_MAX / BLOCK_BYTES];
};

static int set_up(void **state)
{
    struct rig *r = rig_make();
    rig_open_source(r);
    rig_forget_dirty(r); /* a new disk is all marked */
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    rig_release((struct rig **)state);
    return 0;
}

static void take(struct rig *r, size_t disk, uint64_t first, uint64_t count, struct shown *shown)
{
    struct err err = ERR_NONE;
    uint64_t mask;
    struct extent e = {.first = first, .count = count};
    struct mspan out = mspan_of(shown->bytes[disk] + first * BLOCK_BYTES, count * BLOCK_BYTES);
    check_ok(source_cut_take(r->source, disk, e, out, &mask, &err), err);
    for (uint64_t i = 0; i < count; i++) {
        assert_false(shown->taken[disk][first + i]);
        shown->taken[disk][first + i] = true;
        shown->unreadable[disk][first + i] = (mask >> i & 1) != 0;
    }
}

/* Takes the next frozen blocks; false when the disk has no more. */
static bool take_next(struct rig *r, size_t disk, uint64_t *at, struct shown *shown)
{
    struct err err = ERR_NONE;
    struct extent e;
    bool found;
    check_ok(source_cut_next(r->source, disk, *at, &e, &found, &err), err);
    if (!found)
        return false;
    assert_true(e.count > 0 && e.count <= CUT_TAKE_BLOCKS_MAX && e.first >= *at);
    take(r, disk, e.first, e.count, shown);
    *at = extent_end(e);
    return true;
}

static struct shown *take_all(struct rig *r)
{
    struct shown *shown = calloc(1, sizeof *shown);
    memset(shown->bytes, 0xee, sizeof shown->bytes);
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        for (uint64_t at = 0; take_next(r, disk, &at, shown);)
            continue;
    return shown;
}

static void shows(const struct shown *shown, size_t disk, uint64_t block, uint8_t fill)
{
    const uint8_t *b = shown->bytes[disk] + block * BLOCK_BYTES;
    assert_true(shown->taken[disk][block]);
    assert_int_equal(b[0], fill);
    assert_memory_equal(b, b + 1, BLOCK_BYTES - 1);
}

static void a_write_after_the_cut_and_before_the_take_is_not_shown(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 3, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 11, 1, 2);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 1);
    shows(shown, 0, 11, 1);
    shows(shown, 0, 12, 1);
    assert_false(source_cut_lost(r->source));
}

static void of_two_writes_after_the_cut_the_block_before_the_first_is_shown(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 10, 1, 2);
    rig_write(r, 0, 10, 1, 3);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 1);
}

static void a_write_after_the_take_saves_nothing(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, true);
    struct shown *shown AUTO_FREE = take_all(r);
    rig_write(r, 0, 10, 1, 2);
    shows(shown, 0, 10, 1);
    assert_int_equal(source_undo_bytes(r->source), 0);
}

static void a_write_to_a_block_that_is_not_of_the_cut_saves_nothing(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 11, 1, 2);
    assert_int_equal(source_undo_bytes(r->source), 0);
}

static void a_part_of_a_block_written_after_the_cut_is_not_shown(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r, 0, 10, 2, 1);
    source_cut(r->source, true);
    check_ok(source_write(r->source, 0, 11 * BLOCK_BYTES - 3, span_of("abcdef", 6), &err), err);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 1);
    shows(shown, 0, 11, 1);
}

static void a_block_discarded_after_the_cut_is_shown_as_it_was(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, true);
    rig_zero(r, 0, 10, 1);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 1);
}

/* The local file has a hole there by then, and the replica never had anything. */
static void many_blocks_discarded_after_the_cut_are_shown_as_they_were(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 0, 100, 1);
    rig_write(r, 0, 100, 3 * REGION_BLOCKS - 100, 2);
    source_cut(r->source, true);
    rig_zero(r, 0, 0, 100);
    struct shown *shown AUTO_FREE = take_all(r);
    for (uint64_t b = 0; b < 100; b++)
        shows(shown, 0, b, 1);
    shows(shown, 0, 100, 2);
}

static void a_pass_takes_blocks_as_they_are(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, false);
    rig_write(r, 0, 10, 1, 2);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 2);
    assert_int_equal(source_undo_bytes(r->source), 0);
    source_cut_commit(r->source);
    assert_int_equal(source_dirty_blocks(r->source), 1); /* it ships again */
}

static void a_pass_skips_what_is_a_hole_here_and_in_the_replica(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(source_mark_all(r->source, &err), err);
    rig_write(r, 0, 700, 1, 1);
    source_cut(r->source, false);
    struct shown *shown AUTO_FREE = take_all(r);
    assert_false(shown->taken[0][0]);
    assert_false(shown->taken[1][0]);
    shows(shown, 0, 700, 1);
}

static void a_pass_takes_a_local_hole_that_the_replica_has_data_for(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct block_digest something = {{1}};
    check_ok(digest_file_write(source_digests(r->source, 0), 600, 1, &something, &err), err);
    check_ok(source_mark_all(r->source, &err), err);
    source_cut(r->source, false);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 600, 0);
}

static void committed_blocks_are_clean_and_later_ones_stay_dirty(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 2, 1);
    source_cut(r->source, true);
    rig_write(r, 1, 4, 1, 2);
    free(take_all(r));
    source_cut_commit(r->source);
    assert_int_equal(source_dirty_blocks(r->source), 1);
    source_cut(r->source, true);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 1, 4, 2);
    assert_false(shown->taken[0][10]);
}

static void an_abandoned_cut_leaves_its_blocks_and_the_later_ones_dirty(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 2, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 10, 1, 2);
    rig_write(r, 1, 4, 1, 3);
    source_cut_abandon(r->source);
    assert_int_equal(source_dirty_blocks(r->source), 3);
    assert_int_equal(source_undo_bytes(r->source), 0);
    source_cut(r->source, true);
    struct shown *shown AUTO_FREE = take_all(r);
    shows(shown, 0, 10, 2);
    shows(shown, 0, 11, 1);
    shows(shown, 1, 4, 3);
}

static void a_cut_that_ran_out_of_undo_space_is_lost_and_the_write_succeeds(void **state)
{
    struct rig *r = *state;
    uint64_t blocks = RIG_UNDO_BYTES / BLOCK_BYTES;
    rig_write(r, 0, 0, blocks + 1, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 0, blocks, 2);
    assert_false(source_cut_lost(r->source));
    rig_write(r, 0, blocks, 1, 2);
    assert_true(source_cut_lost(r->source));
    source_cut_abandon(r->source);
    assert_int_equal(source_dirty_blocks(r->source), blocks + 1);
    source_cut(r->source, true);
    assert_false(source_cut_lost(r->source));
}

static void a_write_without_room_takes_that_of_the_cut(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    uint64_t blocks = RIG_UNDO_BYTES / BLOCK_BYTES;
    uint8_t data[BLOCK_BYTES] = {9};
    rig_write(r, 0, 0, blocks, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 0, blocks / 2, 2); /* saved in memory, where nobody else wants the room */
    fake_world_fail(r->world, FAKE_PWRITE, 1, ENOSPC, false);
    check_fails(source_write(r->source, 0, 0, span_of(data, sizeof data), &err), err, ERR_FULL);
    assert_false(source_cut_lost(r->source));
    rig_write(r, 0, blocks / 2, blocks / 2, 2);
    fake_world_fail(r->world, FAKE_PWRITE, 1, ENOSPC, false);
    check_ok(source_write(r->source, 0, 0, span_of(data, sizeof data), &err), err);
    assert_true(source_cut_lost(r->source));
    source_cut_abandon(r->source);
    assert_int_equal(source_dirty_blocks(r->source), blocks);
}

static void an_adopter_finds_the_blocks_of_both_epochs_dirty(void **state)
{
    struct rig *r = *state;
    struct shown *shown AUTO_FREE = calloc(1, sizeof *shown);
    uint64_t at = 0;
    rig_write(r, 0, 10, 2, 1);
    rig_write(r, 0, 500, 1, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 11, 1, 2);
    rig_write(r, 1, 4, 1, 3);
    assert_true(take_next(r, 0, &at, shown));
    rig_kill(r);
    rig_open_source(r);
    assert_int_equal(source_dirty_blocks(r->source), 4);
    source_cut(r->source, true);
    struct shown *again AUTO_FREE = take_all(r);
    shows(again, 0, 10, 1);
    shows(again, 0, 11, 2);
    shows(again, 0, 500, 1);
    shows(again, 1, 4, 3);
}

static void a_block_that_cannot_be_read_is_reported_alone(void **state)
{
    struct rig *r = *state;
    struct shown *shown AUTO_FREE = calloc(1, sizeof *shown);
    rig_write(r, 0, 10, 3, 1);
    source_cut(r->source, true);
    /* The read of all three fails, then that of the second one. */
    uint64_t mask;
    struct err err = ERR_NONE;
    fake_world_fail(r->world, FAKE_PREAD, 1, EIO, false);
    check_ok(source_cut_take(r->source, 0, (struct extent){10, 3},
                             mspan_of(shown->bytes[0], 3 * BLOCK_BYTES), &mask, &err),
             err);
    assert_int_equal(mask, 0);
    assert_int_equal(shown->bytes[0][BLOCK_BYTES], 1);
    source_cut_abandon(r->source);
    source_cut(r->source, true);
    fake_world_fail(r->world, FAKE_PREAD, 1, EIO, true);
    check_ok(source_cut_take(r->source, 0, (struct extent){10, 3},
                             mspan_of(shown->bytes[0], 3 * BLOCK_BYTES), &mask, &err),
             err);
    fake_world_fail(r->world, FAKE_PREAD, 0, 0, false);
    assert_int_equal(mask, 7);
}

static void a_saved_block_is_shown_though_the_device_cannot_read_it_any_more(void **state)
{
    struct rig *r = *state;
    struct shown *shown AUTO_FREE = calloc(1, sizeof *shown);
    struct err err = ERR_NONE;
    uint64_t mask;
    rig_write(r, 0, 10, 2, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 11, 1, 2);
    fake_world_fail(r->world, FAKE_PREAD, 1, EIO, true);
    check_ok(source_cut_take(r->source, 0, (struct extent){10, 2},
                             mspan_of(shown->bytes[0], 2 * BLOCK_BYTES), &mask, &err),
             err);
    fake_world_fail(r->world, FAKE_PREAD, 0, 0, false);
    assert_int_equal(mask, 1);
    assert_int_equal(shown->bytes[0][BLOCK_BYTES], 1);
}

static void an_old_block_that_cannot_be_saved_loses_the_cut_and_not_the_write(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 10, 1, 1);
    source_cut(r->source, true);
    fake_world_fail(r->world, FAKE_PREAD, 1, EIO, false);
    rig_write(r, 0, 10, 1, 2);
    assert_true(source_cut_lost(r->source));
    source_cut_abandon(r->source);
    assert_int_equal(rig_read_raw(r, 0, 10), 2);
}

static void the_last_partial_block_is_padded_with_zeros(void **state)
{
    struct rig *r = *state;
    uint64_t last = blocks_of_bytes(rig_disk_bytes[1]) - 1;
    rig_write(r, 1, last, 1, 5);
    source_cut(r->source, true);
    struct shown *shown AUTO_FREE = take_all(r);
    assert_int_equal(shown->bytes[1][last * BLOCK_BYTES + 3071], 5);
    for (size_t i = 3072; i < BLOCK_BYTES; i++)
        assert_int_equal(shown->bytes[1][last * BLOCK_BYTES + i], 0);
}

static void what_lies_behind_the_disks_end_in_its_file_is_not_shown(void **state)
{
    struct rig *r = *state;
    uint64_t last = blocks_of_bytes(rig_disk_bytes[1]) - 1;
    rig_write_raw(r, 1, last, 7); /* the whole block: the file is larger than the disk now */
    rig_write(r, 1, last - 1, 1, 5);
    source_mark_dirty(r->source, 1, (struct extent){last, 1});
    source_cut(r->source, true);
    struct shown *shown AUTO_FREE = take_all(r);
    assert_int_equal(shown->bytes[1][last * BLOCK_BYTES + 3071], 7);
    assert_int_equal(shown->bytes[1][last * BLOCK_BYTES + 3072], 0);
}

/* --- with threads: each block is stamped with a rising number by its only writer --- */

#define WRITERS       3u
#define WRITER_BLOCKS 16u
#define CUTS          40u

struct writer {
    struct rig *rig;
    uint64_t first;
    _Atomic bool *stop;
    _Atomic uint64_t issued, acknowledged; /* stamps go round the writer's blocks in order */
};

static void *write_on(void *context)
{
    struct writer *w = context;
    uint8_t data[BLOCK_BYTES] = {0};
    for (uint64_t stamp = 1; !atomic_load(w->stop); stamp++) {
        struct err err = ERR_NONE;
        uint64_t block = w->first + stamp % WRITER_BLOCKS;
        store_u64(data, stamp);
        store_u64(data + BLOCK_BYTES - 8, stamp);
        atomic_store(&w->issued, stamp);
        if (!source_write(w->rig->source, 0, block * BLOCK_BYTES, span_of(data, sizeof data), &err))
            abort();
        atomic_store(&w->acknowledged, stamp);
    }
    return NULL;
}

/* A writer's blocks show the stamps n - 15 to n of one n that was acknowledged before the cut or
 * issued before it ended. `image` is what the replica would hold. */
static void check_writer(const uint8_t *image, const struct writer *w, uint64_t least,
                         uint64_t most)
{
    uint64_t newest = 0;
    for (uint64_t b = 0; b < WRITER_BLOCKS; b++) {
        const uint8_t *block = image + (w->first + b) * BLOCK_BYTES;
        uint64_t stamp = load_u64(block);
        assert_true(stamp == load_u64(block + BLOCK_BYTES - 8));
        newest = stamp > newest ? stamp : newest;
    }
    assert_in_range(newest, least, most);
    for (uint64_t b = 0; b < WRITER_BLOCKS; b++) {
        uint64_t back = (newest % WRITER_BLOCKS + WRITER_BLOCKS - b) % WRITER_BLOCKS;
        uint64_t wanted = newest >= back ? newest - back : 0;
        if (wanted == 0)
            continue;
        assert_true(load_u64(image + (w->first + b) * BLOCK_BYTES) == wanted);
    }
}

static void merge(uint8_t *image, const struct shown *shown)
{
    for (uint64_t b = 0; b < rig_disk_bytes[0] / BLOCK_BYTES; b++)
        if (shown->taken[0][b])
            memcpy(image + b * BLOCK_BYTES, shown->bytes[0] + b * BLOCK_BYTES, BLOCK_BYTES);
}

static void cut_once(struct rig *r, struct writer *writers, uint8_t *image)
{
    uint64_t least[WRITERS], most[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++)
        least[i] = atomic_load(&writers[i].acknowledged);
    source_cut(r->source, true);
    for (unsigned i = 0; i < WRITERS; i++)
        most[i] = atomic_load(&writers[i].issued);
    while (!source_cut_drained(r->source))
        sched_yield();
    struct shown *shown AUTO_FREE = take_all(r);
    assert_false(source_cut_lost(r->source));
    source_cut_commit(r->source);
    merge(image, shown);
    for (unsigned i = 0; i < WRITERS; i++)
        check_writer(image, &writers[i], least[i], most[i]);
}

static void cuts_under_writers_show_a_prefix_of_what_each_wrote(void **state)
{
    struct rig *r = *state;
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    _Atomic bool stop = false;
    uint8_t *image AUTO_FREE = calloc(1, rig_disk_bytes[0]);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.rig = r, .first = 100 + i * WRITER_BLOCKS, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &writers[i]), 0);
    }
    for (unsigned i = 0; i < CUTS; i++)
        cut_once(r, writers, image);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_write_after_the_cut_and_before_the_take_is_not_shown),
        T(of_two_writes_after_the_cut_the_block_before_the_first_is_shown),
        T(a_write_after_the_take_saves_nothing),
        T(a_write_to_a_block_that_is_not_of_the_cut_saves_nothing),
        T(a_part_of_a_block_written_after_the_cut_is_not_shown),
        T(a_block_discarded_after_the_cut_is_shown_as_it_was),
        T(many_blocks_discarded_after_the_cut_are_shown_as_they_were),
        T(a_pass_takes_blocks_as_they_are),
        T(a_pass_skips_what_is_a_hole_here_and_in_the_replica),
        T(a_pass_takes_a_local_hole_that_the_replica_has_data_for),
        T(committed_blocks_are_clean_and_later_ones_stay_dirty),
        T(an_abandoned_cut_leaves_its_blocks_and_the_later_ones_dirty),
        T(a_cut_that_ran_out_of_undo_space_is_lost_and_the_write_succeeds),
        T(a_write_without_room_takes_that_of_the_cut),
        T(an_adopter_finds_the_blocks_of_both_epochs_dirty),
        T(a_block_that_cannot_be_read_is_reported_alone),
        T(a_saved_block_is_shown_though_the_device_cannot_read_it_any_more),
        T(an_old_block_that_cannot_be_saved_loses_the_cut_and_not_the_write),
        T(the_last_partial_block_is_padded_with_zeros),
        T(what_lies_behind_the_disks_end_in_its_file_is_not_shown),
        T(cuts_under_writers_show_a_prefix_of_what_each_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
