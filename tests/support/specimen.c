/* SPDX-License-Identifier: MIT */
#include "tests/support/specimen.h"

#include <stdio.h>

#include "common/file.h"
#include "tests/support/check.h"

const uint8_t specimen_vm[VM_ID_BYTES] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                          0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};

struct keys *specimen_keys(uint8_t first)
{
    uint8_t vm_key[VM_KEY_BYTES];
    struct err err = ERR_NONE;
    struct keys *keys = NULL;
    for (size_t i = 0; i < sizeof vm_key; i++)
        vm_key[i] = (uint8_t)(first + i);
    check_ok(keys_from_vm_key(vm_key, &keys, &err), err);
    return keys;
}

struct seal_salt specimen_salt(uint8_t first)
{
    struct seal_salt salt;
    for (size_t i = 0; i < sizeof salt.bytes; i++)
        salt.bytes[i] = (uint8_t)(first + i);
    return salt;
}

uint64_t specimen_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint64_t)((unsigned __int128)*state * 0x2545f4914f6cdd1dull);
}

uint64_t specimen_below(uint64_t *state, uint64_t bound)
{
    return (specimen_random(state) >> 11) % bound;
}

void specimen_noise(void *out, size_t length, uint64_t seed)
{
    uint8_t *p = out;
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < length; i++)
        p[i] = (uint8_t)(specimen_random(&state) >> 56);
}

static bool memory_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct buf *bytes = context;
    if (offset > bytes->length || out.length > bytes->length - offset)
        return err_set(err, ERR_CORRUPT, "a fetch past the end of the run");
    memcpy(out.data, bytes->data + offset, out.length);
    return true;
}

struct run_source specimen_source(struct buf *bytes)
{
    return (struct run_source){.fetch = memory_fetch, .context = bytes, .bytes = bytes->length};
}

void specimen_kept(const char *folder, const char *name, struct span fresh, const char *sha256,
                   struct buf *golden)
{
    char path[4096];
    char hex[2 * SHA256_BYTES + 1];
    struct err err = ERR_NONE;
    snprintf(path, sizeof path, "%s/backend/history/golden/%s", folder, name);
    const char *mode = getenv("FARSHORE_GOLDEN");
    if (mode != NULL && strcmp(mode, "write") == 0)
        check_ok(file_replace(world_real(), path, 0644, fresh, &err), err);
    check_ok(file_load(world_real(), path, 1u << 20, golden, &err), err);
    struct sha256 digest = sha256_of(buf_span(golden));
    hex_of(digest.bytes, sizeof digest.bytes, hex);
    assert_string_equal(hex, sha256);
}

void specimen_golden(const char *folder, const char *name, struct span bytes, const char *sha256)
{
    struct buf golden AUTO_BUF = BUF_NONE;
    specimen_kept(folder, name, bytes, sha256, &golden);
    assert_true(span_equal(buf_span(&golden), bytes));
}

void specimen_damage(struct span bytes, bool (*refused)(void *context, struct span damaged),
                     void *context)
{
    uint8_t *copy AUTO_FREE = malloc(bytes.length + 1);
    assert_non_null(copy);
    for (size_t length = 0; length < bytes.length; length++) {
        /* A block of its own: a sanitizer sees a read past the end. */
        uint8_t *prefix AUTO_FREE = malloc(length + (length == 0));
        memcpy(prefix, bytes.data, length);
        if (!refused(context, span_of(prefix, length)))
            fail_msg("cut to %zu bytes: not refused", length);
    }
    memcpy(copy, bytes.data, bytes.length);
    copy[bytes.length] = 0;
    if (!refused(context, span_of(copy, bytes.length + 1)))
        fail_msg("a byte more: not refused");
    for (size_t bit = 0; bit < bytes.length * 8; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (!refused(context, span_of(copy, bytes.length)))
            fail_msg("bit %zu of byte %zu flipped: not refused", bit % 8, bit / 8);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
