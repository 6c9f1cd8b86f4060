/* SPDX-License-Identifier: MIT
 * enable: what it tells the other hosts of the VM, in the protection document of the vault: where
 * it runs, how its machine looks, and what is to be made of it at the target. One thread. */
#ifndef TOOLS_ENABLE_PROTECT_H
#define TOOLS_ENABLE_PROTECT_H

#include "tools/failover/protection.h"
#include "tools/failover/source_domain.h"
#include "tools/vm.h"

/* Makes `out`, as it will be registered. `source`: NULL without a domain. ERR_INVALID names the
 * option that is wrong. */
bool enable_protect_plan(const struct verb_call *call, const struct source_domain *source,
                         struct protection **out, struct err *err) MUST_CHECK;
/* Puts it into the vault, whose target is open. Repeatable. */
bool enable_protect_register(struct vm *vm, const struct source_domain *source,
                             struct err *err) MUST_CHECK;
/* For --dry-run and the result. */
void enable_protect_print(const struct protection *p, const struct settings *s);

#endif
