/* SPDX-License-Identifier: MIT */
#include "fs/disk/marks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#define MIB     UINT64_C(1048576)
#define REGIONS 200u
#define DISK    (REGIONS * MIB - 4096 * 3 - 100) /* the last region is short */
#define PATH    "/d.marks"

static struct extent region_extent(uint64_t region)
{
    return (struct extent){region * REGION_BLOCKS + 17, 1};
}

static bool is_dirty(void *context, uint64_t region)
{
    const bool *dirty = context;

    return dirty != NULL && dirty[region];
}

static bool sweep_all(struct marks *m, bool *dirty, struct err *err)
{
    return marks_sweep(m, 0, true, is_dirty, dirty, UINT64_MAX, err);
}

static struct marks *open_marks(struct world *w, uint64_t bytes)
{
    struct err err = ERR_NONE;
    struct marks *m = NULL;

    check_ok(marks_open(w, PATH, bytes, &m, &err), err);
    return m;
}

struct fixture {
    struct world *w;
    struct marks *m;
};

/* Open, and every region clean. */
static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;

    f->w = fake_world_make(1);
    f->m = open_marks(f->w, DISK);
    check_ok(sweep_all(f->m, NULL, &err), err);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    marks_close(&f->m);
    fake_world_release(&f->w);
    free(f);
    return 0;
}

static void power_cut(struct fixture *f, uint64_t seed)
{
    fake_world_power_cut(f->w, seed);
    marks_close(&f->m);
    f->m = open_marks(f->w, DISK);
}

static void a_new_file_has_every_region_marked(void **state)
{
    struct world *w = fake_world_make(1);
    struct marks *m = open_marks(w, DISK);

    (void)state;
    assert_int_equal(marks_regions(m), REGIONS);
    assert_int_equal(marks_count(m), REGIONS);
    fake_world_power_cut(w, 1);
    marks_close(&m);
    m = open_marks(w, DISK);
    assert_int_equal(marks_count(m), REGIONS);
    marks_close(&m);
    fake_world_release(&w);
}

static void an_ensured_region_is_marked_after_a_power_cut(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t region;

    assert_int_equal(marks_count(f->m), 0);
    assert_false(marks_next(f->m, 0, &region));
    check_ok(marks_ensure(f->m, (struct extent){64 * 256 - 1, 258}, &err), err);
    check_ok(marks_ensure(f->m, region_extent(REGIONS - 1), &err), err);
    power_cut(f, 7);
    for (uint64_t r = 63; r <= 65; r++)
        assert_true(marks_test(f->m, r));
    assert_true(marks_next(f->m, 0, &region));
    assert_int_equal(region, 63);
    assert_true(marks_next(f->m, 66, &region));
    assert_int_equal(region, REGIONS - 1);
    assert_false(marks_next(f->m, REGIONS, &region));
}

static void a_hot_region_costs_no_io(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_ensure(f->m, region_extent(9), &err), err);
    uint64_t calls = fake_world_calls(f->w, FAKE_ANY);
    for (int i = 0; i < 100; i++)
        check_ok(marks_ensure(f->m, region_extent(9), &err), err);
    assert_int_equal(fake_world_calls(f->w, FAKE_ANY), calls);
}

static void a_stream_marks_regions_ahead_in_the_same_sync(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t before = fake_world_calls(f->w, FAKE_SYNC);

    for (uint64_t block = 10 * 256; block < 46 * 256; block += 16)
        check_ok(marks_ensure(f->m, (struct extent){block, 16}, &err), err);
    /* region 10, then 11 and eight ahead, 20 and eight ahead ... */
    assert_int_equal(fake_world_calls(f->w, FAKE_SYNC) - before, 1 + 4);
    assert_int_equal(marks_count(f->m), 1 + 4 * (1 + MARKS_AHEAD));
    power_cut(f, 3);
    for (uint64_t r = 10; r < 47; r++)
        assert_true(marks_test(f->m, r));
}

static void a_stream_ends_with_the_disk(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_ensure(f->m, region_extent(REGIONS - 3), &err), err);
    check_ok(marks_ensure(f->m, (struct extent){(REGIONS - 2) * 256, 8}, &err), err);
    assert_int_equal(marks_count(f->m), 3);
}

static void scattered_writes_mark_nothing_ahead(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_ensure(f->m, region_extent(50), &err), err);
    check_ok(marks_ensure(f->m, region_extent(51), &err), err);            /* not at its start */
    check_ok(marks_ensure(f->m, (struct extent){80 * 256, 8}, &err), err); /* 79 is cold */
    assert_int_equal(marks_count(f->m), 3);
}

static void a_failed_sync_is_an_error_and_its_bits_are_not_believed(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    for (int round = 0; round < 2; round++) {
        fake_world_fail(f->w, round ? FAKE_PWRITE : FAKE_SYNC, 1, EIO, false);
        check_fails(marks_ensure(f->m, region_extent(5), &err), err, ERR_IO);
        check_says(err, PATH);
        assert_false(marks_test(f->m, 5));
    }
    err = ERR_NONE;
    check_ok(marks_ensure(f->m, region_extent(5), &err), err);
    power_cut(f, 11);
    assert_true(marks_test(f->m, 5));
}

/* What the page cache showed after a failed sync was never on the disk. */
static void a_mark_whose_sync_failed_is_written_again_when_adopted(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    fake_world_fail(f->w, FAKE_SYNC, 1, EIO, false);
    check_fails(marks_ensure(f->m, region_extent(5), &err), err, ERR_IO);
    marks_close(&f->m); /* the worker dies; the host goes on */
    f->m = open_marks(f->w, DISK);
    bool believed = marks_test(f->m, 5);
    power_cut(f, 12);
    assert_true(!believed || marks_test(f->m, 5));
}

/* ---- sweeps ---- */

static void a_sweep_clears_clean_regions_and_never_a_dirty_one(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    bool dirty[REGIONS] = {[5] = true, [130] = true};

    check_ok(marks_set_all(f->m, &err), err);
    check_ok(sweep_all(f->m, dirty, &err), err);
    assert_int_equal(marks_count(f->m), 2);
    power_cut(f, 5); /* any part of the clears may be lost, no mark may */
    assert_true(marks_test(f->m, 5) && marks_test(f->m, 130));
}

static void a_sweep_clears_no_more_than_its_limit(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_set_all(f->m, &err), err);
    check_ok(marks_sweep(f->m, 0, true, is_dirty, NULL, 30, &err), err);
    assert_int_equal(marks_count(f->m), REGIONS - 30);
}

static void a_region_is_quiet_only_after_the_quiet_time(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t now = MARKS_QUIET_MS * 3;

    check_ok(marks_sweep(f->m, now, false, is_dirty, NULL, UINT64_MAX, &err), err);
    check_ok(marks_ensure(f->m, region_extent(40), &err), err);
    for (uint64_t t = 0; t < MARKS_QUIET_MS; t += 1000) {
        check_ok(marks_sweep(f->m, now + t, false, is_dirty, NULL, UINT64_MAX, &err), err);
        assert_true(marks_test(f->m, 40));
    }
    check_ok(marks_sweep(f->m, now + MARKS_QUIET_MS, false, is_dirty, NULL, 9, &err), err);
    assert_true(marks_test(f->m, 40)); /* noted in the era before */
    check_ok(marks_ensure(f->m, region_extent(41), &err), err);
    check_ok(marks_sweep(f->m, now + 2 * MARKS_QUIET_MS, false, is_dirty, NULL, 9, &err), err);
    assert_false(marks_test(f->m, 40));
    assert_true(marks_test(f->m, 41));
}

static void regions_marked_ahead_wait_for_their_stream(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_ensure(f->m, (struct extent){10 * 256, 256}, &err), err);
    check_ok(marks_ensure(f->m, (struct extent){11 * 256, 256}, &err), err);
    check_ok(marks_sweep(f->m, MARKS_QUIET_MS, false, is_dirty, NULL, UINT64_MAX, &err), err);
    assert_int_equal(marks_count(f->m), 2 + MARKS_AHEAD);
}

static void nothing_is_quiet_right_after_opening(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    check_ok(marks_set_all(f->m, &err), err);
    check_ok(marks_sweep(f->m, MARKS_QUIET_MS - 1, false, is_dirty, NULL, 9, &err), err);
    assert_int_equal(marks_count(f->m), REGIONS);
    check_ok(marks_sweep(f->m, MARKS_QUIET_MS, false, is_dirty, NULL, 9, &err), err);
    assert_int_equal(marks_count(f->m), REGIONS - 9);
}

/* A writer that comes while the sweep asks finds its mark gone and must get it back, durably. */
struct meeting {
    struct marks *m;
    pthread_t writer;
    _Atomic bool ended;
    bool was_marked;
    struct err err;
    bool ok;
};

static void *meet(void *argument)
{
    struct meeting *meeting = argument;

    meeting->ok = marks_ensure(meeting->m, region_extent(70), &meeting->err);
    atomic_store(&meeting->ended, true);
    return NULL;
}

static bool start_writer_and_say_clean(void *context, uint64_t region)
{
    struct meeting *meeting = context;

    if (region != 70)
        return true;
    meeting->was_marked = marks_test(meeting->m, region);
    assert_int_equal(pthread_create(&meeting->writer, NULL, meet, meeting), 0);
    /* It cannot end while the sweep is on; a broken one gets the time to. */
    for (int i = 0; i < 50 && !atomic_load(&meeting->ended); i++)
        usleep(1000);
    return false;
}

static void a_write_that_meets_a_sweep_marks_again_durably(void **state)
{
    struct fixture *f = *state;
    struct meeting meeting = {.m = f->m};
    struct err err = ERR_NONE;

    check_ok(marks_set_all(f->m, &err), err);
    check_ok(marks_sweep(f->m, 0, true, start_writer_and_say_clean, &meeting, 99, &err), err);
    pthread_join(meeting.writer, NULL);
    check_ok(meeting.ok, meeting.err);
    assert_false(meeting.was_marked); /* unmarked before it is asked for */
    assert_true(marks_test(f->m, 70));
    for (uint64_t seed = 0; seed < 4; seed++) {
        power_cut(f, seed);
        assert_true(marks_test(f->m, 70));
    }
}

/* ---- power cuts ---- */

/* A random run, stopped after so many calls of the world. Returns false when it was not stopped. */
static bool run_until(struct fixture *f, unsigned seed, uint64_t calls, bool *promised)
{
    struct err err = ERR_NONE;

    fake_world_fail(f->w, FAKE_ANY, calls, EIO, true);
    for (int step = 0; step < 60; step++) {
        uint64_t region = (unsigned)rand_r(&seed) % REGIONS;
        switch (rand_r(&seed) % 4) {
        case 0: /* what is not promised is clean; promises for some are over */
            for (uint64_t r = 0; r < REGIONS; r++)
                promised[r] = promised[r] && rand_r(&seed) % 3 != 0;
            if (!marks_sweep(f->m, 0, true, is_dirty, promised, 50, &err))
                return true;
            break;
        default:
            if (!marks_ensure(f->m, region_extent(region), &err))
                return true;
            promised[region] = true;
        }
    }
    return false;
}

static void every_promise_holds_after_a_power_cut_at_any_call(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3; seed++) {
        bool stopped = true;
        for (uint64_t calls = 1; stopped; calls++) {
            void *fixture;
            bool promised[REGIONS] = {false};
            assert_int_equal(set_up(&fixture), 0);
            stopped = run_until(fixture, seed, calls, promised);
            power_cut(fixture, calls);
            for (uint64_t r = 0; r < REGIONS; r++)
                if (promised[r])
                    assert_true(marks_test(((struct fixture *)fixture)->m, r));
            tear_down(&fixture);
        }
    }
}

static void making_the_file_can_be_cut_at_any_call(void **state)
{
    (void)state;
    bool stopped = true;
    for (uint64_t calls = 1; stopped; calls++) {
        struct world *w = fake_world_make(calls);
        struct err err = ERR_NONE;
        struct marks *m = NULL;
        fake_world_fail(w, FAKE_ANY, calls, EIO, true);
        stopped = !marks_open(w, PATH, DISK, &m, &err);
        fake_world_power_cut(w, calls);
        marks_close(&m);
        m = open_marks(w, DISK);
        assert_int_equal(marks_count(m), REGIONS);
        marks_close(&m);
        fake_world_release(&w);
    }
}

#define LARGE_REGIONS 70000u /* three pages */

static void all_that_is_marked_at_once_is_marked_after_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        void *fixture;
        struct err err = ERR_NONE;
        assert_int_equal(set_up(&fixture), 0);
        struct fixture *f = fixture;
        check_ok(marks_set_all(f->m, &err), err);
        power_cut(f, seed);
        assert_int_equal(marks_count(f->m), REGIONS);
        tear_down(&fixture);
    }
}

static void a_grown_disk_keeps_its_marks_and_has_the_new_regions_marked(void **state)
{
    (void)state;
    bool stopped = true;
    for (uint64_t calls = 1; stopped; calls++) {
        void *fixture;
        struct err err = ERR_NONE;
        assert_int_equal(set_up(&fixture), 0);
        struct fixture *f = fixture;
        check_ok(marks_ensure(f->m, region_extent(33), &err), err);
        check_ok(marks_ensure(f->m, region_extent(66), &err), err);
        marks_close(&f->m);
        fake_world_fail(f->w, FAKE_ANY, calls, EIO, true);
        stopped = !marks_open(f->w, PATH, LARGE_REGIONS * MIB, &f->m, &err);
        fake_world_power_cut(f->w, calls);
        marks_close(&f->m);
        f->m = open_marks(f->w, LARGE_REGIONS * MIB);
        assert_true(marks_test(f->m, 33) && marks_test(f->m, 66));
        for (uint64_t r = REGIONS - 1; r < LARGE_REGIONS; r++)
            assert_true(marks_test(f->m, r));
        if (!stopped) /* and what was swept is still clear */
            assert_int_equal(marks_count(f->m), 2 + LARGE_REGIONS - (REGIONS - 1));
        check_fails(marks_open(f->w, PATH, DISK, &f->m, &err), err, ERR_CORRUPT);
        tear_down(&fixture);
    }
}

static void a_large_disk_marks_in_every_page(void **state)
{
    struct world *w = fake_world_make(4);
    struct marks *m = open_marks(w, LARGE_REGIONS * MIB);
    struct err err = ERR_NONE;

    (void)state;
    check_ok(sweep_all(m, NULL, &err), err);
    assert_int_equal(marks_count(m), 0);
    check_ok(marks_ensure(m, (struct extent){32767 * 256 + 255, 2}, &err), err);
    check_ok(marks_ensure(m, region_extent(LARGE_REGIONS - 1), &err), err);
    fake_world_power_cut(w, 9);
    marks_close(&m);
    m = open_marks(w, LARGE_REGIONS * MIB);
    assert_true(marks_test(m, 32767) && marks_test(m, 32768));
    assert_true(marks_test(m, LARGE_REGIONS - 1));
    marks_close(&m);
    fake_world_release(&w);
}

static void a_damaged_or_short_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct world_file *file;
    struct marks *m;

    marks_close(&f->m);
    check_ok(file_open(f->w, PATH, O_RDWR, 0, &file, &err), err);
    for (uint64_t offset = 0; offset < 24 + 32; offset++) {
        uint8_t byte, bad;
        check_ok(file_read(file, mspan_of(&byte, 1), offset, &err), err);
        bad = byte ^ 0x10;
        check_ok(file_write(file, span_of(&bad, 1), offset, &err), err);
        check_fails(marks_open(f->w, PATH, DISK, &m, &err), err, ERR_CORRUPT);
        check_ok(file_write(file, span_of(&byte, 1), offset, &err), err);
    }
    assert_int_equal(f->w->ops->truncate(file, 4096 + 4095), 0);
    check_fails(marks_open(f->w, PATH, DISK, &m, &err), err, ERR_CORRUPT);
    check_says(err, PATH);
    file_close(&file);
    f->m = NULL;
}

/* ---- threads ---- */

#define THREADS 6

struct caller {
    pthread_t thread;
    struct marks *m;
    struct extent extent;
    bool ok;
};

static void *ensure_once(void *argument)
{
    struct caller *c = argument;
    struct err err = ERR_NONE;

    c->ok = marks_ensure(c->m, c->extent, &err);
    return NULL;
}

static void run_callers(struct fixture *f, struct caller *callers)
{
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.m = f->m, .extent = region_extent(20)};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, ensure_once, &callers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(callers[i].thread, NULL);
}

static void threads_on_one_region_share_one_sync(void **state)
{
    struct fixture *f = *state;
    struct caller callers[THREADS];
    uint64_t before = fake_world_calls(f->w, FAKE_SYNC);

    run_callers(f, callers);
    for (int i = 0; i < THREADS; i++)
        assert_true(callers[i].ok);
    assert_int_equal(fake_world_calls(f->w, FAKE_SYNC) - before, 1);
}

static void a_failing_disk_is_an_error_to_every_waiter(void **state)
{
    struct fixture *f = *state;
    struct caller callers[THREADS];

    fake_world_fail(f->w, FAKE_SYNC, 1, EIO, true);
    run_callers(f, callers);
    for (int i = 0; i < THREADS; i++)
        assert_false(callers[i].ok);
    fake_world_fail(f->w, FAKE_SYNC, 0, 0, false);
}

struct storm {
    struct marks *m;
    _Atomic bool dirty[REGIONS];
    _Atomic bool ensured[REGIONS];
    _Atomic int failures;
    _Atomic int left;
};

struct storm_writer {
    pthread_t thread;
    struct storm *storm;
    unsigned seed;
};

static void *storm_write(void *argument)
{
    struct storm_writer *w = argument;
    struct storm *s = w->storm;
    struct err err = ERR_NONE;

    for (int i = 0; i < 60; i++) {
        uint64_t r = (unsigned)rand_r(&w->seed) % REGIONS;
        atomic_store(&s->dirty[r], true);
        if (marks_ensure(s->m, region_extent(r), &err))
            atomic_store(&s->ensured[r], true);
        else
            atomic_fetch_add(&s->failures, 1);
    }
    atomic_fetch_sub(&s->left, 1);
    return NULL;
}

static bool storm_dirty(void *context, uint64_t region)
{
    struct storm *s = context;

    return atomic_load(&s->dirty[region]);
}

static void writers_and_sweeps_together_lose_no_mark(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    for (unsigned round = 0; round < 20; round++) {
        struct storm *s = calloc(1, sizeof *s);
        struct storm_writer writers[THREADS];
        check_ok(marks_set_all(f->m, &err), err);
        s->m = f->m;
        s->left = THREADS;
        for (unsigned i = 0; i < THREADS; i++) {
            writers[i] = (struct storm_writer){.storm = s, .seed = round * 100 + i};
            assert_int_equal(pthread_create(&writers[i].thread, NULL, storm_write, &writers[i]), 0);
        }
        while (atomic_load(&s->left) > 0)
            check_ok(marks_sweep(f->m, 0, true, storm_dirty, s, 9, &err), err);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(writers[i].thread, NULL);
        assert_int_equal(s->failures, 0);
        power_cut(f, round);
        for (uint64_t r = 0; r < REGIONS; r++)
            assert_true(marks_test(f->m, r) || !s->ensured[r]);
        free(s);
    }
}

int main(void)
{
#define with_marks(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_has_every_region_marked),
        with_marks(an_ensured_region_is_marked_after_a_power_cut),
        with_marks(a_hot_region_costs_no_io),
        with_marks(a_stream_marks_regions_ahead_in_the_same_sync),
        with_marks(a_stream_ends_with_the_disk),
        with_marks(scattered_writes_mark_nothing_ahead),
        with_marks(a_failed_sync_is_an_error_and_its_bits_are_not_believed),
        with_marks(a_mark_whose_sync_failed_is_written_again_when_adopted),
        with_marks(a_sweep_clears_clean_regions_and_never_a_dirty_one),
        with_marks(a_sweep_clears_no_more_than_its_limit),
        with_marks(a_region_is_quiet_only_after_the_quiet_time),
        with_marks(regions_marked_ahead_wait_for_their_stream),
        with_marks(nothing_is_quiet_right_after_opening),
        with_marks(a_write_that_meets_a_sweep_marks_again_durably),
        cmocka_unit_test(every_promise_holds_after_a_power_cut_at_any_call),
        cmocka_unit_test(making_the_file_can_be_cut_at_any_call),
        cmocka_unit_test(all_that_is_marked_at_once_is_marked_after_a_power_cut),
        cmocka_unit_test(a_grown_disk_keeps_its_marks_and_has_the_new_regions_marked),
        cmocka_unit_test(a_large_disk_marks_in_every_page),
        with_marks(a_damaged_or_short_file_is_refused),
        with_marks(threads_on_one_region_share_one_sync),
        with_marks(a_failing_disk_is_an_error_to_every_waiter),
        with_marks(writers_and_sweeps_together_lose_no_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
