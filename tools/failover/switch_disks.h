/* SPDX-License-Identifier: MIT
 * A domain's disks put on the source mount, and taken off it again. Off, it is one new definition:
 * whole or not at all. Running, each disk is moved while the guest writes; when one cannot be,
 * those moved before it go back. Repeatable: a disk that is where it should be is left. One thread.
 */
#ifndef TOOLS_FAILOVER_SWITCH_DISKS_H
#define TOOLS_FAILOVER_SWITCH_DISKS_H

#include "tools/config.h"
#include "tools/failover/virt.h"

struct switch_disks {
    struct world *world;
    struct virt *virt;
    const struct settings *settings; /* domain, mount, and the disks by target device */
    /* Since when (1970) the files hold what a domain that is off has in others: converted images.
     * 0: they do not. */
    uint64_t copied_ns;
};

/* The VM is mounted. Its disks are then MOUNT/NAME.img, and the guest pauses when one fails. After
 * an error the domain is as before; where that is not so, the text says how it is. */
bool switch_disks_on(const struct switch_disks *s, virt_progress_fn *progress, void *context,
                     struct err *err) MUST_CHECK;
/* The domain is off (ERR_BUSY: it runs). Its disks are then the files themselves, wherever it was
 * stopped half way. A domain that is gone is success. */
bool switch_disks_off(const struct switch_disks *s, struct err *err) MUST_CHECK;

#endif
