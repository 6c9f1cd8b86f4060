/* SPDX-License-Identifier: MIT
 * The variables of a machine's firmware (which disk it boots, its keys): a file of the host beside
 * the disks, small but for padding, so it travels packed. Any thread may call. */
#ifndef TOOLS_FAILOVER_NVRAM_H
#define TOOLS_FAILOVER_NVRAM_H

#include "common/file.h"

#define NVRAM_BYTES_MAX  (64u << 20) /* of the file: what 64-bit ARM has */
#define NVRAM_PACKED_MAX (1u << 20)

/* Appends the file, packed, to `packed`. ERR_NOT_FOUND: the machine has not run yet, which is
 * no harm: libvirt makes the file from its template. ERR_FULL: it does not pack into the bound. */
bool nvram_read(struct world *w, const char *path, struct buf *packed, struct err *err) MUST_CHECK;
/* Replaces the file, mode 0600, of the owner of its folder, which is made when it is missing.
 * `packed` is the world: ERR_CORRUPT. */
bool nvram_write(struct world *w, const char *path, struct span packed, struct err *err) MUST_CHECK;

#endif
