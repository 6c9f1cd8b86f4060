/* SPDX-License-Identifier: MIT */
#include "backend/store/throttle.h"

#include "common/deadline.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define SMALL_BYTES   (64u << 10)
#define UNLIMITED     0u
#define DAY_MINUTES   1440u
#define PAUSE_MAX_MS  500u /* how late a change of the bound is noticed */
#define BURST_SECONDS 1u   /* what may be saved up while idle */
#define SMALL_SECONDS 10u  /* what small ones alone may owe before they wait, too */

struct window {
    unsigned from_minute, to_minute; /* of the local day; to <= from spans midnight */
    uint64_t rate;
};

struct plan {
    uint64_t rate;
    struct window windows[BANDWIDTH_WINDOWS_MAX];
    size_t window_count;
};

struct bandwidth {
    struct world *world;
    bool (*pause)(void *context, uint32_t ms);
    void *context;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t change;
    struct plan plan;
    int64_t tokens;      /* bytes that may go now; below zero: owed */
    uint64_t small_owed; /* the part of it that small transfers made, and time has not paid yet */
    uint64_t filled_ns;
    struct waiter *first, *last; /* in the order of coming */
};

/* On the stack of who waits. */
struct waiter {
    struct waiter *next;
};

/* --- the spec --- */

static bool parse_rate(const char *text, size_t length, uint64_t *out)
{
    static const char units[] = "kMG";
    char number[24], *end;
    if (length == strlen("unlimited") && memcmp(text, "unlimited", length) == 0) {
        *out = UNLIMITED;
        return true;
    }
    if (length == 0 || length >= sizeof number || text[0] < '0' || text[0] > '9')
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    errno = 0;
    unsigned long long value = strtoull(number, &end, 10);
    unsigned shift = 0;
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    if (unit != NULL) {
        shift = 10 * ((unsigned)(unit - units) + 1);
        end++;
    }
    *out = (uint64_t)value << shift;
    return *end == '\0' && errno == 0 && value > 0 && value < 1ull << 30;
}

static bool two_digits(const char *text, unsigned most, unsigned *out)
{
    if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
        return false;
    *out = (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
    return *out <= most;
}

/* HH:MM, 24:00 included. */
static bool parse_minute(const char *text, unsigned *out)
{
    unsigned hour, minute;
    if (!two_digits(text, 24, &hour) || text[2] != ':' || !two_digits(text + 3, 59, &minute))
        return false;
    *out = hour * 60 + minute;
    return *out <= DAY_MINUTES;
}

#define WINDOW_CHARS 12u /* "HH:MM-HH:MM=" */

static bool parse_window(const char *text, size_t length, struct window *out)
{
    return length > WINDOW_CHARS && text[5] == '-' && text[11] == '=' &&
           parse_minute(text, &out->from_minute) && parse_minute(text + 6, &out->to_minute) &&
           parse_rate(text + WINDOW_CHARS, length - WINDOW_CHARS, &out->rate);
}

static bool plan_parse(const char *spec, struct plan *out, struct err *err)
{
    bool first = true;
    *out = (struct plan){.rate = UNLIMITED};
    if (strlen(spec) >= BANDWIDTH_SPEC_MAX)
        return err_set(err, ERR_INVALID, "bandwidth: longer than %u characters",
                       BANDWIDTH_SPEC_MAX - 1);
    for (const char *part = spec;; first = false) {
        size_t length = strcspn(part, ",");
        bool good = first ? parse_rate(part, length, &out->rate)
                          : out->window_count < BANDWIDTH_WINDOWS_MAX &&
                                parse_window(part, length, &out->windows[out->window_count++]);
        if (!good)
            return err_set(err, ERR_INVALID,
                           "bandwidth: \"%.*s\" is %s: write RATE or RATE,HH:MM-HH:MM=RATE,... (at "
                           "most %u windows), RATE as in 500k, 20M, 1G or unlimited",
                           (int)(length < 40 ? length : 40), part,
                           first ? "no rate" : "no window or one too many", BANDWIDTH_WINDOWS_MAX);
        if (part[length] == '\0')
            return true;
        part += length + 1;
    }
}

bool bandwidth_check(const char *spec, struct err *err)
{
    struct plan plan;
    return plan_parse(spec, &plan, err);
}

/* --- the bound --- */

static uint64_t rate_now_locked(const struct bandwidth *b)
{
    time_t now = (time_t)(b->world->ops->realtime_ns(b->world) / 1000000000);
    struct tm local;
    localtime_r(&now, &local);
    unsigned minute = (unsigned)local.tm_hour * 60 + (unsigned)local.tm_min;
    for (size_t i = 0; i < b->plan.window_count; i++) {
        const struct window *w = &b->plan.windows[i];
        bool in = w->from_minute < w->to_minute ? minute >= w->from_minute && minute < w->to_minute
                                                : minute >= w->from_minute || minute < w->to_minute;
        if (in)
            return w->rate;
    }
    return b->plan.rate;
}

/* Time that has not earned a whole byte counts for the next: who asks often loses nothing. */
static void fill_locked(struct bandwidth *b, uint64_t rate)
{
    uint64_t now_ns = b->world->ops->boottime_ns(b->world);
    double earned = (double)(now_ns - b->filled_ns) / 1e9 * (double)rate;
    int64_t most = (int64_t)(rate * BURST_SECONDS);
    if (earned >= (double)(most - b->tokens)) {
        b->tokens = most;
        b->small_owed = 0;
        b->filled_ns = now_ns;
        return;
    }
    int64_t whole = (int64_t)earned;
    uint64_t spent_ns = (uint64_t)((double)whole / (double)rate * 1e9);
    b->tokens += whole;
    b->small_owed -= (uint64_t)whole < b->small_owed ? (uint64_t)whole : b->small_owed;
    b->filled_ns += spent_ns < now_ns - b->filled_ns ? spent_ns : now_ns - b->filled_ns;
}

static uint32_t pause_ms(uint64_t owed, uint64_t rate)
{
    uint64_t ms = owed * 1000 / rate + 1;
    return (uint32_t)(ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS);
}

/* Ms until `bytes` may go, and they are paid for when that is now. A transfer may go as soon as
 * nothing is owed: it pays afterwards, so that one larger than a second's worth is not stuck. A
 * small one may go before, unless small ones alone exceed the bound: what they owe would grow for
 * ever, and the next large one would wait for it. */
static uint32_t ask_locked(struct bandwidth *b, uint64_t bytes)
{
    uint64_t rate = rate_now_locked(b);
    if (rate == UNLIMITED) {
        b->tokens = 0;
        b->small_owed = 0;
        b->filled_ns = b->world->ops->boottime_ns(b->world);
        return 0;
    }
    fill_locked(b, rate);
    bool small = bytes < SMALL_BYTES;
    if (small && b->small_owed > rate * SMALL_SECONDS)
        return pause_ms(b->small_owed - rate * SMALL_SECONDS, rate);
    if (!small && b->tokens < 0)
        return pause_ms((uint64_t)-b->tokens, rate);
    b->tokens -= (int64_t)bytes;
    b->small_owed += small ? bytes : 0;
    return 0;
}

/* Waits a little, or until something changes; the lock is let go meanwhile. */
static bool pause_locked(struct bandwidth *b, uint32_t ms)
{
    if (b->pause == NULL) {
        struct timespec until = deadline_after(ms);
        pthread_cond_timedwait(&b->change, &b->lock, &until);
        return true;
    }
    pthread_mutex_unlock(&b->lock);
    bool go_on = b->pause(b->context, ms);
    pthread_mutex_lock(&b->lock);
    return go_on;
}

static void queue_locked(struct bandwidth *b, struct waiter *me)
{
    if (b->first == NULL)
        b->first = me;
    else
        b->last->next = me;
    b->last = me;
}

static void leave_locked(struct bandwidth *b, const struct waiter *me)
{
    struct waiter **at = &b->first, *before = NULL;
    for (; *at != me; at = &(*at)->next)
        before = *at;
    *at = me->next;
    if (b->last == me)
        b->last = before;
    pthread_cond_broadcast(&b->change);
}

/* Waits for the turn of a transfer of `bytes`, in the order of coming. Who gives up leaves the
 * queue at once, wherever it stands. False: cancelled. */
static bool take_turn(struct bandwidth *b, uint64_t bytes, const atomic_bool *cancelled)
{
    struct waiter me = {.next = NULL};
    bool queues = bytes >= SMALL_BYTES;
    LOCK_SCOPE(&b->lock);
    if (queues)
        queue_locked(b, &me);
    bool go_on = true, paid = false;
    while (go_on && !paid) {
        go_on = !atomic_load(cancelled);
        uint32_t wait_ms =
            go_on && (!queues || b->first == &me) ? ask_locked(b, bytes) : PAUSE_MAX_MS;
        paid = wait_ms == 0;
        if (go_on && !paid)
            go_on = pause_locked(b, wait_ms);
    }
    if (queues)
        leave_locked(b, &me);
    return paid;
}

/* Bytes whose number was known only afterwards. */
static void charge(struct bandwidth *b, uint64_t bytes)
{
    LOCK_SCOPE(&b->lock);
    uint64_t rate = rate_now_locked(b);
    if (rate == UNLIMITED)
        return;
    fill_locked(b, rate);
    b->tokens -= (int64_t)bytes;
}

bool bandwidth_make(struct world *w, const char *spec, bool (*pause)(void *context, uint32_t ms),
                    void *context, struct bandwidth **out, struct err *err)
{
    struct plan plan;
    if (!plan_parse(spec, &plan, err))
        return false;
    struct bandwidth *b = calloc(1, sizeof *b);
    if (b == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    b->world = w;
    b->pause = pause;
    b->context = context;
    b->plan = plan;
    b->filled_ns = w->ops->boottime_ns(w);
    pthread_mutex_init(&b->lock, NULL);
    deadline_cond_init(&b->change);
    *out = b;
    return true;
}

void bandwidth_release(struct bandwidth **bandwidth)
{
    struct bandwidth *b = *bandwidth;
    if (b == NULL)
        return;
    *bandwidth = NULL;
    pthread_cond_destroy(&b->change);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

bool bandwidth_set(struct bandwidth *b, const char *spec, struct err *err)
{
    struct plan plan;
    if (!plan_parse(spec, &plan, err))
        return false;
    LOCK_SCOPE(&b->lock);
    b->plan = plan;
    pthread_cond_broadcast(&b->change);
    return true;
}

uint64_t bandwidth_now(struct bandwidth *b)
{
    LOCK_SCOPE(&b->lock);
    return rate_now_locked(b);
}

/* --- the store --- */

struct throttle {
    struct store head;
    struct store *inner;
    struct bandwidth *bandwidth;
    atomic_bool cancelled;
};

static struct throttle *throttle_of(struct store *s)
{
    return (struct throttle *)s;
}

static bool turn(struct throttle *t, uint64_t bytes, struct err *err)
{
    return take_turn(t->bandwidth, bytes, &t->cancelled) ||
           err_set(err, ERR_CANCELLED, "store %s: asked to stop", t->head.url);
}

static bool throttle_put(struct store *s, const char *key, struct span body,
                         const struct sha256 *digest, struct err *err)
{
    struct throttle *t = throttle_of(s);
    return turn(t, body.length, err) && store_put_digested(t->inner, key, body, digest, err);
}

static bool throttle_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                         struct err *err)
{
    struct throttle *t = throttle_of(s);
    return turn(t, out.length, err) && store_get(t->inner, key, offset, out, err);
}

static bool throttle_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    return store_size(throttle_of(s)->inner, key, bytes, err);
}

static bool throttle_list(struct store *s, const char *prefix, const char *after,
                          store_list_fn *each, void *context, struct err *err)
{
    return store_list(throttle_of(s)->inner, prefix, after, each, context, err);
}

static bool throttle_remove(struct store *s, const char *key, struct err *err)
{
    return store_remove(throttle_of(s)->inner, key, err);
}

static bool throttle_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                          struct err *err)
{
    struct throttle *t = throttle_of(s);
    bool good = store_load(t->inner, key, bytes_max, out, err);
    charge(t->bandwidth, out->length);
    return good;
}

/* Nothing of it passes here: it costs no bandwidth. */
static bool throttle_copy(struct store *s, const char *key, struct store *from,
                          const char *from_key, const struct sha256 *digest, bool *proved,
                          struct err *err)
{
    return store_copy(throttle_of(s)->inner, key, from, from_key, digest, proved, err);
}

static struct store *throttle_inner(struct store *s, struct err *err)
{
    (void)err;
    return throttle_of(s)->inner;
}

static void throttle_cancel(struct store *s, bool cancelled)
{
    struct throttle *t = throttle_of(s);
    pthread_mutex_lock(&t->bandwidth->lock);
    atomic_store(&t->cancelled, cancelled);
    pthread_cond_broadcast(&t->bandwidth->change);
    pthread_mutex_unlock(&t->bandwidth->lock);
    store_cancel(t->inner, cancelled);
}

static void throttle_close(struct store *s)
{
    struct throttle *t = throttle_of(s);
    store_close(&t->inner);
    free(t);
}

static const struct store_ops throttle_ops = {
    .put = throttle_put,
    .get = throttle_get,
    .size = throttle_size,
    .list = throttle_list,
    .remove = throttle_remove,
    .close = throttle_close,
    .load = throttle_load,
    .cancel = throttle_cancel,
    .inner = throttle_inner,
    .copy = throttle_copy,
};

bool store_throttle(struct store *inner, struct bandwidth *b, struct store **out, struct err *err)
{
    struct throttle *t = calloc(1, sizeof *t);
    if (t == NULL) {
        store_close(&inner);
        return err_set(err, ERR_FULL, "out of memory");
    }
    t->head.ops = &throttle_ops;
    memcpy(t->head.url, inner->url, sizeof t->head.url);
    t->inner = inner;
    t->bandwidth = b;
    *out = &t->head;
    return true;
}
