/* SPDX-License-Identifier: MIT
 * The overlay over a stand-in for a view (below), whose bytes follow from their place alone: what
 * the overlay must show is then known without a vault. */
#include "fs/view/overlay.h"

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/moment.h"
#include "tests/support/specimen.h"
#include "tests/support/tmp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

/* --- a stand-in for fs/view/view.c: one disk, data where (block / 4) is odd, holes elsewhere ---
 */

struct view {
    struct epoch_disk disk;
    uint64_t reads;
    bool broken;
};

static uint8_t base_byte(uint64_t at)
{
    return at / BLOCK_BYTES / 4 % 2 ? (uint8_t)(1 + at % 251) : 0;
}

const struct epoch_disk *view_disk(const struct view *v, size_t index)
{
    assert_int_equal(index, 0);
    return &v->disk;
}

bool view_read(struct view *v, size_t disk, uint64_t offset, struct mspan out, struct err *err)
{
    assert_int_equal(disk, 0);
    assert_true(offset + out.length <= v->disk.size_bytes);
    if (v->broken)
        return err_set(err, ERR_TRANSIENT, "the store is away");
    v->reads++;
    for (size_t i = 0; i < out.length; i++)
        out.data[i] = base_byte(offset + i);
    return true;
}

bool view_next_data(struct view *v, size_t disk, uint64_t from, struct extent *out, bool *found,
                    struct err *err)
{
    uint64_t blocks = blocks_of_bytes(v->disk.size_bytes);
    (void)disk, (void)err;
    while (from < blocks && from / 4 % 2 == 0)
        from++;
    *found = from < blocks;
    *out = (struct extent){.first = from, .count = 0};
    while (extent_end(*out) < blocks && extent_end(*out) / 4 % 2)
        out->count++;
    return true;
}

/* --- the model: what the disk must show --- */

#define DISK_BYTES (300u * BLOCK_BYTES + 1536u) /* ends within a block */

struct fixture {
    struct tmp_dir dir;
    struct world *world;
    struct view view;
    struct overlay_point point;
    struct overlay *overlay;
    uint8_t *model;
};

static struct overlay_point some_point(void)
{
    struct overlay_point point = {.generation_id = 77, .epoch = 12};
    memcpy(point.vm, specimen_vm, sizeof point.vm);
    return point;
}

static struct view some_view(uint64_t bytes)
{
    struct view view = {.disk = {.disk = 3, .size_bytes = bytes}};
    strcpy(view.disk.name, "root");
    return view;
}

static void reopen(struct fixture *f)
{
    struct err err = ERR_NONE;
    overlay_close(&f->overlay);
    check_ok(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &f->overlay, &err), err);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;
    tmp_dir_make(&f->dir);
    f->world = world_real();
    f->view = some_view(DISK_BYTES);
    f->point = some_point();
    f->model = malloc(DISK_BYTES);
    for (uint64_t i = 0; i < DISK_BYTES; i++)
        f->model[i] = base_byte(i);
    check_ok(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &f->overlay, &err), err);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    overlay_close(&f->overlay);
    tmp_dir_remove(&f->dir);
    free(f->model);
    free(f);
    return 0;
}

static void write_both(struct fixture *f, uint64_t offset, size_t length, uint8_t value)
{
    struct err err = ERR_NONE;
    memset(f->model + offset, value, length);
    check_ok(overlay_write(f->overlay, offset, span_of(f->model + offset, length), &err), err);
}

static void zero_both(struct fixture *f, uint64_t offset, size_t length)
{
    struct err err = ERR_NONE;
    memset(f->model + offset, 0, length);
    check_ok(overlay_zero(f->overlay, offset, length, &err), err);
}

static void check_shows_model(struct fixture *f)
{
    struct err err = ERR_NONE;
    uint8_t *seen AUTO_FREE = malloc(DISK_BYTES);
    check_ok(overlay_read(f->overlay, 0, mspan_of(seen, DISK_BYTES), &err), err);
    assert_memory_equal(seen, f->model, DISK_BYTES);
}

static void flush(struct fixture *f)
{
    struct err err = ERR_NONE;
    check_ok(overlay_flush(f->overlay, &err), err);
}

/* --- properties --- */

static void without_writes_it_shows_the_view(void **state)
{
    check_shows_model(*state);
}

static void what_was_written_is_read_and_the_rest_is_the_views(void **state)
{
    struct fixture *f = *state;
    write_both(f, 5 * BLOCK_BYTES, 2 * BLOCK_BYTES, 0xaa);
    check_shows_model(f);
    flush(f);
    check_shows_model(f);
}

static void a_part_of_a_block_is_completed_from_the_view(void **state)
{
    struct fixture *f = *state;
    write_both(f, 5 * BLOCK_BYTES + 100, 7, 0xaa);                  /* inside one block */
    write_both(f, 12 * BLOCK_BYTES + 4000, 2 * BLOCK_BYTES, 0xbb);  /* both edges */
    write_both(f, 20 * BLOCK_BYTES, 512, 0xcc);                     /* from the start */
    write_both(f, 23 * BLOCK_BYTES + 512, BLOCK_BYTES - 512, 0xdd); /* to the end */
    check_shows_model(f);
    reopen(f);
    check_shows_model(f);
}

static void a_part_of_a_present_block_keeps_what_was_written_before(void **state)
{
    struct fixture *f = *state;
    write_both(f, 5 * BLOCK_BYTES, BLOCK_BYTES, 0xaa);
    write_both(f, 5 * BLOCK_BYTES + 512, 512, 0xbb);
    zero_both(f, 5 * BLOCK_BYTES + 2048, 100);
    check_shows_model(f);
}

static void the_last_part_of_a_block_can_be_written(void **state)
{
    struct fixture *f = *state;
    write_both(f, DISK_BYTES - 10, 10, 0xaa);
    check_shows_model(f);
    reopen(f);
    check_shows_model(f);
}

static void what_was_zeroed_is_zero_and_never_the_views_again(void **state)
{
    struct fixture *f = *state;
    zero_both(f, 4 * BLOCK_BYTES, 4 * BLOCK_BYTES);
    zero_both(f, 13 * BLOCK_BYTES + 10, 2 * BLOCK_BYTES); /* unaligned */
    check_shows_model(f);
    reopen(f);
    check_shows_model(f);
}

static void it_is_there_after_it_was_closed(void **state)
{
    struct fixture *f = *state;
    write_both(f, 0, 30 * BLOCK_BYTES, 0xaa);
    zero_both(f, 3 * BLOCK_BYTES, 5 * BLOCK_BYTES);
    reopen(f);
    check_shows_model(f);
}

static void random_changes_show_as_in_a_plain_array(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 42;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t offset = specimen_below(&seed, DISK_BYTES);
        size_t length = 1 + (size_t)specimen_below(&seed, 5 * BLOCK_BYTES);
        if (length > DISK_BYTES - offset)
            length = DISK_BYTES - offset;
        switch (specimen_below(&seed, 20)) {
        case 0:
            reopen(f);
            break;
        case 1:
            flush(f);
            break;
        case 2:
        case 3:
        case 4:
            zero_both(f, offset, length);
            break;
        default:
            write_both(f, offset, length, (uint8_t)(i + 1));
        }
        if (i % 20 == 0)
            check_shows_model(f);
    }
    check_shows_model(f);
}

static void whole_blocks_are_written_without_asking_the_view(void **state)
{
    struct fixture *f = *state;
    f->view.broken = true;
    write_both(f, 5 * BLOCK_BYTES, 3 * BLOCK_BYTES, 0xaa);
    uint8_t seen[BLOCK_BYTES];
    struct err err = ERR_NONE;
    check_ok(overlay_read(f->overlay, 6 * BLOCK_BYTES, mspan_of(seen, sizeof seen), &err), err);
    assert_int_equal(seen[0], 0xaa);
}

static void a_part_of_a_block_is_refused_while_the_view_is_away(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint8_t byte = 1;
    f->view.broken = true;
    check_fails(overlay_write(f->overlay, 5, span_of(&byte, 1), &err), err, ERR_TRANSIENT);
    f->view.broken = false;
    check_shows_model(f);
}

static void a_second_opener_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct overlay *second = NULL;
    check_fails(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &second, &err), err,
                ERR_BUSY);
    check_says(err, "in use");
}

static void an_overlay_of_another_point_disk_or_vm_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct overlay *o = NULL;
    overlay_close(&f->overlay);
    for (unsigned i = 0; i < 5; i++) {
        struct overlay_point point = f->point;
        struct view view = f->view;
        point.epoch += i == 0;
        point.generation_id += i == 1;
        point.vm[0] ^= i == 2;
        view.disk.disk = (uint16_t)(view.disk.disk + (i == 3));
        view.disk.size_bytes += i == 4 ? BLOCK_BYTES : 0;
        check_fails(overlay_open(f->world, f->dir.path, &point, &view, 0, &o, &err), err,
                    ERR_CORRUPT);
        check_says(err, "another");
    }
}

static void damage_file(struct fixture *f, const char *name, uint64_t offset)
{
    struct world_file *file AUTO_FILE = NULL;
    struct err err = ERR_NONE;
    uint8_t byte;
    check_ok(file_open(f->world, tmp_dir_path(&f->dir, name), O_RDWR, 0, &file, &err), err);
    check_ok(file_read(file, mspan_of(&byte, 1), offset, &err), err);
    byte ^= 0x10;
    check_ok(file_write(file, span_of(&byte, 1), offset, &err), err);
}

static void a_damaged_record_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    overlay_close(&f->overlay);
    for (uint64_t offset = 0; offset < 96; offset++) {
        damage_file(f, "root.map", offset);
        check_fails(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &f->overlay, &err),
                    err, ERR_CORRUPT);
        damage_file(f, "root.map", offset);
    }
    reopen(f);
}

static void data_without_its_record_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    write_both(f, 0, BLOCK_BYTES, 0xaa);
    overlay_close(&f->overlay);
    check_ok(file_remove(f->world, tmp_dir_path(&f->dir, "root.map"), &err), err);
    check_fails(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &f->overlay, &err), err,
                ERR_CORRUPT);
    check_says(err, "root.map");
}

static void a_record_without_its_data_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    write_both(f, 0, BLOCK_BYTES, 0xaa);
    overlay_close(&f->overlay);
    check_ok(file_remove(f->world, tmp_dir_path(&f->dir, "root.data"), &err), err);
    check_fails(overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &f->overlay, &err), err,
                ERR_CORRUPT);
    check_says(err, "root.data");
}

static void whether_one_exists_is_known_without_making_it(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    bool exists;
    check_ok(overlay_exists(f->world, f->dir.path, "other", &exists, &err), err);
    assert_false(exists);
    check_ok(overlay_exists(f->world, f->dir.path, "root", &exists, &err), err);
    assert_true(exists);
}

static void its_data_is_where_the_model_is_not_zero(void **state)
{
    struct fixture *f = *state;
    write_both(f, 1 * BLOCK_BYTES, BLOCK_BYTES, 0xaa);      /* data in the view's hole */
    zero_both(f, 5 * BLOCK_BYTES, 2 * BLOCK_BYTES);         /* a hole in the view's data */
    write_both(f, 11 * BLOCK_BYTES, 2 * BLOCK_BYTES, 0xbb); /* over an edge */
    zero_both(f, 260 * BLOCK_BYTES, DISK_BYTES - 260 * BLOCK_BYTES);
    uint64_t blocks = blocks_of_bytes(DISK_BYTES), at = 0;
    bool *data AUTO_FREE = calloc(blocks, sizeof *data);
    for (;;) {
        struct extent extent;
        bool found;
        struct err err = ERR_NONE;
        check_ok(overlay_next_data(f->overlay, at, &extent, &found, &err), err);
        if (!found)
            break;
        assert_true(extent.count > 0 && extent.first >= at && extent_end(extent) <= blocks);
        for (at = extent.first; at < extent_end(extent); at++)
            data[at] = true;
    }
    for (uint64_t i = 0; i < blocks; i++)
        assert_int_equal(data[i], f->model[i * BLOCK_BYTES] != 0);
}

static void a_huge_disk_costs_what_is_written_on_it(void **state)
{
    struct fixture *f = *state;
    struct view view = some_view(1ull << 43); /* 8 TiB */
    struct overlay *o = NULL;
    struct err err = ERR_NONE;
    struct world_stat stat;
    struct world_file *map AUTO_FILE = NULL;
    uint8_t byte = 0xaa, seen = 0;
    uint64_t last = view.disk.size_bytes - 1;
    strcpy(view.disk.name, "huge");
    for (unsigned i = 0; i < 2; i++) {
        check_ok(overlay_open(f->world, f->dir.path, &f->point, &view, 0, &o, &err), err);
        if (i == 0)
            check_ok(overlay_write(o, last, span_of(&byte, 1), &err), err);
        check_ok(overlay_read(o, last, mspan_of(&seen, 1), &err), err);
        assert_int_equal(seen, byte);
        overlay_close(&o);
    }
    check_ok(file_open(f->world, tmp_dir_path(&f->dir, "huge.map"), O_RDONLY, 0, &map, &err), err);
    assert_int_equal(map->world->ops->stat(map, &stat), 0);
    assert_true(stat.allocated <= 64u << 10);
}

/* --- several threads --- */

#define THREADS      4
#define OWN_BYTES    512u
#define SHARED_BLOCK 40u

struct writer {
    struct fixture *fixture;
    unsigned number;
};

/* Each thread owns every fourth 512 bytes of the same blocks: completing a block must never undo
 * what another has written there. */
static void *write_own_parts(void *context)
{
    struct writer *w = context;
    uint8_t bytes[OWN_BYTES];
    struct err err = ERR_NONE;
    memset(bytes, (int)(0xc0 + w->number), sizeof bytes);
    for (uint64_t part = w->number; part < 64 * BLOCK_BYTES / OWN_BYTES; part += THREADS) {
        uint64_t at = SHARED_BLOCK * BLOCK_BYTES + part * OWN_BYTES;
        if (!overlay_write(w->fixture->overlay, at, span_of(bytes, sizeof bytes), &err))
            return "write failed";
        if (part % 32 == 0 && !overlay_flush(w->fixture->overlay, &err))
            return "flush failed";
    }
    return NULL;
}

static void writers_of_parts_of_one_block_keep_each_others_bytes(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.fixture = f, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_own_parts, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    for (uint64_t part = 0; part < 64 * BLOCK_BYTES / OWN_BYTES; part++)
        memset(f->model + SHARED_BLOCK * BLOCK_BYTES + part * OWN_BYTES,
               (int)(0xc0 + part % THREADS), OWN_BYTES);
    check_shows_model(f);
    reopen(f);
    check_shows_model(f);
}

/* --- kills and power cuts --- */

static void what_was_flushed_survives_a_kill(void **state)
{
    struct fixture *f = *state;
    overlay_close(&f->overlay);
    memset(f->model + 9 * BLOCK_BYTES + 512, 0xaa, 512);
    pid_t pid = fork();
    if (pid == 0) {
        struct err err = ERR_NONE;
        struct span data = span_of(f->model + 9 * BLOCK_BYTES + 512, 512);
        struct overlay *o = NULL;
        bool ok = overlay_open(f->world, f->dir.path, &f->point, &f->view, 0, &o, &err) &&
                  overlay_write(o, 9 * BLOCK_BYTES + 512, data, &err) && overlay_flush(o, &err);
        _exit(ok ? 0 : 1); /* without overlay_close: as a kill */
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    reopen(f);
    check_shows_model(f);
}

#define CUT_DISK_BYTES (70u * BLOCK_BYTES + 1536u)
#define CUT_SECTORS    (CUT_DISK_BYTES / FAKE_SECTOR)
#define OF_VIEW        255u /* the sector is as the view has it; else all its bytes are this */

/* What each sector may show after a cut: as it was when last flushed, or as any write since. */
struct cut_model {
    struct world *world;
    struct view view;
    struct overlay_point point;
    struct overlay *overlay;
    uint64_t seed;
    uint8_t now[CUT_SECTORS];
    bool may[CUT_SECTORS][256];
    bool dead; /* calls fail: the power is going */
};

static bool sector_is(uint64_t sector, const uint8_t *bytes, unsigned code)
{
    for (uint64_t i = 0; i < FAKE_SECTOR; i++) {
        uint8_t wanted = code == OF_VIEW ? base_byte(sector * FAKE_SECTOR + i) : (uint8_t)code;
        if (bytes[i] != wanted)
            return false;
    }
    return true;
}

static void settle(struct cut_model *m)
{
    memset(m->may, 0, sizeof m->may);
    for (size_t i = 0; i < CUT_SECTORS; i++)
        m->may[i][m->now[i]] = true;
}

static void open_cut(struct cut_model *m, bool must)
{
    struct err err = ERR_NONE;
    bool ok = overlay_open(m->world, "/scratch", &m->point, &m->view, 0, &m->overlay, &err);
    if (!ok && must)
        fail_msg("open: %s", err.text);
    m->dead |= !ok;
}

static void change_some(struct cut_model *m, uint8_t code)
{
    struct err err = ERR_NONE;
    uint64_t first = specimen_below(&m->seed, CUT_SECTORS);
    uint64_t count = 1 + specimen_below(&m->seed, 40);
    if (count > CUT_SECTORS - first)
        count = CUT_SECTORS - first;
    uint8_t bytes[40 * FAKE_SECTOR];
    memset(bytes, code, sizeof bytes);
    bool ok = code == 0 ? overlay_zero(m->overlay, first * FAKE_SECTOR, count * FAKE_SECTOR, &err)
                        : overlay_write(m->overlay, first * FAKE_SECTOR,
                                        span_of(bytes, count * FAKE_SECTOR), &err);
    m->dead |= !ok;
    for (uint64_t i = first; i < first + count; i++) {
        m->may[i][code] = true;
        m->now[i] = code;
    }
}

static void run_until_dead(struct cut_model *m)
{
    for (unsigned i = 0; i < 60 && !m->dead; i++) {
        struct err err = ERR_NONE;
        unsigned dice = (unsigned)specimen_below(&m->seed, 8);
        if (dice == 0 && overlay_flush(m->overlay, &err))
            settle(m);
        else if (dice == 0)
            m->dead = true;
        else
            change_some(m, dice == 1 ? 0 : (uint8_t)(1 + specimen_below(&m->seed, 254)));
    }
}

/* Every sector shows something that it may; from now on that is what it is. */
static void check_cut(struct cut_model *m)
{
    uint8_t *seen AUTO_FREE = malloc(CUT_DISK_BYTES);
    struct err err = ERR_NONE;
    check_ok(overlay_read(m->overlay, 0, mspan_of(seen, CUT_DISK_BYTES), &err), err);
    for (size_t i = 0; i < CUT_SECTORS; i++) {
        unsigned code = 0;
        while (code < 256 && !(m->may[i][code] && sector_is(i, seen + i * FAKE_SECTOR, code)))
            code++;
        if (code == 256)
            fail_msg("sector %zu shows %#x, which it never held since the last flush", i,
                     seen[i * FAKE_SECTOR]);
        m->now[i] = (uint8_t)code;
    }
    settle(m);
}

static void a_power_cut_at_any_call_keeps_what_was_flushed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct cut_model *m AUTO_FREE = calloc(1, sizeof *m);
        struct err err = ERR_NONE;
        m->world = fake_world_make(seed);
        m->view = some_view(CUT_DISK_BYTES);
        m->point = some_point();
        m->seed = seed;
        memset(m->now, OF_VIEW, sizeof m->now);
        settle(m);
        check_ok(dir_make(m->world, "/scratch", 0700, &err), err);
        for (unsigned round = 0; round < 6; round++) {
            uint64_t call = 1 + specimen_below(&m->seed, round == 0 ? 30 : 200);
            fake_world_fail(m->world, FAKE_ANY, call, EIO, true);
            m->dead = false;
            open_cut(m, false);
            run_until_dead(m);
            /* The flush of the close cannot succeed: the power is gone already. */
            fake_world_fail(m->world, FAKE_ANY, 1, EIO, true);
            overlay_close(&m->overlay);
            fake_world_power_cut(m->world, specimen_random(&m->seed));
            open_cut(m, true);
            check_cut(m);
            overlay_close(&m->overlay);
        }
        fake_world_release(&m->world);
    }
}

struct failing {
    uint64_t seed; /* what is lost */
    struct world *world;
    struct view view;
    struct overlay *overlay;
};

static void failing_open(struct failing *f)
{
    struct overlay_point point = some_point();
    struct err err = ERR_NONE;
    f->world = fake_world_make(f->seed);
    f->view = some_view(DISK_BYTES);
    check_ok(dir_make(f->world, "/scratch", 0700, &err), err);
    check_ok(overlay_open(f->world, "/scratch", &point, &f->view, 0, &f->overlay, &err), err);
}

static void failing_cut_and_reopen(struct failing *f)
{
    struct overlay_point point = some_point();
    struct err err = ERR_NONE;
    fake_world_fail(f->world, FAKE_ANY, 1, EIO, true);
    overlay_close(&f->overlay);
    fake_world_power_cut(f->world, 7);
    check_ok(overlay_open(f->world, "/scratch", &point, &f->view, 0, &f->overlay, &err), err);
}

static void failing_close(struct failing *f)
{
    overlay_close(&f->overlay);
    fake_world_release(&f->world);
}

static void after_a_failed_sync_nothing_is_promised_until_it_is_opened_again(void **state)
{
    struct failing f = {.seed = 1};
    struct err err = ERR_NONE;
    uint8_t bytes[BLOCK_BYTES] = {0xaa};
    (void)state;
    failing_open(&f);
    check_ok(overlay_write(f.overlay, 0, span_of(bytes, sizeof bytes), &err), err);
    fake_world_fail(f.world, FAKE_SYNC, 1, EIO, false);
    check_fails(overlay_flush(f.overlay, &err), err, ERR_IO);
    check_fails(overlay_flush(f.overlay, &err), err, ERR_IO);
    check_fails(overlay_write(f.overlay, 0, span_of(bytes, sizeof bytes), &err), err, ERR_IO);
    check_fails(overlay_zero(f.overlay, 0, BLOCK_BYTES, &err), err, ERR_IO);
    failing_cut_and_reopen(&f);
    check_ok(overlay_write(f.overlay, 0, span_of(bytes, sizeof bytes), &err), err);
    check_ok(overlay_flush(f.overlay, &err), err);
    failing_close(&f);
}

static void a_record_that_could_not_be_written_is_written_by_the_next_flush(void **state)
{
    enum fake_call calls[] = {FAKE_PWRITE, FAKE_SYNC};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct failing f = {.seed = 1};
        struct err err = ERR_NONE;
        uint8_t bytes[BLOCK_BYTES], seen = 0;
        memset(bytes, 0xaa, sizeof bytes);
        failing_open(&f);
        check_ok(overlay_write(f.overlay, 0, span_of(bytes, sizeof bytes), &err), err);
        /* The first sync is that of the data. */
        fake_world_fail(f.world, calls[i], calls[i] == FAKE_SYNC ? 2 : 1, ENOSPC, false);
        check_fails(overlay_flush(f.overlay, &err), err, ERR_FULL);
        check_ok(overlay_flush(f.overlay, &err), err);
        failing_cut_and_reopen(&f);
        check_ok(overlay_read(f.overlay, 100, mspan_of(&seen, 1), &err), err);
        assert_int_equal(seen, 0xaa);
        failing_close(&f);
    }
}

/* Block 4 is the view's or what was written, sector by sector, and nothing else. */
static void failing_check(struct failing *f)
{
    uint8_t seen[BLOCK_BYTES];
    struct err err = ERR_NONE;
    failing_cut_and_reopen(f);
    check_ok(overlay_read(f->overlay, 4 * BLOCK_BYTES, mspan_of(seen, sizeof seen), &err), err);
    for (uint64_t i = 0; i < sizeof seen; i++)
        assert_true(seen[i] == 0xaa || seen[i] == base_byte(4 * BLOCK_BYTES + i));
}

static void write_block_four(void *context)
{
    const struct failing *f = context;
    struct err err = ERR_NONE;
    uint8_t bytes[BLOCK_BYTES];
    memset(bytes, 0xaa, sizeof bytes);
    check_ok(overlay_write(f->overlay, 4 * BLOCK_BYTES, span_of(bytes, sizeof bytes), &err), err);
}

static void flush_it(void *context)
{
    const struct failing *f = context;
    struct err err = ERR_NONE;
    check_ok(overlay_flush(f->overlay, &err), err);
}

static void a_block_written_behind_the_sync_of_the_data_is_not_recorded(void **state)
{
    struct failing f = {.seed = 1};
    struct err err = ERR_NONE;
    (void)state;
    failing_open(&f);
    check_ok(overlay_write(f.overlay, 0, span_of("x", 1), &err), err);
    moment_begin(f.world, MOMENT_AFTER_SYNC, "/scratch/root.data", write_block_four, &f);
    flush_it(&f);
    moment_end();
    failing_check(&f);
    failing_close(&f);
}

static void a_flush_before_the_data_is_there_records_nothing_of_it(void **state)
{
    struct failing f = {.seed = 1};
    (void)state;
    failing_open(&f);
    moment_begin(f.world, MOMENT_BEFORE_WRITE, "/scratch/root.data", flush_it, &f);
    write_block_four(&f);
    moment_end();
    failing_check(&f);
    failing_close(&f);
}

/* The process was killed between the record and its sync, or the sync failed. */
static void bits_that_were_written_and_not_synced_are_recorded_by_the_next_opener(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct failing f = {.seed = seed};
        struct overlay_point point = some_point();
        struct err err = ERR_NONE;
        uint8_t seen = 0;
        failing_open(&f);
        write_block_four(&f);
        fake_world_fail(f.world, FAKE_SYNC, 2, EIO, true);
        check_fails(overlay_flush(f.overlay, &err), err, ERR_IO);
        overlay_close(&f.overlay);
        fake_world_fail(f.world, FAKE_SYNC, 0, 0, false);
        check_ok(overlay_open(f.world, "/scratch", &point, &f.view, 0, &f.overlay, &err), err);
        check_ok(overlay_flush(f.overlay, &err), err);
        fake_world_fail(f.world, FAKE_ANY, 1, EIO, true);
        overlay_close(&f.overlay);
        fake_world_power_cut(f.world, seed);
        check_ok(overlay_open(f.world, "/scratch", &point, &f.view, 0, &f.overlay, &err), err);
        check_ok(overlay_read(f.overlay, 4 * BLOCK_BYTES, mspan_of(&seen, 1), &err), err);
        assert_int_equal(seen, 0xaa);
        failing_close(&f);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_writes_it_shows_the_view),
        TEST(what_was_written_is_read_and_the_rest_is_the_views),
        TEST(a_part_of_a_block_is_completed_from_the_view),
        TEST(a_part_of_a_present_block_keeps_what_was_written_before),
        TEST(the_last_part_of_a_block_can_be_written),
        TEST(what_was_zeroed_is_zero_and_never_the_views_again),
        TEST(it_is_there_after_it_was_closed),
        TEST(random_changes_show_as_in_a_plain_array),
        TEST(whole_blocks_are_written_without_asking_the_view),
        TEST(a_part_of_a_block_is_refused_while_the_view_is_away),
        TEST(a_second_opener_is_refused),
        TEST(an_overlay_of_another_point_disk_or_vm_is_refused),
        TEST(a_damaged_record_is_refused),
        TEST(data_without_its_record_is_refused),
        TEST(a_record_without_its_data_is_refused),
        TEST(whether_one_exists_is_known_without_making_it),
        TEST(its_data_is_where_the_model_is_not_zero),
        TEST(a_huge_disk_costs_what_is_written_on_it),
        TEST(writers_of_parts_of_one_block_keep_each_others_bytes),
        TEST(what_was_flushed_survives_a_kill),
        cmocka_unit_test(a_power_cut_at_any_call_keeps_what_was_flushed),
        cmocka_unit_test(after_a_failed_sync_nothing_is_promised_until_it_is_opened_again),
        cmocka_unit_test(a_block_written_behind_the_sync_of_the_data_is_not_recorded),
        cmocka_unit_test(a_flush_before_the_data_is_there_records_nothing_of_it),
        cmocka_unit_test(bits_that_were_written_and_not_synced_are_recorded_by_the_next_opener),
        cmocka_unit_test(a_record_that_could_not_be_written_is_written_by_the_next_flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
