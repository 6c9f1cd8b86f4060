/* SPDX-License-Identifier: MIT */
#include "backend/history/apply_internal.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>

/* --- its run --- */

static bool bad_epoch(const struct epoch_entry *e, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "epoch %llu: %s", (unsigned long long)e->epoch, what);
}

bool apply_run_open(const struct packer *p, const struct epoch_entry *e, struct run **run,
                    struct err *err)
{
    *run = NULL;
    if (e->run.length == 0)
        return e->part_count == 0 || bad_epoch(e, "it has parts and no run", err);
    if (!run_open(p->config->keys, e->vm, run_in_memory(&e->run), run, err))
        return err_wrap(err, "epoch %llu: its run", (unsigned long long)e->epoch);
    const struct run_head *head = run_head(*run);
    bool fits = head->generation_id == e->generation.id && head->epoch_first == e->epoch &&
                head->epoch_last == e->epoch && run_segments(*run) <= e->part_count;
    for (uint32_t i = 0; fits && i < run_segments(*run); i++) {
        char name[RUN_SEGMENT_NAME_MAX];
        snprintf(name, sizeof name, "part-%u", i);
        fits = strcmp(run_segment_name(*run, i), name) == 0;
    }
    if (!fits)
        run_close(run);
    return fits || bad_epoch(e, "its run is of another epoch or names other parts", err);
}

/* A frame as its run describes it. */
struct frame_ref {
    uint32_t part, offset, bytes;
    struct block_digest digest;
};

static int frame_ref_order(const void *a, const void *b)
{
    const struct frame_ref *x = a;
    const struct frame_ref *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* All frames of the run by part and offset. */
static bool frames_list(const struct epoch_entry *e, struct run *run, struct frame_ref **out,
                        size_t *count, struct err *err)
{
    struct frame_ref *frames AUTO_FREE = NULL;
    struct run_cursor cursor = {.run = run};
    struct run_entry entry;
    bool found = false;

    *count = 0;
    if (run_entries(run) > EPOCH_BYTES_MAX)
        return bad_epoch(e, "its run has more entries than bytes", err);
    frames = calloc((size_t)run_entries(run) + 1, sizeof *frames);
    if (!frames)
        return err_errno(err, ENOMEM, "epoch %llu", (unsigned long long)e->epoch);
    for (;;) {
        if (!run_next(&cursor, &entry, &found, err))
            return err_wrap(err, "epoch %llu: its run", (unsigned long long)e->epoch);
        if (!found)
            break;
        if (entry.kind != RUN_DATA)
            continue;
        if (entry.segment >= run_segments(run) || *count >= run_entries(run))
            return bad_epoch(e, "its run names a part that is not there", err);
        frames[(*count)++] = (struct frame_ref){.part = entry.segment,
                                                .offset = entry.offset,
                                                .bytes = entry.stored_bytes,
                                                .digest = entry.sealed_digest};
    }
    qsort(frames, *count, sizeof *frames, frame_ref_order);
    *out = TAKE(frames);
    return true;
}

/* --- its parts --- */

static bool part_has_digest(const struct epoch_part *part, struct span bytes)
{
    struct sha256 digest = sha256_of(bytes);
    return bytes.length == part->bytes && digests_equal(&digest, &part->digest, SHA256_BYTES);
}

/* Lets the target's service make a segment of the part. True: it is there and proved. Whatever
 * goes wrong costs no more than the time: the part is streamed then, and that says what is wrong.
 *
 * What proves it is the service's own checksum of the copy, else one read of it. The digest that
 * it must have comes from the authenticated entry, written by who has the history key, together
 * with the run whose keyed frame digests are of the same bytes: what has that SHA-256 is what the
 * source sealed, so its frames are those of the run as far as anything here can tell. A service
 * that lies about its checksum gains nothing: it could as well show us the right bytes now and
 * others later, and no view takes a frame that does not open under its own seal. */
static bool part_copy(struct packer *p, const struct epoch_entry *e, uint32_t i, struct fetched *f)
{
    const struct epoch_part *part = &e->parts[i];
    struct store *target = p->config->targets[part->store];
    struct err err = ERR_NONE;
    char from[KEY_MAX], to[KEY_MAX];
    bool proved = false;

    if (history_dropped(p->history, &part->digest))
        return false; /* streamed, under another name */
    key_part(from, p->config->vm, e->generation, e->epoch, e->attempt, i);
    hex_of(part->digest.bytes, SHA256_BYTES, f->hex);
    key_segment(to, p->config->vm, f->hex);
    if (!store_copy(target, to, p->config->caches[part->store], from, &part->digest, &proved,
                    &err) &&
        err.kind != ERR_EXISTS) {
        atomic_store(&p->copy_refused, true);
        log_debug("%s is not copied: %s", from, err.text);
        return false;
    }
    if (proved)
        return true;
    if (!store_load(target, to, (size_t)part->bytes, &f->memory, &err) ||
        !part_has_digest(part, buf_span(&f->memory))) {
        log_warning("%s in %s is no right copy of %s; it is left there and not used: %s", to,
                    target->url, from, err.kind != ERR_OK ? err.text : "its digest is another");
        return false;
    }
    f->bytes = buf_span(&f->memory);
    return true;
}

/* The bytes of part `i`, whole and with the digest that the entry gives. */
static bool part_load(const struct packer *p, const struct epoch_entry *e, uint32_t i,
                      struct fetched *f, struct err *err)
{
    const struct epoch_part *part = &e->parts[i];
    char key[KEY_MAX];

    if (e->has_inline) {
        key_epoch(key, p->config->vm, e->generation, e->epoch);
        f->bytes = e->inline_part;
    } else {
        key_part(key, p->config->vm, e->generation, e->epoch, e->attempt, i);
        buf_clear(&f->memory);
        uint8_t *room = buf_extend(&f->memory, (size_t)part->bytes);
        if (!room)
            return buf_ok(&f->memory, err);
        if (!store_get(p->config->caches[part->store], key, 0, mspan_of(room, (size_t)part->bytes),
                       err)) {
            if (err->kind == ERR_NOT_FOUND)
                err->kind = ERR_CORRUPT;
            return err_wrap(err, "epoch %llu needs %s", (unsigned long long)e->epoch, key);
        }
        f->bytes = buf_span(&f->memory);
    }
    if (!part_has_digest(part, f->bytes))
        return err_set(err, ERR_CORRUPT,
                       "epoch %llu: %s in %s is damaged: its digest is not the one that was "
                       "recorded",
                       (unsigned long long)e->epoch, key, p->config->caches[part->store]->url);
    return true;
}

/* Some parts of an epoch in a row, fetched at once. */
struct window {
    struct packer *packer;
    const struct epoch_entry *entry;
    const struct frame_ref *frames; /* of the whole epoch, by part */
    size_t frame_count;
    uint32_t first, count;
};

/* The first frame of the part, or of one behind it. */
static size_t frames_seek(const struct window *w, uint32_t part)
{
    size_t low = 0, high = w->frame_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->frames[middle].part < part)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Compares each frame of the part with its keyed digest; of one whose bytes were not read (its
 * digest was proved, see part_copy) that it lies inside. */
static bool part_check(const struct window *w, uint32_t i, struct span part, struct err *err)
{
    const struct epoch_entry *e = w->entry;
    uint64_t bytes = e->parts[i].bytes;
    for (size_t at = frames_seek(w, i); at < w->frame_count && w->frames[at].part == i; at++) {
        const struct frame_ref *f = &w->frames[at];
        if (f->offset > bytes || f->bytes > bytes - f->offset)
            return bad_epoch(e, "a frame lies outside its part", err);
        if (part.data == NULL)
            continue;
        struct block_digest d =
            keys_frame_digest(w->packer->config->keys, span_part(part, f->offset, f->bytes));
        if (!digests_equal(&d, &f->digest, BLOCK_DIGEST_BYTES))
            return err_set(err, ERR_CORRUPT,
                           "epoch %llu: the frame at %u of part %u is not the one of its run",
                           (unsigned long long)e->epoch, f->offset, i);
    }
    return true;
}

/* Fetches or copies a part and checks it. */
static bool part_get(const struct window *w, uint32_t i, struct fetched *f, struct err *err)
{
    struct packer *p = w->packer;
    const struct epoch_part *part = &w->entry->parts[i];

    if (part->store >= p->config->store_count || part->bytes > APPLY_OBJECT_BYTES)
        return bad_epoch(w->entry, "a part is too large or in an unknown store", err);
    f->own = p->copies[part->store] && !w->entry->has_inline && part->bytes >= APPLY_COPY_BYTES &&
             !atomic_load(&p->copy_refused) && part_copy(p, w->entry, i, f);
    return (f->own || part_load(p, w->entry, i, f, err)) && part_check(w, i, f->bytes, err);
}

/* One that would not share a segment with its like is put at once; others wait for their turn. */
static bool part_fetch(void *context, size_t index, struct err *err)
{
    const struct window *w = context;
    struct packer *p = w->packer;
    uint32_t i = w->first + (uint32_t)index;
    const struct epoch_part *part = &w->entry->parts[i];
    struct fetched *f = &p->fetched[index];

    f->failed = !part_get(w, i, f, err);
    if (f->failed || f->own || w->entry->has_inline || part->bytes <= PROCESSOR_SEGMENT_BYTES / 2)
        return !f->failed;
    f->own = apply_object_put(p->config, p->history, part->store, &f->memory, f->hex, err);
    f->failed = f->target_failed = !f->own;
    return f->own;
}

/* The next parts that go together; at least one. */
static uint32_t window_count(const struct packer *p, const struct epoch_entry *e, uint32_t first)
{
    unsigned most = processor_threads(p->config);
    uint64_t bytes = e->parts[first].bytes;
    uint32_t count = 1;
    while (count < most && first + count < e->part_count &&
           e->parts[first + count].bytes <= APPLY_FETCH_BYTES &&
           bytes + e->parts[first + count].bytes <= APPLY_FETCH_BYTES)
        bytes += e->parts[first + count++].bytes;
    return count;
}

/* Fetches the window's parts and places them in order. */
static bool window_apply(struct window *w, bool *cache_fault, struct err *err)
{
    struct packer *p = w->packer;

    for (uint32_t i = 0; i < w->count; i++) {
        struct buf memory = p->fetched[i].memory; /* kept: it is as large as the next one needs */
        p->fetched[i] = (struct fetched){.memory = memory};
    }
    if (!parallel_each(w->count, w->count, part_fetch, w, err)) {
        for (uint32_t i = w->count; i-- > 0;) /* `err` is of the first that failed */
            if (p->fetched[i].failed)
                *cache_fault = !p->fetched[i].target_failed;
        return false;
    }
    *cache_fault = false;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct fetched *f = &p->fetched[i];
        uint16_t store = w->entry->parts[w->first + i].store;
        if (!(f->own ? apply_place_own(p, store, f->hex, err)
                     : apply_place(p, store, f->bytes, err)))
            return false;
    }
    return true;
}

bool apply_parts(struct packer *p, const struct epoch_entry *e, bool *cache_fault, struct err *err)
{
    struct run *run AUTO_RUN = NULL;
    struct frame_ref *frames AUTO_FREE = NULL;
    struct window w = {.packer = p, .entry = e};

    *cache_fault = true;
    if (!apply_run_open(p, e, &run, err) ||
        (run && !frames_list(e, run, &frames, &w.frame_count, err)))
        return false;
    w.frames = frames;
    for (; w.first < e->part_count; w.first += w.count) {
        w.count = window_count(p, e, w.first);
        if (!window_apply(&w, cache_fault, err))
            return false;
    }
    return true;
}
