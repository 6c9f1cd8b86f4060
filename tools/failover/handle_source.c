/* SPDX-License-Identifier: MIT
 * What a source host does for a failover: shutdown before a planned one, resume-source when one was
 * cancelled. */
#include "tools/failover/handlers.h"

#include "fs/disk/seed.h"
#include "tools/disk_lock.h"
#include "tools/failover/source_end.h"

#define SHUTDOWN_MS    1800000u /* more than it takes with all that it waits for */
#define SILENT_MS      60000u   /* until a worker has taken up that it ships no more */
#define SILENT_LOOK_MS 20

/* The fence comes last: until then the guest is ours to start again. */
static bool shut_down(struct flow *f, cJSON **values, struct err *err)
{
    const struct settings *s = &f->vm->settings;
    char generation[GENERATION_NAME_MAX];
    struct moved moved = {.ms = f->call->world->ops->realtime_ns(f->call->world) / 1000000};
    struct source_end end;

    snprintf(moved.host, sizeof moved.host, "%s", job_run_job(f->job)->by);
    snprintf(moved.reason, sizeof moved.reason, "planned failover");
    if (!source_end(f, "planned failover", &end, err) ||
        !moved_write(f->call->world, f->call->paths, s->name, &moved, err))
        return false;
    generation_name(end.generation, generation);
    return json_make(values, err) && json_add_text(*values, "point", end.point, err) &&
           json_add_u64(*values, "epoch", end.epoch, err) &&
           json_add_text(*values, "generation", generation, err);
}

/* Nor for a failover that was cancelled, or given up, before its job was taken here, nor once more
 * behind the job of a newer command: that failover may be about to begin. */
static bool is_still_asked(const struct flow *f, struct err *err)
{
    char asked[PROTECTION_ASKED_MAX];
    protection_asked(&f->protection->leaving, asked);
    return (strcmp(f->protection->leaving.host, job_run_job(f->job)->by) == 0 &&
            strcmp(asked, flow_arg(f, "asked")) == 0) ||
           err_set(err, ERR_CANCELLED,
                   "the planned failover of %s was cancelled, or a newer command goes on with it",
                   f->vm->settings.name);
}

/* A shutdown that its host's end interrupted is resumed when the host is back. A failover that did
 * without it may have been begun meanwhile: then nothing here is to be mounted again. */
static bool is_still_source(const struct flow *f, struct err *err)
{
    const struct protection *p = f->protection;
    bool gone = p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK ||
                p->state == PROTECTION_COMMITTED;
    return (!gone && strcmp(p->source_host, f->host.name) == 0) ||
           err_set(err, ERR_FENCED, "%s was failed over meanwhile", f->vm->settings.name);
}

static bool run_shutdown(const struct verb_call *call, struct vm *vm, struct job_run *job,
                         cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    if (!flow_open(call, vm, job, &f, err) || !flow_alone(&f, err))
        return false;
    if (vm->settings.role != ROLE_SOURCE || !vm->settings.replicate)
        return err_set(err, ERR_INVALID, "%s is not replicated from host %s", vm->settings.name,
                       f.host.name);
    /* A shutdown that was done before, and whose failover was not: it may mount once more. */
    return is_still_source(&f, err) && is_still_asked(&f, err) &&
           moved_remove(call->world, call->paths, vm->settings.name, err) &&
           shut_down(&f, values, err);
}

const struct handler handler_shutdown = {
    .verb = "shutdown", .resumable = true, .run = run_shutdown};

/* --- resume-source --- */

static bool set_generation(void *context, struct settings *now)
{
    now->generation = *(const struct generation *)context;
    now->replicate = true;
    return true;
}

static bool set_silent(void *context, struct settings *now)
{
    (void)context;
    now->replicate = false;
    return true;
}

static bool is_silent(struct flow *f, bool *out, struct err *err)
{
    cJSON *answer AUTO_JSON = NULL;
    const char *state;
    if (!flow_worker_status(f, SILENT_MS, &answer, err) || !json_text(answer, "state", &state, err))
        return false;
    *out = strcmp(state, "not-replicating") == 0;
    return true;
}

/* The worker of a mount that ran on would write its own state over the one that is about to be
 * made: until then it ships nothing. */
static bool silence_worker(struct flow *f, struct err *err)
{
    struct settings *s = &f->vm->settings;
    char at[PATH_MAX];
    if (!vm_locked(f->call->paths, s->name, at))
        return true;
    s->replicate = false;
    if (!settings_change(f->call->world, f->call->paths, s->name, set_silent, NULL, err) ||
        !vm_restart(f->call, s->name, err))
        return false;
    /* It has answered, and may still be the one that ships. */
    struct world *w = f->call->world;
    uint64_t until_ns = w->ops->boottime_ns(w) + SILENT_MS * 1000000ull;
    for (bool silent = false; is_silent(f, &silent, err);) {
        if (silent)
            return true;
        if (w->ops->boottime_ns(w) >= until_ns)
            return err_set(err, ERR_TRANSIENT, "the worker of %s still ships: try again", s->name);
        nanosleep(&(struct timespec){.tv_nsec = SILENT_LOOK_MS * 1000000}, NULL);
    }
    return false;
}

/* The local disks are all there; what the vault has of them is learnt anew. Once the settings have
 * the generation it is the shipper's, which may have shipped since. */
static bool adopt(struct flow *f, struct generation generation, struct err *err)
{
    struct settings *s = &f->vm->settings;
    char state[PATH_BYTES_MAX];
    struct seed_config config = {.world = f->call->world,
                                 .vm = s->name,
                                 .keys = f->vm->keys,
                                 .encrypt = s->encrypted,
                                 .targets = f->vm->targets,
                                 .store_count = s->store_count};
    if (s->generation.id == generation.id)
        return true;
    path_state(f->call->paths, s->name, state);
    if (!vm_open_caches(f->vm, VM_LOOKS, err) || !silence_worker(f, err))
        return false;
    config.cache = f->vm->caches[0];
    if (!seed_adopt(&config, state, err))
        return false;
    s->generation = generation;
    s->replicate = true;
    return settings_change(f->call->world, f->call->paths, s->name, set_generation, &generation,
                           err);
}

static bool start_guest(struct flow *f, struct err *err)
{
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    uint64_t resumed_ms;

    if (f->protection->xml.length == 0 && f->vm->settings.machine->start[0] == '\0')
        return true; /* the user's own to start */
    return flow_machine_open(f, &m, err) && flow_step(f, "start", err, "%s", m.machine.name) &&
           runner_start(&m.runner, &m.machine, &resumed_ms, err);
}

/* A source that ran on all the time is told by its worker's restart. */
static bool restart_worker(struct flow *f, struct err *err)
{
    char at[PATH_MAX];
    return !vm_locked(f->call->paths, f->vm->settings.name, at) ||
           vm_restart(f->call, f->vm->settings.name, err);
}

/* The job may have waited for this host long: what it was posted for must be what the document says
 * now. A failover begun after the cancel gave the VM another generation, and it runs there. */
static bool is_still_wanted(const struct flow *f, struct generation generation, struct err *err)
{
    const struct protection *p = f->protection;
    return (p->failover.generation.id == generation.id &&
            strcmp(p->source_host, f->host.name) == 0) ||
           err_set(err, ERR_FENCED, "%s was failed over again after the cancel",
                   f->vm->settings.name);
}

/* --- after a planned failover that only told this host to stop --- */

static bool change_stayed(void *context, struct protection *p, bool *same, struct err *err)
{
    (void)err;
    *same = p->leaving.host[0] != '\0' || strcmp(p->leaving.job, context) != 0;
    if (!*same)
        p->leaving = (struct protection_leaving){.host = ""};
    return true;
}

static bool stay(struct flow *f, const char *leaving, struct err *err)
{
    const struct protection_leaving *l = &f->protection->leaving;
    if (l->host[0] != '\0' || strcmp(l->job, leaving) != 0)
        return err_set(err, ERR_FENCED, "%s was failed over again after the cancel, or goes on",
                       f->vm->settings.name);
    return is_still_source(f, err) &&
           moved_remove(f->call->world, f->call->paths, f->vm->settings.name, err) &&
           flow_step(f, "mount", err, "and go on") && flow_mount(f, err) && start_guest(f, err) &&
           flow_change(f, change_stayed, (void *)(uintptr_t)leaving, err);
}

static bool run_resume(const struct verb_call *call, struct vm *vm, struct job_run *job,
                       cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct generation generation;
    (void)values;
    /* A shutdown may be at work here, which ends by itself. */
    if (!flow_open(call, vm, job, &f, err) || !flow_alone_within(&f, SHUTDOWN_MS, err))
        return false;
    if (flow_arg(&f, "leaving")[0] != '\0')
        return stay(&f, flow_arg(&f, "leaving"), err);
    if (!generation_parse(flow_arg(&f, "generation"), &generation))
        return err_set(err, ERR_INVALID, "the job names no generation");
    if (vm->settings.role != ROLE_SOURCE)
        return err_set(err, ERR_INVALID, "the disks of %s are not on host %s", vm->settings.name,
                       f.host.name);
    return is_still_wanted(&f, generation, err) &&
           flow_step(&f, "adopt", err, "what the vault has of the disks") &&
           adopt(&f, generation, err) &&
           moved_remove(call->world, call->paths, vm->settings.name, err) &&
           restart_worker(&f, err) && flow_step(&f, "mount", err, "and ship what differs") &&
           flow_mount(&f, err) && start_guest(&f, err);
}

const struct handler handler_resume_source = {
    .verb = "resume-source", .resumable = true, .run = run_resume};
