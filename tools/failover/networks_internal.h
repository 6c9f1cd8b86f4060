/* SPDX-License-Identifier: MIT
 * What networks.c (reading), networks_make.c (new ones) and addresses.c share. */
#ifndef TOOLS_FAILOVER_NETWORKS_INTERNAL_H
#define TOOLS_FAILOVER_NETWORKS_INTERNAL_H

#include "tools/failover/dom.h"
#include "tools/failover/networks.h"

struct ip {
    uint8_t bytes[16];
    unsigned length; /* 4 or 16 */
};

bool ip_parse(const char *text, struct ip *out) MUST_CHECK;
uint32_t ip4_number(const char *text); /* 0 when it is none */
void ip4_text(uint32_t number, char out[VIRT_ADDRESS_MAX + 1]);
uint32_t ip4_mask(unsigned prefix);

/* `out` is released by the caller, also after an error. */
bool network_read(xmlDocPtr doc, struct network *out, struct err *err) MUST_CHECK;

#endif
