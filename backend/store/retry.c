/* SPDX-License-Identifier: MIT */
#include "backend/store/retry.h"

#include "common/deadline.h"

#include <errno.h>
#include <stdio.h>

#define REPEAT_COST 10u

struct retry {
    struct store head;
    struct world *world;
    struct store *inner;
    struct retry_policy policy;
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    uint32_t budget; /* in tenths of a repeat */
    bool cancelled;
};

/* One call with all its tries. */
struct attempt {
    struct retry *retry;
    uint64_t begun_ms, bound_ms;
    unsigned tries;
};

static struct retry *retry_of(struct store *s)
{
    return (struct retry *)s;
}

static uint64_t now_ms(struct retry *r)
{
    return r->world->ops->boottime_ns(r->world) / 1000000;
}

static struct attempt attempt_begin(struct store *s)
{
    struct retry *r = retry_of(s);
    return (struct attempt){
        .retry = r, .begun_ms = now_ms(r), .bound_ms = r->policy.pause_ms, .tries = 1};
}

/* False: cancelled. */
static bool really_pause(struct retry *r, uint32_t ms)
{
    struct timespec until = deadline_after(ms);
    LOCK_SCOPE(&r->lock);
    int rc = 0;
    while (!r->cancelled && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&r->change, &r->lock, &until);
    return !r->cancelled;
}

static bool take_budget(struct retry *r)
{
    LOCK_SCOPE(&r->lock);
    if (r->cancelled || r->budget < REPEAT_COST)
        return false;
    r->budget -= REPEAT_COST;
    return true;
}

/* A success gives back what its repeats took, and a tenth of one: a store that refuses many but
 * answers in the end is asked at the pace that it wants. */
static void pay_back(const struct attempt *a)
{
    struct retry *r = a->retry;
    uint32_t most = r->policy.budget * REPEAT_COST, back = (a->tries - 1) * REPEAT_COST + 1;
    LOCK_SCOPE(&r->lock);
    r->budget = back < most - r->budget ? r->budget + back : most;
}

/* Full jitter: anything up to the bound, so that many who failed together do not come back
 * together. What the store asked for comes on top, as the least. */
static uint32_t choose_pause(struct attempt *a, const struct err *why)
{
    struct retry *r = a->retry;
    uint32_t random = 0;
    if (r->world->ops->random(r->world, &random, sizeof random) < 0)
        random = UINT32_MAX; /* no jitter is better than no pause */
    uint64_t pause = a->bound_ms * (uint64_t)random / UINT32_MAX;
    a->bound_ms *= 2;
    if (a->bound_ms > r->policy.pause_max_ms)
        a->bound_ms = r->policy.pause_max_ms;
    return (uint32_t)pause + why->retry_after_ms;
}

static bool is_cancelled(struct retry *r)
{
    LOCK_SCOPE(&r->lock);
    return r->cancelled;
}

/* After a failure: whether to try again, once the pause is over. */
static bool again(struct attempt *a, struct err *why)
{
    struct retry *r = a->retry;
    if (why->kind != ERR_TRANSIENT)
        return false;
    uint32_t pause_ms = choose_pause(a, why);
    uint64_t spent_ms = now_ms(r) - a->begun_ms;
    bool more = spent_ms + pause_ms <= r->policy.deadline_ms && take_budget(r) &&
                (r->policy.pause != NULL ? r->policy.pause(r->policy.context, pause_ms)
                                         : really_pause(r, pause_ms));
    if (more) {
        a->tries++;
        return true;
    }
    if (is_cancelled(r))
        return err_set(why, ERR_CANCELLED, "store %s: asked to stop", r->head.url);
    if (a->tries > 1)
        err_wrap(why, "tried %u times over %llu s", a->tries,
                 (unsigned long long)(spent_ms / 1000));
    return false;
}

static bool end(struct attempt *a, bool good, const struct err *why, struct err *err)
{
    if (good)
        pay_back(a);
    else if (err != NULL)
        *err = *why;
    return good;
}

/* --- put --- */

enum slot { SLOT_OURS, SLOT_TAKEN, SLOT_EMPTY, SLOT_UNKNOWN };

/* What lies under the key after a put that got no answer. */
static enum slot look(struct store *inner, const char *key, struct span body, struct err *why)
{
    struct buf found AUTO_BUF = BUF_NONE;
    uint64_t bytes;
    *why = ERR_NONE;
    if (store_load(inner, key, body.length, &found, why))
        return span_equal(buf_span(&found), body) ? SLOT_OURS : SLOT_TAKEN;
    if (why->kind == ERR_NOT_FOUND)
        return SLOT_EMPTY;
    if (why->kind != ERR_CORRUPT)
        return SLOT_UNKNOWN;
    if (store_size(inner, key, &bytes, NULL) && bytes > body.length)
        return SLOT_TAKEN;
    why->kind = ERR_TRANSIENT; /* damaged: nobody knows whose it is, and the put stays in doubt */
    return SLOT_UNKNOWN;
}

/* A put that may have happened is in doubt until its slot was seen, whatever else goes wrong: who
 * is told that it was refused forgets it, and takes it for another writer's when it shows. */
static void stay_in_doubt(struct err *why)
{
    if (why->kind != ERR_CANCELLED)
        why->kind = ERR_TRANSIENT;
}

/* Settles a put in doubt. *settled: the result stands. Else: nothing is there, put again. */
static bool settle(struct attempt *a, const char *key, struct span body, bool *settled,
                   struct err *why)
{
    struct store *inner = a->retry->inner;
    enum slot slot;
    while ((slot = look(inner, key, body, why)) == SLOT_UNKNOWN && again(a, why))
        ;
    *settled = slot != SLOT_EMPTY;
    if (slot == SLOT_UNKNOWN)
        stay_in_doubt(why);
    if (slot == SLOT_TAKEN)
        return err_set(why, ERR_EXISTS, "store %s: object %s exists, with other bytes", inner->url,
                       key);
    return slot == SLOT_OURS;
}

static bool retry_put(struct store *s, const char *key, struct span body,
                      const struct sha256 *digest, struct err *err)
{
    struct attempt a = attempt_begin(s);
    for (;;) {
        struct err why = ERR_NONE;
        bool settled, in_doubt = a.tries > 1;
        if (store_put_digested(a.retry->inner, key, body, digest, &why))
            return end(&a, true, &why, err);
        /* Taken after a try that got no answer: by that try? */
        bool taken = in_doubt && why.kind == ERR_EXISTS;
        if (!taken && !again(&a, &why)) {
            if (in_doubt)
                stay_in_doubt(&why);
            return end(&a, false, &why, err);
        }
        bool ours = settle(&a, key, body, &settled, &why);
        if (!settled && taken) {
            settled = true;
            err_set(&why, ERR_TRANSIENT, "store %s: object %s comes and goes", s->url, key);
        }
        if (settled)
            return end(&a, ours, &why, err);
    }
}

/* --- the rest: repeated freely --- */

static bool retry_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                      struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_get(a.retry->inner, key, offset, out, &why)) && again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

static bool retry_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_size(a.retry->inner, key, bytes, &why)) && again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

static bool retry_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                       struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_load(a.retry->inner, key, bytes_max, out, &why)) && again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

static bool retry_remove(struct store *s, const char *key, struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_remove(a.retry->inner, key, &why)) && again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

/* A try that got no answer may have made it: the next one then says ERR_EXISTS, as for any other
 * object that was there, and who asked looks at what it is. */
static bool retry_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                       const struct sha256 *digest, bool *proved, struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_copy(a.retry->inner, key, from, from_key, digest, proved, &why)) &&
           again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

static struct store *retry_inner(struct store *s, struct err *err)
{
    (void)err;
    return retry_of(s)->inner;
}

struct listing {
    store_list_fn *each;
    void *context;
    bool any;
    char last[STORE_KEY_MAX + 1]; /* shown; the next try goes on behind it */
};

static bool show(void *context, const char *key, uint64_t bytes)
{
    struct listing *l = context;
    l->any = true;
    snprintf(l->last, sizeof l->last, "%s", key);
    return l->each(l->context, key, bytes);
}

static bool retry_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                       void *context, struct err *err)
{
    struct attempt a = attempt_begin(s);
    struct listing l = {.each = each, .context = context};
    struct err why = ERR_NONE;
    bool good;
    while (!(good = store_list(a.retry->inner, prefix, l.any ? l.last : after, show, &l, &why)) &&
           again(&a, &why))
        ;
    return end(&a, good, &why, err);
}

static void retry_cancel(struct store *s, bool cancelled)
{
    struct retry *r = retry_of(s);
    pthread_mutex_lock(&r->lock);
    r->cancelled = cancelled;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    store_cancel(r->inner, cancelled);
}

static void retry_close(struct store *s)
{
    struct retry *r = retry_of(s);
    store_close(&r->inner);
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static const struct store_ops retry_ops = {
    .put = retry_put,
    .get = retry_get,
    .size = retry_size,
    .list = retry_list,
    .remove = retry_remove,
    .close = retry_close,
    .load = retry_load,
    .cancel = retry_cancel,
    .inner = retry_inner,
    .copy = retry_copy,
};

bool store_retry(struct world *w, struct store *inner, const struct retry_policy *policy,
                 struct store **out, struct err *err)
{
    struct retry *r = calloc(1, sizeof *r);
    if (r == NULL) {
        store_close(&inner);
        return err_set(err, ERR_FULL, "out of memory");
    }
    r->head.ops = &retry_ops;
    memcpy(r->head.url, inner->url, sizeof r->head.url);
    r->world = w;
    r->inner = inner;
    r->policy = *policy;
    r->budget = policy->budget * REPEAT_COST;
    pthread_mutex_init(&r->lock, NULL);
    deadline_cond_init(&r->change);
    *out = &r->head;
    return true;
}
