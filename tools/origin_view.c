/* SPDX-License-Identifier: MIT */
#include "tools/origin_view.h"

#include "common/deadline.h"
#include "common/log.h"
#include "fs/view/view.h"

#include <errno.h>
#include <pthread.h>

struct origin_view {
    struct origin origin;
    struct settings_origin at;
    struct vm vm; /* the VM as its origin's vault has it */

    pthread_mutex_t open_lock; /* held over store calls: one opens, the others wait for it */
    struct view_cache *cache;
    struct view *view;

    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    bool cancelled;
    char reason[ERR_TEXT_MAX];
    _Atomic bool troubled; /* there is a reason; for a look without the lock */
};

/* --- opening --- */

/* Settings as a target's of that vault; the rest of them says nothing about a view. */
static bool copy_settings(const struct settings *s, struct settings *out, struct err *err)
{
    if (!settings_make(out, err))
        return false;
    memcpy(out->name, s->name, sizeof out->name);
    memcpy(out->vm, s->vm, sizeof out->vm);
    out->role = ROLE_TARGET;
    out->encrypted = s->encrypted;
    out->store_count = s->origin.target_count;
    for (uint16_t i = 0; i < out->store_count; i++)
        memcpy(out->stores[i].target, s->origin.targets[i], STORE_URL_MAX);
    return true;
}

static bool open_locked(struct origin_view *v, struct err *err)
{
    struct vm *vm = &v->vm;
    struct history_point point;
    if (v->view)
        return true;
    if ((vm->targets[0] == NULL && !vm_open_targets(vm, VM_GLANCES, err)) ||
        (vm->history == NULL && !vm_open_history(vm, err)) || !history_refresh(vm->history, err) ||
        !history_point_at(vm->history, v->at.generation, v->at.epoch, &point, err))
        return err_wrap(err, "the point that the disks lie over");
    const struct view_config config = {.history = vm->history,
                                       .keys = vm->keys,
                                       .targets = vm->targets,
                                       .target_count = vm->settings.store_count,
                                       .cache = v->cache};
    return view_open(&config, &point, &v->view, err);
}

static bool open_view(struct origin_view *v, struct err *err)
{
    LOCK_SCOPE(&v->open_lock);
    return open_locked(v, err);
}

/* --- reading --- */

/* Index of a disk in the view; false: it was not there then. */
static bool find_disk(const struct origin_view *v, uint16_t number, size_t *out)
{
    for (*out = 0; *out < view_disks(v->view); (*out)++)
        if (view_disk(v->view, *out)->disk == number)
            return true;
    return false;
}

static bool read_view(struct origin_view *v, uint16_t number, uint64_t offset, struct mspan out,
                      struct err *err)
{
    size_t disk;
    if (!open_view(v, err))
        return false;
    uint64_t bytes = find_disk(v, number, &disk) ? view_disk(v->view, disk)->size_bytes : 0;
    uint64_t inside = offset < bytes ? bytes - offset : 0;
    if (inside > out.length)
        inside = out.length;
    memset(out.data + inside, 0, out.length - inside);
    return inside == 0 || view_read(v->view, disk, offset, mspan_part(out, 0, inside), err);
}

/* Not what another try may change: the old source could not read it. What is missing or damaged
 * may be whole again, as when a folder is mounted late or bytes were hurt on the way. */
static bool lasting(const struct err *err)
{
    return err->kind == ERR_IO || err->kind == ERR_CANCELLED;
}

static void note(struct origin_view *v, const char *reason)
{
    LOCK_SCOPE(&v->lock);
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    v->troubled = reason[0] != '\0';
}

/* False: cancelled, or the time is over. */
static bool wait_again(struct origin_view *v, uint64_t *left_ms)
{
    uint64_t pause = *left_ms < ORIGIN_RETRY_MS ? *left_ms : ORIGIN_RETRY_MS;
    struct timespec until = deadline_after(pause);
    *left_ms -= pause;
    LOCK_SCOPE(&v->lock);
    while (!v->cancelled && pthread_cond_timedwait(&v->change, &v->lock, &until) != ETIMEDOUT)
        ;
    return !v->cancelled && *left_ms > 0;
}

static bool origin_read(void *context, uint16_t disk, uint64_t offset, struct mspan out,
                        struct err *err)
{
    struct origin_view *v = context;
    struct world *w = v->vm.call->world;
    uint64_t began_ns = w->ops->boottime_ns(w), left_ms = ORIGIN_WAIT_MS;
    for (;;) {
        struct err why = ERR_NONE;
        if (read_view(v, disk, offset, out, &why)) {
            if (v->troubled)
                note(v, "");
            return true;
        }
        note(v, why.text);
        uint64_t spent_ms = (w->ops->boottime_ns(w) - began_ns) / 1000000;
        if (spent_ms >= ORIGIN_WAIT_MS)
            left_ms = 0;
        if (lasting(&why) || left_ms == 0 || !wait_again(v, &left_ms)) {
            *err = why;
            return false;
        }
    }
}

static bool origin_next_data(void *context, uint16_t number, uint64_t from, struct extent *out,
                             bool *found, struct err *err)
{
    struct origin_view *v = context;
    size_t disk;
    *found = false;
    if (!open_view(v, err)) {
        note(v, err->text);
        return false;
    }
    return !find_disk(v, number, &disk) ||
           from >= blocks_of_bytes(view_disk(v->view, disk)->size_bytes) ||
           view_next_data(v->view, disk, from, out, found, err);
}

/* --- life --- */

bool origin_view_make(const struct vm *vm, struct origin_view **out, struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct origin_view *v CLEANUP(origin_view_release) = calloc(1, sizeof *v);
    if (v == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    pthread_mutex_init(&v->open_lock, NULL);
    pthread_mutex_init(&v->lock, NULL);
    deadline_cond_init(&v->change);
    v->origin = (struct origin){.context = v, .read = origin_read, .next_data = origin_next_data};
    v->at = vm->settings.origin;
    v->at.targets = NULL; /* copied into the settings below */
    v->vm.call = vm->call;
    path_key(vm->call->paths, vm->settings.name, path);
    if (!copy_settings(&vm->settings, &v->vm.settings, err) ||
        !keys_file_load(vm->call->world, path, &v->vm.keys, err) ||
        !view_cache_make(ORIGIN_CACHE_BYTES, &v->cache, err))
        return false;
    *out = TAKE(v);
    return true;
}

void origin_view_cancel(struct origin_view *v)
{
    pthread_mutex_lock(&v->lock);
    v->cancelled = true;
    pthread_cond_broadcast(&v->change);
    pthread_mutex_unlock(&v->lock);
    /* A store that is being opened just now ends by its own bound. */
    for (uint16_t i = 0; i < v->vm.settings.store_count; i++)
        if (v->vm.targets[i])
            store_cancel(v->vm.targets[i], true);
}

void origin_view_release(struct origin_view **view)
{
    struct origin_view *v = TAKE(*view);
    if (v == NULL)
        return;
    view_close(&v->view);
    vm_release(&v->vm);
    view_cache_release(&v->cache);
    pthread_cond_destroy(&v->change);
    pthread_mutex_destroy(&v->lock);
    pthread_mutex_destroy(&v->open_lock);
    free(v);
}

const struct origin *origin_view_origin(struct origin_view *v)
{
    return &v->origin;
}

struct presence_head origin_view_head(const struct vm *vm, const struct settings_disk *disk)
{
    struct presence_head head = {.generation_id = vm->settings.origin.generation.id,
                                 .epoch = vm->settings.origin.epoch,
                                 .disk = disk->number,
                                 .disk_bytes = disk->size_bytes};
    memcpy(head.vm, vm->settings.vm, sizeof head.vm);
    return head;
}

void origin_view_reason(struct origin_view *v, char out[ERR_TEXT_MAX])
{
    LOCK_SCOPE(&v->lock);
    memcpy(out, v->reason, sizeof v->reason);
}
