/* SPDX-License-Identifier: MIT
 * The VM key and what comes of it. 32 random bytes give, by HKDF-SHA256 (RFC 5869), a *history
 * key* (runs, records, settings, digests: the processor needs it) and a *data key* (frames).
 * Sealing is AES-256-GCM (NIST SP 800-38D) under a per-object key HKDF(key, salt), with the
 * counter as nonce: (salt, counter) is never used twice, because salts come from fresh random
 * bytes hashed together with what they seal (design 11).
 * A `struct keys` is immutable after it was made: any thread may use it. */
#ifndef BACKEND_HISTORY_KEYS_H
#define BACKEND_HISTORY_KEYS_H

#include "common/buf.h"
#include "common/digest.h"
#include "common/world.h"

#define VM_KEY_BYTES       32u
#define VM_ID_BYTES        16u /* random, made by enable: names the VM in every seal */
#define SEAL_SALT_BYTES    32u
#define SEAL_TAG_BYTES     16u
#define BLOCK_DIGEST_BYTES 16u

struct keys; /* both keys, or the history key alone */

struct block_digest {
    uint8_t bytes[BLOCK_DIGEST_BYTES];
};

struct seal_salt {
    uint8_t bytes[SEAL_SALT_BYTES];
};

bool keys_from_vm_key(const uint8_t vm_key[VM_KEY_BYTES], struct keys **out,
                      struct err *err) MUST_CHECK;
void keys_release(struct keys **keys); /* wipes; NULL inside is fine */
#define AUTO_KEYS CLEANUP(keys_release)

/* The same without the data key, for a processor that copies and verifies frames unopened. */
bool keys_without_data(const struct keys *keys, struct keys **out, struct err *err) MUST_CHECK;

/* The key file: 64 hex digits and a newline, mode 0600 (a wider one is refused). `keys_file_make`
 * refuses to replace. */
bool keys_file_make(struct world *w, const char *path, struct err *err) MUST_CHECK;
bool keys_file_load(struct world *w, const char *path, struct keys **out,
                    struct err *err) MUST_CHECK;

/* 8 bytes that say which key this is without telling anything of it. */
uint64_t keys_id(const struct keys *keys);

/* What a seal is made with. */
enum seal_key { SEAL_HISTORY, SEAL_DATA };

/* One sealing context per object: derived once, used for many counters by one thread. */
struct sealer;
bool sealer_make(const struct keys *keys, enum seal_key which, const struct seal_salt *salt,
                 struct sealer **out, struct err *err) MUST_CHECK;
void sealer_release(struct sealer **s);
#define AUTO_SEALER CLEANUP(sealer_release)

/* `out` gets plain.length + SEAL_TAG_BYTES bytes. */
bool seal(struct sealer *s, uint32_t counter, struct span aad, struct span plain, struct mspan out,
          struct err *err) MUST_CHECK;
/* `out` gets sealed.length - SEAL_TAG_BYTES bytes. ERR_CORRUPT when anything at all differs; `out`
 * is zeroed then. */
bool unseal(struct sealer *s, uint32_t counter, struct span aad, struct span sealed,
            struct mspan out, struct err *err) MUST_CHECK;

/* salt = HMAC-SHA256(salt key of `which`, 32 fresh random bytes, generation, epoch, attempt,
 * content digest). */
bool salt_make(const struct keys *keys, enum seal_key which, struct world *w,
               uint64_t generation_id, uint64_t epoch, uint64_t attempt,
               const struct sha256 *content, struct seal_salt *out, struct err *err) MUST_CHECK;

/* Keyed digest of one whole 4 KiB block (a last partial block is padded with zeros), truncated
 * HMAC-SHA256 under a key that comes of the history key. Allocates nothing, locks nothing. Never
 * all zero and never all 0xff: those mean "a hole" and "unknown" in the digest file. */
struct block_digest keys_block_digest(const struct keys *keys, const uint8_t block[4096]);
/* The same for the sealed bytes of a frame, under another label. */
struct block_digest keys_frame_digest(const struct keys *keys, struct span sealed);

#endif
