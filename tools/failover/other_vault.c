/* SPDX-License-Identifier: MIT */
#include "tools/failover/other_vault.h"

#include "backend/history/processor.h"

#define BACK_CACHE  "_back-cache" /* no VM's name begins so */
#define BACK_TARGET "_back-vault"

/* One more folder behind the path of a store's URL, before its options. */
static bool below(const char *url, const char *folder, char out[STORE_URL_MAX], struct err *err)
{
    size_t path = strcspn(url, "?");
    size_t bare = path;
    while (bare > 0 && url[bare - 1] == '/')
        bare--;
    int length = snprintf(out, STORE_URL_MAX, "%.*s/%s%s", (int)bare, url, folder, url + path);
    return (length > 0 && length < (int)STORE_URL_MAX) ||
           err_set(err, ERR_INVALID, "the URL of %s is too long: give stores for the way back",
                   folder);
}

bool other_vault_stores(const struct flow *f, struct vault_stores *out, struct err *err)
{
    const struct vault_stores *now = &f->vm->settings.stores[0];
    const char *cache = target_setting(&f->protection->settings, "back-cache");
    const char *target = target_setting(&f->protection->settings, "back-target");
    if (cache)
        snprintf(out->cache, sizeof out->cache, "%s", cache);
    else if (!below(now->target, BACK_CACHE, out->cache, err))
        return false;
    if (target)
        snprintf(out->target, sizeof out->target, "%s", target);
    else if (!below(now->cache, BACK_TARGET, out->target, err))
        return false;
    return true;
}

static bool begin_vault(struct vm *out, const struct generation *generation, struct err *err)
{
    struct vault *v AUTO_FREE = settings_vault(&out->settings);
    if (v == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    return history_begin(out->call->world, out->targets[0], out->caches[0], v, *generation,
                         out->keys, err);
}

/* Its own tables: a vault with stores of single disks keeps them. */
static bool take_tables(struct vm *out, struct err *err)
{
    struct settings *s = &out->settings;
    const struct vault *v = history_vault(out->history);
    if (memcmp(v->vm, s->vm, sizeof v->vm) != 0)
        return err_set(err, ERR_EXISTS, "%s holds the vault of another VM %s", out->targets[0]->url,
                       s->name);
    for (uint16_t i = 0; i < s->disk_count; i++)
        for (uint16_t k = 0; k < v->disk_count; k++)
            if (v->disks[k].disk == s->disks[i].number)
                s->disks[i].store = v->disks[k].store;
    if (v->store_count == s->store_count)
        return true;
    /* Reached as the vault says, but for the first pair, which this host was told. */
    memcpy(s->stores + 1, v->stores + 1, (v->store_count - 1u) * sizeof *s->stores);
    s->store_count = v->store_count;
    store_close(&out->targets[0]);
    store_close(&out->caches[0]);
    history_close(&out->history); /* and with it `v` */
    return vm_open_caches(out, VM_PROCESSES, err) && vm_open_targets(out, VM_PROCESSES, err) &&
           vm_open_history(out, err);
}

static bool copy_settings(const struct flow *f, const struct vault_stores *stores,
                          struct settings *out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!settings_write(&f->vm->settings, &text, err) || !settings_make(out, err) ||
        !settings_parse(buf_span(&text), out, err))
        return false;
    out->store_count = 1;
    out->stores[0] = *stores;
    for (uint16_t i = 0; i < out->disk_count; i++)
        out->disks[i].store = 0;
    return true;
}

bool other_vault_open(struct flow *f, const struct vault_stores *stores,
                      const struct generation *begin, struct vm *out, bool *made, struct err *err)
{
    char path[PATH_BYTES_MAX];
    out->call = f->call;
    path_key(f->call->paths, f->vm->settings.name, path);
    *made = false;
    if (!copy_settings(f, stores, &out->settings, err) ||
        !keys_file_load(f->call->world, path, &out->keys, err) ||
        !vm_open_caches(out, begin ? VM_ENABLES : VM_PROCESSES, err) ||
        !vm_open_targets(out, begin ? VM_ENABLES : VM_PROCESSES, err))
        return false;
    bool there = vm_open_history(out, err);
    if (!there && (err->kind != ERR_NOT_FOUND || begin == NULL))
        return false;
    /* One that was cut off while it was made has no generation yet. */
    *made = begin != NULL && (!there || history_generations(out->history) == 0);
    if (*made && (!begin_vault(out, begin, err) || !vm_forget_seen(out, err)))
        return false;
    if (!there && !vm_open_history(out, err))
        return false;
    return history_refresh(out->history, err) && take_tables(out, err);
}
