/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim.h"
#include "tests/support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FIXED_SEEDS 16u
#define FRESH_SEEDS 16u
#define STEPS       600u

static void run_seeds(uint64_t first, unsigned count)
{
    struct sim_result sum = {0};
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct sim_result one;
        if (!sim_run(seed, STEPS, &one))
            fail_msg("replay with SIM_SEED=%llu", (unsigned long long)seed);
        sum.points += one.points;
        sum.kills += one.kills;
        sum.power_cuts += one.power_cuts;
        sum.faults += one.faults;
        sum.passes += one.passes;
        sum.abandoned += one.abandoned;
    }
    printf("%u histories from seed %llu: %u points, %u kills, %u power cuts, %u store faults, "
           "%u passes\n",
           count, (unsigned long long)first, sum.points, sum.kills, sum.power_cuts, sum.faults,
           sum.passes);
    /* A simulation in which nothing happens shows nothing. */
    if (count > 10) {
        assert_true(sum.points > count);
        assert_true(sum.kills > 0 && sum.power_cuts > 0 && sum.faults > 0 && sum.passes > 0);
    }
}

static void every_point_is_its_cut_for_fixed_seeds(void **state)
{
    (void)state;
    const char *seed = getenv("SIM_SEED");
    if (seed != NULL)
        run_seeds(strtoull(seed, NULL, 10), 1);
    else
        run_seeds(1, FIXED_SEEDS);
}

static void every_point_is_its_cut_for_fresh_seeds(void **state)
{
    (void)state;
    if (getenv("SIM_SEED") != NULL)
        skip();
    const char *count = getenv("SIM_FRESH");
    run_seeds((uint64_t)time(NULL) * 1000,
              count ? (unsigned)strtoul(count, NULL, 10) : FRESH_SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_is_its_cut_for_fixed_seeds),
        cmocka_unit_test(every_point_is_its_cut_for_fresh_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
