/* SPDX-License-Identifier: MIT */
#include "backend/history/ahead.h"

#include "common/parallel.h"

static bool load_one(void *context, size_t i, struct err *err)
{
    struct ahead *a = context;
    char key[KEY_MAX];
    a->key(key, a->vm, a->first + i * a->step);
    a->there[i] = store_load(a->store, key, a->bytes_max, &a->objects[i], err);
    return a->there[i] || err->kind == ERR_NOT_FOUND || err->kind == ERR_CORRUPT;
}

bool ahead_load(struct ahead *a, size_t count, struct err *err)
{
    assert(count <= AHEAD_MOST);
    return parallel_each(count, store_waits(a->store) ? PARALLEL_THREADS_MAX : 1, load_one, a, err);
}

void ahead_release(struct ahead *a)
{
    for (size_t i = 0; i < AHEAD_MOST; i++)
        buf_release(&a->objects[i]);
}
