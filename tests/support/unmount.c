/* SPDX-License-Identifier: MIT */
#include "tests/support/unmount.h"

#include <sys/mount.h>

int unmount_plainly(const char *path)
{
    return umount2(path, 0);
}

int unmount_lazily(const char *path)
{
    return umount2(path, MNT_DETACH);
}
