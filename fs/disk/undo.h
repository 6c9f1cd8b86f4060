/* SPDX-License-Identifier: MIT
 * Old blocks saved by copy before write while a cut is being read: first in memory, then in an
 * undo file without a name (O_TMPFILE-like: made, unlinked, never read after a restart), both
 * bounded. When both are full, saving fails and the cut is abandoned; the guest never waits.
 * Any thread; a block is saved and looked up under its range lock, so never both at once. */
#ifndef FS_DISK_UNDO_H
#define FS_DISK_UNDO_H

#include "common/err.h"
#include "common/extent.h"
#include "common/world.h"

struct undo;

bool undo_make(struct world *w, const char *folder, uint64_t memory_bytes, uint64_t file_bytes,
               struct undo **out, struct err *err) MUST_CHECK;
void undo_release(struct undo **u);

/* False: no room (or the file failed, logged once). A block already saved stays as it is. */
bool undo_save(struct undo *u, size_t disk, uint64_t block, const uint8_t data[BLOCK_SIZE]);
bool undo_has(struct undo *u, size_t disk, uint64_t block);
/* Copies the saved block out. *found false: there is none. An I/O error is an error: the cut must
 * be abandoned. */
bool undo_load(struct undo *u, size_t disk, uint64_t block, uint8_t out[BLOCK_SIZE], bool *found,
               struct err *err) MUST_CHECK;
void undo_clear(struct undo *u); /* the cut is over */
uint64_t undo_blocks(struct undo *u);

#endif
