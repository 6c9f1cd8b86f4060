/* SPDX-License-Identifier: MIT */
#include "fs/disk/pack.h"

#include "common/cleanup.h"
#include "fs/disk/journal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH_BLOCKS 1024u /* 4 MiB of plain data share one salt */
#define BATCH_PIECES 4096u

/* One future run entry; frames are sealed together, when the salt can bind all of them. */
struct piece {
    enum run_kind kind;
    uint16_t disk;
    uint64_t first;
    uint64_t count;
    size_t block; /* RUN_DATA: index of its first block in the batch */
};

/* The part that is being filled for one cache store. */
struct open_part {
    struct buf body;
    uint32_t index; /* in `parts`; valid while body is not empty */
};

struct pack {
    struct pack_config config;
    uint64_t epoch;
    uint64_t attempt;
    struct frame_codec *codec;
    struct run_builder *run;
    struct open_part open[VM_DISKS_MAX + 1];
    struct epoch_part *parts;
    uint32_t part_count;
    struct buf changes;
    struct buf encoded_run;

    uint16_t batch_store;
    size_t batch_blocks, piece_count;
    struct piece pieces[BATCH_PIECES];
    struct block_digest digests[BATCH_BLOCKS];
    uint8_t *plain; /* BATCH_BLOCKS blocks */

    uint64_t plain_bytes, stored_bytes;
    uint64_t waiting_bytes; /* taken, and in no part that was given to the uploads */
};

bool pack_begin(const struct pack_config *config, uint64_t epoch, struct pack **out,
                struct err *err)
{
    struct pack *p = calloc(1, sizeof *p);
    if (p == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    p->config = *config;
    p->epoch = epoch;
    p->plain = malloc((size_t)BATCH_BLOCKS * BLOCK_BYTES);
    p->parts = calloc(EPOCH_PARTS_MAX, sizeof *p->parts);
    struct run_head head = {
        .generation_id = config->generation.id, .epoch_first = epoch, .epoch_last = epoch};
    memcpy(head.vm, config->vm_id, sizeof head.vm);
    bool ok = p->plain != NULL && p->parts != NULL;
    if (!ok)
        err_set(err, ERR_FULL, "out of memory");
    if (ok && config->world->ops->random(config->world, &p->attempt, sizeof p->attempt) < 0)
        ok = err_set(err, ERR_IO, "the kernel gave no random bytes");
    ok = ok && frame_codec_make(config->keys, &p->codec, err) &&
         run_builder_make(&head, &p->run, err);
    if (!ok) {
        pack_release(&p);
        return false;
    }
    *out = p;
    return true;
}

void pack_release(struct pack **pack)
{
    struct pack *p = *pack;
    if (p == NULL)
        return;
    *pack = NULL;
    for (size_t i = 0; i <= VM_DISKS_MAX; i++)
        buf_release(&p->open[i].body);
    frame_codec_release(&p->codec);
    run_builder_release(&p->run);
    buf_release(&p->changes);
    buf_release(&p->encoded_run);
    free(p->parts);
    free(p->plain);
    free(p);
}

uint64_t pack_attempt(const struct pack *p)
{
    return p->attempt;
}

uint64_t pack_plain_bytes(const struct pack *p)
{
    return p->plain_bytes;
}

uint64_t pack_stored_bytes(const struct pack *p)
{
    return p->stored_bytes;
}

uint64_t pack_waiting_bytes(const struct pack *p)
{
    return p->waiting_bytes;
}

uint64_t pack_entries(const struct pack *p)
{
    return run_builder_entries(p->run) + p->piece_count;
}

bool pack_empty(const struct pack *p)
{
    return p->piece_count == 0 && run_builder_entries(p->run) == 0;
}

struct span pack_changes(const struct pack *p)
{
    return buf_span(&p->changes);
}

/* Gives the open part of `store` its place among the parts. */
static bool part_start(struct pack *p, uint16_t store, struct err *err)
{
    struct open_part *part = &p->open[store];
    if (part->body.length > 0)
        return true;
    if (p->part_count == EPOCH_PARTS_MAX)
        return err_set(err, ERR_FULL, "an epoch would have more than %u parts", EPOCH_PARTS_MAX);
    part->index = p->part_count++;
    p->parts[part->index].store = store;
    return true;
}

static void part_describe(struct pack *p, const struct open_part *part)
{
    p->parts[part->index].bytes = part->body.length;
    p->parts[part->index].digest = sha256_of(buf_span(&part->body));
}

static void part_upload(struct pack *p, uint16_t store)
{
    struct open_part *part = &p->open[store];
    char key[KEY_MAX];
    part_describe(p, part);
    key_part(key, p->config.vm, p->config.generation, p->epoch, p->attempt, part->index);
    uploads_add(p->config.uploads, p->config.caches[store], key, &part->body,
                &p->parts[part->index].digest, p->waiting_bytes);
    p->waiting_bytes = 0;
}

/* The salt binds everything that is sealed under it, so that a host copied with its memory, random
 * state and all, cannot seal two different things under one salt. */
static bool batch_salt(struct pack *p, struct seal_salt *salt, struct err *err)
{
    struct buf content AUTO_BUF = BUF_NONE;
    for (size_t i = 0; i < p->piece_count; i++) {
        const struct piece *piece = &p->pieces[i];
        if (piece->kind != RUN_DATA)
            continue;
        buf_put_u16(&content, piece->disk);
        buf_put_u64(&content, piece->first);
        buf_put(&content, &p->digests[piece->block], piece->count * sizeof *p->digests);
    }
    if (!buf_ok(&content, err))
        return false;
    struct sha256 digest = sha256_of(buf_span(&content));
    return salt_make(p->config.keys, SEAL_DATA, p->config.world, p->config.generation.id, p->epoch,
                     p->attempt, &digest, salt, err);
}

static bool seal_piece(struct pack *p, const struct piece *piece, const struct seal_salt *salt,
                       uint32_t counter, struct run_entry *entry, struct err *err)
{
    struct open_part *part = &p->open[p->batch_store];
    if (!part_start(p, p->batch_store, err))
        return false;
    char name[32];
    snprintf(name, sizeof name, "part-%u", part->index);
    entry->frame = (struct frame_id){.disk = piece->disk,
                                     .flags = p->config.encrypt ? FRAME_ENCRYPTED : 0,
                                     .blocks = (uint8_t)piece->count,
                                     .first = piece->first,
                                     .seal = {.salt = *salt, .counter = counter}};
    memcpy(entry->frame.vm, p->config.vm_id, VM_ID_BYTES);
    struct span plain =
        span_of(p->plain + piece->block * BLOCK_BYTES, (size_t)piece->count * BLOCK_BYTES);
    size_t before = part->body.length;
    if (!frame_encode(p->codec, &entry->frame, plain, &part->body, err) ||
        !run_builder_segment(p->run, name, &entry->segment, err))
        return false;
    entry->offset = (uint32_t)before;
    entry->stored_bytes = (uint32_t)(part->body.length - before);
    entry->sealed_digest = keys_frame_digest(
        p->config.keys, span_part(buf_span(&part->body), before, entry->stored_bytes));
    memcpy(entry->digests, &p->digests[piece->block], piece->count * sizeof *entry->digests);
    p->stored_bytes += entry->stored_bytes;
    return true;
}

static void note_changes(struct pack *p, const struct piece *piece)
{
    switch (piece->kind) {
    case RUN_DATA:
        changes_add_digests(&p->changes, piece->disk, piece->first, piece->count,
                            &p->digests[piece->block]);
        break;
    case RUN_HOLE:
        changes_add_hole(&p->changes, piece->disk, piece->first, piece->count);
        break;
    case RUN_UNREADABLE:
        for (uint64_t i = 0; i < piece->count; i++)
            changes_add_digests(&p->changes, piece->disk, piece->first + i, 1, &digest_unknown);
        break;
    }
}

static bool batch_flush(struct pack *p, struct err *err)
{
    struct seal_salt salt;
    uint32_t counter = 0;
    if (p->batch_blocks > 0 && !batch_salt(p, &salt, err))
        return false;
    for (size_t i = 0; i < p->piece_count; i++) {
        const struct piece *piece = &p->pieces[i];
        struct run_entry entry = {
            .kind = piece->kind, .disk = piece->disk, .first = piece->first, .count = piece->count};
        if (piece->kind == RUN_DATA && !seal_piece(p, piece, &salt, counter++, &entry, err))
            return false;
        if (!run_builder_add(p->run, &entry, err))
            return false;
        note_changes(p, piece);
    }
    if (!buf_ok(&p->changes, err))
        return false;
    p->piece_count = 0;
    p->batch_blocks = 0;
    if (p->open[p->batch_store].body.length >= EPOCH_PART_BYTES)
        part_upload(p, p->batch_store);
    return true;
}

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0;
}

/* Adds one block to the last piece where it continues it, else starts a new one. A frame stays
 * inside an aligned 64 KiB, so that later overwrites hit whole frames. */
static void piece_add(struct pack *p, enum run_kind kind, uint16_t disk, uint64_t block)
{
    struct piece *last = p->piece_count > 0 ? &p->pieces[p->piece_count - 1] : NULL;
    bool joins = last != NULL && last->kind == kind && last->disk == disk &&
                 last->first + last->count == block;
    if (joins && (kind != RUN_DATA || block % FRAME_BLOCKS_MAX != 0)) {
        last->count++;
        return;
    }
    p->pieces[p->piece_count++] = (struct piece){
        .kind = kind, .disk = disk, .first = block, .count = 1, .block = p->batch_blocks};
}

static bool add_block(struct pack *p, const struct pack_disk *disk, uint64_t block,
                      const uint8_t *data, bool unreadable, const struct block_digest *replica,
                      struct err *err)
{
    if (p->piece_count == BATCH_PIECES || p->batch_blocks == BATCH_BLOCKS)
        if (!batch_flush(p, err))
            return false;
    if (unreadable) {
        piece_add(p, RUN_UNREADABLE, disk->number, block);
        return true;
    }
    if (is_zero(data)) {
        if (digest_is_zero(replica))
            return true;
        piece_add(p, RUN_HOLE, disk->number, block);
        return true;
    }
    struct block_digest digest = keys_block_digest(p->config.keys, data);
    if (memcmp(&digest, replica, sizeof digest) == 0)
        return true;
    piece_add(p, RUN_DATA, disk->number, block);
    p->digests[p->batch_blocks] = digest;
    memcpy(p->plain + p->batch_blocks * BLOCK_BYTES, data, BLOCK_BYTES);
    p->batch_blocks++;
    p->plain_bytes += BLOCK_BYTES;
    return true;
}

bool pack_add(struct pack *p, const struct pack_disk *disk, struct extent extent, struct span data,
              uint64_t unreadable, struct err *err)
{
    struct block_digest replica[CUT_TAKE_BLOCKS_MAX];
    assert(extent.count <= CUT_TAKE_BLOCKS_MAX && data.length == extent.count * BLOCK_BYTES);
    assert(disk->store < p->config.cache_count);
    if (p->batch_store != disk->store && !batch_flush(p, err))
        return false;
    p->batch_store = disk->store;
    p->waiting_bytes += data.length;
    if (!digest_file_read(disk->digests, extent.first, extent.count, replica, err))
        return false;
    for (uint64_t i = 0; i < extent.count; i++)
        if (!add_block(p, disk, extent.first + i, data.data + i * BLOCK_BYTES,
                       (unreadable >> i & 1) != 0, &replica[i], err))
            return false;
    return true;
}

/* The open parts go up, but for a small and only one, which rides in the end object. */
static bool close_parts(struct pack *p, struct epoch_entry *entry, struct err *err)
{
    bool rides = p->part_count == 1 && p->open[0].body.length > 0 &&
                 p->open[0].body.length <= EPOCH_INLINE_BYTES;
    for (uint16_t s = 0; s < p->config.cache_count && !rides; s++)
        if (p->open[s].body.length > 0)
            part_upload(p, s);
    if (rides) {
        part_describe(p, &p->open[0]);
        entry->has_inline = true;
        entry->inline_part = buf_span(&p->open[0].body);
    }
    return uploads_wait(p->config.uploads, err);
}

static bool encode_run(struct pack *p, struct err *err)
{
    struct seal_salt salt;
    struct sha256 content = sha256_of(pack_changes(p));
    if (run_builder_entries(p->run) == 0)
        return true;
    return salt_make(p->config.keys, SEAL_HISTORY, p->config.world, p->config.generation.id,
                     p->epoch, p->attempt, &content, &salt, err) &&
           run_builder_finish(p->run, p->config.keys, &salt, &p->encoded_run, err);
}

/* Everything in an entry that two writers with one random state could fill differently. */
static bool entry_salt(struct pack *p, const struct epoch_entry *entry, struct seal_salt *salt,
                       struct err *err)
{
    struct buf content AUTO_BUF = BUF_NONE;
    buf_put(&content, entry->run.data, entry->run.length);
    for (uint32_t i = 0; i < entry->part_count; i++)
        buf_put(&content, entry->parts[i].digest.bytes, SHA256_BYTES);
    for (uint16_t i = 0; i < entry->disk_count; i++)
        buf_put_u64(&content, entry->disks[i].size_bytes);
    buf_put(&content, entry->previous.bytes, SHA256_BYTES);
    buf_put(&content, entry->cut_id, sizeof entry->cut_id);
    buf_put_u8(&content, (uint8_t)entry->kind);
    buf_put_u8(&content, (uint8_t)entry->point_kind);
    buf_put_u64(&content, entry->point_ms);
    buf_put_u64(&content, entry->clock_ms);
    buf_put_text(&content, entry->label);
    if (!buf_ok(&content, err))
        return false;
    struct sha256 digest = sha256_of(buf_span(&content));
    return salt_make(p->config.keys, SEAL_HISTORY, p->config.world, p->config.generation.id,
                     p->epoch, p->attempt, &digest, salt, err);
}

bool pack_finish(struct pack *p, struct epoch_entry *entry, struct buf *out, struct err *err)
{
    struct seal_salt salt;
    if (!batch_flush(p, err) || !close_parts(p, entry, err) || !encode_run(p, err))
        return false;
    entry->attempt = p->attempt;
    entry->parts = p->parts;
    entry->part_count = p->part_count;
    entry->run = buf_span(&p->encoded_run);
    return entry_salt(p, entry, &salt, err) && epoch_encode(entry, p->config.keys, &salt, out, err);
}
