/* SPDX-License-Identifier: MIT */
#include "fs/view/view_cache.h"

#include <errno.h>

#define BUCKETS 4096u /* a power of two */

struct viewed {
    struct history *history;
    size_t views;
};

struct view_cache {
    pthread_mutex_t lock; /* guards everything below; never held over I/O or a decode */
    pthread_cond_t loaded;
    size_t frame_bytes_max, frame_bytes;
    struct view_frame *frames[BUCKETS];
    struct view_frame *frame_newest, *frame_oldest;
    size_t run_bytes_max, run_bytes;
    struct open_run *runs[BUCKETS];
    struct open_run *run_newest, *run_oldest;
    struct viewed *viewed;
    size_t viewed_count, viewed_room;
};

/* A quarter for runs: without their pages each read of a frame costs another one. */
bool view_cache_make(uint64_t bytes_max, struct view_cache **out, struct err *err)
{
    struct view_cache *c = calloc(1, sizeof *c);
    if (!c)
        return err_errno(err, ENOMEM, "making a view cache");
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->loaded, NULL);
    c->run_bytes_max = (size_t)(bytes_max / 4);
    c->frame_bytes_max = (size_t)(bytes_max - bytes_max / 4);
    *out = c;
    return true;
}

/* --- frames --- */

static struct view_frame **frame_bucket(struct view_cache *c, const struct frame_key *k)
{
    /* A digest is spread evenly already. */
    uint32_t hash = load_u32(k->segment.bytes) ^ (k->offset * 2654435761u) ^ k->store;
    return &c->frames[(hash ^ hash >> 16) & (BUCKETS - 1)];
}

static bool frame_keys_equal(const struct frame_key *a, const struct frame_key *b)
{
    return a->offset == b->offset && a->store == b->store &&
           memcmp(a->segment.bytes, b->segment.bytes, SHA256_BYTES) == 0 &&
           memcmp(a->sealed.bytes, b->sealed.bytes, BLOCK_DIGEST_BYTES) == 0 &&
           memcmp(a->vm, b->vm, VM_ID_BYTES) == 0;
}

static struct view_frame *frame_find(struct view_cache *c, const struct frame_key *k)
{
    struct view_frame *f = *frame_bucket(c, k);
    while (f && !frame_keys_equal(&f->key, k))
        f = f->chain;
    return f;
}

static void frame_unlink(struct view_cache *c, struct view_frame *f)
{
    struct view_frame **at = frame_bucket(c, &f->key);
    while (*at != f)
        at = &(*at)->chain;
    *at = f->chain;
}

static void frame_use_remove(struct view_cache *c, struct view_frame *f)
{
    *(f->newer ? &f->newer->older : &c->frame_newest) = f->older;
    *(f->older ? &f->older->newer : &c->frame_oldest) = f->newer;
    f->newer = f->older = NULL;
}

static void frame_use_add(struct view_cache *c, struct view_frame *f)
{
    f->older = c->frame_newest;
    *(f->older ? &f->older->newer : &c->frame_oldest) = f;
    c->frame_newest = f;
}

static void frame_free(struct view_frame *f)
{
    free(f->plain);
    free(f);
}

static void frames_shrink(struct view_cache *c)
{
    struct view_frame *f = c->frame_oldest;
    while (f && c->frame_bytes > c->frame_bytes_max) {
        struct view_frame *newer = f->newer;
        if (f->users == 0) {
            c->frame_bytes -= f->bytes;
            frame_use_remove(c, f);
            frame_unlink(c, f);
            frame_free(f);
        }
        f = newer;
    }
}

enum frame_claim view_cache_claim(struct view_cache *c, const struct frame_key *key,
                                  struct view_frame **out)
{
    LOCK_SCOPE(&c->lock);
    struct view_frame *f = frame_find(c, key);
    *out = NULL;
    if (f && f->loading)
        return FRAME_BUSY;
    if (f) {
        frame_use_remove(c, f);
        frame_use_add(c, f);
        f->users++;
        *out = f;
        return FRAME_READY;
    }
    f = calloc(1, sizeof *f);
    if (!f)
        return FRAME_NONE;
    struct view_frame **bucket = frame_bucket(c, key);
    *f = (struct view_frame){.key = *key, .users = 1, .loading = true, .chain = *bucket};
    *bucket = f;
    *out = f;
    return FRAME_CLAIMED;
}

void view_cache_publish(struct view_cache *c, struct view_frame *f, uint8_t *plain, size_t bytes)
{
    LOCK_SCOPE(&c->lock);
    f->plain = plain;
    f->bytes = bytes + sizeof *f;
    f->loading = false;
    c->frame_bytes += f->bytes;
    frame_use_add(c, f);
    frames_shrink(c);
    pthread_cond_broadcast(&c->loaded);
}

void view_cache_give_up(struct view_cache *c, struct view_frame **f)
{
    LOCK_SCOPE(&c->lock);
    frame_unlink(c, *f);
    frame_free(*f);
    *f = NULL;
    pthread_cond_broadcast(&c->loaded);
}

void view_cache_put(struct view_cache *c, struct view_frame **f)
{
    if (!*f)
        return;
    LOCK_SCOPE(&c->lock);
    (*f)->users--;
    *f = NULL;
    frames_shrink(c);
}

void view_cache_wait(struct view_cache *c, const struct frame_key *key)
{
    LOCK_SCOPE(&c->lock);
    for (;;) {
        struct view_frame *f = frame_find(c, key);
        if (!f || !f->loading)
            return;
        pthread_cond_wait(&c->loaded, &c->lock);
    }
}

/* --- runs --- */

static struct open_run **run_bucket(struct view_cache *c, const struct history *h,
                                    const struct run_place *place)
{
    size_t hash;
    memcpy(&hash, place->run.object.bytes, sizeof hash);
    hash ^= (size_t)place->run.offset ^ (size_t)((uintptr_t)h >> 6);
    return &c->runs[hash & (BUCKETS - 1)];
}

/* By where it lies: an epoch's run may be another one after a merge. */
static struct open_run *run_lookup(struct view_cache *c, const struct history *h,
                                   const struct run_place *place)
{
    struct open_run *r = *run_bucket(c, h, place);
    while (r && (r->history != h || !record_run_same_place(&r->place.run, &place->run)))
        r = r->chain;
    return r;
}

static void run_use_remove(struct view_cache *c, struct open_run *r)
{
    *(r->newer ? &r->newer->older : &c->run_newest) = r->older;
    *(r->older ? &r->older->newer : &c->run_oldest) = r->newer;
    r->newer = r->older = NULL;
}

static void run_use_add(struct view_cache *c, struct open_run *r)
{
    r->older = c->run_newest;
    *(r->older ? &r->older->newer : &c->run_oldest) = r;
    c->run_newest = r;
}

static void run_drop(struct view_cache *c, struct open_run *r)
{
    struct open_run **at = run_bucket(c, r->history, &r->place);
    while (*at != r)
        at = &(*at)->chain;
    *at = r->chain;
    run_use_remove(c, r);
    c->run_bytes -= r->cost;
    stored_run_close(&r->stored);
    free(r);
}

static void runs_shrink(struct view_cache *c)
{
    struct open_run *r = c->run_oldest;
    while (r && c->run_bytes > c->run_bytes_max) {
        struct open_run *newer = r->newer;
        if (r->users == 0)
            run_drop(c, r);
        r = newer;
    }
}

struct open_run *view_cache_run_get(struct view_cache *c, struct history *h,
                                    const struct run_place *place)
{
    LOCK_SCOPE(&c->lock);
    struct open_run *r = run_lookup(c, h, place);
    if (!r)
        return NULL;
    run_use_remove(c, r);
    run_use_add(c, r);
    r->users++;
    return r;
}

struct open_run *view_cache_run_add(struct view_cache *c, struct open_run *r)
{
    LOCK_SCOPE(&c->lock);
    struct open_run *first = run_lookup(c, r->history, &r->place);
    if (first) {
        stored_run_close(&r->stored);
        free(r);
        first->users++;
        return first;
    }
    struct open_run **bucket = run_bucket(c, r->history, &r->place);
    r->chain = *bucket;
    *bucket = r;
    run_use_add(c, r);
    c->run_bytes += r->cost;
    runs_shrink(c);
    return r;
}

void view_cache_run_put(struct view_cache *c, struct open_run **r)
{
    if (!*r)
        return;
    LOCK_SCOPE(&c->lock);
    (*r)->users--;
    *r = NULL;
    runs_shrink(c);
}

bool view_cache_view_add(struct view_cache *c, struct history *h)
{
    LOCK_SCOPE(&c->lock);
    for (size_t i = 0; i < c->viewed_count; i++)
        if (c->viewed[i].history == h) {
            c->viewed[i].views++;
            return true;
        }
    if (c->viewed_count == c->viewed_room) {
        size_t room = c->viewed_room * 2 + 8;
        struct viewed *bigger = realloc(c->viewed, room * sizeof *bigger);
        if (!bigger)
            return false;
        c->viewed = bigger;
        c->viewed_room = room;
    }
    c->viewed[c->viewed_count++] = (struct viewed){.history = h, .views = 1};
    return true;
}

static void runs_forget_locked(struct view_cache *c, const struct history *h)
{
    struct open_run *newer;
    for (struct open_run *r = c->run_oldest; r; r = newer) {
        newer = r->newer;
        if (r->history == h)
            run_drop(c, r);
    }
}

void view_cache_view_remove(struct view_cache *c, struct history *h)
{
    LOCK_SCOPE(&c->lock);
    for (size_t i = 0; i < c->viewed_count; i++) {
        if (c->viewed[i].history != h)
            continue;
        if (--c->viewed[i].views == 0) {
            c->viewed[i] = c->viewed[--c->viewed_count];
            runs_forget_locked(c, h);
        }
        return;
    }
}

void view_cache_release(struct view_cache **cache)
{
    struct view_cache *c = *cache;
    if (!c)
        return;
    assert(c->viewed_count == 0);
    while (c->frame_oldest) {
        struct view_frame *f = c->frame_oldest;
        frame_use_remove(c, f);
        frame_free(f);
    }
    free(c->viewed);
    pthread_cond_destroy(&c->loaded);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *cache = NULL;
}
