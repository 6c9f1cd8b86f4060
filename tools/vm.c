/* SPDX-License-Identifier: MIT */
#include "tools/vm.h"

#include "backend/history/seen.h"
#include "backend/store/attach.h"
#include "tools/disk_lock.h"

#include <time.h>

/* A ship thread that waits for a store cannot say that it does. */
#define SHIP_DEADLINE_MS 10000u
/* Somebody waits for a table of which this is one row. */
#define GLANCE_DEADLINE_MS 10000u
#define CONNECT_TRIES      50u
#define RESTART_MS         60000u
#define CONNECT_PAUSE_MS   100

bool vm_load(const struct verb_call *call, const char *name, struct vm *out, struct err *err)
{
    char path[PATH_BYTES_MAX];
    out->call = call;
    if (!settings_load(call->world, call->paths, name, &out->settings, err))
        return false;
    if (out->settings.role == ROLE_ENABLING)
        return err_set(err, ERR_INVALID,
                       "%s: its enable has not finished: run the same farshore enable again", name);
    path_key(call->paths, name, path);
    if (keys_file_load(call->world, path, &out->keys, err))
        return true;
    if (err->kind == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "%s has no key on this host: copy it from another one to %s, mode 0600",
                       name, path);
    return err_wrap(err, "the key of %s", name);
}

static bool make_bandwidth(struct vm *vm, struct err *err)
{
    return vm->bandwidth != NULL ||
           bandwidth_make(vm->call->world, settings_bandwidth(&vm->settings), NULL, NULL,
                          &vm->bandwidth, err);
}

static bool open_stores(struct vm *vm, bool caches, enum vm_use use, struct err *err)
{
    struct store **stores = caches ? vm->caches : vm->targets;
    char prefix[VM_NAME_MAX + 2];

    bool works = use != VM_GLANCES && use != VM_LOOKS;
    if (works && !make_bandwidth(vm, err))
        return false;
    snprintf(prefix, sizeof prefix, "%s/", vm->settings.name);
    for (uint16_t i = 0; i < vm->settings.store_count; i++) {
        const struct attach_config config = {
            .host = vm->call->host,
            .url = caches ? vm->settings.stores[i].cache : vm->settings.stores[i].target,
            .create = use == VM_ENABLES,
            .lazily = use == VM_SHIPS,
            .check = works,
            .role = use == VM_SHIPS ? STORE_ROLE_SOURCE : STORE_ROLE_PROCESSOR,
            .prefix = prefix,
            .deadline_ms = use == VM_SHIPS     ? SHIP_DEADLINE_MS
                           : use == VM_GLANCES ? GLANCE_DEADLINE_MS
                                               : 0,
            .bandwidth = vm->bandwidth,
        };
        if (!store_attach(&config, &stores[i], err))
            return err_wrap(err, "%s: the %s store", vm->settings.name,
                            caches ? "cache" : "target");
    }
    return true;
}

bool vm_open_caches(struct vm *vm, enum vm_use use, struct err *err)
{
    return open_stores(vm, true, use, err);
}

bool vm_open_targets(struct vm *vm, enum vm_use use, struct err *err)
{
    return open_stores(vm, false, use, err);
}

bool vm_open_history(struct vm *vm, struct err *err)
{
    char state[PATH_BYTES_MAX];
    path_state(vm->call->paths, vm->settings.name, state);
    return history_open(vm->call->world, vm->targets[0], vm->settings.name, vm->keys, &vm->history,
                        err) &&
           history_remember(vm->history, vm->settings.vm, state, err);
}

bool vm_forget_seen(struct vm *vm, struct err *err)
{
    static const char *const logs[] = {"history", "failover"};
    char state[PATH_BYTES_MAX];
    path_state(vm->call->paths, vm->settings.name, state);
    for (size_t i = 0; i < 2; i++) {
        struct seen seen;
        if (!seen_begin(&seen, vm->call->world, state, logs[i], vm->targets[0]->url,
                        vm->settings.vm, err) ||
            !seen_forget(&seen, err))
            return false;
    }
    return true;
}

void vm_release(struct vm *vm)
{
    history_close(&vm->history);
    for (uint16_t i = 0; i < vm->settings.store_count; i++) {
        store_close(&vm->caches[i]);
        store_close(&vm->targets[i]);
    }
    bandwidth_release(&vm->bandwidth);
    keys_release(&vm->keys);
    settings_release(&vm->settings);
}

struct processor_config vm_processor(struct vm *vm)
{
    return (struct processor_config){
        .world = vm->call->world,
        .vm = vm->settings.name,
        .keys = vm->keys,
        .targets = vm->targets,
        .caches = vm->caches,
        .store_count = vm->settings.store_count,
        .fetches = PROCESSOR_FETCHES,
        .id = vm->settings.vm,
    };
}

bool vm_wait_applied(struct vm *vm, uint64_t epoch, uint64_t deadline_ns, struct err *err)
{
    struct world *w = vm->call->world;
    struct settings *s = &vm->settings;
    for (;;) {
        struct processor_progress p;
        if (progress_read(vm->caches[0], s->name, vm->keys, &p, err)) {
            if (p.generation.id == s->generation.id && p.applied_epoch >= epoch)
                return true;
        } else if (err->kind != ERR_NOT_FOUND && err->kind != ERR_TRANSIENT) {
            return false;
        }
        if (w->ops->boottime_ns(w) >= deadline_ns)
            return err_set(err, ERR_TRANSIENT,
                           "%s: durable in the cache store, but not applied in the target in time: "
                           "does farshore process run there?",
                           s->name);
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
}

bool option_wait(const struct options *o, enum wait_for *out, struct err *err)
{
    const char *value = option_value(o, "wait", 0);
    *out = option_given(o, "wait") ? WAIT_CACHE : WAIT_NOTHING;
    if (value == NULL || strcmp(value, "cache") == 0)
        return true;
    *out = WAIT_TARGET;
    return strcmp(value, "target") == 0 ||
           err_set(err, ERR_INVALID, "--wait=%s: give --wait or --wait=target", value);
}

bool command_make(const char *command, cJSON **out, struct err *err)
{
    return json_make(out, err) && json_add_text(*out, "command", command, err);
}

bool vm_connect(const struct verb_call *call, const char *vm, struct control_client **out,
                struct err *err)
{
    char point[PATH_MAX];
    for (unsigned tries = 0; !control_connect(call->paths->run, vm, out, err); tries++) {
        if (err->kind != ERR_NOT_FOUND || !vm_locked(call->paths, vm, point))
            return false;
        if (point[0] == '\0')
            return vm_lock_taken(vm, err);
        if (tries == CONNECT_TRIES)
            return err_set(err, ERR_NOT_FOUND,
                           "%s is mounted at %s, but its worker does not answer: see the log in "
                           "its state folder",
                           vm, point);
        *err = ERR_NONE;
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_PAUSE_MS * 1000000}, NULL);
    }
    return true;
}

bool vm_ask(const struct verb_call *call, const char *vm, const cJSON *request, uint64_t timeout_ms,
            cJSON **out, struct err *err)
{
    struct control_client *c AUTO_CONTROL = NULL;
    return vm_connect(call, vm, &c, err) && control_send(c, request, err) &&
           control_receive(c, timeout_ms, out, err);
}

bool vm_ask_again(const struct verb_call *call, const char *vm, const cJSON *request,
                  uint64_t timeout_ms, cJSON **out, struct err *err)
{
    uint64_t until_ns = call->world->ops->boottime_ns(call->world) + timeout_ms * 1000000ull;
    while (!vm_ask(call, vm, request, timeout_ms, out, err)) {
        if (err->kind != ERR_TRANSIENT || call->world->ops->boottime_ns(call->world) >= until_ns)
            return false;
        *err = ERR_NONE;
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_PAUSE_MS * 1000000}, NULL);
    }
    return true;
}

bool vm_restart(const struct verb_call *call, const char *vm, struct err *err)
{
    cJSON *request AUTO_JSON = NULL;
    return command_make("restart", &request, err) &&
           vm_ask_again(call, vm, request, RESTART_MS, NULL, err);
}
