/* SPDX-License-Identifier: MIT
 * When the mount last wrote a disk's file: a record in the state folder, never synced, so that it
 * outlives the processes and, as late as the kernel writes it back, the boot. What changed the file
 * later was not the mount; where the record is of another boot, what did so two minutes later, or
 * after this boot began: so a disk that was written over in place behind a mount that died is
 * found. The file's time is its ctime, which no tool sets back. Only clocks of one host are
 * compared: on a network file system, or when the clock was set meanwhile, a disk may be compared
 * in vain, or such a write be missed.
 *
 * Any thread but for open and close. */
#ifndef FS_DISK_WRITTEN_H
#define FS_DISK_WRITTEN_H

#include "common/err.h"
#include "common/world.h"

struct written;

bool written_open(struct world *w, const char *path, struct written **out,
                  struct err *err) MUST_CHECK;
void written_close(struct written **w);

/* All is known of that was changed until now, and that there is a note is durable. */
bool written_begin(struct written *w, struct err *err) MUST_CHECK;
/* The file is written now: before a write and after it. Costs a look at the clock, and a small
 * write of its own now and then. */
void written_note(struct written *w);
/* Whether the file changed after the last mount's last write to it, as it was found when this was
 * opened, and in this boot. False where no mount ever made a note. */
bool written_behind(const struct written *w, const struct world_stat *st);

#endif
