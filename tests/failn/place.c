/* SPDX-License-Identifier: MIT */
#include "tests/failn/place.h"

#include "common/json.h"
#include "tests/failn/failn.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define CACHE_BYTES  (8u << 20)
#define UNDO_BYTES   (1u << 20)
#define UPLOADS      2u
#define STOP_MS      30000u
#define READ_SECTORS 64u

const uint64_t place_disk_bytes[PLACE_DISKS] = {4u << 20, (1u << 20) + 3072};
static const char *const disk_names[PLACE_DISKS] = {"a", "b"};

/* --- the place --- */

static void must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    abort();
}

static const char *path_of(const struct place *p, const char *name)
{
    return tmp_dir_path(&p->dir, name);
}

static void make_contents(struct place *p)
{
    static const char *const variables[] = {"FARSHORE_CONFIG", "FARSHORE_STATE", "FARSHORE_RUN",
                                            "FARSHORE_CREDENTIALS"};
    for (size_t i = 0; i < PLACE_DISKS; i++) {
        int fd = open(path_of(p, disk_names[i]), O_RDWR | O_CREAT | O_EXCL, 0600);
        must(fd >= 0 && ftruncate(fd, (off_t)place_disk_bytes[i]) == 0, "a disk");
        close(fd);
    }
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        must(setenv(variables[i], path_of(p, variables[i]), 1) == 0, "setenv");
}

void place_make(struct place *p)
{
    tmp_dir_make(&p->dir);
    p->truth = failn_shared(sizeof *p->truth);
    uint64_t largest[PLACE_DISKS];
    for (size_t i = 0; i < PLACE_DISKS; i++)
        largest[i] = PLACE_SECTORS * PLACE_SECTOR;
    p->memory_bytes = source_memory_bytes(largest, PLACE_DISKS);
    p->memory = failn_shared(p->memory_bytes);
    make_contents(p);
}

void place_remove(struct place *p)
{
    tmp_dir_remove(&p->dir);
}

void place_empty(struct place *p)
{
    tmp_dir_remove(&p->dir);
    must(mkdir(p->dir.path, 0700) == 0, p->dir.path);
    memset(p->truth, 0, sizeof *p->truth);
    memset(p->memory, 0, p->memory_bytes);
    make_contents(p);
}

bool place_verb(const char *const *words)
{
    char *argv[16] = {"farshore"};
    int count = 1;
    while (words[count - 1] != NULL) {
        must(count + 1 < 16, "a verb");
        argv[count] = (char *)(uintptr_t)words[count - 1];
        count++;
    }
    return verb_main(count, argv) == EXIT_DONE;
}

bool place_enable(struct place *p)
{
    char disks[PLACE_DISKS][PATH_MAX + 8], cache[PATH_MAX + 16], target[PATH_MAX + 16];
    for (size_t i = 0; i < PLACE_DISKS; i++)
        snprintf(disks[i], sizeof disks[i], "%s=%s/%s", disk_names[i], p->dir.path, disk_names[i]);
    snprintf(cache, sizeof cache, "file://%s/cache", p->dir.path);
    snprintf(target, sizeof target, "file://%s/target", p->dir.path);
    return place_verb((const char *const[]){"enable", PLACE_VM, "--disk", disks[0], "--disk",
                                            disks[1], "--cache", cache, "--target", target, NULL});
}

bool place_process(void)
{
    return place_verb((const char *const[]){"process", "--once", PLACE_VM, NULL});
}

static bool call_make(struct place_host *h, struct err *err)
{
    h->call = (struct verb_call){.world = world_real(), .paths = &h->paths};
    if (!paths_find(&h->paths, err))
        return false;
    h->call.host = (struct store_host){
        .world = world_real(), .credentials = h->paths.credentials, .env = getenv};
    return true;
}

bool place_host_open(struct place_host *h, struct err *err)
{
    h->vm = VM_NONE;
    return call_make(h, err) && vm_load(&h->call, PLACE_VM, &h->vm, err);
}

void place_host_close(struct place_host *h)
{
    vm_release(&h->vm);
    h->vm = VM_NONE;
}

static bool load(struct settings *s)
{
    struct err err = ERR_NONE;
    struct paths paths;
    return paths_find(&paths, &err) && settings_load(world_real(), &paths, PLACE_VM, s, &err);
}

bool place_enabled(void)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    return load(&s) && s.role == ROLE_SOURCE;
}

uint64_t place_disk_size(size_t disk)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    return load(&s) && disk < s.disk_count ? s.disks[disk].size_bytes : 0;
}

/* --- what sectors hold --- */

/* splitmix64: no compression shortens it, so that an epoch has parts. */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Version 0 is what a new disk has. */
static void sector_bytes(const struct place_truth *t, size_t disk, uint64_t sector, uint8_t version,
                         uint8_t out[PLACE_SECTOR])
{
    uint64_t seed = (disk + 1) << 56 | sector << 32 | (uint64_t)version << 16;
    if (version == 0 || t->zero[version]) {
        memset(out, 0, PLACE_SECTOR);
        return;
    }
    for (size_t i = 0; i < PLACE_SECTOR; i += 8)
        store_u64(out + i, mixed(seed + i));
}

static bool is_true(struct place_truth *t, size_t which, size_t disk, uint64_t sector,
                    const uint8_t *seen)
{
    uint8_t wanted[PLACE_SECTOR];
    unsigned first = t->answered[which][sector], last = t->begun[which][sector];
    for (unsigned version = first; version <= (last > first ? last : first); version++) {
        sector_bytes(t, disk, sector, (uint8_t)version, wanted);
        if (memcmp(seen, wanted, PLACE_SECTOR) == 0)
            return true;
    }
    snprintf(t->wrong, sizeof t->wrong, "image %zu, sector %llu is not what write %u put there",
             which, (unsigned long long)sector, first);
    return false;
}

static bool are_true(struct place_truth *t, size_t which, size_t disk, uint64_t sector,
                     uint64_t count, const uint8_t *seen, struct err *err)
{
    for (uint64_t i = 0; i < count; i++)
        if (!is_true(t, which, disk, sector + i, seen + i * PLACE_SECTOR))
            return err_set(err, ERR_CORRUPT, "WRONG DATA: %s", t->wrong);
    return true;
}

static uint8_t begin_write(struct place_truth *t, size_t which, uint64_t sector, uint64_t count,
                           bool zero)
{
    uint8_t version = ++t->version;
    t->zero[version] = zero;
    memset(t->begun[which] + sector, version, count);
    return version;
}

static void end_write(struct place_truth *t, size_t which, uint64_t sector, uint64_t count)
{
    memset(t->answered[which] + sector, t->begun[which][sector], count);
}

/* --- a worker --- */

static bool open_source(struct place_mount *m, const char *state, bool fresh, struct err *err)
{
    struct settings *s = &m->host.vm.settings;
    struct source_disk_config disks[PLACE_DISKS];
    for (uint16_t i = 0; i < s->disk_count; i++)
        disks[i] = (struct source_disk_config){.name = s->disks[i].name,
                                               .path = s->disks[i].path,
                                               .number = s->disks[i].number,
                                               .store = s->disks[i].store,
                                               .size_bytes = s->disks[i].size_bytes};
    struct source_config config = {.world = world_real(),
                                   .state_folder = state,
                                   .disks = disks,
                                   .disk_count = s->disk_count,
                                   .undo_memory_bytes = UNDO_BYTES / 2,
                                   .undo_file_bytes = UNDO_BYTES / 2,
                                   .key_id = keys_id(m->host.vm.keys),
                                   .memory = m->place->memory,
                                   .memory_bytes = m->place->memory_bytes,
                                   .memory_fresh = fresh};
    return source_open(&config, &m->source, err);
}

static bool open_shipper(struct place_mount *m, const char *state, struct err *err)
{
    struct settings *s = &m->host.vm.settings;
    struct shipper_config config = {.source = m->source,
                                    .world = world_real(),
                                    .vm = s->name,
                                    .generation = s->generation,
                                    .keys = m->host.vm.keys,
                                    .encrypt = s->encrypted,
                                    .caches = m->host.vm.caches,
                                    .cache_count = s->store_count,
                                    .state_folder = state,
                                    .cut_interval_ms = CUT_INTERVAL_MS,
                                    .uploads_max = UPLOADS,
                                    .pass_above_bytes = UNDO_BYTES};
    memcpy(config.vm_id, s->vm, sizeof config.vm_id);
    return shipper_open(&config, &m->shipper, err);
}

static bool open_all(struct place_mount *m, bool fresh, struct err *err)
{
    char state[PATH_BYTES_MAX];
    if (!place_host_open(&m->host, err))
        return false;
    path_state(&m->host.paths, PLACE_VM, state);
    if (fresh)
        memset(m->place->memory, 0, m->place->memory_bytes);
    return open_source(m, state, fresh, err) && vm_open_caches(&m->host.vm, VM_SHIPS, err) &&
           open_shipper(m, state, err);
}

bool place_mount_open(struct place *p, bool fresh, struct place_mount *m, struct err *err)
{
    *m = (struct place_mount){.place = p, .host.vm = VM_NONE};
    if (open_all(m, fresh, err))
        return true;
    place_mount_close(m);
    return false;
}

void place_mount_close(struct place_mount *m)
{
    shipper_close(&m->shipper);
    source_close(&m->source);
    place_host_close(&m->host);
}

bool place_write(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                 struct err *err)
{
    static uint8_t data[PLACE_SECTORS * PLACE_SECTOR];
    struct place_truth *t = m->place->truth;
    uint8_t version = begin_write(t, disk, sector, count, false);
    for (uint64_t i = 0; i < count; i++)
        sector_bytes(t, disk, sector + i, version, data + i * PLACE_SECTOR);
    bool good = source_write(m->source, disk, sector * PLACE_SECTOR,
                             span_of(data, count * PLACE_SECTOR), err);
    if (good)
        end_write(t, disk, sector, count);
    return good;
}

bool place_zero(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                struct err *err)
{
    begin_write(m->place->truth, disk, sector, count, true);
    bool good = source_zero(m->source, disk, sector * PLACE_SECTOR, count * PLACE_SECTOR, err);
    if (good)
        end_write(m->place->truth, disk, sector, count);
    return good;
}

bool place_read(struct place_mount *m, size_t disk, uint64_t sector, uint64_t count,
                struct err *err)
{
    static uint8_t seen[PLACE_SECTORS * PLACE_SECTOR];
    return source_read(m->source, disk, sector * PLACE_SECTOR, mspan_of(seen, count * PLACE_SECTOR),
                       err) &&
           are_true(m->place->truth, disk, disk, sector, count, seen, err);
}

bool place_ship(struct place_mount *m, struct err *err)
{
    uint64_t ticket, point_ms, epoch = 0;
    if (!shipper_request_point(m->shipper, POINT_CRASH, "", &ticket, err))
        return false;
    for (unsigned i = 0; i < PLACE_STEPS; i++) {
        failn_pass_ms(shipper_step(m->shipper));
        *err = ERR_NONE;
        if (shipper_wait_point(m->shipper, ticket, 0, &point_ms, &epoch, err)) {
            m->place->truth->epoch = epoch;
            return true;
        }
        /* An abandoned cut answers who asked for it; the next one is asked for anew. */
        if (m->shipper->answered_ticket >= ticket &&
            !shipper_request_point(m->shipper, POINT_CRASH, "", &ticket, err))
            return false;
    }
    return false;
}

/* --- a recovery mount --- */

static bool find_latest(struct place_recovery *r, struct err *err)
{
    char link[RECOVERY_LINK_MAX];
    struct buf json AUTO_BUF = BUF_NONE;
    struct recovery_node root = {.kind = RECOVERY_ROOT}, vm, points, point, latest, file;
    return recovery_lookup(&r->tree, root, PLACE_VM, &vm, err) &&
           recovery_lookup(&r->tree, vm, "latest", &latest, err) &&
           recovery_link(&r->tree, latest, link, err) &&
           recovery_lookup(&r->tree, vm, "points", &points, err) &&
           recovery_lookup(&r->tree, points, strrchr(link, '/') + 1, &point, err) &&
           recovery_lookup(&r->tree, point, "point.json", &file, err) &&
           recovery_json(&r->tree, file, &json, err) &&
           (recovery_point(&r->tree, point, &r->latest) ||
            err_set(err, ERR_NOT_FOUND, "the newest point is not listed"));
}

static bool recovery_open(struct place_recovery *r, bool writable, struct err *err)
{
    static char scratch[PATH_BYTES_MAX];
    if (!place_host_open(&r->host, err) || !vm_open_targets(&r->host.vm, VM_LOOKS, err) ||
        !vm_open_history(&r->host.vm, err) || !view_cache_make(CACHE_BYTES, &r->cache, err))
        return false;
    snprintf(scratch, sizeof scratch, "%s/scratch", r->host.paths.state);
    if (!dir_make(world_real(), scratch, 0700, err))
        return false;
    r->row = (struct recovery_vm){.name = PLACE_VM,
                                  .view = {.history = r->host.vm.history,
                                           .keys = r->host.vm.keys,
                                           .targets = r->host.vm.targets,
                                           .target_count = r->host.vm.settings.store_count,
                                           .cache = r->cache}};
    r->tree = (struct recovery_tree){.vms = &r->row, .vm_count = 1};
    r->config = (struct recovery_mount_config){.world = world_real(),
                                               .vms = &r->row,
                                               .vm_count = 1,
                                               .writable_name = writable ? "w" : NULL,
                                               .scratch_folder = writable ? scratch : NULL};
    return open_points_make(&r->config, &r->points, err) && find_latest(r, err);
}

bool place_recovery_open(struct place *p, bool writable, struct place_recovery *r, struct err *err)
{
    *r = (struct place_recovery){.place = p, .host.vm = VM_NONE};
    if (recovery_open(r, writable, err))
        return true;
    place_recovery_close(r);
    return false;
}

void place_recovery_close(struct place_recovery *r)
{
    open_points_release(&r->points);
    place_host_close(&r->host);
    view_cache_release(&r->cache);
}

typedef bool piece_fn(void *context, uint64_t sector, uint64_t count, const uint8_t *seen,
                      struct err *err);

/* Reads all of the open image. */
static bool read_image(struct image *image, piece_fn *each, void *context, struct err *err)
{
    uint8_t seen[READ_SECTORS * PLACE_SECTOR];
    uint64_t sectors = image_bytes(image) / PLACE_SECTOR;
    for (uint64_t at = 0; at < sectors; at += READ_SECTORS) {
        uint64_t count = sectors - at < READ_SECTORS ? sectors - at : READ_SECTORS;
        if (!image_read(image, at * PLACE_SECTOR, mspan_of(seen, count * PLACE_SECTOR), err) ||
            !each(context, at, count, seen, err))
            return false;
    }
    return true;
}

struct comparison {
    struct place_truth *truth;
    size_t which, disk;
    int fd;
};

static bool compare_truth(void *context, uint64_t sector, uint64_t count, const uint8_t *seen,
                          struct err *err)
{
    struct comparison *c = context;
    return are_true(c->truth, c->which, c->disk, sector, count, seen, err);
}

bool place_recovery_read(struct place_recovery *r, size_t disk, size_t which, struct err *err)
{
    struct comparison c = {.truth = r->place->truth, .which = which, .disk = disk};
    if (!image_open(r->points, 0, &r->latest, disk, &r->image, err))
        return false;
    bool good = read_image(r->image, compare_truth, &c, err);
    image_close(r->image);
    return good;
}

static bool write_overlay(struct place_recovery *r, uint64_t sector, uint64_t count, bool zero,
                          struct err *err)
{
    uint8_t data[READ_SECTORS * PLACE_SECTOR];
    struct place_truth *t = r->place->truth;
    uint8_t version = begin_write(t, PLACE_OVERLAY, sector, count, zero);
    for (uint64_t i = 0; i < count; i++)
        sector_bytes(t, 0, sector + i, version, data + i * PLACE_SECTOR);
    bool good = zero ? image_zero(r->image, sector * PLACE_SECTOR, count * PLACE_SECTOR, err)
                     : image_write(r->image, sector * PLACE_SECTOR,
                                   span_of(data, count * PLACE_SECTOR), err);
    if (good)
        end_write(t, PLACE_OVERLAY, sector, count);
    return good;
}

/* Whole blocks, and parts of some that lie in the view. */
bool place_recovery_write(struct place_recovery *r, struct err *err)
{
    if (!image_open(r->points, 0, &r->latest, 0, &r->image, err))
        return false;
    bool good = write_overlay(r, 0, 16, false, err) && write_overlay(r, 2051, 7, false, err) &&
                write_overlay(r, 4100, 32, true, err) && image_flush(r->image, err);
    image_close(r->image);
    return good;
}

static bool compare_file(void *context, uint64_t sector, uint64_t count, const uint8_t *seen,
                         struct err *err)
{
    const struct comparison *c = context;
    uint8_t wanted[READ_SECTORS * PLACE_SECTOR];
    ssize_t n = pread(c->fd, wanted, count * PLACE_SECTOR, (off_t)(sector * PLACE_SECTOR));
    if (n == (ssize_t)(count * PLACE_SECTOR) && memcmp(wanted, seen, (size_t)n) == 0)
        return true;
    return err_set(err, ERR_CORRUPT,
                   "WRONG DATA: disk %zu of the point differs from the file between sectors %llu "
                   "and %llu",
                   c->disk, (unsigned long long)sector, (unsigned long long)(sector + count));
}

static bool compare_disk(struct place_recovery *r, size_t disk, struct err *err)
{
    struct comparison c = {.disk = disk};
    int fd AUTO_FD = open(path_of(r->place, disk_names[disk]), O_RDONLY);
    must(fd >= 0, "a disk");
    c.fd = fd;
    if (!image_open(r->points, 0, &r->latest, disk, &r->image, err))
        return false;
    bool good = read_image(r->image, compare_file, &c, err);
    image_close(r->image);
    return good;
}

bool place_point_is_files(struct place *p, struct err *err)
{
    struct place_recovery r;
    if (!place_recovery_open(p, false, &r, err))
        return false;
    bool good = r.latest.epoch >= p->truth->epoch ||
                err_set(err, ERR_CORRUPT, "epoch %llu was shipped, the newest point has %llu",
                        (unsigned long long)p->truth->epoch, (unsigned long long)r.latest.epoch);
    for (size_t disk = 0; good && disk < PLACE_DISKS; disk++)
        good = compare_disk(&r, disk, err);
    place_recovery_close(&r);
    return good;
}
