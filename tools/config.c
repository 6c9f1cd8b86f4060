/* SPDX-License-Identifier: MIT */
#include "tools/config.h"

#include "common/json.h"
#include "tools/config_machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* --- where things are --- */

static bool folder(char out[FOLDER_BYTES_MAX], const char *cwd, const char *base, const char *below,
                   struct err *err)
{
    int length = base[0] == '/' ? snprintf(out, FOLDER_BYTES_MAX, "%s%s", base, below)
                                : snprintf(out, FOLDER_BYTES_MAX, "%s/%s%s", cwd, base, below);
    if (length < 0 || (size_t)length >= FOLDER_BYTES_MAX)
        return err_set(err, ERR_INVALID, "the folder %.64s... is longer than %u: use a shorter one",
                       base, FOLDER_BYTES_MAX);
    return true;
}

/* NAME when it is set, else XDG/farshore, else HOME + `below`. */
static bool user_folder(char out[FOLDER_BYTES_MAX], char *(*env)(const char *), const char *cwd,
                        const char *xdg, const char *below, struct err *err)
{
    const char *base = env(xdg);
    if (base && base[0] == '/')
        return folder(out, cwd, base, "/farshore", err);
    base = env("HOME");
    if (base == NULL || base[0] != '/')
        return err_set(err, ERR_INVALID,
                       "HOME is not set: set FARSHORE_CONFIG, FARSHORE_STATE and "
                       "FARSHORE_RUN to three folders");
    return folder(out, cwd, base, below, err);
}

bool paths_from(char *(*env)(const char *name), bool root, const char *cwd, struct paths *out,
                struct err *err)
{
    const struct {
        const char *name, *system, *xdg, *below;
        char *out;
    } rows[] = {
        {"FARSHORE_CONFIG", "/etc/farshore", "XDG_CONFIG_HOME", "/.config/farshore", out->config},
        {"FARSHORE_STATE", "/var/lib/farshore", "XDG_STATE_HOME", "/.local/state/farshore",
         out->state},
        {"FARSHORE_RUN", "/run/farshore", "XDG_RUNTIME_DIR", "/.local/state/farshore/run",
         out->run},
    };
    for (size_t i = 0; i < 3; i++) {
        const char *given = env(rows[i].name);
        bool good = given && *given ? folder(rows[i].out, cwd, given, "", err)
                    : root          ? folder(rows[i].out, cwd, rows[i].system, "", err)
                           : user_folder(rows[i].out, env, cwd, rows[i].xdg, rows[i].below, err);
        if (!good)
            return false;
    }
    const char *credentials = env("FARSHORE_CREDENTIALS");
    if (credentials && *credentials)
        return folder(out->credentials, cwd, credentials, "", err);
    snprintf(out->credentials, sizeof out->credentials, "%s/credentials", out->config);
    return true;
}

bool paths_find(struct paths *out, struct err *err)
{
    char cwd[PATH_MAX];
    if (getcwd(cwd, sizeof cwd) == NULL)
        return err_errno(err, errno, "the present folder");
    return paths_from(getenv, geteuid() == 0, cwd, out, err);
}

void path_settings(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s.json", p->config, (int)VM_NAME_MAX, vm);
}

void path_key(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/keys/%.*s.key", p->config, (int)VM_NAME_MAX, vm);
}

void path_state(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s", p->state, (int)VM_NAME_MAX, vm);
}

void path_lock(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s/lock", p->state, (int)VM_NAME_MAX, vm);
}

/* --- settings --- */

const char *role_name(enum role r)
{
    static const char *const names[] = {"enabling", "source", "target"};
    return names[r];
}

bool settings_make(struct settings *out, struct err *err)
{
    *out = (struct settings){.cut_interval_s = CUT_INTERVAL_DEFAULT_S};
    out->disks = calloc(VM_DISKS_MAX, sizeof *out->disks);
    out->stores = calloc(VM_DISKS_MAX + 1, sizeof *out->stores);
    if (!out->disks || !out->stores)
        err_set(err, ERR_FULL, "out of memory");
    else if (config_machine_make(out, err))
        return true;
    settings_release(out);
    return false;
}

void settings_release(struct settings *s)
{
    free(TAKE(s->disks));
    free(TAKE(s->stores));
    config_machine_release(s);
}

static bool bounded(const cJSON *object, const char *name, uint64_t least, uint64_t most,
                    uint64_t *out, struct err *err)
{
    if (!json_u64(object, name, out, err))
        return false;
    if (*out < least || *out > most)
        return err_set(err, ERR_INVALID, "\"%s\" is %llu, outside %llu to %llu", name,
                       (unsigned long long)*out, (unsigned long long)least,
                       (unsigned long long)most);
    return true;
}

static bool parse_role(const cJSON *j, enum role *out, struct err *err)
{
    const char *text;
    if (!json_text(j, "role", &text, err))
        return false;
    for (*out = ROLE_ENABLING; *out <= ROLE_TARGET; (*out)++)
        if (strcmp(text, role_name(*out)) == 0)
            return true;
    return err_set(err, ERR_INVALID, "\"role\" must be source or target");
}

static bool parse_head(const cJSON *j, struct settings *s, struct err *err)
{
    static const char *const known[] = {
        "version",    "name",       "vm_id",  "role",      "encrypted",
        "created_ms", "generation", "stores", "disks",     "cut_interval_seconds",
        "bandwidth",  "mount",      "domain", "start",     "stop",
        "freeze",     "thaw",       "origin", "replicate", NULL};
    char id[2 * VM_ID_BYTES + 1];
    uint64_t version;
    if (!json_only(j, known, err) || !bounded(j, "version", 1, 1, &version, err) ||
        !json_copy(j, "name", s->name, sizeof s->name, err) ||
        !json_copy(j, "vm_id", id, sizeof id, err) || !parse_role(j, &s->role, err) ||
        !json_bool(j, "encrypted", &s->encrypted, err) ||
        !json_u64(j, "created_ms", &s->created_ms, err) ||
        !bounded(j, "cut_interval_seconds", 1, CUT_INTERVAL_MAX_S, &s->cut_interval_s, err) ||
        (json_has(j, "bandwidth") &&
         (!json_copy(j, "bandwidth", s->bandwidth, sizeof s->bandwidth, err) ||
          !bandwidth_check(s->bandwidth, err))))
        return false;
    if (!vm_name_valid(s->name))
        return err_set(err, ERR_INVALID, "\"name\" is no VM name");
    if (!hex_parse(id, s->vm, VM_ID_BYTES))
        return err_set(err, ERR_INVALID, "\"vm_id\" must be %u hex digits", 2 * VM_ID_BYTES);
    if (s->role == ROLE_TARGET)
        return !json_has(j, "generation") ||
               err_set(err, ERR_INVALID, "\"generation\" belongs to a source only");
    const char *generation;
    if (!json_text(j, "generation", &generation, err))
        return false;
    return generation_parse(generation, &s->generation) ||
           err_set(err, ERR_INVALID, "\"generation\" is no generation's name");
}

static bool parse_stores(const cJSON *array, struct settings *s, struct err *err)
{
    static const char *const known[] = {"cache", "target", NULL};
    const cJSON *j;
    cJSON_ArrayForEach(j, array)
    {
        if (s->store_count == VM_DISKS_MAX + 1)
            return err_set(err, ERR_INVALID, "\"stores\" has more than %u", VM_DISKS_MAX + 1);
        struct vault_stores *pair = &s->stores[s->store_count++];
        if (!json_only(j, known, err) ||
            !json_copy(j, "cache", pair->cache, sizeof pair->cache, err) ||
            !json_copy(j, "target", pair->target, sizeof pair->target, err))
            return err_wrap(err, "store %u", s->store_count - 1u);
    }
    return s->store_count > 0 || err_set(err, ERR_INVALID, "\"stores\" is empty");
}

static bool parse_disk(const cJSON *j, struct settings *s, struct settings_disk *d, struct err *err)
{
    static const char *const known[] = {"name", "path", "number", "store", "size_bytes", NULL};
    uint64_t number, store;
    if (!json_only(j, known, err) || !json_copy(j, "name", d->name, sizeof d->name, err) ||
        !bounded(j, "number", 0, UINT16_MAX, &number, err) ||
        !bounded(j, "store", 0, s->store_count - 1u, &store, err) ||
        !bounded(j, "size_bytes", 1, DISK_BYTES_MAX, &d->size_bytes, err))
        return false;
    d->number = (uint16_t)number;
    d->store = (uint16_t)store;
    if (!disk_name_valid(d->name))
        return err_set(err, ERR_INVALID, "\"name\" is no disk name");
    if (s->role == ROLE_TARGET)
        return true;
    if (!json_copy(j, "path", d->path, sizeof d->path, err))
        return false;
    return d->path[0] == '/' || err_set(err, ERR_INVALID, "\"path\" must start with /");
}

static bool parse_disks(const cJSON *array, struct settings *s, struct err *err)
{
    const cJSON *j;
    cJSON_ArrayForEach(j, array)
    {
        if (s->disk_count == VM_DISKS_MAX)
            return err_set(err, ERR_INVALID, "\"disks\" has more than %u", VM_DISKS_MAX);
        struct settings_disk *d = &s->disks[s->disk_count++];
        if (!parse_disk(j, s, d, err))
            return err_wrap(err, "disk %u", s->disk_count - 1u);
        for (uint16_t i = 0; i + 1 < s->disk_count; i++)
            if (s->disks[i].number == d->number || strcmp(s->disks[i].name, d->name) == 0)
                return err_set(err, ERR_INVALID, "disk %u has the name or number of another",
                               s->disk_count - 1u);
    }
    return s->disk_count > 0 || err_set(err, ERR_INVALID, "\"disks\" is empty");
}

bool settings_parse(struct span text, struct settings *out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    const cJSON *stores, *disks;
    return json_parse(text, &j, err) && parse_head(j, out, err) &&
           config_machine_parse(j, out, err) && json_array(j, "stores", &stores, err) &&
           parse_stores(stores, out, err) && json_array(j, "disks", &disks, err) &&
           parse_disks(disks, out, err);
}

static bool write_disk(cJSON *array, const struct settings_disk *d, struct err *err)
{
    cJSON *j;
    return json_append_object(array, &j, err) && json_add_text(j, "name", d->name, err) &&
           (d->path[0] == '\0' || json_add_text(j, "path", d->path, err)) &&
           json_add_u64(j, "number", d->number, err) && json_add_u64(j, "store", d->store, err) &&
           json_add_u64(j, "size_bytes", d->size_bytes, err);
}

static bool write_arrays(cJSON *j, const struct settings *s, struct err *err)
{
    cJSON *stores, *disks, *pair;
    if (!json_add_array(j, "stores", &stores, err) || !json_add_array(j, "disks", &disks, err))
        return false;
    for (uint16_t i = 0; i < s->store_count; i++)
        if (!json_append_object(stores, &pair, err) ||
            !json_add_text(pair, "cache", s->stores[i].cache, err) ||
            !json_add_text(pair, "target", s->stores[i].target, err))
            return false;
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (!write_disk(disks, &s->disks[i], err))
            return false;
    return true;
}

bool settings_write(const struct settings *s, struct buf *out, struct err *err)
{
    char id[2 * VM_ID_BYTES + 1], generation[GENERATION_NAME_MAX];
    cJSON *j AUTO_JSON = NULL;

    hex_of(s->vm, VM_ID_BYTES, id);
    generation_name(s->generation, generation);
    if (!json_make(&j, err) || !json_add_u64(j, "version", 1, err) ||
        !json_add_text(j, "name", s->name, err) || !json_add_text(j, "vm_id", id, err) ||
        !json_add_text(j, "role", role_name(s->role), err) ||
        !json_add_bool(j, "encrypted", s->encrypted, err) ||
        !json_add_u64(j, "created_ms", s->created_ms, err) ||
        !(s->role == ROLE_TARGET || json_add_text(j, "generation", generation, err)) ||
        !json_add_u64(j, "cut_interval_seconds", s->cut_interval_s, err) ||
        !(s->bandwidth[0] == '\0' || json_add_text(j, "bandwidth", s->bandwidth, err)) ||
        !config_machine_write(j, s, err) || !write_arrays(j, s, err) ||
        !json_write(j, true, out, err))
        return false;
    buf_put(out, "\n", 1);
    return buf_ok(out, err);
}

struct vault *settings_vault(const struct settings *s)
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

static bool unknown_vm(const struct paths *p, const char *vm, struct err *err)
{
    struct vm_names known AUTO_VM_NAMES = {NULL, 0};
    char list[256] = "";
    if (!vm_names_list(p, &known, err))
        return false;
    for (size_t i = 0; i < known.count; i++) {
        size_t used = strlen(list);
        if (used + strlen(known.names[i]) + 8 > sizeof list) {
            memcpy(list + used, ", ...", 6);
            break;
        }
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", known.names[i]);
    }
    if (list[0])
        return err_set(err, ERR_NOT_FOUND, "no VM %.80s here: give one of %s", vm, list);
    return err_set(err, ERR_NOT_FOUND,
                   "no VM %.80s here, and no other: farshore enable (on its host) or join", vm);
}

bool settings_load(struct world *w, const struct paths *p, const char *vm, struct settings *out,
                   struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    if (!vm_name_valid(vm))
        return unknown_vm(p, vm, err);
    path_settings(p, vm, path);
    if (!file_load(w, path, SETTINGS_BYTES_MAX, &text, err))
        return err->kind == ERR_NOT_FOUND ? unknown_vm(p, vm, err) : false;
    if (!settings_make(out, err))
        return false;
    bool good = settings_parse(buf_span(&text), out, err);
    if (good && strcmp(out->name, vm) != 0)
        good = err_set(err, ERR_INVALID, "\"name\" is %s", out->name);
    if (!good) {
        settings_release(out);
        return err_wrap(err, "%s", path);
    }
    return true;
}

static void lock_path(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%s.lock", p->config, vm);
}

bool settings_lock_remove(struct world *w, const struct paths *p, const char *vm, struct err *err)
{
    char path[PATH_BYTES_MAX];
    lock_path(p, vm, path);
    return file_remove(w, path, err);
}

bool settings_lock(const struct paths *p, const char *vm, int *fd, struct err *err)
{
    char path[PATH_BYTES_MAX];
    lock_path(p, vm, path);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_errno(err, errno, "%s", path);
    while (flock(*fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return err_errno(err, errno, "%s", path);
    return true;
}

bool settings_save(struct world *w, const struct paths *p, const struct settings *s,
                   struct err *err)
{
    char path[PATH_BYTES_MAX];
    int lock AUTO_FD = -1;
    snprintf(path, sizeof path, "%s/vms", p->config);
    return dir_make(w, path, 0700, err) && settings_lock(p, s->name, &lock, err) &&
           settings_save_locked(w, p, s, err);
}

void settings_sizes(const struct settings *s, uint64_t out[VM_DISKS_MAX])
{
    for (uint16_t i = 0; i < s->disk_count; i++)
        out[i] = s->disks[i].size_bytes;
}

bool settings_check_whole(const struct settings *s, const char *what, struct err *err)
{
    return s->origin.generation.number == 0 ||
           err_set(err, ERR_BUSY,
                   "%s is not hydrated yet: mount it, and %s when farshore status %s says that "
                   "hydration is complete",
                   s->name, what, s->name);
}

bool settings_change(struct world *w, const struct paths *p, const char *vm,
                     settings_change_fn *change, void *context, struct err *err)
{
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    return settings_lock(p, vm, &lock, err) && settings_load(w, p, vm, &now, err) &&
           (!change(context, &now) || settings_save_locked(w, p, &now, err));
}

static void take_choices(struct settings *s, const struct settings *now)
{
    struct settings_machine *m = s->machine;
    const struct settings_machine *n = now->machine;
    s->cut_interval_s = now->cut_interval_s;
    memcpy(s->bandwidth, now->bandwidth, sizeof s->bandwidth);
    memcpy(m->mount, n->mount, sizeof m->mount);
    memcpy(m->start, n->start, sizeof m->start);
    memcpy(m->stop, n->stop, sizeof m->stop);
    memcpy(m->freeze, n->freeze, sizeof m->freeze);
    memcpy(m->thaw, n->thaw, sizeof m->thaw);
}

bool settings_retake(struct world *w, const struct paths *p, struct settings *s,
                     struct settings *now, int *lock, struct err *err)
{
    if (!settings_lock(p, s->name, lock, err) || !settings_load(w, p, s->name, now, err))
        return false;
    take_choices(s, now);
    return true;
}

bool settings_save_locked(struct world *w, const struct paths *p, const struct settings *s,
                          struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    snprintf(path, sizeof path, "%s/vms", p->config);
    if (!settings_write(s, &text, err) || !dir_make(w, path, 0700, err))
        return false;
    path_settings(p, s->name, path);
    return file_replace(w, path, 0600, buf_span(&text), err);
}

bool settings_store(struct settings *s, const char *cache, const char *target, uint16_t *index,
                    struct err *err)
{
    if (strlen(cache) >= STORE_URL_MAX || strlen(target) >= STORE_URL_MAX)
        return err_set(err, ERR_INVALID, "a store's URL is longer than %u characters",
                       STORE_URL_MAX - 1);
    for (uint16_t i = 0; i < s->store_count; i++)
        if (strcmp(s->stores[i].cache, cache) == 0 && strcmp(s->stores[i].target, target) == 0) {
            *index = i;
            return true;
        }
    if (s->store_count == VM_DISKS_MAX + 1)
        return err_set(err, ERR_INVALID, "more than %u pairs of stores", VM_DISKS_MAX + 1);
    *index = s->store_count++;
    snprintf(s->stores[*index].cache, STORE_URL_MAX, "%s", cache);
    snprintf(s->stores[*index].target, STORE_URL_MAX, "%s", target);
    return true;
}

bool settings_same_vault(const struct settings *a, const struct settings *b)
{
    return memcmp(a->vm, b->vm, sizeof a->vm) == 0 &&
           strcmp(a->stores[0].target, b->stores[0].target) == 0;
}

const char *settings_bandwidth(const struct settings *s)
{
    return s->bandwidth[0] != '\0' ? s->bandwidth : "unlimited";
}

bool settings_set_bandwidth(struct settings *s, const char *spec, struct err *err)
{
    if (!bandwidth_check(spec, err))
        return false;
    snprintf(s->bandwidth, sizeof s->bandwidth, "%s", strcmp(spec, "unlimited") == 0 ? "" : spec);
    return true;
}

/* --- which VMs there are --- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The VM name in "NAME.json"; false when the file is something else. */
static bool name_of_file(const char *file, char out[VM_NAME_MAX + 1])
{
    size_t length = strlen(file);
    if (length < 6 || length - 5 > VM_NAME_MAX || strcmp(file + length - 5, ".json") != 0)
        return false;
    memcpy(out, file, length - 5);
    out[length - 5] = '\0';
    return vm_name_valid(out);
}

static void cleanup_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

bool vm_names_list(const struct paths *p, struct vm_names *out, struct err *err)
{
    return config_names_list(p, "vms", out, err);
}

bool config_names_list(const struct paths *p, const char *what, struct vm_names *out,
                       struct err *err)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", p->config, what);
    *out = (struct vm_names){NULL, 0};
    DIR *d CLEANUP(cleanup_dir) = opendir(path);
    if (d == NULL)
        return errno == ENOENT || err_errno(err, errno, "%s", path);
    for (struct dirent *e; (e = readdir(d));) {
        char name[VM_NAME_MAX + 1] = "";
        if (!name_of_file(e->d_name, name))
            continue;
        void *more = realloc(out->names, (out->count + 1) * sizeof *out->names);
        if (more == NULL)
            return err_set(err, ERR_FULL, "out of memory");
        out->names = more;
        memcpy(out->names[out->count++], name, sizeof name);
    }
    if (out->count)
        qsort(out->names, out->count, sizeof *out->names, compare_names);
    return true;
}

void vm_names_release(struct vm_names *n)
{
    free(TAKE(n->names));
    n->count = 0;
}
