/* SPDX-License-Identifier: MIT
 * A fixed set of histories and a fresh one in every run. SIM_SEED=N replays one; SIM_FRESH=N makes
 * so many fresh ones, from SIM_FIRST on when that is given. */
#include "tests/sim/sim.h"
#include "tests/support/check.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FIXED_SEEDS 160u
#define FRESH_SEEDS 160u

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void run_seeds(uint64_t first, uint64_t count)
{
    struct sim_result n = {0};
    for (uint64_t seed = first; seed < first + count; seed++)
        if (!sim_run(seed, &n))
            fail_msg("replay with SIM_SEED=%" PRIu64, seed);
    printf("%" PRIu64 " histories from seed %" PRIu64 ", %" PRIu64 " steps, %" PRIu64 " of them "
           "in another's store call: %" PRIu64 " points, %" PRIu64 " workers killed, %" PRIu64
           " in a write, %" PRIu64 " power cuts, %" PRIu64 " store faults, %" PRIu64
           " passes, %" PRIu64 " writes behind a mount's back, %" PRIu64 " drills, %" PRIu64
           " disks grown\n",
           n.histories, first, n.steps, n.nested, n.points, n.kills, n.torn, n.power_cuts, n.faults,
           n.passes, n.behind, n.overlays, n.grown);
    printf("%" PRIu64 " hosts copied, %" PRIu64 " claims, %" PRIu64 " repeated, %" PRIu64
           " tails, %" PRIu64 " seeds, %" PRIu64 " fenced, %" PRIu64 " points thinned, %" PRIu64
           " objects removed, %" PRIu64 " runs leveled, %" PRIu64 " compacted\n",
           n.copies, n.claims, n.repeats, n.tails, n.seeds, n.fenced, n.thinned, n.removed,
           n.leveled, n.compacted);
    if (count < FIXED_SEEDS)
        return;
    /* A simulation in which nothing happens shows nothing. */
    assert_true(n.points > count && n.nested > count && n.kills > count);
    assert_true(n.torn > 0 && n.power_cuts > 0 && n.faults > 0 && n.passes > 0 && n.behind > 0);
    assert_true(n.grown > 0 && n.copies > 0 && n.claims > 0 && n.repeats > 0 && n.tails > 0 &&
                n.seeds > 0);
    assert_true(n.fenced > 0 && n.overlays > 0 && n.thinned > 0 && n.removed > 0 && n.leveled > 0 &&
                n.compacted > 0);
}

static void every_promise_holds_for_fixed_seeds(void **state)
{
    (void)state;
    if (getenv("SIM_SEED") != NULL)
        run_seeds(setting("SIM_SEED", 0), 1);
    else
        run_seeds(1, FIXED_SEEDS);
}

static void every_promise_holds_for_fresh_seeds(void **state)
{
    (void)state;
    if (getenv("SIM_SEED") == NULL)
        run_seeds(setting("SIM_FIRST", (uint64_t)time(NULL) * 1000),
                  setting("SIM_FRESH", FRESH_SEEDS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_promise_holds_for_fixed_seeds),
        cmocka_unit_test(every_promise_holds_for_fresh_seeds),
    };
    /* Memory that was used once is kept: a fifth of the time would go into getting it again. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
