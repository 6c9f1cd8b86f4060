/* SPDX-License-Identifier: MIT */
#include "backend/store/lazy.h"

#include <stdatomic.h>
#include <stdio.h>

struct lazy {
    struct store head;
    struct store_host host;
    _Atomic(struct store *) inner; /* set once, then never changed until close */
    pthread_mutex_t opening;       /* held while the store is opened: one attempt at a time */
};

static struct lazy *lazy_of(struct store *s)
{
    return (struct lazy *)s;
}

/* The open store, or NULL with `err`. */
static struct store *inner(struct store *s, struct err *err)
{
    struct lazy *l = lazy_of(s);
    struct store *open = atomic_load(&l->inner);
    if (open)
        return open;
    LOCK_SCOPE(&l->opening);
    open = atomic_load(&l->inner);
    if (open)
        return open;
    struct err why = ERR_NONE;
    if (!store_open(&l->host, s->url, false, &open, &why)) {
        err_set(err, why.kind == ERR_DENIED ? ERR_DENIED : ERR_TRANSIENT, "%s", why.text);
        return NULL;
    }
    atomic_store(&l->inner, open);
    return open;
}

static bool lazy_put(struct store *s, const char *key, struct span body, struct err *err)
{
    struct store *open = inner(s, err);
    return open && store_put(open, key, body, err);
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

static void lazy_close(struct store *s)
{
    struct lazy *l = lazy_of(s);
    struct store *open = atomic_load(&l->inner);
    store_close(&open);
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
};

bool store_lazy(const struct store_host *host, const char *url, struct store **out, struct err *err)
{
    if (strlen(url) >= STORE_URL_MAX)
        return err_set(err, ERR_INVALID, "a store's URL is longer than %u characters",
                       STORE_URL_MAX - 1);
    struct lazy *l = calloc(1, sizeof *l);
    if (l == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    l->head.ops = &lazy_ops;
    snprintf(l->head.url, sizeof l->head.url, "%s", url);
    l->host = *host;
    pthread_mutex_init(&l->opening, NULL);
    *out = &l->head;
    return true;
}
