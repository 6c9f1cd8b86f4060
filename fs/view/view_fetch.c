/* SPDX-License-Identifier: MIT
 * Getting frames: neighbours in a segment come in one ranged get, and nothing is published before
 * its sealed digest, its seal and its blocks' digests have been checked. */
#include "fs/view/view_internal.h"

#include <errno.h>

struct fetch {
    struct view *view;
    struct map *map;
    struct piece **order; /* by place in the stores */
    struct frame_codec *codec;
};

static bool codec_take(struct view *v, struct frame_codec **out, struct err *err)
{
    {
        LOCK_SCOPE(&v->lock);
        if (v->codec_count > 0) {
            *out = v->codecs[--v->codec_count];
            return true;
        }
    }
    return frame_codec_make(v->config.keys, out, err);
}

static void fetch_release(struct fetch *f)
{
    free(f->order);
    if (!f->codec)
        return;
    {
        LOCK_SCOPE(&f->view->lock);
        if (f->view->codec_count < VIEW_CODECS_MAX)
            f->view->codecs[f->view->codec_count++] = TAKE(f->codec);
    }
    frame_codec_release(&f->codec);
}

static int piece_order(const void *a, const void *b)
{
    const struct frame_key *x = &(*(struct piece *const *)a)->key;
    const struct frame_key *y = &(*(struct piece *const *)b)->key;
    if (x->store != y->store)
        return x->store < y->store ? -1 : 1;
    int segments = memcmp(x->segment.bytes, y->segment.bytes, SHA256_BYTES);
    if (segments != 0)
        return segments;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool segment_get(const struct view *v, const struct frame_key *k, uint64_t offset,
                        struct mspan out, struct err *err)
{
    char hex[2 * SHA256_BYTES + 1];
    char key[KEY_MAX];

    hex_of(k->segment.bytes, SHA256_BYTES, hex);
    key_segment(key, history_vault(v->config.history)->name, hex);
    if (store_get(v->config.targets[k->store], key, offset, out, err))
        return true;
    if (err->kind == ERR_NOT_FOUND)
        err_set(err, ERR_CORRUPT, "%s is missing in %s", key, v->config.targets[k->store]->url);
    return false;
}

/* Opens the stored frame into new memory, after everything about it has been checked. */
static bool frame_open(struct fetch *f, const struct piece *p, struct span stored, uint8_t **out,
                       struct err *err)
{
    const struct run_entry *e = &p->entry;
    const struct keys *keys = f->view->config.keys;
    size_t bytes = (size_t)e->frame.blocks * BLOCK_BYTES;
    uint8_t *plain AUTO_FREE = NULL;

    struct block_digest sealed = keys_frame_digest(keys, stored);
    if (!digests_equal(&sealed, &e->sealed_digest, BLOCK_DIGEST_BYTES))
        return err_set(err, ERR_CORRUPT, "the frame at %u of its segment is not what was put there",
                       e->offset);
    plain = malloc(bytes);
    if (!plain)
        return err_errno(err, ENOMEM, "opening a frame");
    if (!frame_decode(f->codec, &e->frame, stored, mspan_of(plain, bytes), err))
        return false;
    for (size_t i = 0; i < e->count; i++) {
        struct block_digest d =
            keys_block_digest(keys, plain + (e->first - e->frame.first + i) * BLOCK_BYTES);
        if (!digests_equal(&d, &e->digests[i], BLOCK_DIGEST_BYTES))
            return err_set(err, ERR_CORRUPT, "block %llu differs from its digest",
                           (unsigned long long)(e->first + i));
    }
    *out = TAKE(plain);
    return true;
}

static void piece_publish(struct fetch *f, struct piece *p, uint8_t *plain)
{
    view_cache_publish(f->view->config.cache, p->frame, plain,
                       (size_t)p->entry.frame.blocks * BLOCK_BYTES);
    p->claimed = false;
}

/* A frame that came damaged is asked for once more, alone: it may have been hurt on the way. */
static bool piece_again(struct fetch *f, struct piece *p, uint8_t **plain, struct err *err)
{
    uint8_t stored[FRAME_SEALED_MAX];
    struct mspan room = mspan_of(stored, p->entry.stored_bytes);
    return segment_get(f->view, &p->key, p->entry.offset, room, err) &&
           frame_open(f, p, span_of_mspan(room), plain, err);
}

/* Gets and publishes the claimed pieces order[from, to), of one segment. A piece that nobody needs
 * yet may fail. */
static bool group_fetch(struct fetch *f, size_t from, size_t to, struct err *err)
{
    const struct piece *first = f->order[from];
    uint64_t start = first->entry.offset;
    uint64_t end = start;
    uint8_t *bytes AUTO_FREE = NULL;

    for (size_t i = from; i < to; i++) {
        uint64_t stop = (uint64_t)f->order[i]->entry.offset + f->order[i]->entry.stored_bytes;
        end = stop > end ? stop : end;
    }
    bytes = malloc((size_t)(end - start) + 1);
    if (!bytes)
        return err_errno(err, ENOMEM, "getting frames");
    if (!segment_get(f->view, &first->key, start, mspan_of(bytes, (size_t)(end - start)), err))
        return view_err_at(f->view, f->map->disk, first->entry.first, err);
    for (size_t i = from; i < to; i++) {
        struct piece *p = f->order[i];
        uint8_t *plain = NULL;
        struct span stored = span_of(bytes + (p->entry.offset - start), p->entry.stored_bytes);
        if (frame_open(f, p, stored, &plain, err) ||
            (err->kind == ERR_CORRUPT && p->needed && piece_again(f, p, &plain, err)))
            piece_publish(f, p, plain);
        else if (p->needed)
            return view_err_at(f->view, f->map->disk, p->entry.first, err);
    }
    return true;
}

/* Claims the piece unless somebody else has it or loads it. */
static bool piece_claim(struct fetch *f, struct piece *p, struct err *err)
{
    if (p->frame)
        return true;
    switch (view_cache_claim(f->view->config.cache, &p->key, &p->frame)) {
    case FRAME_CLAIMED:
        p->claimed = true;
        return true;
    case FRAME_NONE:
        return err_errno(err, ENOMEM, "getting frames");
    default:
        return true;
    }
}

static bool may_join(const struct piece *first, const struct piece *before, const struct piece *p)
{
    uint64_t before_end = (uint64_t)before->entry.offset + before->entry.stored_bytes;
    uint64_t end = (uint64_t)p->entry.offset + p->entry.stored_bytes;
    return p->key.store == first->key.store &&
           memcmp(p->key.segment.bytes, first->key.segment.bytes, SHA256_BYTES) == 0 &&
           p->entry.offset >= before_end && p->entry.offset - before_end <= VIEW_GAP_BYTES &&
           end - first->entry.offset <= VIEW_FETCH_BYTES;
}

/* One pass over the pieces: everything needed that is ours to load is loaded, with neighbours. */
static bool pass(struct fetch *f, struct err *err)
{
    size_t count = f->map->piece_count;

    for (size_t i = 0; i < count; i++)
        if (f->order[i]->needed && !piece_claim(f, f->order[i], err))
            return false;
    for (size_t i = 0; i < count;) {
        size_t end = i + 1;
        if (!f->order[i]->claimed) {
            i++;
            continue;
        }
        while (end < count && may_join(f->order[i], f->order[end - 1], f->order[end]) &&
               piece_claim(f, f->order[end], err) && f->order[end]->claimed)
            end++;
        if (!group_fetch(f, i, end, err))
            return false;
        i = end;
    }
    return true;
}

bool map_fetch(struct view *v, struct map *m, struct err *err)
{
    struct fetch f CLEANUP(fetch_release) = {.view = v, .map = m};

    f.order = calloc(m->piece_count + 1, sizeof(struct piece *));
    if (!f.order)
        return err_errno(err, ENOMEM, "getting frames");
    for (size_t i = 0; i < m->piece_count; i++)
        f.order[i] = &m->pieces[i];
    qsort(f.order, m->piece_count, sizeof *f.order, piece_order);
    if (!codec_take(v, &f.codec, err))
        return false;
    for (;;) {
        const struct piece *busy = NULL;
        if (!pass(&f, err))
            return false;
        for (size_t i = 0; i < m->piece_count && !busy; i++)
            if (m->pieces[i].needed && !m->pieces[i].frame)
                busy = &m->pieces[i];
        if (!busy)
            return true;
        /* Another thread loads it. No claim is held here, so no two threads wait for each other:
         * but those that came along and failed are given back first. */
        for (size_t i = 0; i < m->piece_count; i++)
            if (m->pieces[i].claimed) {
                view_cache_give_up(v->config.cache, &m->pieces[i].frame);
                m->pieces[i].claimed = false;
            }
        view_cache_wait(v->config.cache, &busy->key);
    }
}
