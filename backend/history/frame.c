/* SPDX-License-Identifier: MIT */
#include "backend/history/frame.h"

#include "backend/history/codec_internal.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <zstd.h>

#define FRAME_LEVEL 1 /* a shipper keeps up with a fast disk on one core */
#define FRAME_AAD   "farshore frame v1"

#define FRAME_AAD_BYTES (sizeof FRAME_AAD - 1 + VM_ID_BYTES + 2 + 8 + 1 + 1 + SEAL_SALT_BYTES + 4)

struct frame_codec {
    const struct keys *keys;
    struct sealer *sealer; /* of `salt`; NULL before the first sealed frame */
    struct seal_salt salt;
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    uint8_t payload[FRAME_PLAIN_MAX]; /* between zstd and the seal */
};

bool frame_codec_make(const struct keys *keys, struct frame_codec **out, struct err *err)
{
    struct frame_codec *c AUTO_FRAME_CODEC = calloc(1, sizeof *c);
    if (c != NULL) {
        c->keys = keys;
        c->compressor = ZSTD_createCCtx();
        c->decompressor = ZSTD_createDCtx();
    }
    if (c == NULL || c->compressor == NULL || c->decompressor == NULL)
        return err_set(err, ERR_FULL, "out of memory for a frame codec");
    *out = TAKE(c);
    return true;
}

void frame_codec_release(struct frame_codec **c)
{
    if (*c != NULL) {
        sealer_release(&(*c)->sealer);
        ZSTD_freeCCtx((*c)->compressor);
        ZSTD_freeDCtx((*c)->decompressor);
        OPENSSL_cleanse((*c)->payload, sizeof(*c)->payload);
    }
    free(*c);
    *c = NULL;
}

bool frame_id_valid(const struct frame_id *id)
{
    return (id->flags & ~(FRAME_COMPRESSED | FRAME_ENCRYPTED)) == 0 && id->blocks >= 1 &&
           id->blocks <= FRAME_BLOCKS_MAX && id->first <= DISK_BLOCKS_MAX - id->blocks;
}

static void frame_aad(const struct frame_id *id, uint8_t out[FRAME_AAD_BYTES])
{
    uint8_t *p = out;
    memcpy(p, FRAME_AAD, sizeof FRAME_AAD - 1);
    p += sizeof FRAME_AAD - 1;
    memcpy(p, id->vm, VM_ID_BYTES);
    p += VM_ID_BYTES;
    *p++ = (uint8_t)id->disk;
    *p++ = (uint8_t)(id->disk >> 8);
    store_u64(p, id->first);
    p += 8;
    *p++ = id->blocks;
    *p++ = id->flags;
    memcpy(p, id->seal.salt.bytes, SEAL_SALT_BYTES);
    p += SEAL_SALT_BYTES;
    store_u32(p, id->seal.counter);
}

static bool codec_sealer(struct frame_codec *c, const struct seal_salt *salt, struct err *err)
{
    if (c->sealer != NULL && memcmp(&c->salt, salt, sizeof *salt) == 0)
        return true;
    sealer_release(&c->sealer);
    c->salt = *salt;
    return sealer_make(c->keys, SEAL_DATA, salt, &c->sealer, err);
}

/* Compressed into c->payload, or `plain` itself when that is no shorter. */
static struct span frame_squeeze(struct frame_codec *c, struct span plain, uint8_t *flags)
{
    /* Room for one byte less than `plain`: zstd fails when it cannot gain anything. */
    size_t n = ZSTD_compressCCtx(c->compressor, c->payload, plain.length - 1, plain.data,
                                 plain.length, FRAME_LEVEL);
    if (ZSTD_isError(n)) {
        *flags &= (uint8_t)~FRAME_COMPRESSED;
        return plain;
    }
    *flags |= FRAME_COMPRESSED;
    return span_of(c->payload, n);
}

bool frame_encode(struct frame_codec *c, struct frame_id *id, struct span plain, struct buf *out,
                  struct err *err)
{
    assert(frame_id_valid(id) && plain.length == (size_t)id->blocks * BLOCK_BYTES);
    struct span payload = frame_squeeze(c, plain, &id->flags);
    bool encrypted = id->flags & FRAME_ENCRYPTED;
    size_t bytes = payload.length + (encrypted ? SEAL_TAG_BYTES : 0);
    size_t start = out->length;
    uint8_t *stored = buf_extend(out, bytes);
    if (stored == NULL)
        return buf_ok(out, err);
    if (!encrypted) {
        memcpy(stored, payload.data, payload.length);
        return true;
    }
    uint8_t aad[FRAME_AAD_BYTES];
    frame_aad(id, aad);
    if (codec_sealer(c, &id->seal.salt, err) &&
        seal(c->sealer, id->seal.counter, span_of(aad, sizeof aad), payload,
             mspan_of(stored, bytes), err))
        return true;
    out->length = start;
    return false;
}

/* The payload must say itself that it becomes exactly `plain`, before a byte of it is unpacked. */
static bool frame_unpack(ZSTD_DCtx *decompressor, uint8_t flags, struct span payload,
                         struct mspan plain)
{
    if (!(flags & FRAME_COMPRESSED)) {
        if (payload.length != plain.length)
            return false;
        memcpy(plain.data, payload.data, plain.length);
        return true;
    }
    return payload.length < plain.length &&
           ZSTD_getFrameContentSize(payload.data, payload.length) == plain.length &&
           ZSTD_findFrameCompressedSize(payload.data, payload.length) == payload.length &&
           ZSTD_decompressDCtx(decompressor, plain.data, plain.length, payload.data,
                               payload.length) == plain.length;
}

bool frame_payload_unpack(struct frame_codec *c, const struct frame_id *id, struct span payload,
                          struct mspan plain, struct err *err)
{
    if (frame_unpack(c->decompressor, id->flags, payload, plain))
        return true;
    memset(plain.data, 0, plain.length);
    return err_set(err, ERR_CORRUPT, "the payload does not unpack to %u blocks", id->blocks);
}

static bool frame_open(struct frame_codec *c, const struct frame_id *id, struct span stored,
                       struct mspan plain, struct err *err)
{
    if (!(id->flags & FRAME_ENCRYPTED))
        return frame_payload_unpack(c, id, stored, plain, err);
    if (stored.length <= SEAL_TAG_BYTES || stored.length > plain.length + SEAL_TAG_BYTES)
        return err_set(err, ERR_CORRUPT, "%zu bytes is no length for it", stored.length);
    struct mspan payload = mspan_of(c->payload, stored.length - SEAL_TAG_BYTES);
    uint8_t aad[FRAME_AAD_BYTES];
    frame_aad(id, aad);
    return codec_sealer(c, &id->seal.salt, err) &&
           unseal(c->sealer, id->seal.counter, span_of(aad, sizeof aad), stored, payload, err) &&
           frame_payload_unpack(c, id, span_of_mspan(payload), plain, err);
}

bool frame_decode(struct frame_codec *c, const struct frame_id *id, struct span stored,
                  struct mspan plain, struct err *err)
{
    if (!frame_id_valid(id))
        return err_set(err, ERR_CORRUPT, "a frame of disk %u has an impossible identity",
                       (unsigned)id->disk);
    assert(plain.length == (size_t)id->blocks * BLOCK_BYTES);
    if (frame_open(c, id, stored, plain, err))
        return true;
    return err_wrap(err, "the frame of disk %u, blocks %" PRIu64 " to %" PRIu64, (unsigned)id->disk,
                    id->first, id->first + id->blocks - 1);
}
