/* SPDX-License-Identifier: MIT
 * The simulator: sources, processors, claims, views and overlays of one VM in one thread, from a
 * seed, over fake worlds and stores in memory. What a seed decides: sizes, bounds, how much goes
 * wrong, and every step. What happens, in all orders:
 *   guests write, read and flush on up to three hosts; cuts are made, requested, given up; epochs
 *   are shipped and applied; processors, shippers and claims run in between of each other, at any
 *   store call;
 *   workers are killed, at any call of theirs, and adopted or not; the power is cut, with any part
 *   of what was not synced; disks grow, and are written while not mounted; hosts are copied while
 *   they run, with or without their memory, so that two writers have one state;
 *   stores fail, lose replies, serve flipped bits, list late; clocks jump;
 *   points are thinned, runs merged, frames moved and objects removed;
 *   the VM is claimed from any point by any host, which may take its old disk further.
 * The oracle, after each of these and at the end: a read shows what was written; a flushed write is
 * there; each point, of the line and of every branch, shows what the disks of one writer of its
 * generation held at one of its cuts, and all points of a generation are cuts of one writer; points
 * rise; of the writers of the newest generation one goes on and all others are fenced; the log of
 * an ended generation holds nothing more than when its fence was put; a view and an overlay show
 * their point and their writes as long as they are open; with all well again what the disks hold
 * becomes the newest point. A seed replays exactly. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

/* What happened, to be added up: a simulation in which nothing happens shows nothing. */
struct sim_result {
    uint64_t histories, steps, points, kills, torn, power_cuts, behind, faults, nested, passes,
        abandoned, grown, copies, fenced, claims, repeats, tails, seeds, overlays, thinned, removed,
        leveled, compacted;
};

/* Runs one history and adds to `sum`; at the first broken promise prints seed and reason to
 * standard output and returns false (what it held is not freed then). */
bool sim_run(uint64_t seed, struct sim_result *sum);

#endif
