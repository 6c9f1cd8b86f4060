/* SPDX-License-Identifier: MIT */
#include "tools/failover/job.h"

#include <stdio.h>
#include <stdlib.h>

#define ID_SHAPE "00000000t000000000z-xxxx"

bool job_id_valid(const char *id)
{
    static const char shape[] = ID_SHAPE;
    if (strlen(id) != sizeof shape - 1)
        return false;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        bool digit = id[i] >= '0' && id[i] <= '9';
        bool hex = digit || (id[i] >= 'a' && id[i] <= 'f');
        if (shape[i] == '0' ? !digit : shape[i] == 'x' ? !hex : id[i] != shape[i])
            return false;
    }
    return true;
}

void job_release(struct job **j)
{
    if (*j == NULL)
        return;
    json_release(&(*j)->args);
    json_release(&(*j)->values);
    free(TAKE(*j));
}

const char *job_arg(const struct job *j, const char *name)
{
    const cJSON *arg = cJSON_GetObjectItemCaseSensitive(j->args, name);
    return cJSON_IsString(arg) ? arg->valuestring : NULL;
}

const char *job_state(const struct job *j, uint64_t now_ms)
{
    if (j->finished)
        return j->result.kind == ERR_OK          ? "done"
               : j->result.kind == ERR_CANCELLED ? "cancelled"
                                                 : "failed";
    if (!j->claimed)
        return j->expires_ms != 0 && now_ms > j->expires_ms ? "expired" : "waiting";
    return now_ms > j->alive_ms + JOB_LEASE_S * 1000ull ? "lost" : "running";
}

/* --- reading --- */

static bool text_of(const cJSON *j, const char *name, char *out, size_t size, struct err *err)
{
    return json_copy(j, name, out, size, err) &&
           (label_valid(out) ||
            err_set(err, ERR_INVALID, "member \"%s\" has control characters", name));
}

static bool read_request(const cJSON *j, struct job *job, struct err *err)
{
    const cJSON *args, *arg;
    if (!text_of(j, "id", job->id, sizeof job->id, err) ||
        !text_of(j, "verb", job->verb, sizeof job->verb, err) ||
        !text_of(j, "host", job->host, sizeof job->host, err) ||
        !text_of(j, "by", job->by, sizeof job->by, err) ||
        !json_u64(j, "posted_ms", &job->posted_ms, err) ||
        !json_u64(j, "expires_ms", &job->expires_ms, err) || !json_object(j, "args", &args, err))
        return false;
    if (!job_id_valid(job->id) || !host_name_valid(job->host))
        return err_set(err, ERR_INVALID, "\"id\" or \"host\" is none");
    if (cJSON_GetArraySize(args) > (int)JOB_ARGS_MAX)
        return err_set(err, ERR_INVALID, "\"args\" has more than %u", JOB_ARGS_MAX);
    cJSON_ArrayForEach(arg, args)
    {
        const char *text;
        if (!json_text(args, arg->string, &text, err)) /* texts, and none of them twice */
            return false;
    }
    job->args = cJSON_Duplicate(args, true);
    return job->args != NULL || err_set(err, ERR_FULL, "out of memory");
}

static bool read_claim(const cJSON *parent, struct job *job, struct err *err)
{
    static const char *const known[] = {"runner",     "machine",  "pid",    "pid_start",
                                        "claimed_ms", "alive_ms", "claims", NULL};
    const cJSON *j;
    uint64_t claims;
    if (!json_has(parent, "claim"))
        return true;
    job->claimed = true;
    if (!json_object(parent, "claim", &j, err) || !json_only(j, known, err) ||
        !text_of(j, "runner", job->runner, sizeof job->runner, err) ||
        !text_of(j, "machine", job->machine, sizeof job->machine, err) ||
        !json_u64(j, "pid", &job->pid, err) || !json_u64(j, "pid_start", &job->pid_start, err) ||
        !json_u64(j, "claimed_ms", &job->claimed_ms, err) ||
        !json_u64(j, "alive_ms", &job->alive_ms, err) || !json_u64(j, "claims", &claims, err))
        return false;
    job->claims = (uint32_t)claims;
    return (claims > 0 && claims <= UINT32_MAX) ||
           err_set(err, ERR_INVALID, "\"claims\" is no count");
}

static bool read_steps(const cJSON *parent, struct job *job, struct err *err)
{
    static const char *const known[] = {"name",     "text",       "done", "total",
                                        "began_ms", "changed_ms", NULL};
    const cJSON *array, *j;
    if (!json_array(parent, "steps", &array, err))
        return false;
    cJSON_ArrayForEach(j, array)
    {
        if (job->step_count == JOB_STEPS_MAX)
            return err_set(err, ERR_INVALID, "\"steps\" has more than %u", JOB_STEPS_MAX);
        struct job_step *s = &job->steps[job->step_count++];
        if (!json_only(j, known, err) || !text_of(j, "name", s->name, sizeof s->name, err) ||
            !text_of(j, "text", s->text, sizeof s->text, err) ||
            !json_u64(j, "done", &s->done, err) || !json_u64(j, "total", &s->total, err) ||
            !json_u64(j, "began_ms", &s->began_ms, err) ||
            !json_u64(j, "changed_ms", &s->changed_ms, err))
            return false;
    }
    return true;
}

static bool kind_parse(const char *name, enum err_kind *out)
{
    for (*out = ERR_NOT_FOUND; *out < ERR_KINDS; (*out)++)
        if (strcmp(name, err_kind_name(*out)) == 0)
            return true;
    return false;
}

static bool read_result(const cJSON *parent, struct job *job, struct err *err)
{
    static const char *const known[] = {"ok", "error", "text", "values", "finished_ms", NULL};
    const cJSON *j, *values;
    const char *kind;
    bool ok;
    if (!json_has(parent, "result"))
        return true;
    job->finished = true;
    if (!json_object(parent, "result", &j, err) || !json_only(j, known, err) ||
        !json_bool(j, "ok", &ok, err) || !json_u64(j, "finished_ms", &job->finished_ms, err))
        return false;
    if (json_has(j, "values")) {
        if (!json_object(j, "values", &values, err))
            return false;
        job->values = cJSON_Duplicate(values, true);
        if (job->values == NULL)
            return err_set(err, ERR_FULL, "out of memory");
    }
    if (ok)
        return true;
    if (!json_text(j, "error", &kind, err) ||
        !text_of(j, "text", job->result.text, sizeof job->result.text, err))
        return false;
    return kind_parse(kind, &job->result.kind) ||
           err_set(err, ERR_INVALID, "\"error\" is no kind of error");
}

bool job_parse(struct span text, struct job **out, struct err *err)
{
    static const char *const known[] = {"version", "id",        "verb",       "host",
                                        "by",      "posted_ms", "expires_ms", "args",
                                        "claim",   "steps",     "result",     NULL};
    cJSON *j AUTO_JSON = NULL;
    struct job *job AUTO_JOB = calloc(1, sizeof *job);
    uint64_t version;
    if (job == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!json_parse(text, &j, err) || !json_u64(j, "version", &version, err))
        return false;
    if (version != 1)
        return err_set(err, ERR_INVALID, "a job of version %llu: update this farshore",
                       (unsigned long long)version);
    if (!json_only(j, known, err) || !read_request(j, job, err) || !read_claim(j, job, err) ||
        !read_steps(j, job, err) || !read_result(j, job, err))
        return false;
    *out = TAKE(job);
    return true;
}

/* --- writing --- */

/* A copy of `from` (NULL: an empty object) as a member. */
static bool add_copy(cJSON *object, const char *name, const cJSON *from, struct err *err)
{
    cJSON *copy AUTO_JSON = from != NULL ? cJSON_Duplicate(from, true) : cJSON_CreateObject();
    if (copy == NULL || !cJSON_AddItemToObject(object, name, copy))
        return err_set(err, ERR_FULL, "out of memory");
    (void)TAKE(copy);
    return true;
}

static bool add_claim(cJSON *parent, const struct job *job, struct err *err)
{
    cJSON *j;
    return !job->claimed || (json_add_object(parent, "claim", &j, err) &&
                             json_add_text(j, "runner", job->runner, err) &&
                             json_add_text(j, "machine", job->machine, err) &&
                             json_add_u64(j, "pid", job->pid, err) &&
                             json_add_u64(j, "pid_start", job->pid_start, err) &&
                             json_add_u64(j, "claimed_ms", job->claimed_ms, err) &&
                             json_add_u64(j, "alive_ms", job->alive_ms, err) &&
                             json_add_u64(j, "claims", job->claims, err));
}

static bool add_steps(cJSON *parent, const struct job *job, struct err *err)
{
    cJSON *array, *j;
    if (!json_add_array(parent, "steps", &array, err))
        return false;
    for (size_t i = 0; i < job->step_count; i++) {
        const struct job_step *s = &job->steps[i];
        if (!json_append_object(array, &j, err) || !json_add_text(j, "name", s->name, err) ||
            !json_add_text(j, "text", s->text, err) || !json_add_u64(j, "done", s->done, err) ||
            !json_add_u64(j, "total", s->total, err) ||
            !json_add_u64(j, "began_ms", s->began_ms, err) ||
            !json_add_u64(j, "changed_ms", s->changed_ms, err))
            return false;
    }
    return true;
}

static bool add_result(cJSON *parent, const struct job *job, struct err *err)
{
    cJSON *j;
    if (!job->finished)
        return true;
    if (!json_add_object(parent, "result", &j, err) ||
        !json_add_bool(j, "ok", job->result.kind == ERR_OK, err) ||
        !json_add_u64(j, "finished_ms", job->finished_ms, err) ||
        (job->values != NULL && !add_copy(j, "values", job->values, err)))
        return false;
    return job->result.kind == ERR_OK ||
           (json_add_text(j, "error", err_kind_name(job->result.kind), err) &&
            json_add_text(j, "text", job->result.text, err));
}

static bool add_all(cJSON *j, const struct job *job, struct err *err)
{
    return json_add_text(j, "id", job->id, err) && json_add_text(j, "verb", job->verb, err) &&
           json_add_text(j, "host", job->host, err) && json_add_text(j, "by", job->by, err) &&
           json_add_u64(j, "posted_ms", job->posted_ms, err) &&
           json_add_u64(j, "expires_ms", job->expires_ms, err) &&
           add_copy(j, "args", job->args, err) && add_claim(j, job, err) &&
           add_steps(j, job, err) && add_result(j, job, err);
}

bool job_write(const struct job *job, struct buf *out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    return json_make(&j, err) && json_add_u64(j, "version", 1, err) && add_all(j, job, err) &&
           json_write(j, false, out, err);
}

bool job_json(const struct job *job, uint64_t now_ms, cJSON **out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    if (!json_make(&j, err) || !json_add_text(j, "vm", job->vm, err) ||
        !json_add_text(j, "state", job_state(job, now_ms), err) || !add_all(j, job, err))
        return false;
    *out = TAKE(j);
    return true;
}
