/* SPDX-License-Identifier: MIT
 * The local files of a failed-over VM on this host: sparse, and nothing present in them, so that at
 * first all is read from the point that they lie over. One thread. */
#ifndef TOOLS_FAILOVER_LOCAL_DISKS_H
#define TOOLS_FAILOVER_LOCAL_DISKS_H

#include "tools/failover/flow.h"

/* Where they go: setting `folder`, else one of this host's own. */
void local_disks_folder(const struct flow *f, char out[PATH_BYTES_MAX]);
/* For each disk of the point a new file FOLDER/DISK.GENERATION.img with its presence record; the
 * settings' disks are then those (not saved). What an earlier try left half made is made anew. */
bool local_disks_make(struct flow *f, const struct history_point *point,
                      struct err *err) MUST_CHECK;
/* Whether any of the settings' disks lies in such a file: a failover, or a revert, brought the VM
 * to where it is. */
bool local_disks_ours(const struct settings *s);
/* Removes the files of the settings' disks that were made so. Others are never touched. */
bool local_disks_remove(struct flow *f, struct err *err) MUST_CHECK;
/* Removes what the state folder knows of disks that are not the VM's any more: marks, digests,
 * journal, the log's place. */
bool local_disks_forget(struct flow *f, struct err *err) MUST_CHECK;

#endif
