/* SPDX-License-Identifier: MIT */
#include "tools/failover/dispatch.h"

#include "common/log.h"
#include "tools/failover/job_show.h"

#include <string.h>

#define NEWER_MAX 64u /* jobs looked at: there are a few in the minutes that count */

struct doclog_vault vm_vault(const struct vm *vm)
{
    struct doclog_vault vault = {.world = vm->call->world,
                                 .target = vm->targets[0],
                                 .keys = vm->keys,
                                 .vm = vm->settings.name,
                                 .id = vm->settings.vm};
    path_state(vm->call->paths, vm->settings.name, vault.state);
    return vault;
}

/* The result is the handler's, whether it could be put or not: what was done is done. Only a job
 * that another process has taken over says so. */
static bool put_result(struct job_run *run, bool good, const struct err *result,
                       const cJSON *values, struct err *err)
{
    struct err why = ERR_NONE;
    if (!job_finish(run, good ? NULL : result, values, &why)) {
        if (good && why.kind == ERR_FENCED) {
            if (err != NULL)
                *err = why;
            return false;
        }
        log_warning("%s", why.text);
    }
    if (!good && err != NULL)
        *err = *result;
    return good;
}

static bool run_handler(const struct verb_call *call, struct vm *vm, const struct handler *h,
                        struct job_run *run, struct err *err)
{
    cJSON *values AUTO_JSON = NULL;
    struct err result = ERR_NONE;
    bool good = h->run(call, vm, run, &values, &result);
    return put_result(run, good, &result, values, err);
}

static bool run_here(const struct verb_call *call, struct vm *vm, const struct dispatch *d,
                     const struct job_request *r, struct job **out, struct err *err)
{
    const struct handler *h = handler_find(d->verb);
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct job_shower shower = job_shower_begin(stderr);
    struct doclog_vault vault = vm_vault(vm);

    if (h == NULL)
        return err_set(err, ERR_INVALID, "this farshore knows no job %s", d->verb);
    if (!job_begin(&vault, r, &run, err))
        return false;
    if (!d->quiet)
        job_run_show(run, job_shower_show, &shower);
    bool good = run_handler(call, vm, h, run, err);
    job_shower_end(&shower);
    if (good && out != NULL)
        *out = job_run_take(run);
    return good;
}

static bool run_there(struct vm *vm, const struct dispatch *d, const struct job_request *r,
                      struct job **out, struct err *err)
{
    struct doclog_vault vault = vm_vault(vm);
    struct job_shower shower = job_shower_begin(stderr);
    struct job *j AUTO_JOB = NULL;
    char id[JOB_ID_MAX];

    if (!job_post(&vault, r, id, err))
        return false;
    if (!d->quiet)
        fprintf(stderr, "%s: job %s for host %s\n", vm->settings.name, id, d->host);
    bool waited = job_wait(&vault, id, r->claim_s, d->timeout_s, d->quiet ? NULL : job_shower_show,
                           &shower, &j, err);
    job_shower_end(&shower);
    if (!waited)
        return err_wrap(err, "%s: %s on host %s", vm->settings.name, d->verb, d->host);
    if (j->result.kind != ERR_OK) {
        if (err != NULL)
            *err = j->result;
        return err_wrap(err, "%s on host %s (job %s)", d->verb, d->host, j->id);
    }
    if (out != NULL)
        *out = TAKE(j);
    return true;
}

bool dispatch(const struct verb_call *call, struct vm *vm, const struct dispatch *d,
              struct job **out, struct err *err)
{
    struct host_config me;
    if (!host_config_load(call->world, call->paths, &me, err))
        return false;
    bool here = strcmp(d->host, me.name) == 0;
    const struct job_request r = {
        .verb = d->verb,
        .host = d->host,
        .by = me.name,
        .args = d->args,
        .claim_s = here              ? 0
                   : d->claim_s != 0 ? d->claim_s
                                     : JOB_CLAIM_S,
    };
    return here ? run_here(call, vm, d, &r, out, err) : run_there(vm, d, &r, out, err);
}

/* Whether the job is not to be run (again), and why. */
static bool refused(const struct job *j, const struct handler *h, struct err *why)
{
    if (h == NULL)
        return !err_set(why, ERR_INVALID,
                        "the farshore of host %s (" FARSHORE_VERSION ") knows no job %s: update it",
                        j->host, j->verb);
    if (j->claims > 1 && !h->resumable)
        return !err_set(why, ERR_CANCELLED,
                        "the process that ran it died: look at what it did, and give the command "
                        "again");
    if (j->claims > JOB_CLAIMS_MAX)
        return !err_set(why, ERR_IO,
                        "the process that ran it died %u times: see the log of host %s",
                        j->claims - 1, j->host);
    return false;
}

/* A decision whose process died is nobody's wish any more once another one was made: it is
 * repeated, or taken back. Nor is one of long ago. */
static bool overtaken(const struct doclog_vault *v, const struct job *j, struct err *why)
{
    struct job_ids newer AUTO_JOB_IDS = {.ids = NULL};
    if (j->silent_ms >= JOB_EXPIRY_S * 1000ull)
        return !err_set(why, ERR_CANCELLED,
                        "the process that ran it died %llu minutes before this one could go on: "
                        "give the command again",
                        (unsigned long long)j->silent_ms / 60000);
    if (!job_list(v, j->id, NEWER_MAX, &newer, why))
        return true;
    for (size_t i = 0; i < newer.count; i++) {
        struct job *other AUTO_JOB = NULL;
        struct err unread = ERR_NONE; /* removed meanwhile, or nobody's */
        if (strcmp(newer.ids[i], j->id) <= 0 || !job_load(v, newer.ids[i], &other, &unread))
            continue;
        const struct handler *h = handler_find(other->verb);
        if (h != NULL && h->decides)
            return !err_set(why, ERR_CANCELLED,
                            "the process that ran it died, and %s was given since (job %s)",
                            other->verb, other->id);
    }
    return false;
}

bool dispatch_claimed(const struct verb_call *call, struct vm *vm, const char *id, bool still,
                      struct err *err)
{
    struct doclog_vault vault = vm_vault(vm);
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct host_config me;
    struct err why = ERR_NONE;

    if (!host_config_load(call->world, call->paths, &me, err))
        return false;
    if (!job_claim(&vault, id, me.name, still, &run, &why)) {
        if (why.kind == ERR_CANCELLED && !job_withdraw(&vault, id, err))
            return false;
        if (err != NULL)
            *err = why;
        return false;
    }
    const struct job *j = job_run_job(run);
    const struct handler *h = handler_find(j->verb);
    if (refused(j, h, &why) || (h->decides && j->claims > 1 && overtaken(&vault, j, &why)))
        return job_finish(run, &why, NULL, err);
    log_info("%s: job %s: %s, asked by %s", vm->settings.name, id, j->verb, j->by);
    if (!run_handler(call, vm, h, run, &why))
        log_error("%s: job %s: %s: %s", vm->settings.name, id, j->verb, why.text);
    else
        log_info("%s: job %s: %s is done", vm->settings.name, id, j->verb);
    return true;
}
