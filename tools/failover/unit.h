/* SPDX-License-Identifier: MIT
 * The systemd unit that mounts a VM at boot, before libvirt starts its domains. Where systemd does
 * not run there is none, and a person is told what to do. One thread. */
#ifndef TOOLS_FAILOVER_UNIT_H
#define TOOLS_FAILOVER_UNIT_H

#include "tools/config.h"

struct unit_place {
    const char *folder;    /* "/etc/systemd/system" */
    const char *systemctl; /* program */
};

/* False: systemd is not the init of this host. */
bool unit_place_find(struct unit_place *out);

/* "farshore-VM.service" */
void unit_name(const char *vm, char *out, size_t size);
/* Its text. `binary` is farshore's own path; the folders are told where they are not the default.
 */
bool unit_write(const struct paths *p, const char *binary, const char *vm, const char *mount,
                struct buf *out, struct err *err) MUST_CHECK;
/* Writes it, and has systemd start it at each boot, and, unless the VM is mounted already, now. */
bool unit_enable(struct world *w, const struct unit_place *place, const struct paths *p,
                 const char *vm, const char *mount, bool mounted, struct err *err) MUST_CHECK;
/* Stops it (which unmounts) and removes it; a missing one is success. */
bool unit_disable(struct world *w, const struct unit_place *place, const char *vm,
                  struct err *err) MUST_CHECK;

#endif
