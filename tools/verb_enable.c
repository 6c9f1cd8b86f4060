/* SPDX-License-Identifier: MIT
 * enable: everything is checked before anything is made. What is made, is made in this order:
 * folders, key, settings that say "enabling", vault and log, settings that say "source". A failure
 * half way leaves settings with the VM's id and generation, and the same command finishes it. */
#include "backend/history/processor.h"
#include "tools/disk_lock.h"
#include "tools/enable_disk.h"
#include "tools/enable_domain.h"
#include "tools/enable_seed.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"disk", "NAME=PATH", false, true,
     "A disk: raw file or block device, may be followed by ,cache=URL and ,target=URL."},
    {"cache", "URL", false, false, "The cache store that the source ships to."},
    {"target", "URL", false, false, "The target store that keeps the vault."},
    {"key", "FILE", false, false, "Use this VM key instead of making one."},
    {"seed", "NAME=FILE", false, true,
     "A copy of the disk, near the target: only what differs from it is shipped. Without --disk: "
     "run there, before enable on the source."},
    {"no-encryption", NULL, false, false,
     "Leave disk data readable in the stores; history stays authenticated."},
    {"bandwidth", "SPEC", false, false,
     "Keep what is shipped within it, as 20M or 20M,08:00-18:00=2M (bytes per second)."},
    {"dry-run", NULL, false, false, "Check and say what would be done, change nothing."},
    OPTIONS_END,
};

static bool read_options(const struct verb_call *call, struct settings *s, struct err *err)
{
    const struct options *o = call->options;
    const char *name = o->operands[0];
    const char *cache = option_value(o, "cache", 0), *target = option_value(o, "target", 0);
    uint16_t index;

    if (!vm_name_valid(name))
        return err_set(err, ERR_INVALID,
                       "VM name %.80s: use up to 63 of a-z, 0-9, ., _ and -, and begin with a "
                       "letter or digit",
                       name);
    memcpy(s->name, name, strlen(name) + 1);
    if (cache == NULL || target == NULL)
        return err_set(err, ERR_INVALID, "enable needs both stores: --cache URL --target URL");
    const char *from = option_given(o, "disk") ? "disk" : "seed";
    if (option_count(o, from) == 0)
        return err_set(err, ERR_INVALID, "enable needs a disk: --disk NAME=PATH");
    if (!settings_store(s, cache, target, &index, err))
        return false;
    s->encrypted = !option_given(o, "no-encryption");
    const char *bandwidth = option_value(o, "bandwidth", 0);
    if (bandwidth && !settings_set_bandwidth(s, bandwidth, err))
        return false;
    for (size_t i = 0; i < option_count(o, from); i++)
        if (!enable_disk_add(s, option_value(o, from, i), err))
            return false;
    if (!seed_check(o, s, err))
        return false;
    for (uint16_t i = 0; i < s->store_count; i++)
        if (strcmp(s->stores[i].cache, s->stores[i].target) == 0)
            return err_set(err, ERR_INVALID,
                           "cache and target are both %s: the vault must outlive the cache, give "
                           "two stores",
                           s->stores[i].cache);
    return enable_disk_others(call, s, err);
}

/* --- identity: new, or that of an enable that failed half way --- */

static bool new_identity(struct world *w, struct settings *s, struct err *err)
{
    uint64_t id = 0;
    if (w->ops->random(w, s->vm, sizeof s->vm) < 0 || w->ops->random(w, &id, sizeof id) < 0)
        return err_set(err, ERR_IO, "the kernel gave no random bytes");
    s->generation = (struct generation){.number = 1, .id = id ? id : 1};
    s->created_ms = w->ops->realtime_ns(w) / 1000000;
    return true;
}

/* *begun: an enable that did not finish goes on. */
static bool take_identity(const struct verb_call *call, struct settings *s, bool *begun,
                          struct err *err)
{
    struct settings before AUTO_SETTINGS = {.disks = NULL};
    *begun = settings_load(call->world, call->paths, s->name, &before, err);
    if (!*begun)
        return err->kind == ERR_NOT_FOUND && new_identity(call->world, s, err);
    if (before.role != ROLE_ENABLING)
        return err_set(err, ERR_EXISTS,
                       "%s is enabled already: farshore status %s shows it, disable ends it",
                       s->name, s->name);
    memcpy(s->vm, before.vm, sizeof s->vm);
    s->generation = before.generation;
    s->created_ms = before.created_ms;
    return true;
}

/* A vault that this enable did not begin belongs to somebody, unless it is a seed that was made for
 * us: found before anything is made. */
static bool check_vault(struct vm *vm, struct err *err)
{
    const struct options *o = vm->call->options;
    const char *given = option_value(o, "key", 0);
    struct keys *keys AUTO_KEYS = NULL;
    char key[KEY_MAX];
    uint64_t bytes;

    key_vault(key, vm->settings.name);
    if (!store_size(vm->targets[0], key, &bytes, err))
        return err->kind == ERR_NOT_FOUND;
    if (given != NULL && option_given(o, "disk") && !option_given(o, "seed"))
        return keys_file_load(vm->call->world, given, &keys, err) && seed_claim(vm, keys, err);
    return err_set(err, ERR_EXISTS,
                   "%s has a vault in %s already: choose another name, or, where it is known, "
                   "farshore disable %s --purge; of a seed give the --key",
                   vm->settings.name, vm->targets[0]->url, vm->settings.name);
}

/* --- making --- */

/* Keeps a key that an earlier enable of this name made: what it sealed stays readable. */
static bool make_key(struct vm *vm, bool *made, struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct world *w = vm->call->world;
    const char *given = option_value(vm->call->options, "key", 0);

    snprintf(path, sizeof path, "%s/keys", vm->call->paths->config);
    if (!dir_make(w, path, 0700, err))
        return false;
    path_key(vm->call->paths, vm->settings.name, path);
    if (given == NULL) {
        *made = keys_file_make(w, path, err);
        return (*made || err->kind == ERR_EXISTS) && keys_file_load(w, path, &vm->keys, err);
    }
    *made = false;
    struct keys *own AUTO_KEYS = NULL;
    if (!keys_file_load(w, given, &vm->keys, err) || !file_load(w, given, 4096, &text, err))
        return false;
    if (keys_file_load(w, path, &own, err))
        return keys_id(own) == keys_id(vm->keys) ||
               err_set(err, ERR_EXISTS, "%s holds another key: move it away first", path);
    bool good = err->kind == ERR_NOT_FOUND && file_replace(w, path, 0600, buf_span(&text), err);
    explicit_bzero(text.data, text.length);
    return good;
}

static struct vault *vault_of(const struct settings *s)
{
    struct vault *v = calloc(1, sizeof *v);
    if (v == NULL)
        return NULL;
    memcpy(v->vm, s->vm, sizeof v->vm);
    memcpy(v->name, s->name, sizeof v->name);
    v->encrypted = s->encrypted;
    v->created_ms = s->created_ms;
    v->disk_count = s->disk_count;
    for (uint16_t i = 0; i < s->disk_count; i++) {
        memcpy(v->disks[i].name, s->disks[i].name, sizeof v->disks[i].name);
        v->disks[i].disk = s->disks[i].number;
        v->disks[i].store = s->disks[i].store;
        v->disks[i].size_bytes = s->disks[i].size_bytes;
    }
    v->store_count = s->store_count;
    memcpy(v->stores, s->stores, s->store_count * sizeof *s->stores);
    return v;
}

/* Near the target, where a seed was made: this host processes and recovers. */
static void become_target(struct settings *s)
{
    s->role = ROLE_TARGET;
    s->generation = (struct generation){.number = 0};
    for (uint16_t i = 0; i < s->disk_count; i++)
        s->disks[i].path[0] = '\0';
}

static bool make_all(struct vm *vm, bool *key_made, struct err *err)
{
    char path[PATH_BYTES_MAX];
    const struct verb_call *call = vm->call;
    struct settings *s = &vm->settings;
    struct vault *vault AUTO_FREE = vault_of(s);

    if (vault == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!make_key(vm, key_made, err))
        return false;
    path_state(call->paths, s->name, path);
    if (!dir_make(call->world, path, 0700, err))
        return false;
    s->role = ROLE_ENABLING;
    if (!settings_save(call->world, call->paths, s, err))
        return false;
    if (!history_begin(call->world, vm->targets[0], vm->caches[0], vault, s->generation, vm->keys,
                       err))
        return err_wrap(err, "%s is not enabled yet, nothing is lost, the same command goes on",
                        s->name);
    if (!seed_apply(vm, err))
        return false;
    s->role = ROLE_SOURCE;
    if (!option_given(call->options, "disk"))
        become_target(s);
    return settings_save(call->world, call->paths, s, err);
}

/* One enable of a name at a time, and no disable meanwhile. */
static bool lock_vm(const struct verb_call *call, const char *name, int *fd, struct err *err)
{
    char path[PATH_BYTES_MAX];
    path_state(call->paths, name, path);
    if (!dir_make(call->world, path, 0700, err))
        return false;
    if (vm_lock(call->paths, name, "", fd, err))
        return true;
    return err->kind == ERR_BUSY
               ? err_set(err, ERR_BUSY, "%s: another enable of it is under way on this host", name)
               : false;
}

static void print_plan(const struct settings *s, bool dry)
{
    printf("%s: %s, %u disk%s, %s\n", s->name, dry ? "would be enabled" : "enabled", s->disk_count,
           s->disk_count == 1 ? "" : "s", s->encrypted ? "encrypted" : "NOT encrypted");
    for (uint16_t i = 0; i < s->disk_count; i++) {
        char size[OUTPUT_TEXT_MAX];
        size_format(s->disks[i].size_bytes, size);
        printf("  disk %s: %s, %s\n", s->disks[i].name, s->disks[i].path, size);
        if (s->disks[i].store)
            printf("    cache %s, target %s\n", s->stores[s->disks[i].store].cache,
                   s->stores[s->disks[i].store].target);
    }
    printf("  cache  %s\n  target %s\n", s->stores[0].cache, s->stores[0].target);
    if (s->bandwidth[0])
        printf("  bandwidth %s\n", s->bandwidth);
}

static void print_next(const struct settings *s)
{
    char target[2 * STORE_URL_MAX];

    if (s->role == ROLE_TARGET) {
        printf(
            "Next, on the source:   farshore enable %s --disk NAME=PATH ... --key FILE, the rest "
            "as here\n"
            "                       (FILE: a copy of the key)\n",
            s->name);
        return;
    }
    shell_quote(s->stores[0].target, target, sizeof target);
    printf("Next, here:            farshore mount %s DIR\n", s->name);
    printf("and on a target host:  farshore join %s --key FILE     (FILE: a copy of the key)\n",
           target);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    char key[PATH_BYTES_MAX];
    bool key_made = false, begun;
    int lock AUTO_FD = -1;

    vm.call = call;
    if (!settings_make(&vm.settings, err) || !read_options(call, &vm.settings, err) ||
        !take_identity(call, &vm.settings, &begun, err))
        return false;
    if (option_given(call->options, "dry-run")) {
        print_plan(&vm.settings, true);
        return true;
    }
    /* The identity once more: another enable may have come to its end before we had the lock. */
    if (!vm_open_caches(&vm, VM_ENABLES, err) || !vm_open_targets(&vm, VM_ENABLES, err) ||
        !lock_vm(call, vm.settings.name, &lock, err) ||
        !take_identity(call, &vm.settings, &begun, err) || !(begun || check_vault(&vm, err)) ||
        !make_all(&vm, &key_made, err))
        return false;
    struct err left = ERR_NONE;
    if (!seed_tidy(call, vm.settings.name, &left)) /* it costs room, and no more */
        fprintf(stderr, "farshore: %s and is not needed any more\n", left.text);
    path_key(call->paths, vm.settings.name, key);
    print_plan(&vm.settings, false);
    printf("  key    %s%s\n\n", key, key_made ? " (new: keep a copy apart, no key, no data)" : "");
    print_next(&vm.settings);
    return true;
}

const struct verb verb_enable = {
    .name = "enable",
    .summary = "Begin to replicate a VM's disks",
    .operands = "VM --disk NAME=PATH ... --cache URL --target URL",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
