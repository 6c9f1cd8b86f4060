/* SPDX-License-Identifier: MIT
 * Views over a store that is damaged or hostile (cases 9 and 22): whatever it does, a view shows
 * what was written or gives an error, and its memory stays bounded. */
#include "fs/view/view.h"

#include "tests/support/check.h"
#include "tests/support/heap_peak.h"
#include "tests/support/made_vm.h"

#include <stdio.h>

#define DISKS       2u
#define BLOCKS      24u
#define CACHE_BYTES (1u << 20)
#define EPOCHS      3u

struct fixture {
    struct made_vm vm;
    uint32_t value[EPOCHS][DISKS][BLOCKS]; /* as of each point */
    char segment[EPOCHS][KEY_MAX];         /* what each epoch's frames and run lie in */
};

/* Of few bytes when compressed, and of as many for each value. */
static void block_bytes(uint32_t value, uint8_t out[BLOCK_BYTES])
{
    memset(out, (int)(value % 251), BLOCK_BYTES);
}

static void write_block(struct epoch_maker *m, uint16_t disk, uint64_t block, uint32_t value)
{
    uint8_t bytes[BLOCK_BYTES];
    block_bytes(value, bytes);
    epoch_maker_write(m, disk, block, 1, bytes);
}

static void fill(struct fixture *f, size_t epoch, uint16_t disk, uint64_t block, uint32_t value)
{
    write_block(&f->vm.maker, disk, block, value);
    for (size_t i = epoch; i < EPOCHS; i++)
        f->value[i][disk][block] = value;
}

static int set_up_with(void **state, bool encrypt)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    made_vm_init(&f.vm, DISKS, BLOCKS);
    f.vm.maker.encrypt = encrypt;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        /* Alike, so that frames and segments have the same lengths and could stand for each other.
         */
        fill(&f, i, 0, 1, 10 * (i + 1));
        fill(&f, i, 0, 2, 10 * (i + 1) + 1);
        fill(&f, i, 1, 1, 10 * (i + 1) + 2);
        fill(&f, i, 1, 20, 10 * (i + 1) + 3);
        epoch_maker_cut(&f.vm.maker);
        made_vm_apply(&f.vm);
        struct history *h = made_vm_history(&f.vm);
        struct record_epoch e = history_epoch(h, i, NULL);
        snprintf(f.segment[i], KEY_MAX, "%s/%.100s", MADE_VM, e.run_key);
        history_close(&h);
    }
    *state = &f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, true);
}

static int set_up_readable(void **state)
{
    return set_up_with(state, false);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    made_vm_release(&f->vm);
    return 0;
}

/* A mount that was just started reads every block of the point, one by one. *refused: how many gave
 * an error; of the others each byte is right, and of those nothing was left in the buffer. */
static void read_point(struct fixture *f, size_t point, size_t *refused, struct err *err)
{
    struct history *h = made_vm_history(&f->vm);
    struct history_point p = history_point(h, point);
    struct view_cache *cache = NULL;
    struct view *v = NULL;
    struct err why = ERR_NONE;
    check_ok(view_cache_make(CACHE_BYTES, &cache, &why), why);
    struct view_config config = {.history = h,
                                 .keys = f->vm.maker.keys,
                                 .targets = &f->vm.target,
                                 .target_count = 1,
                                 .cache = cache};
    check_ok(view_open(&config, &p, &v, &why), why);
    *refused = 0;
    for (size_t disk = 0; disk < DISKS; disk++)
        for (uint64_t block = 0; block < BLOCKS; block++) {
            static const uint8_t nothing[BLOCK_BYTES];
            uint8_t out[BLOCK_BYTES], right[BLOCK_BYTES];
            memset(out, 0x77, sizeof out);
            why = ERR_NONE;
            block_bytes(f->value[point][disk][block], right);
            bool good = view_read(v, disk, block * BLOCK_BYTES, mspan_of(out, sizeof out), &why);
            if (memcmp(out, good ? right : nothing, sizeof out) != 0)
                fail_msg("disk %zu, block %llu: %s", disk, (unsigned long long)block,
                         good ? "other bytes were served" : "bytes came with an error");
            if (good)
                continue;
            if (why.kind != ERR_CORRUPT && why.kind != ERR_WRONG_KEY)
                fail_msg("%s: %s", err_kind_name(why.kind), why.text);
            check_says(why, disk == 0 ? "disk0" : "disk1");
            *refused += 1;
            *err = why;
        }
    view_close(&v);
    view_cache_release(&cache);
    history_close(&h);
}

static void check_whole(struct fixture *f)
{
    struct err err = ERR_NONE;
    size_t refused;
    for (size_t i = 0; i < EPOCHS; i++) {
        read_point(f, i, &refused, &err);
        assert_int_equal(refused, 0);
    }
}

static void load(struct fixture *f, const char *key, struct buf *out)
{
    struct err err = ERR_NONE;
    check_ok(store_load(f->vm.target, key, STORE_OBJECT_MAX, out, &err), err);
}

/* --- case 9 --- */

/* Every byte belongs to a frame, the run's head, its root or its page; none is without use. */
static void a_bit_of_any_byte_of_a_segment_flipped_is_an_error_and_never_bytes(void **state)
{
    struct fixture *f = *state;
    struct buf whole AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    size_t refused;
    load(f, f->segment[2], &whole);
    for (size_t at = 0; at < whole.length; at++) {
        assert_true(
            memory_bucket_damage(f->vm.target_bucket, f->segment[2], at, (uint8_t)(1u << at % 8)));
        read_point(f, 2, &refused, &err);
        if (refused == 0)
            fail_msg("a bit of byte %zu flipped is not found", at);
        assert_true(
            memory_bucket_damage(f->vm.target_bucket, f->segment[2], at, (uint8_t)(1u << at % 8)));
    }
    check_whole(f);
}

static void a_segment_cut_anywhere_is_an_error_and_never_bytes(void **state)
{
    struct fixture *f = *state;
    struct buf whole AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    size_t refused;
    load(f, f->segment[1], &whole);
    for (size_t length = 0; length < whole.length; length++) {
        memory_bucket_set(f->vm.target_bucket, f->segment[1], span_of(whole.data, length));
        read_point(f, 1, &refused, &err);
        if (refused == 0)
            fail_msg("cut to %zu bytes is not found", length);
    }
    memory_bucket_set(f->vm.target_bucket, f->segment[1], buf_span(&whole));
    check_whole(f);
}

/* Points of before the damaged one do not need it. */
static void damage_in_one_point_leaves_the_older_ones_readable(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    size_t refused;
    memory_bucket_drop(f->vm.target_bucket, f->segment[2]);
    read_point(f, 0, &refused, &err);
    assert_int_equal(refused, 0);
    read_point(f, 1, &refused, &err);
    assert_int_equal(refused, 0);
    read_point(f, 2, &refused, &err);
    assert_true(refused > 0);
    check_says(err, "segments/");
}

/* --- case 22 --- */

static void replace(struct fixture *f, size_t at, size_t by)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(f, f->segment[by], &bytes);
    memory_bucket_set(f->vm.target_bucket, f->segment[at], buf_span(&bytes));
}

static void segments_swapped(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(f, f->segment[2], &bytes);
    replace(f, 2, 1);
    memory_bucket_set(f->vm.target_bucket, f->segment[1], buf_span(&bytes));
}

static void segment_replayed(struct fixture *f)
{
    replace(f, 2, 0);
}

/* Where the frames of a segment end and its run begins. */
static size_t run_offset(struct fixture *f, size_t epoch)
{
    struct history *h = made_vm_history(&f->vm);
    size_t offset = (size_t)history_epoch(h, epoch, NULL).run_offset;
    history_close(&h);
    return offset;
}

/* The frames of the older epoch under the run of the newer, as far as they reach. */
static void frames_spliced(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE, old AUTO_BUF = BUF_NONE;
    size_t end = run_offset(f, 2);
    load(f, f->segment[2], &bytes);
    load(f, f->segment[1], &old);
    memcpy(bytes.data, old.data, end < old.length ? end : old.length);
    memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
}

/* The first frame of disk 0 and the first of disk 1 exchanged, byte by byte of the shorter. */
static void frames_swapped_between_disks(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(f, f->segment[2], &bytes);
    size_t half = run_offset(f, 2) / 2;
    for (size_t i = 0; i < half; i++) {
        uint8_t kept = bytes.data[i];
        bytes.data[i] = bytes.data[half + i];
        bytes.data[half + i] = kept;
    }
    memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
}

static void run_replayed(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE, old AUTO_BUF = BUF_NONE;
    size_t at = run_offset(f, 2), from = run_offset(f, 1);
    load(f, f->segment[2], &bytes);
    load(f, f->segment[1], &old);
    size_t length = bytes.length - at < old.length - from ? bytes.length - at : old.length - from;
    memcpy(bytes.data + at, old.data + from, length);
    memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
}

static void segment_of_zeros(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(f, f->segment[2], &bytes);
    memset(bytes.data, 0, bytes.length);
    memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
}

/* Lengths in the head of the run, which is in the clear: root, pages, the whole. */
static void run_with_huge_lengths(struct fixture *f)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(f, f->segment[2], &bytes);
    memset(bytes.data + run_offset(f, 2) + 52, 0xff, 16);
    memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
}

static void segment_gone(struct fixture *f)
{
    memory_bucket_drop(f->vm.target_bucket, f->segment[2]);
}

/* A vault as it is when the newest epoch holds other values. Its newest segment, and where in it
 * the run lies. */
static size_t make_attempt(struct fixture *f, uint32_t other, struct buf *segment)
{
    struct made_vm shown;
    struct epoch_maker *m = &shown.maker;
    struct err err = ERR_NONE;
    char key[KEY_MAX];
    made_vm_init(&shown, DISKS, BLOCKS);
    m->encrypt = f->vm.maker.encrypt;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        uint32_t more = i == 2 ? other : 0;
        write_block(m, 0, 1, 10 * (i + 1) + more);
        write_block(m, 0, 2, 10 * (i + 1) + 1 + more);
        write_block(m, 1, 1, 10 * (i + 1) + 2 + more);
        write_block(m, 1, 20, 10 * (i + 1) + 3 + more);
        epoch_maker_cut(m);
        made_vm_apply(&shown);
    }
    struct history *h = made_vm_history(&shown);
    struct record_epoch e = history_epoch(h, 2, NULL);
    snprintf(key, sizeof key, "%s/%.100s", MADE_VM, e.run_key);
    history_close(&h);
    check_ok(store_load(shown.target, key, STORE_OBJECT_MAX, segment, &err), err);
    made_vm_release(&shown);
    return (size_t)e.run_offset;
}

/* The same epoch of the same source as another attempt made it: authentic in every byte, its run as
 * long and at the same place, applied by a processor that was shown it. */
static void segment_of_another_attempt(struct fixture *f)
{
    struct buf ours AUTO_BUF = BUF_NONE, bytes AUTO_BUF = BUF_NONE;
    size_t at = run_offset(f, 2);
    load(f, f->segment[2], &ours);
    for (uint32_t other = 50; other < 150; other++)
        if (make_attempt(f, other, &bytes) == at && bytes.length == ours.length) {
            memory_bucket_set(f->vm.target_bucket, f->segment[2], buf_span(&bytes));
            return;
        }
    fail_msg("no attempt is as long");
}

static const struct attack {
    const char *name;
    void (*make)(struct fixture *f);
} attacks[] = {
    {"segments swapped", segments_swapped},
    {"a segment replayed", segment_replayed},
    {"frames spliced", frames_spliced},
    {"frames swapped between disks", frames_swapped_between_disks},
    {"a run replayed", run_replayed},
    {"a segment of zeros", segment_of_zeros},
    {"a run with huge lengths", run_with_huge_lengths},
    {"a segment gone", segment_gone},
    {"a segment of another attempt", segment_of_another_attempt},
};

static void check_attacks(void **state, bool encrypt)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        struct err err = ERR_NONE;
        size_t refused;
        tear_down(state);
        set_up_with(state, encrypt);
        attacks[i].make(f);
        heap_peak_begin();
        read_point(f, 2, &refused, &err);
        if (refused < 4) /* the blocks of that epoch */
            fail_msg("%s: %zu blocks refused", attacks[i].name, refused);
        if (heap_peak() > 2u << 20)
            fail_msg("%s: %zu bytes of memory", attacks[i].name, heap_peak());
    }
}

static void no_attack_is_served(void **state)
{
    check_attacks(state, true);
}

static void no_attack_is_served_without_encryption_either(void **state)
{
    check_attacks(state, false);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_bit_of_any_byte_of_a_segment_flipped_is_an_error_and_never_bytes),
        T(a_segment_cut_anywhere_is_an_error_and_never_bytes),
        T(damage_in_one_point_leaves_the_older_ones_readable),
        T(no_attack_is_served),
        cmocka_unit_test_setup_teardown(no_attack_is_served_without_encryption_either,
                                        set_up_readable, tear_down),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
