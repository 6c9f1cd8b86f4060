/* SPDX-License-Identifier: MIT
 * The overlays that writable recovery mounts leave in the scratch folder (fs/mount/open_points.h),
 * seen by who discards them. One thread. */
#ifndef TOOLS_FAILOVER_SCRATCH_H
#define TOOLS_FAILOVER_SCRATCH_H

#include "tools/vm.h"

/* Removes what was written under `name` to the VM's points, and the holds that kept the points, in
 * the VM's vault or, after a reprotect, in the one that was left: `left` is its target store, NULL
 * when there is none. Nothing there is success. ERR_BUSY: a mount has it open. */
bool scratch_discard(struct vm *vm, const char *name, const char *left, struct err *err) MUST_CHECK;

#endif
