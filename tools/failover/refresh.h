/* SPDX-License-Identifier: MIT
 * The machine of a VM read anew from the domain that it runs as on this host, and registered: what
 * was changed since enable (memory, processors, network cards, firmware variables) is then known at
 * the target. One thread. */
#ifndef TOOLS_FAILOVER_REFRESH_H
#define TOOLS_FAILOVER_REFRESH_H

#include "tools/vm.h"

/* `vm` has its targets open, and a domain. The network mapping stays as it is. ERR_INVALID: the VM
 * runs on another host, or the machine cannot move any more. */
bool refresh_machine(struct vm *vm, struct err *err) MUST_CHECK;

#endif
