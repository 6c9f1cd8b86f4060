/* SPDX-License-Identifier: MIT */
#include "tools/failover/job_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ID_TRIES        8u
#define WAIT_PAUSE_MS   500u
#define TIDY_REMOVE_MAX 64u

uint64_t job_now_ms(const struct doclog_vault *v)
{
    return v->world->ops->realtime_ns(v->world) / 1000000;
}

void job_text(const char *from, char *to, size_t size)
{
    snprintf(to, size, "%s", from);
    for (char *p = to; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    if (label_valid(to))
        return;
    for (char *p = to; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
}

/* --- one log --- */

void job_log_begin(struct doclog *l, const struct doclog_vault *v, const char *id)
{
    char name[DOCLOG_NAME_CHARS_MAX + 1];
    snprintf(name, sizeof name, "jobs/%s", id);
    doclog_begin(l, v, name);
}

bool job_log_parse(const struct doclog *l, struct span text, struct job **out, struct err *err)
{
    struct err why = ERR_NONE;
    const char *id = l->name + strlen("jobs/");
    if (!job_parse(text, out, &why))
        return err_set(err, ERR_CORRUPT, "job %s of %s: %s", id, l->vault->vm, why.text);
    if (strcmp((*out)->id, id) != 0) {
        job_release(out);
        return err_set(err, ERR_CORRUPT, "job %s of %s says that it is another", id, l->vault->vm);
    }
    snprintf((*out)->vm, sizeof(*out)->vm, "%s", l->vault->vm);
    (*out)->number = l->newest;
    return true;
}

bool job_log_newest(struct doclog *l, const char *id, struct job **out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    if (doclog_newest(l, &text, &why))
        return job_log_parse(l, buf_span(&text), out, err);
    if (why.kind == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "%s has no job %.40s: farshore jobs %s lists them",
                       l->vault->vm, id, l->vault->vm);
    if (err != NULL)
        *err = why;
    return false;
}

bool job_log_append(struct doclog *l, struct job *j, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!job_write(j, &text, err) || !doclog_append(l, buf_span(&text), err))
        return false;
    j->number = l->newest;
    return true;
}

/* --- asking --- */

static bool make_id(const struct doclog_vault *v, char out[JOB_ID_MAX], struct err *err)
{
    uint64_t ms = job_now_ms(v);
    time_t s = (time_t)(ms / 1000);
    struct tm t;
    uint8_t random[2];
    if (v->world->ops->random(v->world, random, sizeof random) < 0 || gmtime_r(&s, &t) == NULL)
        return err_set(err, ERR_IO, "no random numbers for the id of a job");
    snprintf(out, JOB_ID_MAX, "%04d%02d%02dt%02d%02d%02d%03uz-%02x%02x", t.tm_year + 1900,
             t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (unsigned)(ms % 1000),
             random[0], random[1]);
    return job_id_valid(out) || err_set(err, ERR_INVALID, "this host's clock is not right");
}

bool job_from_request(const struct doclog_vault *v, const struct job_request *r, struct job **out,
                      struct err *err)
{
    struct job *j AUTO_JOB = calloc(1, sizeof *j);
    if (j == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    j->args = r->args != NULL ? cJSON_Duplicate(r->args, true) : cJSON_CreateObject();
    if (j->args == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!host_name_valid(r->host))
        return err_set(err, ERR_INVALID, "%.80s is no host name", r->host);
    snprintf(j->vm, sizeof j->vm, "%s", v->vm);
    snprintf(j->verb, sizeof j->verb, "%s", r->verb);
    snprintf(j->host, sizeof j->host, "%s", r->host);
    snprintf(j->by, sizeof j->by, "%s", r->by);
    j->posted_ms = job_now_ms(v);
    if (r->claim_s != 0)
        j->expires_ms = j->posted_ms + (r->claim_s + JOB_EXPIRY_S) * 1000;
    *out = TAKE(j);
    return true;
}

bool job_put_first(struct doclog *l, const struct doclog_vault *v, struct job *j, struct err *err)
{
    struct err why = ERR_NONE;
    for (unsigned tries = 0; tries < ID_TRIES; tries++) {
        if (!make_id(v, j->id, err))
            return false;
        job_log_begin(l, v, j->id);
        if (job_log_append(l, j, &why))
            return true;
        if (why.kind != ERR_EXISTS)
            break;
    }
    if (err != NULL)
        *err = why;
    return err_wrap(err, "posting a job for %s", v->vm);
}

bool job_post(const struct doclog_vault *v, const struct job_request *r, char id[JOB_ID_MAX],
              struct err *err)
{
    struct job *j AUTO_JOB = NULL;
    struct doclog l;
    if (!job_from_request(v, r, &j, err) || !job_put_first(&l, v, j, err))
        return false;
    memcpy(id, j->id, JOB_ID_MAX);
    return true;
}

bool job_load(const struct doclog_vault *v, const char *id, struct job **out, struct err *err)
{
    struct doclog l;
    if (!job_id_valid(id))
        return err_set(err, ERR_INVALID, "%.40s is no job's id: farshore jobs lists them", id);
    job_log_begin(&l, v, id);
    return job_log_newest(&l, id, out, err);
}

bool job_withdraw(const struct doclog_vault *v, const char *id, struct err *err)
{
    struct job *j AUTO_JOB = NULL;
    struct err why = ERR_NONE;
    struct doclog l;

    job_log_begin(&l, v, id);
    if (!job_log_newest(&l, id, &j, err))
        return false;
    if (j->finished)
        return true;
    if (j->claimed)
        return err_set(err, ERR_BUSY, "job %s is run by %s", id, j->runner);
    j->finished = true;
    j->finished_ms = job_now_ms(v);
    err_set(&j->result, ERR_CANCELLED, "withdrawn: %s did not take it in time", j->host);
    if (job_log_append(&l, j, &why))
        return true;
    if (why.kind == ERR_EXISTS)
        return err_set(err, ERR_BUSY, "job %s was taken just now", id);
    if (err != NULL)
        *err = why;
    return false;
}

/* --- waiting --- */

struct waiter {
    const struct doclog_vault *v;
    const char *id;
    struct doclog log;
    struct job *job;
    uint64_t begun_ns, changed_ns; /* boot time */
    job_show_fn *show;
    void *context;
};

static void waiter_release(struct waiter *w)
{
    job_release(&w->job);
}

static uint64_t boot_ns(const struct waiter *w)
{
    return w->v->world->ops->boottime_ns(w->v->world);
}

static uint64_t seconds_since(const struct waiter *w, uint64_t ns)
{
    return (boot_ns(w) - ns) / 1000000000;
}

/* Reads what is new. A store that does not answer is asked again: the bounds of waiting hold. */
static bool look(struct waiter *w, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct job *fresh AUTO_JOB = NULL;
    struct err why = ERR_NONE;
    bool changed = false;
    if (!doclog_poll(&w->log, &text, &changed, &why)) {
        if (why.kind == ERR_TRANSIENT && w->job != NULL)
            return true;
        if (err != NULL)
            *err = why;
        return err_wrap(err, "waiting for job %s", w->id);
    }
    if (!changed && w->job != NULL)
        return true;
    if (!job_log_parse(&w->log, buf_span(&text), &fresh, err))
        return false;
    w->changed_ns = boot_ns(w);
    job_release(&w->job);
    w->job = TAKE(fresh);
    if (w->show != NULL)
        w->show(w->context, w->job);
    return true;
}

static bool unclaimed(struct waiter *w, uint64_t claim_s, struct err *err)
{
    struct err why = ERR_NONE;
    if (!job_withdraw(w->v, w->id, &why)) {
        if (why.kind == ERR_BUSY)
            return true; /* taken after all */
        return err_set(err, ERR_TRANSIENT,
                       "%s has not taken job %s in %llu s, and it could not be withdrawn: %s",
                       w->job->host, w->id, (unsigned long long)claim_s, why.text);
    }
    return err_set(err, ERR_TRANSIENT,
                   "%s has not taken the job in %llu s, so it was withdrawn and nothing was done: "
                   "does farshore host %s run there, and does it reach %s?",
                   w->job->host, (unsigned long long)claim_s, w->job->host, w->v->target->url);
}

/* False: no reason to wait any longer. */
static bool within_bounds(struct waiter *w, uint64_t claim_s, uint64_t timeout_s, struct err *err)
{
    if (!w->job->claimed && seconds_since(w, w->begun_ns) >= claim_s)
        return unclaimed(w, claim_s, err);
    if (timeout_s != 0 && seconds_since(w, w->begun_ns) >= timeout_s)
        return err_set(err, ERR_TRANSIENT,
                       "job %s has not ended in %llu s and goes on: farshore job %s --wait", w->id,
                       (unsigned long long)timeout_s, w->id);
    if (w->job->claimed && seconds_since(w, w->changed_ns) >= 2ull * JOB_LEASE_S)
        return err_set(err, ERR_TRANSIENT,
                       "%s has said nothing of job %s for %llu s: it goes on when farshore host %s "
                       "runs there again: farshore job %s shows it",
                       w->job->runner, w->id, 2ull * JOB_LEASE_S, w->job->host, w->id);
    return true;
}

bool job_wait(const struct doclog_vault *v, const char *id, uint64_t claim_s, uint64_t timeout_s,
              job_show_fn *show, void *context, struct job **out, struct err *err)
{
    struct waiter w CLEANUP(waiter_release) = {.v = v, .id = id, .show = show, .context = context};

    job_log_begin(&w.log, v, id);
    w.begun_ns = w.changed_ns = boot_ns(&w);
    for (;;) {
        if (!look(&w, err))
            return false;
        if (w.job->finished) {
            *out = TAKE(w.job);
            return true;
        }
        if (!within_bounds(&w, claim_s, timeout_s, err))
            return false;
        nanosleep(&(struct timespec){.tv_nsec = WAIT_PAUSE_MS * 1000000l}, NULL);
    }
}

/* --- which there are --- */

/* All ids that a list shows, in byte order. */
struct listed {
    size_t prefix;
    char (*ids)[JOB_ID_MAX];
    size_t count, room;
    bool failed;
};

static bool listed_grow(struct listed *s)
{
    size_t room = s->room ? 2 * s->room : 64;
    void *more = realloc(s->ids, room * sizeof *s->ids);
    if (more == NULL)
        return false;
    s->ids = more;
    s->room = room;
    return true;
}

static bool see(void *context, const char *key, uint64_t bytes)
{
    struct listed *s = context;
    char id[JOB_ID_MAX] = "";
    size_t length = strcspn(key + s->prefix, "/");
    (void)bytes;
    if (length >= sizeof id)
        return true;
    memcpy(id, key + s->prefix, length);
    if (!job_id_valid(id) || (s->count > 0 && strcmp(s->ids[s->count - 1], id) == 0))
        return true;
    if (s->count == s->room && !listed_grow(s)) {
        s->failed = true;
        return false;
    }
    memcpy(s->ids[s->count++], id, sizeof id);
    return true;
}

static void listed_release(struct listed *s)
{
    free(TAKE(s->ids));
}

static bool list(const struct doclog_vault *v, const char *after, struct listed *s, struct err *err)
{
    char prefix[KEY_MAX], from[KEY_MAX];
    s->prefix = (size_t)snprintf(prefix, sizeof prefix, "%s/jobs/", v->vm);
    snprintf(from, sizeof from, "%s%s", prefix, after != NULL ? after : "");
    if (!store_list(v->target, prefix, after != NULL ? from : NULL, see, s, err))
        return err_wrap(err, "listing the jobs of %s", v->vm);
    return !s->failed || err_set(err, ERR_FULL, "out of memory");
}

bool job_list(const struct doclog_vault *v, const char *after, size_t limit, struct job_ids *out,
              struct err *err)
{
    struct listed s CLEANUP(listed_release) = {.ids = NULL};
    if (!list(v, after, &s, err))
        return false;
    size_t count = s.count < limit ? s.count : limit;
    *out = (struct job_ids){.ids = calloc(count + 1, sizeof *out->ids), .count = count};
    if (out->ids == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < count; i++)
        memcpy(out->ids[i], s.ids[s.count - 1 - i], sizeof *out->ids);
    return true;
}

void job_ids_release(struct job_ids *l)
{
    free(TAKE(l->ids));
    l->count = 0;
}

/* Whether the job is finished, or was being removed by one that died. */
static bool may_go(struct doclog *l, const char *id, bool *out, struct err *err)
{
    struct job *j AUTO_JOB = NULL;
    struct err why = ERR_NONE;
    *out = job_log_newest(l, id, &j, &why) && j->finished;
    if (j != NULL)
        return true;
    if (!doclog_removing(l, out, err))
        return false;
    if (!*out && err != NULL)
        *err = why;
    return *out;
}

bool job_tidy(const struct doclog_vault *v, struct err *err)
{
    struct listed s CLEANUP(listed_release) = {.ids = NULL};
    unsigned removed = 0;
    if (!list(v, NULL, &s, err))
        return false;
    for (size_t i = 0; i + JOBS_KEEP < s.count && removed < TIDY_REMOVE_MAX; i++) {
        struct doclog l;
        bool goes;
        job_log_begin(&l, v, s.ids[i]);
        if (!may_go(&l, s.ids[i], &goes, err))
            return false;
        if (!goes)
            continue;
        if (!doclog_remove(&l, err))
            return err_wrap(err, "removing job %s of %s", s.ids[i], v->vm);
        removed++;
    }
    return true;
}
