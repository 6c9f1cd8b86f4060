/* SPDX-License-Identifier: MIT */
#include "tools/enable_seed.h"

#include "fs/disk/seed.h"
#include "tools/disk_lock.h"
#include "tools/output.h"
#include "tools/seed_copies.h"
#include "tools/tree.h"

#include <errno.h>
#include <fcntl.h>

#define VAULT_BYTES_MAX (1u << 20)

bool seed_at_source(const struct options *o)
{
    return option_given(o, "disk") || option_given(o, "domain");
}

const char *seed_path(const struct options *o, const struct settings_disk *d)
{
    size_t length = strlen(d->name);
    for (size_t i = 0; i < option_count(o, "seed"); i++) {
        const char *given = option_value(o, "seed", i);
        if (strncmp(given, d->name, length) == 0 && given[length] == '=')
            return given + length + 1;
    }
    return NULL;
}

bool seed_check(const struct options *o, const struct settings *s, struct err *err)
{
    size_t named = 0;
    for (uint16_t i = 0; i < s->disk_count; i++) {
        const char *path = seed_path(o, &s->disks[i]);
        if (path == NULL)
            continue;
        named++;
        if (access(path, R_OK) != 0)
            return err_errno(err, errno, "the seed of disk %s: %s", s->disks[i].name, path);
    }
    return named == option_count(o, "seed") ||
           err_set(err, ERR_INVALID,
                   "--seed NAME=FILE names a disk that is enabled, each disk once at most");
}

static struct seed_config config_of(struct vm *vm)
{
    return (struct seed_config){
        .world = vm->call->world,
        .vm = vm->settings.name,
        .keys = vm->keys,
        .encrypt = vm->settings.encrypted,
        .targets = vm->targets,
        .store_count = vm->settings.store_count,
        .cache = vm->caches[0],
    };
}

/* --- a seed that was made elsewhere --- */

static bool check_disks(const struct settings *s, const struct vault *v, struct err *err)
{
    bool same = s->disk_count == v->disk_count && s->encrypted == v->encrypted &&
                s->store_count == v->store_count;
    for (uint16_t i = 0; same && i < s->store_count; i++)
        same = strcmp(s->stores[i].cache, v->stores[i].cache) == 0 &&
               strcmp(s->stores[i].target, v->stores[i].target) == 0;
    for (uint16_t i = 0; same && i < s->disk_count; i++) {
        const struct settings_disk *d = &s->disks[i];
        same = strcmp(d->name, v->disks[i].name) == 0 && d->store == v->disks[i].store;
        if (same && d->size_bytes != v->disks[i].size_bytes)
            return err_set(err, ERR_INVALID,
                           "disk %s has %llu bytes and its seed %llu: give the copy the disk's "
                           "size (truncate -s), purge the seed and make it again",
                           d->name, (unsigned long long)d->size_bytes,
                           (unsigned long long)v->disks[i].size_bytes);
    }
    return same || err_set(err, ERR_INVALID,
                           "%s was seeded with other disks, stores or encryption: give the same "
                           "names in the same order, the same URLs, and the same --no-encryption",
                           s->name);
}

bool seed_claim(struct vm *vm, const struct keys *keys, struct err *err)
{
    struct settings *s = &vm->settings;
    struct seed_config config = config_of(vm);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = calloc(1, sizeof *v);
    char key[KEY_MAX];
    bool alone = false;

    if (v == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    config.keys = keys;
    key_vault(key, s->name);
    if (!store_load(vm->targets[0], key, VAULT_BYTES_MAX, &stored, err) ||
        !vault_decode(buf_span(&stored), keys, v, err) ||
        !seed_alone(&config, &alone, &s->generation, err))
        return false;
    if (!alone)
        return err_set(err, ERR_EXISTS,
                       "%s has a vault in %s already, and it is no seed that waits for its source",
                       s->name, vm->targets[0]->url);
    memcpy(s->vm, v->vm, sizeof s->vm);
    s->created_ms = v->created_ms;
    return check_disks(s, v, err);
}

/* --- making one --- */

static void path_seeds(const struct verb_call *call, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/seeds/%.*s", call->paths->state, (int)VM_NAME_MAX, vm);
}

bool seed_tidy(const struct verb_call *call, const char *vm, struct err *err)
{
    char folder[PATH_BYTES_MAX];
    path_seeds(call, vm, folder);
    return tree_remove(folder, err);
}

static bool write_seed(struct vm *vm, struct err *err)
{
    const struct verb_call *call = vm->call;
    struct settings *s = &vm->settings;
    struct seed_config config = config_of(vm);
    struct seed_copies copies CLEANUP(seed_copies_release) = {.count = 0};
    struct store *staging AUTO_STORE = NULL;
    char seeds[PATH_BYTES_MAX], generation[GENERATION_NAME_MAX];
    char folder[PATH_BYTES_MAX], url[PATH_BYTES_MAX + 32];

    for (uint16_t i = 0; i < s->disk_count; i++) {
        const char *path = seed_path(call->options, &s->disks[i]);
        if (path != NULL && !seed_copies_add(&copies, call->world, &s->disks[i], path, err))
            return false;
    }
    /* By generation: what an older VM of the same name left may be under another key. */
    path_seeds(call, s->name, seeds);
    generation_name(s->generation, generation);
    snprintf(folder, sizeof folder, "%.*s/%s", (int)(sizeof folder - GENERATION_NAME_MAX - 1),
             seeds, generation);
    snprintf(url, sizeof url, "file://%s/staging", folder);
    if (!dir_make(call->world, folder, 0700, err) ||
        !store_open(&call->host, url, true, &staging, err))
        return false;
    struct progress progress = progress_begin(call->world, stderr, "seeding");
    bool good = seed_write(&config, copies.rows, copies.count, staging, folder, progress_show,
                           &progress, err);
    progress_end(&progress);
    return good || err_wrap(err, "seeding %s is not done, the same command goes on", s->name);
}

bool seed_apply(struct vm *vm, struct err *err)
{
    struct seed_config config = config_of(vm);
    struct generation generation;
    char state[PATH_BYTES_MAX];
    bool alone;

    if (option_given(vm->call->options, "seed") && !write_seed(vm, err))
        return false;
    if (!seed_at_source(vm->call->options))
        return true;
    path_state(vm->call->paths, vm->settings.name, state);
    return seed_alone(&config, &alone, &generation, err) &&
           (!alone || seed_adopt(&config, state, err));
}
