/* SPDX-License-Identifier: MIT
 * umount2(2) for tests that count in blocks: <sys/mount.h> has a BLOCK_BYTES of its own (1024),
 * which silently replaces farshore's. */
#ifndef TESTS_SUPPORT_UNMOUNT_H
#define TESTS_SUPPORT_UNMOUNT_H

/* 0, or -1 and errno: EINVAL when nothing is mounted there. */
int unmount_plainly(const char *path);
int unmount_lazily(const char *path);

#endif
