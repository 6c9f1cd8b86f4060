/* SPDX-License-Identifier: MIT */
#include "tools/seed_copies.h"

#include "common/file.h"
#include "tools/disk_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void seed_copies_release(struct seed_copies *c)
{
    for (size_t i = 0; i < c->count; i++) {
        file_close(&c->rows[i].file);
        if (c->locks[i] >= 0)
            close(c->locks[i]);
    }
}

bool seed_copies_add(struct seed_copies *c, struct world *w, const struct settings_disk *d,
                     const char *path, struct err *err)
{
    struct settings_disk copy = {.number = d->number};
    size_t at = c->count;
    int fd AUTO_FD = open(path, O_RDWR | O_CLOEXEC);
    bool read_only = fd < 0 && errno == EROFS;

    snprintf(copy.name, sizeof copy.name, "%s", d->name);
    snprintf(copy.path, sizeof copy.path, "%s", path);
    c->locks[at] = -1;
    if ((!read_only && !disk_lock(&copy, &c->locks[at], err)) ||
        !file_open(w, path, O_RDONLY, 0, &c->rows[at].file, err)) {
        if (c->locks[at] >= 0)
            close(c->locks[at]);
        return err_wrap(err, "the seed");
    }
    c->rows[at].disk = d->number;
    c->count++;
    return true;
}
