/* SPDX-License-Identifier: MIT */
#include "tools/enable_domain.h"

#include "tools/enable_disk.h"
#include "tools/failover/mount_folder.h"
#include "tools/failover/switch_disks.h"
#include "tools/failover/unit.h"
#include "tools/output.h"
#include "tools/self_run.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

void enable_domain_release(struct enable_domain *d)
{
    source_domain_release(&d->source);
    virt_close(&d->virt);
}

static bool open_virt(const struct verb_call *call, struct virt **out, struct err *err)
{
    struct host_config host;
    return host_config_load(call->world, call->paths, &host, err) &&
           virt_open(call->world, host.libvirt, out, err);
}

/* --- reading --- */

static bool read_mount(const struct verb_call *call, struct settings *s, struct err *err)
{
    char folder[PATH_MAX];
    const char *given = option_value(call->options, "mount", 0);
    mount_folder_default(call->paths, s->name, folder);
    /* Absolute, but not resolved: it may have to be made first. */
    if (given != NULL && given[0] != '/')
        return err_set(err, ERR_INVALID, "--mount %.80s: give a path that starts with /", given);
    for (size_t n = given ? strlen(given) : 0; n > 1 && given[n - 1] == '/'; n--)
        if (given[n - 2] != '/') {
            snprintf(folder, sizeof folder, "%.*s", (int)(n - 1), given);
            return settings_set_machine(s, "mount", folder, err);
        }
    return settings_set_machine(s, "mount", given ? given : folder, err);
}

/* The stores that --disk NAME,cache=URL,target=URL gives to disk `name`. */
static bool stores_of(const struct options *o, const char *name, const char **cache,
                      const char **target, char text[2 * STORE_URL_MAX], bool *named)
{
    for (size_t i = 0; i < option_count(o, "disk"); i++) {
        const char *given = option_value(o, "disk", i);
        if (strlen(given) >= 2 * STORE_URL_MAX)
            return false;
        memcpy(text, given, strlen(given) + 1);
        enable_disk_stores(text, cache, target);
        if (strcmp(text, name) == 0) {
            *named = true;
            return true;
        }
    }
    return true;
}

static bool take_disk(const struct options *o, const struct source_disk *from, struct settings *s,
                      size_t *named, struct err *err)
{
    struct settings_disk *d = &s->disks[s->disk_count];
    char text[2 * STORE_URL_MAX];
    const char *cache = s->stores[0].cache, *target = s->stores[0].target;
    bool given = false;

    if (!stores_of(o, from->name, &cache, &target, text, &given))
        return err_set(err, ERR_INVALID, "a --disk is too long");
    if (!given) {
        cache = s->stores[0].cache;
        target = s->stores[0].target;
    }
    *named += given;
    memcpy(d->name, from->name, sizeof d->name);
    memcpy(d->path, from->local, sizeof d->path);
    d->number = s->disk_count;
    d->size_bytes = from->size_bytes;
    /* What is protected in place must be fit for it as it is. */
    if (from->room_bytes == 0 && strcmp(from->local, from->path) == 0 && !enable_disk_check(d, err))
        return false;
    if (!settings_store(s, cache, target, &d->store, err))
        return false;
    s->disk_count++;
    return true;
}

static bool read_source(const struct verb_call *call, struct enable_domain *d, struct err *err)
{
    const struct options *o = call->options;
    const char *excluded[MACHINE_DISKS_MAX];
    char folder[PATH_MAX];
    struct source_ask ask = {
        .domain = option_value(o, "domain", 0),
        .excluded = excluded,
        .convert = option_given(o, "convert"),
    };
    for (size_t i = 0; i < option_count(o, "exclude"); i++) {
        if (i == MACHINE_DISKS_MAX)
            return err_set(err, ERR_INVALID, "more than %u --exclude", MACHINE_DISKS_MAX);
        excluded[ask.excluded_count++] = option_value(o, "exclude", i);
    }
    const char *local = option_value(o, "local", 0);
    if (local != NULL && realpath(local, folder) == NULL)
        return err_errno(err, errno, "--local %s", local);
    ask.local = local ? folder : NULL;
    return source_domain_read(call->world, d->virt, &ask, &d->source, err) &&
           source_domain_check_room(&d->source, err);
}

bool enable_domain_read(const struct verb_call *call, struct enable_domain *d, struct settings *s,
                        struct err *err)
{
    size_t named = 0;
    if (!read_mount(call, s, err) || !open_virt(call, &d->virt, err) ||
        !read_source(call, d, err) || !settings_set_machine(s, "domain", d->source.name, err))
        return false;
    for (uint16_t i = 0; i < d->source.disk_count; i++)
        if (!take_disk(call->options, &d->source.disks[i], s, &named, err))
            return false;
    return named == option_count(call->options, "disk") ||
           err_set(err, ERR_INVALID,
                   "with --domain each --disk is NAME,cache=URL or NAME,target=URL, of a disk that "
                   "is replicated, once");
}

/* --- the switch --- */

static void path_pending(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s/switch", p->state, (int)VM_NAME_MAX, vm);
}

bool enable_domain_make(const struct verb_call *call, const struct enable_domain *d,
                        const struct settings *s, bool again, struct err *err)
{
    static const char copied[] = "copied\n", live[] = "live\n";
    char path[PATH_BYTES_MAX];
    /* Last, so that its time is not before the copies'. */
    path_pending(call->paths, s->name, path);
    return source_domain_make_files(call->world, &d->source, again, err) &&
           file_replace(call->world, path, 0600, span_of_text(d->source.running ? live : copied),
                        err);
}

bool enable_domain_pending(const struct verb_call *call, const char *vm)
{
    char path[PATH_BYTES_MAX];
    path_pending(call->paths, vm, path);
    return access(path, F_OK) == 0;
}

/* One at a time. `copied_ns` as switch_disks wants it. */
static bool hold_pending(const struct verb_call *call, const struct settings *s, int *fd,
                         uint64_t *copied_ns, struct err *err)
{
    char path[PATH_BYTES_MAX], text[8] = "";
    struct stat st;
    path_pending(call->paths, s->name, path);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0 || pread(*fd, text, sizeof text - 1, 0) < 0)
        return err_errno(err, errno, "%s", path);
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, ERR_BUSY, "%s: another enable of it is under way on this host",
                       s->name);
    *copied_ns = strcmp(text, "copied\n") == 0
                     ? (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec
                     : 0;
    return true;
}

static bool mount_it(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct unit_place place;
    bool ours;
    bool mounted = mount_folder_used(s->machine->mount, s->name, &ours) && ours;
    if (!mounted && !mount_folder_make(call->world, call->paths, s->machine->mount, err))
        return false;
    if (unit_place_find(&place))
        return unit_enable(call->world, &place, call->paths, s->name, s->machine->mount, mounted,
                           err);
    return mounted ||
           self_run((const char *const[]){"mount", s->name, s->machine->mount, NULL}, err);
}

static bool unmount_it(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct unit_place place;
    bool ours;
    if (unit_place_find(&place) && !unit_disable(call->world, &place, s->name, err))
        return false;
    if (!mount_folder_used(s->machine->mount, s->name, &ours) || !ours)
        return true;
    return self_run((const char *const[]){"unmount", s->machine->mount, NULL}, err);
}

struct shown {
    struct progress progress;
};

static bool show_progress(void *context, uint64_t done, uint64_t total)
{
    struct shown *shown = context;
    progress_show(&shown->progress, done, total);
    return true;
}

static bool switch_on(const struct verb_call *call, struct virt *virt, const struct settings *s,
                      uint64_t copied_ns, struct err *err)
{
    struct shown shown = {.progress = progress_begin(call->world, stderr, "copying the disks")};
    const struct switch_disks to_mount = {
        .world = call->world, .virt = virt, .settings = s, .copied_ns = copied_ns};
    bool good = switch_disks_on(&to_mount, show_progress, &shown, err);
    progress_end(&shown.progress);
    return good;
}

/* The domain's own words first; `err` keeps them. A mount that a disk has moved to stays: it is in
 * use. */
static void take_down(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct err why = ERR_NONE;
    size_t used = strlen(err->text);
    if (unmount_it(call, s, &why))
        why.text[0] = '\0';
    snprintf(err->text + used, sizeof err->text - used,
             "%s%s; the same command goes on, farshore disable %s gives it up",
             why.text[0] ? "; " : "", why.text, s->name);
}

static bool put_on_mount(const struct verb_call *call, const struct settings *s, uint64_t copied_ns,
                         struct err *err)
{
    struct virt *virt AUTO_VIRT = NULL;
    if (open_virt(call, &virt, err) && mount_it(call, s, err) &&
        switch_on(call, virt, s, copied_ns, err))
        return true;
    take_down(call, s, err);
    return false;
}

bool enable_domain_finish(const struct verb_call *call, const struct settings *s, struct err *err)
{
    char path[PATH_BYTES_MAX];
    uint64_t copied_ns = 0;
    int pending AUTO_FD = -1;

    if (!hold_pending(call, s, &pending, &copied_ns, err) || !put_on_mount(call, s, copied_ns, err))
        return false;
    path_pending(call->paths, s->name, path);
    return file_remove(call->world, path, err);
}

bool enable_domain_undo(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct virt *virt AUTO_VIRT = NULL;
    if (s->machine->domain[0] == '\0')
        return true;
    if (!open_virt(call, &virt, err))
        return false;
    const struct switch_disks from = {.world = call->world, .virt = virt, .settings = s};
    return switch_disks_off(&from, err) && unmount_it(call, s, err);
}
