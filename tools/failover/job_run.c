/* SPDX-License-Identifier: MIT
 * A claimed job. Its thread alone uses the log while the run is open: it puts what is new, at once
 * when a step begins, now and then for progress, and a beat when there is nothing. */
#include "common/deadline.h"
#include "common/log.h"
#include "tools/failover/child.h"
#include "tools/failover/job_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define PROGRESS_MS  2000u
#define RETRY_MS     2000u
#define FINISH_TRIES 5u

struct job_run {
    struct doclog_vault vault;
    struct doclog log; /* of the thread; of job_finish when it has ended */
    pthread_t thread;
    pthread_mutex_t state; /* guards what follows; `show` is called under it, and only prints */
    pthread_cond_t changed;
    struct job *job;
    uint64_t wanted, put; /* versions of `job`: as it is, and as the log has it */
    bool urgent;          /* do not wait for more before it is put */
    bool taken;           /* by another process */
    bool closing, joined;
    job_show_fn *show;
    void *context;
};

/* --- which process this is --- */

/* The boot and the pid namespace: two processes of the same one can tell of each other. */
static void this_machine(char *out, size_t size)
{
    char boot[16] = "", space[40] = "";
    int fd AUTO_FD = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, boot, 8);
    boot[n > 0 ? n : 0] = '\0';
    n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[n > 0 ? n : 0] = '\0';
    const char *inode = strchr(space, '[');
    snprintf(out, size, "%s-%.*s", boot, inode ? (int)strcspn(inode + 1, "]") : 0,
             inode ? inode + 1 : "");
}

/* Whether the process that claimed it is known to be dead, or known to live. */
static bool runner_known(const struct job *j, bool *alive)
{
    char machine[sizeof j->machine];
    uint64_t start;
    this_machine(machine, sizeof machine);
    if (strcmp(machine, j->machine) != 0)
        return false;
    *alive = process_start_time(j->pid, &start) && start == j->pid_start;
    return true;
}

static void mark_claimed(const struct doclog_vault *v, struct job *j, const char *host)
{
    uint64_t now_ms = job_now_ms(v);
    j->silent_ms = j->claimed && now_ms > j->alive_ms ? now_ms - j->alive_ms : 0;
    j->claimed = true;
    j->claims++;
    snprintf(j->runner, sizeof j->runner, "%s", host);
    this_machine(j->machine, sizeof j->machine);
    j->pid = (uint64_t)getpid();
    if (!process_start_time(j->pid, &j->pid_start))
        j->pid_start = 0;
    j->claimed_ms = j->alive_ms = now_ms;
}

static bool same_claim(const struct job *a, const struct job *b)
{
    return a->claimed && b->claimed && a->claims == b->claims && a->pid == b->pid &&
           a->pid_start == b->pid_start && strcmp(a->machine, b->machine) == 0 &&
           strcmp(a->runner, b->runner) == 0;
}

/* --- putting --- */

static bool taken_over(const struct job *j, struct err *err)
{
    return err_set(err, ERR_FENCED, "job %s was taken over by another process of %s", j->id,
                   j->host);
}

/* Puts `text`, which is `job` as it was. A slot that is taken may hold an entry of our own whose
 * put was in doubt; any other means that the job is not ours any more. */
static bool put_entry(struct job_run *r, struct span text, const struct job *job, struct err *err)
{
    struct err why = ERR_NONE;
    for (unsigned tries = 0; tries < 2; tries++) {
        struct job *there AUTO_JOB = NULL;
        if (doclog_append(&r->log, text, &why))
            return true;
        if (why.kind != ERR_EXISTS)
            break;
        if (!job_log_newest(&r->log, job->id, &there, &why))
            break;
        if (!same_claim(there, job))
            return taken_over(job, err);
        if (there->finished) /* only we could */
            return true;
    }
    if (err != NULL)
        *err = why;
    return false;
}

/* The job as it is now, for put_entry outside of the lock. */
static struct job *snapshot_locked(struct job_run *r, struct buf *text, uint64_t *version)
{
    struct err why = ERR_NONE;
    struct job *copy = NULL;
    r->job->alive_ms = job_now_ms(&r->vault);
    buf_clear(text);
    *version = r->wanted;
    if (!job_write(r->job, text, &why) || !job_parse(buf_span(text), &copy, &why))
        log_error("job %s: %s", r->job->id, why.text);
    return copy;
}

/* Waits until there is something to put, and it is urgent or `pause_ms` over, or until the beat.
 * False: closing. */
static bool wait_reason_locked(struct job_run *r, uint64_t pause_ms)
{
    struct timespec soonest = deadline_after(pause_ms), beat = deadline_after(JOB_BEAT_S * 1000);
    bool paused = false;
    while (!r->closing) {
        if (r->taken) { /* nothing is ever put again */
            pthread_cond_wait(&r->changed, &r->state);
            continue;
        }
        if (r->wanted != r->put && (r->urgent || paused))
            return true;
        int woken = pthread_cond_timedwait(&r->changed, &r->state, paused ? &beat : &soonest);
        if (woken == ETIMEDOUT && paused)
            return true;
        paused = paused || woken == ETIMEDOUT;
    }
    return false;
}

static void *run_thread(void *context)
{
    struct job_run *r = context;
    struct buf text AUTO_BUF = BUF_NONE;
    uint64_t pause_ms = PROGRESS_MS;
    unsigned puts = 0;

    pthread_mutex_lock(&r->state);
    while (wait_reason_locked(r, pause_ms)) {
        struct err why = ERR_NONE;
        uint64_t version;
        r->urgent = false;
        struct job *now AUTO_JOB = snapshot_locked(r, &text, &version);
        pthread_mutex_unlock(&r->state);
        bool good = now != NULL && put_entry(r, buf_span(&text), now, &why);
        if (good && ++puts % DOCLOG_KEEP == 0)
            (void)!doclog_tidy(&r->log, &why); /* what stays goes with the next time */
        pthread_mutex_lock(&r->state);
        if (good)
            r->put = version;
        else if (why.kind == ERR_FENCED)
            r->taken = true;
        pause_ms = good ? PROGRESS_MS : RETRY_MS;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->state);
    return NULL;
}

/* --- beginning and ending --- */

static bool start_thread(struct job_run *r, struct err *err)
{
    sigset_t all, before;
    pthread_mutex_init(&r->state, NULL);
    deadline_cond_init(&r->changed);
    sigfillset(&all); /* signals are the business of who runs the job */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(&r->thread, NULL, run_thread, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0)
        return true;
    r->joined = true;
    return err_errno(err, failed, "the thread of job %s", r->job->id);
}

static struct job_run *begin(const struct doclog_vault *v, struct err *err)
{
    struct job_run *r = calloc(1, sizeof *r);
    if (r == NULL)
        err_set(err, ERR_FULL, "out of memory");
    else
        r->vault = *v;
    return r;
}

static void discard(struct job_run **r)
{
    if (*r == NULL)
        return;
    job_release(&(*r)->job);
    free(TAKE(*r));
}

static void join_thread(struct job_run *r)
{
    if (r->joined)
        return;
    pthread_mutex_lock(&r->state);
    r->closing = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->state);
    pthread_join(r->thread, NULL);
    r->joined = true;
}

void job_run_close(struct job_run **r)
{
    if (*r == NULL)
        return;
    join_thread(*r);
    pthread_cond_destroy(&(*r)->changed);
    pthread_mutex_destroy(&(*r)->state);
    discard(r);
}

/* The log is begun where it will stay: it points into itself. */
static bool hand_out(struct job_run **made, struct job_run **out, struct err *err)
{
    if (!start_thread(*made, err)) {
        job_run_close(made);
        return false;
    }
    *out = TAKE(*made);
    return true;
}

bool job_begin(const struct doclog_vault *v, const struct job_request *q, struct job_run **out,
               struct err *err)
{
    struct job_run *r CLEANUP(discard) = begin(v, err);
    if (r == NULL || !job_from_request(v, q, &r->job, err))
        return false;
    mark_claimed(v, r->job, q->host);
    return job_put_first(&r->log, &r->vault, r->job, err) && hand_out(&r, out, err);
}

bool job_claimable(const struct job *j, bool still)
{
    bool alive = false;
    return !j->claimed || (runner_known(j, &alive) ? !alive : still);
}

static bool may_claim(const struct doclog_vault *v, const struct job *j, const char *host,
                      bool still, struct err *err)
{
    if (j->finished)
        return err_set(err, ERR_EXISTS, "job %s has ended", j->id);
    if (strcmp(j->host, host) != 0)
        return err_set(err, ERR_INVALID, "job %s is for %s, not for %s", j->id, j->host, host);
    if (!j->claimed && j->expires_ms != 0 && job_now_ms(v) > j->expires_ms)
        return err_set(err, ERR_CANCELLED,
                       "job %s has waited too long, nobody waits for it any more (if it is new, "
                       "the clocks of %s and %s differ)",
                       j->id, j->by, host);
    if (job_claimable(j, still))
        return true;
    return err_set(err, ERR_BUSY, "job %s is run by process %llu of %s", j->id,
                   (unsigned long long)j->pid, j->runner);
}

bool job_claim(const struct doclog_vault *v, const char *id, const char *host, bool still,
               struct job_run **out, struct err *err)
{
    struct job_run *r CLEANUP(discard) = begin(v, err);
    struct err why = ERR_NONE;
    if (r == NULL)
        return false;
    job_log_begin(&r->log, &r->vault, id);
    if (!job_log_newest(&r->log, id, &r->job, err) || !may_claim(v, r->job, host, still, err))
        return false;
    mark_claimed(v, r->job, host);
    if (job_log_append(&r->log, r->job, &why))
        return hand_out(&r, out, err);
    if (why.kind == ERR_EXISTS)
        return err_set(err, ERR_BUSY, "job %s was taken by another process just now", id);
    if (err != NULL)
        *err = why;
    return false;
}

/* --- at work --- */

const struct job *job_run_job(const struct job_run *r)
{
    return r->job;
}

void job_run_show(struct job_run *r, job_show_fn *show, void *context)
{
    LOCK_SCOPE(&r->state);
    r->show = show;
    r->context = context;
}

/* The step of that name when it is the last, else a new one. When the table is full the last row is
 * written over: a job of more steps than that still shows where it is. */
static struct job_step *step_locked(struct job_run *r, const char *name, bool *begins)
{
    struct job *j = r->job;
    char clean[JOB_NAME_MAX];
    job_text(name, clean, sizeof clean);
    *begins = j->step_count == 0 || strcmp(j->steps[j->step_count - 1].name, clean) != 0;
    if (*begins && j->step_count < JOB_STEPS_MAX)
        j->step_count++;
    struct job_step *s = &j->steps[j->step_count - 1];
    if (*begins) {
        *s = (struct job_step){.began_ms = job_now_ms(&r->vault)};
        memcpy(s->name, clean, sizeof clean);
    }
    return s;
}

bool job_step(struct job_run *r, const char *name, uint64_t done, uint64_t total, struct err *err,
              const char *format, ...)
{
    char text[JOB_TEXT_MAX] = "";
    bool begins;

    if (r == NULL)
        return true;
    if (format != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
    }
    LOCK_SCOPE(&r->state);
    struct job_step *s = step_locked(r, name, &begins);
    job_text(text, s->text, sizeof s->text);
    s->done = done;
    s->total = total;
    s->changed_ms = job_now_ms(&r->vault);
    uint64_t mine = ++r->wanted;
    r->urgent = r->urgent || begins || total == 0 || done >= total;
    pthread_cond_broadcast(&r->changed);
    if (r->show != NULL)
        r->show(r->context, r->job);
    struct timespec end = deadline_after(JOB_ENTRY_WAIT_MS);
    while (begins && !r->taken && !r->joined && r->put < mine &&
           pthread_cond_timedwait(&r->changed, &r->state, &end) != ETIMEDOUT)
        ;
    return !r->taken || taken_over(r->job, err);
}

/* As they are when they were read back: what is being written holds numbers in another form. */
static bool copy_values(const cJSON *values, cJSON **out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    return json_write(values, false, &text, err) && json_parse(buf_span(&text), out, err);
}

static bool set_result(struct job_run *r, const struct err *result, const cJSON *values,
                       struct err *err)
{
    struct job *j = r->job;
    j->finished = true;
    j->finished_ms = job_now_ms(&r->vault);
    j->result = ERR_NONE;
    if (result != NULL && result->kind != ERR_OK) {
        j->result.kind = result->kind;
        job_text(result->text, j->result.text, sizeof j->result.text);
    }
    json_release(&j->values);
    return values == NULL || copy_values(values, &j->values, err);
}

bool job_finish(struct job_run *r, const struct err *result, const cJSON *values, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;

    join_thread(r); /* from here on the log and the job are ours */
    if (r->taken)
        return taken_over(r->job, err);
    if (!set_result(r, result, values, err) || !job_write(r->job, &text, err))
        return false;
    for (unsigned tries = 0; tries < FINISH_TRIES; tries++) {
        if (put_entry(r, buf_span(&text), r->job, &why)) {
            if (r->show != NULL)
                r->show(r->context, r->job);
            return true;
        }
        if (why.kind != ERR_TRANSIENT)
            break;
    }
    if (err != NULL)
        *err = why;
    return err_wrap(err, "putting the result of job %s", r->job->id);
}

struct job *job_run_take(struct job_run *r)
{
    assert(r->joined);
    return TAKE(r->job);
}
