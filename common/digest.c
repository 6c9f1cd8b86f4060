/* SPDX-License-Identifier: MIT
 * The low-level digests of OpenSSL, although newer OpenSSL prefers EVP: their state is a plain
 * value, so they allocate nothing, take no lock and cannot fail, which no caller could act on. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "common/digest.h"

#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/sha.h>

struct sha256 sha256_of(struct span data)
{
    struct sha256 digest;
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, data.data, data.length);
    SHA256_Final(digest.bytes, &ctx);
    return digest;
}

struct md5 md5_of(struct span data)
{
    struct md5 digest;
    MD5_CTX ctx;
    MD5_Init(&ctx);
    MD5_Update(&ctx, data.data, data.length);
    MD5_Final(digest.bytes, &ctx);
    return digest;
}

/* RFC 2104: the digest of `data` behind the key, each of whose bytes is changed by `pad`. */
static struct sha256 padded(const uint8_t key[SHA256_CBLOCK], uint8_t pad, struct span data)
{
    struct sha256 digest;
    uint8_t block[SHA256_CBLOCK];
    SHA256_CTX ctx;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, block, sizeof block);
    SHA256_Update(&ctx, data.data, data.length);
    SHA256_Final(digest.bytes, &ctx);
    OPENSSL_cleanse(block, sizeof block);
    return digest;
}

struct sha256 hmac_sha256(struct span key, struct span data)
{
    uint8_t block[SHA256_CBLOCK] = {0};
    if (key.length > sizeof block) {
        struct sha256 shorter = sha256_of(key);
        memcpy(block, shorter.bytes, sizeof shorter.bytes);
    } else if (key.length > 0) {
        memcpy(block, key.data, key.length);
    }
    struct sha256 inner = padded(block, 0x36, data);
    struct sha256 outer = padded(block, 0x5c, span_of(inner.bytes, sizeof inner.bytes));
    OPENSSL_cleanse(block, sizeof block);
    return outer;
}

bool digests_equal(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

void hex_of(const void *data, size_t length, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * length] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_parse(const char *text, void *out, size_t length)
{
    uint8_t *bytes = out;
    for (size_t i = 0; i < length; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * length] == '\0';
}

void sha256_hex(struct span bytes, char out[2 * SHA256_BYTES + 1])
{
    struct sha256 digest = sha256_of(bytes);
    hex_of(digest.bytes, sizeof digest, out);
}
