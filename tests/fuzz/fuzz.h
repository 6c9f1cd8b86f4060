/* SPDX-License-Identifier: MIT
 * What the fuzz targets share. A target's first byte chooses the way in: sealed formats refuse
 * nearly everything at the seal, so the plain body is also reached behind it. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdio.h>

#include "backend/history/codec_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that holds for every input. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Made once: deriving keys costs more than most inputs. */
static inline const struct keys *fuzz_keys(void)
{
    static struct keys *keys;
    static const uint8_t vm_key[VM_KEY_BYTES] = {1};
    if (keys == NULL)
        FUZZ_CHECK(keys_from_vm_key(vm_key, &keys, NULL));
    return keys;
}

/* The body as an object that the owner of the key has sealed; `tail` in the clear behind it. */
static inline void fuzz_seal(const struct envelope_kind *kind, struct span body, struct span tail,
                             struct buf *out)
{
    static const struct seal_salt salt = {{3}};
    FUZZ_CHECK(envelope_seal(kind, fuzz_keys(), &salt, body, tail, out, NULL));
}

/* A refusal says of what kind it is, and why. */
static inline void fuzz_check_refusal(const struct err *err)
{
    FUZZ_CHECK(err->kind != ERR_OK && err->kind < ERR_KINDS && err->text[0] != '\0');
}

#endif
