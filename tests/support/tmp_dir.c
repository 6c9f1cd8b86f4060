/* SPDX-License-Identifier: MIT */
#include "tests/support/tmp_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#define PATHS_KEPT 8

void tmp_dir_make(struct tmp_dir *t)
{
    const char *base = getenv("TMPDIR");
    snprintf(t->path, sizeof t->path, "%s/farshore-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(t->path) == NULL) {
        perror(t->path);
        abort();
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void tmp_dir_remove(struct tmp_dir *t)
{
    if (nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        perror(t->path);
}

const char *tmp_dir_path(const struct tmp_dir *t, const char *name)
{
    static _Thread_local char paths[PATHS_KEPT][PATH_MAX + 256];
    static _Thread_local unsigned next;
    char *path = paths[next++ % PATHS_KEPT];
    snprintf(path, sizeof paths[0], "%s/%s", t->path, name);
    return path;
}
