/* SPDX-License-Identifier: MIT */
#include "backend/store/attach.h"

#include <stdatomic.h>
#include <stdio.h>

#define PREFIX_MAX 128u

/* --- opened now --- */

static bool wrap(const struct attach_config *c, struct store **s, struct err *err)
{
    struct retry_policy policy = RETRY_POLICY_DEFAULT;
    if (c->deadline_ms != 0)
        policy.deadline_ms = c->deadline_ms;
    if (c->bandwidth != NULL && !store_throttle(TAKE(*s), c->bandwidth, s, err))
        return false;
    return store_retry(c->host.world, TAKE(*s), &policy, s, err);
}

static bool open_wrapped(const struct attach_config *c, struct store **out, struct err *err)
{
    return store_open(&c->host, c->url, c->create, out, err) && wrap(c, out, err);
}

static bool prove(const struct attach_config *c, struct store *s, struct err *err)
{
    return !c->check || store_check(s, c->host.world, c->prefix, c->role, NULL, err);
}

static bool attach_now(const struct attach_config *c, struct store **out, struct err *err)
{
    struct store *s AUTO_STORE = NULL;
    if (!open_wrapped(c, &s, err) || !prove(c, s, err))
        return false;
    *out = TAKE(s);
    return true;
}

/* --- opened when first used --- */

struct lazy {
    struct store head;
    struct attach_config config;
    char prefix[PREFIX_MAX];
    _Atomic(struct store *) inner; /* set once, then never changed until close */
    /* Held while the store is opened and proved, one attempt at a time; guards the next two. */
    pthread_mutex_t opening;
    uint64_t failed_ns; /* when the last attempt failed (boot time), and why */
    struct err failure;
    pthread_mutex_t lock; /* taken after `opening`; guards: */
    bool cancelled;
    struct store *proving; /* not yet `inner`, but what waits in it can be cancelled */
};

static struct lazy *lazy_of(struct store *s)
{
    return (struct lazy *)s;
}

static bool begin_proof(struct lazy *l, struct store *s, struct err *err)
{
    LOCK_SCOPE(&l->lock);
    if (l->cancelled)
        return err_set(err, ERR_CANCELLED, "store %s: asked to stop", s->url);
    l->proving = s;
    return true;
}

/* A store that is proved becomes `inner`. */
static void end_proof(struct lazy *l, struct store *proved)
{
    LOCK_SCOPE(&l->lock);
    l->proving = NULL;
    if (proved)
        atomic_store(&l->inner, proved);
}

static bool open_now(struct lazy *l, struct store **out, struct err *err)
{
    struct store *s AUTO_STORE = NULL;
    if (!open_wrapped(&l->config, &s, err) || !begin_proof(l, s, err))
        return false;
    bool good = prove(&l->config, s, err);
    end_proof(l, good ? s : NULL);
    if (good)
        *out = TAKE(s);
    return good;
}

static uint64_t now_ns(const struct lazy *l)
{
    return l->config.host.world->ops->boottime_ns(l->config.host.world);
}

/* An attempt that failed while this call waited for its turn has failed for it, too: else the last
 * of many would wait for the time-outs of all before it. */
static struct store *open_locked(struct lazy *l, uint64_t came_ns)
{
    struct store *open = atomic_load(&l->inner);
    struct err why = ERR_NONE;
    if (open || l->failed_ns > came_ns || open_now(l, &open, &why))
        return open;
    bool told = why.kind == ERR_DENIED || why.kind == ERR_CANCELLED;
    err_set(&l->failure, told ? why.kind : ERR_TRANSIENT, "%s", why.text);
    l->failed_ns = now_ns(l);
    return NULL;
}

/* The open store, or NULL with `err`. */
static struct store *inner(struct store *s, struct err *err)
{
    struct lazy *l = lazy_of(s);
    struct store *open = atomic_load(&l->inner);
    if (open)
        return open;
    uint64_t came_ns = now_ns(l);
    LOCK_SCOPE(&l->opening);
    open = open_locked(l, came_ns);
    if (open == NULL && err != NULL)
        *err = l->failure;
    return open;
}

static bool lazy_put(struct store *s, const char *key, struct span body,
                     const struct sha256 *digest, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_put_digested(open, key, body, digest, err);
}

static bool lazy_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                     struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_get(open, key, offset, out, err);
}

static bool lazy_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_size(open, key, bytes, err);
}

static bool lazy_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                      void *context, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_list(open, prefix, after, each, context, err);
}

static bool lazy_remove(struct store *s, const char *key, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_remove(open, key, err);
}

static bool lazy_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                      struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_load(open, key, bytes_max, out, err);
}

static bool lazy_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                      const struct sha256 *digest, bool *proved, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_copy(open, key, from, from_key, digest, proved, err);
}

static void lazy_cancel(struct store *s, bool cancelled)
{
    struct lazy *l = lazy_of(s);
    LOCK_SCOPE(&l->lock);
    l->cancelled = cancelled;
    struct store *open = atomic_load(&l->inner);
    if (open == NULL)
        open = l->proving;
    if (open)
        store_cancel(open, cancelled);
}

static void lazy_close(struct store *s)
{
    struct lazy *l = lazy_of(s);
    struct store *open = atomic_load(&l->inner);
    store_close(&open);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->opening);
    free(l);
}

static const struct store_ops lazy_ops = {
    .put = lazy_put,
    .get = lazy_get,
    .size = lazy_size,
    .list = lazy_list,
    .remove = lazy_remove,
    .close = lazy_close,
    .load = lazy_load,
    .cancel = lazy_cancel,
    .inner = inner,
    .copy = lazy_copy,
};

static bool attach_lazily(const struct attach_config *c, struct store **out, struct err *err)
{
    struct lazy *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    l->head.ops = &lazy_ops;
    l->config = *c;
    snprintf(l->head.url, sizeof l->head.url, "%s", c->url);
    l->config.url = l->head.url;
    if (c->prefix != NULL)
        snprintf(l->prefix, sizeof l->prefix, "%s", c->prefix);
    l->config.prefix = l->prefix;
    pthread_mutex_init(&l->opening, NULL);
    pthread_mutex_init(&l->lock, NULL);
    *out = &l->head;
    return true;
}

bool store_attach(const struct attach_config *c, struct store **out, struct err *err)
{
    assert(c->prefix == NULL || strlen(c->prefix) < PREFIX_MAX);
    assert(!c->check || c->prefix != NULL);
    if (strlen(c->url) >= STORE_URL_MAX)
        return err_set(err, ERR_INVALID, "a store's URL is longer than %u characters",
                       STORE_URL_MAX - 1);
    return c->lazily ? attach_lazily(c, out, err) : attach_now(c, out, err);
}
