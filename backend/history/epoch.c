/* SPDX-License-Identifier: MIT */
#include "backend/history/codec_internal.h"

#define EPOCH_MAGIC "FSEPOCH"
#define PART_BYTES  (8 + SHA256_BYTES + 2)

/* --- disk tables --- */

bool disks_valid(const struct epoch_disk *disks, size_t count)
{
    if (count > VM_DISKS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!disk_name_valid(disks[i].name) || disks[i].size_bytes > DISK_BYTES_MAX)
            return false;
        for (size_t j = 0; j < i; j++)
            if (disks[i].disk == disks[j].disk || strcmp(disks[i].name, disks[j].name) == 0)
                return false;
    }
    return true;
}

void disks_put(struct buf *out, const struct epoch_disk *disks, uint16_t count)
{
    buf_put_u16(out, count);
    for (size_t i = 0; i < count; i++) {
        buf_put_text(out, disks[i].name);
        buf_put_u16(out, disks[i].disk);
        buf_put_u16(out, disks[i].store);
        buf_put_u64(out, disks[i].size_bytes);
    }
}

uint16_t disks_read(struct reader *r, struct epoch_disk disks[VM_DISKS_MAX])
{
    uint16_t count = read_u16(r);
    if (count > VM_DISKS_MAX)
        r->failed = true;
    for (size_t i = 0; i < count && !r->failed; i++) {
        read_text(r, disks[i].name, sizeof disks[i].name);
        disks[i].disk = read_u16(r);
        disks[i].store = read_u16(r);
        disks[i].size_bytes = read_u64(r);
    }
    if (!r->failed && !disks_valid(disks, count))
        r->failed = true;
    return r->failed ? 0 : count;
}

/* --- what a well-formed entry is --- */

static bool sha256_is_zero(const struct sha256 *s)
{
    static const struct sha256 zero;
    return memcmp(s, &zero, sizeof zero) == 0;
}

bool generation_valid(struct generation g)
{
    return g.number >= 1 && g.id != 0;
}

bool epoch_kind_valid(enum epoch_kind kind, enum point_kind point_kind)
{
    return kind >= EPOCH_OPEN && kind <= EPOCH_FENCE && point_kind <= POINT_APPLICATION &&
           (kind != EPOCH_CUT || point_kind >= POINT_CRASH);
}

static bool parts_valid(const struct epoch_entry *e)
{
    for (uint32_t i = 0; i < e->part_count; i++)
        if (e->parts[i].bytes < 1 || e->parts[i].bytes > STORE_OBJECT_MAX ||
            e->parts[i].store > VM_DISKS_MAX)
            return false;
    return true;
}

static bool inline_valid(const struct epoch_entry *e)
{
    if (!e->has_inline)
        return e->inline_part.length == 0;
    if (e->part_count != 1 || e->inline_part.length != e->parts[0].bytes)
        return false;
    struct sha256 digest = sha256_of(e->inline_part);
    return memcmp(&digest, &e->parts[0].digest, sizeof digest) == 0;
}

/* Names what is wrong with the entry; NULL when nothing is. */
static const char *epoch_flaw(const struct epoch_entry *e)
{
    bool has_data = e->kind == EPOCH_CUT || e->kind == EPOCH_PASS;
    if (!epoch_kind_valid(e->kind, e->point_kind))
        return "kind";
    if ((e->kind == EPOCH_OPEN) != (e->epoch == 0))
        return "number for its kind";
    if (e->kind == EPOCH_OPEN && !sha256_is_zero(&e->previous))
        return "digest of an entry before the first";
    if (!generation_valid(e->generation))
        return "generation";
    if (!label_valid(e->label))
        return "label";
    if (!disks_valid(e->disks, e->disk_count))
        return "disk table";
    if (e->part_count > EPOCH_PARTS_MAX || !parts_valid(e) || (e->part_count > 0 && !e->run.length))
        return "part table";
    if (e->run.length > 0 && !has_data)
        return "run in an entry without data";
    if (!inline_valid(e))
        return "inline part";
    return NULL;
}

/* --- encoding --- */

static void parts_put(struct buf *out, const struct epoch_entry *e)
{
    buf_put_u32(out, e->part_count);
    for (uint32_t i = 0; i < e->part_count; i++) {
        buf_put_u64(out, e->parts[i].bytes);
        buf_put(out, e->parts[i].digest.bytes, SHA256_BYTES);
        buf_put_u16(out, e->parts[i].store);
    }
}

static void body_put(struct buf *out, const struct epoch_entry *e)
{
    buf_put_u8(out, (uint8_t)e->kind);
    buf_put(out, e->vm, VM_ID_BYTES);
    generation_put(out, e->generation);
    buf_put_u64(out, e->epoch);
    buf_put_u64(out, e->attempt);
    buf_put(out, e->previous.bytes, SHA256_BYTES);
    buf_put_u64(out, e->point_ms);
    buf_put_u64(out, e->clock_ms);
    buf_put_u8(out, (uint8_t)e->point_kind);
    buf_put_text(out, e->label);
    buf_put(out, e->cut_id, sizeof e->cut_id);
    disks_put(out, e->disks, e->disk_count);
    parts_put(out, e);
    buf_put_u8(out, e->has_inline);
    buf_put_u32(out, (uint32_t)e->run.length);
    buf_put(out, e->run.data, e->run.length);
}

static struct envelope_kind envelope_of(const uint8_t vm[VM_ID_BYTES])
{
    return (struct envelope_kind){.noun = "epoch entry",
                                  .magic = EPOCH_MAGIC,
                                  .bytes_max = EPOCH_BYTES_MAX,
                                  .vm = vm,
                                  .has_tail = true};
}

bool epoch_encode(const struct epoch_entry *e, const struct keys *keys,
                  const struct seal_salt *salt, struct buf *out, struct err *err)
{
    const char *flaw = epoch_flaw(e);
    if (flaw != NULL)
        return err_set(err, ERR_INVALID, "an epoch entry cannot be written with this %s", flaw);
    if (e->run.length > EPOCH_BYTES_MAX)
        return err_set(err, ERR_FULL, "the run of an epoch is larger than %u bytes",
                       EPOCH_BYTES_MAX);
    struct envelope_kind kind = envelope_of(e->vm);
    struct buf body AUTO_BUF = BUF_NONE;
    body_put(&body, e);
    return buf_ok(&body, err) &&
           envelope_seal(&kind, keys, salt, buf_span(&body), e->inline_part, out, err);
}

/* --- decoding --- */

/* Where the variable parts of a body lie in it. */
struct body_places {
    size_t parts;
    size_t run;
    size_t run_bytes;
};

static void body_read(struct reader *r, struct epoch_entry *e, struct body_places *places)
{
    *e = (struct epoch_entry){.kind = (enum epoch_kind)read_u8(r)};
    read_bytes(r, e->vm, VM_ID_BYTES);
    e->generation = generation_read(r);
    e->epoch = read_u64(r);
    e->attempt = read_u64(r);
    read_bytes(r, e->previous.bytes, SHA256_BYTES);
    e->point_ms = read_u64(r);
    e->clock_ms = read_u64(r);
    e->point_kind = (enum point_kind)read_u8(r);
    read_text(r, e->label, sizeof e->label);
    read_bytes(r, e->cut_id, sizeof e->cut_id);
    e->disk_count = disks_read(r, e->disks);
    e->part_count = read_u32(r);
    places->parts = r->offset;
    if (e->part_count > EPOCH_PARTS_MAX)
        r->failed = true;
    read_span(r, (size_t)e->part_count * PART_BYTES);
    uint8_t has_inline = read_u8(r);
    places->run_bytes = read_u32(r);
    places->run = r->offset;
    read_span(r, places->run_bytes);
    e->has_inline = has_inline == 1;
    if (has_inline > 1 || reader_left(r) != 0)
        r->failed = true;
}

static void parts_read(struct span bytes, struct epoch_part *out)
{
    struct reader r = reader_of(bytes);
    for (; reader_left(&r) > 0; out++) {
        out->bytes = read_u64(&r);
        read_bytes(&r, out->digest.bytes, SHA256_BYTES);
        out->store = read_u16(&r);
    }
}

/* Adds part table and tail behind the body. They are pointed at last, as the memory may move. */
static bool body_extend(struct epoch_decoded *d, const struct body_places *places, struct span tail,
                        struct err *err)
{
    struct buf *m = &d->memory;
    struct epoch_entry *e = &d->entry;
    size_t size = e->part_count * sizeof(struct epoch_part);
    static const uint8_t padding[_Alignof(struct epoch_part)];
    buf_put(m, padding, (sizeof padding - m->length % sizeof padding) % sizeof padding);
    size_t table = m->length;
    buf_extend(m, size);
    size_t tail_at = m->length;
    buf_put(m, tail.data, tail.length);
    if (!buf_ok(m, err))
        return false;
    struct epoch_part *parts = (void *)(m->data + table);
    parts_read(span_of(m->data + places->parts, (size_t)e->part_count * PART_BYTES), parts);
    e->parts = parts;
    e->run = span_of(m->data + places->run, places->run_bytes);
    e->inline_part = span_of(m->data + tail_at, tail.length);
    return true;
}

bool epoch_body_parse(struct epoch_decoded *d, struct span tail, struct err *err)
{
    struct reader r = reader_of(buf_span(&d->memory));
    struct body_places places = {.parts = 0};
    body_read(&r, &d->entry, &places);
    if (r.failed)
        return err_set(err, ERR_CORRUPT, "the epoch entry is not well-formed");
    if (!body_extend(d, &places, tail, err))
        return false;
    const char *flaw = epoch_flaw(&d->entry);
    return flaw == NULL || err_set(err, ERR_CORRUPT, "the epoch entry has a wrong %s", flaw);
}

static bool is_asked_for(const struct epoch_entry *e, const uint8_t vm[VM_ID_BYTES],
                         struct generation g, uint64_t epoch)
{
    return memcmp(e->vm, vm, VM_ID_BYTES) == 0 && e->generation.number == g.number &&
           e->generation.id == g.id && e->epoch == epoch;
}

bool epoch_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                  struct generation g, uint64_t epoch, struct epoch_decoded *out, struct err *err)
{
    struct envelope_kind kind = envelope_of(vm);
    struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
    struct span tail;
    if (!envelope_open(&kind, keys, stored, &d.memory, &tail, err) ||
        !epoch_body_parse(&d, tail, err))
        return false;
    if (!is_asked_for(&d.entry, vm, g, epoch))
        return err_set(err, ERR_CORRUPT,
                       "the epoch entry is another one than its name says: it was moved");
    d.digest = sha256_of(stored);
    *out = d;
    d.memory = BUF_NONE;
    return true;
}

void epoch_decoded_release(struct epoch_decoded *d)
{
    buf_release(&d->memory);
    *d = (struct epoch_decoded){.memory = BUF_NONE};
}
