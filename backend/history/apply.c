/* SPDX-License-Identifier: MIT */
#include "backend/history/apply.h"

#include <errno.h>
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

struct packer {
    const struct processor_config *config;
    struct filling *filling; /* one per target store */
    char (*names)[RUN_SEGMENT_NAME_MAX];
    size_t name_count, name_room;
    struct placed *placed; /* of all parts of all epochs in order */
    size_t placed_count;
    struct buf part;
};

static void packer_release(struct packer *p)
{
    for (size_t i = 0; p->filling && i < p->config->store_count; i++)
        buf_release(&p->filling[i].bytes);
    free(p->filling);
    free(p->names);
    free(p->placed);
    buf_release(&p->part);
}

static bool packer_make(struct packer *p, const struct processor_config *config,
                        const struct epoch_decoded *epochs, size_t count, struct err *err)
{
    size_t parts = 0;
    for (size_t i = 0; i < count; i++)
        parts += epochs[i].entry.part_count;
    *p = (struct packer){.config = config, .part = BUF_NONE};
    p->filling = calloc(config->store_count, sizeof *p->filling);
    p->placed = calloc(parts + 1, sizeof *p->placed);
    if (!p->filling || !p->placed)
        return err_errno(err, ENOMEM, "applying %zu epochs", count);
    return true;
}

/* --- segments --- */

/* Puts bytes under their digest. What is there under that name already is the same thing, as far
 * as its length can tell: a repeat after a kill, or a reply that was lost. */
static bool object_put(const struct processor_config *config, uint16_t store, struct span bytes,
                       char hex[2 * SHA256_BYTES + 1], struct err *err)
{
    struct store *target = config->targets[store];
    struct sha256 digest = sha256_of(bytes);
    char key[KEY_MAX];
    uint64_t there = 0;

    hex_of(digest.bytes, SHA256_BYTES, hex);
    key_segment(key, config->vm, hex);
    if (store_put(target, key, bytes, err))
        return true;
    if (err->kind != ERR_EXISTS)
        return err_wrap(err, "putting a segment of %s", config->vm);
    if (!store_size(target, key, &there, err))
        return false;
    if (there != bytes.length)
        return err_set(err, ERR_CORRUPT,
                       "%s in %s has %llu bytes and should have %zu: remove it, it will be put "
                       "again",
                       key, target->url, (unsigned long long)there, bytes.length);
    return true;
}

/* Puts what was gathered for `store` and gives the segment its name. */
static bool segment_close(struct packer *p, uint16_t store, struct err *err)
{
    struct filling *f = &p->filling[store];
    char hex[2 * SHA256_BYTES + 1];
    char key[RUN_SEGMENT_NAME_MAX];

    if (f->bytes.length == 0)
        return true;
    if (!object_put(p->config, store, buf_span(&f->bytes), hex, err))
        return false;
    snprintf(key, sizeof key, "segments/%s", hex);
    segment_name_format(p->names[f->segment], store, key);
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

/* The bytes of part `i`, whole and with the digest that the entry gives. */
static bool part_load(struct packer *p, const struct epoch_entry *e, uint32_t i, struct span *out,
                      struct err *err)
{
    const struct epoch_part *part = &e->parts[i];
    char key[KEY_MAX];

    if (part->store >= p->config->store_count || part->bytes > APPLY_OBJECT_BYTES)
        return bad_epoch(e, "a part is too large or in an unknown store", err);
    if (e->has_inline) {
        key_epoch(key, p->config->vm, e->generation, e->epoch);
        *out = e->inline_part;
    } else {
        key_part(key, p->config->vm, e->generation, e->epoch, e->attempt, i);
        buf_clear(&p->part);
        uint8_t *room = buf_extend(&p->part, (size_t)part->bytes);
        if (!room)
            return buf_ok(&p->part, err);
        if (!store_get(p->config->caches[part->store], key, 0, mspan_of(room, (size_t)part->bytes),
                       err)) {
            if (err->kind == ERR_NOT_FOUND)
                err->kind = ERR_CORRUPT;
            return err_wrap(err, "epoch %llu needs %s", (unsigned long long)e->epoch, key);
        }
        *out = buf_span(&p->part);
    }
    struct sha256 digest = sha256_of(*out);
    if (out->length != part->bytes || !digests_equal(&digest, &part->digest, SHA256_BYTES))
        return err_set(err, ERR_CORRUPT,
                       "epoch %llu: %s in %s is damaged: its digest is not the one that was "
                       "recorded",
                       (unsigned long long)e->epoch, key, p->config->caches[part->store]->url);
    return true;
}

/* Compares each frame of the part with its keyed digest. `*next` walks the sorted list. */
static bool part_check(const struct packer *p, const struct epoch_entry *e, uint32_t i,
                       struct span part, const struct frame_ref *frames, size_t count, size_t *next,
                       struct err *err)
{
    for (; *next < count && frames[*next].part == i; ++*next) {
        const struct frame_ref *f = &frames[*next];
        if (f->offset > part.length || f->bytes > part.length - f->offset)
            return bad_epoch(e, "a frame lies outside its part", err);
        struct block_digest d =
            keys_frame_digest(p->config->keys, span_part(part, f->offset, f->bytes));
        if (!digests_equal(&d, &f->digest, BLOCK_DIGEST_BYTES))
            return err_set(err, ERR_CORRUPT,
                           "epoch %llu: the frame at %u of part %u is not the one of its run",
                           (unsigned long long)e->epoch, f->offset, i);
    }
    return true;
}

/* Checks one epoch's parts and puts them into segments. *cache_fault: the epoch is to blame. */
static bool epoch_pack(struct packer *p, const struct epoch_entry *e, bool *cache_fault,
                       struct err *err)
{
    struct run_memory memory;
    struct run *run AUTO_RUN = NULL;
    struct frame_ref *frames AUTO_FREE = NULL;
    size_t count = 0;
    size_t next = 0;

    *cache_fault = true;
    if (!epoch_run_open(p, e, &memory, &run, err) ||
        (run && !frames_list(e, run, &frames, &count, err)))
        return false;
    for (uint32_t i = 0; i < e->part_count; i++) {
        struct span part;
        *cache_fault = true;
        if (!part_load(p, e, i, &part, err) ||
            !part_check(p, e, i, part, frames, count, &next, err))
            return false;
        *cache_fault = false;
        if (!part_place(p, e->parts[i].store, part, err))
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
    if (!buf_ok(&last->bytes, err) || !object_put(p->config, 0, buf_span(&last->bytes), hex, err))
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
