/* SPDX-License-Identifier: MIT */
#include "fs/disk/range_lock.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* Holders and waiters stand in one queue in the order they came. A hold is granted when nothing
 * before it in the queue overlaps it: that is mutual exclusion and fairness in one rule. The queue
 * is as long as there are threads doing I/O on the disk, so walks over it are short. */
struct range_locks {
    pthread_mutex_t queue_lock; /* guards the queue and `granted` of all in it */
    struct range_hold *head;
    pthread_cond_t granted; /* some waiter was granted */
};

bool range_locks_make(struct range_locks **out)
{
    struct range_locks *locks = calloc(1, sizeof *locks);

    if (!locks)
        return false;
    pthread_mutex_init(&locks->queue_lock, NULL);
    pthread_cond_init(&locks->granted, NULL);
    *out = locks;
    return true;
}

void range_locks_release(struct range_locks **locks)
{
    if (!*locks)
        return;
    assert(!(*locks)->head);
    pthread_cond_destroy(&(*locks)->granted);
    pthread_mutex_destroy(&(*locks)->queue_lock);
    free(*locks);
    *locks = NULL;
}

/* Does anything that came before `hold`, or all there is when it is not in the queue, overlap it?
 */
static bool blocked_locked(const struct range_locks *locks, const struct range_hold *hold)
{
    for (const struct range_hold *h = locks->head; h != hold && h; h = h->next)
        if (extents_overlap(h->extent, hold->extent))
            return true;
    return false;
}

static struct range_hold **tail_locked(struct range_locks *locks)
{
    struct range_hold **tail = &locks->head;

    while (*tail)
        tail = &(*tail)->next;
    return tail;
}

bool range_try(struct range_locks *locks, struct extent extent, struct range_hold *hold)
{
    *hold = (struct range_hold){.extent = extent, .locks = locks, .granted = true};

    pthread_mutex_lock(&locks->queue_lock);
    bool free_now = !blocked_locked(locks, hold);
    if (free_now)
        *tail_locked(locks) = hold;
    pthread_mutex_unlock(&locks->queue_lock);
    if (!free_now)
        hold->locks = NULL;
    return free_now;
}

void range_lock(struct range_locks *locks, struct extent extent, struct range_hold *hold)
{
    *hold = (struct range_hold){.extent = extent, .locks = locks};

    pthread_mutex_lock(&locks->queue_lock);
    *tail_locked(locks) = hold;
    hold->granted = !blocked_locked(locks, hold);
    while (!hold->granted)
        pthread_cond_wait(&locks->granted, &locks->queue_lock);
    pthread_mutex_unlock(&locks->queue_lock);
}

/* Only waiters behind the released hold that overlap it can have become free. */
static bool grant_locked(struct range_locks *locks, struct range_hold *behind, struct extent gone)
{
    bool any = false;

    for (struct range_hold *h = behind; h; h = h->next) {
        if (h->granted || !extents_overlap(h->extent, gone) || blocked_locked(locks, h))
            continue;
        h->granted = true;
        any = true;
    }
    return any;
}

void range_unlock(struct range_hold *hold)
{
    struct range_locks *locks = hold->locks;

    assert(hold->granted);
    pthread_mutex_lock(&locks->queue_lock);
    struct range_hold **link = &locks->head;
    while (*link != hold)
        link = &(*link)->next;
    *link = hold->next;
    if (grant_locked(locks, hold->next, hold->extent))
        pthread_cond_broadcast(&locks->granted);
    pthread_mutex_unlock(&locks->queue_lock);
    hold->locks = NULL;
}
