/* SPDX-License-Identifier: MIT */
#include "backend/history/codec_internal.h"

#define RECORD_MAGIC "FSRECORD"

/* An epoch without run and label: kind, number, digest, times, point kind, lengths of two texts,
 * cut id, bytes. */
#define RECORD_EPOCH_BYTES_MIN (1 + 8 + SHA256_BYTES + 8 + 8 + 1 + 2 + 16 + 8 + 2)

#define RECORD_RUN_BYTES (8 + 8 + SHA256_BYTES + 8 + 8 + SHA256_BYTES)

/* --- what a well-formed record is --- */

static bool record_epoch_valid(const struct record_epoch *e)
{
    if (!epoch_kind_valid(e->kind, e->point_kind) || !label_valid(e->label))
        return false;
    if (e->run_bytes == 0)
        return e->run_key[0] == '\0';
    return object_name_valid(e->run_key) && e->run_bytes <= STORE_OBJECT_MAX &&
           e->run_offset <= STORE_OBJECT_MAX - e->run_bytes;
}

static bool epochs_valid(const struct record *r)
{
    if (r->epoch_count > RECORD_RUNS_MAX || (r->epoch_count > 0 && r->kind != RECORD_APPLY))
        return false;
    for (uint32_t i = 0; i < r->epoch_count; i++)
        if (!record_epoch_valid(&r->epochs[i]) ||
            (i > 0 && r->epochs[i].epoch <= r->epochs[i - 1].epoch))
            return false;
    return true;
}

static bool thin_valid(const struct record *r)
{
    if (r->thin_count > RECORD_RUNS_MAX || (r->thin_count > 0 && r->kind != RECORD_THIN))
        return false;
    for (uint32_t i = 0; i < r->thin_count; i++)
        if (r->thin[i] <= (i > 0 ? r->thin[i - 1] : 0))
            return false;
    return true;
}

static bool merge_valid(const struct record *r)
{
    if (r->kind != RECORD_MERGE)
        return r->run_count == 0 && r->merge_first == 0 && r->merge_last == 0;
    if (r->run_count > RECORD_RUNS_MAX || r->merge_first == 0 || r->merge_first > r->merge_last)
        return false;
    uint64_t below = r->merge_last;
    for (uint32_t i = 0; i < r->run_count; i++) {
        const struct record_run *run = &r->runs[i];
        bool beside = i > 0 && record_run_same_epochs(run, run - 1);
        if (run->epoch_first < r->merge_first || run->epoch_first > run->epoch_last ||
            (run->epoch_last > below && !beside) || run->bytes == 0 ||
            run->bytes > STORE_OBJECT_MAX || run->offset > STORE_OBJECT_MAX - run->bytes)
            return false;
        below = run->epoch_first - 1;
    }
    return true;
}

static bool drops_valid(const struct record *r)
{
    static const struct sha256 zero;
    if (r->drop_count > RECORD_RUNS_MAX || (r->drop_count > 0 && r->kind != RECORD_DROP))
        return false;
    for (uint32_t i = 0; i < r->drop_count; i++)
        if (memcmp(&r->drops[i], i > 0 ? &r->drops[i - 1] : &zero, sizeof zero) <= 0)
            return false;
    return r->newest_ms == 0 || r->kind == RECORD_DROP || r->kind == RECORD_THIN;
}

static bool parent_valid(const struct record *r)
{
    if (r->parent.id != 0)
        return r->kind == RECORD_GENERATION && generation_valid(r->parent);
    return r->parent.number == 0 && r->parent_epoch == 0;
}

/* Names what is wrong with the record; NULL when nothing is. */
static const char *record_flaw(const struct record *r)
{
    static const struct sha256 zero;
    if (r->kind < RECORD_OPEN || r->kind > RECORD_DAMAGED)
        return "kind";
    if ((r->kind == RECORD_OPEN) != (r->number == 0))
        return "number for its kind";
    if (r->kind == RECORD_OPEN && memcmp(&r->previous, &zero, sizeof zero) != 0)
        return "digest of a record before the first";
    if (r->kind != RECORD_OPEN && !generation_valid(r->generation))
        return "generation";
    if (!parent_valid(r))
        return "parent";
    if (!disks_valid(r->disks, r->disk_count))
        return "disk table";
    if (!epochs_valid(r))
        return "epoch table";
    if (!thin_valid(r))
        return "list of points that leave";
    if (!merge_valid(r))
        return "merge";
    if (!drops_valid(r))
        return "list of objects";
    return NULL;
}

/* --- encoding --- */

static void record_epoch_put(struct buf *out, const struct record_epoch *e)
{
    buf_put_u8(out, (uint8_t)e->kind);
    buf_put_u64(out, e->epoch);
    buf_put(out, e->entry_digest.bytes, SHA256_BYTES);
    buf_put_u64(out, e->point_ms);
    buf_put_u64(out, e->clock_ms);
    buf_put_u8(out, (uint8_t)e->point_kind);
    buf_put_text(out, e->label);
    buf_put(out, e->cut_id, sizeof e->cut_id);
    buf_put_u64(out, e->data_bytes);
    buf_put_text(out, e->run_key);
    if (e->run_bytes == 0)
        return;
    buf_put_u64(out, e->run_offset);
    buf_put_u64(out, e->run_bytes);
    buf_put(out, e->run_digest.bytes, SHA256_BYTES);
}

/* What only the kinds of retention have. */
static void retention_put(struct buf *out, const struct record *r)
{
    if (r->kind == RECORD_THIN) {
        buf_put_u64(out, r->newest_ms);
        buf_put_u32(out, r->thin_count);
        for (uint32_t i = 0; i < r->thin_count; i++)
            buf_put_u64(out, r->thin[i]);
    } else if (r->kind == RECORD_MERGE) {
        buf_put_u64(out, r->merge_first);
        buf_put_u64(out, r->merge_last);
        buf_put_u32(out, r->run_count);
        for (uint32_t i = 0; i < r->run_count; i++) {
            const struct record_run *run = &r->runs[i];
            buf_put_u64(out, run->epoch_first);
            buf_put_u64(out, run->epoch_last);
            buf_put(out, run->object.bytes, SHA256_BYTES);
            buf_put_u64(out, run->offset);
            buf_put_u64(out, run->bytes);
            buf_put(out, run->digest.bytes, SHA256_BYTES);
        }
    } else if (r->kind == RECORD_DROP) {
        buf_put_u64(out, r->newest_ms);
        buf_put_u32(out, r->drop_count);
        for (uint32_t i = 0; i < r->drop_count; i++)
            buf_put(out, r->drops[i].bytes, SHA256_BYTES);
    }
}

static void body_put(struct buf *out, const struct record *r)
{
    buf_put_u8(out, (uint8_t)r->kind);
    buf_put(out, r->vm, VM_ID_BYTES);
    buf_put_u64(out, r->number);
    buf_put(out, r->previous.bytes, SHA256_BYTES);
    buf_put_u64(out, r->written_ms);
    generation_put(out, r->generation);
    generation_put(out, r->parent);
    buf_put_u64(out, r->parent_epoch);
    buf_put_u64(out, r->judged_epoch);
    disks_put(out, r->disks, r->disk_count);
    buf_put_u32(out, r->epoch_count);
    for (uint32_t i = 0; i < r->epoch_count; i++)
        record_epoch_put(out, &r->epochs[i]);
    retention_put(out, r);
}

static struct envelope_kind envelope_of(const uint8_t vm[VM_ID_BYTES])
{
    return (struct envelope_kind){
        .noun = "history record", .magic = RECORD_MAGIC, .bytes_max = RECORD_BYTES_MAX, .vm = vm};
}

bool record_encode(const struct record *r, const struct keys *keys, const struct seal_salt *salt,
                   struct buf *out, struct err *err)
{
    const char *flaw = record_flaw(r);
    if (flaw != NULL)
        return err_set(err, ERR_INVALID, "a history record cannot be written with this %s", flaw);
    struct envelope_kind kind = envelope_of(r->vm);
    struct buf body AUTO_BUF = BUF_NONE;
    body_put(&body, r);
    return buf_ok(&body, err) &&
           envelope_seal(&kind, keys, salt, buf_span(&body), span_of(NULL, 0), out, err);
}

/* --- decoding --- */

static void record_epoch_read(struct reader *r, struct record_epoch *e)
{
    e->kind = (enum epoch_kind)read_u8(r);
    e->epoch = read_u64(r);
    read_bytes(r, e->entry_digest.bytes, SHA256_BYTES);
    e->point_ms = read_u64(r);
    e->clock_ms = read_u64(r);
    e->point_kind = (enum point_kind)read_u8(r);
    read_text(r, e->label, sizeof e->label);
    read_bytes(r, e->cut_id, sizeof e->cut_id);
    e->data_bytes = read_u64(r);
    read_text(r, e->run_key, sizeof e->run_key);
    if (e->run_key[0] == '\0')
        return;
    e->run_offset = read_u64(r);
    e->run_bytes = read_u64(r);
    read_bytes(r, e->run_digest.bytes, SHA256_BYTES);
}

static bool epochs_read(struct reader *in, struct record *r, struct err *err)
{
    uint32_t count = read_u32(in);
    if (in->failed || count > RECORD_RUNS_MAX || count > reader_left(in) / RECORD_EPOCH_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "the history record is not well-formed");
    r->epochs = calloc((size_t)count + 1, sizeof *r->epochs);
    if (r->epochs == NULL)
        return err_set(err, ERR_FULL, "out of memory for a history record");
    r->epoch_count = count;
    for (uint32_t i = 0; i < count; i++)
        record_epoch_read(in, &r->epochs[i]);
    return true;
}

/* Reads a count of items of `bytes` bytes each and makes room for them. */
static bool items_make(struct reader *in, size_t bytes, size_t size, uint32_t *count, void *items,
                       struct err *err)
{
    uint32_t n = read_u32(in);
    if (in->failed || n > RECORD_RUNS_MAX || n > reader_left(in) / bytes)
        return err_set(err, ERR_CORRUPT, "the history record is not well-formed");
    void *room = calloc((size_t)n + 1, size);
    if (room == NULL)
        return err_set(err, ERR_FULL, "out of memory for a history record");
    *(void **)items = room;
    *count = n;
    return true;
}

static bool retention_read(struct reader *in, struct record *r, struct err *err)
{
    if (r->kind == RECORD_THIN) {
        r->newest_ms = read_u64(in);
        if (!items_make(in, 8, sizeof *r->thin, &r->thin_count, &r->thin, err))
            return false;
        for (uint32_t i = 0; i < r->thin_count; i++)
            r->thin[i] = read_u64(in);
    } else if (r->kind == RECORD_MERGE) {
        r->merge_first = read_u64(in);
        r->merge_last = read_u64(in);
        if (!items_make(in, RECORD_RUN_BYTES, sizeof *r->runs, &r->run_count, &r->runs, err))
            return false;
        for (uint32_t i = 0; i < r->run_count; i++) {
            struct record_run *run = &r->runs[i];
            run->epoch_first = read_u64(in);
            run->epoch_last = read_u64(in);
            read_bytes(in, run->object.bytes, SHA256_BYTES);
            run->offset = read_u64(in);
            run->bytes = read_u64(in);
            read_bytes(in, run->digest.bytes, SHA256_BYTES);
        }
    } else if (r->kind == RECORD_DROP) {
        r->newest_ms = read_u64(in);
        if (!items_make(in, SHA256_BYTES, sizeof *r->drops, &r->drop_count, &r->drops, err))
            return false;
        for (uint32_t i = 0; i < r->drop_count; i++)
            read_bytes(in, r->drops[i].bytes, SHA256_BYTES);
    }
    return true;
}

/* What a record owns goes to another one. */
static void record_move(struct record *to, struct record *from)
{
    *to = *from;
    from->epochs = NULL;
    from->thin = NULL;
    from->runs = NULL;
    from->drops = NULL;
}

bool record_body_parse(struct span body, struct record *out, struct err *err)
{
    struct reader in = reader_of(body);
    struct record r CLEANUP(record_release) = {.kind = (enum record_kind)read_u8(&in)};
    read_bytes(&in, r.vm, VM_ID_BYTES);
    r.number = read_u64(&in);
    read_bytes(&in, r.previous.bytes, SHA256_BYTES);
    r.written_ms = read_u64(&in);
    r.generation = generation_read(&in);
    r.parent = generation_read(&in);
    r.parent_epoch = read_u64(&in);
    r.judged_epoch = read_u64(&in);
    r.disk_count = disks_read(&in, r.disks);
    if (!epochs_read(&in, &r, err) || !retention_read(&in, &r, err))
        return false;
    if (in.failed || reader_left(&in) != 0)
        return err_set(err, ERR_CORRUPT, "the history record is not well-formed");
    const char *flaw = record_flaw(&r);
    if (flaw != NULL)
        return err_set(err, ERR_CORRUPT, "the history record has a wrong %s", flaw);
    record_move(out, &r);
    return true;
}

bool record_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                   uint64_t number, struct record *out, struct err *err)
{
    struct envelope_kind kind = envelope_of(vm);
    struct buf body AUTO_BUF = BUF_NONE;
    struct span tail;
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    if (!envelope_open(&kind, keys, stored, &body, &tail, err) ||
        !record_body_parse(buf_span(&body), &r, err))
        return false;
    if (memcmp(r.vm, vm, VM_ID_BYTES) != 0 || r.number != number)
        return err_set(err, ERR_CORRUPT,
                       "the history record is another one than its name says: it was moved");
    record_move(out, &r);
    return true;
}

void record_release(struct record *r)
{
    free(r->epochs);
    free(r->thin);
    free(r->runs);
    free(r->drops);
    r->epochs = NULL;
    r->thin = NULL;
    r->runs = NULL;
    r->drops = NULL;
    r->epoch_count = r->thin_count = r->run_count = r->drop_count = 0;
}
