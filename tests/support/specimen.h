/* SPDX-License-Identifier: MIT
 * Fixed keys, salts and bytes from which the tests of the stored formats build their specimens,
 * and the comparison with the committed (golden) ones. */
#ifndef TESTS_SUPPORT_SPECIMEN_H
#define TESTS_SUPPORT_SPECIMEN_H

#include "backend/history/run.h"

extern const uint8_t specimen_vm[VM_ID_BYTES];

/* Keys of the VM key `first`, first + 1, ... (32 bytes). */
struct keys *specimen_keys(uint8_t first);
struct seal_salt specimen_salt(uint8_t first);

/* xorshift64*: the same numbers everywhere. The state is any number but 0. */
uint64_t specimen_random(uint64_t *state);
uint64_t specimen_below(uint64_t *state, uint64_t bound);
/* Bytes that no compression shortens. */
void specimen_noise(void *out, size_t length, uint64_t seed);

/* A run in memory as a source; `bytes` outlives the run. */
struct run_source specimen_source(struct buf *bytes);

/* Loads the committed specimen FOLDER/backend/history/golden/NAME and fails the test unless it has
 * this SHA-256. With FARSHORE_GOLDEN=write in the environment, writes `fresh` there first. */
void specimen_kept(const char *folder, const char *name, struct span fresh, const char *sha256,
                   struct buf *golden);
/* The same, and `bytes` made today must be those bytes. */
void specimen_golden(const char *folder, const char *name, struct span bytes, const char *sha256);

/* Calls `refused` with every proper prefix of `bytes`, with one byte more, and with every single
 * bit flipped; it returns whether the decoder refused as it should. */
void specimen_damage(struct span bytes, bool (*refused)(void *context, struct span damaged),
                     void *context);

#endif
