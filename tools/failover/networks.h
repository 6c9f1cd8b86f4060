/* SPDX-License-Identifier: MIT
 * Networks of virtual machines: what stands in a libvirt network's XML, networks made from others,
 * addresses in them, and the mapping between those of two hosts. A **subnet** is an <ip> of a
 * network; its name is the one that farshore left in the network's metadata, else its CIDR. The
 * XML is the world, bounded like a machine's. One thread per value. */
#ifndef TOOLS_FAILOVER_NETWORKS_H
#define TOOLS_FAILOVER_NETWORKS_H

#include "tools/failover/machine.h"
#include "tools/failover/virt.h"

#define NETWORK_NAME_MAX    63u
#define NETWORK_BRIDGE_MAX  15u
#define NETWORK_SUBNETS_MAX 16u
#define NETWORK_RANGES_MAX  16u
#define NETWORK_HOSTS_MAX   4096u
#define SUBNET_NAME_MAX     63u

struct network_range { /* of DHCP, both inside */
    char first[VIRT_ADDRESS_MAX + 1];
    char last[VIRT_ADDRESS_MAX + 1];
};

struct network_host { /* a DHCP reservation */
    char mac[MAC_CHARS + 1];
    char address[VIRT_ADDRESS_MAX + 1];
    int ip_index;
};

struct subnet {
    char name[SUBNET_NAME_MAX + 1];
    char cidr[VIRT_ADDRESS_MAX + 5];    /* "10.77.0.0/24" */
    char gateway[VIRT_ADDRESS_MAX + 1]; /* the host's own address in it */
    bool ipv6;
    bool dhcp; /* libvirt gives it to one IPv4 subnet of a network at most */
    unsigned prefix;
    int ip_index; /* among all <ip>, as virt_network_host wants it */
    size_t range_count;
    struct network_range ranges[NETWORK_RANGES_MAX];
};

struct network {
    char name[NETWORK_NAME_MAX + 1];
    char uuid[UUID_CHARS + 1];
    char bridge[NETWORK_BRIDGE_MAX + 1];
    char forward[MACHINE_WORD_MAX + 1]; /* "nat", "route", "bridge" ...; "" is isolated */
    char group[MACHINE_NAME_MAX + 1];   /* target resource group, "" for none */
    size_t subnet_count;
    struct subnet subnets[NETWORK_SUBNETS_MAX];
    size_t host_count;
    struct network_host *hosts;
};

/* `out` is overwritten, and released by the caller. ERR_CORRUPT says what is wrong. */
bool network_parse(struct span xml, struct network *out, struct err *err) MUST_CHECK;
void network_release(struct network *n); /* a zeroed one is fine */
#define AUTO_NETWORK CLEANUP(network_release)
/* As it stands on this host. ERR_NOT_FOUND. */
bool network_load(struct virt *v, const char *name, struct network *out,
                  struct err *err) MUST_CHECK;

/* NULL when no subnet holds that address. */
const struct subnet *network_subnet_of(const struct network *n, const char *address);
/* Of that name (or CIDR), else the first; NULL when there is none at all. */
const struct subnet *network_pick_subnet(const struct network *n, const char *name);

/* --- networks made from others; each yields XML for virt_network_make, to be freed --- */

/* A target network: subnets with their names, DHCP ranges and DNS as in `source`; name, uuid and
 * bridge of its own; reservations left out. ERR_INVALID: `source` lies on a bridge or device of
 * its own host, so there is nothing to make here: name a network of this host instead. */
bool network_like(struct world *w, struct span source, const char *name, const char *group,
                  char **out, struct err *err) MUST_CHECK;
/* For one test: no way out, a bridge of its own, the IPv4 subnets of `source`, DHCP with these
 * reservations, no DNS. The host has its address in it as /32 and no route, so that any number of
 * them, and the real network, stand side by side on one host, all with the same addresses. */
bool network_isolated(struct world *w, struct span source, const char *name, const char *group,
                      const struct network_host *hosts, size_t host_count, char **out,
                      struct err *err) MUST_CHECK;

/* --- addresses --- */

/* An address for `mac` in that subnet of the network, kept for it by DHCP: `wanted` (may be "" or
 * of another subnet) when that is free, else what it has there already, else the next free one
 * behind `wanted`, of the DHCP ranges first. Free: no reservation, lease or gateway has it. Written
 * to `out`; *kept (may be NULL): it is `wanted`. ERR_FULL: none is free. IPv4. In a subnet without
 * DHCP the address is chosen all the same, but nothing keeps it: guests there have it configured.
 */
bool network_reserve(struct virt *v, const char *network, const char *subnet, const char *mac,
                     const char *wanted, char out[VIRT_ADDRESS_MAX + 1], bool *kept,
                     struct err *err) MUST_CHECK;
/* The same without changing anything, for --dry-run and the validator. `n` as it is loaded now. */
bool network_would_reserve(struct virt *v, const struct network *n, const char *subnet,
                           const char *mac, const char *wanted, char out[VIRT_ADDRESS_MAX + 1],
                           bool *kept, struct err *err) MUST_CHECK;
/* None there, or no such network, is success. */
bool network_unreserve(struct virt *v, const char *network, const char *mac,
                       struct err *err) MUST_CHECK;

enum address_from {
    ADDRESS_UNKNOWN,
    ADDRESS_RESERVED, /* by DHCP */
    ADDRESS_LEASED,
    ADDRESS_AGENT, /* the guest agent says so */
};
const char *address_from_name(enum address_from from);

/* The IPv4 address of a NIC of this domain, from the first that knows: reservation, lease, guest
 * agent (when it runs). *from ADDRESS_UNKNOWN and "" when none does: that is no error. */
bool nic_address(struct virt *v, const char *domain, const struct machine_nic *nic,
                 char out[VIRT_ADDRESS_MAX + 1], enum address_from *from,
                 struct err *err) MUST_CHECK;

/* --- mapping, kept in both directions --- */

struct network_place {
    char network[NETWORK_NAME_MAX + 1];
    char subnet[SUBNET_NAME_MAX + 1]; /* "" in a row is every subnet */
};

struct network_map {
    struct network_place source, target;
};

/* Where `from` is on the other side: a row for that subnet before one for the whole network. With
 * `back` rows are read from target to source. NULL: no row. */
const struct network_place *network_map_find(const struct network_map *rows, size_t count,
                                             const struct network_place *from, bool back);

#endif
