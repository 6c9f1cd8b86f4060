/* SPDX-License-Identifier: MIT
 * The module itself is included: only its queue tells a test that a waiter has arrived. */
#include "fs/disk/range_lock.c" /* NOLINT */

#include <sched.h>
#include <stdatomic.h>

#include "common/cleanup.h"
#include "tests/support/check.h"

static size_t queue_length(struct range_locks *locks)
{
    size_t count = 0;

    LOCK_SCOPE(&locks->queue_lock);
    for (struct range_hold *h = locks->head; h; h = h->next)
        count++;
    return count;
}

static void wait_for_queue(struct range_locks *locks, size_t length)
{
    while (queue_length(locks) != length)
        sched_yield();
}

/* A thread that takes one extent, notes when it was served, and lets go. */
struct taker {
    pthread_t thread;
    struct range_locks *locks;
    struct extent extent;
    _Atomic int *served;
    _Atomic int place;
};

static void *take(void *argument)
{
    struct taker *t = argument;
    struct range_hold hold;

    range_lock(t->locks, t->extent, &hold);
    atomic_store(&t->place, atomic_fetch_add(t->served, 1) + 1);
    range_unlock(&hold);
    return NULL;
}

static void taker_start(struct taker *t)
{
    assert_int_equal(pthread_create(&t->thread, NULL, take, t), 0);
}

static void overlapping_waiters_are_served_in_the_order_they_came(void **state)
{
    struct range_locks *locks;
    struct range_hold hold;
    _Atomic int served = 0;
    struct taker takers[6];

    (void)state;
    assert_true(range_locks_make(&locks));
    range_lock(locks, (struct extent){10, 10}, &hold);
    for (size_t i = 0; i < 6; i++) {
        takers[i] = (struct taker){.locks = locks, .extent = {12 + i, 4}, .served = &served};
        taker_start(&takers[i]);
        wait_for_queue(locks, i + 2);
    }
    assert_int_equal(atomic_load(&served), 0);
    range_unlock(&hold);
    for (size_t i = 0; i < 6; i++)
        pthread_join(takers[i].thread, NULL);
    for (size_t i = 1; i < 4; i++) /* {12,4} .. {15,4} all overlap one another */
        assert_true(takers[i - 1].place < takers[i].place);
    range_locks_release(&locks);
    assert_null(locks);
}

static void a_newcomer_does_not_pass_a_waiter_that_it_overlaps(void **state)
{
    struct range_locks *locks;
    struct range_hold hold;
    _Atomic int served = 0;
    struct taker wide = {.extent = {0, 100}, .served = &served};
    struct taker late = {.extent = {50, 1}, .served = &served}; /* apart from the holder */

    (void)state;
    assert_true(range_locks_make(&locks));
    wide.locks = late.locks = locks;
    range_lock(locks, (struct extent){0, 1}, &hold);
    taker_start(&wide);
    wait_for_queue(locks, 2);
    taker_start(&late);
    wait_for_queue(locks, 3);
    assert_int_equal(atomic_load(&served), 0);
    range_unlock(&hold);
    pthread_join(wide.thread, NULL);
    pthread_join(late.thread, NULL);
    assert_int_equal(wide.place, 1);
    assert_int_equal(late.place, 2);
    range_locks_release(&locks);
}

/* Would hang if the second one had to wait for the first. */
static void disjoint_extents_are_held_together(void **state)
{
    struct range_locks *locks;
    struct range_hold a, b, c;

    (void)state;
    assert_true(range_locks_make(&locks));
    range_lock(locks, (struct extent){0, 8}, &a);
    range_lock(locks, (struct extent){8, 8}, &b);
    range_lock(locks, (struct extent){UINT64_C(1) << 37, 1}, &c);
    assert_true(a.granted && b.granted && c.granted);
    range_unlock(&a);
    range_unlock(&c);
    range_unlock(&b);
    range_locks_release(&locks);
}

static void trying_takes_what_is_free_and_waits_for_nothing(void **state)
{
    struct range_locks *locks;
    struct range_hold a, b, c;

    (void)state;
    assert_true(range_locks_make(&locks));
    range_lock(locks, (struct extent){0, 8}, &a);
    assert_false(range_try(locks, (struct extent){7, 2}, &b));
    assert_int_equal(queue_length(locks), 1);
    assert_true(range_try(locks, (struct extent){8, 2}, &b));
    assert_false(range_try(locks, (struct extent){9, 1}, &c));
    range_unlock(&a);
    range_unlock(&b);
    assert_true(range_try(locks, (struct extent){0, 100}, &c));
    range_cleanup(&c);
    range_locks_release(&locks);
}

static void two_disjoint_waiters_both_go_when_one_holder_leaves(void **state)
{
    struct range_locks *locks;
    struct range_hold hold, other;
    _Atomic int served = 0;
    struct taker left = {.extent = {0, 4}, .served = &served};
    struct taker right = {.extent = {4, 4}, .served = &served};

    (void)state;
    assert_true(range_locks_make(&locks));
    left.locks = right.locks = locks;
    range_lock(locks, (struct extent){0, 8}, &hold);
    range_lock(locks, (struct extent){8, 8}, &other);
    taker_start(&left);
    taker_start(&right);
    wait_for_queue(locks, 4);
    range_unlock(&hold);
    pthread_join(left.thread, NULL);
    pthread_join(right.thread, NULL);
    assert_int_equal(atomic_load(&served), 2);
    range_unlock(&other);
    range_locks_release(&locks);
}

static void the_scope_helper_lets_go_once(void **state)
{
    struct range_locks *locks;

    (void)state;
    assert_true(range_locks_make(&locks));
    {
        struct range_hold hold CLEANUP(range_cleanup) = {.locks = NULL};
        range_lock(locks, (struct extent){1, 1}, &hold);
        range_unlock(&hold);
        range_lock(locks, (struct extent){2, 1}, &hold);
    }
    assert_int_equal(queue_length(locks), 0);
    range_locks_release(&locks);
}

#define BLOCKS 32u

struct storm {
    struct range_locks *locks;
    int plain[BLOCKS]; /* touched only under the lock: a data race is a test failure under TSan */
    _Atomic int inside[BLOCKS];
    _Atomic int clashes;
};

struct storm_thread {
    pthread_t thread;
    struct storm *storm;
    unsigned seed;
};

static void *storm_run(void *argument)
{
    struct storm_thread *t = argument;
    struct storm *s = t->storm;

    for (int round = 0; round < 3000; round++) {
        uint64_t first = (unsigned)rand_r(&t->seed) % BLOCKS;
        uint64_t count = 1 + (unsigned)rand_r(&t->seed) % (BLOCKS - first);
        struct range_hold hold;

        range_lock(s->locks, (struct extent){first, count < 6 ? count : 6}, &hold);
        for (uint64_t b = first; b < extent_end(hold.extent); b++) {
            if (atomic_fetch_add(&s->inside[b], 1) != 0)
                atomic_fetch_add(&s->clashes, 1);
            s->plain[b]++;
        }
        if (round % 16 == 0)
            sched_yield();
        for (uint64_t b = first; b < extent_end(hold.extent); b++)
            atomic_fetch_sub(&s->inside[b], 1);
        range_unlock(&hold);
    }
    return NULL;
}

static void holders_of_one_block_exclude_each_other(void **state)
{
    struct storm storm = {.clashes = 0};
    struct storm_thread threads[6];

    (void)state;
    assert_true(range_locks_make(&storm.locks));
    for (unsigned i = 0; i < 6; i++) {
        threads[i] = (struct storm_thread){.storm = &storm, .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, storm_run, &threads[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++)
        pthread_join(threads[i].thread, NULL);
    assert_int_equal(storm.clashes, 0);
    range_locks_release(&storm.locks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlapping_waiters_are_served_in_the_order_they_came),
        cmocka_unit_test(a_newcomer_does_not_pass_a_waiter_that_it_overlaps),
        cmocka_unit_test(disjoint_extents_are_held_together),
        cmocka_unit_test(trying_takes_what_is_free_and_waits_for_nothing),
        cmocka_unit_test(two_disjoint_waiters_both_go_when_one_holder_leaves),
        cmocka_unit_test(the_scope_helper_lets_go_once),
        cmocka_unit_test(holders_of_one_block_exclude_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
