/* SPDX-License-Identifier: MIT
 * Jobs: every long verb is one, kept in the vault as the log `VM/jobs/ID/N`. Each entry is the
 * whole job as it is then, so the newest says all: request, claim, steps, result. A job is
 * addressed to a host. It is run by the process that claims it, by append at the head: of several
 * exactly one succeeds. The runner says every JOB_BEAT_S that it is alive. A job whose runner died
 * is taken over by the same claim, once nothing was said for JOB_LEASE_S, or at once on the
 * runner's own machine when the process is gone; the old runner's next step is then ERR_FENCED and
 * it must stop.
 *
 * An id is UTC time and 4 hex digits, `20261127t000616123z-1a2b`: byte order is time order. */
#ifndef TOOLS_FAILOVER_JOB_H
#define TOOLS_FAILOVER_JOB_H

#include "backend/history/doclog.h"
#include "common/json.h"
#include "tools/host_config.h"

#define JOB_ID_MAX     32u /* with the NUL */
#define JOB_VERB_MAX   32u
#define JOB_NAME_MAX   48u /* of a step */
#define JOB_TEXT_MAX   256u
#define JOB_STEPS_MAX  64u
#define JOB_ARGS_MAX   32u
#define JOB_BEAT_S     20u
#define JOB_LEASE_S    90u
#define JOB_CLAIMS_MAX 5u   /* a job whose runner dies again and again ends then */
#define JOB_CLAIM_S    30u  /* how long a waiting verb gives a host to claim, unless told */
#define JOB_EXPIRY_S   900u /* beyond its claim_s: for clocks that differ between hosts */
#define JOB_ENTRY_WAIT_MS                                                                          \
    5000u              /* how long a new step waits to be durable before the work goes on */
#define JOBS_KEEP 200u /* finished ones of a VM, older go */

struct job_step {
    char name[JOB_NAME_MAX];
    char text[JOB_TEXT_MAX];
    uint64_t done, total; /* total 0: no measure */
    uint64_t began_ms, changed_ms;
};

struct job {
    char id[JOB_ID_MAX];
    char vm[VM_NAME_MAX + 1];
    /* request */
    char verb[JOB_VERB_MAX];
    char host[HOST_NAME_CHARS_MAX + 1]; /* who is to run it */
    char by[HOST_NAME_CHARS_MAX + 1];   /* who asked */
    uint64_t posted_ms;
    uint64_t expires_ms; /* not to be claimed after; 0: no end */
    cJSON *args;         /* an object of texts */
    /* claim */
    bool claimed;
    char runner[HOST_NAME_CHARS_MAX + 1];
    char machine[40];        /* boot and pid namespace, so that a pid means something */
    uint64_t pid, pid_start; /* field 22 of /proc/PID/stat */
    uint64_t claimed_ms, alive_ms;
    uint32_t claims; /* more than 1: it was taken over */
    /* steps, in the order in which they began */
    uint16_t step_count;
    struct job_step steps[JOB_STEPS_MAX];
    /* result */
    bool finished;
    struct err result; /* ERR_OK: it did what it should */
    uint64_t finished_ms;
    cJSON *values; /* an object of whatever the verb gives back, or NULL */
    /* not in the document */
    uint64_t number;    /* of the entry that says so */
    uint64_t silent_ms; /* of a job that was taken over: how long nothing had been said of it */
};

void job_release(struct job **j); /* NULL inside is fine; leaves NULL */
#define AUTO_JOB CLEANUP(job_release)
/* An argument's text; NULL when it was not given. */
const char *job_arg(const struct job *j, const char *name);
/* "waiting", "running", "lost" (its runner has said nothing for JOB_LEASE_S), "done", "failed",
 * "cancelled". By the reader's clock: for people. */
const char *job_state(const struct job *j, uint64_t now_ms);
/* For --json and job_show. */
bool job_json(const struct job *j, uint64_t now_ms, cJSON **out, struct err *err) MUST_CHECK;

bool job_parse(struct span text, struct job **out, struct err *err) MUST_CHECK;
bool job_write(const struct job *j, struct buf *out, struct err *err) MUST_CHECK;
bool job_id_valid(const char *id);

/* --- who asks --- */

struct job_request {
    const char *verb;
    const char *host;  /* who is to run it */
    const char *by;    /* this host */
    const cJSON *args; /* an object of texts; NULL: none */
    uint64_t claim_s;  /* somebody waits for it so long; a while later it is not to be claimed any
                          more. 0: no end */
};

/* Puts the job for `host` to find. */
bool job_post(const struct doclog_vault *v, const struct job_request *r, char id[JOB_ID_MAX],
              struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND: no such job of this VM. */
bool job_load(const struct doclog_vault *v, const char *id, struct job **out,
              struct err *err) MUST_CHECK;
/* Ends a job that nobody has claimed. ERR_BUSY: somebody has. */
bool job_withdraw(const struct doclog_vault *v, const char *id, struct err *err) MUST_CHECK;

/* Called with the job whenever it has changed. */
typedef void job_show_fn(void *context, const struct job *j);
/* Waits until it is finished; `out` then holds it, whatever its result. Not claimed within
 * `claim_s` seconds: withdrawn and ERR_TRANSIENT, which names the host and what should run there.
 * Not finished within `timeout_s` (0: no bound): ERR_TRANSIENT, the job goes on. */
bool job_wait(const struct doclog_vault *v, const char *id, uint64_t claim_s, uint64_t timeout_s,
              job_show_fn *show, void *context, struct job **out, struct err *err) MUST_CHECK;

/* Ids of a VM's jobs, newest first, at most `limit` (to be freed by job_ids_release). Jobs older
 * than `after` (NULL: none) are not looked at. */
struct job_ids {
    char (*ids)[JOB_ID_MAX];
    size_t count;
};
bool job_list(const struct doclog_vault *v, const char *after, size_t limit, struct job_ids *out,
              struct err *err) MUST_CHECK;
void job_ids_release(struct job_ids *l);
#define AUTO_JOB_IDS CLEANUP(job_ids_release)
/* Removes the finished ones but the newest JOBS_KEEP. */
bool job_tidy(const struct doclog_vault *v, struct err *err) MUST_CHECK;

/* --- who runs --- */

/* A claimed job; it keeps a thread that puts what is new and says that the process is alive. Any
 * thread may call while it is open. The vault's store is used from that thread too. */
struct job_run;

/* Post and claim in one entry, for a verb that runs on the host itself. */
bool job_begin(const struct doclog_vault *v, const struct job_request *r, struct job_run **out,
               struct err *err) MUST_CHECK;
/* Claims one that waits. ERR_BUSY: another runs it, and is not known to be dead. ERR_EXISTS: it is
 * finished. `still`: the caller has seen nothing new of it for JOB_LEASE_S of its own clock, so
 * that it may be taken over. */
bool job_claim(const struct doclog_vault *v, const char *id, const char *host, bool still,
               struct job_run **out, struct err *err) MUST_CHECK;
/* Stops the beat. A run that was not finished is left for somebody to take over. */
void job_run_close(struct job_run **r);
#define AUTO_JOB_RUN CLEANUP(job_run_close)

/* Whether it waits, or its runner is known to be dead, or cannot be known and was `still` so long:
 * job_claim would try. */
bool job_claimable(const struct job *j, bool still);

/* As it was claimed: args and steps. Borrowed; its request never changes. */
const struct job *job_run_job(const struct job_run *r);
/* Each step is shown to `show` too (a terminal), which may not call the run. */
void job_run_show(struct job_run *r, job_show_fn *show, void *context);

/* The step `name` goes on, or begins when it is not the last one. `format` may be NULL. What begins
 * is durable on return, or the store has not answered for JOB_ENTRY_WAIT_MS: that does not stop the
 * work. Progress (done, total) is put now and then by a thread of the run. False, ERR_FENCED:
 * another process has taken the job over, and this one must stop and touch nothing more. `r` may be
 * NULL: nothing happens. */
bool job_step(struct job_run *r, const char *name, uint64_t done, uint64_t total, struct err *err,
              const char *format, ...) __attribute__((format(printf, 6, 7))) MUST_CHECK;
/* The result; durable, or `err` says why not. ERR_FENCED: taken over. `result` ERR_OK or NULL:
 * done. `values`: an object, copied; NULL: none. */
bool job_finish(struct job_run *r, const struct err *result, const cJSON *values,
                struct err *err) MUST_CHECK;

/* The job as it is, after job_finish; the caller owns it, and the run can only be closed. */
struct job *job_run_take(struct job_run *r);

#endif
