/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <pthread.h>
#include <stdio.h>

#include "fs/view/view.h"
#include "tests/support/made_vm.h"

#define DISKS       2u
#define BLOCKS      600u
#define CACHE_BYTES (8u << 20)

/* What each block is at a point: a value of made_block_bytes, 0 a hole. */
struct shot {
    uint32_t value[DISKS][BLOCKS];
};

struct fixture {
    struct made_vm vm;
    struct store *target; /* the views' own handle, counted */
    struct view_cache *cache;
    struct history *history;
    struct shot now;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;
    made_vm_init(&f->vm, DISKS, BLOCKS);
    f->target = memory_store_open(f->vm.target_bucket);
    check_ok(view_cache_make(CACHE_BYTES, &f->cache, &err), err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    view_cache_release(&f->cache);
    history_close(&f->history);
    store_close(&f->target);
    made_vm_release(&f->vm);
    free(f);
    return 0;
}

static void fill(struct fixture *f, uint16_t disk, uint64_t block, uint32_t value)
{
    epoch_maker_fill(&f->vm.maker, disk, block, value);
    f->now.value[disk][block] = value;
}

static void hole(struct fixture *f, uint16_t disk, uint64_t first, uint64_t count)
{
    epoch_maker_hole(&f->vm.maker, disk, first, count);
    memset(&f->now.value[disk][first], 0, count * sizeof f->now.value[0][0]);
}

/* Applies what was shipped and opens the history anew. */
static void apply(struct fixture *f)
{
    struct err err = ERR_NONE;
    made_vm_apply(&f->vm);
    if (!f->history)
        f->history = made_vm_history(&f->vm);
    check_ok(history_refresh(f->history, &err), err);
}

static struct view *open_point(struct fixture *f, size_t i)
{
    struct err err = ERR_NONE;
    struct view *v = NULL;
    struct history_point point = history_point(f->history, i);
    struct view_config config = {.history = f->history,
                                 .keys = f->vm.maker.keys,
                                 .targets = &f->target,
                                 .target_count = 1,
                                 .cache = f->cache};
    check_ok(view_open(&config, &point, &v, &err), err);
    return v;
}

static struct view *open_last(struct fixture *f)
{
    return open_point(f, history_points(f->history) - 1);
}

static void shot_bytes(const struct shot *s, size_t disk, uint64_t first, uint64_t count,
                       uint8_t *out)
{
    for (uint64_t i = 0; i < count; i++)
        made_block_bytes(s->value[disk][first + i], out + i * BLOCK_BYTES);
}

static void check_range(struct view *v, const struct shot *s, size_t disk, uint64_t offset,
                        size_t length)
{
    struct err err = ERR_NONE;
    uint64_t first = offset / BLOCK_BYTES;
    uint64_t count = (offset + length + BLOCK_BYTES - 1) / BLOCK_BYTES - first;
    uint8_t *expected = malloc((size_t)count * BLOCK_BYTES);
    uint8_t *found = malloc(length);

    shot_bytes(s, disk, first, count, expected);
    check_ok(view_read(v, disk, offset, mspan_of(found, length), &err), err);
    if (memcmp(found, expected + offset % BLOCK_BYTES, length) != 0)
        fail_msg("disk %zu, %zu bytes at %llu are not what was written", disk, length,
                 (unsigned long long)offset);
    free(expected);
    free(found);
}

/* The blocks that view_next_data shows are exactly those that are not zero. */
static void check_data_map(struct view *v, const struct shot *s, size_t disk)
{
    struct err err = ERR_NONE;
    uint64_t at = 0;
    for (;;) {
        struct extent e;
        bool found = false;
        check_ok(view_next_data(v, disk, at, &e, &found, &err), err);
        uint64_t next = at;
        while (next < BLOCKS && s->value[disk][next] == 0)
            next++;
        assert_int_equal(found, next < BLOCKS);
        if (!found)
            return;
        assert_int_equal(e.first, next);
        assert_true(e.count > 0);
        for (uint64_t i = 0; i < e.count; i++)
            assert_true(s->value[disk][e.first + i] != 0);
        at = e.first + e.count;
    }
}

static uint32_t rolled(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

/* --- tests --- */

static void every_point_equals_the_model(void **state)
{
    enum { EPOCHS = 40 };
    struct fixture *f = *state;
    struct shot *shots = calloc(EPOCHS, sizeof *shots);
    uint32_t seed = 20261122;
    uint32_t value = 0;

    for (int e = 0; e < EPOCHS; e++) {
        uint32_t changes = 1 + rolled(&seed, 12);
        f->vm.maker.inline_max = rolled(&seed, 3) ? EPOCH_INLINE_BYTES : 0;
        f->vm.maker.part_max = 96 * 1024;
        for (uint32_t c = 0; c < changes; c++) {
            uint16_t disk = (uint16_t)rolled(&seed, DISKS);
            uint32_t first = rolled(&seed, BLOCKS);
            uint32_t count = 1 + rolled(&seed, rolled(&seed, 4) ? 4 : 80);
            count = count < BLOCKS - first ? count : BLOCKS - first;
            if (rolled(&seed, 4) == 0)
                hole(f, disk, first, count);
            else
                for (uint32_t i = 0; i < count; i++)
                    fill(f, disk, first + i, ++value);
        }
        epoch_maker_cut(&f->vm.maker);
        shots[e] = f->now;
        if (e % 7 == 0)
            apply(f);
    }
    apply(f);
    assert_int_equal(history_points(f->history), EPOCHS);
    for (size_t e = 0; e < EPOCHS; e++) {
        struct view *v = open_point(f, e);
        for (size_t disk = 0; disk < DISKS; disk++) {
            check_range(v, &shots[e], disk, 0, BLOCKS * BLOCK_BYTES);
            check_data_map(v, &shots[e], disk);
        }
        for (int i = 0; i < 20; i++) {
            uint64_t offset = rolled(&seed, BLOCKS * BLOCK_BYTES);
            size_t length = 1 + rolled(&seed, 200000);
            size_t left = (size_t)(BLOCKS * BLOCK_BYTES - offset);
            check_range(v, &shots[e], rolled(&seed, DISKS), offset, length < left ? length : left);
        }
        view_close(&v);
    }
    free(shots);
}

static uint64_t gets_of_segments;

static enum memory_fault count_before(void *context, const struct memory_call *call)
{
    uint64_t *gets = context;
    *gets += call->op == MEMORY_GET && strstr(call->key, "/segments/") != NULL;
    return MEMORY_PASS;
}

static void opening_a_point_gets_no_data(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 100; i++) {
        fill(f, 0, i, i + 1);
        epoch_maker_cut(&f->vm.maker);
    }
    apply(f);
    uint64_t before = memory_store_calls(f->target);
    struct view *v = open_last(f);
    assert_int_equal(view_disks(v), DISKS);
    assert_string_equal(view_disk(v, 1)->name, "disk1");
    assert_int_equal(memory_store_calls(f->target), before);
    view_close(&v);
}

static void neighbours_come_in_one_get_and_only_once(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 256; i++)
        fill(f, 0, i, i + 1);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_last(f);
    check_range(v, &f->now, 0, 0, BLOCK_BYTES); /* opens the run */
    gets_of_segments = 0;
    memory_store_hook(f->target, count_before, NULL, &gets_of_segments);
    check_range(v, &f->now, 0, 64 * BLOCK_BYTES, 128 * BLOCK_BYTES);
    assert_int_equal(gets_of_segments, 1);
    check_range(v, &f->now, 0, 64 * BLOCK_BYTES, 128 * BLOCK_BYTES);
    assert_int_equal(gets_of_segments, 1);
    view_close(&v);
}

static void a_sequential_reader_is_read_ahead(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 512; i++)
        fill(f, 0, i, i + 1);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_last(f);
    check_range(v, &f->now, 0, 0, 16 * BLOCK_BYTES);
    gets_of_segments = 0;
    memory_store_hook(f->target, count_before, NULL, &gets_of_segments);
    for (uint64_t i = 16; i < 512; i += 16)
        check_range(v, &f->now, 0, i * BLOCK_BYTES, 16 * BLOCK_BYTES);
    assert_true(gets_of_segments <= 2);
    view_close(&v);
}

static void an_unreadable_block_is_an_io_error_until_it_is_shipped_again(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint8_t out[2 * BLOCK_BYTES];
    uint64_t proven = 0;

    fill(f, 0, 10, 1);
    fill(f, 0, 11, 2);
    epoch_maker_cut(&f->vm.maker);
    epoch_maker_unreadable(&f->vm.maker, 0, 11);
    epoch_maker_cut(&f->vm.maker);
    fill(f, 0, 11, 3);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_point(f, 1);
    check_fails(view_read(v, 0, 10 * BLOCK_BYTES, mspan_of(out, sizeof out), &err), err, ERR_IO);
    check_says(err, "disk0");
    check_says(err, "block 11");
    check_range(v, &f->now, 0, 10 * BLOCK_BYTES, BLOCK_BYTES);
    check_fails(view_verify(v, NULL, NULL, &proven, &err), err, ERR_IO);
    view_close(&v);
    v = open_point(f, 2);
    check_range(v, &f->now, 0, 10 * BLOCK_BYTES, 2 * BLOCK_BYTES);
    view_close(&v);
}

struct first_segment {
    char key[KEY_MAX];
    uint64_t bytes;
};

static bool first_see(void *context, const char *key, uint64_t bytes)
{
    struct first_segment *s = context;
    snprintf(s->key, sizeof s->key, "%s", key);
    s->bytes = bytes;
    return false;
}

/* Every single flipped bit in the only segment is an error or does not matter, and what is served
 * is right. */
static void a_flipped_bit_is_refused_and_not_served(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct first_segment segment = {.bytes = 0};
    uint8_t out[3 * BLOCK_BYTES], right[3 * BLOCK_BYTES], zero[3 * BLOCK_BYTES] = {0};
    size_t refused = 0;

    for (uint32_t i = 0; i < 3; i++)
        fill(f, 1, 20 + i, 100 + i);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    shot_bytes(&f->now, 1, 20, 3, right);
    check_ok(store_list(f->vm.target, "vm1/segments/", NULL, first_see, &segment, &err), err);
    assert_true(segment.bytes > 1000);
    for (uint64_t at = 0; at < segment.bytes; at += 37) {
        struct view_cache *fresh = NULL;
        struct view *v = NULL;
        struct history_point point = history_point(f->history, 0);
        check_ok(view_cache_make(CACHE_BYTES, &fresh, &err), err);
        struct view_config config = {.history = f->history,
                                     .keys = f->vm.maker.keys,
                                     .targets = &f->target,
                                     .target_count = 1,
                                     .cache = fresh};
        assert_true(memory_bucket_damage(f->vm.target_bucket, segment.key, at, 0x10));
        check_ok(view_open(&config, &point, &v, &err), err);
        memset(out, 0x77, sizeof out);
        if (view_read(v, 1, 20 * BLOCK_BYTES, mspan_of(out, sizeof out), &err)) {
            assert_memory_equal(out, right, sizeof out);
        } else {
            assert_int_equal(err.kind, ERR_CORRUPT);
            check_says(err, "disk1");
            check_says(err, "block 20");
            assert_memory_equal(out, zero, sizeof out);
            refused++;
        }
        view_close(&v);
        view_cache_release(&fresh);
        assert_true(memory_bucket_damage(f->vm.target_bucket, segment.key, at, 0x10));
    }
    assert_true(refused > segment.bytes / 37 * 9 / 10);
}

static enum memory_fault damage_once(void *context, const struct memory_call *call)
{
    uint64_t *gets = context;
    if (call->op != MEMORY_GET || strstr(call->key, "/segments/") == NULL)
        return MEMORY_PASS;
    return ++*gets == 1 ? MEMORY_DAMAGE : MEMORY_PASS;
}

static void a_frame_hurt_on_the_way_is_asked_for_again(void **state)
{
    struct fixture *f = *state;
    uint64_t gets = 0;

    for (uint32_t i = 0; i < 64; i++)
        fill(f, 0, i, i + 1);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_last(f);
    check_range(v, &f->now, 1, 0, BLOCK_BYTES);
    check_range(v, &f->now, 0, 32 * BLOCK_BYTES, BLOCK_BYTES); /* opens the run */
    memory_store_hook(f->target, damage_once, NULL, &gets);
    check_range(v, &f->now, 0, 0, 16 * BLOCK_BYTES);
    assert_int_equal(gets, 2);
    view_close(&v);
}

static void a_missing_segment_is_damage_by_name(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct first_segment segment = {.bytes = 0};
    uint8_t out[BLOCK_BYTES];

    fill(f, 0, 1, 1);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    check_ok(store_list(f->vm.target, "vm1/segments/", NULL, first_see, &segment, &err), err);
    struct view *v = open_last(f);
    memory_bucket_drop(f->vm.target_bucket, segment.key);
    check_fails(view_read(v, 0, BLOCK_BYTES, mspan_of(out, sizeof out), &err), err, ERR_CORRUPT);
    check_says(err, segment.key);
    view_close(&v);
}

static enum memory_fault no_answer(void *context, const struct memory_call *call)
{
    (void)context;
    (void)call;
    return MEMORY_FAIL;
}

static void a_store_out_of_reach_is_transient_and_passes(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint8_t out[BLOCK_BYTES];

    fill(f, 0, 1, 1);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_last(f);
    memory_store_hook(f->target, no_answer, NULL, NULL);
    check_fails(view_read(v, 0, BLOCK_BYTES, mspan_of(out, sizeof out), &err), err, ERR_TRANSIENT);
    memory_store_hook(f->target, NULL, NULL, NULL);
    check_range(v, &f->now, 0, BLOCK_BYTES, BLOCK_BYTES);
    view_close(&v);
}

static void progress_add(void *context, uint64_t done, uint64_t total)
{
    uint64_t *last = context;
    assert_true(done >= *last && done <= total);
    *last = done;
}

static void verify_proves_the_live_bytes(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t proven = 0;
    uint64_t done = 0;

    for (uint32_t i = 0; i < 50; i++)
        fill(f, i % 2, i * 3, i + 1);
    epoch_maker_cut(&f->vm.maker);
    hole(f, 0, 0, 13);
    epoch_maker_cut(&f->vm.maker);
    apply(f);
    struct view *v = open_last(f);
    uint64_t live = 0;
    for (size_t d = 0; d < DISKS; d++)
        for (size_t i = 0; i < BLOCKS; i++)
            live += f->now.value[d][i] != 0;
    check_ok(view_verify(v, progress_add, &done, &proven, &err), err);
    assert_int_equal(proven, live * BLOCK_BYTES);
    assert_int_equal(done, DISKS * BLOCKS * BLOCK_BYTES);
    view_close(&v);
}

struct reader_thread {
    struct fixture *f;
    struct view *v;
    uint32_t seed;
    bool wrong;
};

static void *reader_run(void *context)
{
    struct reader_thread *t = context;
    uint8_t *found = malloc(64 * BLOCK_BYTES);
    uint8_t *expected = malloc(64 * BLOCK_BYTES);
    for (int i = 0; i < 60 && !t->wrong; i++) {
        uint64_t first = rolled(&t->seed, BLOCKS - 64);
        uint64_t count = 1 + rolled(&t->seed, 63);
        size_t disk = rolled(&t->seed, DISKS);
        shot_bytes(&t->f->now, disk, first, count, expected);
        t->wrong = !view_read(t->v, disk, first * BLOCK_BYTES,
                              mspan_of(found, (size_t)count * BLOCK_BYTES), NULL) ||
                   memcmp(found, expected, (size_t)count * BLOCK_BYTES) != 0;
    }
    free(found);
    free(expected);
    return NULL;
}

/* A cache that holds next to nothing, so that frames and runs come and go under the readers. */
static void many_threads_share_a_small_cache(void **state)
{
    struct fixture *f = *state;
    struct view_cache *small = NULL;
    struct err err = ERR_NONE;
    struct reader_thread threads[6];
    pthread_t ids[6];
    struct view *v = NULL;
    uint32_t seed = 5;

    for (uint32_t e = 0; e < 12; e++) {
        for (uint32_t i = 0; i < 90; i++)
            fill(f, (uint16_t)rolled(&seed, DISKS), rolled(&seed, BLOCKS), e * 1000 + i + 1);
        epoch_maker_cut(&f->vm.maker);
    }
    apply(f);
    check_ok(view_cache_make(256 * 1024, &small, &err), err);
    struct history_point point = history_point(f->history, history_points(f->history) - 1);
    struct view_config config = {.history = f->history,
                                 .keys = f->vm.maker.keys,
                                 .targets = &f->target,
                                 .target_count = 1,
                                 .cache = small};
    check_ok(view_open(&config, &point, &v, &err), err);
    for (uint32_t i = 0; i < 6; i++) {
        threads[i] = (struct reader_thread){.f = f, .v = v, .seed = i + 1};
        assert_int_equal(pthread_create(&ids[i], NULL, reader_run, &threads[i]), 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        pthread_join(ids[i], NULL);
        assert_false(threads[i].wrong);
    }
    view_close(&v);
    view_cache_release(&small);
}

/* An authentic run of another epoch, put where this one's lies, is refused. */
static void a_run_of_another_epoch_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct buf other AUTO_BUF = BUF_NONE;
    char key[2][KEY_MAX];
    uint8_t out[BLOCK_BYTES];

    for (uint32_t i = 0; i < 2; i++) {
        fill(f, 0, 1, 7 + i);
        epoch_maker_cut(&f->vm.maker);
        apply(f);
        snprintf(key[i], KEY_MAX, "%s/%s", MADE_VM, history_epoch(f->history, i, NULL).run_key);
    }
    check_ok(store_load(f->vm.target, key[0], 1 << 20, &other, &err), err);
    memory_bucket_set(f->vm.target_bucket, key[1], buf_span(&other));
    struct view *v = open_last(f);
    check_fails(view_read(v, 0, BLOCK_BYTES, mspan_of(out, sizeof out), &err), err, ERR_CORRUPT);
    view_close(&v);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_point_equals_the_model),
        TEST(opening_a_point_gets_no_data),
        TEST(neighbours_come_in_one_get_and_only_once),
        TEST(a_sequential_reader_is_read_ahead),
        TEST(an_unreadable_block_is_an_io_error_until_it_is_shipped_again),
        TEST(a_flipped_bit_is_refused_and_not_served),
        TEST(a_frame_hurt_on_the_way_is_asked_for_again),
        TEST(a_missing_segment_is_damage_by_name),
        TEST(a_store_out_of_reach_is_transient_and_passes),
        TEST(verify_proves_the_live_bytes),
        TEST(many_threads_share_a_small_cache),
        TEST(a_run_of_another_epoch_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
