/* SPDX-License-Identifier: MIT
 * A reprotect turns the VM to another vault and waits there for the first point; its job is in the
 * vault that it has left, where nobody looks any more. When its process has died meanwhile, a job
 * of this host's own goes on in the new vault, and here the old one gets its result: somebody may
 * wait for it. */
#include "common/log.h"
#include "tools/failover/agent_internal.h"
#include "tools/failover/handlers.h"

#define AGAIN_NS (30ull * 1000000000ull)

void agent_forget_left(struct agent_vm *v)
{
    if (v->left.job[0] != '\0')
        vm_release(&v->left.vm);
    v->left = (struct agent_left){.vm = VM_NONE};
}

/* The reprotect of this host that has no result yet; NULL: none. */
static const char *unfinished(const struct agent *a, const struct agent_vm *v)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    for (size_t i = v->job_count; i-- > 0;) {
        struct job *j AUTO_JOB = NULL;
        struct err unused = ERR_NONE;
        if (!v->jobs[i].settled && job_load(&vault, v->jobs[i].id, &j, &unused) && !j->finished &&
            strcmp(j->verb, "reprotect") == 0 && strcmp(j->host, a->config.host) == 0)
            return v->jobs[i].id;
    }
    return NULL;
}

void agent_leave(struct agent *a, struct agent_vm *v)
{
    const char *job = unfinished(a, v);
    agent_forget_left(v);
    if (job != NULL) {
        snprintf(v->left.job, sizeof v->left.job, "%s", job);
        v->left.vm = v->vm;
        v->open = false;
    }
    agent_vm_shut(v);
}

static bool finish(const struct agent *a, const struct agent_vm *v,
                   const struct doclog_vault *vault, struct err *err)
{
    const struct settings *s = &v->vm.settings;
    struct job_run *run AUTO_JOB_RUN = NULL;
    cJSON *values AUTO_JSON = NULL;
    return reprotect_result(&s->stores[0], s->generation, &values, err) &&
           job_claim(vault, v->left.job, a->config.host, false, &run, err) &&
           job_finish(run, NULL, values, err);
}

/* Its process is dead. *over: it has its result, and nothing is left to do. */
static bool settle(struct agent *a, struct agent_vm *v, const struct doclog_vault *left, bool *over,
                   struct err *err)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    struct protection *p AUTO_PROTECTION = NULL;
    if (!protection_load(&vault, &p, err))
        return false;
    if (agent_waits_for_point(v, p)) {
        v->next_fence_ns = 0; /* whoever waits there has waited long enough */
        return true;
    }
    bool is_protected = p->state == PROTECTION_NONE || p->state == PROTECTION_TEST_RUNNING;
    if (is_protected && !finish(a, v, left, err))
        return false;
    if (is_protected)
        log_info("%s: job %s: reprotect is done, by another process", v->name, v->left.job);
    *over = true;
    return true;
}

void agent_settle_left(struct agent *a, struct agent_vm *v)
{
    struct job *j AUTO_JOB = NULL;
    struct err err = ERR_NONE;
    bool over = false;
    if (v->left.job[0] == '\0' || v->left.next_ns > agent_now_ns(a))
        return;
    const struct doclog_vault left = vm_vault(&v->left.vm);
    bool good = job_load(&left, v->left.job, &j, &err) &&
                (j->finished || !job_claimable(j, false) || settle(a, v, &left, &over, &err));
    if (over || (good && j->finished) || err.kind == ERR_NOT_FOUND)
        agent_forget_left(v);
    else if (!good) /* the store may be lost with the host that was failed over from */
        v->left.next_ns = agent_now_ns(a) + AGAIN_NS;
}
