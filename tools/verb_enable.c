/* SPDX-License-Identifier: MIT
 * enable: everything is checked before anything is made. What is made, is made in this order:
 * folders, key, settings that say "enabling", vault and log, settings that say "source"; then, of a
 * domain, the mount and its disks on it. A failure half way leaves settings with the VM's id and
 * generation, and the same command finishes it. */
#include "backend/history/processor.h"
#include "tools/disk_lock.h"
#include "tools/enable_disk.h"
#include "tools/enable_domain.h"
#include "tools/enable_protect.h"
#include "tools/enable_seed.h"
#include "tools/failover/unit.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"disk", "NAME=PATH", false, true,
     "A disk: raw file or block device, may be followed by ,cache=URL and ,target=URL. With "
     "--domain NAME alone, for the stores of that disk."},
    {"domain", "DOMAIN", false, false,
     "The libvirt domain that is the VM: its disks by target device, its networks, its firmware."},
    {"mount", "DIR", false, false, "Where its disks are mounted, STATE/mounts/VM unless told."},
    {"exclude", "DEV", false, true, "Leave this disk of the domain as it is."},
    {"convert", NULL, false, false, "Make raw files of the domain's qcow2 images."},
    {"local", "DIR", false, false, "Where new disk files go, beside the old ones unless told."},
    {"start", "COMMAND", false, false, "Without libvirt: what starts the VM."},
    {"stop", "COMMAND", false, false, "Likewise, what stops it."},
    {"freeze", "COMMAND", false, false, "What makes its applications quiet for a point."},
    {"thaw", "COMMAND", false, false, "What lets them go on."},
    {"target-host", "NAME", false, true, "A host that may take the VM over, first choice first."},
    {"availability-set", "NAME", false, false, "VMs that share it are kept on different hosts."},
    {"set", "target.KEY=VALUE", false, true, "A setting of the target, as farshore set takes it."},
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

/* The disks: those of the domain, those given, or those of a seed. */
static bool read_disks(const struct verb_call *call, struct settings *s, struct enable_domain *d,
                       struct err *err)
{
    static const char *const domains[] = {"mount", "exclude", "convert", "local"};
    const struct options *o = call->options;
    if (option_given(o, "domain"))
        return enable_domain_read(call, d, s, err);
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
        if (option_given(o, domains[i]))
            return err_set(err, ERR_INVALID, "--%s belongs to --domain", domains[i]);
    const char *from = option_given(o, "disk") ? "disk" : "seed";
    if (option_count(o, from) == 0)
        return err_set(err, ERR_INVALID,
                       "enable needs a disk: --disk NAME=PATH, or --domain DOMAIN");
    for (size_t i = 0; i < option_count(o, from); i++)
        if (!enable_disk_add(s, option_value(o, from, i), err))
            return false;
    return true;
}

static bool read_commands(const struct options *o, struct settings *s, struct err *err)
{
    static const char *const names[] = {"start", "stop", "freeze", "thaw"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *line = option_value(o, names[i], 0);
        if (line != NULL && !settings_set_machine(s, names[i], line, err))
            return false;
    }
    return true;
}

static bool read_options(const struct verb_call *call, struct settings *s, struct enable_domain *d,
                         struct err *err)
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
    if (!settings_store(s, cache, target, &index, err))
        return false;
    s->encrypted = !option_given(o, "no-encryption");
    const char *bandwidth = option_value(o, "bandwidth", 0);
    if (bandwidth && !settings_set_bandwidth(s, bandwidth, err))
        return false;
    if (!read_commands(o, s, err) || !read_disks(call, s, d, err) || !seed_check(o, s, err))
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
    if (given != NULL && seed_at_source(o) && !option_given(o, "seed"))
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

/* Near the target, where a seed was made: this host processes and recovers. */
static void become_target(struct settings *s)
{
    s->role = ROLE_TARGET;
    s->generation = (struct generation){.number = 0};
    for (uint16_t i = 0; i < s->disk_count; i++)
        s->disks[i].path[0] = '\0';
}

static bool make_all(struct vm *vm, const struct enable_domain *d, bool again, bool *key_made,
                     struct err *err)
{
    char path[PATH_BYTES_MAX];
    const struct verb_call *call = vm->call;
    struct settings *s = &vm->settings;
    struct vault *vault AUTO_FREE = settings_vault(s);

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
    const struct source_domain *source = s->machine->domain[0] ? &d->source : NULL;
    if (!seed_at_source(call->options))
        become_target(s);
    else if (!enable_protect_register(vm, source, err) ||
             (source && !enable_domain_make(call, d, s, again, err)))
        return false;
    else
        s->role = ROLE_SOURCE;
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

static void free_domain(struct enable_domain **d)
{
    if (*d)
        enable_domain_release(*d);
    free(TAKE(*d));
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

static void print_domain(const struct settings *s)
{
    struct unit_place place;
    char mount[2 * FOLDER_BYTES_MAX];
    shell_quote(s->machine->mount, mount, sizeof mount);
    printf("Domain %s is on the mount %s, and replicates.\n", s->machine->domain, mount);
    if (!unit_place_find(&place))
        printf(
            "At boot, before libvirt:  farshore mount %s    (no systemd here that would do it)\n",
            s->name);
    if (access("/etc/libvirt/hooks/qemu.d/farshore", X_OK) != 0 &&
        access("/etc/libvirt/hooks/qemu", X_OK) != 0)
        printf("Once on this host:     ln -s %s /etc/libvirt/hooks/qemu.d/farshore,\n"
               "                       and restart libvirtd: see farshore-hook(1)\n",
               FARSHORE_SHARE "/libvirt-hook");
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
    if (s->machine->domain[0])
        print_domain(s);
    else
        printf("Next, here:            farshore mount %s DIR\n", s->name);
    printf("and on a target host:  farshore join %s --key FILE     (FILE: a copy of the key)\n",
           target);
}

/* Enabled, its domain not yet on the mount: what is left of the same command. */
static bool go_on(const struct verb_call *call, struct err *err)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    const char *domain = option_value(call->options, "domain", 0);
    if (!settings_load(call->world, call->paths, call->options->operands[0], &s, err))
        return false;
    if (strcmp(s.machine->domain, domain) != 0)
        return err_set(err, ERR_INVALID, "%s was enabled with --domain %s", s.name,
                       s.machine->domain);
    if (!enable_domain_finish(call, &s, err))
        return false;
    print_next(&s);
    return true;
}

static bool is_pending(const struct verb_call *call)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    const char *name = call->options->operands[0];
    struct err ignored =
        ERR_NONE; /* then it is enabled from the start, and that says what is wrong */
    return option_given(call->options, "domain") && vm_name_valid(name) &&
           settings_load(call->world, call->paths, name, &s, &ignored) && s.role == ROLE_SOURCE &&
           enable_domain_pending(call, name);
}

static void print_made(const struct vm *vm, const struct protection *plan, bool key_made)
{
    char key[PATH_BYTES_MAX];
    path_key(vm->call->paths, vm->settings.name, key);
    print_plan(&vm->settings, false);
    if (vm->settings.role == ROLE_SOURCE && vm->settings.machine->domain[0])
        enable_protect_print(plan, &vm->settings);
    printf("  key    %s%s\n\n", key, key_made ? " (new: keep a copy apart, no key, no data)" : "");
}

/* All that the options say, checked; nothing is changed. */
static bool plan(struct vm *vm, struct enable_domain *d, struct protection **protection,
                 bool *begun, struct err *err)
{
    const struct verb_call *call = vm->call;
    return settings_make(&vm->settings, err) && read_options(call, &vm->settings, d, err) &&
           enable_protect_plan(call, vm->settings.machine->domain[0] ? &d->source : NULL,
                               protection, err) &&
           take_identity(call, &vm->settings, begun, err);
}

static bool make(struct vm *vm, struct enable_domain *d, bool begun, bool *key_made,
                 struct err *err)
{
    const struct verb_call *call = vm->call;
    int lock AUTO_FD = -1;
    /* The identity once more: another enable may have come to its end before we had the lock. */
    return vm_open_caches(vm, VM_ENABLES, err) && vm_open_targets(vm, VM_ENABLES, err) &&
           lock_vm(call, vm->settings.name, &lock, err) &&
           take_identity(call, &vm->settings, &begun, err) && (begun || check_vault(vm, err)) &&
           make_all(vm, d, begun, key_made, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct enable_domain *domain CLEANUP(free_domain) = calloc(1, sizeof *domain);
    struct protection *protection AUTO_PROTECTION = NULL;
    bool key_made = false, begun = false;

    if (domain == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (is_pending(call))
        return go_on(call, err);
    vm.call = call;
    if (!plan(&vm, domain, &protection, &begun, err))
        return false;
    fwrite(domain->source.notes.data, 1, domain->source.notes.length, stderr);
    if (option_given(call->options, "dry-run")) {
        print_plan(&vm.settings, true);
        enable_protect_print(protection, &vm.settings);
        return true;
    }
    if (!make(&vm, domain, begun, &key_made, err))
        return false;
    struct err left = ERR_NONE;
    if (!seed_tidy(call, vm.settings.name, &left)) /* it costs room, and no more */
        fprintf(stderr, "farshore: %s and is not needed any more\n", left.text);
    print_made(&vm, protection, key_made);
    if (vm.settings.machine->domain[0] && !enable_domain_finish(call, &vm.settings, err))
        return err_wrap(err, "%s is enabled, but its domain is not on the mount", vm.settings.name);
    print_next(&vm.settings);
    return true;
}

const struct verb verb_enable = {
    .name = "enable",
    .summary = "Begin to replicate a VM's disks",
    .operands = "VM --disk NAME=PATH ... | --domain DOMAIN --cache URL --target URL",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
