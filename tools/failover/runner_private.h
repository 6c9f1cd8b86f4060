/* SPDX-License-Identifier: MIT
 * What the files of runner.h share; nobody else includes it. */
#ifndef TOOLS_FAILOVER_RUNNER_PRIVATE_H
#define TOOLS_FAILOVER_RUNNER_PRIVATE_H

#include "tools/failover/machine.h"
#include "tools/failover/runner.h"

/* A line for people. */
bool runner_note(struct buf *notes, struct err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4))) MUST_CHECK;

/* ERR_EXISTS: another machine has the name on this host; it is left alone. */
bool runner_name_free(struct runner *r, const char *name, struct err *err) MUST_CHECK;

/* --- runner_networks.c --- */

/* Where NIC `i` of the document belongs on this host: a setting, the mapping, else the same names.
 */
void runner_place(const struct runner *r, uint16_t i, struct network_place *out);
/* The network of NIC `i`, made when it is missing, and an address in it for `mac`, in `nic`. */
bool runner_connect(struct runner *r, uint16_t i, const char *mac, struct protection_nic *nic,
                    struct buf *notes, struct err *err) MUST_CHECK;
/* A drill's own networks, one for each that the machine has; `nics` come with their macs and get
 * the rest. */
bool runner_isolate(struct runner *r, const struct runner_machine *m, struct protection_nic *nics,
                    struct buf *notes, struct err *err) MUST_CHECK;
bool runner_remove_networks(struct runner *r, const struct runner_machine *m,
                            struct err *err) MUST_CHECK;
/* Gives back what DHCP keeps for the NICs of that domain. */
bool runner_release_addresses(struct runner *r, const char *xml, struct err *err) MUST_CHECK;

#endif
