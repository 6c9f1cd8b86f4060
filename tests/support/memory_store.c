/* SPDX-License-Identifier: MIT */
#include "tests/support/memory_store.h"

#include <stdatomic.h>
#include <stdio.h>

struct object {
    char *key;
    uint8_t *data;
    size_t length;
    uint64_t put_number;
};

struct memory_bucket {
    pthread_mutex_t lock;
    struct object *objects; /* by key */
    size_t count;
    size_t capacity;
    uint64_t puts;
    uint64_t list_lag;
};

struct memory_store {
    struct store store;
    struct memory_bucket *bucket;
    memory_before_fn *before;
    memory_after_fn *after;
    void *context;
    atomic_uint_fast64_t calls;
    enum memory_copies copies;
};

static void *must(void *pointer)
{
    if (pointer == NULL)
        abort();
    return pointer;
}

/* --- the bucket --- */

struct memory_bucket *memory_bucket_make(void)
{
    struct memory_bucket *b = must(calloc(1, sizeof *b));
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

static void object_release(struct object *o)
{
    free(o->key);
    free(o->data);
}

void memory_bucket_release(struct memory_bucket **bucket)
{
    struct memory_bucket *b = *bucket;
    *bucket = NULL;
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->count; i++)
        object_release(&b->objects[i]);
    free(b->objects);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* Index of the first object at or after `key`. */
static size_t seek_locked(const struct memory_bucket *b, const char *key)
{
    size_t low = 0, high = b->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(b->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *find_locked(const struct memory_bucket *b, const char *key)
{
    size_t i = seek_locked(b, key);
    return i < b->count && strcmp(b->objects[i].key, key) == 0 ? &b->objects[i] : NULL;
}

static void drop_locked(struct memory_bucket *b, const char *key)
{
    struct object *o = find_locked(b, key);
    if (o == NULL)
        return;
    object_release(o);
    size_t i = (size_t)(o - b->objects);
    memmove(o, o + 1, (b->count - i - 1) * sizeof *o);
    b->count--;
}

static void set_locked(struct memory_bucket *b, const char *key, struct span body)
{
    drop_locked(b, key);
    if (b->count == b->capacity) {
        b->capacity = b->capacity > 0 ? 2 * b->capacity : 64;
        b->objects = must(realloc(b->objects, b->capacity * sizeof *b->objects));
    }
    size_t i = seek_locked(b, key);
    memmove(b->objects + i + 1, b->objects + i, (b->count - i) * sizeof *b->objects);
    struct object *o = &b->objects[i];
    /* malloc, not calloc, and no byte more: sanitizers see every read that is too long. */
    *o = (struct object){.key = must(strdup(key)),
                         .data = must(malloc(body.length > 0 ? body.length : 1)),
                         .length = body.length,
                         .put_number = ++b->puts};
    if (body.length > 0)
        memcpy(o->data, body.data, body.length);
    b->count++;
}

size_t memory_bucket_objects(struct memory_bucket *b)
{
    LOCK_SCOPE(&b->lock);
    return b->count;
}

uint64_t memory_bucket_bytes(struct memory_bucket *b)
{
    LOCK_SCOPE(&b->lock);
    uint64_t sum = 0;
    for (size_t i = 0; i < b->count; i++)
        sum += b->objects[i].length;
    return sum;
}

bool memory_bucket_has(struct memory_bucket *b, const char *key)
{
    LOCK_SCOPE(&b->lock);
    return find_locked(b, key) != NULL;
}

void memory_bucket_set(struct memory_bucket *b, const char *key, struct span body)
{
    LOCK_SCOPE(&b->lock);
    set_locked(b, key, body);
}

bool memory_bucket_damage(struct memory_bucket *b, const char *key, uint64_t offset, uint8_t mask)
{
    LOCK_SCOPE(&b->lock);
    struct object *o = find_locked(b, key);
    if (o == NULL || offset >= o->length)
        return false;
    o->data[offset] ^= mask;
    return true;
}

void memory_bucket_drop(struct memory_bucket *b, const char *key)
{
    LOCK_SCOPE(&b->lock);
    drop_locked(b, key);
}

void memory_bucket_lag_lists(struct memory_bucket *b, uint64_t puts)
{
    LOCK_SCOPE(&b->lock);
    b->list_lag = puts;
}

/* --- the store: what each operation does, without faults --- */

static bool not_found(const struct store *s, const char *key, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "store %s: no object %s", s->url, key);
}

static bool do_put(struct memory_store *m, const char *key, struct span body, bool replace,
                   struct err *err)
{
    LOCK_SCOPE(&m->bucket->lock);
    if (!replace && find_locked(m->bucket, key) != NULL)
        return err_set(err, ERR_EXISTS, "store %s: object %s exists", m->store.url, key);
    set_locked(m->bucket, key, body);
    return true;
}

static bool do_get(struct memory_store *m, const char *key, uint64_t offset, struct mspan out,
                   struct err *err)
{
    LOCK_SCOPE(&m->bucket->lock);
    const struct object *o = find_locked(m->bucket, key);
    if (o == NULL)
        return not_found(&m->store, key, err);
    if (offset > o->length || out.length > o->length - offset)
        return err_set(err, ERR_CORRUPT, "store %s: object %s ends at %zu", m->store.url, key,
                       o->length);
    memcpy(out.data, o->data + offset, out.length);
    return true;
}

static bool do_size(struct memory_store *m, const char *key, uint64_t *bytes, struct err *err)
{
    LOCK_SCOPE(&m->bucket->lock);
    const struct object *o = find_locked(m->bucket, key);
    if (o == NULL)
        return not_found(&m->store, key, err);
    *bytes = o->length;
    return true;
}

/* The next object to list behind `after` ("" at first); `key` holds STORE_KEY_MAX + 1. */
static bool next_listed(struct memory_bucket *b, const char *prefix, const char *after, char *key,
                        uint64_t *bytes)
{
    LOCK_SCOPE(&b->lock);
    const char *from = strcmp(after, prefix) > 0 ? after : prefix;
    for (size_t i = seek_locked(b, from); i < b->count; i++) {
        const struct object *o = &b->objects[i];
        if (strncmp(o->key, prefix, strlen(prefix)) != 0)
            return false;
        if (strcmp(o->key, after) <= 0 || o->put_number + b->list_lag > b->puts)
            continue;
        snprintf(key, STORE_KEY_MAX + 1, "%s", o->key);
        *bytes = o->length;
        return true;
    }
    return false;
}

/* Key by key, so that `each` runs under no lock. */
static void do_list(struct memory_store *m, const char *prefix, const char *after,
                    store_list_fn *each, void *context)
{
    char key[STORE_KEY_MAX + 1], last[STORE_KEY_MAX + 1];
    uint64_t bytes;
    snprintf(last, sizeof last, "%s", after != NULL ? after : "");
    while (next_listed(m->bucket, prefix, last, key, &bytes) && each(context, key, bytes))
        memcpy(last, key, sizeof last);
}

static void do_remove(struct memory_store *m, const char *key)
{
    memory_bucket_drop(m->bucket, key);
}

/* --- faults around them --- */

static struct memory_store *memory_of(struct store *s)
{
    return (struct memory_store *)s;
}

static enum memory_fault begin(struct memory_store *m, struct memory_call *call)
{
    call->number = atomic_fetch_add(&m->calls, 1) + 1;
    return m->before != NULL ? m->before(m->context, call) : MEMORY_PASS;
}

/* Whether the call goes on to do its work; if not, *ok and `err` are what it returns. */
static bool goes_on(const struct memory_store *m, const struct memory_call *call,
                    enum memory_fault fault, bool *ok, struct err *err)
{
    bool changes = call->op == MEMORY_PUT || call->op == MEMORY_REMOVE || call->op == MEMORY_COPY;
    *ok = false;
    if (fault == MEMORY_DROP && changes) {
        *ok = true;
        return false;
    }
    if (fault == MEMORY_FAIL || fault == MEMORY_DROP)
        return err_set(err, ERR_TRANSIENT, "store %s: no answer for %s", m->store.url, call->key);
    if (fault == MEMORY_DENY)
        return err_set(err, ERR_DENIED, "store %s: access denied to %s", m->store.url, call->key);
    if (fault == MEMORY_FILL)
        return err_set(err, ERR_FULL, "store %s: full, no room for %s", m->store.url, call->key);
    return true;
}

static bool end(struct memory_store *m, const struct memory_call *call, enum memory_fault fault,
                bool ok, struct err *err)
{
    if (fault == MEMORY_LOSE_REPLY)
        ok = err_set(err, ERR_TRANSIENT, "store %s: no answer for %s", m->store.url, call->key);
    if (m->after != NULL)
        m->after(m->context, call, ok);
    return ok;
}

static bool memory_put(struct store *s, const char *key, struct span body,
                       const struct sha256 *digest, struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_PUT, .key = key};
    struct sha256 true_digest = sha256_of(body);
    if (digest != NULL && !digests_equal(digest, &true_digest, sizeof *digest))
        abort(); /* a service would refuse it: the caller's mistake */
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err)) {
        if (fault == MEMORY_CUT && body.length > 0)
            body.length--;
        ok = do_put(m, key, body, fault == MEMORY_REPLACE, err);
    }
    return end(m, &call, fault, ok, err);
}

static bool memory_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                       struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_GET, .key = key};
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err))
        ok = do_get(m, key, offset, out, err);
    if (ok && fault == MEMORY_DAMAGE && out.length > 0)
        out.data[call.number % out.length] ^= 1;
    return end(m, &call, fault, ok, err);
}

static bool memory_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_SIZE, .key = key};
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err))
        ok = do_size(m, key, bytes, err);
    if (ok && fault == MEMORY_SWELL)
        *bytes = UINT64_MAX;
    return end(m, &call, fault, ok, err);
}

static bool memory_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                        void *context, struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_LIST, .key = prefix};
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err)) {
        do_list(m, prefix, after, each, context);
        ok = true;
    }
    return end(m, &call, fault, ok, err);
}

static bool memory_remove(struct store *s, const char *key, struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_REMOVE, .key = key};
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err)) {
        do_remove(m, key);
        ok = true;
    }
    return end(m, &call, fault, ok, err);
}

static bool memory_can_copy(struct store *s, struct store *from)
{
    return from->ops == s->ops && memory_of(s)->copies != MEMORY_COPIES_NOT;
}

/* The source's bytes, wrong as told; the caller frees them. */
static bool read_source(struct memory_store *m, const char *key, enum memory_fault fault,
                        struct buf *out, struct err *err)
{
    LOCK_SCOPE(&m->bucket->lock);
    const struct object *o = find_locked(m->bucket, key);
    if (o == NULL)
        return not_found(&m->store, key, err);
    buf_put(out, o->data, o->length);
    if (fault == MEMORY_DAMAGE && out->length > 0)
        out->data[0] ^= 1;
    if (fault == MEMORY_CUT && out->length > 0)
        out->length--;
    return buf_ok(out, err);
}

static bool memory_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                        const struct sha256 *digest, bool *proved, struct err *err)
{
    struct memory_store *m = memory_of(s);
    struct memory_call call = {.op = MEMORY_COPY, .key = key};
    struct buf body AUTO_BUF = BUF_NONE;
    enum memory_fault fault = begin(m, &call);
    bool ok;
    if (goes_on(m, &call, fault, &ok, err)) {
        ok = read_source(memory_of(from), from_key, fault, &body, err) &&
             do_put(m, key, buf_span(&body), fault == MEMORY_REPLACE, err);
        struct sha256 made = sha256_of(buf_span(&body));
        *proved =
            ok && m->copies == MEMORY_COPIES_PROVED && digests_equal(&made, digest, SHA256_BYTES);
    }
    return end(m, &call, fault, ok, err);
}

static void memory_close(struct store *s)
{
    free(memory_of(s));
}

static const struct store_ops memory_ops = {
    .put = memory_put,
    .get = memory_get,
    .size = memory_size,
    .list = memory_list,
    .remove = memory_remove,
    .close = memory_close,
    .can_copy = memory_can_copy,
    .copy = memory_copy,
};

struct store *memory_store_open(struct memory_bucket *b)
{
    struct memory_store *m = must(calloc(1, sizeof *m));
    m->store = (struct store){.ops = &memory_ops, .url = "memory://test"};
    m->bucket = b;
    atomic_init(&m->calls, 0);
    return &m->store;
}

void memory_store_copies(struct store *s, enum memory_copies how)
{
    memory_of(s)->copies = how;
}

void memory_store_hook(struct store *s, memory_before_fn *before, memory_after_fn *after,
                       void *context)
{
    struct memory_store *m = memory_of(s);
    m->before = before;
    m->after = after;
    m->context = context;
}

uint64_t memory_store_calls(struct store *s)
{
    return atomic_load(&memory_of(s)->calls);
}

enum memory_fault memory_store_die(void *context, const struct memory_call *call)
{
    struct memory_death *d = context;
    (void)call;
    if (d->dead)
        return MEMORY_FAIL;
    if (++d->calls != d->at)
        return MEMORY_PASS;
    d->dead = true;
    return d->lose ? MEMORY_LOSE_REPLY : MEMORY_FAIL;
}
