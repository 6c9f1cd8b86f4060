/* SPDX-License-Identifier: MIT */
#include "fs/disk/uploads.h"

#include "common/cleanup.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct upload {
    struct store *store;
    char key[STORE_KEY_MAX + 1];
    struct buf body;
    struct sha256 digest;
    uint64_t plain_bytes;
    bool taken; /* by a thread; the place is free when body.data is NULL */
};

struct uploads {
    struct world *world;
    unsigned thread_count;
    pthread_t threads[UPLOADS_MAX];
    pthread_mutex_t lock; /* guards everything below; never held during a put */
    pthread_cond_t change;
    struct upload places[UPLOADS_MAX];
    unsigned busy; /* places in use */
    bool ending;
    bool failed;
    struct err error;                         /* the batch's first */
    _Atomic uint64_t plain_done, stored_done; /* any thread, without the lock */
};

/* A part's name holds a random attempt: one that is taken was not put by us, as the store settles
 * puts in doubt. Then a host that was copied with its memory has this VM's state, too, and the next
 * cut must go under another name. */
static bool put(const struct upload *part, struct err *err)
{
    return store_put_digested(part->store, part->key, buf_span(&part->body), &part->digest, err);
}

static void count_part(struct uploads *u, const struct upload *part)
{
    uploads_count(u, (struct uploads_done){.plain_bytes = part->plain_bytes,
                                           .stored_bytes = part->body.length});
}

static void note_failure_locked(struct uploads *u, const struct err *err)
{
    if (!u->failed)
        u->error = *err;
    u->failed = true;
}

static struct upload *waiting_locked(struct uploads *u)
{
    for (unsigned i = 0; i < u->thread_count; i++)
        if (u->places[i].body.data != NULL && !u->places[i].taken)
            return &u->places[i];
    return NULL;
}

static void *upload_thread(void *context)
{
    struct uploads *u = context;
    pthread_mutex_lock(&u->lock);
    for (;;) {
        struct upload *part = waiting_locked(u);
        if (part == NULL) {
            if (u->ending)
                break;
            pthread_cond_wait(&u->change, &u->lock);
            continue;
        }
        part->taken = true;
        bool drop = u->failed;
        pthread_mutex_unlock(&u->lock);
        struct err err = ERR_NONE;
        bool ok = drop || put(part, &err);
        pthread_mutex_lock(&u->lock);
        if (ok && !drop)
            count_part(u, part);
        buf_release(&part->body);
        part->taken = false;
        u->busy--;
        if (!ok)
            note_failure_locked(u, &err);
        pthread_cond_broadcast(&u->change);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

bool uploads_make(struct world *w, unsigned threads, struct uploads **out, struct err *err)
{
    assert(threads <= UPLOADS_MAX);
    struct uploads *u = calloc(1, sizeof *u);
    if (u == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    u->world = w;
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->change, NULL);
    for (unsigned i = 0; i < threads; i++) {
        int rc = pthread_create(&u->threads[i], NULL, upload_thread, u);
        if (rc != 0) {
            uploads_release(&u);
            return err_errno(err, rc, "cannot start an upload thread");
        }
        pthread_mutex_lock(&u->lock);
        u->thread_count = i + 1;
        pthread_mutex_unlock(&u->lock);
    }
    *out = u;
    return true;
}

void uploads_release(struct uploads **uploads)
{
    struct uploads *u = *uploads;
    if (u == NULL)
        return;
    *uploads = NULL;
    pthread_mutex_lock(&u->lock);
    u->ending = true;
    pthread_cond_broadcast(&u->change);
    pthread_mutex_unlock(&u->lock);
    for (unsigned i = 0; i < u->thread_count; i++)
        pthread_join(u->threads[i], NULL);
    pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->change);
    free(u);
}

static void add_inline(struct uploads *u, struct upload *part)
{
    struct err err = ERR_NONE;
    bool drop = u->failed, ok = drop || put(part, &err);
    if (!ok)
        note_failure_locked(u, &err);
    else if (!drop)
        count_part(u, part);
    buf_release(&part->body);
}

void uploads_add(struct uploads *u, struct store *s, const char *key, struct buf *body,
                 const struct sha256 *digest, uint64_t plain_bytes)
{
    struct upload part = {.store = s, .body = *body, .digest = *digest, .plain_bytes = plain_bytes};
    *body = BUF_NONE;
    assert(part.body.data != NULL);
    snprintf(part.key, sizeof part.key, "%s", key);
    if (u->thread_count == 0) {
        add_inline(u, &part);
        return;
    }
    LOCK_SCOPE(&u->lock);
    while (u->busy == u->thread_count)
        pthread_cond_wait(&u->change, &u->lock);
    unsigned i = 0;
    while (u->places[i].body.data != NULL)
        i++;
    u->places[i] = part;
    u->busy++;
    pthread_cond_broadcast(&u->change);
}

bool uploads_wait(struct uploads *u, struct err *err)
{
    LOCK_SCOPE(&u->lock);
    while (u->busy > 0)
        pthread_cond_wait(&u->change, &u->lock);
    bool ok = !u->failed;
    if (!ok && err != NULL)
        *err = u->error;
    u->failed = false;
    return ok;
}

void uploads_count(struct uploads *u, struct uploads_done more)
{
    atomic_fetch_add(&u->plain_done, more.plain_bytes);
    atomic_fetch_add(&u->stored_done, more.stored_bytes);
}

struct uploads_done uploads_done(const struct uploads *u)
{
    return (struct uploads_done){.plain_bytes = atomic_load(&u->plain_done),
                                 .stored_bytes = atomic_load(&u->stored_done)};
}

bool uploads_failed(struct uploads *u, struct err *why)
{
    LOCK_SCOPE(&u->lock);
    if (u->failed)
        *why = u->error;
    return u->failed;
}
