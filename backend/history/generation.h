/* SPDX-License-Identifier: MIT
 * Names in the stores. A generation is a number and 64 random bits: `g0001-0123456789abcdef`.
 * All keys below are relative to a store's prefix and start with the VM's name.
 *
 *   cache store                                target store (the vault)
 *   VM/GEN/0000000000000012   epoch entry      VM/vault                    made once, never removed
 *   VM/GEN/parts/EPOCH-ATTEMPT-N               VM/history/0000000000000012 history record
 *   VM/progress/0000000000000012               VM/packs/0000000000001024   records from that one on
 *                                              VM/segments/SHA256          frames, then runs
 *                                              VM/pins/NAME                holds and leases
 *                                              VM/failover/0000000000000012  protection document
 *                                              VM/jobs/ID/0000000000000012   job
 *                                              ... /tidied                 entry 0 of it may be
 * gone */
#ifndef BACKEND_HISTORY_GENERATION_H
#define BACKEND_HISTORY_GENERATION_H

#include "backend/store/store.h"

#define VM_NAME_MAX         63u
#define GENERATION_NAME_MAX 32u
#define KEY_MAX             256u

struct generation {
    uint32_t number; /* from 1 */
    uint64_t id;     /* random, never 0 */
};

/* [a-z0-9][a-z0-9._-]{0,62} */
bool vm_name_valid(const char *name);
/* [a-z0-9][a-z0-9_-]{0,30}: a disk's name is a file name in views. */
bool disk_name_valid(const char *name);

void generation_name(struct generation g, char out[GENERATION_NAME_MAX]);
bool generation_parse(const char *name, struct generation *out);

/* Each writes a key of at most KEY_MAX - 1 characters. */
void key_epoch(char out[KEY_MAX], const char *vm, struct generation g, uint64_t epoch);
void key_part(char out[KEY_MAX], const char *vm, struct generation g, uint64_t epoch,
              uint64_t attempt, uint32_t part);
void key_progress(char out[KEY_MAX], const char *vm, uint64_t number);
void key_vault(char out[KEY_MAX], const char *vm);
void key_history(char out[KEY_MAX], const char *vm, uint64_t number);
void key_pack(char out[KEY_MAX], const char *vm, uint64_t first);
void key_segment(char out[KEY_MAX], const char *vm, const char *sha256_hex);
/* `log`: "failover", "jobs/ID" (doclog.h) */
void key_document(char out[KEY_MAX], const char *vm, const char *log, uint64_t number);
void key_pin(char out[KEY_MAX], const char *vm, const char *name);

#endif
