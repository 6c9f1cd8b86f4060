/* SPDX-License-Identifier: MIT */
#include "common/log.h"
#include "fs/mount/recovery_mount.h"
#include "tools/daemon_log.h"
#include "tools/limits.h"
#include "tools/mounts.h"
#include "tools/vm.h"

#include <stdio.h>

#define REFRESH_MS 5000u

static const struct option_spec options[] = {
    {"vm", "VM", false, false, "Show this VM only; else all that are known here."},
    {"writable", "NAME", false, false,
     "Let the views be written: what is written stays local, under NAME."},
    {"foreground", NULL, false, false, "Stay in the foreground, until unmounted."},
    OPTIONS_END,
};

struct shown {
    const struct verb_call *call;
    struct vm *vms;
    struct recovery_vm *rows;
    size_t count;
    struct view_cache *cache;
};

static void shown_release(struct shown *s)
{
    for (size_t i = 0; i < s->count; i++)
        vm_release(&s->vms[i]);
    free(TAKE(s->vms));
    free(TAKE(s->rows));
    view_cache_release(&s->cache);
}

static bool open_vm(struct shown *s, const char *name, struct err *err)
{
    struct vm *vm = &s->vms[s->count++];
    if (!vm_load(s->call, name, vm, err) || !vm_open_targets(vm, VM_LOOKS, err) ||
        !vm_open_history(vm, err))
        return false;
    s->rows[s->count - 1] = (struct recovery_vm){
        .name = vm->settings.name,
        .view = {.history = vm->history,
                 .keys = vm->keys,
                 .targets = vm->targets,
                 .target_count = vm->settings.store_count,
                 .cache = s->cache},
    };
    return true;
}

static bool open_all(void *context, struct recovery_mount_config *config, struct err *err)
{
    struct shown *s = context;
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    const char *only = option_value(s->call->options, "vm", 0);
    if (only == NULL && !vm_names_list(s->call->paths, &names, err))
        return false;
    size_t count = only ? 1 : names.count;
    if (count == 0)
        return err_set(err, ERR_NOT_FOUND, "no VM here: farshore join URL --key FILE");
    s->vms = calloc(count, sizeof *s->vms);
    s->rows = calloc(count, sizeof *s->rows);
    if (s->vms == NULL || s->rows == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!view_cache_make(RECOVERY_CACHE_BYTES, &s->cache, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!open_vm(s, only ? only : names.names[i], err))
            return false;
    config->vms = s->rows;
    config->vm_count = s->count;
    return true;
}

static void cancel_all(void *context)
{
    struct shown *s = context;
    for (size_t i = 0; i < s->count; i++)
        for (uint16_t n = 0; n < s->vms[i].settings.store_count; n++)
            store_cancel(s->vms[i].targets[n], true);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct shown shown CLEANUP(shown_release) = {.call = call};
    const char *name = option_value(call->options, "writable", 0);
    char point[PATH_MAX], scratch[PATH_BYTES_MAX], log_path[PATH_BYTES_MAX];

    if (name && !vm_name_valid(name))
        return err_set(err, ERR_INVALID,
                       "--writable %.80s: use up to 63 of a-z, 0-9, ., _ and -, and begin with a "
                       "letter or digit",
                       name);
    if (!mount_path(call->options->operands[0], point, err))
        return false;
    snprintf(scratch, sizeof scratch, "%s/scratch", call->paths->state);
    if (name && !dir_make(call->world, scratch, 0700, err))
        return false;
    struct err ignored = ERR_NONE; /* without it the log lines go where ours do */
    bool foreground = option_given(call->options, "foreground");
    if (!foreground && !dir_make(call->world, call->paths->state, 0700, &ignored))
        log_warning("no log: %s", ignored.text);
    snprintf(log_path, sizeof log_path, "%.*s/recover.log", (int)sizeof log_path - 16,
             call->paths->state);
    int log AUTO_FD = foreground ? -1 : daemon_log_open(log_path);
    struct recovery_mount_config config = {
        .world = call->world,
        .mount_point = point,
        .open = open_all,
        .cancel = cancel_all,
        .context = &shown,
        .writable_name = name,
        .scratch_folder = name ? scratch : NULL,
        .refresh_ms = REFRESH_MS,
        .foreground = foreground,
        .log_fd = log,
    };
    return recovery_mount_run(&config, err);
}

const struct verb verb_recover = {
    .name = "recover",
    .summary = "Mount every recovery point as a folder of disks",
    .operands = "DIR",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
