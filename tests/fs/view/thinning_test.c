/* SPDX-License-Identifier: MIT
 * Retention against an oracle, from a seed: a source ships, processors apply, two thinners thin and
 * remove, viewers pin points and hold views of them open, generations begin; every actor may run in
 * the middle of a store call of another, store calls fail or lose their replies, actors are killed,
 * lists lag. Every point that is listed, and every one that is pinned, must read as it was. */
#include "tests/support/check.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/history/claim.h"
#include "backend/history/pin.h"
#include "fs/view/view.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_thinner.h"
#include "tests/support/specimen.h"

#define BLOCKS      96u
#define EPOCHS      400u
#define GENERATIONS 6u
#define VIEWERS     3u
#define CACHE_BYTES (1u << 20)
#define GRACE_MS    3000u
#define SEED        20261127u
#define ROUNDS      5u /* or what THINNING_ROUNDS says; THINNING_SEED names the first seed */
#define ACTIONS     700u

struct shot {
    uint32_t value[BLOCKS];
};

struct actor {
    struct rig *rig;
    bool busy;        /* it is in a call: nobody steps it */
    unsigned trouble; /* of 1000 store calls so many go wrong */
    bool dead;        /* every call fails until it is begun anew */
};

struct viewer {
    struct actor actor;
    struct store *target;
    struct view_cache *cache;
    struct history *history;
    struct view *view;
    struct history_point point;
    char pin[PIN_NAME_MAX + 1];
};

struct rig {
    struct made_vm vm;
    uint64_t random;
    unsigned depth; /* actors within actors */
    struct retention policy;
    struct shot now;
    struct shot *shots[GENERATIONS + 1][EPOCHS + 1];
    struct actor thin_actors[2], apply_actor;
    struct made_thinner thinners[2];
    struct made_processor processor;
    struct viewer viewers[VIEWERS];
    unsigned pins;
    uint32_t value;
    uint64_t reads, points_gone, removed, leveled, compacted;
};

/* One thread steps one actor within another, so it takes the locks of several histories in any
 * order, and waits for none. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}

static uint64_t below(struct rig *r, uint64_t n)
{
    return specimen_below(&r->random, n);
}

static void act(struct rig *r);

/* Others go on in the middle of a call, and calls go wrong. */
static enum memory_fault meddle(void *context, const struct memory_call *call)
{
    struct actor *a = context;
    struct rig *r = a->rig;
    (void)call;
    if (a->dead)
        return MEMORY_FAIL;
    if (r->depth < 2 && below(r, 25) == 0)
        act(r);
    if (a->trouble == 0 || below(r, 1000) >= a->trouble)
        return MEMORY_PASS;
    switch (below(r, 3)) {
    case 0:
        a->dead = true;
        return below(r, 2) == 0 ? MEMORY_FAIL : MEMORY_LOSE_REPLY;
    case 1:
        return MEMORY_LOSE_REPLY;
    default:
        return MEMORY_FAIL;
    }
}

static void actor_begin(struct rig *r, struct actor *a, unsigned trouble, struct store *s)
{
    *a = (struct actor){.rig = r, .trouble = trouble};
    memory_store_hook(s, meddle, NULL, a);
}

/* --- the source --- */

static void source_write(struct rig *r)
{
    for (uint64_t n = below(r, 5); n > 0; n--) {
        uint64_t first = below(r, BLOCKS), count = 1 + below(r, 20);
        count = count < BLOCKS - first ? count : BLOCKS - first;
        bool hole = below(r, 4) == 0;
        if (hole)
            epoch_maker_hole(&r->vm.maker, 0, first, count);
        for (uint64_t b = first; b < first + count; b++) {
            r->now.value[b] = hole ? 0 : ++r->value;
            if (!hole)
                epoch_maker_fill(&r->vm.maker, 0, b, r->value);
        }
    }
}

static void source_ship(struct rig *r)
{
    struct epoch_maker *m = &r->vm.maker;
    if (m->epoch >= EPOCHS)
        return;
    enum epoch_kind kind = below(r, 10) == 0 ? EPOCH_PASS : EPOCH_CUT;
    if (below(r, 15) == 0)
        kind = EPOCH_HEARTBEAT;
    if (kind != EPOCH_HEARTBEAT)
        source_write(r);
    epoch_maker_ship(m, kind,
                     kind != EPOCH_CUT   ? 0
                     : below(r, 12) == 0 ? POINT_APPLICATION
                                         : POINT_CRASH,
                     NULL);
    fake_world_advance(r->vm.world, 1000000000ull);
    if (kind != EPOCH_CUT)
        return;
    struct shot *shot = malloc(sizeof *shot);
    assert_non_null(shot);
    *shot = r->now;
    r->shots[m->generation.number][m->epoch] = shot;
}

/* --- processor and thinners --- */

static void processor_act(struct rig *r)
{
    struct err err = ERR_NONE;
    r->apply_actor.busy = true;
    if (r->apply_actor.dead) {
        r->apply_actor.dead = false;
        made_processor_close(&r->processor);
        made_processor_open(&r->vm, &r->processor);
        memory_store_hook(r->processor.targets[0], meddle, NULL, &r->apply_actor);
    }
    enum processor_result result = processor_step(r->processor.processor, &err);
    if (result == PROCESSOR_FAILED && err.kind != ERR_TRANSIENT)
        fail_msg("processor: %s: %s", err_kind_name(err.kind), err.text);
    r->apply_actor.busy = false;
}

static void thinner_act(struct rig *r, unsigned which)
{
    struct actor *a = &r->thin_actors[which];
    struct made_thinner *t = &r->thinners[which];
    struct err err = ERR_NONE;
    a->busy = true;
    if (a->dead) {
        unsigned trouble = a->trouble;
        a->dead = false;
        a->trouble = 0;
        r->points_gone += thinner_report(t->thinner).points;
        r->removed += thinner_report(t->thinner).removed;
        r->leveled += thinner_report(t->thinner).leveled;
        r->compacted += thinner_report(t->thinner).compacted;
        made_thinner_restart(t, &r->policy);
        a->trouble = trouble;
    }
    if (below(r, 8) == 0)
        thinner_hurry(t->thinner);
    /* Many at once now and then: compaction takes its turn when all else is done. */
    for (unsigned steps = below(r, 10) == 0 ? 60 : 1; steps > 0 && !a->dead; steps--)
        if (thinner_step(t->thinner, &err) == THINNER_FAILED && err.kind != ERR_TRANSIENT &&
            err.kind != ERR_CORRUPT) /* the other one may remove what this one still reads */
            fail_msg("thinner: %s: %s", err_kind_name(err.kind), err.text);
    a->busy = false;
}

/* --- viewers --- */

static void compare(struct rig *r, struct view *v, const struct history_point *p, uint64_t first,
                    uint64_t count)
{
    struct err err = ERR_NONE;
    const struct shot *shot = r->shots[p->generation.number][p->epoch];
    uint8_t found[BLOCKS * BLOCK_BYTES], expected[BLOCK_BYTES];

    assert_non_null(shot);
    if (!view_read(v, 0, first * BLOCK_BYTES, mspan_of(found, count * BLOCK_BYTES), &err))
        fail_msg("epoch %llu of generation %u: %s: %s", (unsigned long long)p->epoch,
                 p->generation.number, err_kind_name(err.kind), err.text);
    for (uint64_t i = 0; i < count; i++) {
        made_block_bytes(shot->value[first + i], expected);
        if (memcmp(expected, found + i * BLOCK_BYTES, BLOCK_BYTES) != 0)
            fail_msg("epoch %llu of generation %u, block %llu: not what it was",
                     (unsigned long long)p->epoch, p->generation.number,
                     (unsigned long long)(first + i));
    }
    r->reads++;
}

static void viewer_view(struct rig *r, struct viewer *viewer)
{
    struct err err = ERR_NONE;
    struct view_config config = {.history = viewer->history,
                                 .keys = r->vm.maker.keys,
                                 .targets = &viewer->target,
                                 .target_count = 1,
                                 .cache = viewer->cache};
    check_ok(view_open(&config, &viewer->point, &viewer->view, &err), err);
}

static bool choose_point(struct rig *r, struct history *h, struct history_point *out)
{
    size_t count = history_points(h);
    if (count == 0)
        return false;
    *out = history_point(h, below(r, 2) == 0 ? below(r, count) : below(r, (count + 3) / 4));
    return out->ms != 0;
}

/* Pins, then reads the head again, as open_points.c does; the point must have been listed still. */
static void viewer_open(struct rig *r, struct viewer *viewer)
{
    struct err err = ERR_NONE;
    struct history_point now;
    struct world *w = r->vm.world;
    if (!viewer->history &&
        !history_open(w, viewer->target, MADE_VM, r->vm.maker.keys, &viewer->history, &err))
        return;
    if (!history_refresh(viewer->history, &err) ||
        !choose_point(r, viewer->history, &viewer->point))
        return;
    struct pin pin = {.kind = below(r, 2) == 0 ? PIN_HOLD : PIN_LEASE,
                      .generation = viewer->point.generation,
                      .epoch = viewer->point.epoch,
                      .point_ms = viewer->point.ms};
    memcpy(pin.vm, r->vm.maker.vault.vm, VM_ID_BYTES);
    snprintf(pin.name, sizeof pin.name, "pin-%u", ++r->pins);
    if (pin.kind == PIN_LEASE)
        pin.end_ms = w->ops->realtime_ns(w) / 1000000 + 3600000;
    bool placed = pin_put(w, viewer->target, MADE_VM, r->vm.maker.keys, &pin, &err) &&
                  history_refresh(viewer->history, &err) &&
                  history_point_at(viewer->history, pin.generation, pin.epoch, &now, &err) &&
                  !now.leaving;
    if (!placed) {
        check_ok(pin_remove(r->vm.target, MADE_VM, pin.name, &err), err);
        return;
    }
    memcpy(viewer->pin, pin.name, sizeof viewer->pin);
    viewer_view(r, viewer);
}

static void viewer_close(struct rig *r, struct viewer *viewer)
{
    struct err err = ERR_NONE;
    struct history_point now;
    if (!viewer->view)
        return;
    compare(r, viewer->view, &viewer->point, 0, BLOCKS);
    /* What is pinned was never merged away. */
    if (history_refresh(viewer->history, &err))
        check_ok(history_point_at(viewer->history, viewer->point.generation, viewer->point.epoch,
                                  &now, &err),
                 err);
    view_close(&viewer->view);
    check_ok(pin_remove(r->vm.target, MADE_VM, viewer->pin, &err), err);
}

static void viewer_act(struct rig *r, struct viewer *viewer)
{
    viewer->actor.busy = true;
    if (!viewer->view) {
        viewer_open(r, viewer);
    } else if (below(r, 40) == 0) {
        viewer_close(r, viewer);
    } else {
        uint64_t first = below(r, BLOCKS);
        compare(r, viewer->view, &viewer->point, first, 1 + below(r, BLOCKS - first));
    }
    viewer->actor.busy = false;
}

/* --- a failover --- */

/* A generation that goes on from a point, held as takeover.c does. */
static void failover(struct rig *r)
{
    struct err err = ERR_NONE;
    struct history *h = made_vm_history(&r->vm);
    struct history_head head = history_head(h);
    struct claim_config config = {.world = r->vm.world,
                                  .target = r->vm.target,
                                  .cache = r->vm.cache,
                                  .vm = MADE_VM,
                                  .keys = r->vm.maker.keys};
    struct claim_result result;
    struct history_point p;
    struct claim claim = {.ends = head.generation};
    if (head.generation.number < GENERATIONS && choose_point(r, h, &p) &&
        pin_hold(r->vm.world, r->vm.target, h, r->vm.maker.keys, "failover", &p, &err)) {
        claim.parent = p.generation;
        claim.parent_epoch = p.epoch;
        check_ok(claim_generation(h, &claim.generation, &err), err);
        check_ok(history_begin_generation(&config, &claim, &result, &err), err);
        check_ok(pin_remove(r->vm.target, MADE_VM, "failover", &err), err);
        r->vm.maker.generation = claim.generation;
        r->vm.maker.epoch = 0;
        check_ok(history_entry0(r->vm.cache, MADE_VM, r->vm.maker.vault.vm, claim.generation,
                                r->vm.maker.keys, &r->vm.maker.previous, &err),
                 err);
        r->now = *r->shots[p.generation.number][p.epoch];
        check_ok(history_refresh(h, &err), err);
        uint64_t later = history_head(h).newest_ms + 1000;
        if (r->vm.maker.clock_ms < later)
            r->vm.maker.clock_ms = later;
    }
    history_close(&h);
}

/* --- all of it --- */

static void act(struct rig *r)
{
    r->depth++;
    uint64_t what = below(r, 100);
    if (what < 25 && r->depth == 1) {
        source_ship(r);
    } else if (what < 45) {
        if (!r->apply_actor.busy)
            processor_act(r);
    } else if (what < 75) {
        if (!r->thin_actors[what % 2].busy)
            thinner_act(r, what % 2);
    } else if (what < 90) {
        struct viewer *viewer = &r->viewers[what % VIEWERS];
        if (!viewer->actor.busy)
            viewer_act(r, viewer);
    } else if (what < 98) {
        /* No list lags longer than the grace period. */
        memory_bucket_lag_lists(r->vm.target_bucket, below(r, 2) == 0 ? below(r, 4) : 0);
        fake_world_advance(r->vm.world, 1000000000ull);
        r->vm.maker.clock_ms += 1000;
        if (below(r, 2) == 0)
            memory_bucket_lag_lists(r->vm.target_bucket, 0);
    } else if (r->depth == 1 && below(r, 30) == 0) {
        failover(r);
    }
    r->depth--;
}

/* Every listed point, on the line and beside it, reads as it was. */
static void check_all(struct rig *r)
{
    struct err err = ERR_NONE;
    struct viewer all = {.target = r->vm.target};
    struct history_point *branches = NULL;
    size_t branch_count = 0;

    all.history = made_vm_history(&r->vm);
    check_ok(view_cache_make(CACHE_BYTES, &all.cache, &err), err);
    check_ok(history_branches(all.history, &branches, &branch_count, &err), err);
    size_t count = history_points(all.history);
    for (size_t i = 0; i < count + branch_count; i++) {
        all.point = i < count ? history_point(all.history, i) : branches[i - count];
        viewer_view(r, &all);
        compare(r, all.view, &all.point, 0, BLOCKS);
        view_close(&all.view);
    }
    free(branches);
    view_cache_release(&all.cache);
    history_close(&all.history);
}

/* What stays is what the policy says, and nothing that nobody needs is left. */
static void check_end(struct rig *r)
{
    struct made_thinner t;
    struct err err = ERR_NONE;

    made_vm_apply(&r->vm);
    made_vm_thin(&r->vm, &r->policy);
    check_all(r);
    made_thinner_open(&r->vm, &r->policy, &t);
    thinner_only_look(t.thinner);
    thinner_hurry(t.thinner);
    for (enum thinner_result result = THINNER_WORKED; result != THINNER_IDLE;) {
        result = thinner_step(t.thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("thinner: %s", err.text);
    }
    struct thinner_report report = thinner_report(t.thinner);
    assert_int_equal(report.leaving, 0);
    assert_int_equal(report.dropped, 0);
    made_thinner_close(&t);
}

static void rig_begin(struct rig *r, uint64_t seed)
{
    struct err err = ERR_NONE;
    memset(r, 0, sizeof *r);
    r->random = seed;
    made_vm_init(&r->vm, 1, BLOCKS);
    r->vm.maker.encrypt = below(r, 2) == 0;
    r->policy = made_policy("20s:all,60s:5s,200s:20s", 2, GRACE_MS);
    made_processor_open(&r->vm, &r->processor);
    actor_begin(r, &r->apply_actor, 10, r->processor.targets[0]);
    for (unsigned i = 0; i < 2; i++) {
        made_thinner_open(&r->vm, &r->policy, &r->thinners[i]);
        if (below(r, 3) == 0)
            made_thinner_small(&r->thinners[i]);
        actor_begin(r, &r->thin_actors[i], 10, r->thinners[i].targets[0]);
    }
    for (unsigned i = 0; i < VIEWERS; i++) {
        struct viewer *viewer = &r->viewers[i];
        viewer->target = memory_store_open(r->vm.target_bucket);
        actor_begin(r, &viewer->actor, 0, viewer->target);
        check_ok(view_cache_make(i == 0 ? 1 : CACHE_BYTES, &viewer->cache, &err), err);
    }
}

static void rig_end(struct rig *r)
{
    r->depth = UINT_MAX; /* nobody acts any more */
    for (unsigned i = 0; i < VIEWERS; i++) {
        struct viewer *viewer = &r->viewers[i];
        viewer_close(r, viewer);
        view_cache_release(&viewer->cache);
        history_close(&viewer->history);
        memory_store_hook(viewer->target, NULL, NULL, NULL);
    }
    for (unsigned i = 0; i < 2; i++) {
        memory_store_hook(r->thinners[i].targets[0], NULL, NULL, NULL);
        r->points_gone += thinner_report(r->thinners[i].thinner).points;
        r->removed += thinner_report(r->thinners[i].thinner).removed;
        r->leveled += thinner_report(r->thinners[i].thinner).leveled;
        r->compacted += thinner_report(r->thinners[i].thinner).compacted;
        made_thinner_close(&r->thinners[i]);
    }
    memory_store_hook(r->processor.targets[0], NULL, NULL, NULL);
    made_processor_close(&r->processor);
    memory_bucket_lag_lists(r->vm.target_bucket, 0);
}

static void rig_release(struct rig *r)
{
    for (unsigned i = 0; i < VIEWERS; i++)
        store_close(&r->viewers[i].target);
    for (unsigned g = 0; g <= GENERATIONS; g++)
        for (unsigned e = 0; e <= EPOCHS; e++)
            free(r->shots[g][e]);
    made_vm_release(&r->vm);
    free(r);
}

static uint64_t told(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void whatever_happens_points_read_as_they_were(void **state)
{
    (void)state;
    uint64_t points_gone = 0, removed = 0, leveled = 0, compacted = 0, reads = 0;
    uint64_t rounds = told("THINNING_ROUNDS", ROUNDS), seed = told("THINNING_SEED", SEED);
    for (uint64_t round = 0; round < rounds; round++, seed++) {
        struct rig *r = malloc(sizeof *r);
        assert_non_null(r);
        rig_begin(r, seed);
        print_message("seed %llu\n", (unsigned long long)seed);
        for (unsigned i = 0; i < ACTIONS; i++) {
            act(r);
            if (i % 100 == 99)
                check_all(r);
        }
        rig_end(r);
        check_end(r);
        points_gone += r->points_gone;
        removed += r->removed;
        leveled += r->leveled;
        compacted += r->compacted;
        reads += r->reads;
        rig_release(r);
    }
    print_message("%llu points gone, %llu objects removed, %llu runs leveled, %llu compacted, "
                  "%llu reads\n",
                  (unsigned long long)points_gone, (unsigned long long)removed,
                  (unsigned long long)leveled, (unsigned long long)compacted,
                  (unsigned long long)reads);
    /* It did something. */
    assert_true(points_gone > 50 * rounds);
    assert_true(removed > 20 * rounds);
    assert_true(leveled > rounds);
    assert_true(compacted > rounds);
    assert_true(reads > 100 * rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_points_read_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
