/* SPDX-License-Identifier: MIT
 * Points that leave become part of the next one that stays: the newest of its runs become one, and
 * a record says that it counts. */
#include "backend/history/thinner_internal.h"

#include "backend/history/apply_internal.h"
#include "common/log.h"

#include <errno.h>

/* Whether run i stays as it is in merges: one of several of the same epochs, a level
 * (thinner_level.c), or the newest of what is becoming one. */
static bool stays(const struct thinner *t, const struct merge_range *m, size_t i)
{
    const struct record_run *run = &m->runs[i].run;
    return (i > 0 && record_run_same_epochs(run, &m->runs[i - 1].run)) ||
           (i + 1 < m->run_count && record_run_same_epochs(run, &m->runs[i + 1].run)) ||
           (thinner_leveling(t) && record_run_same_place(run, &t->level.runs[0].run));
}

/* How many of the runs, from the newest on, become one: as long as the next one is not much larger
 * than all of them, so that a block is rewritten a number of times that grows with the logarithm.
 */
static size_t merge_width(const struct thinner *t, const struct merge_range *m)
{
    const struct thinner_limits *l = &t->limits;
    uint64_t bytes = m->run_count > 0 ? m->runs[0].run.bytes : 0;
    size_t n = 1;
    if (m->run_count == 0 || bytes > l->merge_bytes || stays(t, m, 0))
        return 1;
    for (; n < m->run_count && n < MERGE_RUNS && !stays(t, m, n); n++) {
        uint64_t next = m->runs[n].run.bytes;
        if (bytes + next > l->merge_bytes || (next > l->merge_small && next > bytes * MERGE_RATIO))
            break;
        bytes += next;
    }
    return n;
}

void thinner_self_name(const struct thinner *t, const struct stored_run *r,
                       char out[RUN_SEGMENT_NAME_MAX])
{
    segment_name_format(out, 0, r->key + strlen(t->vault.vm) + 1); /* behind the VM's name */
}

bool thinner_input_open(struct thinner *t, const struct run_place *place, struct thinner_input *in,
                        struct run_merge_input *out, struct err *err)
{
    if (!stored_run_open(t->history, place, t->config->targets[0], t->config->keys, &in->stored,
                         err))
        return false;
    thinner_self_name(t, &in->stored, in->self);
    out->run = in->stored.run;
    out->self = in->self;
    return true;
}

struct merging {
    struct thinner_input *opened;   /* newest first */
    struct run_merge_input *inputs; /* oldest first */
    size_t count, open_count;
    struct run_merging *merging;
};

static void merging_release(struct merging *m)
{
    run_merging_release(&m->merging);
    for (size_t i = 0; i < m->open_count; i++)
        stored_run_close(&m->opened[i].stored);
    free(m->opened);
    free(m->inputs);
}

static bool merging_open(struct thinner *t, const struct merge_range *range, struct merging *m,
                         struct err *err)
{
    m->opened = calloc(m->count, sizeof *m->opened);
    m->inputs = calloc(m->count, sizeof *m->inputs);
    if (m->opened == NULL || m->inputs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    for (; m->open_count < m->count; m->open_count++)
        if (!thinner_input_open(t, &range->runs[m->open_count], &m->opened[m->open_count],
                                &m->inputs[m->count - 1 - m->open_count], err))
            return false;
    return run_merging_make(m->inputs, (uint32_t)m->count, &m->merging, err);
}

/* What was put opens and can be read to its end. */
static bool run_check(struct thinner *t, const char *hex, const struct sha256 *digest, size_t bytes,
                      struct err *err)
{
    struct buf there AUTO_BUF = BUF_NONE;
    struct run *run AUTO_RUN = NULL;
    struct run_entry entry;
    bool found = true;
    char key[KEY_MAX];

    key_segment(key, t->vault.vm, hex);
    if (!store_load(t->config->targets[0], key, STORE_OBJECT_MAX, &there, err))
        return err_wrap(err, "reading back a run");
    struct span stored =
        span_part(buf_span(&there), 0, bytes < there.length ? bytes : there.length);
    struct sha256 back = sha256_of(stored);
    if (!digests_equal(&back, digest, sizeof back))
        return err_set(err, ERR_CORRUPT, "%s in %s is not what was put there", key,
                       t->config->targets[0]->url);
    if (!run_open(t->config->keys, t->vault.id, run_in_memory(&stored), &run, err))
        return err_wrap(err, "a run that was put");
    struct run_cursor cursor = {.run = run};
    while (found)
        if (!run_next(&cursor, &entry, &found, err))
            return err_wrap(err, "a run that was put");
    return true;
}

bool thinner_run_put(struct thinner *t, struct run_builder *b, const struct run_head *head,
                     const struct sha256 *salt, struct record_run *out, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct seal_salt seal;
    char hex[2 * SHA256_BYTES + 1];

    if (!salt_make(t->config->keys, SEAL_HISTORY, t->world, head->generation_id, head->epoch_last,
                   t->at, salt, &seal, err) ||
        !run_builder_finish(b, t->config->keys, &seal, &bytes, err))
        return false;
    if (bytes.length > APPLY_OBJECT_BYTES)
        return err_set(err, ERR_CORRUPT,
                       "the run of epochs %llu to %llu is too large for an object",
                       (unsigned long long)head->epoch_first, (unsigned long long)head->epoch_last);
    *out = (struct record_run){.epoch_first = head->epoch_first,
                               .epoch_last = head->epoch_last,
                               .bytes = bytes.length,
                               .digest = sha256_of(buf_span(&bytes))};
    return apply_object_put(t->config, t->history, 0, &bytes, hex, err) &&
           run_check(t, hex, &out->digest, (size_t)out->bytes, err) &&
           hex_parse(hex, out->object.bytes, SHA256_BYTES);
}

/* What no other run has: these runs, and how many were made of them before. */
static struct sha256 output_salt(const struct thinner_output *o)
{
    struct sha256 both[2] = {sha256_of(span_of(&o->number, sizeof o->number))};
    for (size_t i = 0; i < o->count; i++) {
        both[1] = o->runs[i].run.digest;
        both[0] = sha256_of(span_of(both, sizeof both));
    }
    return both[0];
}

bool thinner_output_put(struct thinner *t, struct run_merging *m, const struct thinner_output *o,
                        struct record_run *out, bool *more, struct err *err)
{
    struct run_builder *b AUTO_RUN_BUILDER = NULL;
    struct run_head head = {.generation_id = o->runs[0].generation.id,
                            .epoch_first = o->runs[o->count - 1].run.epoch_first,
                            .epoch_last = o->runs[0].run.epoch_last};
    struct sha256 salt = output_salt(o);
    memcpy(head.vm, t->vault.id, VM_ID_BYTES);
    return run_builder_make(&head, &b, err) && run_merging_step(m, b, o->bytes, more, err) &&
           thinner_run_put(t, b, &head, &salt, out, err);
}

/* Writes the newest `m->count` runs as one; as more when one cannot name all their segments, then
 * of disjoint blocks. */
static bool merged_put(struct thinner *t, const struct merge_range *range, struct merging *m,
                       struct record *r, struct err *err)
{
    struct thinner_output o = {.runs = range->runs, .count = m->count, .bytes = UINT64_MAX};
    if (!merging_open(t, range, m, err))
        return false;
    for (bool more = true; more; o.number++) {
        if (r->run_count == m->count)
            return err_set(err, ERR_CORRUPT, "as one they are as many as before");
        if (!thinner_output_put(t, m->merging, &o, &r->runs[r->run_count], &more, err))
            return false;
        r->run_count++;
    }
    return true;
}

/* The runs that the range has from now on: one, and those that stay as they are. When some cannot
 * be merged (one is damaged, say) all stay, and count together. */
static bool range_write(struct thinner *t, const struct merge_range *range, struct record *r,
                        struct err *err)
{
    struct merging m CLEANUP(merging_release) = {.count = merge_width(t, range)};
    size_t merged = 0;
    r->runs = calloc(range->run_count + 1, sizeof *r->runs);
    if (r->runs == NULL)
        return err_errno(err, ENOMEM, "merging runs");
    if (m.count > 1) {
        if (merged_put(t, range, &m, r, err)) {
            merged = m.count;
        } else if (err->kind != ERR_CORRUPT) {
            return false;
        } else {
            log_warning("%s: runs up to epoch %llu stay apart: %s", t->vault.vm,
                        (unsigned long long)range->last, err->text);
            r->run_count = 0;
        }
    }
    for (size_t i = merged; i < range->run_count; i++)
        r->runs[r->run_count++] = range->runs[i].run;
    return true;
}

enum thinner_result thinner_merge_step(struct thinner *t, struct err *err)
{
    struct merge_range range AUTO_MERGE_RANGE = {.runs = NULL};
    struct record r CLEANUP(record_release) = {.kind = RECORD_MERGE};
    bool found = false;

    /* Listed after the grace period: a pin that is put now is of somebody who was told. */
    if (t->pins_for != t->thin.notice.record) {
        if (!thinner_pins_load(t, err))
            return THINNER_FAILED;
        t->pins_for = t->thin.notice.record;
    }
    if (!history_merge_next(t->history, &t->pins, &range, &found, err))
        return THINNER_FAILED;
    if (!found)
        return THINNER_IDLE;
    r.generation = range.generation;
    r.merge_first = range.first;
    r.merge_last = range.last;
    if (!range_write(t, &range, &r, err))
        return THINNER_FAILED;
    enum thinner_result result = thinner_append(t, &r, err);
    if (result == THINNER_WORKED) {
        t->report.points += range.points;
        t->report.merges++;
        thinner_sweep_soon(t);
    }
    return result;
}
