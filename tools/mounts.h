/* SPDX-License-Identifier: MIT
 * What is mounted where, from /proc/self/mountinfo, without touching the mounts themselves: a
 * question to a hung or dead FUSE mount would hang too. */
#ifndef TOOLS_MOUNTS_H
#define TOOLS_MOUNTS_H

#include "common/err.h"
#include "common/span.h"

#include <limits.h>

struct mount_entry {
    char point[PATH_MAX];
    char type[64];
    char source[256];
};

/* The absolute path of `dir`, its last part not looked at. */
bool mount_path(const char *dir, char out[PATH_MAX], struct err *err) MUST_CHECK;

/* The uppermost mount at exactly `point`; false when there is none. */
bool mount_find(const char *point, struct mount_entry *out);
/* The same in a given table, for tests. */
bool mount_find_in(struct span table, const char *point, struct mount_entry *out);

/* The VM of a source mount ("" for a recovery mount); false when the entry is not farshore's. */
bool mount_is_ours(const struct mount_entry *e, const char **vm);
/* Whether the uppermost mount at `point` is the source mount of that VM. */
bool mount_is_of(const char *point, const char *vm);

#endif
