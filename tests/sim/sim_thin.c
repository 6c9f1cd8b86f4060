/* SPDX-License-Identifier: MIT
 * Retention: points go, runs are merged, objects are removed, while all else goes on. */
#include "tests/sim/sim_internal.h"

#include "backend/history/history_internal.h"
#include "tests/support/made_thinner.h"

#include <stdlib.h>

struct thinning {
    struct store_user user;
    struct store *cache, *target;
    struct processor_config config;
    struct retention policy;
    uint64_t pack_records;
    bool small; /* runs of some hundred bytes are large, so that points get levels */
    struct history *history;
    struct thinner *thinner;
};

/* In seconds what is hours and days elsewhere. */
static struct retention policy_of(struct sim *s)
{
    static const char *const keeps[] = {"2s:all,20s:3s", "1s:all,5s:2s,60s:10s", "30s:all"};
    struct err err = ERR_NONE;
    struct retention policy = {.application = sim_below(s, 3),
                               .grace_ms = 1000 * (1 + sim_below(s, 4))};
    must_ok(s, retention_parse_keep(keeps[sim_below(s, 3)], &policy, &err), err);
    return policy;
}

void thinning_begin(struct sim *s)
{
    struct thinning *t = s->thinning = sim_memory(sizeof *t);
    t->user = (struct store_user){.s = s};
    t->cache = sim_store(s->cache, &t->user);
    t->target = sim_store(s->target, &t->user);
    t->config = (struct processor_config){.world = s->region,
                                          .vm = SIM_VM,
                                          .keys = s->keys,
                                          .targets = &t->target,
                                          .caches = &t->cache,
                                          .store_count = 1};
    t->policy = policy_of(s);
    t->pack_records = 1 + sim_below(s, 6);
    t->small = sim_chance(s, 50);
}

/* It is killed: all that lasts is in the vault. */
static void forget(struct sim *s)
{
    struct thinning *t = s->thinning;
    if (t->thinner != NULL) {
        struct thinner_report report = thinner_report(t->thinner);
        s->sum->thinned += report.points;
        s->sum->removed += report.removed;
        s->sum->leveled += report.leveled;
        s->sum->compacted += report.compacted;
    }
    thinner_close(&t->thinner);
    history_close(&t->history);
    t->user.dead = false;
}

void thinning_end(struct sim *s)
{
    struct thinning *t = s->thinning;
    if (t == NULL)
        return;
    forget(s);
    store_close(&t->cache);
    store_close(&t->target);
    free(t);
    s->thinning = NULL;
}

static void begin(struct sim *s, struct thinning *t, struct err *err)
{
    if (t->history == NULL && history_open(s->region, t->target, SIM_VM, s->keys, &t->history, err))
        t->history->pack_records = t->pack_records;
    if (t->history == NULL || !thinner_open(&t->config, t->history, &t->policy, &t->thinner, err))
        return;
    if (t->small)
        t->thinner->limits = made_small_limits();
}

static enum thinner_result step(struct sim *s, struct thinning *t)
{
    struct err err = ERR_NONE;
    uint64_t faults = s->sum->faults;
    enum thinner_result result = THINNER_FAILED;
    if (t->thinner == NULL)
        begin(s, t, &err);
    if (t->thinner != NULL)
        result = thinner_step(t->thinner, &err);
    if (result == THINNER_FAILED)
        must_ok(s, s->sum->faults > faults, err);
    return result;
}

void thinning_act(struct sim *s)
{
    struct thinning *t = s->thinning;
    if (t == NULL || s->thins)
        return;
    sim_doing(s, "thinning");
    s->thins = true;
    for (unsigned i = 0; i < 6 && !t->user.dead; i++)
        step(s, t);
    if (t->user.dead || sim_chance(s, 5))
        forget(s);
    else if (t->thinner != NULL && sim_chance(s, 40))
        thinner_hurry(t->thinner);
    s->thins = false;
}

/* All that may go goes. */
void thinning_settle(struct sim *s)
{
    struct thinning *t = s->thinning;
    if (t == NULL)
        return;
    sim_doing(s, "thinning to the end");
    forget(s);
    for (unsigned round = 0, looks = 0; looks < 3; round++) {
        must(s, round < 20000);
        enum thinner_result result = step(s, t);
        if (result == THINNER_WORKED || result == THINNER_AGAIN)
            continue;
        fake_world_advance(s->region, t->policy.grace_ms * 1000000);
        if (result == THINNER_IDLE) {
            looks++;
            thinner_hurry(t->thinner); /* garbage, too */
        }
    }
}
