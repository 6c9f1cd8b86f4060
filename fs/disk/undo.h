/* SPDX-License-Identifier: MIT
 * Old blocks saved by copy before write while a cut is being read: first in memory, then in an
 * undo file without a name (O_TMPFILE-like: made, unlinked, never read after a restart), both
 * bounded. When both are full, saving fails and the cut is abandoned; the guest never waits.
 * Any thread; a block is saved and looked up under its range lock, so never both at once.
 * undo_clear is the ship machine's.
 *
 * A writer may be slow: it decides to save for a cut that is abandoned before it gets to it. Its
 * old block must not turn up in the next cut, so it reads the era before it looks at the cut, and
 * a save of an era that is over is dropped. */
#ifndef FS_DISK_UNDO_H
#define FS_DISK_UNDO_H

#include "common/err.h"
#include "common/extent.h"
#include "common/world.h"

#include <stdatomic.h>

struct undo;

bool undo_make(struct world *w, const char *folder, uint64_t memory_bytes, uint64_t file_bytes,
               struct undo **out, struct err *err) MUST_CHECK;
void undo_release(struct undo **u);

/* Which cut is being saved for; undo_clear ends the era. */
uint32_t undo_era(struct undo *u);
/* False: no room (or the file failed, logged once). A block already saved stays as it is; an era
 * that is over is success and saves nothing. */
bool undo_save(struct undo *u, uint32_t era, size_t disk, uint64_t block,
               const uint8_t data[BLOCK_BYTES]);
bool undo_has(struct undo *u, size_t disk, uint64_t block);
/* Copies the saved block out. *found false: there is none. An I/O error is an error: the cut must
 * be abandoned. Not while undo_clear runs: both are the ship machine's. */
bool undo_load(struct undo *u, size_t disk, uint64_t block, uint8_t out[BLOCK_BYTES], bool *found,
               struct err *err) MUST_CHECK;
/* The cut is over (and no new one has begun): forgets all, and gives the file's room back. Waits
 * for saves under way. */
void undo_clear(struct undo *u);
/* Somebody needs the file's room more: *lost is set, then what the file held goes, and nothing more
 * is saved there in this era. False: it held nothing. Any thread. */
bool undo_give_room(struct undo *u, _Atomic bool *lost);
uint64_t undo_blocks(struct undo *u);

#endif
