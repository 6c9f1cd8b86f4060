/* SPDX-License-Identifier: MIT
 * A world in memory: files that lose what was not synced, a clock that moves when told, random
 * numbers from a seed, and failures at chosen calls. It is stricter than any one file system: a
 * file's content is safe only after sync, a name only after sync_dir of its folder, and each new
 * folder's own name likewise. Paths start at `/`, which is there from the start. Any thread may
 * call; the same calls in the same order give the same results. */
#ifndef TESTS_SUPPORT_FAKE_WORLD_H
#define TESTS_SUPPORT_FAKE_WORLD_H

#include "common/world.h"

#define FAKE_SECTOR 512u /* what a disk writes whole or not at all */

enum fake_call {
    FAKE_OPEN,
    FAKE_PREAD,
    FAKE_PWRITE,
    FAKE_SYNC,
    FAKE_PUNCH,
    FAKE_TRUNCATE,
    FAKE_NEXT_DATA,
    FAKE_STAT,
    FAKE_RENAME,
    FAKE_UNLINK,
    FAKE_MKDIR,
    FAKE_LINK,
    FAKE_SYNC_DIR,
    FAKE_LIST_DIR,
    FAKE_RANDOM,
    FAKE_ANY, /* counts every call above */
};

struct world *fake_world_make(uint64_t seed); /* aborts when memory is short, like all here */
void fake_world_release(struct world **w);    /* all files are closed before */

/* Time starts at 2026-01-01T00:00:00Z and stands still. */
void fake_world_advance(struct world *w, uint64_t ns);
void fake_world_jump(struct world *w, int64_t ns); /* real time only, as a clock that is set */

/* Random numbers go on as those of `from` do: a machine that was copied with its memory. */
void fake_world_copy_random(struct world *w, struct world *from);

/* The nth call of this kind from now on (from 1) returns -errnum, and so do all later ones when
 * `for_ever`. nth 0: no more failures. A failed call does nothing, except that a failed sync
 * leaves any part of the unsynced writes on the disk and forgets the others, as Linux does. */
void fake_world_fail(struct world *w, enum fake_call which, uint64_t nth, int errnum,
                     bool for_ever);
uint64_t fake_world_calls(struct world *w, enum fake_call which); /* since it was made */
/* Reads and writes transfer less than asked, at least one byte. */
void fake_world_short_transfers(struct world *w, bool on);

/* Power goes and comes back: of what was not synced any part stays, by `seed`, sector by sector
 * and name by name. Failures are switched off; open files answer -EIO and can only be closed;
 * time since boot starts at 0. */
void fake_world_power_cut(struct world *w, uint64_t seed);
/* From the nth call on (from 1) the machine is dead: calls return -EIO and do nothing, syncs too.
 */
void fake_world_stop(struct world *w, uint64_t nth);
bool fake_world_stopped(struct world *w); /* no further call would be made */
bool fake_world_died(struct world *w); /* and one was asked for: all that comes after it is not */
/* What a power cut would decide on now, one by one: each change of names, each new size, and each
 * page of each unsynced write or hole. */
size_t fake_world_units(struct world *w);
/* As fake_world_power_cut, with the choice left to the caller: how many sectors of that unit's page
 * stay, from its first on (`FAKE_WHOLE`: all). A change of names or size stays unless it is 0. */
#define FAKE_WHOLE 8u
typedef unsigned fake_keep_fn(void *context, size_t unit);
void fake_world_power_cut_by(struct world *w, fake_keep_fn *keep, void *context);
/* Unsynced changes, of content and of names: 0 when a power cut would change nothing. */
size_t fake_world_unsynced(struct world *w);

#endif
