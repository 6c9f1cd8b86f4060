/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim_internal.h"

#include "backend/history/pin.h"
#include "common/cleanup.h"

#include <stdlib.h>

void oracle_shoot(struct sim *s, const struct host *h)
{
    if ((s->shot_count & (s->shot_count - 1)) == 0) { /* full at each power of two */
        size_t room = s->shot_count == 0 ? 1 : 2 * s->shot_count;
        s->shots = realloc(s->shots, room * sizeof *s->shots);
        must(s, s->shots != NULL);
    }
    struct shot *shot = &s->shots[s->shot_count++];
    *shot = (struct shot){.generation = h->generation.id,
                          .point_ms = h->shipper->cut_point_ms,
                          .writers = 1ull << h->identity};
    for (size_t i = 0; i < SIM_DISKS; i++) {
        shot->bytes[i] = h->bytes[i];
        shot->content[i] = sim_memory(s->most_bytes[i]);
        memcpy(shot->content[i], h->model[i], s->most_bytes[i]);
    }
}

struct history *oracle_history(struct sim *s)
{
    struct err err = ERR_NONE;
    struct history *h = NULL;
    must_ok(s, history_open(s->region, s->clean_target, SIM_VM, s->keys, &h, &err), err);
    return h;
}

bool oracle_hold(struct sim *s, const char *name, struct history *h, const struct history_point *p)
{
    struct err err = ERR_NONE;
    bool held = pin_hold(s->region, s->clean_target, h, s->keys, name, p, &err);
    must(s, held || (err.kind == ERR_NOT_FOUND && s->thinning != NULL));
    return held;
}

void oracle_let_go(struct sim *s, const char *name)
{
    struct err err = ERR_NONE;
    must_ok(s, pin_remove(s->clean_target, SIM_VM, name, &err), err);
}

/* Two writers may have cut at the same millisecond: the content decides. */
static uint64_t writers_of(const struct sim *s, const struct history_point *p,
                           const uint64_t *bytes, uint8_t *const *content)
{
    uint64_t writers = 0;
    for (size_t i = 0; i < s->shot_count; i++) {
        const struct shot *shot = &s->shots[i];
        bool same = shot->generation == p->generation.id && shot->point_ms == p->ms;
        for (size_t d = 0; same && d < SIM_DISKS; d++)
            same = shot->bytes[d] == bytes[d] &&
                   memcmp(shot->content[d], content[d], s->most_bytes[d]) == 0;
        writers |= same ? shot->writers : 0;
    }
    return writers;
}

const struct shot *oracle_shot(const struct sim *s, const struct history_point *p)
{
    for (size_t i = s->shot_count; i-- > 0;)
        if (s->shots[i].generation == p->generation.id && s->shots[i].point_ms == p->ms)
            return &s->shots[i];
    return NULL;
}

void oracle_sizes(struct history *h, const struct history_point *p, uint64_t out[SIM_DISKS])
{
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t count = history_disks(h, p->index, disks);
    for (size_t i = 0; i < SIM_DISKS; i++)
        out[i] = i < count ? disks[i].size_bytes : 0;
}

uint64_t oracle_check(struct sim *s, struct history *h, const struct history_point *p,
                      uint8_t *const *out)
{
    struct err err = ERR_NONE;
    struct view_cache *cache = NULL;
    struct view *view = NULL;
    uint8_t *got[SIM_DISKS];
    uint64_t bytes[SIM_DISKS];
    oracle_sizes(h, p, bytes);
    must(s, oracle_shot(s, p) != NULL); /* no point without a cut */
    must_ok(s, view_cache_make(1u << 20, &cache, &err), err);
    struct view_config config = {.history = h,
                                 .keys = s->keys,
                                 .targets = &s->clean_target,
                                 .target_count = 1,
                                 .cache = cache};
    must_ok(s, view_open(&config, p, &view, &err), err);
    for (size_t i = 0; i < SIM_DISKS; i++) {
        got[i] = sim_memory(s->most_bytes[i]);
        must(s, bytes[i] <= s->most_bytes[i]);
        must_ok(s, view_read(view, i, 0, mspan_of(got[i], bytes[i]), &err), err);
    }
    uint64_t writers = writers_of(s, p, bytes, got);
    must(s, writers != 0); /* the point is what the disks held at its cut */
    for (size_t i = 0; i < SIM_DISKS; i++) {
        if (out != NULL)
            memcpy(out[i], got[i], s->most_bytes[i]);
        free(got[i]);
    }
    view_close(&view);
    view_cache_release(&cache);
    return writers;
}

void oracle_check_newest(struct sim *s)
{
    struct err err = ERR_NONE;
    sim_doing(s, "checking the newest point");
    must_ok(s, history_refresh(s->watch, &err), err);
    size_t points = history_points(s->watch);
    if (points > 0) {
        struct history_point p = history_point(s->watch, points - 1);
        oracle_check(s, s->watch, &p, NULL);
    }
}

/* Who may have made all points of a generation so far. */
struct line {
    uint64_t generation, writers;
};

static void narrow(struct sim *s, struct line *lines, size_t count, const struct history_point *p,
                   uint64_t writers)
{
    size_t i = 0;
    while (i < count && lines[i].generation != p->generation.id)
        i++;
    must(s, i < count);
    lines[i].writers &= writers;
    must(s, lines[i].writers != 0); /* two writers never both succeed */
}

void oracle_check_all(struct sim *s, const struct host *winner)
{
    struct err err = ERR_NONE;
    struct history *h = oracle_history(s);
    struct history_point *left AUTO_FREE = NULL;
    struct line lines[SIM_ENDED_MAX + 1];
    uint64_t last_ms = 0;
    size_t count, points = history_points(h), generations = history_generations(h);
    sim_doing(s, "checking all points");
    must(s, generations == s->ended_count + 1);
    for (size_t i = 0; i < generations; i++)
        lines[i] = (struct line){history_generation(h, i).generation.id, UINT64_MAX};
    must_ok(s, history_branches(h, &left, &count, &err), err);
    for (size_t i = 0; i < points + count; i++) {
        struct history_point p = i < points ? history_point(h, i) : left[i - points];
        must(s, i >= points || p.ms > last_ms);
        last_ms = p.ms;
        narrow(s, lines, generations, &p, oracle_check(s, h, &p, NULL));
    }
    struct history_point newest = history_point(h, points - 1);
    must(s, newest.generation.id == s->newest.id);
    /* Not its shot: another host's, of the same millisecond, may be the one that is found. */
    uint8_t *shown[SIM_DISKS];
    for (size_t i = 0; i < SIM_DISKS; i++)
        shown[i] = sim_memory(s->most_bytes[i]);
    (void)oracle_check(s, h, &newest, shown);
    uint64_t bytes[SIM_DISKS];
    oracle_sizes(h, &newest, bytes);
    for (size_t i = 0; i < SIM_DISKS; i++) {
        must(s, bytes[i] == winner->bytes[i]);
        must(s, memcmp(shown[i], winner->model[i], s->most_bytes[i]) == 0);
        free(shown[i]);
    }
    for (size_t i = 0; i < s->ended_count; i++) {
        struct history_head head;
        must(s, history_line(h, s->ended[i].generation, &head));
        must(s, head.epoch == s->ended[i].last); /* nothing more, nothing lost */
    }
    s->sum->points += points + count;
    history_close(&h);
}
