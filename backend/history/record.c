/* SPDX-License-Identifier: MIT */
#include "backend/history/codec_internal.h"

#define RECORD_MAGIC "FSRECORD"

/* An epoch without run and label: kind, number, digest, times, point kind, lengths of two texts,
 * cut id, bytes. */
#define RECORD_EPOCH_BYTES_MIN (1 + 8 + SHA256_BYTES + 8 + 8 + 1 + 2 + 16 + 8 + 2)

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
    if (r->kind < RECORD_OPEN || r->kind > RECORD_VERIFIED)
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
    buf_put_u64(out, r->verified_epoch);
    disks_put(out, r->disks, r->disk_count);
    buf_put_u32(out, r->epoch_count);
    for (uint32_t i = 0; i < r->epoch_count; i++)
        record_epoch_put(out, &r->epochs[i]);
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
    r.verified_epoch = read_u64(&in);
    r.disk_count = disks_read(&in, r.disks);
    if (!epochs_read(&in, &r, err))
        return false;
    if (in.failed || reader_left(&in) != 0)
        return err_set(err, ERR_CORRUPT, "the history record is not well-formed");
    const char *flaw = record_flaw(&r);
    if (flaw != NULL)
        return err_set(err, ERR_CORRUPT, "the history record has a wrong %s", flaw);
    *out = r;
    r.epochs = NULL;
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
    *out = r;
    r.epochs = NULL;
    return true;
}

void record_release(struct record *r)
{
    free(r->epochs);
    r->epochs = NULL;
    r->epoch_count = 0;
}
