/* SPDX-License-Identifier: MIT */
#include "common/deadline.h"

#include "tests/support/check.h"

#include <errno.h>

static int64_t ns_of(struct timespec t)
{
    assert_in_range(t.tv_nsec, 0, 999999999);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return ns_of(t);
}

/* Often enough that the nanoseconds carry over into seconds. */
static void a_deadline_is_that_far_from_now(void **state)
{
    (void)state;
    static const uint64_t spans_ms[] = {0, 1, 499, 999, 1000, 1999, 3600000, 4294967295};
    for (unsigned round = 0; round < 1000; round++)
        for (size_t i = 0; i < sizeof spans_ms / sizeof *spans_ms; i++) {
            int64_t span_ns = (int64_t)spans_ms[i] * 1000000, before = now_ns();
            int64_t deadline = ns_of(deadline_after(spans_ms[i]));
            assert_true(deadline >= before + span_ns && deadline <= now_ns() + span_ns);
        }
}

struct wait {
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    bool waiting, woken;
    int result;
};

static void *wait_an_hour(void *context)
{
    struct wait *w = context;
    struct timespec until = deadline_after(3600000);
    pthread_mutex_lock(&w->lock);
    w->waiting = true;
    while (!w->woken && w->result != ETIMEDOUT)
        w->result = pthread_cond_timedwait(&w->change, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* On another clock an hour from now would be long ago. */
static void a_condition_waits_on_the_clock_of_the_deadlines(void **state)
{
    (void)state;
    struct wait w = {.waiting = false};
    pthread_t thread;
    pthread_mutex_init(&w.lock, NULL);
    deadline_cond_init(&w.change);
    assert_int_equal(pthread_create(&thread, NULL, wait_an_hour, &w), 0);
    for (bool waiting = false; !waiting;) {
        pthread_mutex_lock(&w.lock);
        waiting = w.waiting; /* with the lock ours again, it waits */
        w.woken = waiting;
        pthread_cond_signal(&w.change);
        pthread_mutex_unlock(&w.lock);
    }
    pthread_join(thread, NULL);
    assert_int_equal(w.result, 0);
    pthread_cond_destroy(&w.change);
    pthread_mutex_destroy(&w.lock);
}

/* More descriptors than a process may have. */
static void a_poll_that_fails_takes_its_time(void **state)
{
    (void)state;
    int64_t before = now_ns();
    assert_int_equal(poll_paced(NULL, (nfds_t)-1, 0), -1);
    assert_int_equal(errno, EINVAL);
    assert_true(now_ns() - before >= (int64_t)POLL_FAILED_MS * 1000000);
    assert_int_equal(poll_paced(NULL, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deadline_is_that_far_from_now),
        cmocka_unit_test(a_condition_waits_on_the_clock_of_the_deadlines),
        cmocka_unit_test(a_poll_that_fails_takes_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
