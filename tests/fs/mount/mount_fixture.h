/* SPDX-License-Identifier: MIT
 * A real mount of plain files by mount_main, for tests: two disks `a` and `b` in a folder of their
 * own. What a test leaves behind, stop takes away. Tests skip where nothing can be mounted. */
#ifndef TESTS_FS_MOUNT_MOUNT_FIXTURE_H
#define TESTS_FS_MOUNT_MOUNT_FIXTURE_H

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

#include <stdbool.h>
#include <sys/types.h>

#define DISK_A_BYTES ((16u << 20) + 512u * 3u) /* not whole blocks, as a raw file may be */
#define DISK_B_BYTES (4u << 20)

struct mounted {
    struct tmp_dir dir;
    char output[4096]; /* what mount_main said on standard error */
};

void mounted_make(struct mounted *m); /* the files, nothing mounted; skips the test without root */
/* Runs mount_main with `options` (NULL-terminated, or NULL) in front of the folder; its exit code.
 */
int mounted_start(struct mounted *m, const char *const *options);
void mounted_remove(struct mounted *m); /* unmounts what is there, ends the processes; fails on a
                                           sanitizer's report */

const char *mounted_path(const struct mounted *m, const char *name); /* DIR/mnt/name */
bool mounted_is(const struct mounted *m);                            /* listed as mounted? */
/* The process named `comm` that serves this mount; 0: none. */
pid_t mounted_process(const struct mounted *m, const char *comm);
pid_t mounted_worker(const struct mounted *m); /* waits until there is one */
pid_t mounted_keeper(const struct mounted *m);
/* Kills and waits until the process is gone. */
void mounted_kill(pid_t pid, int signal_number);
/* Does a line of what keeper and workers logged contain `text`? */
bool mounted_log_says(const struct mounted *m, const char *text);
/* Polls until `condition` says true; fails the test after half a minute. */
void wait_until(bool (*condition)(const struct mounted *m), const struct mounted *m);
bool nothing_is_left(const struct mounted *m); /* no mount, no process */

#endif
