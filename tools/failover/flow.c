/* SPDX-License-Identifier: MIT */
#include "tools/failover/flow.h"

#include "tools/disk_lock.h"
#include "tools/failover/mount_folder.h"
#include "tools/failover/turn.h"
#include "tools/self_run.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define TURN_MS 30000u

bool flow_open(const struct verb_call *call, struct vm *vm, struct job_run *job, struct flow *out,
               struct err *err)
{
    *out = (struct flow){.call = call, .vm = vm, .job = job, .vault = vm_vault(vm)};
    return host_config_load(call->world, call->paths, &out->host, err) &&
           protection_load(&out->vault, &out->protection, err);
}

void flow_close(struct flow *f)
{
    flow_let_go(f);
    protection_release(&f->protection);
}

void flow_let_go(struct flow *f)
{
    if (f->alone)
        close(f->turn);
    f->alone = false;
}

/* The VM's stores are open: settings that name others are not for this process. */
static bool take_settings(struct flow *f, struct err *err)
{
    struct settings *s = &f->vm->settings;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    if (!settings_load(f->call->world, f->call->paths, s->name, &now, err))
        return false;
    if (memcmp(now.vm, s->vm, sizeof s->vm) != 0 || now.store_count != s->store_count ||
        memcmp(now.stores, s->stores, s->store_count * sizeof *s->stores) != 0)
        return err_set(err, ERR_BUSY,
                       "%s was turned to another vault just now: give the command again", s->name);
    struct settings was = *s;
    *s = now;
    now = was;
    return true;
}

bool flow_alone_within(struct flow *f, uint64_t wait_ms, struct err *err)
{
    struct protection *now = NULL;
    const char *verb = f->job ? job_run_job(f->job)->verb : "";
    if (f->alone)
        return true;
    if (!turn_take(f->call->world, f->call->paths, f->vm->settings.name, verb, wait_ms, &f->turn,
                   err))
        return false;
    f->alone = true;
    if (!take_settings(f, err) || !protection_load(&f->vault, &now, err))
        return false;
    protection_release(&f->protection);
    f->protection = now;
    return true;
}

bool flow_alone(struct flow *f, struct err *err)
{
    return flow_alone_within(f, TURN_MS, err);
}

bool flow_done(const struct flow *f)
{
    const struct protection_failover *o = &f->protection->failover;
    return o->started_ms > 0 && strcmp(o->job, job_run_job(f->job)->id) == 0;
}

const char *flow_arg(const struct flow *f, const char *name)
{
    const char *value = f->job ? job_arg(job_run_job(f->job), name) : NULL;
    return value ? value : "";
}

bool flow_step(struct flow *f, const char *name, struct err *err, const char *format, ...)
{
    char text[JOB_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return job_step(f->job, name, 0, 0, err, "%s", text);
}

bool flow_notes(struct flow *f, const struct buf *notes, struct err *err)
{
    if (notes->length == 0)
        return true; /* there may be no bytes to point to */
    const char *at = (const char *)notes->data, *end = at + notes->length;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int length = (int)((stop ? stop : end) - at);
        if (!flow_step(f, "machine", err, "%.*s", length, at))
            return false;
        at += length + 1;
    }
    return true;
}

bool flow_history(struct flow *f, struct err *err)
{
    if (f->vm->history)
        return history_refresh(f->vm->history, err);
    return vm_open_history(f->vm, err);
}

bool flow_caches(struct flow *f, struct err *err)
{
    return f->vm->caches[0] != NULL || vm_open_caches(f->vm, VM_GLANCES, err);
}

/* A point of the generation that is shipped now. */
static bool has_point(struct flow *f, bool *out, struct err *err)
{
    if (!flow_history(f, err))
        return false;
    struct history_head head = history_head(f->vm->history);
    size_t count = history_points(f->vm->history);
    *out =
        count > 0 && history_point(f->vm->history, count - 1).generation.id == head.generation.id;
    return true;
}

bool flow_allows(struct flow *f, enum states_verb verb, const struct protection *p, struct err *err)
{
    struct states_facts facts = {.drills = p->test_count > 0, .leaving = p->leaving.job[0] != '\0'};
    if (p->state == PROTECTION_REPROTECTING && !has_point(f, &facts.points, err))
        return false;
    /* Who was second learns who was first. */
    bool away = p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK;
    char name[VM_NAME_MAX + sizeof p->failover.host + 16];
    snprintf(name, sizeof name, away && p->failover.host[0] ? "%s (on host %s)" : "%s",
             f->vm->settings.name, p->failover.host);
    return states_check(verb, name, p->state, facts, err) ||
           (p->successor.target[0] != '\0' &&
            err_wrap(err, "it is replicated by way of %s now (farshore join that)",
                     p->successor.target));
}

bool flow_check(struct flow *f, enum states_verb verb, struct err *err)
{
    return flow_allows(f, verb, f->protection, err);
}

bool flow_change(struct flow *f, protection_change_fn *change, void *context, struct err *err)
{
    struct protection *now = NULL;
    if (!protection_change(&f->vault, change, context, &now, err))
        return false;
    protection_release(&f->protection);
    f->protection = now;
    return true;
}

void flow_take_disks(struct flow *f, const struct history_point *point)
{
    struct settings *s = &f->vm->settings;
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t count = history_disks(f->vm->history, point->index, disks);
    for (size_t i = 0; i < count; i++) {
        s->disks[i] = (struct settings_disk){
            .number = disks[i].disk, .store = disks[i].store, .size_bytes = disks[i].size_bytes};
        memcpy(s->disks[i].name, disks[i].name, sizeof s->disks[i].name);
    }
    s->disk_count = (uint16_t)count;
}

void flow_mount_point(const struct flow *f, char out[PATH_BYTES_MAX])
{
    const struct settings *s = &f->vm->settings;
    if (s->machine->mount[0] != '\0')
        snprintf(out, PATH_BYTES_MAX, "%s", s->machine->mount);
    else
        mount_folder_default(f->call->paths, s->name, out);
}

bool flow_folder_make(struct flow *f, const char *folder, struct err *err)
{
    return f->protection->xml.length > 0
               ? mount_folder_make(f->call->world, f->call->paths, folder, err)
               : dir_make(f->call->world, folder, 0755, err);
}

bool flow_mount(struct flow *f, struct err *err)
{
    char folder[PATH_BYTES_MAX], at[PATH_MAX];
    const char *vm = f->vm->settings.name;
    if (vm_locked(f->call->paths, vm, at))
        return true;
    flow_mount_point(f, folder);
    /* Of what is not replicated yet the document was asked just now. */
    const char *force = f->vm->settings.replicate ? NULL : "--force";
    /* A mount that died stands there still, and `mount` clears it away. */
    struct stat st;
    bool dead = stat(folder, &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
    return (dead || flow_folder_make(f, folder, err)) &&
           self_run((const char *const[]){"mount", vm, folder, force, NULL}, err);
}

bool flow_worker_status(struct flow *f, uint64_t timeout_ms, cJSON **answer, struct err *err)
{
    cJSON *request AUTO_JSON = NULL;
    return command_make("status", &request, err) &&
           vm_ask_again(f->call, f->vm->settings.name, request, timeout_ms, answer, err);
}

bool flow_unmount(struct flow *f, bool ship, struct err *err)
{
    char at[PATH_MAX];
    if (!vm_locked(f->call->paths, f->vm->settings.name, at) || at[0] == '\0')
        return true;
    return ship ? self_run((const char *const[]){"unmount", at, "--wait", "--timeout", "600", NULL},
                           err)
                : self_run((const char *const[]){"unmount", at, "--timeout", "5", NULL}, err);
}

bool flow_machine_open(struct flow *f, struct flow_machine *out, struct err *err)
{
    const char *known = f->vm->settings.machine->domain;
    struct runner_machine *m = &out->machine;
    char at[PATH_MAX];
    if (!runner_open(f->vm, f->protection, &out->runner, err))
        return false;
    /* A person may have mounted it anywhere. */
    if (vm_locked(f->call->paths, f->vm->settings.name, at) && at[0] != '\0')
        snprintf(out->folder, sizeof out->folder, "%.*s", (int)sizeof out->folder - 1, at);
    else
        flow_mount_point(f, out->folder);
    *m = (struct runner_machine){.folder = out->folder, .point = f->protection->failover.point};
    if (known[0] != '\0')
        snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1, known);
    else
        runner_name(&out->runner, NULL, m->name);
    return true;
}

void flow_machine_close(struct flow_machine *m)
{
    runner_close(&m->runner);
}
