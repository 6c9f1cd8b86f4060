/* SPDX-License-Identifier: MIT
 * The vault object `VM/vault`: made by create-if-absent in the target store when a VM is enabled,
 * never removed, and so refuses a second enable. It says, sealed with the history key, what a host
 * that joins must know: the VM's id, its disks and stores. The head (magic, version, key id) is
 * readable without the key, so that the wrong key is told from damage. */
#ifndef BACKEND_HISTORY_VAULT_H
#define BACKEND_HISTORY_VAULT_H

#include "backend/history/epoch.h"

#define VAULT_BYTES_MAX (1u << 20)

/* One pair of stores; index 0 is the VM's own, others belong to single disks. */
struct vault_stores {
    char cache[STORE_URL_MAX];
    char target[STORE_URL_MAX];
};

struct vault {
    uint8_t vm[VM_ID_BYTES];
    char name[VM_NAME_MAX + 1];
    bool encrypted;
    uint64_t created_ms;
    uint16_t disk_count;
    struct epoch_disk disks[VM_DISKS_MAX];
    uint16_t store_count;
    struct vault_stores stores[VM_DISKS_MAX + 1];
};

bool vault_encode(const struct vault *v, const struct keys *keys, const struct seal_salt *salt,
                  struct buf *out, struct err *err) MUST_CHECK;
bool vault_decode(struct span stored, const struct keys *keys, struct vault *out,
                  struct err *err) MUST_CHECK;

#endif
