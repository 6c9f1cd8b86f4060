/* SPDX-License-Identifier: MIT
 * The low-level SHA-256 of OpenSSL, although newer OpenSSL prefers EVP: its state is a plain value,
 * so a keyed digest of a block starts from a copy of the prepared state, allocates nothing, takes
 * no lock and cannot fail. The rest goes by a library context of our own. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "backend/history/keys.h"

#include "common/file.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <stdatomic.h>

#define LABEL_HISTORY      "farshore history key v1"
#define LABEL_DATA         "farshore data key v1"
#define LABEL_ID           "farshore key id v1"
#define LABEL_SALT         "farshore salt key v1"
#define LABEL_BLOCK_DIGEST "farshore block digest v1"
#define LABEL_FRAME_DIGEST "farshore frame digest v1"
#define LABEL_OBJECT       "farshore object key v1"

#define NONCE_BYTES    12u
#define KEY_FILE_BYTES (2 * VM_KEY_BYTES + 1)

/* HMAC-SHA256 (RFC 2104) after its key block: the states that every message starts from. */
struct hmac_start {
    SHA256_CTX inner;
    SHA256_CTX outer;
};

struct keys {
    uint8_t history[VM_KEY_BYTES];
    uint8_t data[VM_KEY_BYTES];
    uint8_t history_salt[VM_KEY_BYTES];
    uint8_t data_salt[VM_KEY_BYTES];
    struct hmac_start block_digest;
    struct hmac_start frame_digest;
    uint64_t id;
    bool has_data;
};

struct sealer {
    EVP_CIPHER_CTX *encrypt;
    EVP_CIPHER_CTX *decrypt;
};

/* OpenSSL's default context crashes when memory is short while it is made (3.0: EVP_KDF_fetch);
 * one that is made by itself says so. Made once, kept; NULL: out of memory, and tried again. */
static OSSL_LIB_CTX *library(void)
{
    static OSSL_LIB_CTX *_Atomic made;
    OSSL_LIB_CTX *none = NULL, *mine = atomic_load(&made);
    if (mine != NULL)
        return mine;
    mine = OSSL_LIB_CTX_new();
    if (mine == NULL || atomic_compare_exchange_strong(&made, &none, mine))
        return mine;
    OSSL_LIB_CTX_free(mine); /* another thread was first */
    return none;
}

/* --- HKDF-SHA256 (RFC 5869), extract and expand --- */

static bool hkdf(const uint8_t key[VM_KEY_BYTES], struct span salt, const char *label,
                 struct mspan out, struct err *err)
{
    OSSL_LIB_CTX *lib = library();
    EVP_KDF *kdf = lib == NULL ? NULL : EVP_KDF_fetch(lib, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key, VM_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)label,
                                          strlen(label)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.data,
                                          salt.length),
        OSSL_PARAM_construct_end(),
    };
    /* An empty salt is left out: RFC 5869 puts zeros in its place. */
    if (salt.length == 0)
        params[3] = OSSL_PARAM_construct_end();
    bool ok = ctx != NULL && EVP_KDF_derive(ctx, out.data, out.length, params) == 1;
    EVP_KDF_CTX_free(ctx);
    return ok || err_set(err, ERR_IO, "OpenSSL cannot derive a key (HKDF-SHA256)");
}

static bool hkdf_key(const uint8_t key[VM_KEY_BYTES], const char *label, uint8_t out[VM_KEY_BYTES],
                     struct err *err)
{
    return hkdf(key, span_of(NULL, 0), label, mspan_of(out, VM_KEY_BYTES), err);
}

/* --- HMAC from a prepared state --- */

static void hmac_prepare(struct hmac_start *h, const uint8_t key[VM_KEY_BYTES])
{
    uint8_t pad[SHA256_CBLOCK];
    memset(pad, 0x36, sizeof pad);
    for (size_t i = 0; i < VM_KEY_BYTES; i++)
        pad[i] ^= key[i];
    SHA256_Init(&h->inner);
    SHA256_Update(&h->inner, pad, sizeof pad);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&h->outer);
    SHA256_Update(&h->outer, pad, sizeof pad);
    OPENSSL_cleanse(pad, sizeof pad);
}

static struct block_digest hmac_truncated(const struct hmac_start *h, struct span data)
{
    uint8_t full[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx = h->inner;
    SHA256_Update(&ctx, data.data, data.length);
    SHA256_Final(full, &ctx);
    ctx = h->outer;
    SHA256_Update(&ctx, full, sizeof full);
    SHA256_Final(full, &ctx);
    struct block_digest out;
    memcpy(out.bytes, full, sizeof out.bytes);
    return out;
}

static bool all_bytes_are(const struct block_digest *d, uint8_t value)
{
    for (size_t i = 0; i < sizeof d->bytes; i++)
        if (d->bytes[i] != value)
            return false;
    return true;
}

struct block_digest keys_block_digest(const struct keys *keys, const uint8_t block[4096])
{
    struct block_digest d = hmac_truncated(&keys->block_digest, span_of(block, 4096));
    if (all_bytes_are(&d, 0x00) || all_bytes_are(&d, 0xff))
        d.bytes[sizeof d.bytes - 1] ^= 1;
    return d;
}

struct block_digest keys_frame_digest(const struct keys *keys, struct span sealed)
{
    return hmac_truncated(&keys->frame_digest, sealed);
}

/* --- making and releasing --- */

static bool derive_from_history(struct keys *k, struct err *err)
{
    uint8_t digest_key[VM_KEY_BYTES];
    uint8_t id[8];
    bool ok = hkdf(k->history, span_of(NULL, 0), LABEL_ID, mspan_of(id, sizeof id), err) &&
              hkdf_key(k->history, LABEL_SALT, k->history_salt, err) &&
              hkdf_key(k->history, LABEL_BLOCK_DIGEST, digest_key, err);
    if (ok) {
        k->id = load_u64(id);
        hmac_prepare(&k->block_digest, digest_key);
        ok = hkdf_key(k->history, LABEL_FRAME_DIGEST, digest_key, err);
    }
    if (ok)
        hmac_prepare(&k->frame_digest, digest_key);
    OPENSSL_cleanse(digest_key, sizeof digest_key);
    return ok;
}

static struct keys *keys_new(struct err *err)
{
    struct keys *k = calloc(1, sizeof *k);
    if (k == NULL)
        err_set(err, ERR_FULL, "out of memory for the VM key");
    return k;
}

bool keys_from_vm_key(const uint8_t vm_key[VM_KEY_BYTES], struct keys **out, struct err *err)
{
    struct keys *k AUTO_KEYS = keys_new(err);
    if (k == NULL)
        return false;
    k->has_data = true;
    if (!hkdf_key(vm_key, LABEL_HISTORY, k->history, err) ||
        !hkdf_key(vm_key, LABEL_DATA, k->data, err) ||
        !hkdf_key(k->data, LABEL_SALT, k->data_salt, err) || !derive_from_history(k, err))
        return false;
    *out = TAKE(k);
    return true;
}

bool keys_without_data(const struct keys *keys, struct keys **out, struct err *err)
{
    struct keys *k = keys_new(err);
    if (k == NULL)
        return false;
    *k = *keys;
    k->has_data = false;
    OPENSSL_cleanse(k->data, sizeof k->data);
    OPENSSL_cleanse(k->data_salt, sizeof k->data_salt);
    *out = k;
    return true;
}

void keys_release(struct keys **keys)
{
    if (*keys != NULL)
        OPENSSL_cleanse(*keys, sizeof **keys);
    free(*keys);
    *keys = NULL;
}

uint64_t keys_id(const struct keys *keys)
{
    return keys->id;
}

/* --- the key file --- */

bool keys_file_make(struct world *w, const char *path, struct err *err)
{
    uint8_t key[VM_KEY_BYTES];
    char text[KEY_FILE_BYTES + 1];
    int rc = w->ops->random(w, key, sizeof key);
    if (rc < 0)
        return err_errno(err, -rc, "cannot get random bytes for a key");
    hex_of(key, sizeof key, text);
    text[KEY_FILE_BYTES - 1] = '\n';
    bool ok = file_create(w, path, 0600, span_of(text, KEY_FILE_BYTES), err);
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(text, sizeof text);
    return ok || err_wrap(err, "cannot make the key file");
}

static bool key_file_parse(const char *path, char *text, uint64_t bytes, uint8_t key[VM_KEY_BYTES],
                           struct err *err)
{
    bool ok = bytes == KEY_FILE_BYTES && text[KEY_FILE_BYTES - 1] == '\n';
    if (ok) {
        text[KEY_FILE_BYTES - 1] = '\0';
        ok = hex_parse(text, key, VM_KEY_BYTES);
    }
    return ok || err_set(err, ERR_INVALID,
                         "%s is not a farshore key file (64 hex digits and a newline): give the "
                         "file that `farshore enable` made",
                         path);
}

bool keys_file_load(struct world *w, const char *path, struct keys **out, struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    if (!file_open(w, path, O_RDONLY, 0, &file, err))
        return err_wrap(err, "cannot open the key file");
    struct world_stat st;
    int rc = w->ops->stat(file, &st);
    if (rc < 0)
        return err_errno(err, -rc, "cannot examine the key file %s", path);
    if (st.mode & 077)
        return err_set(err, ERR_DENIED,
                       "the key file %s can be read or changed by other users (mode %04o); if "
                       "nobody has copied it: chmod 600 %s",
                       path, (unsigned)st.mode & 07777, path);
    char text[KEY_FILE_BYTES] = {0};
    uint8_t key[VM_KEY_BYTES];
    bool ok = file_read(file, mspan_of(text, sizeof text), 0, err) &&
              key_file_parse(path, text, st.size, key, err) && keys_from_vm_key(key, out, err);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(key, sizeof key);
    return ok;
}

/* --- sealing --- */

static EVP_CIPHER_CTX *gcm_context(const EVP_CIPHER *cipher, const uint8_t key[VM_KEY_BYTES],
                                   int encrypts)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    /* Fixes the key schedule; the 12-byte nonce (GCM's default) follows with each message. */
    if (ctx != NULL && EVP_CipherInit_ex(ctx, cipher, NULL, key, NULL, encrypts) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

bool sealer_make(const struct keys *keys, enum seal_key which, const struct seal_salt *salt,
                 struct sealer **out, struct err *err)
{
    if (which == SEAL_DATA && !keys->has_data)
        return err_set(err, ERR_WRONG_KEY,
                       "this host has the history key alone; the data key is needed to open "
                       "or seal blocks");
    struct sealer *s AUTO_SEALER = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    uint8_t object_key[VM_KEY_BYTES];
    if (!hkdf(which == SEAL_DATA ? keys->data : keys->history,
              span_of(salt->bytes, sizeof salt->bytes), LABEL_OBJECT,
              mspan_of(object_key, sizeof object_key), err))
        return false;
    OSSL_LIB_CTX *lib = library(); /* hkdf had it: not NULL */
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(lib, "AES-256-GCM", NULL);
    if (cipher != NULL) {
        s->encrypt = gcm_context(cipher, object_key, 1);
        s->decrypt = gcm_context(cipher, object_key, 0);
    }
    EVP_CIPHER_free(cipher);
    OPENSSL_cleanse(object_key, sizeof object_key);
    if (s->encrypt == NULL || s->decrypt == NULL)
        return err_set(err, ERR_IO, "OpenSSL cannot start AES-256-GCM");
    *out = TAKE(s);
    return true;
}

void sealer_release(struct sealer **s)
{
    if (*s != NULL) {
        EVP_CIPHER_CTX_free((*s)->encrypt); /* these wipe the key schedules */
        EVP_CIPHER_CTX_free((*s)->decrypt);
    }
    free(*s);
    *s = NULL;
}

static bool gcm_start(EVP_CIPHER_CTX *ctx, uint32_t counter, struct span aad)
{
    uint8_t nonce[NONCE_BYTES] = {0};
    store_u32(nonce, counter);
    int used = 0;
    if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, nonce, -1) != 1)
        return false;
    return aad.length == 0 || EVP_CipherUpdate(ctx, NULL, &used, aad.data, (int)aad.length) == 1;
}

static bool gcm_run(EVP_CIPHER_CTX *ctx, struct span in, uint8_t *out)
{
    int used = 0;
    return in.length == 0 || EVP_CipherUpdate(ctx, out, &used, in.data, (int)in.length) == 1;
}

bool seal(struct sealer *s, uint32_t counter, struct span aad, struct span plain, struct mspan out,
          struct err *err)
{
    assert(plain.length <= INT32_MAX && out.length == plain.length + SEAL_TAG_BYTES);
    uint8_t none[16];
    int used = 0;
    if (gcm_start(s->encrypt, counter, aad) && gcm_run(s->encrypt, plain, out.data) &&
        EVP_CipherFinal_ex(s->encrypt, none, &used) == 1 &&
        EVP_CIPHER_CTX_ctrl(s->encrypt, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES,
                            out.data + plain.length) == 1)
        return true;
    OPENSSL_cleanse(out.data, out.length);
    return err_set(err, ERR_IO, "OpenSSL cannot seal (AES-256-GCM)");
}

bool unseal(struct sealer *s, uint32_t counter, struct span aad, struct span sealed,
            struct mspan out, struct err *err)
{
    if (sealed.length < SEAL_TAG_BYTES || sealed.length > INT32_MAX)
        return err_set(err, ERR_CORRUPT, "sealed bytes of an impossible length");
    assert(out.length == sealed.length - SEAL_TAG_BYTES);
    uint8_t tag[SEAL_TAG_BYTES];
    memcpy(tag, sealed.data + out.length, sizeof tag);
    uint8_t none[16];
    int used = 0;
    if (gcm_start(s->decrypt, counter, aad) &&
        gcm_run(s->decrypt, span_part(sealed, 0, out.length), out.data) &&
        EVP_CIPHER_CTX_ctrl(s->decrypt, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, tag) == 1 &&
        EVP_CipherFinal_ex(s->decrypt, none, &used) == 1)
        return true;
    if (out.length > 0)
        OPENSSL_cleanse(out.data, out.length);
    return err_set(err, ERR_CORRUPT, "the seal does not fit: the bytes are damaged or forged");
}

bool salt_make(const struct keys *keys, enum seal_key which, struct world *w,
               uint64_t generation_id, uint64_t epoch, uint64_t attempt,
               const struct sha256 *content, struct seal_salt *out, struct err *err)
{
    if (which == SEAL_DATA && !keys->has_data)
        return err_set(err, ERR_WRONG_KEY, "this host has the history key alone");
    uint8_t message[32 + 3 * 8 + SHA256_BYTES];
    int rc = w->ops->random(w, message, 32);
    if (rc < 0)
        return err_errno(err, -rc, "cannot get random bytes for a salt");
    store_u64(message + 32, generation_id);
    store_u64(message + 40, epoch);
    store_u64(message + 48, attempt);
    memcpy(message + 56, content->bytes, SHA256_BYTES);
    const uint8_t *key = which == SEAL_DATA ? keys->data_salt : keys->history_salt;
    struct sha256 mac = hmac_sha256(span_of(key, VM_KEY_BYTES), span_of(message, sizeof message));
    memcpy(out->bytes, mac.bytes, sizeof out->bytes);
    return true;
}
