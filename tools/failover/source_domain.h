/* SPDX-License-Identifier: MIT
 * What `enable --domain` reads of a libvirt domain before anything is changed: its disks, and how
 * each of them comes under the source mount; its NICs with network, subnet and address; its
 * firmware's variables. Refuses by name what cannot be replicated. Reads only, but for
 * source_domain_make_files. One thread.
 *
 * A domain that is off keeps its raw files: they are protected where they are. One that runs holds
 * its files, so each disk moves to a new file, copied while the guest writes. A qcow2 image becomes
 * a raw file by the same copy, or when off by conversion, if that was asked for. */
#ifndef TOOLS_FAILOVER_SOURCE_DOMAIN_H
#define TOOLS_FAILOVER_SOURCE_DOMAIN_H

#include "tools/failover/networks.h"
#include "tools/failover/protection.h"

struct source_ask {
    const char *domain;
    const char *const *excluded; /* target devices that are left as they are */
    size_t excluded_count;
    bool convert;      /* qcow2 images, too */
    const char *local; /* folder for new files; NULL: each beside the old one */
};

struct source_disk {
    char name[DISK_NAME_MAX + 1]; /* its target device: "vda" */
    char path[PATH_MAX];          /* where the domain has it */
    bool device;                  /* a block device */
    bool qcow2;
    uint64_t size_bytes;  /* as the guest sees it */
    char local[PATH_MAX]; /* what farshore keeps: `path`, or a new file */
    uint64_t room_bytes;  /* that a new file takes at once; 0: none is made */
};

struct source_domain {
    char name[MACHINE_NAME_MAX + 1];
    bool running;
    char *xml; /* as defined */
    struct machine *machine;
    uint16_t disk_count;
    struct source_disk disks[VM_DISKS_MAX];
    uint16_t nic_count;
    struct protection_nic nics[PROTECTION_NICS_MAX];
    uint16_t network_count; /* of the NICs, as XML */
    struct protection_network networks[PROTECTION_NETWORKS_MAX];
    struct buf nvram; /* packed; empty: none */
    struct buf notes; /* lines for people */
};

void source_domain_release(struct source_domain *d); /* a zeroed one is fine */
#define AUTO_SOURCE_DOMAIN CLEANUP(source_domain_release)

/* The disks alone, from the XML as defined and as it runs (NULL: off). Sizes and room are not
 * known yet. ERR_INVALID names the disk and what to do. */
bool source_domain_plan(const struct machine_facts *defined, const struct machine_facts *live,
                        const struct source_ask *ask, struct source_domain *out,
                        struct err *err) MUST_CHECK;
/* All. `out` was zeroed. */
bool source_domain_read(struct world *w, struct virt *v, const struct source_ask *ask,
                        struct source_domain *out, struct err *err) MUST_CHECK;

/* What the target should know of a domain whose disks are on the mount already: machine, NICs and
 * firmware variables as they are now; of its disks those of the settings. */
bool source_domain_look(struct world *w, struct virt *v, const struct settings *s,
                        struct source_domain *out, struct err *err) MUST_CHECK;

/* --- its files: source_files.c --- */

/* Sizes, and the room that new files take at once. */
bool source_domain_measure(struct source_domain *d, struct err *err) MUST_CHECK;
/* Room for the new files, those on one file system together. ERR_FULL says how much is missing, and
 * where; where they fit now but not when they are full, a note does. */
bool source_domain_check_room(struct source_domain *d, struct err *err) MUST_CHECK;
/* Makes the new files: converted, or empty for a domain that runs. `again`: they may be there from
 * an attempt that failed, and are made anew; else a file in the way is ERR_EXISTS. */
bool source_domain_make_files(struct world *w, const struct source_domain *d, bool again,
                              struct err *err) MUST_CHECK;

/* Machine, NICs and firmware variables into the document, without the disks left out; where it has
 * no mapping yet, each network to its namesake. */
bool source_domain_register(const struct source_domain *d, struct protection *p,
                            struct err *err) MUST_CHECK;

/* A line for people into the notes. */
void source_domain_note(struct source_domain *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
