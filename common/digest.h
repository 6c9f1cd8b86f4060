/* SPDX-License-Identifier: MIT
 * Digests: SHA-256 and HMAC-SHA256 by OpenSSL, for chains, names and proofs. Any thread may call.
 */
#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H

#include "common/span.h"

#define SHA256_BYTES 32u

struct sha256 {
    uint8_t bytes[SHA256_BYTES];
};

struct sha256 sha256_of(struct span data);
void sha256_hex(struct span bytes, char out[2 * SHA256_BYTES + 1]); /* the same, as text */
struct sha256 hmac_sha256(struct span key, struct span data);

/* Where a protocol asks for it (Content-MD5); proves nothing against malice. */
#define MD5_BYTES 16u

struct md5 {
    uint8_t bytes[MD5_BYTES];
};

struct md5 md5_of(struct span data);

/* Constant time. */
bool digests_equal(const void *a, const void *b, size_t length);

/* Lower-case hex; `out` holds 2 * length + 1. */
void hex_of(const void *data, size_t length, char *out);
/* False when `text` is not exactly 2 * length hex digits. */
bool hex_parse(const char *text, void *out, size_t length);

#endif
