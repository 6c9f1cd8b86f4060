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

struct newest {
    size_t prefix;
    uint64_t number;
};

static bool newest_see(void *context, const char *key, uint64_t bytes)
{
    struct newest *n = context;
    char *end = NULL;
    const char *digits = key + n->prefix;
    (void)bytes;
    if (strlen(digits) != NUMBER_DIGITS || digits[0] < '0' || digits[0] > '9')
        return true;
    uint64_t number = strtoull(digits, &end, 10);
    if (*end == '\0' && number > n->number)
        n->number = number;
    return true;
}

static bool listed_newest(struct store *cache, const char *vm, uint64_t *number, struct err *err)
{
    char prefix[KEY_MAX];
    struct newest n = {0};
    n.prefix = (size_t)snprintf(prefix, sizeof prefix, "%s/progress/", vm);
    if (!store_list(cache, prefix, NULL, newest_see, &n, err))
        return err_wrap(err, "looking for the progress of %s", vm);
    *number = n.number;
    return true;
}

bool progress_newest(struct store *cache, const char *vm, const struct keys *keys,
                     struct processor_progress *out, uint64_t *number, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    uint64_t first = 0;
    bool found = false;

    *number = 0;
    if (!listed_newest(cache, vm, &first, err))
        return false;
    /* A list may lag: what it shows may be gone, and newer ones be there. */
    uint64_t last = first + PROGRESS_PROBES_MAX;
    for (uint64_t n = first > 0 ? first : 1; n <= last; n++) {
        key_progress(key, vm, n);
        if (store_load(cache, key, PROGRESS_BYTES_MAX, &stored, err)) {
            if (!progress_decode(buf_span(&stored), vm, n, keys, out, err))
                return false;
            *number = n;
            found = true;
            last = n + PROGRESS_PROBES_MAX;
        } else if (err->kind != ERR_NOT_FOUND) {
            return err_wrap(err, "reading the progress of %s", vm);
        } else if (found || first == 0) {
            break;
        }
    }
    return found || err_set(err, ERR_NOT_FOUND,
                            "no processor has said anything of %s yet: is `farshore process` "
                            "running in the target region?",
                            vm);
}

bool progress_read(struct store *cache, const char *vm, const struct keys *keys,
                   struct processor_progress *out, struct err *err)
{
    struct err unused;
    uint64_t number;
    return progress_newest(cache, vm, keys, out, &number, err ? err : &unused);
}

struct removal {
    struct store *cache;
    struct newest parse;
    uint64_t below;
    uint64_t found[16];
    size_t count;
};

static bool removal_see(void *context, const char *key, uint64_t bytes)
{
    struct removal *r = context;
    r->parse.number = 0;
    newest_see(&r->parse, key, bytes);
    if (r->parse.number > 0 && r->parse.number < r->below)
        r->found[r->count++] = r->parse.number;
    return r->count < sizeof r->found / sizeof r->found[0];
}

/* Removes those before the newest two, `number` the newest; more than a few are left for later. */
static bool older_remove(struct store *cache, const char *vm, uint64_t number, struct err *err)
{
    char text[KEY_MAX];
    struct removal r = {.cache = cache, .below = number - 1};

    r.parse.prefix = (size_t)snprintf(text, sizeof text, "%s/progress/", vm);
    if (!store_list(cache, text, NULL, removal_see, &r, err))
        return false;
    for (size_t i = 0; i < r.count; i++) {
        key_progress(text, vm, r.found[i]);
        if (!store_remove(cache, text, err))
            return false;
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
        uint64_t next = *number + 1;
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
            return older_remove(config->caches[0], config->vm, next, err);
    }
    return err_set(err, ERR_BUSY, "too many processors leave their progress of %s", config->vm);
}
