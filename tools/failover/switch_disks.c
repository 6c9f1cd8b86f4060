/* SPDX-License-Identifier: MIT */
#include "tools/failover/switch_disks.h"

#include "tools/failover/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void mounted_path(const struct settings *s, uint16_t disk, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s.img", s->machine->mount, s->disks[disk].name);
}

static bool load(const struct switch_disks *s, enum virt_xml which, struct machine **out,
                 struct err *err)
{
    char *xml AUTO_FREE = NULL;
    return virt_xml(s->virt, s->settings->machine->domain, which, &xml, err) &&
           machine_parse(span_of_text(xml), out, err);
}

static bool store(const struct switch_disks *s, struct machine *m, struct err *err)
{
    char *xml AUTO_FREE = NULL;
    return machine_write(m, &xml, err) && virt_define(s->virt, xml, err);
}

static bool find(const struct switch_disks *s, const struct machine *m, uint16_t disk,
                 const struct machine_disk **out, struct err *err)
{
    const char *name = s->settings->disks[disk].name;
    *out = machine_disk(m, name);
    return *out != NULL || err_set(err, ERR_NOT_FOUND, "domain %s has no disk %s any more",
                                   s->settings->machine->domain, name);
}

/* All of it in one definition. */
static bool define_on(const struct switch_disks *s, struct err *err)
{
    struct machine *m AUTO_MACHINE = NULL;
    const struct settings *settings = s->settings;
    if (!load(s, VIRT_DEFINED, &m, err))
        return false;
    for (uint16_t i = 0; i < settings->disk_count; i++) {
        char path[PATH_MAX];
        mounted_path(settings, i, path);
        if (!machine_set_disk(m, settings->disks[i].name, MACHINE_FILE, path, err) ||
            !machine_stop_on_error(m, settings->disks[i].name, err))
            return false;
    }
    return store(s, m, err);
}

/* Whether the file is as it was when it was copied. */
static bool unchanged_since(const char *path, uint64_t copied_ns)
{
    struct stat st;
    return copied_ns > 0 && stat(path, &st) == 0 &&
           (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec <= copied_ns;
}

/* Its content must be in the file that is mounted: that is so where the file is the domain's own.
 */
static bool check_own_files(const struct switch_disks *s, struct err *err)
{
    struct machine *m AUTO_MACHINE = NULL;
    const struct settings *settings = s->settings;
    if (!load(s, VIRT_DEFINED, &m, err))
        return false;
    for (uint16_t i = 0; i < settings->disk_count; i++) {
        const struct machine_disk *d;
        char path[PATH_MAX];
        mounted_path(settings, i, path);
        if (!find(s, m, i, &d, err))
            return false;
        if (strcmp(d->path, path) == 0 || strcmp(d->path, settings->disks[i].path) == 0 ||
            unchanged_since(d->path, s->copied_ns))
            continue;
        return err_set(
            err, ERR_INVALID,
            "domain %s is off now, and what its disk %s has in %s is not under farshore: "
            "start it and give the same command again, or end this with farshore "
            "disable %s",
            settings->machine->domain, d->target, d->path, settings->name);
    }
    return true;
}

/* --- a running domain --- */

static bool is_file_of_size(const char *path, uint64_t bytes)
{
    struct stat st;
    return stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size == bytes);
}

struct moved_disk {
    bool moved, raw;
    char before[PATH_MAX];
};

/* `err` stays what it was, with how far back it went behind it. */
static void move_back(const struct switch_disks *s, const struct moved_disk *moved, uint16_t count,
                      struct err *err)
{
    const struct settings *settings = s->settings;
    for (uint16_t i = 0; i < count; i++) {
        const struct settings_disk *d = &settings->disks[i];
        struct err why = ERR_NONE;
        if (!moved[i].moved)
            continue;
        if (moved[i].raw && is_file_of_size(moved[i].before, d->size_bytes) &&
            virt_move_disk(s->virt, settings->machine->domain, d->name, moved[i].before, NULL, NULL,
                           &why))
            continue;
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used,
                 "; disk %s stays on the mount, where it is replicated", d->name);
    }
}

static bool move_disk(const struct switch_disks *s, const struct machine *live, uint16_t i,
                      struct moved_disk *moved, virt_progress_fn *progress, void *context,
                      struct err *err)
{
    const struct machine_disk *d;
    char path[PATH_MAX];
    mounted_path(s->settings, i, path);
    if (!find(s, live, i, &d, err))
        return false;
    if (strcmp(d->path, path) == 0)
        return true;
    snprintf(moved->before, sizeof moved->before, "%s", d->path);
    moved->raw = d->format[0] == '\0' || strcmp(d->format, "raw") == 0;
    if (!virt_move_disk(s->virt, s->settings->machine->domain, d->target, path, progress, context,
                        err))
        return err_wrap(err, "disk %s of domain %s cannot be moved", s->settings->disks[i].name,
                        s->settings->machine->domain);
    moved->moved = true;
    return true;
}

static bool move_all(const struct switch_disks *s, virt_progress_fn *progress, void *context,
                     struct err *err)
{
    struct machine *live AUTO_MACHINE = NULL;
    const struct settings *settings = s->settings;
    struct moved_disk *moved AUTO_FREE = calloc(settings->disk_count, sizeof *moved);

    if (moved == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!load(s, VIRT_LIVE, &live, err))
        return false;
    for (uint16_t i = 0; i < settings->disk_count; i++)
        if (!move_disk(s, live, i, &moved[i], progress, context, err)) {
            move_back(s, moved, i, err);
            return false;
        }
    return true;
}

/* What the next start uses. The disks have moved: from here on it is only repeated. */
static bool complete(const struct switch_disks *s, struct err *err)
{
    return define_on(s, err) ||
           err_wrap(err, "domain %s runs on the mount, but its definition is the old one",
                    s->settings->machine->domain);
}

bool switch_disks_on(const struct switch_disks *s, virt_progress_fn *progress, void *context,
                     struct err *err)
{
    struct virt_status status;
    if (!virt_status(s->virt, s->settings->machine->domain, &status, err))
        return false;
    if (status.state == VIRT_RUNNING || status.state == VIRT_PAUSED)
        return move_all(s, progress, context, err) && complete(s, err);
    if (status.state != VIRT_OFF && status.state != VIRT_CRASHED)
        return err_set(err, ERR_BUSY, "domain %s is %s: try again when it is not",
                       s->settings->machine->domain, virt_state_name(status.state));
    return check_own_files(s, err) && define_on(s, err);
}

/* --- back --- */

static bool is_device(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

bool switch_disks_off(const struct switch_disks *s, struct err *err)
{
    struct machine *m AUTO_MACHINE = NULL;
    const struct settings *settings = s->settings;
    struct virt_status status;

    if (!virt_status(s->virt, settings->machine->domain, &status, err) ||
        !load(s, VIRT_DEFINED, &m, err))
        return err->kind == ERR_NOT_FOUND;
    if (status.state != VIRT_OFF && status.state != VIRT_CRASHED)
        return err_set(err, ERR_BUSY,
                       "domain %s is %s on the mount: shut it down (virsh shutdown %s), then the "
                       "same command gives its disks back",
                       settings->machine->domain, virt_state_name(status.state),
                       settings->machine->domain);
    for (uint16_t i = 0; i < settings->disk_count; i++) {
        const struct settings_disk *disk = &settings->disks[i];
        const struct machine_disk *d = machine_disk(m, disk->name);
        char path[PATH_MAX];
        mounted_path(settings, i, path);
        if (d == NULL || strcmp(d->path, path) != 0)
            continue;
        if (!machine_set_disk(m, disk->name, is_device(disk->path) ? MACHINE_BLOCK : MACHINE_FILE,
                              disk->path, err))
            return false;
    }
    return store(s, m, err);
}
