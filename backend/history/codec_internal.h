/* SPDX-License-Identifier: MIT
 * What the codecs of backend/history share, and the parsers of their plain bodies: behind a seal
 * only the owner of the key can reach a parser, so tests and fuzzers reach it here. No one else
 * includes this header. */
#ifndef BACKEND_HISTORY_CODEC_INTERNAL_H
#define BACKEND_HISTORY_CODEC_INTERNAL_H

#include "backend/history/epoch.h"
#include "backend/history/record.h"
#include "backend/history/vault.h"

#define DISK_BLOCKS_MAX (DISK_BYTES_MAX >> BLOCK_SHIFT)

/* --- varints: 7 bits a byte, least first, the shortest form only --- */

#define VARINT_BYTES_MAX 10u

void buf_put_varint(struct buf *b, uint64_t v);
/* A longer form than needed, or more than 64 bits, fails the reader. */
uint64_t read_varint(struct reader *r);

/* --- the envelope of epochs, records and vaults: a clear head, a sealed body, a clear tail --- */

#define MAGIC_BYTES         8u
#define FORMAT_VERSION      1u
#define ENVELOPE_HEAD_BYTES (MAGIC_BYTES + 2 + 2 + 8 + SEAL_SALT_BYTES + 4 + 4)

struct envelope_kind {
    const char *noun;  /* for error texts: "epoch entry" */
    const char *magic; /* at most MAGIC_BYTES, padded with zeros */
    size_t bytes_max;  /* of head, body, tag and tail together */
    const uint8_t *vm; /* VM_ID_BYTES, bound in the AAD; NULL: not known yet */
    bool has_tail;     /* whether bytes may follow the sealed body */
};

/* Appends head, sealed `body` and `tail` to `out`. */
bool envelope_seal(const struct envelope_kind *kind, const struct keys *keys,
                   const struct seal_salt *salt, struct span body, struct span tail,
                   struct buf *out, struct err *err) MUST_CHECK;
/* Appends the body to `body`; `tail` borrows from `stored` and is not authenticated here. */
bool envelope_open(const struct envelope_kind *kind, const struct keys *keys, struct span stored,
                   struct buf *body, struct span *tail, struct err *err) MUST_CHECK;

/* The first fields of every clear head: magic, version, flags, key id. */
void head_put(struct buf *out, const char *magic, uint64_t key_id);
bool head_check(struct reader *r, const char *noun, const char *magic, const struct keys *keys,
                struct err *err) MUST_CHECK;

/* How many bytes the envelope at the front of `stored` has, as its head says; 0: there is no whole
 * head. Nothing else of it is looked at. */
size_t envelope_bytes(struct span stored);

/* --- disk tables, shared by epochs, records and vaults --- */

bool disks_valid(const struct epoch_disk *disks, size_t count);
void disks_put(struct buf *out, const struct epoch_disk *disks, uint16_t count);
/* Fails the reader when the table is not valid. */
uint16_t disks_read(struct reader *r, struct epoch_disk disks[VM_DISKS_MAX]);

/* --- fields that several kinds share; a bad value fails the reader --- */

bool generation_valid(struct generation g);
bool epoch_kind_valid(enum epoch_kind kind, enum point_kind point_kind);
void generation_put(struct buf *out, struct generation g);
struct generation generation_read(struct reader *r);
/* What names an object in runs and records: visible ASCII, not empty, shorter than
 * RUN_SEGMENT_NAME_MAX. What it means is its owner's affair. */
bool object_name_valid(const char *name);

/* --- parsers of plain bodies --- */

bool frame_id_valid(const struct frame_id *id);
bool frame_payload_unpack(struct frame_codec *c, const struct frame_id *id, struct span payload,
                          struct mspan plain, struct err *err) MUST_CHECK;

/* `body` is d->memory from offset 0; adds the part table and `tail` to it and points d->entry
 * there. */
bool epoch_body_parse(struct epoch_decoded *d, struct span tail, struct err *err) MUST_CHECK;
bool record_body_parse(struct span body, struct record *out, struct err *err) MUST_CHECK;
bool vault_body_parse(struct span body, struct vault *out, struct err *err) MUST_CHECK;

#endif
