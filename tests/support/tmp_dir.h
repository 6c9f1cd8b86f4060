/* SPDX-License-Identifier: MIT
 * A folder of a test's own under $TMPDIR, removed with all that is in it. */
#ifndef TESTS_SUPPORT_TMP_DIR_H
#define TESTS_SUPPORT_TMP_DIR_H

#include <limits.h>

struct tmp_dir {
    char path[PATH_MAX];
};

void tmp_dir_make(struct tmp_dir *t); /* aborts when it cannot */
void tmp_dir_remove(struct tmp_dir *t);
/* PATH/name, valid until the calling thread's eighth call from here. */
const char *tmp_dir_path(const struct tmp_dir *t, const char *name);

#endif
