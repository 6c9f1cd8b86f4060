/* SPDX-License-Identifier: MIT */
#include "fs/disk/source.h"
#include "fs/mount/keeper.h"
#include "tools/daemon_log.h"
#include "tools/disk_lock.h"
#include "tools/failover/glance.h"
#include "tools/mounts.h"
#include "tools/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define GIVE_UP_SECONDS 60u

static const struct option_spec options[] = {
    {"foreground", NULL, false, false, "Stay in the foreground, until unmounted."},
    {"cut-interval", "SECONDS", false, false,
     "Make a recovery point this often (1 to 3600) instead of as set."},
    {"force", NULL, false, false,
     "Mount a VM that was failed over elsewhere: what is written then is in no vault."},
    OPTIONS_END,
};

struct locks {
    int fds[KEEPER_LOCKS_MAX];
    size_t count;
};

static void locks_release(struct locks *l)
{
    while (l->count > 0)
        close(l->fds[--l->count]);
}

/* The VM first: who holds it holds its disks too, and the better message. */
static bool take_locks(const struct verb_call *call, const struct settings *s, const char *point,
                       struct locks *l, struct err *err)
{
    char folder[PATH_BYTES_MAX];
    path_state(call->paths, s->name, folder); /* lost with its state, the worker finds out what */
    if (!dir_make(call->world, folder, 0700, err) ||
        !vm_lock(call->paths, s->name, point, &l->fds[0], err))
        return false;
    l->count = 1;
    for (uint16_t i = 0; i < s->disk_count; i++, l->count++)
        if (!disk_lock(&s->disks[i], &l->fds[l->count], err))
            return false;
    return true;
}

/* The daemon's log, beside the VM's state. */
static int open_log(const struct verb_call *call, const char *vm)
{
    char path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    path_state(call->paths, vm, folder);
    snprintf(path, sizeof path, "%.*s/mount.log", (int)sizeof path - 16, folder);
    return daemon_log_open(path);
}

static bool check_no_disk_below(const struct settings *s, const char *point, struct err *err)
{
    size_t length = strlen(point);
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (strncmp(s->disks[i].path, point, length) == 0 && s->disks[i].path[length] == '/')
            return err_set(err, ERR_INVALID,
                           "disk %s lies below %s, where the mount would hide it: mount elsewhere",
                           s->disks[i].name, point);
    return true;
}

static bool keep(const struct verb_call *call, const struct settings *s, const char *point,
                 const struct locks *locks, struct err *err)
{
    uint64_t sizes[VM_DISKS_MAX];
    const char *interval = option_value(call->options, "cut-interval", 0);
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return err_errno(err, errno, "/proc/self/exe");
    program[length] = '\0';
    settings_sizes(s, sizes);
    size_t memory_bytes = source_memory_bytes(sizes, s->disk_count);
    if (s->origin.generation.number != 0)
        memory_bytes += source_origin_memory_bytes(sizes, s->disk_count);
    /* Without the option each worker takes the setting as it then is. */
    char *argv[] = {program,          (char[]){"worker"},
                    (char *)s->name,  interval ? (char[]){"--cut-interval"} : NULL,
                    (char *)interval, NULL};
    bool foreground = option_given(call->options, "foreground");
    int log AUTO_FD = foreground ? -1 : open_log(call, s->name);
    struct keeper_config config = {
        .mount_point = point,
        .vm = s->name,
        .memory_bytes = memory_bytes,
        .worker_argv = argv,
        .lock_fds = locks->fds,
        .lock_count = locks->count,
        .foreground = foreground,
        .log_fd = log,
        .give_up_seconds = GIVE_UP_SECONDS,
    };
    return keeper_run(&config, err);
}

/* The folder given, else the setting. */
static bool find_point(const struct verb_call *call, const struct settings *s, char out[PATH_MAX],
                       struct err *err)
{
    const struct options *o = call->options;
    if (o->operand_count > 1)
        return mount_path(o->operands[1], out, err);
    if (s->machine->mount[0] == '\0')
        return err_set(err, ERR_INVALID, "say where: farshore mount %s DIR", s->name);
    return mount_path(s->machine->mount, out, err);
}

/* A host that the VM has left, while this one was off perhaps, does not run it by mistake. */
static bool check_here(const struct verb_call *call, const struct settings *s, struct err *err)
{
    return option_given(call->options, "force") || glance_here(call, s, err) ||
           err_wrap(err, "not mounted (--force would)");
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct locks locks CLEANUP(locks_release) = {.count = 0};
    struct settings *s = &vm.settings;
    char point[PATH_MAX];

    if (!vm_load(call, call->options->operands[0], &vm, err) || !find_point(call, s, point, err) ||
        !check_here(call, s, err))
        return false;
    if (s->role != ROLE_SOURCE)
        return err_set(err, ERR_INVALID,
                       "%s is replicated to this host, its disks are elsewhere: farshore recover "
                       "DIR shows its points",
                       s->name);
    if (!option_number(call->options, "cut-interval", s->cut_interval_s, 1, CUT_INTERVAL_MAX_S,
                       &s->cut_interval_s, err) ||
        !check_no_disk_below(s, point, err) || !take_locks(call, s, point, &locks, err))
        return false;
    return keep(call, s, point, &locks, err);
}

const struct verb verb_mount = {
    .name = "mount",
    .summary = "Mount a VM's disks, tracked and shipped",
    .operands = "VM [DIR]",
    .operands_least = 1,
    .operands_most = 2,
    .options = options,
    .run = run,
};
