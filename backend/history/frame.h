/* SPDX-License-Identifier: MIT
 * A frame: up to 64 KiB of adjacent blocks of one disk, compressed (zstd; raw when that is no
 * shorter) and then sealed alone with the data key, or left readable under --no-encryption. Frames
 * move between objects unopened: nothing in them tells where they lie. The AAD binds VM, disk,
 * block range, flags and birth seal. docs/FORMAT.md has the bytes.
 * A codec belongs to one thread. */
#ifndef BACKEND_HISTORY_FRAME_H
#define BACKEND_HISTORY_FRAME_H

#include "backend/history/keys.h"
#include "common/extent.h"

#define FRAME_PLAIN_MAX  (FRAME_BLOCKS_MAX * BLOCK_BYTES)
#define FRAME_SEALED_MAX (FRAME_PLAIN_MAX + SEAL_TAG_BYTES)

enum frame_flags {
    FRAME_COMPRESSED = 1 << 0,
    FRAME_ENCRYPTED = 1 << 1,
};

/* Where a frame was born: this pair never repeats under one key. */
struct birth_seal {
    struct seal_salt salt;
    uint32_t counter;
};

/* What identifies a frame wherever it lies. */
struct frame_id {
    uint8_t vm[VM_ID_BYTES];
    uint16_t disk;
    uint8_t flags;
    uint8_t blocks; /* 1 to FRAME_BLOCKS_MAX */
    uint64_t first; /* block index */
    struct birth_seal seal;
};

struct frame_codec;
/* `keys` is borrowed and outlives the codec. Keeps the last sealer, so frames of one salt in a row
 * derive its key once. */
bool frame_codec_make(const struct keys *keys, struct frame_codec **out,
                      struct err *err) MUST_CHECK;
void frame_codec_release(struct frame_codec **c);
#define AUTO_FRAME_CODEC CLEANUP(frame_codec_release)

/* Appends the frame's stored bytes to `out`; sets FRAME_COMPRESSED in id->flags as it turned out.
 * `plain` is id->blocks whole blocks; id->flags says FRAME_ENCRYPTED or not. */
bool frame_encode(struct frame_codec *c, struct frame_id *id, struct span plain, struct buf *out,
                  struct err *err) MUST_CHECK;
/* `plain` holds id->blocks whole blocks. ERR_CORRUPT names disk and block range. Memory bounded by
 * FRAME_PLAIN_MAX whatever the bytes say. */
bool frame_decode(struct frame_codec *c, const struct frame_id *id, struct span stored,
                  struct mspan plain, struct err *err) MUST_CHECK;

#endif
