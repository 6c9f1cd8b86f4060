/* SPDX-License-Identifier: MIT
 * The worker of a source mount, started by the keeper and never by people: serves the guest, cuts
 * and ships, answers the control socket. It comes and goes; the mount stays. */
#include "common/deadline.h"
#include "common/log.h"
#include "fs/disk/cut.h"
#include "fs/mount/source_mount.h"
#include "tools/control.h"
#include "tools/limits.h"
#include "tools/origin_view.h"
#include "tools/worker_status.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#define ASKED_MS     20000u /* who asks waits a little longer */
#define FINAL_CUT_MS 30000u /* after a plain umount, without farshore unmount */

static const struct option_spec options[] = {
    {"cut-interval", "SECONDS", false, false, "As mount was told."},
    OPTIONS_END,
};

struct worker {
    struct vm vm;
    struct worker_inheritance inherited;
    struct origin_view *origin; /* NULL: the local files are whole */
    struct source *source;
    struct shipper *shipper; /* NULL: failed over, and not protected again yet */
    struct hydrate *hydrate; /* with an origin */
    struct source_mount *mount;
    struct control_server *control;
    bool shipping;        /* the shipper's thread runs */
    bool told_interval;   /* by the mount's own option, which outdoes the setting */
    int ended;            /* eventfd: readable when the final cut is over */
    pthread_mutex_t lock; /* guards: */
    bool unmount_asked;   /* by an asker who still waits: its bound holds for the final cut */
    uint64_t final_cut_ms;
    struct err outcome; /* of the final cut, once `ended` is readable */
    uint64_t cut_interval_s;
};

/* --- the control socket's commands; any thread --- */

static bool status_json(struct worker *w, cJSON *j, struct err *err)
{
    pthread_mutex_lock(&w->lock);
    const struct worker_status s = {.vm = &w->vm,
                                    .inherited = &w->inherited,
                                    .source = w->source,
                                    .shipper = w->shipper,
                                    .hydrate = w->hydrate,
                                    .origin = w->origin,
                                    .cut_interval_s = w->cut_interval_s};
    pthread_mutex_unlock(&w->lock);
    return worker_status_json(&s, j, err);
}

static bool answer_status(struct worker *w, struct control_peer *peer, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    if (!json_make(&j, err) || !status_json(w, j, err))
        return false;
    control_answer(peer, j);
    return true;
}

/* The first of two answers: the cut is made, and a guest that was kept quiet for it may go on. */
static bool answer_cut(struct worker *w, uint64_t ticket, uint64_t quiet_ms,
                       struct control_peer *peer, struct err *err)
{
    if (!shipper_wait_cut(w->shipper, ticket, quiet_ms, err))
        return false;
    control_answer(peer, NULL);
    return true;
}

static bool answer_point(struct worker *w, const cJSON *request, struct control_peer *peer,
                         struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    bool application, wait;
    const char *label;
    uint64_t timeout_ms, ticket, point_ms = 0, epoch = 0, quiet_ms = 0;

    if (!json_bool(request, "application", &application, err) ||
        !json_bool(request, "wait", &wait, err) || !json_text(request, "label", &label, err) ||
        !json_u64(request, "timeout_ms", &timeout_ms, err) ||
        (json_has(request, "quiet_ms") && !json_u64(request, "quiet_ms", &quiet_ms, err)) ||
        !json_make(&j, err))
        return false;
    if (strlen(label) > POINT_LABEL_MAX)
        return err_set(err, ERR_INVALID, "the label is longer than %u bytes", POINT_LABEL_MAX);
    if (!shipper_request_point(w->shipper, application ? POINT_APPLICATION : POINT_CRASH, label,
                               &ticket, err) ||
        (quiet_ms > 0 && !answer_cut(w, ticket, quiet_ms, peer, err)))
        return false;
    if (wait && !(shipper_wait_point(w->shipper, ticket, timeout_ms, &point_ms, &epoch, err) &&
                  worker_add_point(j, "id", point_ms, err) && json_add_u64(j, "epoch", epoch, err)))
        return false;
    control_answer(peer, j);
    return true;
}

/* Whether the asker hung up before the mount ended. */
static bool asker_gone(const struct worker *w, const struct control_peer *peer)
{
    struct pollfd p[2] = {{.fd = control_peer_fd(peer), .events = POLLRDHUP},
                          {.fd = w->ended, .events = POLLIN}};
    while (poll_paced(p, 2, -1) < 0)
        ;
    return p[1].revents == 0;
}

static void answer_outcome(struct worker *w, struct control_peer *peer)
{
    struct err err = ERR_NONE;
    cJSON *j AUTO_JSON = NULL;
    pthread_mutex_lock(&w->lock);
    struct err outcome = w->outcome;
    pthread_mutex_unlock(&w->lock);
    if (outcome.kind != ERR_OK)
        control_refuse(peer, &outcome);
    else if (!json_make(&j, &err) || !status_json(w, j, &err))
        control_refuse(peer, &err);
    else
        control_answer(peer, j);
}

/* Two answers: the bound is noted, now unmount; then how the final cut went. The asker's hanging up
 * in between takes the wish back. */
static bool answer_unmount(struct worker *w, const cJSON *request, struct control_peer *peer,
                           struct err *err)
{
    uint64_t timeout_ms;
    if (!json_u64(request, "timeout_ms", &timeout_ms, err))
        return false;
    pthread_mutex_lock(&w->lock);
    bool taken = w->unmount_asked;
    if (!taken) {
        w->unmount_asked = true;
        w->final_cut_ms = timeout_ms;
    }
    pthread_mutex_unlock(&w->lock);
    if (taken)
        return err_set(err, ERR_BUSY, "%s is being unmounted by another", w->vm.settings.name);
    control_answer(peer, NULL);
    if (!asker_gone(w, peer)) {
        answer_outcome(w, peer);
        return true;
    }
    pthread_mutex_lock(&w->lock);
    w->unmount_asked = false;
    w->final_cut_ms = FINAL_CUT_MS;
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* What `set` changed; its settings file has it already. Answers what holds now. */
static bool answer_set(struct worker *w, const cJSON *request, struct control_peer *peer,
                       struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    const char *bandwidth;
    uint64_t interval_s;
    if (!json_text(request, "bandwidth", &bandwidth, err) ||
        !json_u64(request, "cut_interval_seconds", &interval_s, err) ||
        !(w->vm.bandwidth == NULL || bandwidth_set(w->vm.bandwidth, bandwidth, err)))
        return false;
    if (interval_s < 1 || interval_s > CUT_INTERVAL_MAX_S)
        return err_set(err, ERR_INVALID, "a cut interval of 1 to %u s", CUT_INTERVAL_MAX_S);
    pthread_mutex_lock(&w->lock);
    if (w->told_interval)
        interval_s = w->cut_interval_s;
    w->cut_interval_s = interval_s;
    pthread_mutex_unlock(&w->lock);
    if (w->shipper)
        shipper_set_cut_interval(w->shipper, interval_s * 1000);
    if (!json_make(&j, err) || !json_add_u64(j, "cut_interval_seconds", interval_s, err))
        return false;
    control_answer(peer, j);
    return true;
}

/* Answered when it is recorded: what was said to be done outlives this process. */
static bool answer_asked(struct worker *w, const char *command, struct control_peer *peer,
                         struct err *err)
{
    bool pause = strcmp(command, "pause") == 0;
    if (!pause && strcmp(command, "resume") != 0 && strcmp(command, "resync") != 0)
        return err_set(err, ERR_INVALID, "unknown command %.40s: is the mount an older farshore?",
                       command);
    if (!(strcmp(command, "resync") == 0 ? shipper_resync(w->shipper, err)
                                         : shipper_pause(w->shipper, pause, err)) ||
        !shipper_wait_asked(w->shipper, ASKED_MS, err))
        return false;
    control_answer(peer, NULL);
    return true;
}

static bool answer_restart(struct worker *w, struct control_peer *peer)
{
    control_answer(peer, NULL);
    log_info("restarts, to take up its settings anew");
    source_mount_restart(w->mount);
    return true;
}

static bool check_shipping(const struct worker *w, const char *command, struct err *err)
{
    static const char *const always[] = {"status", "set", "unmount", "restart"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (strcmp(command, always[i]) == 0)
            return true;
    return w->shipper != NULL ||
           err_set(err, ERR_INVALID,
                   "%s was failed over and is not replicated: farshore reprotect %s comes first",
                   w->vm.settings.name, w->vm.settings.name);
}

static void handle(void *context, const char *command, const cJSON *request,
                   struct control_peer *peer)
{
    struct worker *w = context;
    struct err err = ERR_NONE;
    bool good = !check_shipping(w, command, &err) ? false
                : strcmp(command, "restart") == 0 ? answer_restart(w, peer)
                : strcmp(command, "status") == 0  ? answer_status(w, peer, &err)
                : strcmp(command, "point") == 0   ? answer_point(w, request, peer, &err)
                : strcmp(command, "set") == 0     ? answer_set(w, request, peer, &err)
                : strcmp(command, "unmount") == 0 ? answer_unmount(w, request, peer, &err)
                                                  : answer_asked(w, command, peer, &err);
    if (!good)
        control_refuse(peer, &err);
}

/* --- life --- */

static bool open_source(struct worker *w, const char *state, struct err *err)
{
    struct settings *s = &w->vm.settings;
    struct source_disk_config disks[VM_DISKS_MAX];
    const struct origin *origin = w->origin ? origin_view_origin(w->origin) : NULL;
    for (uint16_t i = 0; i < s->disk_count; i++)
        disks[i] =
            (struct source_disk_config){.name = s->disks[i].name,
                                        .path = s->disks[i].path,
                                        .number = s->disks[i].number,
                                        .store = s->disks[i].store,
                                        .size_bytes = s->disks[i].size_bytes,
                                        .origin = origin,
                                        .origin_head = origin_view_head(&w->vm, &s->disks[i])};
    struct source_config config = {
        .world = w->vm.call->world,
        .state_folder = state,
        .disks = disks,
        .disk_count = s->disk_count,
        .undo_memory_bytes = WORKER_UNDO_MEMORY_BYTES,
        .undo_file_bytes = WORKER_UNDO_FILE_BYTES,
        .key_id = keys_id(w->vm.keys),
        .memory = w->inherited.memory,
        .memory_bytes = w->inherited.memory_bytes,
        .memory_fresh = w->inherited.memory_fresh,
    };
    return source_open(&config, &w->source, err);
}

static bool open_shipper(struct worker *w, const char *state, struct err *err)
{
    struct settings *s = &w->vm.settings;
    struct shipper_config config = {
        .source = w->source,
        .world = w->vm.call->world,
        .vm = s->name,
        .generation = s->generation,
        .keys = w->vm.keys,
        .encrypt = s->encrypted,
        .caches = w->vm.caches,
        .cache_count = s->store_count,
        .state_folder = state,
        .cut_interval_ms = w->cut_interval_s * 1000,
        .uploads_max = WORKER_UPLOADS,
        .pass_above_bytes = WORKER_UNDO_FILE_BYTES,
    };
    memcpy(config.vm_id, s->vm, sizeof config.vm_id);
    return shipper_open(&config, &w->shipper, err);
}

static bool clear_origin(void *context, struct settings *now)
{
    const struct settings_origin *was = context;
    if (now->origin.generation.id != was->generation.id || now->origin.epoch != was->epoch)
        return false;
    now->origin.generation = (struct generation){.number = 0};
    return true;
}

/* From here on nobody needs the store any more. */
static void forget_origin(void *context)
{
    struct worker *w = context;
    const struct verb_call *call = w->vm.call;
    struct err err = ERR_NONE;
    log_info("%s is whole: its local files need no store any more", w->vm.settings.name);
    if (!settings_change(call->world, call->paths, w->vm.settings.name, clear_origin,
                         &w->vm.settings.origin, &err))
        log_warning("it is looked at again at the next mount: %s", err.text);
}

/* A disk may have grown since the mount began; of a VM that lies over an origin none does. */
static bool take_memory(struct worker *w, struct err *err)
{
    const struct settings *s = &w->vm.settings;
    uint64_t sizes[VM_DISKS_MAX];
    settings_sizes(s, sizes);
    return worker_memory_grow(&w->inherited, source_memory_bytes(sizes, s->disk_count), err);
}

static bool open_disks(struct worker *w, const char *state, struct err *err)
{
    const struct settings *s = &w->vm.settings;
    bool over = s->origin.generation.number != 0;
    if ((over && !origin_view_make(&w->vm, &w->origin, err)) || !open_source(w, state, err))
        return false;
    if (s->replicate)
        return vm_open_caches(&w->vm, VM_SHIPS, err) && open_shipper(w, state, err);
    source_checked(w->source);
    return true;
}

/* Threads that write local files: only once those of a dead worker have had their last write. */
static bool start_threads(struct worker *w, struct err *err)
{
    if (w->origin && !hydrate_start(w->source, forget_origin, w, &w->hydrate, err))
        return false;
    w->shipping = w->shipper != NULL && shipper_start(w->shipper, err);
    return w->shipping || w->shipper == NULL;
}

static bool start(struct worker *w, const struct verb_call *call, struct err *err)
{
    char state[PATH_BYTES_MAX];
    struct settings *s = &w->vm.settings;
    if (!worker_inherit(&w->inherited, err) ||
        !vm_load(call, call->options->operands[0], &w->vm, err))
        return false;
    path_state(call->paths, s->name, state);
    w->told_interval = option_given(call->options, "cut-interval");
    if (!option_number(call->options, "cut-interval", s->cut_interval_s, 1, CUT_INTERVAL_MAX_S,
                       &w->cut_interval_s, err) ||
        !take_memory(w, err) || !open_disks(w, state, err) ||
        !source_mount_open(w->source, &w->inherited, &w->mount, err))
        return false;
    return start_threads(w, err) &&
           control_serve(call->paths->run, s->name, handle, w, &w->control, err);
}

/* The file system is unmounted: no guest I/O any more. */
static void finish(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    uint64_t final_cut_ms = w->final_cut_ms;
    pthread_mutex_unlock(&w->lock);

    struct err outcome = ERR_NONE;
    if (w->hydrate) /* else the files look changed since their stop, and all is compared */
        hydrate_quiet(w->hydrate);
    w->shipping = false;
    if (w->shipper == NULL ? !source_sync(w->source, &outcome)
                           : !shipper_stop(w->shipper, true, final_cut_ms, &outcome))
        log_warning("%s: the final cut is not shipped: %s", w->vm.settings.name, outcome.text);
    pthread_mutex_lock(&w->lock);
    w->outcome = outcome;
    pthread_mutex_unlock(&w->lock);
    eventfd_write(w->ended, 1);
}

/* May be called again: what is closed stays closed. */
static void worker_close(struct worker *w)
{
    struct err ignored = ERR_NONE; /* without a final cut nothing is lost: it is tracked */
    control_server_close(&w->control);
    if (w->shipping && !shipper_stop(w->shipper, false, 0, &ignored))
        log_debug("%s", ignored.text);
    w->shipping = false;
    if (w->origin)
        origin_view_cancel(w->origin);
    hydrate_stop(&w->hydrate);
    source_mount_close(&w->mount);
    shipper_close(&w->shipper);
    source_close(&w->source);
    origin_view_release(&w->origin);
    vm_release(&w->vm);
}

static void worker_release(struct worker *w)
{
    worker_close(w);
    if (w->ended >= 0)
        close(w->ended);
    pthread_mutex_destroy(&w->lock);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct worker w CLEANUP(worker_release) = {.final_cut_ms = FINAL_CUT_MS};
    pthread_mutex_init(&w.lock, NULL);
    signal(SIGINT, SIG_IGN); /* a terminal's ^C is the keeper's to act on */
    w.ended = eventfd(0, EFD_CLOEXEC);
    bool good = w.ended >= 0 || err_set(err, ERR_FULL, "no descriptor left");
    if (!good || !start(&w, call, err)) {
        worker_report_failure(err);
        return false;
    }
    worker_report_ready();
    if (!source_mount_serve(w.mount, err))
        return false;
    finish(&w);
    worker_close(&w);
    worker_report_finished(&w.inherited);
    return true;
}

const struct verb verb_worker = {
    .name = "worker",
    .summary = "Serve a source mount (started by mount)",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .hidden = true,
    .run = run,
};
