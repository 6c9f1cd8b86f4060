/* SPDX-License-Identifier: MIT
 * Where a VM is mounted on this host when farshore does it by itself: setting `mount`, else
 * STATE/mounts/VM. The hypervisor runs as a user of its own and must be able to come by. */
#ifndef TOOLS_FAILOVER_MOUNT_FOLDER_H
#define TOOLS_FAILOVER_MOUNT_FOLDER_H

#include "tools/config.h"

void mount_folder_default(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX]);

/* Makes it. Folders of ours on the way (STATE and below) are opened for passing by; ERR_INVALID
 * names any other that is not: `chmod o+x` it, or mount elsewhere. */
bool mount_folder_make(struct world *w, const struct paths *p, const char *folder,
                       struct err *err) MUST_CHECK;

/* What is mounted there now: false when nothing is. *ours: it is this VM. Never touches the mount
 * itself, which could hang. */
bool mount_folder_used(const char *folder, const char *vm, bool *ours);

#endif
