/* SPDX-License-Identifier: MIT */
#include "backend/history/apply_internal.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>

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

/* A digest of the bytes that no dropped object has, with bytes more if need be. */
static bool name_make(struct history *h, struct buf *bytes, struct sha256 *digest, struct err *err)
{
    *digest = sha256_of(buf_span(bytes));
    while (history_dropped(h, digest)) {
        buf_put_u8(bytes, 0);
        if (!buf_ok(bytes, err))
            return false;
        *digest = sha256_of(buf_span(bytes));
    }
    return true;
}

bool apply_object_put(const struct processor_config *config, struct history *h, uint16_t store,
                      struct buf *bytes, char hex[2 * SHA256_BYTES + 1], struct err *err)
{
    struct store *target = config->targets[store];
    char key[KEY_MAX];

    for (bool again = true;; again = false) {
        bool same = false;
        struct sha256 digest;
        if (!name_make(h, bytes, &digest, err))
            return false;
        hex_of(digest.bytes, SHA256_BYTES, hex);
        key_segment(key, config->vm, hex);
        if (store_put_digested(target, key, buf_span(bytes), &digest, err))
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
    if (!apply_object_put(p->config, p->history, store, &f->bytes, hex, err))
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

bool apply_place(struct packer *p, uint16_t store, struct span part, struct err *err)
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

bool apply_place_own(struct packer *p, uint16_t store, const char *hex, struct err *err)
{
    size_t segment = 0;

    if (!segment_new(p, &segment, err))
        return false;
    segment_name(p, segment, store, hex);
    p->placed[p->placed_count++] = (struct placed){.segment = segment};
    return true;
}

/* --- runs --- */

/* Appends the epoch's run with the target's segments in place of its parts. */
static bool run_rewrite(struct packer *p, const struct epoch_entry *e, const struct placed *placed,
                        struct buf *out, struct err *err)
{
    struct run *run AUTO_RUN = NULL;
    struct run_builder *builder AUTO_RUN_BUILDER = NULL;
    struct run_entry entry;
    struct seal_salt salt;
    bool found = false;

    if (!apply_run_open(p, e, &run, err) || !run_builder_make(run_head(run), &builder, err))
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
    if (!buf_ok(&last->bytes, err) ||
        !apply_object_put(p->config, p->history, 0, &last->bytes, hex, err))
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

bool apply_write(const struct processor_config *config, struct history *h,
                 const struct epoch_decoded *epochs, size_t count, struct record_epoch *out,
                 size_t *bad, struct err *err)
{
    struct packer p CLEANUP(packer_release) = {.config = config};

    *bad = count;
    if (!packer_make(&p, config, epochs, count, err))
        return false;
    p.history = h;
    for (size_t i = 0; i < count; i++) {
        bool cache_fault = false;
        record_epoch_fill(&epochs[i], &out[i]);
        if (!apply_parts(&p, &epochs[i].entry, &cache_fault, err)) {
            *bad = cache_fault ? i : count;
            return false;
        }
    }
    for (size_t s = 1; s < config->store_count; s++)
        if (!segment_close(&p, (uint16_t)s, err))
            return false;
    return runs_put(&p, epochs, count, out, err);
}
