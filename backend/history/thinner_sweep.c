/* SPDX-License-Identifier: MIT
 * Which objects go. The roots of all runs that count say what is needed; a list of the objects says
 * what there is. What is there and not needed is dropped by a record, and what was dropped is
 * removed when the grace period is over. A list only gives candidates: one that it does not show is
 * found by a later sweep, and so is one that the store would not remove, or that a processor put
 * and could not record. */
#include "backend/history/thinner_internal.h"

#include "backend/history/stored_run.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>

#define LOCKED_AGAIN_MS 3600000u

void thinner_sweep_release(struct thinner_sweep *s)
{
    free(s->live);
    free(s->unneeded);
    object_set_release(&s->needed);
    *s = (struct thinner_sweep){.phase = SWEEP_NOT};
}

bool thinner_sweeping(const struct thinner_sweep *s)
{
    return s->phase != SWEEP_NOT;
}

void thinner_sweep_soon(struct thinner *t)
{
    uint64_t due = thinner_boot_ms(t) + THINNER_SWEEP_GRACES * t->policy.grace_ms;
    if (t->sweep_at_ms > due)
        t->sweep_at_ms = due;
}

static enum thinner_result failed(struct thinner *t, struct err *err)
{
    thinner_sweep_release(&t->sweep); /* the next one looks at all of it again */
    if (err->kind == ERR_FULL)
        t->sweep_at_ms = thinner_boot_ms(t) + THINNER_EVERY_MS;
    err_wrap(err, "looking for what %s does not need", t->vault.vm);
    return THINNER_FAILED;
}

/* --- what is needed --- */

static int place_order(const void *a, const void *b)
{
    const struct record_run *x = &((const struct run_place *)a)->run;
    const struct record_run *y = &((const struct run_place *)b)->run;
    int objects = memcmp(&x->object, &y->object, sizeof x->object);
    if (objects != 0)
        return objects;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool live_list(struct thinner *t, struct run_place **out, size_t *count, struct err *err)
{
    if (!history_live_runs(t->history, out, count, err))
        return false;
    qsort(*out, *count, sizeof **out, place_order);
    return true;
}

static bool run_mark(struct thinner *t, const struct run_place *place, struct err *err)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct sha256 object;
    uint16_t store;

    if (!object_set_add(&t->sweep.needed, &place->run.object, err) ||
        !stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &stored, err))
        return false;
    for (uint32_t i = 0; i < run_segments(stored.run); i++)
        if (!thinner_segment(&stored, i, &store, &object, err) ||
            !object_set_add(&t->sweep.needed, &object, err))
            return false;
    return true;
}

static enum thinner_result mark(struct thinner *t, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    for (size_t i = 0; i < THINNER_MARKS && s->marked < s->live_count; i++, s->marked++)
        if (!run_mark(t, &s->live[s->marked], err))
            return failed(t, err);
    if (s->marked == s->live_count)
        s->phase = SWEEP_LIST;
    return THINNER_WORKED;
}

/* Runs that came since the list was made. */
static bool mark_new(struct thinner *t, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    struct run_place *now = NULL;
    size_t count = 0;

    if (!live_list(t, &now, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (bsearch(&now[i], s->live, s->live_count, sizeof *now, place_order) == NULL &&
            !run_mark(t, &now[i], err)) {
            free(now);
            return false;
        }
    free(s->live);
    s->live = now;
    s->live_count = s->marked = count;
    return true;
}

/* --- what there is --- */

struct listing {
    size_t prefix_length;
    struct seen_object *seen; /* room for THINNER_KEYS */
    size_t seen_count, keys;
    char last[KEY_MAX];
};

static bool list_one(void *context, const char *key, uint64_t bytes)
{
    struct listing *l = context;
    struct seen_object *o = &l->seen[l->seen_count];
    snprintf(l->last, sizeof l->last, "%s", key);
    if (hex_parse(key + l->prefix_length, o->object.bytes, SHA256_BYTES)) {
        o->bytes = bytes;
        l->seen_count++;
    }
    return ++l->keys < THINNER_KEYS;
}

/* Nothing that was dropped is needed. What looks so was marked before another thinner merged and
 * dropped it; else somebody has broken the rule. It stays until the next sweep. */
static bool may_remove(struct thinner *t, const struct seen_object *o)
{
    if (!object_set_has(&t->sweep.needed, &o->object))
        return true;
    if (t->at == t->sweep.began_at)
        log_error("%s: an object that was dropped is needed: it stays, report this", t->vault.vm);
    return false;
}

static bool object_remove(struct thinner *t, const struct seen_object *o, struct err *err)
{
    struct err why = ERR_NONE;
    char hex[2 * SHA256_BYTES + 1];
    char key[KEY_MAX];

    hex_of(o->object.bytes, SHA256_BYTES, hex);
    key_segment(key, t->vault.vm, hex);
    if (store_remove(t->config->targets[t->sweep.store], key, &why)) {
        t->report.removed++;
        t->report.removed_bytes += o->bytes;
        return true;
    }
    if (why.kind == ERR_DENIED) {
        if (t->sweep.locked++ == 0)
            log_warning("%s: the store keeps %s: %s", t->vault.vm, key, why.text);
        return true;
    }
    *err = why;
    return false;
}

static void unneeded_add(struct thinner *t, const struct seen_object *o)
{
    struct thinner_sweep *s = &t->sweep;
    if (s->unneeded_count < RECORD_RUNS_MAX) /* else the next sweep finds it */
        s->unneeded[s->unneeded_count++] = *o;
}

/* Pins are looked at once more before anything goes: none may keep a point that is gone. */
static bool pins_stand(struct thinner *t, bool *stand, struct err *err)
{
    if (!thinner_pins_load(t, err))
        return false;
    *stand = history_pins_stand(t->history, &t->pins);
    if (!*stand)
        log_warning("%s: a pin keeps a point that is gone: no object is removed before it ends",
                    t->vault.vm);
    return true;
}

static bool objects_judge(struct thinner *t, const struct listing *l, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    bool ripe = thinner_ripe(t, &t->drop);
    bool asked = false, stand = false;

    for (size_t i = 0; i < l->seen_count; i++) {
        const struct seen_object *o = &l->seen[i];
        if (!history_dropped(t->history, &o->object)) {
            if (!object_set_has(&s->needed, &o->object))
                unneeded_add(t, o);
            continue;
        }
        if (t->only_looks) {
            t->report.dropped++;
            t->report.dropped_bytes += o->bytes;
            continue;
        }
        s->dropped_left |= !ripe;
        if (!ripe)
            continue;
        if (!asked && !pins_stand(t, &stand, err))
            return false;
        asked = true;
        if (!stand || !may_remove(t, o))
            s->locked++;
        else if (!object_remove(t, o, err))
            return false;
    }
    return true;
}

static enum thinner_result list(struct thinner *t, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    struct listing l = {.keys = 0};
    char prefix[KEY_MAX];

    l.prefix_length = (size_t)snprintf(prefix, sizeof prefix, "%s/" SEGMENT_PREFIX, t->vault.vm);
    l.seen = calloc(THINNER_KEYS, sizeof *l.seen);
    if (l.seen == NULL) {
        err_errno(err, ENOMEM, "listing objects");
        return failed(t, err);
    }
    bool good = store_list(t->config->targets[s->store], prefix,
                           s->after[0] != '\0' ? s->after : NULL, list_one, &l, err) &&
                objects_judge(t, &l, err);
    free(l.seen);
    if (!good)
        return failed(t, err);
    memcpy(s->after, l.last, sizeof s->after);
    if (l.keys < THINNER_KEYS) {
        s->after[0] = '\0';
        if (++s->store == t->config->store_count)
            s->phase = SWEEP_DROP;
    }
    return THINNER_WORKED;
}

/* --- dropping --- */

static int object_order(const void *a, const void *b)
{
    const struct seen_object *x = a;
    const struct seen_object *y = b;
    return memcmp(&x->object, &y->object, sizeof x->object);
}

/* What came since is marked, in the same history in which the record takes its slot: so no record
 * before it refers to what it drops. */
static bool drops_make(struct thinner *t, struct record *r, uint64_t *bytes, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    if (!mark_new(t, err))
        return false;
    r->drops = calloc(s->unneeded_count + 1, sizeof *r->drops);
    if (r->drops == NULL)
        return err_errno(err, ENOMEM, "dropping objects");
    qsort(s->unneeded, s->unneeded_count, sizeof *s->unneeded, object_order);
    for (size_t i = 0; i < s->unneeded_count; i++) {
        const struct seen_object *o = &s->unneeded[i];
        bool again = i > 0 && object_order(o - 1, o) == 0; /* two stores, or one by two names */
        if (again || object_set_has(&s->needed, &o->object))
            continue;
        r->drops[r->drop_count++] = o->object;
        *bytes += o->bytes;
    }
    return true;
}

static enum thinner_result sweep_end(struct thinner *t, bool again)
{
    struct thinner_sweep *s = &t->sweep;
    uint64_t now_ms = thinner_boot_ms(t);
    t->report.locked = s->locked;
    t->sweep_waits = again;
    t->swept_at_ms = now_ms;
    if (again)
        t->sweep_at_ms = now_ms + t->policy.grace_ms;
    else
        t->sweep_at_ms = s->locked > 0 ? now_ms + LOCKED_AGAIN_MS : UINT64_MAX;
    thinner_sweep_release(s);
    return THINNER_IDLE;
}

static enum thinner_result drop(struct thinner *t, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    struct record r CLEANUP(record_release) = {
        .kind = RECORD_DROP,
        .generation = history_head(t->history).generation,
        .newest_ms = history_head(t->history).point_ms,
    };
    uint64_t bytes = 0;

    /* One at a time: the newest record's grace period is that of all. */
    if (s->unneeded_count == 0 || (!thinner_ripe(t, &t->drop) && !t->only_looks))
        return sweep_end(t, s->unneeded_count > 0 || s->dropped_left);
    if (!drops_make(t, &r, &bytes, err))
        return failed(t, err);
    enum thinner_result result = THINNER_IDLE;
    if (r.drop_count > 0 && !t->only_looks)
        result = thinner_append(t, &r, err);
    if (result == THINNER_FAILED)
        return failed(t, err);
    if (result == THINNER_AGAIN)
        return result; /* with what came between */
    t->report.dropped += r.drop_count;
    t->report.dropped_bytes += bytes;
    sweep_end(t, r.drop_count > 0 && !t->only_looks);
    return result;
}

static bool begin(struct thinner *t, struct err *err)
{
    struct thinner_sweep *s = &t->sweep;
    *s = (struct thinner_sweep){.phase = SWEEP_MARK, .began_at = t->at};
    s->unneeded = calloc(RECORD_RUNS_MAX, sizeof *s->unneeded);
    if (s->unneeded == NULL)
        return err_errno(err, ENOMEM, "looking for objects");
    return live_list(t, &s->live, &s->live_count, err);
}

enum thinner_result thinner_sweep_step(struct thinner *t, struct err *err)
{
    switch (t->sweep.phase) {
    case SWEEP_NOT:
        return begin(t, err) ? THINNER_WORKED : failed(t, err);
    case SWEEP_MARK:
        return mark(t, err);
    case SWEEP_LIST:
        return list(t, err);
    case SWEEP_DROP:
        break;
    }
    return drop(t, err);
}
