/* SPDX-License-Identifier: MIT */
#include "tools/enable_disk.h"

#include "tools/disk_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* The last ",cache=" or ",target=" in `text`; NULL when there is none. */
static char *last_store(char *text, const char **name)
{
    static const char *const names[] = {",cache=", ",target="};
    char *last = NULL;
    for (size_t i = 0; i < 2; i++)
        for (char *at = text; (at = strstr(at, names[i])); at++)
            if (last == NULL || at > last) {
                last = at;
                *name = names[i];
            }
    return last;
}

void enable_disk_stores(char *text, const char **cache, const char **target)
{
    const char *name;
    for (char *at; (at = last_store(text, &name));) {
        *at = '\0';
        *(strcmp(name, ",cache=") == 0 ? cache : target) = at + strlen(name);
    }
}

static bool is_qcow2(int fd)
{
    static const uint8_t magic[4] = {'Q', 'F', 'I', 0xfb};
    uint8_t head[4];
    return pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
           memcmp(head, magic, sizeof head) == 0;
}

/* Opens for reading only: nothing is changed by checks. */
bool enable_disk_check(struct settings_disk *d, struct err *err)
{
    int fd AUTO_FD = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, errno, "disk %s: %s", d->name, d->path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(err, ERR_INVALID,
                       "disk %s: %s is neither a file nor a block device: give the raw disk",
                       d->name, d->path);
    if (is_qcow2(fd))
        return err_set(err, ERR_INVALID,
                       "disk %s is a qcow2 image; convert it, with the VM stopped: "
                       "qemu-img convert -O raw %s %s.raw",
                       d->name, d->path, d->path);
    if (!disk_bytes(fd, &d->size_bytes, err))
        return err_wrap(err, "disk %s: %s", d->name, d->path);
    if (d->size_bytes == 0)
        return err_set(err, ERR_INVALID, "disk %s: %s is empty: truncate -s SIZE makes a disk",
                       d->name, d->path);
    return d->size_bytes <= DISK_BYTES_MAX ||
           err_set(err, ERR_INVALID, "disk %s: %s is larger than 1 PiB", d->name, d->path);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    if (stat(a, &x) != 0 || stat(b, &y) != 0)
        return strcmp(a, b) == 0;
    if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode))
        return x.st_rdev == y.st_rdev;
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool check_alone(const struct settings *s, const struct settings_disk *d, struct err *err)
{
    for (const struct settings_disk *other = s->disks; other < d; other++) {
        if (strcmp(other->name, d->name) == 0)
            return err_set(err, ERR_INVALID, "two disks are named %s: give each its own", d->name);
        if (same_file(other->path, d->path))
            return err_set(err, ERR_INVALID, "disks %s and %s are the same file %s", other->name,
                           d->name, d->path);
    }
    return true;
}

/* NAME=PATH[,cache=URL][,target=URL] into the next disk of `s`. */
bool enable_disk_add(struct settings *s, const char *given, struct err *err)
{
    char text[PATH_MAX + 2 * STORE_URL_MAX];
    const char *cache = s->stores[0].cache, *target = s->stores[0].target;
    struct settings_disk *d = &s->disks[s->disk_count];

    if (s->disk_count == VM_DISKS_MAX)
        return err_set(err, ERR_INVALID, "more than %u disks", VM_DISKS_MAX);
    if (strlen(given) >= sizeof text)
        return err_set(err, ERR_INVALID, "--disk %.40s... is too long", given);
    memcpy(text, given, strlen(given) + 1);
    enable_disk_stores(text, &cache, &target);
    char *equals = strchr(text, '=');
    if (equals == NULL || equals[1] == '\0')
        return err_set(err, ERR_INVALID, "--disk %.80s: give NAME=PATH", given);
    *equals = '\0';
    if (!disk_name_valid(text))
        return err_set(err, ERR_INVALID,
                       "disk name %.40s: use up to 31 of a-z, 0-9, - and _, and begin with a "
                       "letter or digit",
                       text);
    memcpy(d->name, text, strlen(text) + 1);
    d->number = s->disk_count;
    if (realpath(equals + 1, d->path) == NULL)
        return err_errno(err, errno, "disk %s: %s", d->name, equals + 1);
    if (!enable_disk_check(d, err) || !check_alone(s, d, err) ||
        !settings_store(s, cache, target, &d->store, err))
        return false;
    s->disk_count++;
    return true;
}

/* No disk may belong to another VM of this host. */
bool enable_disk_others(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    if (!vm_names_list(call->paths, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        struct settings other AUTO_SETTINGS = {.disks = NULL};
        if (strcmp(names.names[i], s->name) == 0)
            continue;
        if (!settings_load(call->world, call->paths, names.names[i], &other, err))
            return false;
        for (uint16_t a = 0; a < s->disk_count; a++)
            for (uint16_t b = 0; b < other.disk_count; b++)
                if (other.disks[b].path[0] && same_file(s->disks[a].path, other.disks[b].path))
                    return err_set(err, ERR_EXISTS, "disk %s: %s belongs to VM %s already",
                                   s->disks[a].name, s->disks[a].path, other.name);
    }
    return true;
}
