/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim_internal.h"

#include "common/cleanup.h"
#include "common/file.h"
#include "fs/disk/seed.h"

#include <fcntl.h>
#include <stdlib.h>

#define CLAIM_HOLD "hold-claim"
#define TRIES_MAX  2000u /* of one claim, while stores get better: more means that it never can */

static struct claim_config claim_config_of(struct sim *s)
{
    return (struct claim_config){.world = s->region,
                                 .target = s->faulty_target,
                                 .cache = sim_chance(s, 25) ? NULL : s->faulty_cache,
                                 .vm = SIM_VM,
                                 .keys = s->keys,
                                 .label = "failed over"};
}

/* Between two tries life goes on, and stores get better. */
static void meanwhile(struct sim *s)
{
    must(s, s->fault_percent > 0 || s->sum->nested > 0);
    must(s, ++s->tries < TRIES_MAX);
    for (unsigned i = 0; i < 4; i++)
        sim_life(s);
    if (sim_chance(s, 25))
        s->fault_percent = 0;
    s->user.dead = false;
    sim_doing(s, "claiming");
}

/* The newest point, or any, also one that lies on a branch. False: there is none. */
static bool pick_point(struct sim *s, struct history *h, struct history_point *out)
{
    struct err err = ERR_NONE;
    struct history_point *left AUTO_FREE = NULL;
    size_t count, points = history_points(h);
    must_ok(s, history_branches(h, &left, &count, &err), err);
    if (points == 0)
        return false;
    *out = history_point(h, points - 1);
    if (count > 0 && sim_chance(s, 20))
        *out = left[sim_below(s, count)];
    else if (sim_chance(s, 33))
        *out = history_point(h, sim_below(s, points));
    return true;
}

/* What the ended generation's log holds from now on for ever. */
static void note_ended(struct sim *s, struct generation g)
{
    struct err err = ERR_NONE;
    struct history_tail tail;
    struct history_head head;
    struct history *h = oracle_history(s);
    struct claim_config config = {.world = s->region,
                                  .target = s->clean_target,
                                  .cache = s->clean_cache,
                                  .vm = SIM_VM,
                                  .keys = s->keys};
    must_ok(s, history_tail(&config, h, g, &tail, &err), err);
    must(s, tail.fenced && !tail.lost);
    must(s, history_line(h, g, &head));
    s->sum->tails += tail.epochs > 0;
    s->ended[s->ended_count++] = (struct ended){.generation = g, .last = head.epoch + tail.epochs};
    history_close(&h);
}

static void begin_generation(struct sim *s, const struct claim *claim)
{
    struct err err = ERR_NONE;
    struct claim_result result;
    for (;;) {
        struct claim_config config = claim_config_of(s);
        sim_doing(s, "claiming");
        if (history_begin_generation(&config, claim, &result, &err))
            break;
        s->sum->repeats++;
        meanwhile(s);
    }
    while (result.fence_pending) {
        for (unsigned i = 0; i < 4; i++)
            sim_life(s);
        struct claim_config config = claim_config_of(s);
        sim_doing(s, "fencing");
        if (!history_fence(&config, &result, &err)) {
            result.fence_pending = true;
            meanwhile(s);
        }
    }
}

/* The host's old disk is sealed into the new generation where it lies. */
static void write_seed(struct sim *s, struct host *h)
{
    static const char *const paths[SIM_DISKS] = {"/disks/a.raw", "/disks/b.raw"};
    struct err err = ERR_NONE;
    struct seed_config config = {.world = h->world,
                                 .vm = SIM_VM,
                                 .keys = s->keys,
                                 .encrypt = true,
                                 .targets = &s->faulty_target,
                                 .store_count = 1,
                                 .cache = s->faulty_cache};
    struct seed_copy copies[SIM_DISKS];
    for (uint16_t i = 0; i < SIM_DISKS; i++) {
        copies[i].disk = i;
        must_ok(s, file_open(h->world, paths[i], O_RDONLY, 0, &copies[i].file, &err), err);
    }
    sim_doing(s, "seeding");
    while (!seed_write(&config, copies, SIM_DISKS, s->staging_store, SIM_SCRATCH, NULL, NULL, &err))
        meanwhile(s);
    for (size_t i = 0; i < SIM_DISKS; i++)
        file_close(&copies[i].file);
    s->sum->seeds++;
}

/* Its disks at the point, or as they are; its state as the vault has it. Where they have another
 * size nothing of what the host had is used. */
static void take_over(struct sim *s, struct host *h, struct history *history,
                      const struct history_point *p)
{
    struct err err = ERR_NONE;
    uint64_t bytes[SIM_DISKS];
    oracle_sizes(history, p, bytes);
    bool same_size = memcmp(bytes, h->bytes, sizeof bytes) == 0;
    bool seeded = same_size && sim_chance(s, 33);
    /* Else with its old disk, as after a cancel. */
    bool at_point = !same_size || sim_chance(s, 67);
    if (!same_size) {
        host_make(s, h);
        h->busy = true;
        memcpy(h->bytes, bytes, sizeof bytes);
    }
    if (seeded)
        write_seed(s, h);
    if (at_point) {
        oracle_check(s, history, p, h->model);
        host_write_disks(s, h);
    }
    struct seed_config config = {.world = h->world,
                                 .vm = SIM_VM,
                                 .keys = s->keys,
                                 .targets = &s->faulty_target,
                                 .store_count = 1,
                                 .cache = s->faulty_cache,
                                 .equal = at_point && !seeded && sim_chance(s, 50)};
    sim_doing(s, "adopting");
    while (!seed_adopt(&config, SIM_STATE, &err))
        meanwhile(s);
}

void sim_claim(struct sim *s)
{
    struct err err = ERR_NONE;
    struct host *h = &s->hosts[sim_below(s, SIM_HOSTS)];
    struct history_point p;
    if (h->busy || s->claiming || s->ended_count == SIM_ENDED_MAX)
        return;
    struct history *history = oracle_history(s);
    struct claim claim = {.ends = history_head(history).generation};
    if (!pick_point(s, history, &p) || !oracle_hold(s, CLAIM_HOLD, history, &p)) {
        history_close(&history);
        return;
    }
    s->claiming = true;
    s->tries = 0;
    s->sum->claims++;
    must_ok(s, claim_generation(history, &claim.generation, &err), err);
    claim.parent = p.generation;
    claim.parent_epoch = p.epoch;
    if (h->world == NULL)
        host_make(s, h);
    host_kill(h);
    h->busy = true; /* nobody else touches it until it is mounted */
    begin_generation(s, &claim);
    note_ended(s, claim.ends);
    take_over(s, h, history, &p);
    host_forget_memory(s, h);
    h->generation = claim.generation;
    h->identity = s->identities++;
    h->busy = false;
    host_mount(s, h);
    s->newest = claim.generation;
    s->claiming = s->rivals = s->lost = false;
    oracle_let_go(s, CLAIM_HOLD);
    history_close(&history);
}
