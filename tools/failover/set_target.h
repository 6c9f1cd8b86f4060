/* SPDX-License-Identifier: MIT
 * `farshore set VM target.KEY=VALUE`: the settings of the target and the network mapping, in the
 * protection document. One thread. */
#ifndef TOOLS_FAILOVER_SET_TARGET_H
#define TOOLS_FAILOVER_SET_TARGET_H

#include "tools/failover/protection.h"
#include "tools/vm.h"

/* One `target.KEY=VALUE` into the document, or, of the mapping,
 * `target.network.SOURCE[/SUBNET]=TARGET[/SUBNET]` (SOURCE is no number: that is a NIC's), where
 * an empty value removes the row. Source and target are as the VM runs now. ERR_INVALID. */
bool set_target_take(struct protection *p, const char *given, struct err *err) MUST_CHECK;

/* All of them (`count` texts), by compare-and-set, when the VM's state allows it. `vm` has its
 * targets open. */
bool set_target(struct vm *vm, const char *const *given, size_t count, struct err *err) MUST_CHECK;

#endif
