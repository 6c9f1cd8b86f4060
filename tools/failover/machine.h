/* SPDX-License-Identifier: MIT
 * A virtual machine as libvirt describes it: the domain XML, read by libxml2 with its network,
 * entities and DTDs off, bounded in bytes and depth. The text is the world: from a host, from a
 * vault. Nothing here talks to libvirt (virt.h does), so a machine of another host can be read,
 * changed and written anywhere. What is not understood is kept as it is. One thread per machine. */
#ifndef TOOLS_FAILOVER_MACHINE_H
#define TOOLS_FAILOVER_MACHINE_H

#include <limits.h>

#include "common/buf.h"
#include "common/world.h"

#define MACHINE_XML_BYTES_MAX (1u << 20)
#define MACHINE_NAME_MAX      200u /* libvirt makes file names of it */
#define MACHINE_DISKS_MAX     64u
#define MACHINE_NICS_MAX      32u
#define MACHINE_WORD_MAX      63u
#define UUID_CHARS            36u
#define MAC_CHARS             17u

struct machine;

enum machine_source {                  /* where the bytes of a disk come from */
                      MACHINE_NOTHING, /* no medium in the drive */
                      MACHINE_FILE,
                      MACHINE_BLOCK,   /* a block device of the host */
                      MACHINE_NETWORK, /* NBD, RBD, iSCSI ... */
                      MACHINE_VOLUME,  /* of a storage pool: `path` is POOL/VOLUME */
                      MACHINE_OTHER,
};

/* Disks proper; drives with removable media (cdrom, floppy) are left out. */
struct machine_disk {
    char target[MACHINE_WORD_MAX + 1]; /* "vda": by this name calls know it */
    enum machine_source source;
    char path[PATH_MAX];
    char format[MACHINE_WORD_MAX + 1]; /* of the driver: "raw", "qcow2"; libvirt's default is raw */
    char bus[MACHINE_WORD_MAX + 1];
    char serial[MACHINE_WORD_MAX + 1];
    bool readonly, shareable;
};

enum machine_link {
    MACHINE_ON_NETWORK, /* a libvirt network */
    MACHINE_ON_BRIDGE,  /* a bridge of the host */
    MACHINE_ON_OTHER,   /* macvtap, user, ... */
};

struct machine_nic {
    char mac[MAC_CHARS + 1]; /* lower case; "" when the text has none */
    enum machine_link link;
    char network[MACHINE_NAME_MAX + 1];
    char portgroup[MACHINE_NAME_MAX + 1];
    char bridge[MACHINE_WORD_MAX + 1];
    char model[MACHINE_WORD_MAX + 1];
};

struct machine_facts {
    char name[MACHINE_NAME_MAX + 1];
    char uuid[UUID_CHARS + 1]; /* "" when the text has none: libvirt would make one */
    uint64_t memory_kib;       /* the most that it may have */
    unsigned vcpus;            /* likewise */
    char loader[PATH_MAX];     /* firmware; "" for the BIOS */
    char nvram[PATH_MAX];      /* file of the firmware's variables; "" for none */
    char nvram_template[PATH_MAX];
    char group[MACHINE_NAME_MAX + 1]; /* target resource group, from farshore's metadata */
    bool tpm;                         /* an emulated TPM, whose state no disk holds */
    bool agent;                       /* a channel for the guest agent */
    size_t disk_count, nic_count;
    struct machine_disk disks[MACHINE_DISKS_MAX];
    struct machine_nic nics[MACHINE_NICS_MAX];
};

/* ERR_CORRUPT: no domain XML, or past a bound; says what is wrong. */
bool machine_parse(struct span text, struct machine **out, struct err *err) MUST_CHECK;
void machine_release(struct machine **m); /* NULL inside is fine; leaves NULL */
#define AUTO_MACHINE CLEANUP(machine_release)

/* As of the last change; belongs to the machine, valid until the next. */
const struct machine_facts *machine_facts(const struct machine *m);
/* NULL when there is none of that name. */
const struct machine_disk *machine_disk(const struct machine *m, const char *target);

/* The text to define it with, to be freed. The same machine gives the same text. */
bool machine_write(const struct machine *m, char **out, struct err *err) MUST_CHECK;

/* --- changes; each refuses with ERR_INVALID what libvirt would not take as such --- */

bool machine_set_name(struct machine *m, const char *name, struct err *err) MUST_CHECK;
bool machine_set_uuid(struct machine *m, const char *uuid, struct err *err) MUST_CHECK;
/* What people see in lists; NULL: none. */
bool machine_set_title(struct machine *m, const char *title, struct err *err) MUST_CHECK;
/* Into metadata of farshore's own, by which what belongs together is found; NULL: none. */
bool machine_set_group(struct machine *m, const char *group, struct err *err) MUST_CHECK;
/* The disk is then this raw file, or this block device; all that described the old source goes.
 * ERR_NOT_FOUND: no such disk. `path` is absolute. */
bool machine_set_disk(struct machine *m, const char *target, enum machine_source file_or_block,
                      const char *path, struct err *err) MUST_CHECK;
bool machine_remove_disk(struct machine *m, const char *target, struct err *err) MUST_CHECK;
/* The guest pauses when a read or write of this disk fails, rather than being told. */
bool machine_stop_on_error(struct machine *m, const char *target, struct err *err) MUST_CHECK;
/* NIC `index` as in the facts is then on that libvirt network; `mac` NULL keeps its own. */
bool machine_set_nic(struct machine *m, size_t index, const char *network, const char *mac,
                     struct err *err) MUST_CHECK;
/* The file of the firmware's variables; it stands in the text whether or not it exists. ERR_INVALID
 * when the machine has no such firmware. */
bool machine_set_nvram(struct machine *m, const char *path, struct err *err) MUST_CHECK;
/* Files that serial ports, consoles and their logs write to are then of that folder, by their old
 * base names. For a copy that runs beside its original; else they are kept. */
bool machine_move_logs(struct machine *m, const char *folder, struct err *err) MUST_CHECK;

/* ERR_INVALID names a device that ties the machine to its host: a passed-through PCI or USB device,
 * a shared host folder. It cannot run elsewhere as it is. */
bool machine_can_move(const struct machine *m, struct err *err) MUST_CHECK;
/* Takes out what holds on the old host alone: labels, aliases, run-time paths and ids, pinning to
 * its CPUs and NUMA nodes, listen addresses of its own, media in removable drives. `notes` (may be
 * NULL) gets a line for people, ending in a newline, for each change that they could miss. */
bool machine_leave_host(struct machine *m, struct buf *notes, struct err *err) MUST_CHECK;
/* For a copy that may run beside its original on one host: console ports, tap devices and the
 * generation id, by which a guest knows that it is a copy, are given by libvirt. */
bool machine_beside(struct machine *m, struct err *err) MUST_CHECK;

/* --- new identities --- */
bool uuid_random(struct world *w, char out[UUID_CHARS + 1], struct err *err) MUST_CHECK;
/* 52:54:00:..., the prefix that libvirt and QEMU use. */
bool mac_random(struct world *w, char out[MAC_CHARS + 1], struct err *err) MUST_CHECK;
/* Six pairs of hex digits; `out` (may be `text`) gets it in lower case. False: is none. */
bool mac_parse(const char *text, char out[MAC_CHARS + 1]) MUST_CHECK;

#endif
