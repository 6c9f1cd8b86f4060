/* SPDX-License-Identifier: MIT */
#include "common/log.h"
#include "tools/failover/agent_internal.h"
#include "tools/failover/child.h"

#include <time.h>

#define SECOND_NS       1000000000ull
#define AGAIN_S         5u /* after a process was started for a job, and it is still to be claimed */
#define RUNNING_S       10u
#define BOOT_FIRST_S    10u /* after a boot that failed, and twice as long after each more */
#define BOOT_MAX_S      600u
#define ENDING_MS       5000u
#define ENDING_LOOKS    50u
#define ENDING_PAUSE_MS 100u

static struct agent_child *find_child(struct agent *a, const char *vm, const char *what)
{
    for (size_t i = 0; i < AGENT_CHILDREN_MAX; i++)
        if (a->children[i].pid > 0 && strcmp(a->children[i].vm, vm) == 0 &&
            strcmp(a->children[i].what, what) == 0)
            return &a->children[i];
    return NULL;
}

static struct agent_child *free_child(struct agent *a)
{
    for (size_t i = 0; i < AGENT_CHILDREN_MAX; i++)
        if (a->children[i].pid <= 0)
            return &a->children[i];
    return NULL;
}

/* False when none could be started now. */
static bool start(struct agent *a, const char *vm, const char *what, const char *const *arguments)
{
    struct err err = ERR_NONE;
    struct agent_child *c = free_child(a);
    if (c == NULL)
        return false;
    if (!child_start(arguments, false, &c->pid, &err)) {
        log_error("%s", err.text);
        c->pid = 0;
        return false;
    }
    snprintf(c->vm, sizeof c->vm, "%s", vm);
    snprintf(c->what, sizeof c->what, "%s", what);
    return true;
}

bool agent_begin_job(struct agent *a, struct agent_vm *v, const char *verb)
{
    const char *const arguments[] = {"run-job", v->name, "--begin", verb, NULL};
    return find_child(a, v->name, verb) != NULL || start(a, v->name, verb, arguments);
}

static bool start_job(struct agent *a, struct agent_vm *v, const char *id, bool still)
{
    const char *const arguments[] = {"run-job", v->name, id, still ? "--still" : NULL, NULL};
    return start(a, v->name, id, arguments);
}

/* --- which jobs there are --- */

static const struct agent_job *known(const struct agent_vm *v, const char *id)
{
    for (size_t i = 0; i < v->job_count; i++)
        if (strcmp(v->jobs[i].id, id) == 0)
            return &v->jobs[i];
    return NULL;
}

/* The table as the list has it now, oldest first, with what is known of each. */
static bool refresh(struct agent_vm *v, const struct doclog_vault *vault, struct err *err)
{
    struct job_ids ids AUTO_JOB_IDS = {.ids = NULL};
    if (!job_list(vault, NULL, AGENT_JOBS_MAX, &ids, err))
        return false;
    struct agent_job *now AUTO_FREE = calloc(ids.count + 1, sizeof *now);
    if (now == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < ids.count; i++) {
        const char *id = ids.ids[ids.count - 1 - i];
        const struct agent_job *before = known(v, id);
        if (before != NULL)
            now[i] = *before;
        else
            snprintf(now[i].id, sizeof now[i].id, "%s", id);
    }
    memcpy(v->jobs, now, ids.count * sizeof *now);
    v->job_count = ids.count;
    return true;
}

/* One that is not settled. A job that cannot be read is one that nobody can run: said once. */
static bool look_at(struct agent *a, struct agent_vm *v, struct agent_job *known_job,
                    const struct doclog_vault *vault, struct err *err)
{
    struct job *j AUTO_JOB = NULL;
    struct err why = ERR_NONE;
    uint64_t now_ns = agent_now_ns(a);
    if (!job_load(vault, known_job->id, &j, &why)) {
        if (why.kind != ERR_CORRUPT && why.kind != ERR_NOT_FOUND && why.kind != ERR_WRONG_KEY) {
            *err = why;
            return false;
        }
        known_job->settled = true;
        log_warning("%s", why.text);
        return true;
    }
    known_job->settled = j->finished || strcmp(j->host, a->config.host) != 0;
    if (known_job->seen_ns == 0 || known_job->number != j->number) {
        known_job->number = j->number;
        known_job->seen_ns = now_ns;
    }
    bool still = now_ns - known_job->seen_ns >= JOB_LEASE_S * SECOND_NS;
    known_job->next_ns = now_ns + RUNNING_S * SECOND_NS;
    if (known_job->settled || !job_claimable(j, still))
        return true;
    if (start_job(a, v, known_job->id, still))
        known_job->next_ns = now_ns + AGAIN_S * (1 + j->claims) * SECOND_NS;
    else
        known_job->next_ns = 0;
    return true;
}

bool agent_look(struct agent *a, struct agent_vm *v, struct err *err)
{
    const struct doclog_vault vault = vm_vault(&v->vm);
    if (!refresh(v, &vault, err))
        return false;
    for (size_t i = 0; i < v->job_count; i++) {
        struct agent_job *j = &v->jobs[i];
        if (j->settled || j->next_ns > agent_now_ns(a) || find_child(a, v->name, j->id) != NULL)
            continue;
        if (!look_at(a, v, j, &vault, err))
            return false;
    }
    return true;
}

/* --- processes --- */

/* The job that a process had run, looked at again at once when the process ended badly. */
static void look_soon(struct agent *a, const struct agent_child *c)
{
    for (size_t i = 0; i < a->vm_count; i++)
        for (size_t k = 0; k < a->vms[i]->job_count && strcmp(a->vms[i]->name, c->vm) == 0; k++)
            if (strcmp(a->vms[i]->jobs[k].id, c->what) == 0)
                a->vms[i]->jobs[k].next_ns = 0;
}

/* What kept it from its start may pass: a store, memory, a network that is not there yet. */
static void boot_later(struct agent *a, const struct agent_child *c)
{
    for (size_t i = 0; i < a->vm_count; i++) {
        struct agent_vm *v = a->vms[i];
        if (strcmp(v->name, c->vm) != 0 || strcmp(c->what, "boot") != 0)
            continue;
        uint64_t pause_s = v->boot_pause_s > 0 ? v->boot_pause_s * 2 : BOOT_FIRST_S;
        v->boot_pause_s = pause_s < BOOT_MAX_S ? pause_s : BOOT_MAX_S;
        v->next_boot_ns = agent_now_ns(a) + v->boot_pause_s * SECOND_NS;
        v->begun = false;
        log_warning("%s: booted again in %llu s", v->name, (unsigned long long)v->boot_pause_s);
    }
}

void agent_tend_children(struct agent *a)
{
    char how[32];
    for (size_t i = 0; i < AGENT_CHILDREN_MAX; i++) {
        struct agent_child *c = &a->children[i];
        if (!child_ended(c->pid, how, sizeof how))
            continue;
        if (strcmp(how, "exit 0") != 0) {
            log_warning("%s: the process of job %s ended: %s", c->vm, c->what, how);
            boot_later(a, c);
        }
        look_soon(a, c);
        c->pid = 0;
    }
}

static bool any_child(const struct agent *a)
{
    for (size_t i = 0; i < AGENT_CHILDREN_MAX; i++)
        if (a->children[i].pid > 0)
            return true;
    return false;
}

/* Most jobs take moments; a job that is ended is taken over at the next start. */
void agent_end_children(struct agent *a)
{
    for (unsigned i = 0; i < ENDING_LOOKS && any_child(a); i++) {
        agent_tend_children(a);
        if (any_child(a))
            nanosleep(&(struct timespec){.tv_nsec = ENDING_PAUSE_MS * 1000000l}, NULL);
    }
    for (size_t i = 0; i < AGENT_CHILDREN_MAX; i++) {
        child_stop(a->children[i].pid, ENDING_MS);
        a->children[i].pid = 0;
    }
}
