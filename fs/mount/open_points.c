/* SPDX-License-Identifier: MIT */
#include "fs/mount/open_points.h"

#include "backend/history/pin.h"
#include "common/file.h"
#include "common/log.h"
#include "common/rfc3339.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

#define LOCK_WAIT_MS 5000u
#define LOCK_POLL_MS 50u

struct open_point;

struct image {
    struct open_point *point;
    size_t disk;
    _Atomic(struct overlay *) overlay; /* NULL until there is one; then constant */
};

/* Lock order: table_lock is taken last and never held across I/O. */
struct open_point {
    struct open_points *owner;
    size_t vm;
    struct history_point at;
    struct open_point *next; /* this and the next three: table_lock */
    unsigned users;
    bool closing; /* leaves the table when closed; openers wait for that */
    uint64_t idle_since_ms;

    /* Guards opening, pins and the making of overlays; I/O under it is its purpose. */
    pthread_mutex_t opening_lock;
    struct view *view; /* this and the next two: constant once set */
    size_t disk_count;
    struct image *images;
    char lease[PIN_NAME_MAX + 1];        /* the newest one put; empty: none */
    char lease_before[PIN_NAME_MAX + 1]; /* stays: a list that lags shows one of both */
    uint32_t leases;                     /* put so far: the next one's number */
    atomic_bool damaged;                 /* was said, or tried to be said */
    atomic_bool held;                    /* by a hold: leases do not matter any more */
    _Atomic uint64_t lease_end_ms;       /* boot time */
};

struct open_points {
    const struct recovery_mount_config *config;
    struct world_file **locks; /* one per VM, when writable */
    uint64_t id;               /* random: part of this mount's pins' names */
    pthread_mutex_t table_lock;
    struct open_point *points; /* this and the next two: table_lock */
    size_t count;
    pthread_cond_t closed;
};

static const struct recovery_vm *vm_of(const struct open_point *point)
{
    return &point->owner->config->vms[point->vm];
}

static uint64_t boot_ms(const struct open_points *p)
{
    return p->config->world->ops->boottime_ns(p->config->world) / 1000000;
}

/* --- making and releasing --- */

static bool scratch_path(const struct open_points *p, const char *vm, const char *rest,
                         char out[PATH_MAX], struct err *err)
{
    int length = snprintf(out, PATH_MAX, "%s/%s/%s%s%s", p->config->scratch_folder,
                          p->config->writable_name, vm, *rest ? "/" : "", rest);
    if (length < 0 || length >= PATH_MAX)
        return err_set(err, ERR_INVALID, "the scratch folder's path is too long: %s",
                       p->config->scratch_folder);
    return true;
}

/* Two mounts under one name would each keep presence bits of its own for the same files. */
static bool lock_scratch(struct open_points *p, size_t vm, struct err *err)
{
    const char *name = p->config->vms[vm].name;
    char path[PATH_MAX];
    if (!scratch_path(p, name, "", path, err) || !dir_make(p->config->world, path, 0700, err) ||
        !scratch_path(p, name, "lock", path, err) ||
        !file_open(p->config->world, path, O_RDWR | O_CREAT, 0600, &p->locks[vm], err))
        return false;
    int fd = world_file_fd(p->locks[vm]);
    /* An unmounted mount holds it for as long as its last flush takes. */
    for (unsigned waited_ms = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
         waited_ms += LOCK_POLL_MS) {
        if (errno != EWOULDBLOCK)
            return err_errno(err, errno, "cannot lock %s", path);
        if (waited_ms >= LOCK_WAIT_MS)
            return err_set(err, ERR_BUSY,
                           "overlays of %s under the name \"%s\" are in use by another mount: "
                           "unmount that one, or choose another name",
                           name, p->config->writable_name);
        usleep(LOCK_POLL_MS * 1000);
    }
    return true;
}

bool open_points_make(const struct recovery_mount_config *config, struct open_points **out,
                      struct err *err)
{
    struct open_points *p AUTO_OPEN_POINTS = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_FULL, "no memory for a recovery mount");
    p->config = config;
    pthread_mutex_init(&p->table_lock, NULL);
    pthread_cond_init(&p->closed, NULL);
    p->locks = calloc(config->vm_count + 1, sizeof *p->locks);
    if (!p->locks)
        return err_set(err, ERR_FULL, "no memory for a recovery mount");
    int failure = config->world->ops->random(config->world, &p->id, sizeof p->id);
    if (failure < 0)
        return err_errno(err, -failure, "cannot get random bytes");
    for (size_t i = 0; config->writable_name && i < config->vm_count; i++) {
        if (!lock_scratch(p, i, err))
            return false;
    }
    *out = TAKE(p);
    return true;
}

static void remove_lease(struct open_point *point, const char *name)
{
    struct err err = ERR_NONE;
    /* Left behind it ends by itself. */
    if (name[0] != '\0' &&
        !pin_remove(vm_of(point)->view.targets[0], vm_of(point)->name, name, &err))
        log_warning("%s: %s", vm_of(point)->name, err.text);
}

/* Gives back all but the entry itself. Nobody uses the point. */
static void point_shut(struct open_point *point)
{
    for (size_t i = 0; i < point->disk_count; i++) {
        struct overlay *overlay = atomic_load(&point->images[i].overlay);
        overlay_close(&overlay);
    }
    view_close(&point->view);
    remove_lease(point, point->lease);
    remove_lease(point, point->lease_before);
}

static void point_free(struct open_point *point)
{
    free(point->images);
    pthread_mutex_destroy(&point->opening_lock);
    free(point);
}

void open_points_release(struct open_points **slot)
{
    struct open_points *p = TAKE(*slot);
    if (!p)
        return;
    while (p->points) {
        struct open_point *point = p->points;
        p->points = point->next;
        point_shut(point);
        point_free(point);
    }
    for (size_t i = 0; p->locks && i < p->config->vm_count; i++)
        file_close(&p->locks[i]);
    free(p->locks);
    pthread_cond_destroy(&p->closed);
    pthread_mutex_destroy(&p->table_lock);
    free(p);
}

/* --- pins --- */

static void pin_of(const struct open_point *point, enum pin_kind kind, struct pin *out)
{
    *out = (struct pin){
        .kind = kind,
        .generation = point->at.generation,
        .epoch = point->at.epoch,
        .point_ms = point->at.ms,
    };
    memcpy(out->vm, history_vault(vm_of(point)->view.history)->vm, sizeof out->vm);
}

/* While a lease of ours keeps the point it may be leaving: who thins it out will find that one. */
static bool pin_place(const struct open_point *point, const struct pin *pin, struct err *err)
{
    bool kept =
        point->lease[0] != '\0' && boot_ms(point->owner) < atomic_load(&point->lease_end_ms);
    const struct recovery_vm *vm = vm_of(point);
    struct history_point now;
    if (!pin_put(point->owner->config->world, vm->view.targets[0], vm->name, vm->view.keys, pin,
                 err))
        return false;
    /* Pin, then read the head again: who thinned before the pin was seen has said so there. */
    if (!history_refresh(vm->view.history, err))
        return false;
    return history_point_at(vm->view.history, point->at.generation, point->at.epoch, &now, err) &&
           (kept || !now.leaving || point_leaves(err));
}

static bool lease_locked(struct open_point *point, struct err *err)
{
    struct open_points *p = point->owner;
    struct world *w = p->config->world;
    uint64_t end_ms = boot_ms(p) + OPEN_POINT_LEASE_MS; /* before the put: never too late */
    struct pin pin;
    pin_of(point, PIN_LEASE, &pin);
    pin.end_ms = w->ops->realtime_ns(w) / 1000000 + OPEN_POINT_LEASE_MS;
    snprintf(pin.name, sizeof pin.name, "lease-%016" PRIx64 "-%08" PRIx32 "-%" PRIu64 "-%" PRIu32,
             p->id, point->at.generation.number, point->at.epoch, point->leases);
    point->leases++;
    if (!pin_place(point, &pin, err)) {
        remove_lease(point, pin.name);
        return err_wrap(err, "cannot lease the point");
    }
    remove_lease(point, point->lease_before);
    memcpy(point->lease_before, point->lease, sizeof point->lease_before);
    memcpy(point->lease, pin.name, sizeof point->lease);
    atomic_store(&point->lease_end_ms, end_ms);
    return true;
}

static bool point_folder(const struct open_point *point, char out[PATH_MAX], struct err *err)
{
    char id[POINT_TIME_CHARS + 1];
    point_time_format(point->at.ms, id);
    return scratch_path(point->owner, vm_of(point)->name, id, out, err);
}

static bool hold_path(const struct open_point *point, char out[PATH_MAX], struct err *err)
{
    char rest[POINT_TIME_CHARS + sizeof "/hold"];
    point_time_format(point->at.ms, rest);
    memcpy(rest + POINT_TIME_CHARS, "/hold", sizeof "/hold");
    return scratch_path(point->owner, vm_of(point)->name, rest, out, err);
}

/* The name in the scratch folder; empty: none was written yet. */
static bool hold_name(const struct open_point *point, char out[PIN_NAME_MAX + 1], struct err *err)
{
    struct buf name AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    char path[PATH_MAX];
    out[0] = '\0';
    if (!hold_path(point, path, err))
        return false;
    if (!file_load(point->owner->config->world, path, PIN_NAME_MAX, &name, &why)) {
        if (why.kind == ERR_NOT_FOUND)
            return true;
        *err = why;
        return false;
    }
    memcpy(out, name.data, name.length);
    out[name.length] = '\0';
    return true;
}

/* The name is durable here before the pin is there: a pin that nobody here knows of would be kept
 * for ever. */
static bool hold_locked(struct open_point *point, struct err *err)
{
    struct open_points *p = point->owner;
    struct world *w = p->config->world;
    char folder[PATH_MAX], path[PATH_MAX];
    struct pin pin;
    pin_of(point, PIN_HOLD, &pin);
    if (atomic_load(&point->held))
        return true;
    if (!hold_name(point, pin.name, err))
        return false;
    if (pin.name[0] == '\0') {
        snprintf(pin.name, sizeof pin.name, "hold-%.63s-%016" PRIx64 "-%" PRIu64,
                 p->config->writable_name, p->id, point->at.epoch);
        if (!point_folder(point, folder, err) || !dir_make(w, folder, 0700, err) ||
            !hold_path(point, path, err) ||
            !file_replace(w, path, 0600, span_of_text(pin.name), err))
            return false;
    }
    if (!pin_place(point, &pin, err))
        return err_wrap(err, "cannot place a hold on the point");
    /* A lease that was put before stays until the point is shut. */
    atomic_store(&point->held, true);
    return true;
}

/* --- opening --- */

static bool overlay_locked(struct open_point *point, struct image *image, struct err *err)
{
    struct overlay_point where = {.generation_id = point->at.generation.id,
                                  .epoch = point->at.epoch};
    struct overlay *overlay = NULL;
    char folder[PATH_MAX];
    memcpy(where.vm, history_vault(vm_of(point)->view.history)->vm, sizeof where.vm);
    if (!point_folder(point, folder, err) ||
        !overlay_open(point->owner->config->world, folder, &where, point->view, image->disk,
                      &overlay, err))
        return false;
    atomic_store(&image->overlay, overlay);
    return true;
}

/* What was written under this name before is shown again. */
static bool old_overlays_locked(struct open_point *point, struct err *err)
{
    char folder[PATH_MAX];
    if (!atomic_load(&point->held))
        return true;
    if (!point_folder(point, folder, err))
        return false;
    for (size_t i = 0; i < point->disk_count; i++) {
        bool exists;
        if (atomic_load(&point->images[i].overlay))
            continue;
        if (!overlay_exists(point->owner->config->world, folder, view_disk(point->view, i)->name,
                            &exists, err) ||
            (exists && !overlay_locked(point, &point->images[i], err)))
            return false;
    }
    return true;
}

static bool pin_locked(struct open_point *point, struct err *err)
{
    char name[PIN_NAME_MAX + 1] = "";
    if (point->owner->config->writable_name && !hold_name(point, name, err))
        return false;
    return name[0] != '\0' ? hold_locked(point, err) : lease_locked(point, err);
}

static bool view_locked(struct open_point *point, struct err *err)
{
    struct view *view = NULL;
    if (!view_open(&vm_of(point)->view, &point->at, &view, err))
        return false;
    size_t disks = view_disks(view);
    struct image *images = calloc(disks + 1, sizeof *images);
    if (!images) {
        view_close(&view);
        return err_set(err, ERR_FULL, "no memory to open a point");
    }
    for (size_t i = 0; i < disks; i++) {
        images[i].point = point;
        images[i].disk = i;
        atomic_init(&images[i].overlay, NULL);
    }
    point->view = view;
    point->images = images;
    point->disk_count = disks;
    return true;
}

/* Each step that is done stays done, so an opener after a failure goes on from there. */
static bool point_prepare(struct open_point *point, struct err *err)
{
    LOCK_SCOPE(&point->opening_lock);
    bool pinned = atomic_load(&point->held) || point->lease[0] != '\0';
    return (pinned || pin_locked(point, err)) && (point->view || view_locked(point, err)) &&
           old_overlays_locked(point, err);
}

static void close_unused(struct open_points *p, uint64_t idle_before_ms, size_t count_max);

static struct open_point *find_locked(struct open_points *p, size_t vm, size_t index)
{
    struct open_point *point = p->points;
    while (point && (point->vm != vm || point->at.index != index))
        point = point->next;
    return point;
}

static struct open_point *add_locked(struct open_points *p, size_t vm,
                                     const struct history_point *at)
{
    struct open_point *point = p->count < OPEN_POINTS_MAX ? calloc(1, sizeof *point) : NULL;
    if (!point)
        return NULL;
    point->owner = p;
    point->vm = vm;
    point->at = *at;
    pthread_mutex_init(&point->opening_lock, NULL);
    atomic_init(&point->damaged, false);
    atomic_init(&point->held, false);
    atomic_init(&point->lease_end_ms, 0);
    point->next = p->points;
    p->points = point;
    p->count++;
    return point;
}

/* Finds or adds the point and counts a user. */
static struct open_point *point_use(struct open_points *p, size_t vm,
                                    const struct history_point *at)
{
    LOCK_SCOPE(&p->table_lock);
    struct open_point *point = find_locked(p, vm, at->index);
    while (point && point->closing) {
        pthread_cond_wait(&p->closed, &p->table_lock);
        point = find_locked(p, vm, at->index);
    }
    if (!point)
        point = add_locked(p, vm, at);
    if (point)
        point->users++;
    return point;
}

static void point_unuse(struct open_point *point)
{
    struct open_points *p = point->owner;
    uint64_t now_ms = boot_ms(p);
    LOCK_SCOPE(&p->table_lock);
    assert(point->users > 0);
    point->users--;
    point->idle_since_ms = now_ms;
}

bool image_open(struct open_points *p, size_t vm, const struct history_point *at, size_t disk,
                struct image **out, struct err *err)
{
    struct open_point *point = point_use(p, vm, at);
    if (!point) {
        close_unused(p, UINT64_MAX, OPEN_POINTS_MAX - 1);
        point = point_use(p, vm, at);
    }
    if (!point)
        return err_set(err, ERR_BUSY,
                       "%u points are in use at once, no more can be opened: close some",
                       OPEN_POINTS_MAX);
    if (!point_prepare(point, err)) {
        char id[POINT_TIME_CHARS + 1];
        point_time_format(at->ms, id);
        point_unuse(point);
        return err_wrap(err, "cannot open point %s of %s", id, p->config->vms[vm].name);
    }
    if (disk >= point->disk_count) {
        point_unuse(point);
        return err_set(err, ERR_NOT_FOUND, "the point has no disk %zu", disk);
    }
    *out = &point->images[disk];
    return true;
}

void image_close(struct image *image)
{
    point_unuse(image->point);
}

/* --- tending --- */

static struct open_point *unused_locked(struct open_points *p, uint64_t idle_before_ms)
{
    struct open_point *oldest = NULL;
    for (struct open_point *point = p->points; point; point = point->next) {
        if (point->users == 0 && !point->closing && point->idle_since_ms < idle_before_ms &&
            (!oldest || point->idle_since_ms < oldest->idle_since_ms))
            oldest = point;
    }
    return oldest;
}

static void unlink_locked(struct open_points *p, struct open_point *point)
{
    struct open_point **link = &p->points;
    while (*link != point)
        link = &(*link)->next;
    *link = point->next;
    p->count--;
    pthread_cond_broadcast(&p->closed);
}

/* Closes points that nobody has used since `idle_before_ms`, the longest unused first, while more
 * than `count_max` are open. */
static void close_unused(struct open_points *p, uint64_t idle_before_ms, size_t count_max)
{
    for (;;) {
        pthread_mutex_lock(&p->table_lock);
        struct open_point *point = p->count > count_max ? unused_locked(p, idle_before_ms) : NULL;
        if (point)
            point->closing = true;
        pthread_mutex_unlock(&p->table_lock);
        if (!point)
            return;
        /* It stays in the table meanwhile: who opens it again must not find its files locked. */
        point_shut(point);
        pthread_mutex_lock(&p->table_lock);
        unlink_locked(p, point);
        pthread_mutex_unlock(&p->table_lock);
        point_free(point);
    }
}

static bool lease_is_due(const struct open_point *point)
{
    return !atomic_load(&point->held) &&
           boot_ms(point->owner) + OPEN_POINT_LEASE_MS / 2 >= atomic_load(&point->lease_end_ms);
}

static void tend_lease(struct open_point *point)
{
    struct err err = ERR_NONE;
    LOCK_SCOPE(&point->opening_lock);
    if (point->lease[0] != '\0' && lease_is_due(point) && !lease_locked(point, &err))
        log_warning("%s: %s", vm_of(point)->name, err.text);
}

void open_points_tend(struct open_points *p)
{
    struct open_point *due[OPEN_POINTS_MAX];
    size_t count = 0;
    pthread_mutex_lock(&p->table_lock);
    for (struct open_point *point = p->points; point; point = point->next) {
        if (!point->closing && lease_is_due(point)) {
            point->users++;
            due[count++] = point;
        }
    }
    pthread_mutex_unlock(&p->table_lock);
    for (size_t i = 0; i < count; i++) {
        tend_lease(due[i]);
        LOCK_SCOPE(&p->table_lock);
        due[i]->users--;
    }
    uint64_t now_ms = boot_ms(p);
    if (now_ms > OPEN_POINT_IDLE_MS)
        close_unused(p, now_ms - OPEN_POINT_IDLE_MS, 0);
}

/* --- reading and writing --- */

uint64_t image_bytes(const struct image *image)
{
    return view_disk(image->point->view, image->disk)->size_bytes;
}

static bool check_lease(const struct open_point *point, struct err *err)
{
    if (atomic_load(&point->held) || boot_ms(point->owner) < atomic_load(&point->lease_end_ms))
        return true;
    return err_set(err, ERR_IO,
                   "the lease on a point of %s has lapsed and could not be renewed: see to the "
                   "store",
                   vm_of(point)->name);
}

/* The first reader who meets damage says so in the history: from then on who looks for a point
 * passes over this one. */
static void mark_damaged(struct open_point *point)
{
    struct err err = ERR_NONE;
    char id[POINT_TIME_CHARS + 1];
    if (atomic_exchange(&point->damaged, true))
        return;
    point_time_format(point->at.ms, id);
    if (history_append_verdict(vm_of(point)->view.history, &point->at, POINT_DAMAGED, &err)) {
        log_warning("%s: point %s is damaged, and marked so in the vault", vm_of(point)->name, id);
        return;
    }
    log_warning("%s: point %s is damaged; the vault does not say so: %s", vm_of(point)->name, id,
                err.text);
    if (err.kind == ERR_TRANSIENT || err.kind == ERR_BUSY)
        atomic_store(&point->damaged, false); /* the next reader tries again */
}

bool image_read(struct image *image, uint64_t offset, struct mspan out, struct err *err)
{
    struct overlay *overlay = atomic_load(&image->overlay);
    if (!check_lease(image->point, err))
        return false;
    if (overlay ? overlay_read(overlay, offset, out, err)
                : view_read(image->point->view, image->disk, offset, out, err))
        return true;
    if (err->kind == ERR_CORRUPT)
        mark_damaged(image->point);
    return false;
}

bool image_next_data(struct image *image, uint64_t from, struct extent *out, bool *found,
                     struct err *err)
{
    struct overlay *overlay = atomic_load(&image->overlay);
    if (!check_lease(image->point, err))
        return false;
    return overlay ? overlay_next_data(overlay, from, out, found, err)
                   : view_next_data(image->point->view, image->disk, from, out, found, err);
}

/* The hold is there before the first write is answered, and so before there is an overlay. */
static bool overlay_of(struct image *image, struct overlay **out, struct err *err)
{
    struct open_point *point = image->point;
    assert(point->owner->config->writable_name);
    *out = atomic_load(&image->overlay);
    if (*out)
        return true;
    LOCK_SCOPE(&point->opening_lock);
    if (!hold_locked(point, err) ||
        (!atomic_load(&image->overlay) && !overlay_locked(point, image, err)))
        return false;
    *out = atomic_load(&image->overlay);
    return true;
}

bool image_write(struct image *image, uint64_t offset, struct span data, struct err *err)
{
    struct overlay *overlay;
    return overlay_of(image, &overlay, err) && overlay_write(overlay, offset, data, err);
}

bool image_zero(struct image *image, uint64_t offset, uint64_t length, struct err *err)
{
    struct overlay *overlay;
    return overlay_of(image, &overlay, err) && overlay_zero(overlay, offset, length, err);
}

bool image_flush(struct image *image, struct err *err)
{
    struct overlay *overlay = atomic_load(&image->overlay);
    return !overlay || overlay_flush(overlay, err);
}
