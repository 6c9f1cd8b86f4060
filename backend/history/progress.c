/* SPDX-License-Identifier: MIT */
#include "backend/history/progress.h"

#include "backend/history/codec_internal.h"

#include <stdio.h>

#define NUMBER_DIGITS 16u
#define PUT_TRIES     16u

static const struct envelope_kind PROGRESS_KIND = {
    .noun = "progress object",
    .magic = "FSPROGR",
    .bytes_max = PROGRESS_BYTES_MAX,
};

/* The body says its own name, so that no object can stand for another one or another VM's. */
bool progress_encode(const struct processor_progress *p, const char *vm, uint64_t number,
                     const struct keys *keys, const struct seal_salt *salt, struct buf *out,
                     struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE;

    buf_put_text(&body, vm);
    buf_put_u64(&body, number);
    generation_put(&body, p->generation);
    buf_put_u64(&body, p->applied_epoch);
    buf_put_u64(&body, p->applied_point_ms);
    buf_put_u64(&body, p->written_ms);
    buf_put_text(&body, p->health);
    return buf_ok(&body, err) &&
           envelope_seal(&PROGRESS_KIND, keys, salt, buf_span(&body), span_of(NULL, 0), out, err);
}

bool progress_decode(struct span stored, const char *vm, uint64_t number, const struct keys *keys,
                     struct processor_progress *out, struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE;
    struct span tail;
    char name[VM_NAME_MAX + 1];

    if (!envelope_open(&PROGRESS_KIND, keys, stored, &body, &tail, err))
        return err_wrap(err, "%s, progress %llu", vm, (unsigned long long)number);
    struct reader r = reader_of(buf_span(&body));
    read_text(&r, name, sizeof name);
    bool named = read_u64(&r) == number && strcmp(name, vm) == 0;
    *out = (struct processor_progress){.generation = generation_read(&r)};
    out->applied_epoch = read_u64(&r);
    out->applied_point_ms = read_u64(&r);
    out->written_ms = read_u64(&r);
    read_text(&r, out->health, sizeof out->health);
    if (r.failed || !named || reader_left(&r) > 0)
        return err_set(err, ERR_CORRUPT, "%s, progress %llu: this is not what was put there", vm,
                       (unsigned long long)number);
    return true;
}

/* --- in the store --- */

/* The newest numbers that a list shows, in a ring. */
struct listed {
    size_t prefix;
    uint64_t numbers[PROGRESS_KEEP];
    uint64_t count;     /* of all that were seen */
    struct buf surplus; /* keys of the oldest that fell out of the ring, each with its NUL */
    size_t surplus_count;
};

static bool listed_see(void *context, const char *key, uint64_t bytes)
{
    struct listed *l = context;
    const char *digits = key + l->prefix;
    char old[KEY_MAX];
    (void)bytes;
    if (strlen(digits) != NUMBER_DIGITS || strspn(digits, "0123456789") != NUMBER_DIGITS)
        return true;
    uint64_t *slot = &l->numbers[l->count % PROGRESS_KEEP];
    if (l->count >= PROGRESS_KEEP && l->surplus_count < PROGRESS_TIDY_MAX) {
        l->surplus_count++;
        memcpy(old, key, l->prefix);
        snprintf(old + l->prefix, sizeof old - l->prefix, "%016llu", (unsigned long long)*slot);
        buf_put(&l->surplus, old, strlen(old) + 1);
    }
    *slot = strtoull(digits, NULL, 10);
    l->count++;
    return true;
}

static void listed_release(struct listed *l)
{
    buf_release(&l->surplus);
}

static bool listed_read(struct store *cache, const char *vm, struct listed *l, struct err *err)
{
    char prefix[KEY_MAX];
    *l = (struct listed){.surplus = BUF_NONE};
    l->prefix = (size_t)snprintf(prefix, sizeof prefix, "%s/progress/", vm);
    if (!store_list(cache, prefix, NULL, listed_see, l, err) || !buf_ok(&l->surplus, err))
        return err_wrap(err, "looking for the progress of %s", vm);
    return true;
}

/* A list may lag: the newest that it shows may be gone. It keeps enough of them that an older one
 * is there still. What is not authentic speaks of nothing: who may only make objects there puts no
 * end to it. */
bool progress_newest(struct store *cache, const char *vm, const struct keys *keys,
                     struct processor_progress *out, uint64_t *number, struct err *err)
{
    struct listed l CLEANUP(listed_release) = {.surplus = BUF_NONE};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err wrong = ERR_NONE;
    char key[KEY_MAX];

    *number = 0;
    if (!listed_read(cache, vm, &l, err))
        return false;
    for (uint64_t i = l.count; i > 0 && i + PROGRESS_KEEP > l.count; i--) {
        uint64_t n = l.numbers[(i - 1) % PROGRESS_KEEP];
        key_progress(key, vm, n);
        if (store_load(cache, key, PROGRESS_BYTES_MAX, &stored, err)) {
            *number = n;
            if (progress_decode(buf_span(&stored), vm, n, keys, out, err))
                return true;
            wrong = *err;
        } else if (err->kind == ERR_CORRUPT) {
            wrong = *err;
        } else if (err->kind != ERR_NOT_FOUND) {
            return err_wrap(err, "reading the progress of %s", vm);
        }
    }
    *number = 0;
    if (wrong.kind != ERR_OK) {
        *err = wrong;
        return false;
    }
    return err_set(err, ERR_NOT_FOUND,
                   "no processor has said anything of %s yet: is `farshore process` running in the "
                   "target region?",
                   vm);
}

bool progress_read(struct store *cache, const char *vm, const struct keys *keys,
                   struct processor_progress *out, struct err *err)
{
    struct err unused;
    uint64_t number;
    return progress_newest(cache, vm, keys, out, &number, err ? err : &unused);
}

bool progress_tidy(struct store *cache, const char *vm, struct err *err)
{
    struct listed l CLEANUP(listed_release) = {.surplus = BUF_NONE};

    if (!listed_read(cache, vm, &l, err))
        return false;
    for (size_t at = 0; at < l.surplus.length;) {
        const char *key = (const char *)l.surplus.data + at;
        if (!store_remove(cache, key, err))
            return false;
        at += strlen(key) + 1;
    }
    return true;
}

bool progress_put(const struct processor_config *config, const struct processor_progress *p,
                  uint64_t *number, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt salt;
    char key[KEY_MAX];
    struct sha256 content = sha256_of(span_of_text(p->health));

    for (unsigned tries = 0; tries < PUT_TRIES; tries++) {
        /* Never lower than the clock: a list that does not show the last one makes no step back. */
        uint64_t next = p->written_ms > *number ? p->written_ms : *number + 1;
        buf_clear(&bytes);
        if (!salt_make(config->keys, SEAL_HISTORY, config->world, p->generation.id,
                       p->applied_epoch, next, &content, &salt, err) ||
            !progress_encode(p, config->vm, next, config->keys, &salt, &bytes, err))
            return false;
        key_progress(key, config->vm, next);
        bool done = store_put(config->caches[0], key, buf_span(&bytes), err);
        if (!done && err->kind != ERR_EXISTS)
            return err_wrap(err, "leaving the progress of %s", config->vm);
        *number = next; /* taken by us now, or by another before */
        if (done)
            return true;
    }
    return err_set(err, ERR_BUSY, "too many processors leave their progress of %s", config->vm);
}
