/* SPDX-License-Identifier: MIT
 * What a failover would make of a VM at its target, as enable --dry-run, status and set show it:
 * what was set, else the default that comes of the source. Pure; any thread. */
#ifndef TOOLS_FAILOVER_TARGET_SHOW_H
#define TOOLS_FAILOVER_TARGET_SHOW_H

#include "tools/failover/protection.h"

/* A line each: "resource-group", "farshore-web". A name may come more than once (nic, disk). */
typedef void target_show_fn(void *context, const char *name, const char *value);
void target_show(const struct protection *p, const struct settings *s, target_show_fn *show,
                 void *context);

/* Where the NIC goes: setting network.N or network, else the mapping, else its namesake. */
void target_show_place(const struct protection *p, unsigned nic, char network[PROTECTION_NAME_MAX],
                       char subnet[PROTECTION_NAME_MAX]);

#endif
