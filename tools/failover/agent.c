/* SPDX-License-Identifier: MIT */
#include "tools/failover/agent.h"

#include "common/log.h"
#include "tools/disk_lock.h"
#include "tools/failover/agent_internal.h"
#include "tools/failover/moved.h"
#include "tools/failover/takeover.h"
#include "tools/failover/validate.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND_NS ((uint64_t)1000000000)
#define FAILED_S  15u   /* until a VM whose vault fails is looked at again */
#define FENCE_S   60u   /* between two looks at the protection document */
#define TIDY_S    3600u /* between two removals of old jobs */

uint64_t agent_now_ns(const struct agent *a)
{
    struct world *w = a->config.call->world;
    return w->ops->boottime_ns(w);
}

bool agent_make(const struct agent_config *config, struct agent **out, struct err *err)
{
    struct agent *a = calloc(1, sizeof *a);
    if (a == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    a->config = *config;
    *out = a;
    return true;
}

void agent_vm_shut(struct agent_vm *v)
{
    if (v->open)
        vm_release(&v->vm);
    v->vm = VM_NONE;
    v->open = false;
}

static void drop(struct agent_vm **v)
{
    if (*v == NULL)
        return;
    agent_vm_shut(*v);
    agent_forget_left(*v);
    free(TAKE(*v));
}

void agent_release(struct agent **agent)
{
    struct agent *a = *agent;
    if (a == NULL)
        return;
    agent_end_processor(a);
    agent_end_children(a);
    for (size_t i = 0; i < a->vm_count; i++)
        drop(&a->vms[i]);
    free(TAKE(a->vms));
    buf_release(&a->processor.names);
    free(TAKE(*agent));
}

/* --- which VMs there are --- */

static struct agent_vm *take_known(struct agent *a, const char *name)
{
    for (size_t i = 0; i < a->vm_count; i++)
        if (a->vms[i] != NULL && strcmp(a->vms[i]->name, name) == 0)
            return TAKE(a->vms[i]);
    struct agent_vm *v = calloc(1, sizeof *v);
    if (v != NULL) {
        snprintf(v->name, sizeof v->name, "%s", name);
        v->vm = v->left.vm = VM_NONE;
    }
    return v;
}

/* The list as CONFIG has it now; what is known of those that stay is kept. */
static bool refresh(struct agent *a, struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    if (!vm_names_list(a->config.call->paths, &names, err))
        return false;
    struct agent_vm **now = calloc(names.count + 1, sizeof *now);
    if (now == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < names.count; i++) {
        struct agent_vm *v = take_known(a, names.names[i]);
        if (v != NULL)
            now[count++] = v;
    }
    for (size_t i = 0; i < a->vm_count; i++)
        drop(&a->vms[i]);
    free(a->vms);
    a->vms = now;
    a->vm_count = count;
    return true;
}

static bool same_vault(const struct settings *x, const struct settings *y)
{
    return x->role == y->role && memcmp(x->vm, y->vm, VM_ID_BYTES) == 0 &&
           x->store_count == y->store_count &&
           memcmp(x->stores, y->stores, x->store_count * sizeof *x->stores) == 0;
}

/* Opens it, anew when its settings name another vault or role. It stays closed
 * while its enable has not finished. */
static bool open_vm(struct agent *a, struct agent_vm *v, struct err *err)
{
    const struct verb_call *call = a->config.call;
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    if (!settings_load(call->world, call->paths, v->name, &now, err))
        return false;
    v->target = now.role == ROLE_TARGET;
    if (v->open && !same_vault(&now, &v->vm.settings))
        agent_leave(a, v);
    if (v->open || now.role == ROLE_ENABLING)
        return true;
    if (!vm_load(call, v->name, &v->vm, err) || !vm_open_targets(&v->vm, VM_GLANCES, err)) {
        vm_release(&v->vm);
        v->vm = VM_NONE;
        return false;
    }
    v->open = true;
    return true;
}

/* --- what it needs beside its jobs --- */

/* After a start of the agent, which may be one of the host: a machine that runs here is started by
 * the handler `boot`, which looks at whether it should. One that failed may have mounted it. */
static void boot(struct agent *a, struct agent_vm *v)
{
    char point[PATH_MAX];
    bool failed = v->boot_pause_s > 0;
    if (v->begun || v->next_boot_ns > agent_now_ns(a))
        return;
    bool wanted = v->vm.settings.role == ROLE_SOURCE &&
                  (failed || !vm_locked(a->config.call->paths, v->name, point));
    v->begun = !wanted || agent_begin_job(a, v, "boot");
}

bool agent_waits_for_point(const struct agent_vm *v, const struct protection *p)
{
    const struct settings *s = &v->vm.settings;
    return p->state == PROTECTION_REPROTECTING && s->role == ROLE_SOURCE && s->replicate &&
           s->generation.id == p->failover.generation.id;
}

/* What the document says that nobody tells this host by a job: a reprotect that was cut off, fences
 * of others that are pending, and the one that this host got, or the cancel, while it was off. */
static bool look_at_document(struct agent *a, struct agent_vm *v, struct err *err)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    struct protection *p AUTO_PROTECTION = NULL;
    if (v->next_fence_ns > agent_now_ns(a))
        return true;
    v->next_fence_ns = agent_now_ns(a) + FENCE_S * SECOND_NS;
    if (!protection_load(&vault, &p, err))
        return false;
    if (p->failover.fence_pending && strcmp(p->failover.host, a->config.host) == 0)
        agent_begin_job(a, v, "fence");
    if (takeover_left(&v->vm.settings, p, a->config.host))
        agent_begin_job(a, v, "undo");
    /* Its process may have ended, and its job is in the vault that was left. Beside one that waits
     * still, another does no harm: either finds it settled. */
    if (agent_waits_for_point(v, p))
        agent_begin_job(a, v, "reprotect");
    return moved_learn(a->config.call->world, a->config.call->paths, &v->vm.settings, p,
                       a->config.host, err);
}

/* A target looks in time for what a failover would run into. */
static void validate(struct agent *a, struct agent_vm *v)
{
    if (v->vm.settings.role != ROLE_TARGET || v->next_validate_ns > agent_now_ns(a))
        return;
    if (validated_lately(a->config.call, v->name) || agent_begin_job(a, v, "validate"))
        v->next_validate_ns = agent_now_ns(a) + VALIDATE_AGAIN_S * SECOND_NS;
}

static bool tidy(struct agent *a, struct agent_vm *v, struct err *err)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    if (v->next_tidy_ns > agent_now_ns(a))
        return true;
    v->next_tidy_ns = agent_now_ns(a) + TIDY_S * SECOND_NS;
    return job_tidy(&vault, err);
}

static void one_vm(struct agent *a, struct agent_vm *v)
{
    struct err err = ERR_NONE;
    if (v->next_ns > agent_now_ns(a))
        return;
    bool good = open_vm(a, v, &err);
    if (good && v->open) {
        boot(a, v);
        validate(a, v);
        agent_settle_left(a, v);
        good = agent_look(a, v, &err) && look_at_document(a, v, &err) && tidy(a, v, &err);
    }
    if (!good && !v->reported)
        log_error("%s: %s", v->name, err.text);
    if (good && v->reported)
        log_info("%s: works again", v->name);
    v->reported = !good;
    if (!good)
        v->next_ns = agent_now_ns(a) + FAILED_S * SECOND_NS;
}

void agent_round(struct agent *a)
{
    struct err err = ERR_NONE;
    if (!refresh(a, &err))
        log_error("%s", err.text);
    for (size_t i = 0; i < a->vm_count; i++) {
        one_vm(a, a->vms[i]);
        agent_tend(a); /* a store that is slow to answer holds no process up */
    }
    a->looked = true;
}

void agent_tend(struct agent *a)
{
    agent_tend_children(a);
    agent_tend_processor(a);
}
