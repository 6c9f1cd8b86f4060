/* SPDX-License-Identifier: MIT */
#include "fs/disk/source.h"

#include "common/cleanup.h"
#include "common/file.h"
#include "fs/disk/cut.h"
#include "fs/disk/source_private.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"
#include "tests/support/moment.h"
#include "tests/support/specimen.h"

#include <errno.h>
#include <fcntl.h>

static int set_up(void **state)
{
    struct rig *r = rig_make();
    rig_open_source(r);
    rig_forget_dirty(r);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    rig_release((struct rig **)state);
    return 0;
}

/* --- a model of two disks --- */

struct model {
    struct rig *rig;
    uint64_t random;
    uint8_t *bytes[RIG_DISKS];
    bool dirty[RIG_DISKS][RIG_DISK_BYTES_MAX / BLOCK_BYTES];
};

static void pick(struct model *m, size_t *disk, uint64_t *offset, uint64_t *length)
{
    *disk = specimen_below(&m->random, RIG_DISKS);
    *offset = specimen_below(&m->random, rig_disk_bytes[*disk] + 1);
    *length = specimen_below(&m->random, specimen_below(&m->random, 8) ? 10000 : 700000);
    if (*length > rig_disk_bytes[*disk] - *offset)
        *length = rig_disk_bytes[*disk] - *offset;
}

static void change(struct model *m)
{
    struct err err = ERR_NONE;
    size_t disk;
    uint64_t offset, length;
    pick(m, &disk, &offset, &length);
    uint8_t *to = m->bytes[disk] + offset;
    struct extent e = extent_of_bytes(offset, length);
    for (uint64_t b = e.first; b < extent_end(e); b++)
        m->dirty[disk][b] = true;
    if (specimen_below(&m->random, 3) == 0) {
        memset(to, 0, length);
        check_ok(source_zero(m->rig->source, disk, offset, length, &err), err);
        return;
    }
    specimen_noise(to, length, specimen_random(&m->random));
    check_ok(source_write(m->rig->source, disk, offset, span_of(to, length), &err), err);
}

static void compare(struct model *m)
{
    struct err err = ERR_NONE;
    size_t disk;
    uint64_t offset, length;
    pick(m, &disk, &offset, &length);
    uint8_t *got AUTO_FREE = malloc(length + 1);
    check_ok(source_read(m->rig->source, disk, offset, mspan_of(got, length), &err), err);
    if (length > 0)
        assert_memory_equal(got, m->bytes[disk] + offset, length);
}

static struct model model_make(struct rig *r, uint64_t seed)
{
    struct model m = {.rig = r, .random = seed};
    for (size_t i = 0; i < RIG_DISKS; i++)
        m.bytes[i] = calloc(1, rig_disk_bytes[i]);
    return m;
}

static void model_release(struct model *m)
{
    for (size_t i = 0; i < RIG_DISKS; i++)
        free(m->bytes[i]);
}

static void reads_show_what_was_written_and_zeroed(void **state)
{
    struct rig *r = *state;
    struct model m = model_make(r, 77);
    fake_world_short_transfers(r->world, true);
    for (unsigned i = 0; i < 60; i++) {
        change(&m);
        compare(&m);
    }
    model_release(&m);
}

static void exactly_the_touched_blocks_are_dirty(void **state)
{
    struct rig *r = *state;
    struct model m = model_make(r, 78);
    for (unsigned i = 0; i < 10; i++)
        change(&m);
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        for (uint64_t b = 0; b < blocks_of_bytes(rig_disk_bytes[disk]); b++)
            assert_int_equal(dirty_test(r->source->dirty, dirty_active(r->source->dirty), disk, b),
                             m.dirty[disk][b]);
    model_release(&m);
}

static void an_empty_write_changes_nothing(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(source_write(r->source, 0, 4096, span_of(NULL, 0), &err), err);
    check_ok(source_zero(r->source, 0, rig_disk_bytes[0], 0, &err), err);
    assert_int_equal(source_dirty_blocks(r->source), 0);
}

/* --- intent before data --- */

/* All marks are clear and the disks synced: as after a long quiet time. */
static void clear_marks(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(source_sync(r->source, &err), err);
    check_ok(source_sweep(r->source, true, &err), err);
    assert_int_equal(marks_count(r->source->disks[0].marks), 0);
}

static void check_marked(struct rig *r, const struct model *before, size_t disk)
{
    struct err err = ERR_NONE;
    uint8_t *now AUTO_FREE = malloc(rig_disk_bytes[disk]);
    check_ok(source_read(r->source, disk, 0, mspan_of(now, rig_disk_bytes[disk]), &err), err);
    for (uint64_t b = 0; b < blocks_of_bytes(rig_disk_bytes[disk]); b++) {
        uint64_t at = b * BLOCK_BYTES;
        uint64_t n =
            rig_disk_bytes[disk] - at < BLOCK_BYTES ? rig_disk_bytes[disk] - at : BLOCK_BYTES;
        if (memcmp(now + at, before->bytes[disk] + at, n) == 0)
            continue;
        assert_true(dirty_test(r->source->dirty, dirty_active(r->source->dirty), disk, b));
        assert_true(marks_test(r->source->disks[disk].marks, b / REGION_BLOCKS));
    }
}

static void after_a_power_cut_every_changed_block_is_dirty_again(void **state)
{
    struct rig *r = *state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct err err = ERR_NONE;
        struct model before = model_make(r, seed);
        rig_forget_dirty(r);
        clear_marks(r);
        for (size_t i = 0; i < RIG_DISKS; i++)
            check_ok(
                source_read(r->source, i, 0, mspan_of(before.bytes[i], rig_disk_bytes[i]), &err),
                err);
        struct model m = model_make(r, seed);
        for (unsigned i = 0; i < 3; i++)
            change(&m);
        rig_power_cut(r, seed);
        rig_open_source(r);
        for (size_t i = 0; i < RIG_DISKS; i++)
            check_marked(r, &before, i);
        model_release(&m);
        model_release(&before);
    }
}

static void a_write_whose_mark_cannot_be_made_durable_does_not_happen(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    clear_marks(r);
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_write(r->source, 0, 8192, span_of_text("lost"), &err), err, ERR_IO);
    assert_int_equal(rig_read_raw(r, 0, 2), 0);
    check_ok(source_write(r->source, 0, 8192, span_of_text("kept"), &err), err);
    assert_int_equal(rig_read_raw(r, 0, 2), 'k');
}

struct before_bytes {
    struct rig *rig;
    bool dirty, marked;
};

static void look_before_bytes(void *context)
{
    struct before_bytes *b = context;
    struct source *s = b->rig->source;
    b->dirty = dirty_test(s->dirty, dirty_active(s->dirty), 0, 300);
    b->marked = marks_test(s->disks[0].marks, 300 / REGION_BLOCKS);
}

static void a_block_is_marked_and_dirty_before_its_bytes_change(void **state)
{
    struct before_bytes b = {.rig = *state};
    struct err err = ERR_NONE;
    check_ok(source_sweep(b.rig->source, true, &err), err);
    moment_begin(b.rig->world, MOMENT_BEFORE_WRITE, rig_disk_path(0), look_before_bytes, &b);
    rig_write(b.rig, 0, 300, 1, 1);
    moment_end();
    assert_true(b.marked && b.dirty);
}

static void a_mark_stays_while_its_region_is_dirty(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    clear_marks(r);
    rig_write(r, 0, 300, 1, 1);
    check_ok(source_sync(r->source, &err), err);
    check_ok(source_sweep(r->source, true, &err), err);
    assert_true(marks_test(r->source->disks[0].marks, 1));
    source_cut(r->source, true); /* frozen is dirty as well */
    check_ok(source_sweep(r->source, true, &err), err);
    assert_true(marks_test(r->source->disks[0].marks, 1));
    source_cut_commit(r->source);
    check_ok(source_sweep(r->source, true, &err), err);
    assert_false(marks_test(r->source->disks[0].marks, 1));
}

/* --- syncs --- */

static void flushed_data_survives_a_power_cut(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    for (uint8_t seed = 1; seed <= 20; seed++) {
        rig_write(r, 0, seed, 2, seed);
        check_ok(source_flush(r->source, 0, &err), err);
        rig_power_cut(r, seed);
        rig_open_source(r);
        assert_int_equal(rig_read_raw(r, 0, seed), seed);
        assert_int_equal(rig_read_raw(r, 0, seed + 1u), seed);
    }
}

static void a_failed_sync_is_returned_and_sticky(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r, 0, 1, 1, 1);
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    check_fails(source_sync(r->source, &err), err, ERR_IO);
    check_ok(source_flush(r->source, 1, &err), err);
}

static void fail_another_sync(void *context)
{
    struct rig *r = context;
    struct err err = ERR_NONE;
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
}

/* The kernel tells one of them; what the other one wrote may be lost as well. */
static void of_two_syncs_at_once_none_succeeds_when_one_fails(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r, 0, 1, 1, 1);
    moment_begin(r->world, MOMENT_AFTER_SYNC, rig_disk_path(0), fail_another_sync, r);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    moment_end();
}

static void a_failed_sync_is_not_forgotten_when_the_worker_is_killed(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r, 0, 1, 1, 1);
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    rig_kill(r);
    rig_open_source(r);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    rig_reboot(r);
    rig_open_source(r);
    check_ok(source_flush(r->source, 0, &err), err);
}

static void after_a_failed_sync_marked_regions_are_dirty_and_unknown(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct block_digest d;
    clear_marks(r);
    rig_write(r, 0, 300, 1, 1);
    rig_forget_dirty(r); /* shipped, but not synced */
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_flush(r->source, 0, &err), err, ERR_IO);
    check_ok(source_distrust(r->source, &err), err);
    assert_int_equal(source_dirty_blocks(r->source), REGION_BLOCKS);
    check_ok(digest_file_read(source_digests(r->source, 0), 300, 1, &d, &err), err);
    assert_true(digest_is_unknown(&d));
    check_ok(digest_file_read(source_digests(r->source, 0), 0, 1, &d, &err), err);
    assert_true(digest_is_zero(&d));
}

/* --- opening --- */

static void a_shrunk_file_is_refused_by_name(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    rig_reboot(r);
    {
        struct world_file *f AUTO_FILE = NULL;
        check_ok(file_open(r->world, rig_disk_path(0), O_RDWR, 0, &f, &err), err);
        assert_int_equal(r->world->ops->truncate(f, rig_disk_bytes[0] - 512), 0);
    }
    struct source_disk_config disk = {
        .name = "a", .path = rig_disk_path(0), .size_bytes = rig_disk_bytes[0]};
    struct source_config config = {.world = r->world,
                                   .state_folder = RIG_FOLDER,
                                   .disks = &disk,
                                   .disk_count = 1,
                                   .memory = r->memory,
                                   .memory_bytes = r->memory_bytes,
                                   .memory_fresh = true};
    check_fails(source_open(&config, &r->source, &err), err, ERR_INVALID);
    check_says(err, "/disks/a.raw");
    assert_null(r->source);
}

static void a_killed_worker_leaves_its_dirty_blocks_to_the_next(void **state)
{
    struct rig *r = *state;
    rig_write(r, 0, 5, 2, 1);
    rig_write(r, 1, 9, 1, 1);
    rig_kill(r);
    rig_open_source(r);
    assert_true(source_adopted(r->source));
    assert_int_equal(source_dirty_blocks(r->source), 3);
}

#define GROWN_BYTES (8u << 20)

/* The next worker of the same memory, disk 0 enabled with `bytes`. */
static bool open_with(struct rig *r, uint64_t bytes, struct err *err)
{
    const struct source_disk_config disks[] = {
        {.name = "a", .path = rig_disk_path(0), .number = rig_disk_number(0), .size_bytes = bytes},
        {.name = "b",
         .path = rig_disk_path(1),
         .number = rig_disk_number(1),
         .size_bytes = rig_disk_bytes[1]}};
    const struct source_config config = {.world = r->world,
                                         .state_folder = RIG_FOLDER,
                                         .disks = disks,
                                         .disk_count = 2,
                                         .undo_memory_bytes = RIG_UNDO_BYTES,
                                         .key_id = keys_id(r->keys),
                                         .memory = r->memory,
                                         .memory_bytes = r->memory_bytes};
    rig_kill(r);
    return source_open(&config, &r->source, err);
}

static void a_disk_that_grew_in_use_is_dirty_where_it_was_and_where_it_is_new(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    clear_marks(r);
    rig_write(r, 0, 5, 2, 1);
    rig_write(r, 1, 9, 1, 1);
    source_cut(r->source, true);
    rig_write(r, 0, 300, 1, 1); /* besides what the open cut has */
    fake_world_fail(r->world, FAKE_SYNC, 1, EIO, false);
    check_fails(source_flush(r->source, 1, &err), err, ERR_IO);
    struct world_file *f AUTO_FILE = NULL;
    check_ok(file_open(r->world, rig_disk_path(0), O_RDWR, 0, &f, &err), err);
    assert_int_equal(r->world->ops->truncate(f, GROWN_BYTES), 0);
    for (unsigned life = 0; life < 3; life++) {
        check_ok(open_with(r, GROWN_BYTES, &err), err);
        if (life > 0) /* the first one is killed before */
            source_checked(r->source);
        assert_true(source_adopted(r->source)); /* nobody else wrote meanwhile */
        const struct dirty *d = r->source->dirty;
        const uint64_t dirty[] = {5, 6, 300, rig_disk_bytes[0] / BLOCK_BYTES,
                                  GROWN_BYTES / BLOCK_BYTES - 1};
        for (size_t i = 0; i < sizeof dirty / sizeof *dirty; i++)
            assert_true(dirty_test(d, dirty_active(d), 0, dirty[i]));
        assert_true(dirty_test(d, dirty_active(d), 1, 9));
        assert_false(dirty_test(d, dirty_active(d), 0, 3 * REGION_BLOCKS));
        check_fails(source_flush(r->source, 1, &err), err, ERR_IO); /* not forgotten either */
    }
    check_fails(open_with(r, rig_disk_bytes[0], &err), err, ERR_CORRUPT);
}

static void the_next_data_ends_with_the_disk(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    uint64_t start, end;
    bool found;
    rig_write(r, 1, 5, 1, 1);
    check_ok(source_next_data(r->source, 1, 0, &start, &end, &found, &err), err);
    assert_true(found && start <= 5 * BLOCK_BYTES && end >= 6 * BLOCK_BYTES);
    check_ok(source_next_data(r->source, 1, end, &start, &end, &found, &err), err);
    assert_false(found);
    check_ok(source_next_data(r->source, 1, rig_disk_bytes[1], &start, &end, &found, &err), err);
    assert_false(found);
}

/* --- threads --- */

#define THREADS     4u
#define ROUNDS      100u
#define STAMP_BYTES (4 * BLOCK_BYTES + 100)

struct stamper {
    struct source *source;
    pthread_barrier_t *round;
    uint8_t fill;
};

/* All write one range that begins and ends within blocks, all at once, round by round. */
static void *stamp(void *context)
{
    const struct stamper *t = context;
    uint8_t data[STAMP_BYTES];
    memset(data, t->fill, sizeof data);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct err err = ERR_NONE;
        pthread_barrier_wait(t->round);
        if (!source_write(t->source, 0, 1000, span_of(data, sizeof data), &err))
            abort();
        pthread_barrier_wait(t->round);
    }
    return NULL;
}

/* How many rounds left a mixture. */
static unsigned count_mixed(struct source *s, pthread_barrier_t *round)
{
    unsigned mixed = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct err err = ERR_NONE;
        uint8_t got[STAMP_BYTES];
        pthread_barrier_wait(round);
        pthread_barrier_wait(round);
        if (!source_read(s, 0, 1000, mspan_of(got, sizeof got), &err) ||
            memcmp(got, got + 1, sizeof got - 1) != 0)
            mixed++;
    }
    return mixed;
}

/* A write is many small ones here, so that without a lock two would mix. */
static void overlapping_writers_leave_the_write_of_one(void **state)
{
    struct rig *r = *state;
    pthread_t threads[THREADS];
    struct stamper stampers[THREADS];
    pthread_barrier_t round;
    pthread_barrier_init(&round, NULL, THREADS + 1);
    fake_world_short_transfers(r->world, true);
    for (unsigned i = 0; i < THREADS; i++) {
        stampers[i] =
            (struct stamper){.source = r->source, .round = &round, .fill = (uint8_t)(i + 1)};
        assert_int_equal(pthread_create(&threads[i], NULL, stamp, &stampers[i]), 0);
    }
    unsigned mixed = count_mixed(r->source, &round);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&round);
    assert_int_equal(mixed, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reads_show_what_was_written_and_zeroed),
        T(exactly_the_touched_blocks_are_dirty),
        T(an_empty_write_changes_nothing),
        T(after_a_power_cut_every_changed_block_is_dirty_again),
        T(a_write_whose_mark_cannot_be_made_durable_does_not_happen),
        T(a_block_is_marked_and_dirty_before_its_bytes_change),
        T(a_mark_stays_while_its_region_is_dirty),
        T(flushed_data_survives_a_power_cut),
        T(a_failed_sync_is_returned_and_sticky),
        T(of_two_syncs_at_once_none_succeeds_when_one_fails),
        T(a_failed_sync_is_not_forgotten_when_the_worker_is_killed),
        T(after_a_failed_sync_marked_regions_are_dirty_and_unknown),
        T(a_shrunk_file_is_refused_by_name),
        T(a_killed_worker_leaves_its_dirty_blocks_to_the_next),
        T(a_disk_that_grew_in_use_is_dirty_where_it_was_and_where_it_is_new),
        T(the_next_data_ends_with_the_disk),
        T(overlapping_writers_leave_the_write_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
