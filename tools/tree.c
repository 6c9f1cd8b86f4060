/* SPDX-License-Identifier: MIT */
#include "tools/tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

bool tree_remove(const char *path, struct err *err)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 || errno == ENOENT ||
           err_errno(err, errno, "%s cannot be removed", path);
}
