/* SPDX-License-Identifier: MIT */
#include "tools/failover/local_disks.h"

#include "fs/disk/source.h"
#include "fs/view/presence.h"

#include <errno.h>
#include <fcntl.h>

void local_disks_folder(const struct flow *f, char out[PATH_BYTES_MAX])
{
    const char *given = target_setting(&f->protection->settings, "folder");
    const char *group = target_setting(&f->protection->settings, "resource-group");
    bool home = strcmp(f->host.name, f->protection->home_host) == 0;
    if (given && !home)
        snprintf(out, PATH_BYTES_MAX, "%s", given);
    else
        snprintf(out, PATH_BYTES_MAX, "%.800s/disks/%.128s%s%s", f->call->paths->state,
                 group && !home ? group : "", group && !home ? "/" : "", f->vm->settings.name);
}

/* The suffix by which files of a generation are told from anybody's. */
static void suffix_of(const struct generation g, char out[GENERATION_NAME_MAX + 8])
{
    char generation[GENERATION_NAME_MAX];
    generation_name(g, generation);
    snprintf(out, GENERATION_NAME_MAX + 8, ".%s.img", generation);
}

/* A new file of that size with nothing in it; whatever lies there is of an earlier try. */
static bool make_sparse(struct world *w, const char *path, uint64_t bytes, struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    if (!file_remove(w, path, err) ||
        !file_open(w, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file, err))
        return false;
    int rc = w->ops->truncate(file, bytes);
    return rc == 0 ? file_sync(file, err) : err_errno(err, -rc, "%s", path);
}

static bool make_one(struct flow *f, const char *folder, const struct history_point *point,
                     struct settings_disk *d, struct err *err)
{
    char suffix[GENERATION_NAME_MAX + 8];
    char record[PATH_MAX];
    struct world *w = f->call->world;
    struct presence_head head = {.generation_id = point->generation.id,
                                 .epoch = point->epoch,
                                 .disk = d->number,
                                 .disk_bytes = d->size_bytes};

    suffix_of(f->protection->failover.generation, suffix);
    memcpy(head.vm, f->vm->settings.vm, sizeof head.vm);
    snprintf(d->path, sizeof d->path, "%.2000s/%s%s", folder, d->name, suffix);
    snprintf(record, sizeof record, "%.4000s.map", d->path);
    return make_sparse(w, d->path, d->size_bytes, err) && file_remove(w, record, err) &&
           presence_create(w, record, &head, err);
}

bool local_disks_make(struct flow *f, const struct history_point *point, struct err *err)
{
    struct settings *s = &f->vm->settings;
    char folder[PATH_BYTES_MAX];

    flow_take_disks(f, point);
    local_disks_folder(f, folder);
    if (!dir_make(f->call->world, folder, 0711, err))
        return false;
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (!make_one(f, folder, point, &s->disks[i], err))
            return err_wrap(err, "the local file of disk %s", s->disks[i].name);
    return true;
}

/* PATH/NAME.GENERATION.img */
static bool is_ours(const struct settings_disk *d)
{
    const char *slash = strrchr(d->path, '/'), *base = slash ? slash + 1 : d->path;
    char expected[DISK_NAME_MAX + GENERATION_NAME_MAX + 8], name[GENERATION_NAME_MAX];
    struct generation g;
    size_t length = strlen(d->name);
    if (strncmp(base, d->name, length) != 0 || base[length] != '.')
        return false;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(base + length + 1, "."), base + length + 1);
    snprintf(expected, sizeof expected, "%s.%s.img", d->name, name);
    return generation_parse(name, &g) && strcmp(base, expected) == 0;
}

bool local_disks_ours(const struct settings *s)
{
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (is_ours(&s->disks[i]))
            return true;
    return false;
}

bool local_disks_remove(struct flow *f, struct err *err)
{
    struct settings *s = &f->vm->settings;
    char suffix[GENERATION_NAME_MAX + 8], record[PATH_MAX];
    suffix_of(s->generation, suffix);
    for (uint16_t i = 0; i < s->disk_count; i++) {
        const char *path = s->disks[i].path;
        size_t length = strlen(path), tail = strlen(suffix);
        if (length < tail || strcmp(path + length - tail, suffix) != 0)
            continue;
        snprintf(record, sizeof record, "%.4000s.map", path);
        if (!file_remove(f->call->world, path, err) || !file_remove(f->call->world, record, err))
            return false;
    }
    return true;
}

static bool forget(struct flow *f, const char *state, const char *name, const char *suffix,
                   struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", state, name, suffix);
    return file_remove(f->call->world, path, err);
}

bool local_disks_forget(struct flow *f, struct err *err)
{
    const struct settings *s = &f->vm->settings;
    char state[PATH_BYTES_MAX];
    path_state(f->call->paths, s->name, state);
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (!source_forget_disk(f->call->world, state, s->disks[i].name, err))
            return false;
    return forget(f, state, "ship", ".json", err) && forget(f, state, "journal", "", err) &&
           forget(f, state, "undo", "", err);
}
