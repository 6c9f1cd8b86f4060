/* SPDX-License-Identifier: MIT */
#include "backend/history/apply.h"

#include "common/log.h"
#include "common/parallel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

/* A frame as its run describes it. */
struct frame_ref {
    uint32_t part, offset, bytes;
    struct block_digest digest;
};

/* Where a part went: which of the segments, and where in it. */
struct placed {
    size_t segment;
    uint32_t base;
};

/* A segment being filled. */
struct filling {
    struct buf bytes;
    size_t segment;
};

/* A part on its way: its bytes, or, where `copied`, a segment of the target store that has them. */
struct fetched {
    struct buf memory;
    struct span bytes; /* no data: copied, and read by nobody */
    bool copied;
};

struct packer {
    const struct processor_config *config;
    struct filling *filling; /* one per target store */
    char (*names)[RUN_SEGMENT_NAME_MAX];
    size_t name_count, name_room;
    struct placed *placed; /* of all parts of all epochs in order */
    size_t placed_count;
    struct fetched fetched[PARALLEL_THREADS_MAX];
    bool *copies;             /* for each store: the target can copy from the cache */
    atomic_bool copy_refused; /* once is enough: the rest of the batch is streamed */
};

static void packer_release(struct packer *p)
{
    for (size_t i = 0; p->filling && i < p->config->store_count; i++)
        buf_release(&p->filling[i].bytes);
    free(p->filling);
    free(p->names);
    free(p->placed);
    free(p->copies);
    for (size_t i = 0; i < PARALLEL_THREADS_MAX; i++)
        buf_release(&p->fetched[i].memory);
}

static bool packer_make(struct packer *p, const struct processor_config *config,
                        const struct epoch_decoded *epochs, size_t count, struct err *err)
{
    size_t parts = 0;
    for (size_t i = 0; i < count; i++)
        parts += epochs[i].entry.part_count;
    *p = (struct packer){.config = config};
    p->filling = calloc(config->store_count, sizeof *p->filling);
    p->placed = calloc(parts + 1, sizeof *p->placed);
    p->copies = calloc(config->store_count, sizeof *p->copies);
    if (!p->filling || !p->placed || !p->copies)
        return err_errno(err, ENOMEM, "applying %zu epochs", count);
    for (size_t i = 0; i < config->store_count; i++)
        p->copies[i] = store_can_copy(config->targets[i], config->caches[i]);
    return true;
}

/* --- segments --- */

/* Whether `key` holds exactly these bytes. */
static bool object_same(struct store *target, const char *key, struct span bytes, bool *same,
                        struct err *err)
{
    struct buf there AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;

    *same = false;
    if (store_load(target, key, bytes.length, &there, &why)) {
        *same = span_equal(buf_span(&there), bytes);
        return true;
    }
    if (why.kind == ERR_CORRUPT) /* longer */
        return true;
    if (why.kind == ERR_NOT_FOUND)
        why.kind = ERR_TRANSIENT; /* it was there a moment ago */
    *err = why;
    return err_wrap(err, "comparing a segment");
}

/* Puts bytes under their digest. What is there under that name already is read: a repeat after a
 * kill, or a reply that was lost, are the same thing; a copy that went wrong is not. That one stays
 * (see apply.h), and a byte more, which nothing points to, gives what we have another name. */
static bool object_put(const struct processor_config *config, uint16_t store, struct buf *bytes,
                       char hex[2 * SHA256_BYTES + 1], struct err *err)
{
    struct store *target = config->targets[store];
    char key[KEY_MAX];

    for (bool again = true;; again = false) {
        bool same = false;
        struct sha256 digest = sha256_of(buf_span(bytes));
        hex_of(digest.bytes, SHA256_BYTES, hex);
        key_segment(key, config->vm, hex);
        if (store_put(target, key, buf_span(bytes), err))
            return true;
        if (err->kind != ERR_EXISTS)
            return err_wrap(err, "putting a segment of %s", config->vm);
        if (!object_same(target, key, buf_span(bytes), &same, err))
            return false;
        if (same)
            return true;
        log_warning("%s in %s holds other bytes than its name says; it is left there and not used",
                    key, target->url);
        if (!again)
            return err_set(err, ERR_CORRUPT, "%s in %s holds other bytes than its name says", key,
                           target->url);
        buf_put_u8(bytes, 0);
        if (!buf_ok(bytes, err))
            return false;
    }
}

static void segment_name(struct packer *p, size_t segment, uint16_t store, const char *hex)
{
    char key[RUN_SEGMENT_NAME_MAX];
    snprintf(key, sizeof key, "segments/%s", hex);
    segment_name_format(p->names[segment], store, key);
}

/* Puts what was gathered for `store` and gives the segment its name. */
static bool segment_close(struct packer *p, uint16_t store, struct err *err)
{
    struct filling *f = &p->filling[store];
    char hex[2 * SHA256_BYTES + 1];

    if (f->bytes.length == 0)
        return true;
    if (!object_put(p->config, store, &f->bytes, hex, err))
        return false;
    segment_name(p, f->segment, store, hex);
    buf_clear(&f->bytes);
    return true;
}

static bool segment_new(struct packer *p, size_t *segment, struct err *err)
{
    if (p->name_count == p->name_room) {
        size_t room = p->name_room * 2 + 16;
        void *bigger = realloc(p->names, room * sizeof *p->names);
        if (!bigger)
            return err_errno(err, ENOMEM, "applying to %s", p->config->vm);
        p->names = bigger;
        p->name_room = room;
    }
    *segment = p->name_count++;
    p->names[*segment][0] = '\0';
    return true;
}

static bool part_place(struct packer *p, uint16_t store, struct span part, struct err *err)
{
    struct filling *f = &p->filling[store];

    if (f->bytes.length > 0 && f->bytes.length + part.length > PROCESSOR_SEGMENT_BYTES &&
        !segment_close(p, store, err))
        return false;
    if (f->bytes.length == 0 && !segment_new(p, &f->segment, err))
        return false;
    p->placed[p->placed_count++] =
        (struct placed){.segment = f->segment, .base = (uint32_t)f->bytes.length};
    buf_put(&f->bytes, part.data, part.length);
    return buf_ok(&f->bytes, err);
}

/* The part is a segment already. */
static bool part_place_copied(struct packer *p, const struct epoch_part *part, struct err *err)
{
    char hex[2 * SHA256_BYTES + 1];
    size_t segment;

    if (!segment_new(p, &segment, err))
        return false;
    hex_of(part->digest.bytes, SHA256_BYTES, hex);
    segment_name(p, segment, part->store, hex);
    p->placed[p->placed_count++] = (struct placed){.segment = segment};
    return true;
}

/* --- one epoch --- */

struct run_memory {
    struct span bytes;
};

static bool run_memory_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct run_memory *m = context;
    if (offset > m->bytes.length || out.length > m->bytes.length - offset)
        return err_set(err, ERR_CORRUPT, "the run is shorter than its root says");
    if (out.length > 0)
        memcpy(out.data, m->bytes.data + offset, out.length);
    return true;
}

static bool bad_epoch(const struct epoch_entry *e, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "epoch %llu: %s", (unsigned long long)e->epoch, what);
}

/* Opens the entry's run (*run NULL when it has none) and checks that it is of this epoch and that
 * its segment table is the list of parts. `memory` lives as long as the run. */
static bool epoch_run_open(const struct packer *p, const struct epoch_entry *e,
                           struct run_memory *memory, struct run **run, struct err *err)
{
    *run = NULL;
    *memory = (struct run_memory){.bytes = e->run};
    if (e->run.length == 0)
        return e->part_count == 0 || bad_epoch(e, "it has parts and no run", err);
    struct run_source source = {
        .fetch = run_memory_fetch, .context = memory, .bytes = e->run.length};
    if (!run_open(p->config->keys, e->vm, source, run, err))
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
    char from[KEY_MAX], to[KEY_MAX], hex[2 * SHA256_BYTES + 1];
    bool proved = false;

    key_part(from, p->config->vm, e->generation, e->epoch, e->attempt, i);
    hex_of(part->digest.bytes, SHA256_BYTES, hex);
    key_segment(to, p->config->vm, hex);
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
    uint32_t first, count;
};

static bool part_fetch(void *context, size_t index, struct err *err)
{
    const struct window *w = context;
    struct packer *p = w->packer;
    uint32_t i = w->first + (uint32_t)index;
    const struct epoch_part *part = &w->entry->parts[i];
    struct fetched *f = &p->fetched[index];

    f->copied = false;
    f->bytes = span_of(NULL, 0);
    if (part->store >= p->config->store_count || part->bytes > APPLY_OBJECT_BYTES)
        return bad_epoch(w->entry, "a part is too large or in an unknown store", err);
    f->copied = p->copies[part->store] && !w->entry->has_inline &&
                part->bytes >= APPLY_COPY_BYTES && !atomic_load(&p->copy_refused) &&
                part_copy(p, w->entry, i, f);
    return f->copied || part_load(p, w->entry, i, f, err);
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

/* Compares each frame of the part with its keyed digest; of one whose bytes were not read (its
 * digest was proved, see part_copy) that it lies inside. `*next` walks the sorted list. */
static bool part_check(const struct packer *p, const struct epoch_entry *e, uint32_t i,
                       struct span part, const struct frame_ref *frames, size_t count, size_t *next,
                       struct err *err)
{
    uint64_t bytes = e->parts[i].bytes;
    for (; *next < count && frames[*next].part == i; ++*next) {
        const struct frame_ref *f = &frames[*next];
        if (f->offset > bytes || f->bytes > bytes - f->offset)
            return bad_epoch(e, "a frame lies outside its part", err);
        if (part.data == NULL)
            continue;
        struct block_digest d =
            keys_frame_digest(p->config->keys, span_part(part, f->offset, f->bytes));
        if (!digests_equal(&d, &f->digest, BLOCK_DIGEST_BYTES))
            return err_set(err, ERR_CORRUPT,
                           "epoch %llu: the frame at %u of part %u is not the one of its run",
                           (unsigned long long)e->epoch, f->offset, i);
    }
    return true;
}

/* Checks one epoch's parts and puts them into segments, in order. *cache_fault: the epoch is to
 * blame. */
static bool epoch_pack(struct packer *p, const struct epoch_entry *e, bool *cache_fault,
                       struct err *err)
{
    struct run_memory memory;
    struct run *run AUTO_RUN = NULL;
    struct frame_ref *frames AUTO_FREE = NULL;
    struct window w = {.packer = p, .entry = e};
    size_t count = 0;
    size_t next = 0;

    *cache_fault = true;
    if (!epoch_run_open(p, e, &memory, &run, err) ||
        (run && !frames_list(e, run, &frames, &count, err)))
        return false;
    for (uint32_t i = 0; i < e->part_count; i++) {
        *cache_fault = true;
        if (i == w.first + w.count) {
            w.first = i;
            w.count = window_count(p, e, i);
            if (!parallel_each(w.count, w.count, part_fetch, &w, err))
                return false;
        }
        const struct fetched *f = &p->fetched[i - w.first];
        if (!part_check(p, e, i, f->bytes, frames, count, &next, err))
            return false;
        *cache_fault = false;
        if (!(f->copied ? part_place_copied(p, &e->parts[i], err)
                        : part_place(p, e->parts[i].store, f->bytes, err)))
            return false;
    }
    return true;
}

/* --- runs --- */

/* Appends the epoch's run with the target's segments in place of its parts. */
static bool run_rewrite(struct packer *p, const struct epoch_entry *e, const struct placed *placed,
                        struct buf *out, struct err *err)
{
    struct run_memory memory;
    struct run *run AUTO_RUN = NULL;
    struct run_builder *builder AUTO_RUN_BUILDER = NULL;
    struct run_entry entry;
    struct seal_salt salt;
    bool found = false;

    if (!epoch_run_open(p, e, &memory, &run, err) ||
        !run_builder_make(run_head(run), &builder, err))
        return false;
    struct run_cursor cursor = {.run = run};
    for (;;) {
        if (!run_next(&cursor, &entry, &found, err))
            return false;
        if (!found)
            break;
        if (entry.kind == RUN_DATA) {
            const struct placed *to = &placed[entry.segment];
            entry.offset += to->base;
            if (!run_builder_segment(builder, p->names[to->segment], &entry.segment, err))
                return false;
        }
        if (!run_builder_add(builder, &entry, err))
            return false;
    }
    struct sha256 content = sha256_of(e->run);
    return salt_make(p->config->keys, SEAL_HISTORY, p->config->world, e->generation.id, e->epoch,
                     e->attempt, &content, &salt, err) &&
           run_builder_finish(builder, p->config->keys, &salt, out, err);
}

/* Puts the last object: what is left of target 0's frames, and behind it all runs. */
static bool runs_put(struct packer *p, const struct epoch_decoded *epochs, size_t count,
                     struct record_epoch *out, struct err *err)
{
    struct filling *last = &p->filling[0];
    const struct placed *placed = p->placed;
    char hex[2 * SHA256_BYTES + 1];
    size_t runs = 0;

    for (size_t i = 0; i < count; i++)
        runs += epochs[i].entry.run.length;
    if (runs == 0)
        return segment_close(p, 0, err);
    if (last->bytes.length + runs > APPLY_OBJECT_BYTES && !segment_close(p, 0, err))
        return false;
    if (last->bytes.length > 0)
        snprintf(p->names[last->segment], RUN_SEGMENT_NAME_MAX, "%s", RUN_SEGMENT_SELF);
    for (size_t i = 0; i < count; i++) {
        const struct epoch_entry *e = &epochs[i].entry;
        size_t start = last->bytes.length;
        if (e->run.length > 0 && !run_rewrite(p, e, placed, &last->bytes, err))
            return err_wrap(err, "epoch %llu", (unsigned long long)e->epoch);
        out[i].run_offset = start;
        out[i].run_bytes = last->bytes.length - start;
        out[i].run_digest =
            sha256_of(span_part(buf_span(&last->bytes), start, last->bytes.length - start));
        placed += e->part_count;
    }
    if (!buf_ok(&last->bytes, err) || !object_put(p->config, 0, &last->bytes, hex, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (out[i].run_bytes > 0)
            snprintf(out[i].run_key, RUN_SEGMENT_NAME_MAX, "segments/%s", hex);
    return true;
}

static void record_epoch_fill(const struct epoch_decoded *d, struct record_epoch *out)
{
    const struct epoch_entry *e = &d->entry;
    *out = (struct record_epoch){
        .kind = e->kind,
        .epoch = e->epoch,
        .entry_digest = d->digest,
        .point_ms = e->point_ms,
        .clock_ms = e->clock_ms,
        .point_kind = e->point_kind,
    };
    memcpy(out->label, e->label, sizeof out->label);
    memcpy(out->cut_id, e->cut_id, sizeof out->cut_id);
    for (uint32_t i = 0; i < e->part_count; i++)
        out->data_bytes += e->parts[i].bytes;
}

bool apply_write(const struct processor_config *config, const struct epoch_decoded *epochs,
                 size_t count, struct record_epoch *out, size_t *bad, struct err *err)
{
    struct packer p CLEANUP(packer_release) = {.config = config};

    *bad = count;
    if (!packer_make(&p, config, epochs, count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        bool cache_fault = false;
        record_epoch_fill(&epochs[i], &out[i]);
        if (!epoch_pack(&p, &epochs[i].entry, &cache_fault, err)) {
            *bad = cache_fault ? i : count;
            return false;
        }
    }
    for (size_t s = 1; s < config->store_count; s++)
        if (!segment_close(&p, (uint16_t)s, err))
            return false;
    return runs_put(&p, epochs, count, out, err);
}
