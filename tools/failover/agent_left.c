/* SPDX-License-Identifier: MIT
 * A reprotect turns the VM to another vault and waits there for the first point; its job is in the
 * vault that it has left, where nobody looks any more. So is the job of its seed, whose last deed
 * is that turn on the old source. When the process of such a job has died, here it gets its result:
 * somebody may wait for it. A reprotect goes on in the new vault first, as a job of this host's
 * own. */
#include "common/log.h"
#include "tools/failover/agent_internal.h"
#include "tools/failover/handlers.h"

#define AGAIN_NS (30ull * 1000000000ull)

void agent_forget_left(struct agent_vm *v)
{
    job_run_close(&v->left.run);
    if (v->left.job[0] != '\0')
        vm_release(&v->left.vm);
    v->left = (struct agent_left){.vm = VM_NONE};
}

/* The job of this host behind the turn that has no result yet; NULL: none. */
static const char *unfinished(const struct agent *a, const struct agent_vm *v)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    for (size_t i = v->job_count; i-- > 0;) {
        struct job *j AUTO_JOB = NULL;
        struct err unused = ERR_NONE;
        if (!v->jobs[i].settled && job_load(&vault, v->jobs[i].id, &j, &unused) && !j->finished &&
            (strcmp(j->verb, "reprotect") == 0 || strcmp(j->verb, "seed") == 0) &&
            strcmp(j->host, a->config.host) == 0)
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

static bool finish(const struct agent *a, struct agent_vm *v, const struct err *result,
                   const cJSON *values, struct err *err)
{
    const struct doclog_vault vault = vm_vault(&v->left.vm);
    struct agent_left *left = &v->left;
    if ((left->run == NULL &&
         !job_claim(&vault, left->job, a->config.host, false, &left->run, err)) ||
        !job_finish(left->run, result, values, err))
        return false;
    log_info("%s: job %s: %s is %s, though its process ended", v->name, left->job,
             job_run_job(left->run)->verb, result == NULL ? "done" : "settled");
    return true;
}

/* *over: it needs no result from here any more. */
static bool finish_reprotect(struct agent *a, struct agent_vm *v, bool *over, struct err *err)
{
    const struct settings *s = &v->vm.settings;
    const struct doclog_vault vault = vm_vault(&v->vm);
    struct protection *p AUTO_PROTECTION = NULL;
    cJSON *values AUTO_JSON = NULL;
    if (!protection_load(&vault, &p, err))
        return false;
    if (agent_waits_for_point(v, p)) {
        v->next_fence_ns = 0; /* whoever waits there has waited long enough */
        return true;
    }
    bool is_protected = p->state == PROTECTION_NONE || p->state == PROTECTION_TEST_RUNNING;
    if (is_protected && (!reprotect_result(&s->stores[0], s->generation, &values, err) ||
                         !finish(a, v, NULL, values, err)))
        return false;
    *over = true;
    return true;
}

/* The host turns also behind a seed that broke off; only one that is whole says so before. */
static bool finish_seed(struct agent *a, struct agent_vm *v, const struct job *j, bool *over,
                        struct err *err)
{
    struct err broken = ERR_NONE;
    err_set(&broken, ERR_TRANSIENT, "its process ended, and it may not be whole");
    bool whole = j->step_count > 0 && strcmp(j->steps[j->step_count - 1].name, SEED_TURN_STEP) == 0;
    *over = finish(a, v, whole ? NULL : &broken, NULL, err);
    return *over;
}

/* Its process is dead. */
static bool settle(struct agent *a, struct agent_vm *v, const struct job *j, bool *over,
                   struct err *err)
{
    return strcmp(j->verb, "seed") == 0 ? finish_seed(a, v, j, over, err)
                                        : finish_reprotect(a, v, over, err);
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
                (j->finished || (v->left.run == NULL && !job_claimable(j, false)) ||
                 settle(a, v, j, &over, &err));
    if (over || (good && j->finished) || err.kind == ERR_NOT_FOUND || err.kind == ERR_CANCELLED)
        agent_forget_left(v);
    else if (!good) /* the store may be lost with the host that was failed over from */
        v->left.next_ns = agent_now_ns(a) + AGAIN_NS;
}
