/* SPDX-License-Identifier: MIT */
#include "backend/history/pack.h"

#include "backend/history/ahead.h"
#include "backend/history/codec_internal.h"
#include "backend/history/history_internal.h"
#include "common/log.h"

#include <stdio.h>

#define PACKS_AHEAD 4u /* asked for together */

bool pack_next(struct span *left, struct span *record)
{
    size_t bytes = envelope_bytes(*left);
    if (bytes == 0 || bytes > left->length)
        return false;
    *record = span_part(*left, 0, bytes);
    *left = span_part(*left, bytes, left->length - bytes);
    return true;
}

/* --- reading --- */

/* Without record 0 in its place there is no vault, or none any more: a purge takes it first. */
static bool begins_as(struct history *h, struct span pack, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct span record;
    char key[KEY_MAX];
    key_history(key, h->vm, 0);
    bool there = store_load(h->target, key, AHEAD_BYTES_MAX, &stored, err);
    if (!there && err->kind != ERR_NOT_FOUND && err->kind != ERR_CORRUPT)
        return false;
    return (there && pack_next(&pack, &record) && span_equal(record, buf_span(&stored))) ||
           err_set(err, ERR_CORRUPT, "%s in %s is not the first record of the packs", key,
                   h->target->url);
}

static bool pack_take(struct history *h, struct span pack, struct err *err)
{
    struct span record;
    h->from_packs = true;
    if (h->next_record == 0 && !begins_as(h, pack, err))
        return false;
    do {
        if (!pack_next(&pack, &record))
            return err_set(err, ERR_CORRUPT, "pack of %s in %s: no record at number %llu", h->vm,
                           h->target->url, (unsigned long long)h->next_record);
        if (!history_take(h, record, err))
            return false;
    } while (pack.length > 0);
    h->packed = h->next_record;
    return true;
}

bool history_packs_read(struct history *h, struct err *err)
{
    LOCK_SCOPE(&h->refresh_lock);
    for (size_t count = 1;; count = PACKS_AHEAD) {
        struct ahead a AUTO_AHEAD = {.store = h->target,
                                     .vm = h->vm,
                                     .key = key_pack,
                                     .first = h->next_record,
                                     .step = PACK_RECORDS,
                                     .bytes_max = PACK_BYTES_MAX};
        struct err why = ERR_NONE;
        if (!ahead_load(&a, count, &why) && why.kind == ERR_CANCELLED)
            return err_set(err, why.kind, "%s", why.text);
        /* One that holds fewer ends the row: the next one is asked for by its own number. One that
         * cannot be read, for whatever reason, is as none: the records are asked next. */
        for (size_t i = 0; i < count && h->next_record == a.first + i * a.step; i++) {
            if (!a.there[i])
                return true;
            if (!pack_take(h, buf_span(&a.objects[i]), err))
                return false;
        }
    }
}

/* --- making --- */

struct packing {
    struct history *h;
    struct buf bytes;
    uint64_t first, next;
    struct sha256 last; /* of the record before `next`, when that is in the pack */
    bool ended;         /* what follows on its last record was seen */
};

static void packing_release(struct packing *p)
{
    buf_release(&p->bytes);
}

/* A record that was read wrong once does not come into a pack: the next one, which says what it
 * follows, vouches for each. */
static bool packing_add(struct packing *p, struct span stored, struct err *err)
{
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    if (!record_decode(stored, p->h->keys, p->h->vault.vm, p->next, &r, err))
        return err_wrap(err, "history record %llu of %s in %s", (unsigned long long)p->next,
                        p->h->vm, p->h->target->url);
    if (p->next > p->first && !digests_equal(&r.previous, &p->last, SHA256_BYTES))
        return history_damaged(p->h, &r, "does not follow from the one before", err);
    p->ended = p->next - p->first == p->h->pack_records ||
               (p->next > p->first && p->bytes.length + stored.length > PACK_BYTES_MAX);
    if (p->ended)
        return true;
    buf_put(&p->bytes, stored.data, stored.length);
    p->last = sha256_of(stored);
    p->next++;
    return buf_ok(&p->bytes, err);
}

/* One that does not come with the others is long, or not there. */
static bool packing_add_alone(struct packing *p, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    key_history(key, p->h->vm, p->next);
    return store_load(p->h->target, key, RECORD_BYTES_MAX, &stored, err) &&
           packing_add(p, buf_span(&stored), err);
}

static bool packing_read(struct packing *p, struct err *err)
{
    while (!p->ended) {
        struct ahead a AUTO_AHEAD = {.store = p->h->target,
                                     .vm = p->h->vm,
                                     .key = key_history,
                                     .first = p->next,
                                     .step = 1,
                                     .bytes_max = AHEAD_BYTES_MAX};
        uint64_t left = p->first + p->h->pack_records + 1 - p->next;
        size_t count = left < AHEAD_MOST ? (size_t)left : AHEAD_MOST;
        if (!ahead_load(&a, count, err))
            return false;
        for (size_t i = 0; i < count && !p->ended; i++)
            if (a.there[i] ? !packing_add(p, buf_span(&a.objects[i]), err)
                           : !packing_add_alone(p, err))
                return false;
    }
    return true;
}

static bool packing_put(const struct packing *p, struct err *err)
{
    struct buf there AUTO_BUF = BUF_NONE;
    struct store *target = p->h->target;
    char key[KEY_MAX];
    key_pack(key, p->h->vm, p->first);
    if (store_put(target, key, buf_span(&p->bytes), err))
        return true;
    if (err->kind != ERR_EXISTS)
        return false;
    *err = ERR_NONE;
    if (store_load(target, key, PACK_BYTES_MAX, &there, err) &&
        span_equal(buf_span(&there), buf_span(&p->bytes)))
        return true;
    if (err->kind != ERR_OK && err->kind != ERR_NOT_FOUND && err->kind != ERR_CORRUPT)
        return false;
    log_warning("%s in %s is made anew: it is not what the records are", key, target->url);
    *err = ERR_NONE;
    return store_remove(target, key, err) && store_put(target, key, buf_span(&p->bytes), err);
}

static bool enough(struct history *h)
{
    LOCK_SCOPE(&h->lock);
    return h->next_record > h->packed + h->pack_records;
}

bool history_pack_due(struct history *h)
{
    return h->packs_wrong || enough(h);
}

static bool take_name(void *context, const char *key, uint64_t bytes)
{
    (void)bytes;
    snprintf(context, STORE_KEY_MAX + 1, "%s", key);
    return false;
}

/* What lies behind the packs that were made anew is of no use for a long time to come. */
static bool packs_drop(struct history *h, struct err *err)
{
    char prefix[KEY_MAX], after[STORE_KEY_MAX + 1], found[STORE_KEY_MAX + 1];
    snprintf(prefix, sizeof prefix, "%s/packs/", h->vm);
    snprintf(after, sizeof after, "%s", prefix);
    if (h->packed > 0)
        key_pack(after, h->vm, h->packed - 1);
    for (;;) {
        found[0] = '\0';
        if (!store_list(h->target, prefix, after, take_name, found, err))
            return false;
        if (found[0] == '\0')
            break;
        if (!store_remove(h->target, found, err))
            return false;
        memcpy(after, found, sizeof after);
    }
    h->packs_wrong = false;
    return true;
}

bool history_pack(struct history *h, struct err *err)
{
    struct err unused;
    struct packing p CLEANUP(packing_release) = {.h = h, .first = h->packed, .next = h->packed};
    if (!err)
        err = &unused;
    if (!enough(h))
        return packs_drop(h, err) || err_wrap(err, "removing old packs of %s", h->vm);
    if (!packing_read(&p, err) || !packing_put(&p, err))
        return err_wrap(err, "packing the history of %s", h->vm);
    h->packed = p.next;
    return true;
}
