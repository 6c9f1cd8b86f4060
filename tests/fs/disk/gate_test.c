/* SPDX-License-Identifier: MIT */
#include "fs/disk/gate.h"

#include <pthread.h>
#include <sched.h>

#include "tests/support/check.h"

static void a_write_belongs_to_the_epoch_it_entered_in(void **state)
{
    struct gate g;

    (void)state;
    gate_init(&g, 7);
    assert_int_equal(gate_epoch(&g), 7);
    assert_int_equal(gate_enter(&g), 7);
    assert_int_equal(gate_cut(&g), 7);
    assert_int_equal(gate_epoch(&g), 8);
    assert_int_equal(gate_enter(&g), 8);
    gate_leave(&g, 8);
    gate_leave(&g, 7);
}

static void a_cut_has_drained_when_its_last_write_left(void **state)
{
    struct gate g;

    (void)state;
    gate_init(&g, 0);
    assert_true(gate_drained(&g));
    uint32_t a = gate_enter(&g);
    uint32_t b = gate_enter(&g);
    assert_true(gate_drained(&g)); /* they are of the present epoch */
    gate_leave(&g, a);
    assert_int_equal(gate_cut(&g), 0);
    assert_false(gate_drained(&g));
    uint32_t c = gate_enter(&g);
    gate_leave(&g, b);
    assert_true(gate_drained(&g)); /* a write of the new epoch does not hold it */
    assert_int_equal(gate_cut(&g), 1);
    assert_false(gate_drained(&g));
    gate_leave(&g, c);
    assert_true(gate_drained(&g));
}

static void the_epoch_wraps_without_losing_a_write(void **state)
{
    struct gate g;

    (void)state;
    gate_init(&g, UINT32_MAX);
    uint32_t last = gate_enter(&g);
    assert_int_equal(last, UINT32_MAX);
    assert_int_equal(gate_cut(&g), UINT32_MAX);
    assert_int_equal(gate_epoch(&g), 0);
    assert_false(gate_drained(&g));
    gate_leave(&g, last);
    assert_true(gate_drained(&g));
}

#define WRITERS 6
#define WRITES  20000

struct storm {
    struct gate gate;
    _Atomic uint32_t newest; /* the highest epoch of a write that has left */
    _Atomic int inside[2];   /* writes between enter and leave, by parity, as writers saw them */
    _Atomic int writers_left;
    _Atomic int backward, late;
    int maps[2]; /* plain: written by writers, read by the cutter when drained */
    pthread_mutex_t map_lock[2];
};

static void note_newest(struct storm *s, uint32_t epoch)
{
    uint32_t seen = atomic_load(&s->newest);

    while (seen < epoch && !atomic_compare_exchange_weak(&s->newest, &seen, epoch))
        ;
}

static void *write_loop(void *argument)
{
    struct storm *s = argument;

    for (int i = 0; i < WRITES; i++) {
        uint32_t left_before = atomic_load(&s->newest);
        uint32_t epoch = gate_enter(&s->gate);
        if (epoch < left_before)
            atomic_fetch_add(&s->backward, 1);
        atomic_fetch_add(&s->inside[epoch & 1], 1);
        pthread_mutex_lock(&s->map_lock[epoch & 1]);
        s->maps[epoch & 1]++;
        pthread_mutex_unlock(&s->map_lock[epoch & 1]);
        if (i % 64 == 0)
            sched_yield();
        atomic_fetch_sub(&s->inside[epoch & 1], 1);
        note_newest(s, epoch);
        gate_leave(&s->gate, epoch);
    }
    atomic_fetch_sub(&s->writers_left, 1);
    return NULL;
}

/* Takes what the writers of a drained epoch left, without a lock: only the gate orders this. */
static int cut_and_take(struct storm *s)
{
    uint32_t epoch = gate_cut(&s->gate);

    while (!gate_drained(&s->gate))
        sched_yield();
    if (atomic_load(&s->inside[epoch & 1]) != 0)
        atomic_fetch_add(&s->late, 1);
    int taken = s->maps[epoch & 1];
    s->maps[epoch & 1] = 0;
    return taken;
}

static void no_write_of_a_drained_epoch_is_left_and_none_goes_back(void **state)
{
    struct storm s = {.writers_left = WRITERS,
                      .map_lock = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER}};
    pthread_t threads[WRITERS];
    int taken = 0;

    (void)state;
    gate_init(&s.gate, 2);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_loop, &s), 0);
    while (atomic_load(&s.writers_left) > 0)
        taken += cut_and_take(&s);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    taken += cut_and_take(&s);
    assert_int_equal(taken, WRITERS * WRITES);
    assert_int_equal(s.late, 0);
    assert_int_equal(s.backward, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_belongs_to_the_epoch_it_entered_in),
        cmocka_unit_test(a_cut_has_drained_when_its_last_write_left),
        cmocka_unit_test(the_epoch_wraps_without_losing_a_write),
        cmocka_unit_test(no_write_of_a_drained_epoch_is_left_and_none_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
