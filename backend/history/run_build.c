/* SPDX-License-Identifier: MIT
 * Building a run: entries are encoded as they come, into plain pages in memory; the root is made
 * and everything sealed at the end. */
#include "backend/history/run_internal.h"

/* --- byte strings by number, in the order of their first use --- */

struct table {
    struct buf bytes;
    uint32_t *offsets; /* of string i in `bytes`; offsets[count] is the end */
    uint32_t count;
    uint32_t capacity; /* of offsets, without the last one */
    uint32_t *slots;   /* open addressing: index + 1, or 0 */
    uint32_t slot_count;
    uint32_t last; /* the answer of the call before: frames of one epoch share salt and segment */
};

static void table_release(struct table *t)
{
    buf_release(&t->bytes);
    free(t->offsets);
    free(t->slots);
}

static struct span table_get(const struct table *t, uint32_t i)
{
    return span_of(t->bytes.data + t->offsets[i], t->offsets[i + 1] - t->offsets[i]);
}

static uint32_t bytes_hash(struct span s)
{
    uint32_t h = 2166136261u; /* FNV-1a; a crowded table costs time, nothing else */
    for (size_t i = 0; i < s.length; i++)
        h = (uint32_t)((h ^ s.data[i]) * (uint64_t)16777619u);
    return h;
}

/* The slot that holds `s`, or the free one where it belongs. */
static uint32_t *table_slot(const struct table *t, struct span s)
{
    uint32_t at = bytes_hash(s) & (t->slot_count - 1);
    while (t->slots[at] != 0 && !span_equal(table_get(t, t->slots[at] - 1), s))
        at = (at + 1) & (t->slot_count - 1);
    return &t->slots[at];
}

static bool table_grow(struct table *t)
{
    uint32_t capacity = t->capacity == 0 ? 16 : t->capacity * 2;
    uint32_t *offsets = realloc(t->offsets, (capacity + 1) * sizeof *offsets);
    if (offsets == NULL)
        return false;
    t->offsets = offsets;
    uint32_t *slots = calloc(capacity * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    free(t->slots);
    t->slots = slots;
    t->slot_count = capacity * 2;
    t->capacity = capacity;
    if (t->count == 0)
        t->offsets[0] = 0;
    for (uint32_t i = 0; i < t->count; i++)
        *table_slot(t, table_get(t, i)) = i + 1;
    return true;
}

static bool table_index(struct table *t, struct span s, uint32_t count_max, const char *what,
                        uint32_t *index, struct err *err)
{
    if (t->count > 0 && span_equal(table_get(t, t->last), s)) {
        *index = t->last;
        return true;
    }
    uint32_t *slot = t->count == 0 ? NULL : table_slot(t, s);
    if (slot == NULL || *slot == 0) {
        if (t->count == count_max)
            return err_set(err, ERR_FULL, "a run cannot hold more than %u %s", count_max, what);
        if (t->count == t->capacity && !table_grow(t))
            return err_set(err, ERR_FULL, "out of memory for the %s of a run", what);
        slot = table_slot(t, s);
        buf_put(&t->bytes, s.data, s.length);
        if (!buf_ok(&t->bytes, err))
            return false;
        t->offsets[t->count + 1] = (uint32_t)t->bytes.length;
        *slot = ++t->count;
    }
    t->last = *slot - 1;
    *index = t->last;
    return true;
}

/* --- the builder --- */

struct run_builder {
    struct run_head head;
    struct table names;
    struct table salts;
    struct buf pages; /* plain, one after another */
    struct buf page_index;
    uint32_t page_count;
    uint32_t page_entries;    /* of the open page */
    size_t page_start;        /* of the open page in `pages` */
    struct run_position at;   /* in the open page */
    struct run_entry pending; /* the newest entry, as a hole behind it may join it */
    bool has_pending;
    uint64_t entries; /* without the pending one */
    struct run_range *ranges;
    uint32_t range_count;
    uint32_t range_capacity;
    uint8_t filter_shift;
};

bool run_builder_make(const struct run_head *head, struct run_builder **out, struct err *err)
{
    assert(head->epoch_first <= head->epoch_last);
    struct run_builder *b = calloc(1, sizeof *b);
    if (b == NULL)
        return err_set(err, ERR_FULL, "out of memory for a run");
    b->head = *head;
    *out = b;
    return true;
}

void run_builder_release(struct run_builder **builder)
{
    struct run_builder *b = *builder;
    if (b != NULL) {
        table_release(&b->names);
        table_release(&b->salts);
        buf_release(&b->pages);
        buf_release(&b->page_index);
        free(b->ranges);
    }
    free(b);
    *builder = NULL;
}

bool run_builder_segment(struct run_builder *b, const char *name, uint32_t *index, struct err *err)
{
    assert(object_name_valid(name));
    return table_index(&b->names, span_of_text(name), RUN_SEGMENTS_MAX, "segments", index, err);
}

uint64_t run_builder_entries(const struct run_builder *b)
{
    return b->entries + b->has_pending;
}

bool run_builder_full(const struct run_builder *b, uint64_t bytes)
{
    return b->names.count == RUN_SEGMENTS_MAX || b->salts.count + b->has_pending >= RUN_SALTS_MAX ||
           b->pages.length + b->page_index.length + b->names.bytes.length + b->salts.bytes.length +
                   b->range_count * sizeof *b->ranges >=
               bytes;
}

/* --- the region filter --- */

/* Adds a row of units at the end; rows that overlap or touch become one. */
static void range_append(struct run_range *ranges, uint32_t *count, struct run_range add)
{
    struct run_range *last = *count == 0 ? NULL : &ranges[*count - 1];
    if (last == NULL || last->disk != add.disk || last->first + last->count < add.first) {
        ranges[(*count)++] = add;
        return;
    }
    uint32_t end = add.first + add.count;
    if (end > last->first + last->count)
        last->count = end - last->first;
}

/* Twice as large units. */
static void filter_coarsen(struct run_builder *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->range_count; i++) {
        struct run_range r = b->ranges[i];
        uint32_t last = (r.first + r.count - 1) >> 1;
        r.first >>= 1;
        r.count = last - r.first + 1;
        range_append(b->ranges, &count, r);
    }
    b->range_count = count;
    b->filter_shift++;
}

static struct run_range filter_range(const struct run_builder *b, const struct run_entry *e)
{
    unsigned shift = REGION_SHIFT - BLOCK_SHIFT + b->filter_shift;
    uint64_t first = e->first >> shift;
    uint64_t last = (e->first + e->count - 1) >> shift;
    return (struct run_range){
        .disk = e->disk, .first = (uint32_t)first, .count = (uint32_t)(last - first + 1)};
}

/* The units stay as small as RUN_FILTER_RANGES_MAX rows allow. */
static bool filter_add(struct run_builder *b, const struct run_entry *e, struct err *err)
{
    if (b->range_count == b->range_capacity) {
        uint32_t capacity = b->range_capacity == 0 ? 64 : b->range_capacity * 2;
        struct run_range *ranges = realloc(b->ranges, capacity * sizeof *ranges);
        if (ranges == NULL)
            return err_set(err, ERR_FULL, "out of memory for the filter of a run");
        b->ranges = ranges;
        b->range_capacity = capacity;
    }
    range_append(b->ranges, &b->range_count, filter_range(b, e));
    while (b->range_count > RUN_FILTER_RANGES_MAX)
        filter_coarsen(b);
    return true;
}

/* --- entries and pages --- */

static void entry_put(struct buf *out, const struct run_entry *e, uint32_t salt,
                      const struct run_position *at)
{
    bool next_disk = e->disk != at->disk;
    buf_put_u8(out, (uint8_t)(e->kind | (next_disk ? RUN_ENTRY_NEXT_DISK : 0)));
    if (next_disk)
        buf_put_varint(out, (uint64_t)(e->disk - at->disk));
    buf_put_varint(out, e->first - (next_disk ? 0 : at->block));
    if (e->kind != RUN_DATA) {
        buf_put_varint(out, e->count);
        return;
    }
    buf_put_u8(out, (uint8_t)((e->count - 1) | (uint64_t)(e->frame.blocks - 1) << 4));
    buf_put_u8(out, (uint8_t)((e->first - e->frame.first) | (uint64_t)e->frame.flags << 4));
    buf_put_varint(out, salt);
    buf_put_varint(out, e->frame.seal.counter);
    buf_put_varint(out, e->segment);
    buf_put_varint(out, e->offset);
    buf_put_varint(out, e->stored_bytes);
    buf_put(out, e->sealed_digest.bytes, BLOCK_DIGEST_BYTES);
    buf_put(out, e->digests, (size_t)e->count * BLOCK_DIGEST_BYTES);
}

static void page_close(struct run_builder *b)
{
    if (b->page_entries == 0)
        return;
    buf_set_u32(&b->page_index, b->page_index.length - 8, b->page_entries);
    buf_set_u32(&b->page_index, b->page_index.length - 4,
                (uint32_t)(b->pages.length - b->page_start));
    b->page_start = b->pages.length;
    b->page_entries = 0;
    b->at = (struct run_position){.disk = 0};
}

static void page_begin(struct run_builder *b, const struct run_entry *e)
{
    buf_put_u16(&b->page_index, e->disk);
    buf_put_u64(&b->page_index, e->first);
    buf_put_u32(&b->page_index, 0); /* entries and bytes: set by page_close */
    buf_put_u32(&b->page_index, 0);
    b->page_count++;
}

/* Encodes the pending entry. A page is closed only when the next entry does not fit: the same
 * entries always give the same pages. */
static bool pending_flush(struct run_builder *b, struct err *err)
{
    if (!b->has_pending)
        return true;
    const struct run_entry *e = &b->pending;
    uint32_t salt = 0;
    if (e->kind == RUN_DATA &&
        !table_index(&b->salts, span_of(e->frame.seal.salt.bytes, SEAL_SALT_BYTES), RUN_SALTS_MAX,
                     "salts", &salt, err))
        return false;
    if (b->page_entries == RUN_PAGE_ENTRIES_MAX)
        page_close(b);
    size_t start = b->pages.length;
    entry_put(&b->pages, e, salt, &b->at);
    if (b->pages.length - b->page_start > RUN_PAGE_BYTES_MAX) {
        b->pages.length = start;
        page_close(b);
        entry_put(&b->pages, e, salt, &b->at);
    }
    if (b->page_entries++ == 0)
        page_begin(b, e);
    b->at = (struct run_position){.disk = e->disk, .block = e->first + e->count};
    b->entries++;
    b->has_pending = false;
    return buf_ok(&b->pages, err) && buf_ok(&b->page_index, err) && filter_add(b, e, err);
}

bool run_entry_valid(const struct run_entry *e)
{
    if (e->count < 1 || e->count > DISK_BLOCKS_MAX || e->first > DISK_BLOCKS_MAX - e->count)
        return false;
    if (e->kind == RUN_HOLE || e->kind == RUN_UNREADABLE)
        return true;
    const struct frame_id *f = &e->frame;
    return e->kind == RUN_DATA && frame_id_valid(f) && f->disk == e->disk && e->first >= f->first &&
           e->first - f->first <= f->blocks && e->count <= f->blocks - (e->first - f->first) &&
           e->stored_bytes >= 1 && e->stored_bytes <= f->blocks * BLOCK_BYTES + SEAL_TAG_BYTES &&
           e->offset <= STORE_OBJECT_MAX - e->stored_bytes;
}

bool run_builder_add(struct run_builder *b, const struct run_entry *e, struct err *err)
{
    assert(run_entry_valid(e));
    assert(e->kind != RUN_DATA || e->segment < b->names.count);
    struct run_entry *p = &b->pending;
    if (b->has_pending) {
        assert(p->disk < e->disk || (p->disk == e->disk && p->first + p->count <= e->first));
        if (e->kind != RUN_DATA && p->kind == e->kind && p->disk == e->disk &&
            p->first + p->count == e->first) {
            p->count += e->count;
            return true;
        }
    }
    if (!pending_flush(b, err))
        return false;
    b->pending = *e;
    b->has_pending = true;
    return true;
}

/* --- finishing --- */

static void root_put_filter(const struct run_builder *b, struct buf *root)
{
    buf_put_u8(root, b->filter_shift);
    buf_put_u32(root, b->range_count);
    struct run_range last = {.disk = 0};
    for (uint32_t i = 0; i < b->range_count; i++) {
        struct run_range r = b->ranges[i];
        buf_put_varint(root, (uint64_t)(r.disk - last.disk));
        buf_put_varint(root, r.first - (r.disk == last.disk ? last.first + last.count : 0));
        buf_put_varint(root, r.count);
        last = r;
    }
}

static void root_put(const struct run_builder *b, struct buf *root)
{
    buf_put(root, b->head.vm, VM_ID_BYTES);
    buf_put_u64(root, b->head.generation_id);
    buf_put_u64(root, b->head.epoch_first);
    buf_put_u64(root, b->head.epoch_last);
    buf_put_u64(root, b->entries);
    buf_put_u32(root, b->names.count);
    for (uint32_t i = 0; i < b->names.count; i++) {
        struct span name = table_get(&b->names, i);
        buf_put_u16(root, (uint16_t)name.length);
        buf_put(root, name.data, name.length);
    }
    buf_put_u32(root, b->salts.count);
    buf_put(root, b->salts.bytes.data, b->salts.bytes.length);
    buf_put(root, b->page_index.data, b->page_index.length);
    root_put_filter(b, root);
}

void run_aad(const uint8_t head[RUN_HEAD_BYTES], const uint8_t vm[VM_ID_BYTES], uint32_t counter,
             uint8_t out[RUN_AAD_BYTES])
{
    memcpy(out, head, RUN_HEAD_BYTES);
    memcpy(out + RUN_HEAD_BYTES, vm, VM_ID_BYTES);
    store_u32(out + RUN_HEAD_BYTES + VM_ID_BYTES, counter);
}

struct run_sealing {
    struct sealer *sealer;
    const uint8_t *vm;
    size_t start; /* of the run in the output */
};

static bool part_seal(const struct run_sealing *s, uint32_t counter, struct span plain,
                      struct buf *out, struct err *err)
{
    uint8_t aad[RUN_AAD_BYTES];
    uint8_t *sealed = buf_extend(out, plain.length + SEAL_TAG_BYTES);
    if (sealed == NULL)
        return buf_ok(out, err);
    run_aad(out->data + s->start, s->vm, counter, aad);
    return seal(s->sealer, counter, span_of(aad, sizeof aad), plain,
                mspan_of(sealed, plain.length + SEAL_TAG_BYTES), err);
}

static bool pages_seal(const struct run_builder *b, const struct run_sealing *s, struct buf *out,
                       struct err *err)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < b->page_count; i++) {
        size_t bytes =
            load_u32(b->page_index.data + (size_t)i * RUN_PAGE_REF_BYTES + RUN_PAGE_REF_BYTES - 4);
        if (!part_seal(s, i + 1, span_of(b->pages.data + offset, bytes), out, err))
            return false;
        offset += bytes;
    }
    return true;
}

bool run_builder_finish(struct run_builder *b, const struct keys *keys,
                        const struct seal_salt *salt, struct buf *out, struct err *err)
{
    if (!pending_flush(b, err))
        return false;
    page_close(b);
    struct buf root AUTO_BUF = BUF_NONE;
    root_put(b, &root);
    if (!buf_ok(&root, err))
        return false;
    if (root.length > RUN_ROOT_BYTES_MAX)
        return err_set(err, ERR_FULL, "the root of a run would take %zu bytes, more than %u",
                       root.length, RUN_ROOT_BYTES_MAX);
    struct sealer *sealer AUTO_SEALER = NULL;
    if (!sealer_make(keys, SEAL_HISTORY, salt, &sealer, err))
        return false;
    struct run_sealing s = {.sealer = sealer, .vm = b->head.vm, .start = out->length};
    head_put(out, RUN_MAGIC, keys_id(keys));
    buf_put(out, salt->bytes, sizeof salt->bytes);
    buf_put_u32(out, (uint32_t)root.length);
    buf_put_u32(out, b->page_count);
    buf_put_u64(out, RUN_HEAD_BYTES + root.length + SEAL_TAG_BYTES + b->pages.length +
                         (uint64_t)b->page_count * SEAL_TAG_BYTES);
    return buf_ok(out, err) && part_seal(&s, RUN_ROOT_COUNTER, buf_span(&root), out, err) &&
           pages_seal(b, &s, out, err);
}
