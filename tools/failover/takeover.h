/* SPDX-License-Identifier: MIT
 * This host becomes the VM's source at a point of its vault: what failover, change of point and
 * revert share. Everything is named by the new generation, which the protection document holds
 * before anything is made, so each step may be repeated after a kill. One thread. */
#ifndef TOOLS_FAILOVER_TAKEOVER_H
#define TOOLS_FAILOVER_TAKEOVER_H

#include "tools/failover/flow.h"

/* Begins protection->failover.generation in the vault behind its parent, fences the writers before,
 * and keeps the point by a hold. *fence_pending: the cache is out of reach, the fence comes later.
 */
bool takeover_claim(struct flow *f, bool *fence_pending, struct err *err) MUST_CHECK;
/* Makes the local files over the point and writes the settings that say so. `replicate`: it ships
 * at once, into the same vault (revert). Nothing is mounted. */
bool takeover_disks(struct flow *f, bool replicate, struct err *err) MUST_CHECK;
/* Mounts, makes the machine and starts it. *resumed_ms: since when it runs. */
bool takeover_start(struct flow *f, uint64_t *resumed_ms, struct err *err) MUST_CHECK;
/* The other way: ends the machine (the plug is pulled), unmounts, removes the local files of the
 * failover that brought the VM here, and its hold. This host is a target again. */
bool takeover_undo(struct flow *f, struct err *err) MUST_CHECK;
/* A choice that gives way to another one, before the document says so: keeps its point no longer,
 * unless what is here is made of it, which takeover_undo sees to. */
bool takeover_forgo(struct flow *f, struct err *err) MUST_CHECK;
/* What is here is of an earlier choice than the document's: it is undone before anything is made.
 */
bool takeover_stale(const struct flow *f);
/* What is on this host, `host`, is of a failover that was ended without it: it runs elsewhere now.
 */
bool takeover_left(const struct settings *s, const struct protection *p, const char *host);

#endif
