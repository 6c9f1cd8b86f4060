/* SPDX-License-Identifier: MIT
 * The target host of a VM that is failed over: of its setting `hosts`, and, when it is a member of
 * an availability set, away from the other members (placement.h), as far as the VMs that this
 * host knows and their vaults tell. One thread. */
#ifndef TOOLS_FAILOVER_AVAILABILITY_H
#define TOOLS_FAILOVER_AVAILABILITY_H

#include "tools/failover/placement.h"
#include "tools/failover/protection.h"
#include "tools/verb.h"

/* `asked` (NULL: nobody was) is taken even beside other members, with a warning. `strict`: refuse
 * rather than put two members on one host. A member whose vault does not answer does not count; the
 * warning says so. A VM without `hosts` gives "" and no error. */
bool availability_choose(const struct verb_call *call, const char *vm, const struct protection *p,
                         const char *asked, bool strict, struct placement *out,
                         struct err *err) MUST_CHECK;

#endif
