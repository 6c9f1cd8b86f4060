/* SPDX-License-Identifier: MIT
 * A drill: a writable view of one point, in the other region, while all else goes on. */
#include "tests/sim/sim_internal.h"

#include "common/file.h"
#include "fs/view/overlay.h"

#include <stdlib.h>

#define DRILL_FOLDER "/drill"
#define DRILL_HOLD   "hold-drill"

struct drill {
    struct world *world;
    struct store *target;
    struct store_user user;
    struct history *history;
    struct view_cache *cache;
    struct view *view;
    struct overlay_point point;
    struct overlay *overlays[SIM_DISKS];
    uint64_t bytes[SIM_DISKS];
    uint8_t *model[SIM_DISKS];
    bool unsynced[SIM_DISKS][SIM_BLOCKS_MAX];
};

static void open_overlays(struct sim *s, struct drill *d)
{
    struct err err = ERR_NONE;
    for (size_t i = 0; i < SIM_DISKS; i++)
        must_ok(s,
                overlay_open(d->world, DRILL_FOLDER, &d->point, d->view, i, &d->overlays[i], &err),
                err);
}

static void drill_begin(struct sim *s)
{
    struct err err = ERR_NONE;
    struct history *h = oracle_history(s);
    size_t points = history_points(h);
    struct history_point p;
    if (points > 0)
        p = history_point(h, sim_below(s, points));
    if (points == 0 || !oracle_hold(s, DRILL_HOLD, h, &p)) {
        history_close(&h);
        return;
    }
    struct drill *d = s->drill = sim_memory(sizeof *d);
    d->world = fake_world_make(sim_next(s));
    d->user = (struct store_user){.s = s};
    d->target = sim_store(s->target, &d->user);
    d->history = h;
    d->point = (struct overlay_point){.generation_id = p.generation.id, .epoch = p.epoch};
    memcpy(d->point.vm, s->vm_id, sizeof d->point.vm);
    must_ok(s, dir_make(d->world, DRILL_FOLDER, 0700, &err), err);
    must_ok(s, view_cache_make(1u << 18, &d->cache, &err), err);
    struct view_config config = {
        .history = h, .keys = s->keys, .targets = &d->target, .target_count = 1, .cache = d->cache};
    for (size_t i = 0; i < SIM_DISKS; i++)
        d->model[i] = sim_memory(s->most_bytes[i]);
    oracle_sizes(h, &p, d->bytes);
    oracle_check(s, h, &p, d->model);
    must_ok(s, view_open(&config, &p, &d->view, &err), err);
    open_overlays(s, d);
    s->sum->overlays++;
}

void drill_end(struct sim *s)
{
    struct drill *d = s->drill;
    if (d == NULL)
        return;
    for (size_t i = 0; i < SIM_DISKS; i++) {
        overlay_close(&d->overlays[i]);
        free(d->model[i]);
    }
    view_close(&d->view);
    view_cache_release(&d->cache);
    history_close(&d->history);
    store_close(&d->target);
    fake_world_release(&d->world);
    oracle_let_go(s, DRILL_HOLD);
    free(d);
    s->drill = NULL;
}

/* Reads what the overlay holds now, with all well. */
static void take_stock(struct sim *s, struct drill *d, size_t disk, uint64_t offset, uint8_t *out,
                       uint64_t length)
{
    struct err err = ERR_NONE;
    unsigned percent = s->fault_percent, depth = s->depth;
    s->fault_percent = 0;
    s->depth = SIM_DEPTH_MAX;
    d->user.dead = false;
    must_ok(s, overlay_read(d->overlays[disk], offset, mspan_of(out, length), &err), err);
    s->fault_percent = percent;
    s->depth = depth;
}

/* The store may fail while it is asked, and so may then the call. */
static bool excused(const struct sim *s, uint64_t faults_before)
{
    return s->sum->faults > faults_before;
}

static void drill_write(struct sim *s, struct drill *d, size_t disk, uint64_t offset,
                        uint64_t length)
{
    struct err err = ERR_NONE;
    uint64_t faults = s->sum->faults, word = sim_next(s) | 1;
    bool zeros = sim_chance(s, 20);
    uint8_t *data = sim_memory(length);
    for (uint64_t i = 0; i < length && !zeros; i++)
        data[i] = (uint8_t)(word >> (8 * (i % 5)));
    bool ok = zeros ? overlay_zero(d->overlays[disk], offset, length, &err)
                    : overlay_write(d->overlays[disk], offset, span_of(data, length), &err);
    must(s, ok || excused(s, faults));
    struct extent e = extent_of_bytes(offset, length);
    for (uint64_t b = e.first; b < extent_end(e); b++)
        d->unsynced[disk][b] = true;
    if (ok)
        memcpy(d->model[disk] + offset, data, length);
    else /* any part of it may be there */
        take_stock(s, d, disk, offset, d->model[disk] + offset, length);
    free(data);
}

static void drill_read(struct sim *s, struct drill *d, size_t disk, uint64_t offset,
                       uint64_t length)
{
    struct err err = ERR_NONE;
    uint64_t faults = s->sum->faults;
    uint8_t *got = sim_memory(length);
    if (overlay_read(d->overlays[disk], offset, mspan_of(got, length), &err))
        must(s, memcmp(got, d->model[disk] + offset, length) == 0);
    else
        must_ok(s, excused(s, faults), err);
    free(got);
}

/* Killed, or without power: what was flushed is there. */
static void drill_dies(struct sim *s, struct drill *d)
{
    fake_world_stop(d->world, 1);
    for (size_t i = 0; i < SIM_DISKS; i++)
        overlay_close(&d->overlays[i]);
    fake_world_stop(d->world, 0);
    bool power = sim_chance(s, 50);
    if (power)
        fake_world_power_cut(d->world, sim_next(s));
    open_overlays(s, d);
    for (size_t i = 0; i < SIM_DISKS; i++) {
        uint8_t *now = sim_memory(d->bytes[i]);
        take_stock(s, d, i, 0, now, d->bytes[i]);
        for (uint64_t at = 0; at < d->bytes[i]; at++)
            must(s, d->unsynced[i][at / BLOCK_BYTES] || now[at] == d->model[i][at]);
        free(d->model[i]);
        d->model[i] = now;
    }
    /* What only a process's death left may still go with the power. */
    if (power)
        memset(d->unsynced, 0, sizeof d->unsynced);
}

static void act(struct sim *s, struct drill *d)
{
    struct err err = ERR_NONE;
    d->user.dead = false;
    size_t disk = sim_below(s, SIM_DISKS);
    uint64_t offset = sim_below(s, d->bytes[disk]), length = 1 + sim_below(s, 9000);
    if (length > d->bytes[disk] - offset)
        length = d->bytes[disk] - offset;
    switch (sim_below(s, 8)) {
    case 0:
        drill_dies(s, d);
        break;
    case 1:
        must_ok(s, overlay_flush(d->overlays[disk], &err), err);
        memset(d->unsynced[disk], 0, sizeof d->unsynced[disk]);
        break;
    case 2:
        if (sim_chance(s, 20)) {
            drill_end(s);
            break;
        }
        /* fall through */
    case 3:
    case 4:
        drill_read(s, d, disk, offset, length);
        break;
    default:
        drill_write(s, d, disk, offset, length);
        break;
    }
}

void drill_act(struct sim *s)
{
    if (s->drilling)
        return;
    sim_doing(s, "drilling");
    s->drilling = true;
    if (s->drill == NULL)
        drill_begin(s);
    else
        act(s, s->drill);
    s->drilling = false;
}
