/* SPDX-License-Identifier: MIT
 * The vault of the other direction: where the VM is replicated to after reprotect. Each region has
 * one, and they take turns: a round trip comes back to the first, whose history goes on. */
#ifndef TOOLS_FAILOVER_OTHER_VAULT_H
#define TOOLS_FAILOVER_OTHER_VAULT_H

#include "tools/failover/flow.h"

/* Settings back-cache and back-target, else folders of their own in the stores that the VM has: its
 * target store, which is near, as the cache, and its cache store as the target. */
bool other_vault_stores(const struct flow *f, struct vault_stores *out, struct err *err) MUST_CHECK;

/* The VM over there: key and world of `f`, stores open, and settings with the vault's own tables of
 * stores and disks. `out` is VM_NONE. With `begin`, a vault that is not there is made, with
 * `generation` as its first; else ERR_NOT_FOUND. *made: it was. */
bool other_vault_open(struct flow *f, const struct vault_stores *stores,
                      const struct generation *begin, struct vm *out, bool *made,
                      struct err *err) MUST_CHECK;

#endif
