/* SPDX-License-Identifier: MIT */
#include "backend/store/rotation.h"

#include "common/cleanup.h"

#include <pthread.h>
#include <stdlib.h>

struct rotation {
    const struct rotation_ops *ops;
    void *context;
    pthread_mutex_t lock; /* guards all below; files are read under it, so that one thread does */
    void **made;          /* the last is what holds now */
    size_t count;
};

bool rotation_make(const struct rotation_ops *ops, void *context, struct rotation **out,
                   struct err *err)
{
    struct rotation *r CLEANUP(rotation_release) = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    pthread_mutex_init(&r->lock, NULL);
    r->ops = ops;
    r->context = context;
    r->made = calloc(1, sizeof *r->made);
    if (r->made == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!ops->make(context, &r->made[0], err))
        return false;
    r->count = 1;
    *out = TAKE(r);
    return true;
}

void rotation_release(struct rotation **rotation)
{
    struct rotation *r = *rotation;
    if (r == NULL)
        return;
    *rotation = NULL;
    for (size_t i = 0; i < r->count; i++)
        r->ops->release(r->made[i]);
    free(r->made);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void *rotation_now(struct rotation *r)
{
    LOCK_SCOPE(&r->lock);
    return r->made[r->count - 1];
}

static bool append(struct rotation *r, void *made)
{
    void **more = r->count < ROTATION_MAX ? realloc(r->made, (r->count + 1) * sizeof *more) : NULL;
    if (more == NULL)
        return false;
    r->made = more;
    r->made[r->count++] = made;
    return true;
}

bool rotation_renew(struct rotation *r, const void *refused)
{
    void *made = NULL;
    struct err ignored = ERR_NONE; /* the refusal is what the caller hears of */

    LOCK_SCOPE(&r->lock);
    void *now = r->made[r->count - 1];
    if (now != refused)
        return true; /* another thread was faster */
    if (!r->ops->make(r->context, &made, &ignored))
        return false;
    if (!r->ops->same(now, made) && append(r, made))
        return true;
    r->ops->release(made);
    return false;
}
