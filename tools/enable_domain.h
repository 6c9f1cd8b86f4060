/* SPDX-License-Identifier: MIT
 * enable --domain: the part of enable that takes a libvirt domain under farshore. It is read and
 * checked before anything is made; its disks come under the source mount once the VM is enabled.
 * Between the two stands the file STATE/vms/VM/switch: while it is there the same command goes on
 * from where it was. One thread. */
#ifndef TOOLS_ENABLE_DOMAIN_H
#define TOOLS_ENABLE_DOMAIN_H

#include "tools/failover/source_domain.h"
#include "tools/vm.h"

struct enable_domain {
    struct virt *virt;
    struct source_domain source;
};

void enable_domain_release(struct enable_domain *d); /* a zeroed one is fine */
#define AUTO_ENABLE_DOMAIN CLEANUP(enable_domain_release)

/* Reads the domain that --domain names, and fills settings: domain, mount, disks (stores: those of
 * `--disk NAME,cache=URL,target=URL`, else the VM's). */
bool enable_domain_read(const struct verb_call *call, struct enable_domain *d, struct settings *s,
                        struct err *err) MUST_CHECK;
/* Makes the new files of disks, and the file that says that a switch is under way. `again`: an
 * enable that did not finish goes on. */
bool enable_domain_make(const struct verb_call *call, const struct enable_domain *d,
                        const struct settings *s, bool again, struct err *err) MUST_CHECK;

/* Whether the VM is enabled and its domain not yet on the mount. */
bool enable_domain_pending(const struct verb_call *call, const char *vm);
/* Mounts it and switches the domain's disks; then nothing is pending. When that fails the mount is
 * taken down and the domain is as before, or the text says how it is. */
bool enable_domain_finish(const struct verb_call *call, const struct settings *s,
                          struct err *err) MUST_CHECK;

/* disable: gives the disks of a domain that is off back to it, unmounts, removes the unit. */
bool enable_domain_undo(const struct verb_call *call, const struct settings *s,
                        struct err *err) MUST_CHECK;

#endif
