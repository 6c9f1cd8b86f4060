/* SPDX-License-Identifier: MIT */
#include "tests/support/crash_states.h"

#include <stdio.h>
#include <stdlib.h>

#define UNITS_MAX                                                                                  \
    12u             /* pending at once; more fails the test, for then not every subset was seen    \
                     */
#define TORN_TWO 2u /* torn pages are tried with all others lost, and with all others kept */
#define NO_UNIT  SIZE_MAX

struct workload {
    size_t steps[CRASH_STEPS];
    size_t count;
};

struct choice {
    uint64_t stay; /* bit per unit */
    size_t torn;   /* this unit keeps `sectors` only */
    unsigned sectors;
};

struct counts {
    uint64_t workloads, states, crashes;
    size_t units_most;
};

static unsigned keep(void *context, size_t unit)
{
    const struct choice *c = context;
    if (unit == c->torn)
        return c->sectors;
    return c->stay >> unit & 1 ? FAKE_WHOLE : 0;
}

/* One run of a workload. */
struct run {
    struct world *world;
    void *context;
};

static struct run run_begin(const struct crash_model *m)
{
    struct run r = {.world = fake_world_make(1), .context = calloc(1, m->context_bytes)};
    if (r.context == NULL)
        abort();
    m->begin(r.context, r.world);
    return r;
}

static void run_end(const struct crash_model *m, struct run *r)
{
    if (m->release != NULL)
        m->release(r->context);
    free(r->context);
    fake_world_release(&r->world);
}

/* Runs it until call `stop`, cuts the power and checks, unless `c` is NULL. How many units were
 * pending is returned; *dead says whether the machine died before the workload's end. */
static size_t run(const struct crash_model *m, const struct workload *l, uint64_t stop,
                  struct choice *c, bool *dead)
{
    struct run r = run_begin(m);
    fake_world_stop(r.world, stop);
    for (size_t s = 0; s < l->count; s++)
        if (!m->step(r.context, r.world, l->steps[s]))
            break;
    *dead = fake_world_stopped(r.world);
    fake_world_stop(r.world, 1);
    size_t units = fake_world_units(r.world);
    m->close(r.context);
    if (c != NULL) {
        fake_world_power_cut_by(r.world, keep, c);
        m->check(r.context, r.world);
    }
    run_end(m, &r);
    return units;
}

/* Of all operations but the last. */
static uint64_t calls_before_last(const struct crash_model *m, const struct workload *l)
{
    struct run r = run_begin(m);
    uint64_t before = fake_world_calls(r.world, FAKE_ANY);
    for (size_t s = 0; s + 1 < l->count; s++) {
        if (m->step(r.context, r.world, l->steps[s]))
            continue;
        fprintf(stderr, "%s: operation %zu failed behind %zu, %zu\n", m->name, l->steps[s],
                l->steps[0], l->steps[1]);
        abort();
    }
    uint64_t calls = fake_world_calls(r.world, FAKE_ANY) - before;
    m->close(r.context);
    run_end(m, &r);
    return calls;
}

static void try_state(const struct crash_model *m, const struct workload *l, uint64_t stop,
                      struct choice c, struct counts *n)
{
    bool dead;
    (void)run(m, l, stop, &c, &dead);
    n->states++;
}

static bool crash_at(const struct crash_model *m, const struct workload *l, uint64_t stop,
                     struct counts *n)
{
    bool dead;
    size_t units = run(m, l, stop, NULL, &dead);
    if (units > UNITS_MAX) {
        fprintf(stderr, "%s: %zu changes were pending at once\n", m->name, units);
        abort();
    }
    if (units > n->units_most)
        n->units_most = units;
    uint64_t all = (UINT64_C(1) << units) - 1;
    for (uint64_t stay = 0; stay <= all; stay++)
        try_state(m, l, stop, (struct choice){.stay = stay, .torn = NO_UNIT}, n);
    for (size_t torn = 0; torn < units; torn++)
        for (unsigned sectors = 1; sectors < FAKE_WHOLE; sectors++)
            for (unsigned others = 0; others < TORN_TWO; others++)
                try_state(
                    m, l, stop,
                    (struct choice){.stay = others ? all : 0, .torn = torn, .sectors = sectors}, n);
    n->crashes++;
    return dead;
}

static void all_of_length(const struct crash_model *m, size_t length, uint64_t share,
                          struct counts *n)
{
    uint64_t count = 1;
    for (size_t i = 0; i < length; i++)
        count *= m->alphabet;
    for (uint64_t number = 0; number < count; number += length == CRASH_STEPS ? share : 1) {
        struct workload l = {.count = length};
        uint64_t rest = number;
        for (size_t i = 0; i < length; i++, rest /= m->alphabet)
            l.steps[i] = (size_t)(rest % m->alphabet);
        for (uint64_t stop = calls_before_last(m, &l) + 1; crash_at(m, &l, stop, n); stop++)
            ;
        n->workloads++;
    }
}

void crash_states_all(const struct crash_model *m)
{
    struct counts n = {0};
    const char *given = getenv("CRASH_SHARE");
    uint64_t share = given ? strtoull(given, NULL, 10) : 1;
    if (share == 0)
        abort();
    for (size_t length = 1; length <= CRASH_STEPS; length++)
        all_of_length(m, length, share, &n);
    printf("%s: %llu workloads (of the longest, 1 of %llu), %llu crashes, %llu states, at most %zu "
           "changes pending\n",
           m->name, (unsigned long long)n.workloads, (unsigned long long)share,
           (unsigned long long)n.crashes, (unsigned long long)n.states, n.units_most);
}
