/* SPDX-License-Identifier: MIT */
#include "tools/failover/scratch.h"

#include "backend/history/pin.h"
#include "backend/store/attach.h"
#include "tools/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_POLL_MS 50u
#define LOCK_WAIT_MS 60000u

static void cleanup_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

static bool remove_left(struct vm *vm, const char *left, const char *pin, struct err *err)
{
    struct store *target AUTO_STORE = NULL;
    const struct attach_config config = {.host = vm->call->host, .url = left};
    struct err why = ERR_NONE;
    if (store_attach(&config, &target, &why))
        return pin_remove(target, vm->settings.name, pin, err);
    if (why.kind == ERR_NOT_FOUND)
        return true; /* no vault was made there yet */
    *err = why;
    return err_wrap(err, "the vault that %s has left", vm->settings.name);
}

/* The vault that was left is only asked when it must be. */
static bool remove_pin(struct vm *vm, const char *left, const char *pin, struct err *err)
{
    char key[KEY_MAX];
    uint64_t bytes;
    struct err why = ERR_NONE;
    key_pin(key, vm->settings.name, pin);
    if (left == NULL || store_size(vm->targets[0], key, &bytes, &why))
        return pin_remove(vm->targets[0], vm->settings.name, pin, err);
    if (why.kind == ERR_NOT_FOUND)
        return remove_left(vm, left, pin, err);
    *err = why;
    return false;
}

/* The hold first: its name is known here alone. */
static bool release_hold(struct vm *vm, const char *folder, const char *point, const char *left,
                         struct err *err)
{
    struct buf name AUTO_BUF = BUF_NONE;
    char path[PATH_MAX], pin[PIN_NAME_MAX + 1];
    snprintf(path, sizeof path, "%s/%s/hold", folder, point);
    if (!file_load(vm->call->world, path, PIN_NAME_MAX, &name, err)) {
        bool none = err->kind == ERR_NOT_FOUND;
        if (none)
            *err = ERR_NONE;
        return none;
    }
    snprintf(pin, sizeof pin, "%.*s", (int)name.length, (const char *)name.data);
    return remove_pin(vm, left, pin, err);
}

static bool release_holds(struct vm *vm, const char *folder, const char *left, struct err *err)
{
    DIR *d CLEANUP(cleanup_dir) = opendir(folder);
    if (d == NULL)
        return err_errno(err, errno, "%s", folder);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, "lock") != 0 &&
            !release_hold(vm, folder, e->d_name, left, err))
            return false;
    return true;
}

/* A mount that was just unmounted holds it for as long as its last flush takes. */
static bool lock_in_time(int fd)
{
    for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited_ms += LOCK_POLL_MS) {
        if (waited_ms >= LOCK_WAIT_MS)
            return false;
        usleep(LOCK_POLL_MS * 1000);
    }
    return true;
}

bool scratch_discard(struct vm *vm, const char *name, const char *left, struct err *err)
{
    char above[PATH_BYTES_MAX], folder[PATH_MAX], lock[PATH_MAX];
    snprintf(above, sizeof above, "%.900s/scratch/%.100s", vm->call->paths->state, name);
    snprintf(folder, sizeof folder, "%s/%s", above, vm->settings.name);
    snprintf(lock, sizeof lock, "%.3000s/lock", folder);
    int fd AUTO_FD = open(lock, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || err_errno(err, errno, "%s", lock);
    if (!lock_in_time(fd))
        return err_set(err, ERR_BUSY, "the overlays of %s under %s are in use by a mount",
                       vm->settings.name, name);
    if (!release_holds(vm, folder, left, err) || !tree_remove(folder, err))
        return false;
    rmdir(above); /* other VMs may have overlays under that name */
    return true;
}
