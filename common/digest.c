/* SPDX-License-Identifier: MIT */
#include "common/digest.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Looking an algorithm up by name costs more than digesting a block, so it is done once for the
 * process. Written by make_algorithms under pthread_once, constant from then on. */
static struct {
    pthread_once_t once;
    EVP_MD *sha256;
    EVP_MD *md5;
    EVP_MAC_CTX *hmac; /* has its digest, no key: copied for each use */
} algorithms = {.once = PTHREAD_ONCE_INIT};

/* A digest has no way to fail that a caller could act on: without it nothing may be believed. */
static void must(bool ok)
{
    if (ok)
        return;
    fputs("farshore: OpenSSL cannot compute digests (out of memory, or its default provider is "
          "missing)\n",
          stderr);
    abort();
}

static void make_algorithms(void)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithms.md5 = EVP_MD_fetch(NULL, "MD5", NULL);
    must(algorithms.sha256 != NULL && algorithms.md5 != NULL);
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    must(hmac != NULL);
    algorithms.hmac = EVP_MAC_CTX_new(hmac);
    must(algorithms.hmac != NULL && EVP_MAC_CTX_set_params(algorithms.hmac, params) == 1);
    EVP_MAC_free(hmac);
}

struct sha256 sha256_of(struct span data)
{
    struct sha256 digest;
    pthread_once(&algorithms.once, make_algorithms);
    must(EVP_Digest(data.data, data.length, digest.bytes, NULL, algorithms.sha256, NULL) == 1);
    return digest;
}

struct md5 md5_of(struct span data)
{
    struct md5 digest;
    pthread_once(&algorithms.once, make_algorithms);
    must(EVP_Digest(data.data, data.length, digest.bytes, NULL, algorithms.md5, NULL) == 1);
    return digest;
}

struct sha256 hmac_sha256(struct span key, struct span data)
{
    struct sha256 digest;
    size_t length;
    pthread_once(&algorithms.once, make_algorithms);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(algorithms.hmac);
    must(ctx != NULL);
    /* A NULL key would mean "the key set before": an empty one still needs an address. */
    must(EVP_MAC_init(ctx, key.length > 0 ? key.data : (const uint8_t *)"", key.length, NULL) == 1);
    must(EVP_MAC_update(ctx, data.data, data.length) == 1);
    must(EVP_MAC_final(ctx, digest.bytes, &length, sizeof digest.bytes) == 1);
    must(length == sizeof digest.bytes);
    EVP_MAC_CTX_free(ctx);
    return digest;
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
