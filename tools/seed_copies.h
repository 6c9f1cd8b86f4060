/* SPDX-License-Identifier: MIT
 * Copies of disks that a seed is made from, held against QEMU and other mounts while they are read.
 * One thread. */
#ifndef TOOLS_SEED_COPIES_H
#define TOOLS_SEED_COPIES_H

#include "fs/disk/seed.h"
#include "tools/config.h"

struct seed_copies {
    struct seed_copy rows[VM_DISKS_MAX];
    int locks[VM_DISKS_MAX];
    size_t count;
};

void seed_copies_release(struct seed_copies *c);

/* The copy at `path` of disk `d`. ERR_BUSY: somebody writes it. On a read-only file system nobody
 * does. */
bool seed_copies_add(struct seed_copies *c, struct world *w, const struct settings_disk *d,
                     const char *path, struct err *err) MUST_CHECK;

#endif
