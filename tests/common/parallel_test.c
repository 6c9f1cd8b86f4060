/* SPDX-License-Identifier: MIT */
#include "common/parallel.h"

#include "tests/support/check.h"

#include <pthread.h>
#include <stdatomic.h>

#define PIECES 100u

struct count {
    atomic_uint calls[PIECES];
    atomic_uint running, most;
    size_t fails_from;
};

static bool count_one(void *context, size_t index, struct err *err)
{
    struct count *c = context;
    unsigned now = atomic_fetch_add(&c->running, 1) + 1, most = atomic_load(&c->most);
    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
        ;
    atomic_fetch_add(&c->calls[index], 1);
    sched_yield();
    atomic_fetch_sub(&c->running, 1);
    return index < c->fails_from || err_set(err, ERR_DENIED, "piece %zu", index);
}

static void every_piece_is_called_once_and_no_more_threads_than_told(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= PARALLEL_THREADS_MAX; threads *= 4) {
        struct count c = {.fails_from = PIECES};
        struct err err = ERR_NONE;
        check_ok(parallel_each(PIECES, threads, count_one, &c, &err), err);
        for (size_t i = 0; i < PIECES; i++)
            assert_int_equal(c.calls[i], 1);
        assert_true(c.most <= threads);
    }
}

/* All pieces wait for each other: with fewer threads than told this would never end. */
static bool meet(void *context, size_t index, struct err *err)
{
    (void)index, (void)err;
    pthread_barrier_wait(context);
    return true;
}

static void as_many_run_at_once_as_told(void **state)
{
    (void)state;
    pthread_barrier_t all;
    struct err err = ERR_NONE;
    pthread_barrier_init(&all, NULL, 4);
    check_ok(parallel_each(4, 4, meet, &all, &err), err);
    pthread_barrier_destroy(&all);
}

static void after_a_failure_nothing_more_is_begun(void **state)
{
    (void)state;
    struct count c = {.fails_from = 3};
    struct err err = ERR_NONE;
    check_fails(parallel_each(PIECES, 1, count_one, &c, &err), err, ERR_DENIED);
    assert_int_equal(c.calls[3], 1);
    assert_int_equal(c.calls[4], 0);
}

static void the_first_piece_that_failed_is_told(void **state)
{
    (void)state;
    struct count c = {.fails_from = 3};
    struct err err = ERR_NONE;
    for (int i = 0; i < 100; i++) {
        check_fails(parallel_each(PIECES, 8, count_one, &c, &err), err, ERR_DENIED);
        assert_string_equal(err.text, "piece 3");
    }
}

static void no_pieces_are_done_at_once(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    check_ok(parallel_each(0, 4, count_one, NULL, &err), err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_is_called_once_and_no_more_threads_than_told),
        cmocka_unit_test(as_many_run_at_once_as_told),
        cmocka_unit_test(after_a_failure_nothing_more_is_begun),
        cmocka_unit_test(the_first_piece_that_failed_is_told),
        cmocka_unit_test(no_pieces_are_done_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
