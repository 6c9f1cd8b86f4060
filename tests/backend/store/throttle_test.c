/* SPDX-License-Identifier: MIT
 * Time is the fake clock's alone: a pause moves it, or waits until the test does. */
#include "backend/store/throttle.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"
#include "tests/support/zone.h"

#include <stdio.h>

#define KIB 1024u
#define MIB (1024u * KIB)

struct rig {
    struct world *world;
    struct memory_bucket *bucket;
    struct bandwidth *bandwidth;
    struct store *store;
    uint64_t paused_ms, longest_ms;
    unsigned pauses;
    void (*at_pause)(struct rig *r);
};

static uint8_t bytes[8 * MIB];

static bool pause_on_paper(void *context, uint32_t ms)
{
    struct rig *r = context;
    r->pauses++;
    r->paused_ms += ms;
    r->longest_ms = ms > r->longest_ms ? ms : r->longest_ms;
    fake_world_advance(r->world, ms * 1000000ull);
    if (r->at_pause != NULL)
        r->at_pause(r);
    return true;
}

static void rig_make(struct rig *r, const char *spec)
{
    struct err err = ERR_NONE;
    *r = (struct rig){.world = fake_world_make(1), .bucket = memory_bucket_make()};
    check_ok(bandwidth_make(r->world, spec, pause_on_paper, r, &r->bandwidth, &err), err);
    check_ok(store_throttle(memory_store_open(r->bucket), r->bandwidth, &r->store, &err), err);
}

static void rig_release(struct rig *r)
{
    store_close(&r->store);
    bandwidth_release(&r->bandwidth);
    memory_bucket_release(&r->bucket);
    fake_world_release(&r->world);
}
#define AUTO_RIG CLEANUP(rig_release)

static bool put(struct store *s, const char *key, size_t length, struct err *err)
{
    *err = ERR_NONE;
    return store_put(s, key, span_of(bytes, length), err);
}

/* --- turns --- */

static void many_transfers_take_the_time_that_the_rate_gives_them(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err = ERR_NONE;
    char key[8];
    rig_make(&r, "1M");
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "p%u", i);
        check_ok(put(r.store, key, MIB / 2, &err), err);
    }
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "p%u", i);
        check_ok(store_get(r.store, key, 0, mspan_of(bytes, MIB / 2), &err), err);
    }
    /* 20 MiB, of which the last half is paid for by the next. */
    assert_in_range(r.paused_ms, 19500, 19600);
}

/* Else what they owe grows for ever, and the next large one waits for all of it. */
static void small_transfers_alone_keep_to_the_rate_but_for_ten_seconds(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err = ERR_NONE;
    char key[16];
    rig_make(&r, "64k");
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "p%u", i);
        check_ok(put(r.store, key, 32 * KIB, &err), err);
    }
    assert_in_range(r.paused_ms, 88000, 91000); /* 100 seconds' worth, less what they may owe */
    r.paused_ms = 0;
    check_ok(put(r.store, "large", MIB, &err), err);
    assert_in_range(r.paused_ms, 8000, 11000);
}

static void no_bound_is_no_pause(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "unlimited");
    check_ok(put(r.store, "a", sizeof bytes, &err), err);
    check_ok(put(r.store, "b", sizeof bytes, &err), err);
    assert_int_equal(r.pauses, 0);
}

static void what_was_owed_is_forgiven_when_the_bound_goes(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "1k");
    check_ok(put(r.store, "a", sizeof bytes, &err), err);
    check_ok(bandwidth_set(r.bandwidth, "unlimited", &err), err);
    check_ok(put(r.store, "b", sizeof bytes, &err), err);
    check_ok(bandwidth_set(r.bandwidth, "1k", &err), err);
    check_ok(put(r.store, "c", sizeof bytes, &err), err);
    assert_int_equal(r.pauses, 0);
}

static void no_more_than_a_second_is_saved_up(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "1M");
    fake_world_advance(r.world, 3600000000000ull);
    check_ok(put(r.store, "a", 2 * MIB, &err), err);
    assert_int_equal(r.pauses, 0);
    check_ok(put(r.store, "b", MIB, &err), err);
    assert_in_range(r.paused_ms, 1000, 1010);
}

static void small_transfers_pass_at_once_and_the_next_pays(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err = ERR_NONE;
    char key[8];
    rig_make(&r, "1M");
    check_ok(put(r.store, "a", MIB, &err), err);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(key, sizeof key, "s%u", i);
        check_ok(put(r.store, key, 64 * KIB - 1, &err), err);
    }
    assert_int_equal(r.pauses, 0);
    check_ok(put(r.store, "b", 64 * KIB, &err), err);
    assert_in_range(r.paused_ms, 1999, 2010);
}

static void one_larger_than_a_seconds_worth_is_not_stuck(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "64k");
    check_ok(put(r.store, "a", sizeof bytes, &err), err);
    check_ok(put(r.store, "b", sizeof bytes, &err), err);
    assert_in_range(r.paused_ms, 128000, 128300);
}

static void a_load_is_paid_for_afterwards(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    rig_make(&r, "1M");
    memory_bucket_set(r.bucket, "a", span_of(bytes, 2 * MIB));
    check_ok(store_load(r.store, "a", 2 * MIB, &out, &err), err);
    assert_int_equal(r.pauses, 0);
    check_ok(put(r.store, "b", MIB, &err), err);
    assert_in_range(r.paused_ms, 2000, 2010);
}

static bool go_on(void *context, const char *key, uint64_t length)
{
    (void)context, (void)key, (void)length;
    return true;
}

static void what_moves_no_objects_does_not_wait(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    uint64_t size;
    rig_make(&r, "1k");
    check_ok(put(r.store, "a", sizeof bytes, &err), err);
    check_ok(store_size(r.store, "a", &size, &err), err);
    check_ok(store_list(r.store, "", NULL, go_on, NULL, &err), err);
    check_ok(store_remove(r.store, "a", &err), err);
    assert_int_equal(r.pauses, 0);
}

/* Else those who ask often would starve the one that waits. */
static void parts_of_a_byte_are_not_lost_to_those_who_ask_often(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "64k");
    check_ok(put(r.store, "a", 64 * KIB, &err), err);
    for (unsigned i = 0; i < 50001; i++) {
        fake_world_advance(r.world, 20000); /* 1.3 bytes' worth */
        assert_false(put(r.store, "a", 0, &err));
    }
    check_ok(put(r.store, "b", 64 * KIB, &err), err);
    assert_int_equal(r.pauses, 0);
}

static void set_unlimited(struct rig *r)
{
    struct err err = ERR_NONE;
    if (r->pauses == 3)
        check_ok(bandwidth_set(r->bandwidth, "unlimited", &err), err);
}

static void a_change_of_the_bound_reaches_who_waits(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "1k");
    check_ok(put(r.store, "a", MIB, &err), err); /* a quarter of an hour's worth */
    r.at_pause = set_unlimited;
    check_ok(put(r.store, "b", MIB, &err), err);
    assert_int_equal(r.pauses, 3);
    assert_in_range(r.longest_ms, 1, 500);
}

static void a_window_that_begins_reaches_who_waits(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "1k,00:01-00:02=unlimited");
    check_ok(put(r.store, "a", MIB, &err), err);
    check_ok(put(r.store, "b", MIB, &err), err);
    assert_in_range(r.paused_ms, 60000, 60500);
}

/* --- cancelling --- */

static void cancel(struct rig *r)
{
    store_cancel(r->store, true);
}

static void a_cancelled_turn_sends_nothing(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r, "1k");
    check_ok(put(r.store, "a", MIB, &err), err);
    r.at_pause = cancel;
    check_fails(put(r.store, "b", MIB, &err), err, ERR_CANCELLED);
    check_fails(put(r.store, "c", MIB, &err), err, ERR_CANCELLED);
    assert_int_equal(r.pauses, 1);
    assert_int_equal(memory_bucket_objects(r.bucket), 1);
    r.at_pause = NULL;
    store_cancel(r.store, false);
    check_ok(put(r.store, "d", MIB, &err), err);
}

/* --- several at once: a pause lasts until the test lets time pass --- */

#define ACTORS 3u

struct gate {
    struct world *world;
    struct bandwidth *bandwidth;
    struct memory_bucket *bucket;
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    unsigned waiting, done;
    uint64_t ticks;
    char order[2 * ACTORS + 1];
};

struct actor {
    struct gate *gate;
    struct store *store;
    pthread_t thread;
    struct err err;
    char key[2];
    bool gives_up, good;
};

static __thread struct actor *me;

static bool wait_for_tick(void *context, uint32_t ms)
{
    struct gate *g = context;
    (void)ms;
    if (me->gives_up) {
        store_cancel(me->store, true);
        return true;
    }
    pthread_mutex_lock(&g->lock);
    uint64_t seen = g->ticks;
    g->waiting++;
    pthread_cond_broadcast(&g->change);
    while (g->ticks == seen)
        pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return true;
}

static void *act(void *context)
{
    struct actor *a = me = context;
    struct gate *g = a->gate;
    a->good = put(a->store, a->key, MIB, &a->err);
    pthread_mutex_lock(&g->lock);
    if (a->good)
        strcat(g->order, a->key);
    g->done++;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Until `count` actors wait in a pause or are done: nothing moves then but by a tick. */
static void gate_settle(struct gate *g, unsigned count)
{
    pthread_mutex_lock(&g->lock);
    while (g->waiting + g->done < count)
        pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_tick(struct gate *g)
{
    fake_world_advance(g->world, 100000000);
    pthread_mutex_lock(&g->lock);
    g->ticks++;
    g->waiting = 0;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

static void gate_make(struct gate *g)
{
    struct err err = ERR_NONE;
    struct actor first = {.gate = g};
    *g = (struct gate){.world = fake_world_make(1), .bucket = memory_bucket_make()};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->change, NULL);
    check_ok(bandwidth_make(g->world, "1M", wait_for_tick, g, &g->bandwidth, &err), err);
    check_ok(store_throttle(memory_store_open(g->bucket), g->bandwidth, &first.store, &err), err);
    check_ok(put(first.store, "first", MIB, &err), err); /* leaves a debt to wait for */
    store_close(&first.store);
}

static void gate_release(struct gate *g)
{
    bandwidth_release(&g->bandwidth);
    memory_bucket_release(&g->bucket);
    pthread_cond_destroy(&g->change);
    pthread_mutex_destroy(&g->lock);
    fake_world_release(&g->world);
}

static void actor_start(struct actor *a, struct gate *g, char key, bool gives_up)
{
    struct err err = ERR_NONE;
    *a = (struct actor){.gate = g, .key = {key}, .gives_up = gives_up};
    check_ok(store_throttle(memory_store_open(g->bucket), g->bandwidth, &a->store, &err), err);
    assert_int_equal(pthread_create(&a->thread, NULL, act, a), 0);
}

static void actor_end(struct actor *a)
{
    pthread_join(a->thread, NULL);
    store_close(&a->store);
}

static void turns_come_in_the_order_of_asking(void **state)
{
    (void)state;
    struct gate g CLEANUP(gate_release);
    struct actor actors[ACTORS];
    gate_make(&g);
    for (unsigned i = 0; i < ACTORS; i++) {
        actor_start(&actors[i], &g, "abc"[i], false);
        gate_settle(&g, i + 1);
    }
    while (g.done < ACTORS) { /* settled: nobody writes it */
        gate_tick(&g);
        gate_settle(&g, ACTORS);
    }
    for (unsigned i = 0; i < ACTORS; i++) {
        actor_end(&actors[i]);
        assert_true(actors[i].good);
    }
    assert_string_equal(g.order, "abc");
    assert_in_range(g.ticks, 30, 33); /* a second's worth before each */
}

/* It need not come to the front first: those before it may wait for hours. */
static void who_gives_up_leaves_the_queue_at_once(void **state)
{
    (void)state;
    struct gate g CLEANUP(gate_release);
    struct actor front, middle, last;
    gate_make(&g);
    actor_start(&front, &g, 'a', false);
    gate_settle(&g, 1);
    actor_start(&middle, &g, 'b', true);
    actor_end(&middle);
    assert_false(middle.good);
    assert_int_equal(middle.err.kind, ERR_CANCELLED);
    actor_start(&last, &g, 'c', false);
    gate_settle(&g, 3);
    while (g.done < 3) {
        gate_tick(&g);
        gate_settle(&g, 3);
    }
    actor_end(&front);
    actor_end(&last);
    assert_string_equal(g.order, "ac");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_transfers_take_the_time_that_the_rate_gives_them),
        cmocka_unit_test(small_transfers_alone_keep_to_the_rate_but_for_ten_seconds),
        cmocka_unit_test(no_bound_is_no_pause),
        cmocka_unit_test(what_was_owed_is_forgiven_when_the_bound_goes),
        cmocka_unit_test(no_more_than_a_second_is_saved_up),
        cmocka_unit_test(small_transfers_pass_at_once_and_the_next_pays),
        cmocka_unit_test(one_larger_than_a_seconds_worth_is_not_stuck),
        cmocka_unit_test(a_load_is_paid_for_afterwards),
        cmocka_unit_test(what_moves_no_objects_does_not_wait),
        cmocka_unit_test(parts_of_a_byte_are_not_lost_to_those_who_ask_often),
        cmocka_unit_test(a_change_of_the_bound_reaches_who_waits),
        cmocka_unit_test(a_window_that_begins_reaches_who_waits),
        cmocka_unit_test(a_cancelled_turn_sends_nothing),
        cmocka_unit_test(turns_come_in_the_order_of_asking),
        cmocka_unit_test(who_gives_up_leaves_the_queue_at_once),
    };
    return cmocka_run_group_tests(tests, zone_use_utc, NULL);
}
