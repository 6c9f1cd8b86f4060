/* SPDX-License-Identifier: MIT
 * A source over an origin: what a failed-over disk shows, keeps and ships, and its hydration. The
 * fake world orders the durable steps; the threads are real. */
#include "fs/disk/origin.h"

#include "common/cleanup.h"
#include "common/file.h"
#include "fs/disk/cut.h"
#include "fs/disk/hydrate.h"
#include "fs/disk/source_private.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"
#include "tests/support/moment.h"
#include "tests/support/specimen.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#define SECTORS_MAX (RIG_DISK_BYTES_MAX / FAKE_SECTOR)

/* --- an origin in memory --- */

struct far {
    struct origin origin;
    uint8_t *bytes[RIG_DISKS]; /* whole blocks */
    _Atomic bool away;         /* nothing can be read */
    _Atomic uint64_t bad;      /* this block of disk 0 cannot be read, ever; none: UINT64_MAX */
    _Atomic uint64_t reads;
    sem_t *hang;                        /* a read waits for this; NULL: none does */
    void (*_Atomic act)(void *context); /* within the next read of block 7 of disk 0 */
    void *context;
};

static size_t room(size_t disk)
{
    return (size_t)blocks_of_bytes(rig_disk_bytes[disk]) << BLOCK_SHIFT;
}

/* Runs of 40 blocks, every other one a hole. */
static bool far_hole(uint64_t block)
{
    return block / 40 % 2 == 1;
}

static bool far_read(void *context, uint16_t disk, uint64_t offset, struct mspan out,
                     struct err *err)
{
    struct far *f = context;
    size_t i = disk - rig_disk_number(0);
    struct extent e = extent_of_bytes(offset, out.length);
    f->reads++;
    if (f->hang)
        sem_wait(f->hang);
    void (*act)(void *) = NULL;
    if (i == 0 && e.first <= 7 && extent_end(e) > 7)
        act = atomic_exchange(&f->act, act);
    if (act)
        act(f->context);
    assert_true(offset + out.length <= room(i));
    if (f->away)
        return err_set(err, ERR_TRANSIENT, "the store is away");
    if (i == 0 && f->bad >= e.first && f->bad < extent_end(e))
        return err_set(err, ERR_IO, "the old disk could not read it");
    memcpy(out.data, f->bytes[i] + offset, out.length);
    return true;
}

static bool far_next_data(void *context, uint16_t disk, uint64_t from, struct extent *out,
                          bool *found, struct err *err)
{
    struct far *f = context;
    uint64_t blocks = blocks_of_bytes(rig_disk_bytes[disk - rig_disk_number(0)]);
    *found = false;
    if (f->away)
        return err_set(err, ERR_TRANSIENT, "the store is away");
    while (from < blocks && far_hole(from))
        from++;
    if (from >= blocks)
        return true;
    *found = true;
    *out = (struct extent){.first = from, .count = 0};
    while (from + out->count < blocks && !far_hole(from + out->count))
        out->count++;
    return true;
}

struct far_rig {
    struct rig *rig;
    struct far far;
    uint64_t random;
    uint8_t *now[RIG_DISKS]; /* what the disks must show */
};

static void far_make(struct far *f)
{
    *f = (struct far){.origin = {.context = f, .read = far_read, .next_data = far_next_data},
                      .bad = UINT64_MAX};
    for (size_t i = 0; i < RIG_DISKS; i++) {
        f->bytes[i] = calloc(1, room(i));
        for (uint64_t b = 0; b < blocks_of_bytes(rig_disk_bytes[i]); b++)
            if (!far_hole(b))
                specimen_noise(f->bytes[i] + b * BLOCK_BYTES, BLOCK_BYTES, b * RIG_DISKS + i + 1);
    }
}

static int set_up(void **state)
{
    struct far_rig *r = calloc(1, sizeof *r);
    far_make(&r->far);
    r->random = 4711;
    r->rig = rig_make();
    rig_lay_over(r->rig, &r->far.origin);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        r->now[i] = malloc(room(i));
        memcpy(r->now[i], r->far.bytes[i], room(i));
    }
    rig_open_source(r->rig);
    rig_forget_dirty(r->rig);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct far_rig *r = *state;
    rig_release(&r->rig);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        free(r->far.bytes[i]);
        free(r->now[i]);
    }
    free(r);
    return 0;
}

/* --- changes and what they must show --- */

static void change_at(struct far_rig *r, size_t disk, uint64_t offset, uint64_t length)
{
    struct err err = ERR_NONE;
    uint8_t *to = r->now[disk] + offset;
    if (specimen_below(&r->random, 3) == 0) {
        memset(to, 0, length);
        check_ok(source_zero(r->rig->source, disk, offset, length, &err), err);
        return;
    }
    specimen_noise(to, length, specimen_random(&r->random));
    check_ok(source_write(r->rig->source, disk, offset, span_of(to, length), &err), err);
}

/* `unit`: all offsets and lengths are multiples of it. */
static void change(struct far_rig *r, uint64_t unit)
{
    size_t disk = (size_t)specimen_below(&r->random, RIG_DISKS);
    uint64_t units = rig_disk_bytes[disk] / unit;
    uint64_t first = specimen_below(&r->random, units);
    uint64_t count = 1 + specimen_below(&r->random, (40000 + unit) / unit);
    change_at(r, disk, first * unit, (count < units - first ? count : units - first) * unit);
}

static uint8_t *read_all(struct rig *r, size_t disk)
{
    struct err err = ERR_NONE;
    uint8_t *got = malloc(room(disk));
    check_ok(source_read(r->source, disk, 0, mspan_of(got, rig_disk_bytes[disk]), &err), err);
    return got;
}

static void check_shows(struct rig *r, uint8_t *const expected[RIG_DISKS])
{
    for (size_t i = 0; i < RIG_DISKS; i++) {
        uint8_t *got AUTO_FREE = read_all(r, i);
        for (uint64_t b = 0; b < rig_disk_bytes[i]; b++)
            if (got[b] != expected[i][b])
                fail_msg("disk %zu shows another byte at block %llu", i,
                         (unsigned long long)(b >> BLOCK_SHIFT));
    }
}

static void hydrated(void *context)
{
    sem_post(context);
}

static void wait_posted(sem_t *done)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    assert_int_equal(sem_timedwait(done, &until), 0);
}

static void hydrate_all(struct rig *r)
{
    struct err err = ERR_NONE;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    struct hydrate_status status;
    sem_t done;
    sem_init(&done, 0, 0);
    check_ok(hydrate_start(r->source, hydrated, &done, &h, &err), err);
    wait_posted(&done);
    hydrate_status(h, &status);
    assert_true(status.complete);
    assert_int_equal(status.done_bytes, status.total_bytes);
    sem_destroy(&done);
}

/* As the next mount does it, which reads no origin. */
static void reopen_whole(struct rig *r)
{
    rig_reboot(r);
    r->origin = NULL;
    rig_open_source(r);
}

/* --- what it shows --- */

static void the_disk_shows_its_origin_where_nothing_was_written(void **state)
{
    struct far_rig *r = *state;
    check_shows(r->rig, r->far.bytes);
    fake_world_short_transfers(r->rig->world, true);
    for (unsigned i = 0; i < 60; i++)
        change(r, 1);
    check_shows(r->rig, r->now);
}

static void no_death_of_a_worker_forgets_a_write(void **state)
{
    struct far_rig *r = *state;
    for (unsigned i = 0; i < 30; i++) {
        change(r, 1);
        if (i % 3 == 2) {
            rig_kill(r->rig);
            rig_open_source(r->rig);
        }
    }
    check_shows(r->rig, r->now);
    /* A later worker's sync records what a dead one had set. */
    struct err err = ERR_NONE;
    check_ok(source_sync(r->rig->source, &err), err);
    rig_power_cut(r->rig, 5);
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
}

static void a_record_that_was_half_taken_in_is_taken_in_anew(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    bool opened = false;
    for (unsigned i = 0; i < 30; i++)
        change(r, 1);
    check_ok(source_sync(r->rig->source, &err), err);
    for (uint64_t nth = 1; !opened; nth++) {
        rig_reboot(r->rig);
        fake_world_fail(r->rig->world, FAKE_PREAD, nth, EIO, true);
        opened = rig_try_open_source(r->rig, &err);
        fake_world_fail(r->rig->world, FAKE_PREAD, 0, 0, false);
        if (!opened) /* the next worker */
            rig_open_source(r->rig);
        check_shows(r->rig, r->now);
    }
}

static void a_discarded_block_is_present_and_zero(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    rig_zero(r->rig, 0, 3, 2);
    memset(r->now[0] + 3 * BLOCK_BYTES, 0, 2 * BLOCK_BYTES);
    check_ok(source_sync(r->rig->source, &err), err);
    rig_power_cut(r->rig, 1);
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
    uint64_t start, end;
    bool found;
    check_ok(source_next_data(r->rig->source, 0, 3 * BLOCK_BYTES, &start, &end, &found, &err), err);
    assert_true(found);
    assert_int_equal(start, 5 * BLOCK_BYTES);
}

static void data_is_where_the_file_or_the_origin_has_some(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    for (unsigned i = 0; i < 20; i++)
        change(r, 1);
    for (size_t disk = 0; disk < RIG_DISKS; disk++) {
        uint64_t start, end, at = 0;
        bool found = true;
        while (found) {
            check_ok(source_next_data(r->rig->source, disk, at, &start, &end, &found, &err), err);
            uint64_t until = found ? start : rig_disk_bytes[disk];
            for (; at < until; at++)
                assert_int_equal(r->now[disk][at], 0);
            if (found) {
                assert_true(end > start && end <= rig_disk_bytes[disk]);
                at = end;
            }
        }
    }
}

static void a_cut_ships_what_the_origin_has(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    uint8_t got[8 * BLOCK_BYTES];
    uint64_t unreadable;
    check_ok(source_mark_all(r->rig->source, &err), err);
    source_cut(r->rig->source, true);
    assert_true(source_cut_drained(r->rig->source));
    /* Copy before write: the origin's block is the old one. */
    rig_write(r->rig, 0, 2, 1, 0x55);
    struct extent e = {.first = 0, .count = 8};
    check_ok(source_cut_take(r->rig->source, 0, e, mspan_of(got, sizeof got), &unreadable, &err),
             err);
    assert_int_equal(unreadable, 0);
    assert_memory_equal(got, r->far.bytes[0], sizeof got);
}

static void a_record_of_another_point_is_refused(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct backing *b CLEANUP(backing_close) = NULL;
    void *memory AUTO_FREE = calloc(1, backing_memory_bytes(rig_disk_bytes[0]));
    struct backing_config config = {.world = r->rig->world,
                                    .path = rig_disk_path(0),
                                    .disk_bytes = rig_disk_bytes[0],
                                    .origin = &r->far.origin,
                                    .head = {.generation_id = r->rig->generation.id,
                                             .epoch = 6,
                                             .disk = rig_disk_number(0),
                                             .disk_bytes = rig_disk_bytes[0]},
                                    .memory = memory,
                                    .fresh = true};
    memcpy(config.head.vm, r->rig->vm_id, sizeof config.head.vm);
    check_fails(backing_open(&config, &b, &err), err, ERR_CORRUPT);
    check_says(err, "not whole");
}

static void wait_complete_or_stalled(struct hydrate *h, struct hydrate_status *status)
{
    const struct timespec step = {.tv_nsec = 1000000};
    hydrate_status(h, status);
    for (unsigned i = 0; i < 20000 && !status->complete && status->reason[0] == '\0'; i++) {
        nanosleep(&step, NULL);
        hydrate_status(h, status);
    }
}

/* --- out of reach --- */

static void what_is_present_needs_no_origin(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    uint8_t block[BLOCK_BYTES], *at = r->now[0] + BLOCK_BYTES;
    r->far.away = true;
    specimen_noise(at, BLOCK_BYTES, 9);
    check_ok(source_write(r->rig->source, 0, BLOCK_BYTES, span_of(at, BLOCK_BYTES), &err), err);
    check_ok(source_read(r->rig->source, 0, BLOCK_BYTES, mspan_of(block, sizeof block), &err), err);
    assert_memory_equal(block, at, sizeof block);
    check_ok(source_flush(r->rig->source, 0, &err), err);
    check_fails(source_read(r->rig->source, 0, 0, mspan_of(block, 1), &err), err, ERR_IO);
    check_says(err, "the store is away");
}

static void half_a_block_out_of_reach_is_not_written(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    r->far.away = true;
    check_fails(source_write(r->rig->source, 0, 100, span_of("abc", 3), &err), err, ERR_IO);
    check_fails(source_zero(r->rig->source, 1, 100, 200, &err), err, ERR_IO);
    r->far.away = false;
    check_shows(r->rig, r->now);
}

struct told {
    _Atomic int waiting, times;
};

static void note_wait(void *context, bool waits)
{
    struct told *t = context;
    t->waiting += waits ? 1 : -1;
    t->times += waits;
}

/* A write of some bytes, and of whole blocks around them. */
static void *write_some(void *context)
{
    struct err err = ERR_NONE;
    check_ok(source_write(context, 0, 100, span_of("abc", 3), &err), err);
    return NULL;
}

static void *write_around(void *context)
{
    rig_write(context, 0, 0, 2, 7);
    return NULL;
}

static void wait_for_number(const _Atomic int *number, int wanted)
{
    const struct timespec step = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < 10000 && *number != wanted; i++)
        nanosleep(&step, NULL);
    assert_int_equal(*number, wanted);
}

static void who_waits_for_the_origin_a_sync_or_for_one_who_does_tells(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct told told = {0};
    uint8_t block[BLOCK_BYTES];
    uint64_t start, end;
    bool found;
    pthread_t some, around;
    sem_t hang;
    source_on_wait(r->rig->source, (struct long_wait){.tell = note_wait, .context = &told});
    rig_write(r->rig, 0, 9, 1, 7); /* its region is marked from now on */
    told.times = 0;
    rig_write(r->rig, 0, 9, 1, 7);
    check_ok(source_read(r->rig->source, 0, 9 * BLOCK_BYTES, mspan_of(block, sizeof block), &err),
             err);
    assert_int_equal(told.times, 0); /* all that is local and short */
    check_ok(source_flush(r->rig->source, 0, &err), err);
    assert_int_equal(told.times, 1);
    check_ok(source_read(r->rig->source, 0, 8 * BLOCK_BYTES, mspan_of(block, sizeof block), &err),
             err);
    assert_int_equal(told.times, 2);
    check_ok(source_next_data(r->rig->source, 0, 0, &start, &end, &found, &err), err);
    assert_int_equal(told.times, 3);

    sem_init(&hang, 0, 0);
    r->far.hang = &hang;
    assert_int_equal(pthread_create(&some, NULL, write_some, r->rig->source), 0);
    wait_for_number(&told.waiting, 1);
    assert_int_equal(pthread_create(&around, NULL, write_around, r->rig), 0);
    wait_for_number(&told.waiting, 2);
    for (unsigned i = 0; i < 4; i++)
        sem_post(&hang);
    pthread_join(some, NULL);
    pthread_join(around, NULL);
    assert_int_equal(told.waiting, 0);
    sem_destroy(&hang);
}

/* --- a full local disk --- */

static void a_sync_without_room_for_the_record_fails_and_the_next_one_makes_up_for_it(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r->rig, 0, 3, 1, 7);
    memset(r->now[0] + 3 * BLOCK_BYTES, 7, BLOCK_BYTES);
    fake_world_fail(r->rig->world, FAKE_PWRITE, 1, ENOSPC, true);
    check_fails(source_flush(r->rig->source, 0, &err), err, ERR_FULL);
    err = ERR_NONE;
    fake_world_fail(r->rig->world, FAKE_PWRITE, 0, 0, false);
    check_ok(source_flush(r->rig->source, 0, &err), err);
    rig_power_cut(r->rig, 5);
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
}

static void a_sync_of_the_data_that_fails_for_want_of_room_stays_failed(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    rig_write(r->rig, 0, 3, 1, 7);
    fake_world_fail(r->rig->world, FAKE_SYNC, 1, ENOSPC, false);
    check_fails(source_flush(r->rig->source, 0, &err), err, ERR_IO);
    check_fails(source_flush(r->rig->source, 0, &err), err, ERR_IO);
}

static void hydration_without_room_waits_for_some_and_then_is_complete(void **state)
{
    struct far_rig *r = *state;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    struct hydrate_status status;
    struct err err = ERR_NONE;
    uint8_t block[BLOCK_BYTES];
    sem_t done;
    sem_init(&done, 0, 0);
    fake_world_fail(r->rig->world, FAKE_PWRITE, 20, ENOSPC, true);
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
    wait_complete_or_stalled(h, &status);
    assert_false(status.complete);
    check_ok(source_read(r->rig->source, 0, 80 * BLOCK_BYTES, mspan_of(block, sizeof block), &err),
             err);
    assert_memory_equal(block, r->now[0] + 80 * BLOCK_BYTES, sizeof block);
    fake_world_fail(r->rig->world, FAKE_PWRITE, 0, 0, false);
    wait_posted(&done);
    hydrate_stop(&h);
    reopen_whole(r->rig);
    check_shows(r->rig, r->now);
    sem_destroy(&done);
}

/* --- power cuts --- */

/* Each sector is as the last sync left it, or as one of the writes since. */
static void check_after_cut(struct far_rig *r, uint8_t *versions[][RIG_DISKS], size_t count)
{
    for (size_t disk = 0; disk < RIG_DISKS; disk++) {
        uint8_t *got AUTO_FREE = read_all(r->rig, disk);
        for (uint64_t at = 0; at < rig_disk_bytes[disk]; at += FAKE_SECTOR) {
            size_t i = 0;
            while (i < count && memcmp(got + at, versions[i][disk] + at, FAKE_SECTOR) != 0)
                i++;
            if (i == count)
                fail_msg("sector %llu of disk %zu is none that was written",
                         (unsigned long long)(at / FAKE_SECTOR), disk);
        }
        memcpy(r->now[disk], got, rig_disk_bytes[disk]);
    }
}

static void keep_version(struct far_rig *r, uint8_t *version[RIG_DISKS])
{
    for (size_t i = 0; i < RIG_DISKS; i++) {
        version[i] = malloc(room(i));
        memcpy(version[i], r->now[i], room(i));
    }
}

static void change_and_lose_power(struct far_rig *r, uint64_t seed)
{
    struct err err = ERR_NONE;
    uint8_t *versions[6][RIG_DISKS];
    size_t count = 0;
    for (unsigned i = 0; i < 4; i++)
        change(r, FAKE_SECTOR);
    check_ok(source_sync(r->rig->source, &err), err);
    keep_version(r, versions[count++]);
    for (unsigned i = 0; i < 5; i++) {
        change(r, FAKE_SECTOR);
        keep_version(r, versions[count++]);
    }
    rig_power_cut(r->rig, seed);
    rig_open_source(r->rig);
    check_after_cut(r, versions, count);
    for (size_t i = 0; i < count; i++)
        for (size_t disk = 0; disk < RIG_DISKS; disk++)
            free(versions[i][disk]);
}

static void what_was_synced_outlives_a_power_cut(void **state)
{
    struct far_rig *r = *state;
    for (uint64_t seed = 1; seed <= 25; seed++)
        change_and_lose_power(r, seed);
}

/* The record may lag behind the data, and must never run ahead of it: also when the power goes in
 * the middle of a sync. */
static void no_moment_of_a_sync_records_what_is_not_there(void **state)
{
    struct far_rig *r = *state;
    for (uint64_t nth = 1; nth <= 12; nth++) {
        struct err err = ERR_NONE;
        uint8_t *versions[2][RIG_DISKS];
        keep_version(r, versions[0]);
        change(r, FAKE_SECTOR);
        keep_version(r, versions[1]);
        fake_world_fail(r->rig->world, FAKE_ANY, nth, 5, true);
        if (source_sync(r->rig->source, &err))
            fake_world_fail(r->rig->world, FAKE_ANY, 0, 0, false);
        rig_power_cut(r->rig, nth);
        rig_open_source(r->rig);
        check_after_cut(r, versions, 2);
        for (size_t disk = 0; disk < RIG_DISKS; disk++) {
            free(versions[0][disk]);
            free(versions[1][disk]);
        }
    }
}

/* Looks at what is there, and begins anew with empty files and records. */
static void begin_anew(struct far_rig *r, uint8_t *versions[2][RIG_DISKS])
{
    struct err err = ERR_NONE;
    rig_open_source(r->rig);
    check_after_cut(r, versions, 2);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        check_ok(source_zero(r->rig->source, i, 0, rig_disk_bytes[i], &err), err);
        free(versions[1][i]);
        memcpy(r->now[i], versions[0][i], room(i));
    }
    check_ok(source_sync(r->rig->source, &err), err);
    rig_reboot(r->rig);
    rig_lay_over(r->rig, &r->far.origin);
    rig_open_source(r->rig);
}

static void *write_each_block(void *context)
{
    struct far_rig *r = context;
    for (uint64_t b = 0; b < blocks_of_bytes(rig_disk_bytes[0]); b++) {
        struct err err = ERR_NONE;
        struct span data = span_of(r->now[0] + b * BLOCK_BYTES, BLOCK_BYTES);
        if (!source_write(r->rig->source, 0, b * BLOCK_BYTES, data, &err))
            return context;
    }
    return NULL;
}

/* A bit that is set while a sync runs waits for the next one. */
static void a_sync_under_writes_records_no_block_without_its_data(void **state)
{
    struct far_rig *r = *state;
    uint8_t *versions[2][RIG_DISKS];
    keep_version(r, versions[0]);
    for (uint64_t seed = 1; seed <= 15; seed++) {
        struct err err = ERR_NONE;
        pthread_t writer;
        void *failed;
        specimen_noise(r->now[0], rig_disk_bytes[0], seed);
        keep_version(r, versions[1]);
        assert_int_equal(pthread_create(&writer, NULL, write_each_block, r), 0);
        for (unsigned i = 0; i < 20; i++)
            check_ok(source_flush(r->rig->source, 0, &err), err);
        pthread_join(writer, &failed);
        assert_null(failed);
        rig_power_cut(r->rig, seed);
        begin_anew(r, versions);
    }
    for (size_t disk = 0; disk < RIG_DISKS; disk++)
        free(versions[0][disk]);
}

/* --- moments inside a call --- */

static void write_block_seven(void *context)
{
    struct far_rig *r = context;
    struct err err = ERR_NONE;
    uint8_t *at = r->now[0] + 7 * BLOCK_BYTES;
    specimen_noise(at, BLOCK_BYTES, 4711);
    check_ok(source_write(r->rig->source, 0, 7 * BLOCK_BYTES, span_of(at, BLOCK_BYTES), &err), err);
}

static void a_block_written_behind_a_sync_of_the_data_is_not_recorded_by_it(void **state)
{
    struct far_rig *r = *state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct err err = ERR_NONE;
        uint8_t *versions[2][RIG_DISKS];
        keep_version(r, versions[0]);
        rig_write(r->rig, 0, 2, 1, 0x11);
        memset(versions[0][0] + 2 * BLOCK_BYTES, 0x11, BLOCK_BYTES);
        memcpy(r->now[0], versions[0][0], room(0));
        moment_begin(r->rig->world, MOMENT_AFTER_SYNC, rig_disk_path(0), write_block_seven, r);
        check_ok(source_flush(r->rig->source, 0, &err), err);
        moment_end();
        keep_version(r, versions[1]);
        rig_power_cut(r->rig, seed);
        begin_anew(r, versions);
        for (size_t disk = 0; disk < RIG_DISKS; disk++) {
            memcpy(r->now[disk], r->far.bytes[disk], room(disk));
            free(versions[0][disk]);
        }
    }
}

static void flush_disk(void *context)
{
    struct far_rig *r = context;
    struct err err = ERR_NONE;
    check_ok(source_flush(r->rig->source, 0, &err), err);
}

static void a_sync_before_the_data_is_there_records_nothing_of_it(void **state)
{
    struct far_rig *r = *state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint8_t *versions[2][RIG_DISKS];
        keep_version(r, versions[0]);
        moment_begin(r->rig->world, MOMENT_BEFORE_WRITE, rig_disk_path(0), flush_disk, r);
        write_block_seven(r);
        moment_end();
        keep_version(r, versions[1]);
        rig_power_cut(r->rig, seed);
        begin_anew(r, versions);
        for (size_t disk = 0; disk < RIG_DISKS; disk++)
            free(versions[0][disk]);
    }
}

static void hydration_looks_again_at_what_it_has_fetched(void **state)
{
    struct far_rig *r = *state;
    r->far.context = r;
    r->far.act = write_block_seven;
    hydrate_all(r->rig);
    assert_null(r->far.act);
    check_shows(r->rig, r->now);
}

static _Atomic bool wrote;
static pthread_t writer_of_seven;

static void *write_seven(void *context)
{
    write_block_seven(context);
    wrote = true;
    return NULL;
}

/* Hydration is about to write: a guest that writes now must wait for it. What must not happen has
 * some time to happen. */
static void let_a_guest_write(void *context)
{
    const struct timespec step = {.tv_nsec = 1000000};
    wrote = false;
    assert_int_equal(pthread_create(&writer_of_seven, NULL, write_seven, context), 0);
    for (unsigned i = 0; i < 100 && !wrote; i++)
        nanosleep(&step, NULL);
}

static void hydration_never_overwrites_a_write_that_came_after_its_look(void **state)
{
    struct far_rig *r = *state;
    /* All but the run of blocks with block 7 is there, so that the moment is that run's. */
    for (uint64_t b = 40; b < blocks_of_bytes(rig_disk_bytes[0]); b++) {
        rig_write(r->rig, 0, b, 1, 1);
        memset(r->now[0] + b * BLOCK_BYTES, 1, BLOCK_BYTES);
    }
    moment_begin(r->rig->world, MOMENT_BEFORE_WRITE, rig_disk_path(0), let_a_guest_write, r);
    hydrate_all(r->rig);
    pthread_join(writer_of_seven, NULL);
    moment_end();
    check_shows(r->rig, r->now);
}

/* What the power cut left of writes that nobody acknowledged does not come to light later. */
static void hydration_after_a_power_cut_changes_nothing_that_was_read(void **state)
{
    struct far_rig *r = *state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        change_and_lose_power(r, seed);
    hydrate_all(r->rig);
    check_shows(r->rig, r->now);
    reopen_whole(r->rig);
    check_shows(r->rig, r->now);
}

/* --- hydration --- */

static void hydration_makes_the_disk_whole_and_nothing_dirty(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    for (unsigned i = 0; i < 10; i++)
        change(r, 1);
    uint64_t dirty = source_dirty_blocks(r->rig->source);
    hydrate_all(r->rig);
    assert_int_equal(source_dirty_blocks(r->rig->source), dirty);
    r->far.away = true;
    check_shows(r->rig, r->now);
    check_ok(source_write(r->rig->source, 1, 5, span_of(r->now[1] + 5, 3), &err), err);
    reopen_whole(r->rig);
    check_shows(r->rig, r->now);
}

/* Written without an origin no bit is set: settings that name it again must find the record whole.
 */
static void a_disk_that_was_whole_is_so_after_a_power_cut(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    hydrate_all(r->rig);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        reopen_whole(r->rig);
        change(r, 1);
        check_ok(source_sync(r->rig->source, &err), err);
        rig_power_cut(r->rig, seed);
        r->rig->origin = &r->far.origin;
        rig_open_source(r->rig);
        check_shows(r->rig, r->now);
    }
}

/* Both processes were killed between the record and its sync, or the sync failed. */
static void bits_that_were_written_and_not_synced_are_recorded_by_the_next_mount(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        rig_write(r->rig, 0, 7, 1, (uint8_t)seed);
        memset(r->now[0] + 7 * BLOCK_BYTES, (int)seed, BLOCK_BYTES);
        fake_world_fail(r->rig->world, FAKE_SYNC, 2, EIO, false); /* the data's is the first */
        check_fails(source_flush(r->rig->source, 0, &err), err, ERR_IO);
        rig_reboot(r->rig);
        rig_open_source(r->rig);
        check_shows(r->rig, r->now);
        check_ok(source_flush(r->rig->source, 0, &err), err);
        rig_power_cut(r->rig, seed);
        rig_open_source(r->rig);
        check_shows(r->rig, r->now);
        rig_reboot(r->rig);
        rig_lay_over(r->rig, &r->far.origin); /* anew */
        rig_open_source(r->rig);
        memcpy(r->now[0], r->far.bytes[0], room(0));
    }
}

static void what_hydration_said_is_whole_outlives_a_power_cut(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    change(r, 1);
    check_ok(source_sync(r->rig->source, &err), err);
    hydrate_all(r->rig);
    rig_power_cut(r->rig, 3);
    r->rig->origin = NULL;
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
}

/* One disk is copied long before the last is, and its settings name the origin until then: a mount
 * that ends in between asks the record again, which must know of holes that were written. */
static void what_is_written_to_a_disk_that_is_whole_outlives_the_mount(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    hydrate_all(r->rig);
    for (size_t i = 0; i < RIG_DISKS; i++)
        for (uint64_t b = 30; b < 60; b++) /* data, then a hole */
            change_at(r, i, b * BLOCK_BYTES + 100, 3000);
    check_ok(source_sync(r->rig->source, &err), err);
    rig_reboot(r->rig);
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
    hydrate_all(r->rig);
    check_shows(r->rig, r->now);
    rig_power_cut(r->rig, 8);
    rig_open_source(r->rig);
    check_shows(r->rig, r->now);
}

/* Settings saved by somebody who had read them before hydration ended name the origin again. */
static void an_origin_that_comes_back_hides_nothing(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    const struct origin *origin = r->rig->origin;
    hydrate_all(r->rig);
    reopen_whole(r->rig); /* sets no bits */
    for (unsigned i = 0; i < 40; i++)
        change(r, 1);
    check_ok(source_sync(r->rig->source, &err), err);
    rig_reboot(r->rig);
    r->rig->origin = origin;
    rig_open_source(r->rig);
    r->far.away = true;
    check_shows(r->rig, r->now);
    hydrate_all(r->rig);
}

/* The power goes at each sync that ends it; the record says whole only of what is. */
static void no_moment_of_the_end_of_hydration_loses_what_was_read(void **state)
{
    struct far_rig *r = *state;
    struct hydrate_status status = {.complete = false};
    uint64_t nth = 0;
    while (!status.complete) {
        struct err err = ERR_NONE;
        struct hydrate *h = NULL;
        sem_t done;
        sem_init(&done, 0, 0);
        fake_world_fail(r->rig->world, FAKE_SYNC, ++nth, 5, true);
        check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
        wait_complete_or_stalled(h, &status);
        hydrate_stop(&h);
        assert_int_equal(sem_trywait(&done) == 0, status.complete);
        sem_destroy(&done);
        rig_power_cut(r->rig, nth);
        rig_open_source(r->rig);
        check_shows(r->rig, r->now);
    }
    assert_true(nth > 3); /* of the first disk alone: data, bits, whole */
}

static void hydration_leaves_holes_and_reads_none(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    uint64_t start, end, blocks = blocks_of_bytes(rig_disk_bytes[0]);
    bool found;
    hydrate_all(r->rig);
    reopen_whole(r->rig);
    for (uint64_t b = 0; b < blocks; b = end >> BLOCK_SHIFT) {
        check_ok(source_next_data(r->rig->source, 0, b << BLOCK_SHIFT, &start, &end, &found, &err),
                 err);
        if (!found)
            break;
        for (uint64_t at = start >> BLOCK_SHIFT; at < end >> BLOCK_SHIFT; at++)
            assert_false(far_hole(at));
    }
    assert_true(r->far.reads < 40);
}

static void hydration_goes_on_where_a_dead_worker_left_it(void **state)
{
    struct far_rig *r = *state;
    for (unsigned i = 0; i < 6; i++) {
        struct err err = ERR_NONE;
        struct hydrate *h = NULL;
        sem_t done;
        sem_init(&done, 0, 0);
        check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
        change(r, 1);
        hydrate_stop(&h);
        rig_kill(r->rig);
        rig_open_source(r->rig);
        sem_destroy(&done);
        check_shows(r->rig, r->now);
    }
    hydrate_all(r->rig);
    check_shows(r->rig, r->now);
}

static bool says_why(struct hydrate *h)
{
    struct hydrate_status status;
    hydrate_status(h, &status);
    return strstr(status.reason, "the store is away") != NULL;
}

static void hydration_waits_for_a_store_and_says_why(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    const struct timespec step = {.tv_nsec = 1000000};
    struct hydrate_status status;
    sem_t done;
    sem_init(&done, 0, 0);
    r->far.away = true;
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
    for (unsigned i = 0; i < 20000 && !says_why(h); i++)
        nanosleep(&step, NULL);
    assert_true(says_why(h));
    r->far.away = false;
    wait_posted(&done);
    hydrate_status(h, &status);
    assert_string_equal(status.reason, "");
    check_shows(r->rig, r->now);
    sem_destroy(&done);
}

static void one_unreadable_block_keeps_the_origin_and_the_rest_is_copied(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    const struct timespec step = {.tv_nsec = 1000000};
    struct hydrate_status status = {.complete = false};
    uint8_t block[BLOCK_BYTES];
    sem_t done;
    sem_init(&done, 0, 0);
    r->far.bad = 5;
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
    for (unsigned i = 0; i < 20000 && status.reason[0] == '\0'; i++) {
        nanosleep(&step, NULL);
        hydrate_status(h, &status);
    }
    assert_int_equal(status.unreadable_blocks, 1);
    assert_false(status.complete);
    assert_int_not_equal(sem_trywait(&done), 0);
    r->far.away = true;
    check_fails(source_read(r->rig->source, 0, 5 * BLOCK_BYTES, mspan_of(block, 1), &err), err,
                ERR_IO);
    for (uint64_t b = 0; b < blocks_of_bytes(rig_disk_bytes[0]); b++) {
        if (b == 5 || far_hole(b))
            continue;
        check_ok(
            source_read(r->rig->source, 0, b * BLOCK_BYTES, mspan_of(block, sizeof block), &err),
            err);
        assert_memory_equal(block, r->now[0] + b * BLOCK_BYTES, sizeof block);
    }
    sem_destroy(&done);
}

/* A clean stop records how the files look: a copy that comes after it would make all be compared.
 */
static void quiet_hydration_writes_nothing_and_waits_for_no_store(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    const struct timespec step = {.tv_nsec = 1000000};
    sem_t done, hang;
    sem_init(&done, 0, 0);
    sem_init(&hang, 0, 0);
    r->far.hang = &hang;
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
    for (unsigned i = 0; i < 20000 && r->far.reads < HYDRATE_THREADS; i++)
        nanosleep(&step, NULL);
    hydrate_quiet(h);
    uint64_t writes = fake_world_calls(r->rig->world, FAKE_PWRITE);
    for (unsigned i = 0; i < 1000; i++)
        sem_post(&hang);
    hydrate_stop(&h);
    assert_int_equal(fake_world_calls(r->rig->world, FAKE_PWRITE), writes);
    assert_int_not_equal(sem_trywait(&done), 0);
    r->far.hang = NULL;
    check_shows(r->rig, r->now);
    sem_destroy(&hang);
    sem_destroy(&done);
}

struct quieting {
    struct hydrate *hydrate;
    pthread_t thread;
    _Atomic bool done;
    bool early;
};

static void *make_quiet(void *context)
{
    struct quieting *q = context;
    hydrate_quiet(q->hydrate);
    q->done = true;
    return NULL;
}

/* Hydration is about to write. What must not happen has some time to happen. */
static void ask_for_quiet(void *context)
{
    struct quieting *q = context;
    const struct timespec step = {.tv_nsec = 1000000};
    if (pthread_create(&q->thread, NULL, make_quiet, q) != 0)
        abort();
    for (unsigned i = 0; i < 100 && !q->done; i++)
        nanosleep(&step, NULL);
    q->early = q->done;
}

static void hydration_is_quiet_when_its_last_write_has_ended(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct quieting q = {.done = false};
    sem_t done, hang;
    sem_init(&done, 0, 0);
    sem_init(&hang, 0, 0);
    r->far.hang = &hang; /* until the moment can know of it */
    moment_begin(r->rig->world, MOMENT_BEFORE_WRITE, rig_disk_path(0), ask_for_quiet, &q);
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &q.hydrate, &err), err);
    for (unsigned i = 0; i < 1000; i++)
        sem_post(&hang);
    while (!moment_came())
        sched_yield();
    pthread_join(q.thread, NULL);
    hydrate_stop(&q.hydrate);
    moment_end();
    assert_false(q.early);
    r->far.hang = NULL;
    check_shows(r->rig, r->now);
    sem_destroy(&hang);
    sem_destroy(&done);
}

struct guest {
    struct far_rig *rig;
    size_t disk;
    uint64_t random;
    bool failed;
};

/* Writes, zeroes and reads its own disk, and looks whether each shows. */
static void *guest(void *context)
{
    struct guest *g = context;
    struct source *s = g->rig->rig->source;
    uint8_t *now = g->rig->now[g->disk];
    static _Thread_local uint8_t got[20000];
    for (unsigned i = 0; i < 400; i++) {
        struct err err = ERR_NONE;
        uint64_t length = 1 + specimen_below(&g->random, sizeof got);
        uint64_t offset = specimen_below(&g->random, rig_disk_bytes[g->disk] - length);
        if (i % 5 == 0) {
            memset(now + offset, 0, length);
            g->failed |= !source_zero(s, g->disk, offset, length, &err);
        } else {
            specimen_noise(now + offset, length, specimen_random(&g->random));
            g->failed |= !source_write(s, g->disk, offset, span_of(now + offset, length), &err);
        }
        offset = specimen_below(&g->random, rig_disk_bytes[g->disk] - length);
        g->failed |= !source_read(s, g->disk, offset, mspan_of(got, length), &err) ||
                     memcmp(got, now + offset, length) != 0;
        if (i % 50 == 0)
            g->failed |= !source_flush(s, g->disk, &err);
    }
    return NULL;
}

static void a_guests_writes_win_over_hydration_of_the_same_blocks(void **state)
{
    struct far_rig *r = *state;
    struct err err = ERR_NONE;
    struct hydrate *h CLEANUP(hydrate_stop) = NULL;
    struct guest guests[RIG_DISKS];
    fake_world_short_transfers(r->rig->world, true); /* a chunk goes in bit by bit */
    pthread_t threads[RIG_DISKS];
    sem_t done;
    sem_init(&done, 0, 0);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        guests[i] = (struct guest){.rig = r, .disk = i, .random = i + 77};
        assert_int_equal(pthread_create(&threads[i], NULL, guest, &guests[i]), 0);
    }
    check_ok(hydrate_start(r->rig->source, hydrated, &done, &h, &err), err);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(guests[i].failed);
    }
    wait_posted(&done);
    hydrate_stop(&h);
    check_shows(r->rig, r->now);
    check_ok(source_sync(r->rig->source, &err), err);
    reopen_whole(r->rig);
    check_shows(r->rig, r->now);
    sem_destroy(&done);
}

#define property(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        property(the_disk_shows_its_origin_where_nothing_was_written),
        property(no_death_of_a_worker_forgets_a_write),
        property(a_record_that_was_half_taken_in_is_taken_in_anew),
        property(a_discarded_block_is_present_and_zero),
        property(data_is_where_the_file_or_the_origin_has_some),
        property(a_cut_ships_what_the_origin_has),
        property(a_record_of_another_point_is_refused),
        property(what_is_present_needs_no_origin),
        property(half_a_block_out_of_reach_is_not_written),
        property(who_waits_for_the_origin_a_sync_or_for_one_who_does_tells),
        property(a_sync_without_room_for_the_record_fails_and_the_next_one_makes_up_for_it),
        property(a_sync_of_the_data_that_fails_for_want_of_room_stays_failed),
        property(hydration_without_room_waits_for_some_and_then_is_complete),
        property(what_was_synced_outlives_a_power_cut),
        property(no_moment_of_a_sync_records_what_is_not_there),
        property(a_sync_under_writes_records_no_block_without_its_data),
        property(a_block_written_behind_a_sync_of_the_data_is_not_recorded_by_it),
        property(a_sync_before_the_data_is_there_records_nothing_of_it),
        property(hydration_looks_again_at_what_it_has_fetched),
        property(hydration_never_overwrites_a_write_that_came_after_its_look),
        property(hydration_after_a_power_cut_changes_nothing_that_was_read),
        property(hydration_makes_the_disk_whole_and_nothing_dirty),
        property(a_disk_that_was_whole_is_so_after_a_power_cut),
        property(bits_that_were_written_and_not_synced_are_recorded_by_the_next_mount),
        property(what_hydration_said_is_whole_outlives_a_power_cut),
        property(what_is_written_to_a_disk_that_is_whole_outlives_the_mount),
        property(an_origin_that_comes_back_hides_nothing),
        property(no_moment_of_the_end_of_hydration_loses_what_was_read),
        property(hydration_leaves_holes_and_reads_none),
        property(hydration_goes_on_where_a_dead_worker_left_it),
        property(hydration_waits_for_a_store_and_says_why),
        property(one_unreadable_block_keeps_the_origin_and_the_rest_is_copied),
        property(quiet_hydration_writes_nothing_and_waits_for_no_store),
        property(hydration_is_quiet_when_its_last_write_has_ended),
        property(a_guests_writes_win_over_hydration_of_the_same_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
