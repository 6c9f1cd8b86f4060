/* SPDX-License-Identifier: MIT */
#include "tools/disk_lock.h"
#include "tools/enable_domain.h"
#include "tools/enable_seed.h"
#include "tools/failover/dispatch.h"
#include "tools/failover/glance.h"
#include "tools/vm.h"

#include <errno.h>
#include <fcntl.h>

#define KEYS_AT_ONCE 1024u
#define PASSES_MAX   8u

static const struct option_spec options[] = {
    {"purge", NULL, false, false, "Delete the vault, what waits in the cache, and the key."},
    {"yes", "VM", false, false, "The VM's name again, to confirm --purge."},
    {"force", NULL, false, false,
     "Though its disks, here or on another host, still lack what only the vault has: it is lost."},
    OPTIONS_END,
};

/* --- what the stores hold of the VM --- */

struct batch {
    char (*keys)[STORE_KEY_MAX + 1];
    size_t count;
};

static bool take_key(void *context, const char *key, uint64_t bytes)
{
    (void)bytes;
    struct batch *b = context;
    snprintf(b->keys[b->count++], STORE_KEY_MAX + 1, "%s", key);
    return b->count < KEYS_AT_ONCE;
}

/* All that a list shows now, but `last`. */
static bool remove_listed(struct store *s, const char *vm, const char *last, size_t *removed,
                          struct err *err)
{
    char prefix[VM_NAME_MAX + 2], after[STORE_KEY_MAX + 1];
    struct batch b = {.keys = NULL};
    char(*keys)[STORE_KEY_MAX + 1] AUTO_FREE = calloc(KEYS_AT_ONCE, sizeof *keys);
    if (keys == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    b.keys = keys;
    snprintf(prefix, sizeof prefix, "%s/", vm);
    snprintf(after, sizeof after, "%s", prefix);
    do {
        b.count = 0;
        if (!store_list(s, prefix, after, take_key, &b, err))
            return false;
        for (size_t i = 0; i < b.count; i++) {
            memcpy(after, b.keys[i], sizeof after);
            if (strcmp(b.keys[i], last) == 0)
                continue;
            if (!store_remove(s, b.keys[i], err))
                return false;
            ++*removed;
        }
    } while (b.count == KEYS_AT_ONCE);
    return true;
}

/* `last` goes last: while it is there, the same command can be repeated. Agents and a processor
 * that have not found out yet may have put something meanwhile. */
static bool remove_all(struct store *s, const char *vm, const char *last, size_t *removed,
                       struct err *err)
{
    size_t before;
    unsigned passes = 0;
    do {
        before = *removed;
        if (!remove_listed(s, vm, last, removed, err))
            return false;
    } while (*removed > before && ++passes < PASSES_MAX);
    return store_remove(s, last, err);
}

static bool purge(struct vm *vm, size_t *removed, struct err *err)
{
    char key[KEY_MAX];
    const struct settings *s = &vm->settings;
    key_history(key, s->name, 0); /* without which it is none: who comes again asks no more */
    if (!store_remove(vm->targets[0], key, err))
        return false;
    key_vault(key, s->name);
    for (uint16_t i = s->store_count; i-- > 0;)
        if (!remove_all(vm->caches[i], s->name, key, removed, err) ||
            !remove_all(vm->targets[i], s->name, key, removed, err))
            return err_wrap(err, "the purge is not done, the same command goes on");
    return true;
}

/* What the vault says, as long as no purge of it was begun. */
static bool read_document(struct vm *vm, struct protection **out, struct err *err)
{
    char at[PATH_BYTES_MAX], key[KEY_MAX];
    uint64_t bytes;
    key_history(key, vm->settings.name, 0);
    *out = NULL;
    if (!store_size(vm->targets[0], key, &bytes, err))
        return err->kind == ERR_NOT_FOUND;
    path_key(vm->call->paths, vm->settings.name, at);
    if (!keys_file_load(vm->call->world, at, &vm->keys, err))
        return err_wrap(err, "the key of %s, to ask its vault who needs it", vm->settings.name);
    struct doclog_vault vault = vm_vault(vm);
    vault.state[0] = '\0'; /* shorter than this host has seen it is no rollback here */
    return protection_load(&vault, out, err);
}

/* Also on a host whose name was another one when the vault was made. */
static bool runs_here(const struct settings *s, const struct protection *p, const char *host)
{
    const struct generation *g = &p->failover.generation;
    return p->source_host[0] == '\0' || strcmp(p->source_host, host) == 0 ||
           (s->role == ROLE_SOURCE && (g->number == 0 || g->id == s->generation.id));
}

/* Where the VM runs is who decides: its disks may lack what only the vault has, and without it
 * nothing protects them. */
static bool check_needed(struct vm *vm, struct err *err)
{
    struct protection *p AUTO_PROTECTION = NULL;
    const struct settings *s = &vm->settings;
    struct host_config me;
    if (option_given(vm->call->options, "force") || s->role == ROLE_ENABLING)
        return true;
    const char *refused = "the vault is not purged (--force does it)";
    if (!host_config_load(vm->call->world, vm->call->paths, &me, err) ||
        !read_document(vm, &p, err))
        return err_wrap(err, "%s", refused);
    if (p == NULL)
        return true;
    if (!states_check(STATES_DISABLE, s->name, p->state,
                      (struct states_facts){.drills = p->test_count > 0}, err))
        return err_wrap(err, "%s", refused);
    if (p->successor.target[0] != '\0')
        return err_set(err, ERR_BUSY,
                       "%s: %s is protected by way of %s now, and comes back by this one", refused,
                       s->name, p->successor.target);
    return runs_here(s, p, me.name) ||
           err_set(err, ERR_BUSY,
                   "%s runs on host %s, which may need the vault: farshore disable %s --purge "
                   "there, or without --purge here; --force purges it all the same",
                   s->name, p->source_host, s->name);
}

/* --- what this host holds --- */

/* A VM's state folder holds files only. */
static bool remove_state(const struct verb_call *call, const char *vm, struct err *err)
{
    char path[PATH_BYTES_MAX];
    path_state(call->paths, vm, path);
    return dir_empty(call->world, path, err) &&
           (rmdir(path) == 0 || errno == ENOENT || err_errno(err, errno, "%s", path));
}

/* Settings go last: as long as they are there, the same command can be repeated. And what is left
 * of the state then, marks and digests, would be believed by the next VM of that name. */
static bool forget(const struct verb_call *call, const char *vm, bool key, struct err *err)
{
    char path[PATH_BYTES_MAX];
    if (!remove_state(call, vm, err) || !seed_tidy(call, vm, err))
        return false;
    path_key(call->paths, vm, path);
    if (key && !file_remove(call->world, path, err))
        return false;
    path_settings(call->paths, vm, path);
    return file_remove(call->world, path, err) &&
           settings_lock_remove(call->world, call->paths, vm, err);
}

static bool check_use(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    const char *yes = option_value(o, "yes", 0);
    if (!option_given(o, "purge"))
        return yes == NULL || err_set(err, ERR_INVALID, "--yes belongs to --purge");
    if (yes && strcmp(yes, o->operands[0]) == 0)
        return true;
    return err_set(err, ERR_INVALID,
                   "--purge deletes every recovery point of %s for ever: confirm it with --yes %s",
                   o->operands[0], o->operands[0]);
}

/* A host that only forgets a VM which is elsewhere ends nothing. */
static bool check_state(const struct vm *vm, struct err *err)
{
    if (vm->settings.role != ROLE_SOURCE)
        return true;
    if (!option_given(vm->call->options, "force") &&
        !settings_check_whole(&vm->settings, "disable it", err))
        return err_wrap(err, "what its disks lack would be lost to them (--force does it)");
    return glance_check(vm->call, &vm->settings, STATES_DISABLE, true, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    const char *name = call->options->operands[0];
    char point[PATH_MAX];
    bool purging = option_given(call->options, "purge");
    size_t removed = 0;

    vm.call = call;
    if (!check_use(call, err) || !settings_load(call->world, call->paths, name, &vm.settings, err))
        return false;
    if (purging && (!vm_open_caches(&vm, VM_LOOKS, err) || !vm_open_targets(&vm, VM_LOOKS, err) ||
                    !check_needed(&vm, err)))
        return false;
    if (!check_state(&vm, err) || !enable_domain_undo(call, &vm.settings, err))
        return false;
    bool locked = vm_locked(call->paths, name, point);
    if (locked && point[0] == '\0')
        return err_set(err, ERR_BUSY, "%s: its enable is under way on this host: end that first",
                       name);
    if (locked)
        return err_set(err, ERR_BUSY, "%s is mounted at %s: farshore unmount %s first", name, point,
                       point);
    if ((purging && !purge(&vm, &removed, err)) || !forget(call, name, purging, err))
        return false;
    if (purging)
        printf("%s: disabled, %zu objects and the key deleted\n", name, removed);
    else
        printf("%s: disabled here; the vault %s and the key stay\n", name,
               vm.settings.stores[0].target);
    return true;
}

const struct verb verb_disable = {
    .name = "disable",
    .summary = "End replication; keep the vault, or purge it",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
