/* SPDX-License-Identifier: MIT
 * What a failed-over disk shows where its local file holds nothing yet: the disks of one recovery
 * point, read from far away (design 5). The engine knows no view; whoever makes a source gives it
 * this. It never changes, so a read may be repeated and its bytes kept.
 * Any thread may call, several at once. */
#ifndef FS_DISK_ORIGIN_H
#define FS_DISK_ORIGIN_H

#include "common/err.h"
#include "common/extent.h"
#include "common/span.h"

struct origin {
    void *context;
    /* `disk` is its number in runs. Inside the disk as it was then, or past its end: zeros. Waits
     * for a store that does not answer, for a set time. ERR_IO: the old source itself could not
     * read that block; everything else may pass. */
    bool (*read)(void *context, uint16_t disk, uint64_t offset, struct mspan out, struct err *err);
    /* The first blocks at or after `from` that are not holes; *found false: none. */
    bool (*next_data)(void *context, uint16_t disk, uint64_t from, struct extent *out, bool *found,
                      struct err *err);
};

#endif
