/* SPDX-License-Identifier: MIT */
#include "tests/support/epoch_maker.h"

#include "tests/support/check.h"

#include <stdio.h>

struct made_block {
    uint16_t disk;
    enum run_kind kind;
    uint64_t first, count; /* count > 1 only of holes */
    uint8_t *data;         /* of RUN_DATA */
};

struct keys *made_keys(uint8_t seed)
{
    struct err err = ERR_NONE;
    struct keys *keys = NULL;
    uint8_t bytes[VM_KEY_BYTES];
    memset(bytes, seed, sizeof bytes);
    check_ok(keys_from_vm_key(bytes, &keys, &err), err);
    return keys;
}

void epoch_maker_init(struct epoch_maker *m, struct world *w, struct store *target,
                      struct store *cache, uint16_t disks, uint64_t blocks)
{
    struct err err = ERR_NONE;

    *m = (struct epoch_maker){
        .world = w,
        .keys = made_keys(7),
        .generation = {.number = 1, .id = 0x0123456789abcdefull},
        .encrypt = true,
        .inline_max = EPOCH_INLINE_BYTES,
        .part_max = EPOCH_PART_BYTES,
        .clock_ms = MADE_CLOCK_MS,
    };
    for (size_t i = 0; i <= VM_DISKS_MAX; i++)
        m->caches[i] = cache;
    memset(m->vault.vm, 0x5a, VM_ID_BYTES);
    snprintf(m->vault.name, sizeof m->vault.name, "%s", MADE_VM);
    m->vault.encrypted = true;
    m->vault.created_ms = MADE_CLOCK_MS;
    m->vault.disk_count = disks;
    for (uint16_t i = 0; i < disks; i++) {
        m->vault.disks[i] = (struct epoch_disk){.disk = i, .size_bytes = blocks * BLOCK_BYTES};
        snprintf(m->vault.disks[i].name, sizeof m->vault.disks[i].name, "disk%u", i);
    }
    m->vault.store_count = 1;
    snprintf(m->vault.stores[0].cache, STORE_URL_MAX, "file:///cache");
    snprintf(m->vault.stores[0].target, STORE_URL_MAX, "file:///target");
    check_ok(history_begin(w, target, cache, &m->vault, m->generation, m->keys, &err), err);
    check_ok(
        history_entry0(cache, MADE_VM, m->vault.vm, m->generation, m->keys, &m->previous, &err),
        err);
}

static void blocks_clear(struct epoch_maker *m)
{
    for (size_t i = 0; i < m->block_count; i++)
        free(m->blocks[i].data);
    m->block_count = 0;
}

void epoch_maker_release(struct epoch_maker *m)
{
    blocks_clear(m);
    free(m->blocks);
    keys_release(&m->keys);
}

/* --- pending blocks: kept sorted, never overlapping --- */

static void block_insert(struct epoch_maker *m, size_t at, struct made_block b)
{
    if (m->block_count == m->block_room) {
        m->block_room = m->block_room * 2 + 64;
        m->blocks = realloc(m->blocks, m->block_room * sizeof *m->blocks);
        assert_non_null(m->blocks);
    }
    memmove(&m->blocks[at + 1], &m->blocks[at], (m->block_count - at) * sizeof *m->blocks);
    m->blocks[at] = b;
    m->block_count++;
}

static void block_delete(struct epoch_maker *m, size_t at)
{
    free(m->blocks[at].data);
    m->block_count--;
    memmove(&m->blocks[at], &m->blocks[at + 1], (m->block_count - at) * sizeof *m->blocks);
}

/* Takes [first, first + count) out of what is pending and returns where it would be inserted. */
static size_t range_clear(struct epoch_maker *m, uint16_t disk, uint64_t first, uint64_t count)
{
    size_t i = 0;
    while (i < m->block_count &&
           (m->blocks[i].disk < disk ||
            (m->blocks[i].disk == disk && m->blocks[i].first + m->blocks[i].count <= first)))
        i++;
    while (i < m->block_count && m->blocks[i].disk == disk && m->blocks[i].first < first + count) {
        struct made_block old = m->blocks[i];
        uint64_t end = old.first + old.count;
        old.data = NULL; /* what is cut in two is a hole */
        block_delete(m, i);
        if (end > first + count) {
            block_insert(m, i, old);
            m->blocks[i].first = first + count;
            m->blocks[i].count = end - first - count;
        }
        if (old.first < first) {
            block_insert(m, i, old);
            m->blocks[i++].count = first - old.first;
        }
        if (end > first + count)
            break;
    }
    return i;
}

void epoch_maker_write(struct epoch_maker *m, uint16_t disk, uint64_t first, uint64_t count,
                       const uint8_t *data)
{
    for (uint64_t i = 0; i < count; i++) {
        struct made_block b = {.disk = disk, .kind = RUN_DATA, .first = first + i, .count = 1};
        b.data = malloc(BLOCK_BYTES);
        assert_non_null(b.data);
        memcpy(b.data, data + i * BLOCK_BYTES, BLOCK_BYTES);
        block_insert(m, range_clear(m, disk, first + i, 1), b);
    }
}

void epoch_maker_write_noise(struct epoch_maker *m, uint16_t disk, uint64_t count)
{
    uint64_t noise[BLOCK_BYTES / 8], block[BLOCK_BYTES / 8];
    assert_int_equal(m->world->ops->random(m->world, noise, sizeof noise), 0);
    for (uint64_t i = 0; i < count; i++) {
        for (size_t word = 0; word < BLOCK_BYTES / 8; word++)
            block[word] = noise[word] * (2 * i + 1);
        epoch_maker_write(m, disk, i, 1, (const uint8_t *)block);
    }
}

void made_block_bytes(uint32_t value, uint8_t out[BLOCK_BYTES])
{
    uint32_t x = value;
    memset(out, 0, BLOCK_BYTES);
    for (size_t i = 0; value != 0 && i < BLOCK_BYTES; i += 4) {
        x = x * 1664525u + 1013904223u;
        store_u32(out + i, i % 64 < 32 ? x : value);
    }
}

void epoch_maker_fill(struct epoch_maker *m, uint16_t disk, uint64_t block, uint32_t value)
{
    uint8_t bytes[BLOCK_BYTES];
    made_block_bytes(value, bytes);
    epoch_maker_write(m, disk, block, 1, bytes);
}

void epoch_maker_hole(struct epoch_maker *m, uint16_t disk, uint64_t first, uint64_t count)
{
    struct made_block b = {.disk = disk, .kind = RUN_HOLE, .first = first, .count = count};
    block_insert(m, range_clear(m, disk, first, count), b);
}

void epoch_maker_unreadable(struct epoch_maker *m, uint16_t disk, uint64_t block)
{
    struct made_block b = {.disk = disk, .kind = RUN_UNREADABLE, .first = block, .count = 1};
    block_insert(m, range_clear(m, disk, block, 1), b);
}

/* --- shipping --- */

struct shipping {
    struct epoch_maker *maker;
    uint64_t epoch, attempt;
    struct seal_salt salt;
    uint32_t counter;
    struct frame_codec *codec;
    struct run_builder *builder;
    struct buf part;
    uint32_t segment; /* of the part being filled */
    bool in_part, has_inline;
    uint16_t part_store;
    struct epoch_part parts[64];
    uint32_t part_count;
};

static void part_close(struct shipping *s)
{
    struct epoch_maker *m = s->maker;
    struct err err = ERR_NONE;
    char key[KEY_MAX];

    if (!s->in_part)
        return;
    assert_true(s->part_count < 64);
    s->parts[s->part_count] = (struct epoch_part){
        .bytes = s->part.length, .digest = sha256_of(buf_span(&s->part)), .store = s->part_store};
    if (!s->has_inline) {
        key_part(key, MADE_VM, m->generation, s->epoch, s->attempt, s->part_count);
        check_ok(store_put(m->caches[s->part_store], key, buf_span(&s->part), &err), err);
        buf_clear(&s->part);
    }
    s->part_count++;
    s->in_part = false;
}

static void part_open(struct shipping *s, uint16_t store)
{
    struct err err = ERR_NONE;
    char name[32];
    snprintf(name, sizeof name, "part-%u", s->part_count);
    check_ok(run_builder_segment(s->builder, name, &s->segment, &err), err);
    s->in_part = true;
    s->part_store = store;
}

/* One frame of `count` adjacent blocks from blocks[at]. */
static void frame_ship(struct shipping *s, size_t at, uint64_t count)
{
    struct epoch_maker *m = s->maker;
    struct err err = ERR_NONE;
    const struct made_block *b = &m->blocks[at];
    uint16_t store = m->vault.disks[b->disk].store;
    uint8_t plain[FRAME_PLAIN_MAX];
    struct run_entry e = {.kind = RUN_DATA, .disk = b->disk, .first = b->first, .count = count};

    if (s->in_part && (s->part_store != store || (!s->has_inline && s->part.length >= m->part_max)))
        part_close(s);
    if (!s->in_part)
        part_open(s, store);
    for (uint64_t i = 0; i < count; i++) {
        memcpy(plain + i * BLOCK_BYTES, b[i].data, BLOCK_BYTES);
        e.digests[i] = keys_block_digest(m->keys, b[i].data);
    }
    e.frame = (struct frame_id){
        .disk = b->disk,
        .flags = m->encrypt ? FRAME_ENCRYPTED : 0,
        .blocks = (uint8_t)count,
        .first = b->first,
        .seal = {.salt = s->salt, .counter = s->counter++},
    };
    memcpy(e.frame.vm, m->vault.vm, VM_ID_BYTES);
    size_t start = s->part.length;
    check_ok(frame_encode(s->codec, &e.frame, span_of(plain, (size_t)count * BLOCK_BYTES), &s->part,
                          &err),
             err);
    e.segment = s->segment;
    e.offset = (uint32_t)start;
    e.stored_bytes = (uint32_t)(s->part.length - start);
    e.sealed_digest =
        keys_frame_digest(m->keys, span_part(buf_span(&s->part), start, s->part.length - start));
    check_ok(run_builder_add(s->builder, &e, &err), err);
}

/* How many blocks from blocks[at] make one frame: adjacent, within one aligned 64 KiB. */
static uint64_t frame_length(const struct epoch_maker *m, size_t at)
{
    const struct made_block *b = &m->blocks[at];
    uint64_t n = 1;
    while (at + n < m->block_count && b[n].kind == RUN_DATA && b[n].disk == b->disk &&
           b[n].first == b->first + n && b[n].first % FRAME_BLOCKS_MAX != 0)
        n++;
    return n;
}

static void blocks_ship(struct shipping *s)
{
    struct epoch_maker *m = s->maker;
    struct err err = ERR_NONE;

    for (size_t i = 0; i < m->block_count;) {
        const struct made_block *b = &m->blocks[i];
        uint64_t taken = 1;
        if (b->kind == RUN_DATA) {
            taken = frame_length(m, i);
            frame_ship(s, i, taken);
        } else {
            struct run_entry e = {
                .kind = b->kind, .disk = b->disk, .first = b->first, .count = b->count};
            memcpy(e.frame.vm, m->vault.vm, VM_ID_BYTES);
            check_ok(run_builder_add(s->builder, &e, &err), err);
        }
        i += taken;
    }
    part_close(s);
}

static bool fits_inline(const struct epoch_maker *m)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->block_count; i++) {
        bytes += m->blocks[i].kind == RUN_DATA ? BLOCK_BYTES + SEAL_TAG_BYTES : 0;
        if (m->vault.disks[m->blocks[i].disk].store != 0)
            return false;
    }
    return bytes <= m->inline_max;
}

void epoch_maker_entry(struct epoch_maker *m, enum epoch_kind kind, enum point_kind point,
                       const char *label, struct buf *out)
{
    struct err err = ERR_NONE;
    struct buf run AUTO_BUF = BUF_NONE;
    struct seal_salt head_salt;
    struct sha256 content = sha256_of(span_of_text("made"));
    struct shipping s = {
        .maker = m, .epoch = m->epoch + 1, .part = BUF_NONE, .has_inline = fits_inline(m)};
    struct run_head head = {
        .generation_id = m->generation.id, .epoch_first = s.epoch, .epoch_last = s.epoch};

    assert_int_equal(m->world->ops->random(m->world, &s.attempt, sizeof s.attempt), 0);
    memcpy(head.vm, m->vault.vm, VM_ID_BYTES);
    check_ok(salt_make(m->keys, SEAL_DATA, m->world, m->generation.id, s.epoch, s.attempt, &content,
                       &s.salt, &err),
             err);
    check_ok(salt_make(m->keys, SEAL_HISTORY, m->world, m->generation.id, s.epoch, s.attempt,
                       &content, &head_salt, &err),
             err);
    check_ok(frame_codec_make(m->keys, &s.codec, &err), err);
    check_ok(run_builder_make(&head, &s.builder, &err), err);
    blocks_ship(&s);
    struct seal_salt run_salt;
    check_ok(salt_make(m->keys, SEAL_HISTORY, m->world, m->generation.id, s.epoch, s.attempt,
                       &content, &run_salt, &err),
             err);
    if (m->block_count > 0)
        check_ok(run_builder_finish(s.builder, m->keys, &run_salt, &run, &err), err);

    struct epoch_entry e = {
        .kind = kind,
        .generation = m->generation,
        .epoch = s.epoch,
        .attempt = s.attempt,
        .previous = m->previous,
        .point_ms = kind == EPOCH_CUT || kind == EPOCH_HEARTBEAT ? m->clock_ms : 0,
        .clock_ms = m->clock_ms,
        .point_kind = point,
        .disk_count = m->vault.disk_count,
        .part_count = s.part_count,
        .parts = s.parts,
        .has_inline = s.has_inline && s.part_count > 0,
        .inline_part = s.has_inline ? buf_span(&s.part) : span_of(NULL, 0),
        .run = buf_span(&run),
    };
    memcpy(e.vm, m->vault.vm, VM_ID_BYTES);
    memcpy(e.disks, m->vault.disks, sizeof e.disks);
    snprintf(e.label, sizeof e.label, "%s", label ? label : "");
    check_ok(epoch_encode(&e, m->keys, &head_salt, out, &err), err);
    m->attempt = s.attempt;
    buf_release(&s.part);
    run_builder_release(&s.builder);
    frame_codec_release(&s.codec);
}

uint64_t epoch_maker_ship(struct epoch_maker *m, enum epoch_kind kind, enum point_kind point,
                          const char *label)
{
    struct err err = ERR_NONE;
    struct buf entry AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];

    epoch_maker_entry(m, kind, point, label, &entry);
    key_epoch(key, MADE_VM, m->generation, m->epoch + 1);
    check_ok(store_put(m->caches[0], key, buf_span(&entry), &err), err);
    m->epoch++;
    m->previous = sha256_of(buf_span(&entry));
    m->clock_ms += 1000;
    blocks_clear(m);
    return m->epoch;
}

uint64_t epoch_maker_cut(struct epoch_maker *m)
{
    return epoch_maker_ship(m, EPOCH_CUT, POINT_CRASH, NULL);
}
