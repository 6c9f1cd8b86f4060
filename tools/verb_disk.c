/* SPDX-License-Identifier: MIT
 * disk: a disk of an enabled VM is added, taken out, or grown; it grows in use as well, the rest
 * waits until the VM is not mounted. Points have it so from then on; older points show what there
 * was. */
#include "fs/disk/marks.h"
#include "fs/disk/source.h"
#include "tools/disk_lock.h"
#include "tools/enable_disk.h"
#include "tools/failover/drain.h"
#include "tools/failover/glance.h"
#include "tools/mounts.h"
#include "tools/output.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define APPLY_S 300u
#define SEEN_S  60u /* that long a mount may be without a worker */
#define SEEN_US 50000u

static const struct option_spec options[] = {
    OPTIONS_END,
};

static struct settings_disk *find(struct settings *s, const char *name)
{
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (strcmp(s->disks[i].name, name) == 0)
            return &s->disks[i];
    return NULL;
}

static bool no_such_disk(const struct settings *s, const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s has no disk %.40s: farshore status %s --json lists them",
                   s->name, name, s->name);
}

/* --- add --- */

/* Runs and frames know a disk by its number, for ever: one that any disk of this VM ever had would
 * show that one's blocks. So all that was shipped is applied, and looked at. */
static bool free_number(struct vm *vm, uint16_t *out, struct err *err)
{
    if (!vm_open_targets(vm, VM_PROCESSES, err) || !vm_open_caches(vm, VM_PROCESSES, err) ||
        !vm_open_history(vm, err) || !drain_cache(vm, APPLY_S, err))
        return err_wrap(err, "a disk is added with both stores at hand");
    unsigned next = history_disk_numbers(vm->history);
    for (uint16_t i = 0; i < vm->settings.disk_count; i++)
        next = vm->settings.disks[i].number >= next ? vm->settings.disks[i].number + 1u : next;
    *out = (uint16_t)next;
    return next <= UINT16_MAX || err_set(err, ERR_FULL, "the VM had as many disks as it can have");
}

static bool add(struct vm *vm, const char *given, struct err *err)
{
    struct settings *s = &vm->settings;
    uint16_t stores = s->store_count, number = 0;
    if (!settings_check_whole(s, "add a disk", err) || !free_number(vm, &number, err) ||
        !enable_disk_add(s, given, err))
        return false;
    struct settings_disk *d = &s->disks[s->disk_count - 1];
    d->number = number;
    if (s->store_count != stores) {
        s->store_count = stores;
        return err_set(err, ERR_INVALID, "a disk that is added has stores that the VM has already");
    }
    return enable_disk_others(vm->call, s, err);
}

/* --- remove --- */

static bool forget(const struct vm *vm, const char *name, struct err *err)
{
    char state[PATH_BYTES_MAX];
    path_state(vm->call->paths, vm->settings.name, state);
    return source_forget_disk(vm->call->world, state, name, err);
}

static bool take_out(struct vm *vm, const char *name, struct err *err)
{
    struct settings *s = &vm->settings;
    struct settings_disk *d = find(s, name);
    if (d == NULL)
        return no_such_disk(s, name, err);
    if (s->disk_count == 1)
        return err_set(err, ERR_INVALID, "%s is the only disk of %s: farshore disable %s", name,
                       s->name, s->name);
    memmove(d, d + 1, (size_t)(&s->disks[s->disk_count] - (d + 1)) * sizeof *d);
    s->disk_count--;
    return true;
}

/* --- grow --- */

static bool grow_file(const struct settings_disk *d, uint64_t bytes, struct err *err)
{
    struct stat st;
    uint64_t now;
    int fd AUTO_FD = open(d->path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !disk_bytes(fd, &now, err))
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    if (now < bytes && !S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "disk %s: %s has %llu bytes: grow the device first",
                       d->name, d->path, (unsigned long long)now);
    /* Synced also with that size: an earlier try may have come no further. */
    if ((now < bytes && ftruncate(fd, (off_t)bytes) != 0) || fsync(fd) != 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    return true;
}

/* Room for the marks of what is new, while all is as it was: a mount that finds none cannot be. */
static bool reserve_marks(const struct paths *p, const struct settings *s,
                          const struct settings_disk *d, uint64_t bytes, struct err *err)
{
    char state[PATH_BYTES_MAX], path[PATH_MAX];
    path_state(p, s->name, state);
    snprintf(path, sizeof path, "%s/%s.marks", state, d->name);
    int fd AUTO_FD = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true; /* never mounted */
    int result = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)marks_file_bytes(bytes));
    return result == 0 || err_errno(err, result, "making room for the marks in %s", path);
}

/* The settings follow the file. */
static bool grow(const struct paths *p, struct settings *s, const char *name, const char *size,
                 struct err *err)
{
    struct settings_disk *d = find(s, name);
    uint64_t bytes;
    if (d == NULL)
        return no_such_disk(s, name, err);
    if (!size_parse(size, DISK_BYTES_MAX, &bytes, err))
        return false;
    if (bytes < d->size_bytes)
        return err_set(err, ERR_INVALID, "disk %s has %llu bytes: a disk cannot shrink", name,
                       (unsigned long long)d->size_bytes);
    if (!settings_check_whole(s, "grow it", err) || !reserve_marks(p, s, d, bytes, err) ||
        !grow_file(d, bytes, err))
        return false;
    d->size_bytes = bytes;
    return true;
}

struct growing {
    const struct verb_call *call;
    uint64_t bytes; /* that it has then */
    bool good;
    struct err *err;
};

/* Under the lock of the settings, so that of two at once each sees what the other did. */
static bool grow_now(void *context, struct settings *now)
{
    struct growing *g = context;
    const struct options *o = g->call->options;
    g->good = (now->role == ROLE_SOURCE ||
               err_set(g->err, ERR_INVALID, "the disks of %s are on another host", now->name)) &&
              grow(g->call->paths, now, o->operands[2], o->operands[3], g->err);
    if (g->good)
        g->bytes = find(now, o->operands[2])->size_bytes;
    return g->good;
}

static bool image_size(const char *image, uint64_t *out, struct err *err)
{
    struct stat st;
    if (stat(image, &st) != 0)
        return err_errno(err, errno, "%s", image);
    *out = (uint64_t)st.st_size;
    return true;
}

/* Until the next worker has said so. The kernel takes no size from an answer while writes are under
 * way; one that it is told to set it does. */
static bool wait_for_size(const char *image, uint64_t bytes, struct err *err)
{
    uint64_t is = 0;
    for (unsigned waited_us = 0; waited_us < SEEN_S * 1000000u; waited_us += SEEN_US) {
        if (!image_size(image, &is, err))
            return false;
        if (is >= bytes)
            return truncate(image, (off_t)is) == 0 || err_errno(err, errno, "%s", image);
        usleep(SEEN_US);
    }
    return err_set(err, ERR_TRANSIENT, "%s: its mount has not taken up the new size: see its log",
                   image);
}

/* In use: the worker is replaced by one that finds the new size in the settings. */
static bool grow_mounted(const struct verb_call *call, const char *vm, const char *point,
                         struct err *err)
{
    struct growing g = {.call = call, .err = err};
    char image[PATH_MAX];
    uint64_t is = 0;
    snprintf(image, sizeof image, "%.*s/%.*s.img", (int)(sizeof image - DISK_NAME_MAX - 6), point,
             (int)DISK_NAME_MAX, call->options->operands[2]);
    if (!settings_change(call->world, call->paths, vm, grow_now, &g, err) || !g.good ||
        !image_size(image, &is, err) || (is < g.bytes && !vm_restart(call, vm, err)) ||
        !wait_for_size(image, g.bytes, err))
        return false;
    printf("%s has %llu bytes; tell who has it open: virsh blockresize, losetup -c\n", image,
           (unsigned long long)g.bytes);
    return true;
}

/* --- the verb --- */

static bool grows(const struct options *o)
{
    return strcmp(o->operands[1], "grow") == 0;
}

static bool change(struct vm *vm, struct err *err)
{
    const struct options *o = vm->call->options;
    const char *what = o->operands[1], *name = o->operands[2];
    if (grows(o))
        return grow(vm->call->paths, &vm->settings, name, o->operands[3], err);
    if (strcmp(what, "add") == 0)
        return add(vm, name, err);
    return strcmp(what, "remove") == 0
               ? take_out(vm, name, err)
               : err_set(err, ERR_INVALID, "disk %.40s: there are add, remove and grow", what);
}

static bool load(const struct verb_call *call, struct vm *vm, struct err *err)
{
    return vm_load(call, call->options->operands[0], vm, err) &&
           (vm->settings.role == ROLE_SOURCE ||
            err_set(err, ERR_INVALID, "the disks of %s are on another host", vm->settings.name));
}

/* Only the lock's owner changes disks; all else may have been set meanwhile. */
static bool take_disks(void *context, struct settings *now)
{
    const struct settings *s = context;
    memcpy(now->disks, s->disks, s->disk_count * sizeof *s->disks);
    now->disk_count = s->disk_count;
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    const struct options *o = call->options;
    struct settings *s = &vm.settings;
    const char *what = o->operands[1], *name = o->operands[2];
    char point[PATH_MAX];
    int lock AUTO_FD = -1;
    if (grows(o) != (o->operand_count == 4))
        return err_set(err, ERR_INVALID, "disk %s: farshore disk VM %s %s", what, what,
                       grows(o) ? "NAME SIZE" : "NAME");
    if (!load(call, &vm, err))
        return false;
    bool mounted = vm_locked(call->paths, s->name, point) && mount_is_of(point, s->name);
    if (mounted && grows(o))
        return grow_mounted(call, s->name, point, err);
    if (mounted)
        return err_set(err, ERR_BUSY, "%s is mounted at %s: stop the VM and farshore unmount %s",
                       s->name, point, point);
    if (!vm_lock(call->paths, s->name, "", &lock, err))
        return false;
    vm_release(&vm); /* who had the lock before may have changed the disks */
    vm = VM_NONE;
    if (!load(call, &vm, err) || !change(&vm, err))
        return false;
    /* Marks and digests of a disk that is gone go last: with the settings as they were they would
     * be missed. */
    if (!settings_change(call->world, call->paths, s->name, take_disks, s, err))
        return false;
    if (strcmp(what, "remove") == 0 && !forget(&vm, name, err))
        return false;
    printf("%s: %u disk%s; from the next mount on\n", s->name, s->disk_count,
           s->disk_count == 1 ? "" : "s");
    return true;
}

const struct verb verb_disk = {
    .name = "disk",
    .summary = "Add, take out or grow a disk of an enabled VM",
    .operands = "VM add NAME=PATH | remove NAME | grow NAME SIZE",
    .operands_least = 3,
    .operands_most = 4,
    .options = options,
    .run = run,
};
