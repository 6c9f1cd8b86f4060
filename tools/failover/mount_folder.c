/* SPDX-License-Identifier: MIT */
#include "tools/failover/mount_folder.h"

#include "tools/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void mount_folder_default(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/mounts/%.*s", p->state, (int)VM_NAME_MAX, vm);
}

/* `path` is `folder` or lies below it. */
static bool is_within(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static bool open_way(const struct paths *p, const char *folder, struct err *err)
{
    struct stat st;
    if (stat(folder, &st) != 0)
        return err_errno(err, errno, "%s", folder);
    if (st.st_mode & S_IXOTH)
        return true;
    if (is_within(folder, p->state))
        return chmod(folder, (st.st_mode & 07777) | S_IXGRP | S_IXOTH) == 0 ||
               err_errno(err, errno, "%s cannot be opened for the hypervisor to pass", folder);
    return err_set(err, ERR_INVALID,
                   "the hypervisor's user cannot pass %s to its disks: chmod o+x %s, or mount "
                   "elsewhere with --mount",
                   folder, folder);
}

bool mount_folder_make(struct world *w, const struct paths *p, const char *folder, struct err *err)
{
    char way[PATH_MAX];
    bool ours;
    if (mount_folder_used(folder, "", &ours))
        return err_set(err, ERR_BUSY, "something is mounted at %s", folder);
    if (!dir_make(w, folder, 0755, err))
        return false;
    snprintf(way, sizeof way, "%s", folder);
    for (size_t i = 1; way[i - 1] != '\0'; i++) {
        if (way[i] != '/' && way[i] != '\0')
            continue;
        char c = way[i];
        way[i] = '\0';
        if (!open_way(p, way, err))
            return false;
        way[i] = c;
        if (c == '\0')
            break;
    }
    return true;
}

bool mount_folder_used(const char *folder, const char *vm, bool *ours)
{
    struct mount_entry e;
    const char *name;
    *ours = false;
    if (!mount_find(folder, &e))
        return false;
    *ours = mount_is_ours(&e, &name) && strcmp(name, vm) == 0;
    return true;
}
