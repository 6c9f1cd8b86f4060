/* SPDX-License-Identifier: MIT */
#include "backend/history/logs.h"
#include "backend/history/record.h"
#include "backend/history/vault.h"
#include "tools/disk_lock.h"
#include "tools/failover/moved.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"key", "FILE", false, false, "The VM key that enable made on the source host."},
    {"vm", "VM", false, false, "Join this VM only; else all that the key opens."},
    {"cache", "URL", false, false,
     "The cache store as this host reaches it, if not as the source does."},
    OPTIONS_END,
};

/* --- which VMs the store has: names with VM/vault, found by a list per name --- */

struct found {
    struct vm_names names;
    bool failed;
    char after[STORE_KEY_MAX + 2]; /* where the next list goes on */
};

/* Takes the name of the first key and stops: the next list begins behind all of that VM's keys. */
static bool take_name(void *context, const char *key, uint64_t bytes)
{
    (void)bytes;
    struct found *f = context;
    size_t length = strcspn(key, "/");
    snprintf(f->after, sizeof f->after, "%.*s0", (int)length, key); /* '0' follows '/' */
    if (key[length] != '/' || length > VM_NAME_MAX)
        return false;
    void *more = realloc(f->names.names, (f->names.count + 1) * sizeof *f->names.names);
    if (more == NULL) {
        f->failed = true;
        return false;
    }
    f->names.names = more;
    snprintf(f->names.names[f->names.count], VM_NAME_MAX + 1, "%.*s", (int)length, key);
    if (vm_name_valid(f->names.names[f->names.count]))
        f->names.count++;
    return false;
}

static void found_release(struct found *f)
{
    vm_names_release(&f->names);
}

static bool find_names(struct store *target, struct found *f, struct err *err)
{
    char before[sizeof f->after];
    do {
        memcpy(before, f->after, sizeof before);
        if (!store_list(target, "", before[0] ? before : NULL, take_name, f, err))
            return false;
        if (f->failed)
            return err_set(err, ERR_FULL, "out of memory");
    } while (strcmp(before, f->after) != 0);
    return true;
}

/* --- one VM --- */

static bool save_key(const struct verb_call *call, const char *vm, const char *given,
                     struct keys *keys, struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct keys *own AUTO_KEYS = NULL;
    snprintf(path, sizeof path, "%s/keys", call->paths->config);
    if (!dir_make(call->world, path, 0700, err))
        return false;
    path_key(call->paths, vm, path);
    if (keys_file_load(call->world, path, &own, err))
        return keys_id(own) == keys_id(keys) ||
               err_set(err, ERR_EXISTS, "%s holds another key: move it away first", path);
    if (err->kind != ERR_NOT_FOUND || !file_load(call->world, given, 4096, &text, err))
        return false;
    bool good = file_replace(call->world, path, 0600, buf_span(&text), err);
    explicit_bzero(text.data, text.length);
    return good;
}

static bool settings_of_vault(const struct verb_call *call, const struct vault *v, const char *url,
                              struct settings *s, struct err *err)
{
    const char *cache = option_value(call->options, "cache", 0);
    memcpy(s->name, v->name, sizeof s->name);
    memcpy(s->vm, v->vm, sizeof s->vm);
    s->role = ROLE_TARGET;
    s->encrypted = v->encrypted;
    s->created_ms = v->created_ms;
    s->disk_count = v->disk_count;
    for (uint16_t i = 0; i < v->disk_count; i++) {
        memcpy(s->disks[i].name, v->disks[i].name, sizeof s->disks[i].name);
        s->disks[i].number = v->disks[i].disk;
        s->disks[i].store = v->disks[i].store;
        s->disks[i].size_bytes = v->disks[i].size_bytes;
    }
    s->store_count = v->store_count;
    memcpy(s->stores, v->stores, v->store_count * sizeof *v->stores);
    /* This host's own way to the stores wins over the one that the source wrote down. */
    snprintf(s->stores[0].target, STORE_URL_MAX, "%s", url);
    if (cache && strlen(cache) >= STORE_URL_MAX)
        return err_set(err, ERR_INVALID, "--cache is longer than %u characters", STORE_URL_MAX - 1);
    if (cache)
        snprintf(s->stores[0].cache, STORE_URL_MAX, "%s", cache);
    return true;
}

/* Whether the VM ran here and was failed over: then this host is a target like any other, and its
 * old disks stay as they are. */
static bool has_left(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct moved moved;
    char at[PATH_MAX];
    bool there = false;
    if (!moved_read(call->world, call->paths, s->name, &moved, &there, err))
        return false;
    if (!there)
        return err_set(err, ERR_EXISTS, "%s is enabled here and needs no join", s->name);
    return !vm_locked(call->paths, s->name, at) ||
           err_set(err, ERR_BUSY, "%s is mounted at %s still: farshore unmount it first", s->name,
                   at);
}

static bool write_settings(const struct verb_call *call, const struct vault *v, const char *url,
                           struct err *err)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    struct settings before AUTO_SETTINGS = {.disks = NULL};
    if (settings_load(call->world, call->paths, v->name, &before, err)) {
        if (memcmp(before.vm, v->vm, sizeof before.vm) != 0)
            return err_set(err, ERR_EXISTS, "another VM is called %s here: disable that first",
                           v->name);
        if (before.role != ROLE_TARGET && !has_left(call, &before, err))
            return false;
    } else if (err->kind != ERR_NOT_FOUND) {
        return false;
    }
    if (!settings_make(&s, err) || !settings_of_vault(call, v, url, &s, err))
        return false;
    if (before.machine != NULL)
        *s.machine = *before.machine; /* what this host does with it is its own */
    return settings_save(call->world, call->paths, &s, err);
}

/* A host that sees a vault for the first time cannot know whether it was rolled back: a person may.
 * Nothing is said of a vault whose newest record cannot be read; whoever works with it will. */
static void show_age(const struct verb_call *call, struct store *target, struct keys *keys,
                     const struct vault *v)
{
    struct record r CLEANUP(record_release) = {.epochs = NULL};
    struct buf stored AUTO_BUF = BUF_NONE;
    struct record_log log;
    struct err ignored = ERR_NONE;
    uint64_t first, last, now_ms = call->world->ops->realtime_ns(call->world) / 1000000;
    char prefix[KEY_MAX], age[OUTPUT_TEXT_MAX];

    snprintf(prefix, sizeof prefix, "%s/history/", v->name);
    record_log_init(&log, target, v->name);
    if (!numlog_start(&log.log, prefix, 0, &first, &last, &ignored) ||
        numlog_read(&log.log, last, NULL, &stored, &ignored) != NUMLOG_DONE ||
        !record_decode(buf_span(&stored), keys, v->vm, last, &r, &ignored))
        return;
    age_format(now_ms > r.written_ms ? (now_ms - r.written_ms) / 1000 : 0, age);
    printf("%s: the vault was last written %s ago, as far as it shows; a new host cannot tell "
           "whether it was rolled back\n",
           v->name, age);
}

static bool join_vm(const struct verb_call *call, struct store *target, const char *vm,
                    struct keys *keys, struct err *err)
{
    char key[KEY_MAX];
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = calloc(1, sizeof *v);
    const char *file = option_value(call->options, "key", 0);

    if (v == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    key_vault(key, vm);
    if (!store_load(target, key, VAULT_BYTES_MAX, &stored, err) ||
        !vault_decode(buf_span(&stored), keys, v, err))
        return err_wrap(err, "%s", vm);
    if (strcmp(v->name, vm) != 0)
        return err_set(err, ERR_CORRUPT, "the vault under %s belongs to VM %s", vm, v->name);
    if (!save_key(call, vm, file, keys, err) ||
        !write_settings(call, v, call->options->operands[0], err))
        return false;
    printf("%s: joined, %u disk%s; farshore process %s applies what is shipped, farshore recover "
           "DIR shows its points\n",
           vm, v->disk_count, v->disk_count == 1 ? "" : "s", vm);
    show_age(call, target, keys, v);
    return true;
}

/* All VMs of the store that the key opens; those of other keys are passed over. */
static bool join_all(const struct verb_call *call, struct store *target, struct keys *keys,
                     struct err *err)
{
    struct found found CLEANUP(found_release) = {.failed = false};
    size_t joined = 0, others = 0;
    if (!find_names(target, &found, err))
        return false;
    for (size_t i = 0; i < found.names.count; i++) {
        if (join_vm(call, target, found.names.names[i], keys, err))
            joined++;
        else if (err->kind == ERR_WRONG_KEY)
            others++;
        else if (err->kind != ERR_NOT_FOUND) /* a name without a vault is no VM of ours */
            return false;
    }
    if (joined > 0)
        return true;
    if (others > 0)
        return err_set(err, ERR_WRONG_KEY, "the key opens none of the %zu VMs in %s", others,
                       target->url);
    return err_set(err, ERR_NOT_FOUND, "no VM in %s: is it the URL that enable printed?",
                   target->url);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct store *target AUTO_STORE = NULL;
    struct keys *keys AUTO_KEYS = NULL;
    const char *file = option_value(call->options, "key", 0);
    const char *vm = option_value(call->options, "vm", 0);

    if (file == NULL)
        return err_set(err, ERR_INVALID,
                       "join needs --key FILE: a copy of the source's key, mode 0600");
    if (vm && !vm_name_valid(vm))
        return err_set(err, ERR_INVALID, "--vm %.80s is no VM name", vm);
    if (!keys_file_load(call->world, file, &keys, err) ||
        !store_open(&call->host, call->options->operands[0], false, &target, err))
        return false;
    return vm ? join_vm(call, target, vm, keys, err) : join_all(call, target, keys, err);
}

const struct verb verb_join = {
    .name = "join",
    .summary = "Learn of a vault's VMs, on a target host",
    .operands = "URL --key FILE",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
