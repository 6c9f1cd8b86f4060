/* SPDX-License-Identifier: MIT */
#include "common/parallel.h"

#include "common/cleanup.h"

#include <assert.h>

struct work {
    parallel_fn *each;
    void *context;
    size_t count;
    pthread_mutex_t lock; /* guards: */
    size_t next;
    size_t failed; /* lowest index that failed; count: none */
    struct err err;
};

static bool take(struct work *w, size_t *index)
{
    LOCK_SCOPE(&w->lock);
    if (w->next >= w->count || w->failed < w->count)
        return false;
    *index = w->next++;
    return true;
}

static void fail(struct work *w, size_t index, const struct err *err)
{
    LOCK_SCOPE(&w->lock);
    if (index >= w->failed)
        return;
    w->failed = index;
    w->err = *err;
}

static void *run(void *work)
{
    struct work *w = work;
    size_t index;
    while (take(w, &index)) {
        struct err err = ERR_NONE;
        if (!w->each(w->context, index, &err))
            fail(w, index, &err);
    }
    return NULL;
}

bool parallel_each(size_t count, unsigned threads, parallel_fn *each, void *context,
                   struct err *err)
{
    struct work w = {.each = each, .context = context, .count = count, .failed = count};
    pthread_t others[PARALLEL_THREADS_MAX];
    size_t started = 0;

    assert(threads >= 1 && threads <= PARALLEL_THREADS_MAX);
    pthread_mutex_init(&w.lock, NULL);
    while (started + 1 < threads && started + 1 < count &&
           pthread_create(&others[started], NULL, run, &w) == 0)
        started++;
    run(&w);
    for (size_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    pthread_mutex_destroy(&w.lock);
    if (w.failed < count && err != NULL)
        *err = w.err;
    return w.failed == count;
}
