/* SPDX-License-Identifier: MIT
 * The origin of a failed-over VM's disks: a view of the point that its settings name, for the disk
 * engine (fs/disk/origin.h). Opened when first read, so that a mount starts while a store is out of
 * reach; a read waits for it. The owner makes and releases it; any thread reads. */
#ifndef TOOLS_ORIGIN_VIEW_H
#define TOOLS_ORIGIN_VIEW_H

#include "fs/disk/source.h"
#include "tools/vm.h"

#define ORIGIN_WAIT_MS     60000u /* a read of what is out of reach, before it fails */
#define ORIGIN_RETRY_MS    500u
#define ORIGIN_CACHE_BYTES (64ull << 20)

struct origin_view;

/* `vm` has settings with an origin; it is borrowed for this call alone. */
bool origin_view_make(const struct vm *vm, struct origin_view **out, struct err *err) MUST_CHECK;
/* Ends reads that wait, for good: the mount ends. */
void origin_view_cancel(struct origin_view *v);
void origin_view_release(struct origin_view **v); /* nobody reads */

const struct origin *origin_view_origin(struct origin_view *v);
/* What the presence record of that disk must say. */
struct presence_head origin_view_head(const struct vm *vm, const struct settings_disk *disk);
/* Why it is out of reach now; "" when it is not, as far as is known. */
void origin_view_reason(struct origin_view *v, char out[ERR_TEXT_MAX]);

#endif
