/* SPDX-License-Identifier: MIT
 * An overlay: local writes over one disk of a view, kept in a scratch folder under (NAME, point,
 * disk), durable to the last fsync, until discarded. A sparse data file holds written blocks, a
 * presence record says which; a block is present or it is read from the view; a discarded block is
 * present and zero. Order of durability: data, sync, presence record, sync, then the reply to
 * fsync. (The other order would serve holes for data after a power cut.)
 * Any thread may call; writes to one block are ordered by a range lock. */
#ifndef FS_VIEW_OVERLAY_H
#define FS_VIEW_OVERLAY_H

#include "fs/view/view.h"

struct overlay;

/* Opens or makes. `folder` is (NAME, point)'s own; `view` is borrowed. A record that names another
 * VM, point or disk is ERR_CORRUPT. Held by a lock: a second opener gets ERR_BUSY. */
bool overlay_open(struct world *w, const char *folder, struct view *view, size_t disk,
                  struct overlay **out, struct err *err) MUST_CHECK;
void overlay_close(struct overlay **o); /* flushes */

bool overlay_read(struct overlay *o, uint64_t offset, struct mspan out, struct err *err) MUST_CHECK;
bool overlay_write(struct overlay *o, uint64_t offset, struct span data,
                   struct err *err) MUST_CHECK;
bool overlay_zero(struct overlay *o, uint64_t offset, uint64_t length, struct err *err) MUST_CHECK;
bool overlay_flush(struct overlay *o, struct err *err) MUST_CHECK;

#endif
