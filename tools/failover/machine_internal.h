/* SPDX-License-Identifier: MIT
 * What machine.c (reading) and machine_edit.c (changing) share. */
#ifndef TOOLS_FAILOVER_MACHINE_INTERNAL_H
#define TOOLS_FAILOVER_MACHINE_INTERNAL_H

#include "tools/failover/dom.h"
#include "tools/failover/machine.h"

struct machine {
    xmlDocPtr doc;
    xmlNodePtr root; /* <domain> */
    struct machine_facts facts;
};

/* Reads the facts anew; after every change. */
bool machine_refresh(struct machine *m, struct err *err) MUST_CHECK;

/* <disk> elements that are disks proper, in order; NULL: no more. NULL `after` is the first. */
xmlNodePtr machine_disk_node(const struct machine *m, xmlNodePtr after);

#endif
