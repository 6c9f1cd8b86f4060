/* SPDX-License-Identifier: MIT
 * Open points over a real history and real views in a world whose clock and store obey. */
#include "fs/mount/open_points.h"

#include "backend/history/pin.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include <errno.h>
#include <stdio.h>

#define MS     1000000ull
#define BLOCKS 64u

struct fixture {
    struct made_vm made;
    struct history *history;
    struct view_cache *cache;
    struct recovery_vm vm;
    struct recovery_mount_config config;
    struct open_points *points;
};

static void open_all(struct fixture *f, const char *writable_name)
{
    struct err err = ERR_NONE;
    f->config.writable_name = writable_name;
    check_ok(open_points_make(&f->config, &f->points, &err), err);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = ERR_NONE;
    made_vm_init(&f->made, 1, BLOCKS);
    for (uint64_t block = 0; block < 32; block++)
        epoch_maker_fill(&f->made.maker, 0, block, (uint32_t)(100 + block));
    epoch_maker_cut(&f->made.maker);
    epoch_maker_fill(&f->made.maker, 0, 5, 7);
    epoch_maker_cut(&f->made.maker);
    made_vm_apply(&f->made);
    f->history = made_vm_history(&f->made);
    check_ok(view_cache_make(1u << 20, &f->cache, &err), err);
    f->vm = (struct recovery_vm){.name = MADE_VM,
                                 .view = {.history = f->history,
                                          .keys = f->made.maker.keys,
                                          .targets = &f->made.target,
                                          .target_count = 1,
                                          .cache = f->cache}};
    f->config = (struct recovery_mount_config){
        .world = f->made.world, .vms = &f->vm, .vm_count = 1, .scratch_folder = "/scratch"};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    open_points_release(&f->points);
    history_close(&f->history);
    view_cache_release(&f->cache);
    made_vm_release(&f->made);
    free(f);
    return 0;
}

static bool try_open(struct fixture *f, size_t point, struct image **out, struct err *err)
{
    struct history_point at = history_point(f->history, point);
    return image_open(f->points, 0, &at, 0, out, err);
}

static struct image *must_open(struct fixture *f, size_t point)
{
    struct image *image = NULL;
    struct err err = ERR_NONE;
    check_ok(try_open(f, point, &image, &err), err);
    return image;
}

static void check_block(struct image *image, uint64_t block, uint32_t value)
{
    uint8_t seen[BLOCK_BYTES], wanted[BLOCK_BYTES];
    struct err err = ERR_NONE;
    made_block_bytes(value, wanted);
    check_ok(image_read(image, block * BLOCK_BYTES, mspan_of(seen, sizeof seen), &err), err);
    assert_memory_equal(seen, wanted, sizeof seen);
}

static void write_block(struct image *image, uint64_t block, uint32_t value)
{
    uint8_t bytes[BLOCK_BYTES];
    struct err err = ERR_NONE;
    made_block_bytes(value, bytes);
    check_ok(image_write(image, block * BLOCK_BYTES, span_of(bytes, sizeof bytes), &err), err);
}

struct pins {
    size_t holds, leases;
    struct pin last;
};

static bool count_pin(void *context, const struct pin *pin)
{
    struct pins *pins = context;
    pins->holds += pin->kind == PIN_HOLD;
    pins->leases += pin->kind == PIN_LEASE;
    pins->last = *pin;
    return true;
}

static struct pins count_pins(struct fixture *f)
{
    struct pins pins = {.holds = 0};
    struct err err = ERR_NONE;
    check_ok(pin_list(f->made.target, MADE_VM, f->made.maker.vault.vm, f->made.maker.keys,
                      count_pin, &pins, &err),
             err);
    return pins;
}

static void pass_ms(struct fixture *f, uint64_t ms)
{
    fake_world_advance(f->made.world, ms * MS);
}

static void a_lease_is_renewed_before_it_ends_and_the_one_before_stays_until_the_next(void **state)
{
    struct fixture *f = *state;
    open_all(f, NULL);
    struct image *image = must_open(f, 0);
    struct pin first = count_pins(f).last;
    open_points_tend(f->points);
    assert_int_equal(count_pins(f).last.end_ms, first.end_ms); /* not due yet */
    pass_ms(f, OPEN_POINT_LEASE_MS / 2 + 1);
    open_points_tend(f->points);
    struct pins pins = count_pins(f);
    assert_int_equal(pins.leases, 2);
    assert_int_equal(pins.last.end_ms, first.end_ms + OPEN_POINT_LEASE_MS / 2 + 1);
    assert_string_not_equal(pins.last.name, first.name);
    pass_ms(f, OPEN_POINT_LEASE_MS / 2 + 1);
    open_points_tend(f->points);
    assert_int_equal(count_pins(f).leases, 2);
    pass_ms(f, OPEN_POINT_LEASE_MS - 1);
    check_block(image, 5, 105);
    image_close(image);
    open_points_release(&f->points);
    assert_int_equal(count_pins(f).leases, 0);
}

static enum memory_fault fail_puts(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_FAIL : MEMORY_PASS;
}

/* What thinned before it saw the pin has said so there. */
static void the_head_is_read_again_once_the_pin_is_there(void **state)
{
    struct fixture *f = *state;
    open_all(f, NULL);
    size_t before = history_points(f->history);
    epoch_maker_fill(&f->made.maker, 0, 6, 8);
    epoch_maker_cut(&f->made.maker);
    made_vm_apply(&f->made);
    assert_int_equal(history_points(f->history), before);
    struct image *image = must_open(f, 0);
    assert_int_equal(history_points(f->history), before + 1);
    image_close(image);
}

static void a_lapsed_lease_stops_reads_until_it_is_renewed(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    struct err err = ERR_NONE;
    open_all(f, NULL);
    struct image *image = must_open(f, 0);
    check_block(image, 5, 105);
    memory_store_hook(f->made.target, fail_puts, NULL, NULL);
    pass_ms(f, OPEN_POINT_LEASE_MS);
    open_points_tend(f->points);
    check_fails(image_read(image, 0, mspan_of(&byte, 1), &err), err, ERR_IO);
    check_says(err, "lease");
    memory_store_hook(f->made.target, NULL, NULL, NULL);
    assert_int_equal(count_pins(f).leases, 1); /* the old one, while there is no other */
    open_points_tend(f->points);
    check_block(image, 5, 105);
    image_close(image);
}

static void a_point_that_cannot_be_leased_does_not_open(void **state)
{
    struct fixture *f = *state;
    struct image *image;
    struct err err = ERR_NONE;
    open_all(f, NULL);
    memory_store_hook(f->made.target, fail_puts, NULL, NULL);
    check_fails(try_open(f, 0, &image, &err), err, ERR_TRANSIENT);
    memory_store_hook(f->made.target, NULL, NULL, NULL);
    image = must_open(f, 0);
    image_close(image);
}

static void an_unused_point_is_closed_after_a_while_and_a_used_one_is_not(void **state)
{
    struct fixture *f = *state;
    open_all(f, NULL);
    struct image *used = must_open(f, 0);
    image_close(must_open(f, 1));
    assert_int_equal(count_pins(f).leases, 2);
    pass_ms(f, OPEN_POINT_IDLE_MS - 1);
    open_points_tend(f->points);
    assert_int_equal(count_pins(f).leases, 2);
    pass_ms(f, 2);
    open_points_tend(f->points);
    assert_int_equal(count_pins(f).leases, 1);
    assert_int_equal(count_pins(f).last.epoch, 1);
    check_block(used, 5, 105);
    image_close(used);
    struct image *again = must_open(f, 1);
    check_block(again, 5, 7);
    image_close(again);
}

static void only_so_many_points_are_open_and_unused_ones_make_room(void **state)
{
    struct fixture *f = *state;
    struct image *images[OPEN_POINTS_MAX], *one_more;
    struct err err = ERR_NONE;
    for (unsigned i = 2; i < OPEN_POINTS_MAX + 1; i++)
        epoch_maker_cut(&f->made.maker);
    made_vm_apply(&f->made);
    check_ok(history_refresh(f->history, &err), err);
    open_all(f, NULL);
    for (size_t i = 0; i < OPEN_POINTS_MAX; i++)
        images[i] = must_open(f, i);
    check_fails(try_open(f, OPEN_POINTS_MAX, &one_more, &err), err, ERR_BUSY);
    image_close(images[9]);
    one_more = must_open(f, OPEN_POINTS_MAX);
    assert_int_equal(count_pins(f).leases, OPEN_POINTS_MAX);
    image_close(one_more);
    for (size_t i = 0; i < OPEN_POINTS_MAX; i++)
        if (i != 9)
            image_close(images[i]);
}

static void the_first_write_places_a_hold_and_the_lease_goes_when_the_point_is_closed(void **state)
{
    struct fixture *f = *state;
    open_all(f, "drill");
    struct image *image = must_open(f, 0);
    assert_int_equal(count_pins(f).holds, 0);
    write_block(image, 5, 55);
    struct pins pins = count_pins(f);
    assert_int_equal(pins.holds, 1);
    assert_int_equal(pins.leases, 1);
    check_block(image, 5, 55);
    check_block(image, 6, 106);
    pass_ms(f, 10ull * OPEN_POINT_LEASE_MS); /* a hold has no end */
    check_block(image, 6, 106);
    image_close(image);
    open_points_release(&f->points);
    assert_int_equal(count_pins(f).holds, 1);
    assert_int_equal(count_pins(f).leases, 0);
}

static void a_write_without_its_hold_is_refused_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t byte = 1;
    struct err err = ERR_NONE;
    open_all(f, "drill");
    struct image *image = must_open(f, 0);
    memory_store_hook(f->made.target, fail_puts, NULL, NULL);
    check_fails(image_write(image, 0, span_of(&byte, 1), &err), err, ERR_TRANSIENT);
    memory_store_hook(f->made.target, NULL, NULL, NULL);
    assert_int_equal(count_pins(f).leases, 1); /* still what keeps the point */
    check_block(image, 0, 100);
    write_block(image, 0, 1);
    check_block(image, 0, 1);
    image_close(image);
}

static void the_hold_of_a_name_is_the_same_after_a_restart(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 3; i++) {
        open_all(f, "drill");
        struct image *image = must_open(f, 0);
        if (i > 0)
            check_block(image, 4, i);
        write_block(image, 4, i + 1);
        image_close(image);
        open_points_release(&f->points);
        struct pins pins = count_pins(f);
        assert_int_equal(pins.holds, 1);
        assert_int_equal(pins.leases, 0);
    }
}

/* Whatever call the power goes at, the scratch folder knows of every hold in the vault. */
static void no_hold_is_ever_forgotten_by_a_power_cut(void **state)
{
    struct fixture *f = *state;
    for (uint64_t call = 1; call <= 40; call++) {
        struct err err = ERR_NONE;
        char name[32];
        uint8_t byte = 1;
        snprintf(name, sizeof name, "drill%u", (unsigned)call);
        open_all(f, name);
        struct image *image = must_open(f, 0);
        fake_world_fail(f->made.world, FAKE_ANY, call, EIO, true);
        if (!image_write(image, 0, span_of(&byte, 1), &err))
            assert_int_not_equal(err.kind, ERR_OK);
        fake_world_fail(f->made.world, FAKE_ANY, 1, EIO, true);
        image_close(image);
        open_points_release(&f->points);
        fake_world_power_cut(f->made.world, call);
        struct pins before = count_pins(f);
        open_all(f, name);
        image = must_open(f, 0);
        write_block(image, 0, 3);
        image_close(image);
        open_points_release(&f->points);
        struct pins after = count_pins(f);
        assert_true(after.holds == call && before.holds + 1 >= call);
    }
}

/* Of the gets that a read makes. */
struct hurt {
    uint64_t gets, from, until;
};

static enum memory_fault hurt_get(void *context, const struct memory_call *call)
{
    struct hurt *h = context;
    if (call->op != MEMORY_GET || strstr(call->key, "/segments/") == NULL)
        return MEMORY_PASS;
    h->gets++;
    return h->gets >= h->from && h->gets < h->until ? MEMORY_DAMAGE : MEMORY_PASS;
}

/* The read is right and nothing is said, whichever of its gets met it. */
static void a_bit_that_flips_on_the_way_marks_no_point(void **state)
{
    uint64_t gets = UINT64_MAX;
    (void)state;
    for (uint64_t at = 1; at <= gets; at++) {
        struct hurt h = {.from = at, .until = at + 1};
        void *fresh; /* nothing of it is cached */
        set_up(&fresh);
        struct fixture *f = fresh;
        open_all(f, NULL);
        struct image *image = must_open(f, 1);
        memory_store_hook(f->made.target, hurt_get, NULL, &h);
        check_block(image, 9, 109);
        memory_store_hook(f->made.target, NULL, NULL, NULL);
        gets = h.gets;
        assert_int_equal(history_point(f->history, 1).verdict, POINT_UNPROVEN);
        image_close(image);
        tear_down(&fresh);
    }
    assert_true(gets > 2);
}

static void what_is_damaged_marks_its_point(void **state)
{
    struct fixture *f = *state;
    struct hurt h = {.from = 1, .until = UINT64_MAX};
    uint8_t seen[BLOCK_BYTES];
    struct err err = ERR_NONE;
    open_all(f, NULL);
    struct image *image = must_open(f, 1);
    memory_store_hook(f->made.target, hurt_get, NULL, &h);
    check_fails(image_read(image, 9 * BLOCK_BYTES, mspan_of(seen, sizeof seen), &err), err,
                ERR_CORRUPT);
    memory_store_hook(f->made.target, NULL, NULL, NULL);
    image_close(image);
    assert_int_equal(history_point(f->history, 1).verdict, POINT_DAMAGED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bit_that_flips_on_the_way_marks_no_point),
        TEST(what_is_damaged_marks_its_point),
        TEST(a_lease_is_renewed_before_it_ends_and_the_one_before_stays_until_the_next),
        TEST(the_head_is_read_again_once_the_pin_is_there),
        TEST(a_lapsed_lease_stops_reads_until_it_is_renewed),
        TEST(a_point_that_cannot_be_leased_does_not_open),
        TEST(an_unused_point_is_closed_after_a_while_and_a_used_one_is_not),
        TEST(only_so_many_points_are_open_and_unused_ones_make_room),
        TEST(the_first_write_places_a_hold_and_the_lease_goes_when_the_point_is_closed),
        TEST(a_write_without_its_hold_is_refused_and_leaves_nothing),
        TEST(the_hold_of_a_name_is_the_same_after_a_restart),
        TEST(no_hold_is_ever_forgotten_by_a_power_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
