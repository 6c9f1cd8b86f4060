/* SPDX-License-Identifier: MIT
 * The simulator: the whole source, processor and view in one thread, from a seed, over a fake
 * world and stores in memory. It drives guest writes, cuts, shipping, applying, kills, power cuts,
 * clean stops, writes behind the disk's back and failing stores in every order, and knows at every
 * cut what the disks held: each recovery point must show exactly that. A seed replays exactly. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_result {
    unsigned points, kills, power_cuts, faults, passes, abandoned;
};

/* Runs one history of `steps` actions; on the first broken promise prints seed and reason to
 * standard error and returns false. */
bool sim_run(uint64_t seed, unsigned steps, struct sim_result *out);

#endif
