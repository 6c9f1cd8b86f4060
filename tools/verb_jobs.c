/* SPDX-License-Identifier: MIT
 * jobs lists the jobs of a VM, or of all that are known here; job shows one, and waits for it. */
#include "common/log.h"
#include "common/rfc3339.h"
#include "tools/failover/dispatch.h"
#include "tools/failover/job_show.h"
#include "tools/output.h"

#include <stdlib.h>

#define LIMIT_DEFAULT 20u
#define LIMIT_MAX     1000u
#define TIMEOUT_MAX_S 604800u

static const struct option_spec jobs_options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    {"limit", "N", false, false, "The newest N, 20 unless told."},
    OPTIONS_END,
};

static const struct option_spec job_options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    {"wait", NULL, false, false, "Until it has ended; a job that failed fails this command."},
    {"timeout", "SECONDS", false, false, "With --wait: give up after this long."},
    OPTIONS_END,
};

static uint64_t now_ms(const struct verb_call *call)
{
    return call->world->ops->realtime_ns(call->world) / 1000000;
}

/* --- jobs --- */

struct found {
    struct job **jobs;
    size_t count;
};

static void found_release(struct found *f)
{
    for (size_t i = 0; i < f->count; i++)
        job_release(&f->jobs[i]);
    free(TAKE(f->jobs));
}

static bool open_vm(const struct verb_call *call, const char *name, struct vm *vm, struct err *err)
{
    return vm_load(call, name, vm, err) && vm_open_targets(vm, VM_GLANCES, err);
}

static bool collect(const struct verb_call *call, const char *name, size_t limit, struct found *f,
                    struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct job_ids ids AUTO_JOB_IDS = {.ids = NULL};
    if (!open_vm(call, name, &vm, err))
        return false;
    const struct doclog_vault vault = vm_vault(&vm);
    if (!job_list(&vault, NULL, limit, &ids, err))
        return false;
    struct job **more = realloc(f->jobs, (f->count + ids.count + 1) * sizeof(struct job *));
    if (more == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    f->jobs = more;
    for (size_t i = 0; i < ids.count; i++) {
        struct err why = ERR_NONE;
        if (job_load(&vault, ids.ids[i], &f->jobs[f->count], &why)) {
            f->count++;
            continue;
        }
        if (why.kind != ERR_NOT_FOUND) { /* removed just now */
            *err = why;
            return false;
        }
    }
    return true;
}

/* One VM that fails hides the jobs of no other. */
static bool collect_all(const struct verb_call *call, size_t limit, struct found *f,
                        struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    size_t failed = 0;
    if (!vm_names_list(call->paths, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        if (collect(call, names.names[i], limit, f, err))
            continue;
        if (++failed == names.count)
            return false;
        log_warning("%s", err->text);
    }
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct job *const *x = a, *const *y = b;
    return strcmp((*y)->id, (*x)->id);
}

static bool print_json(const struct found *f, uint64_t now, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array;
    if (!json_make(&j, err) || !json_add_array(j, "jobs", &array, err))
        return false;
    for (size_t i = 0; i < f->count; i++) {
        cJSON *row = NULL;
        if (!job_json(f->jobs[i], now, &row, err))
            return false;
        if (!cJSON_AddItemToArray(array, row)) {
            json_release(&row);
            return err_set(err, ERR_FULL, "out of memory");
        }
    }
    return json_print(j, err);
}

/* How long it took, or takes by now. */
static void duration(const struct job *j, uint64_t now, char out[OUTPUT_TEXT_MAX])
{
    uint64_t end = j->finished ? j->finished_ms : now;
    age_format(end > j->posted_ms ? (end - j->posted_ms) / 1000 : 0, out);
}

/* What is worth a line: why it failed, or where it is. */
static const char *remark(const struct job *j)
{
    if (j->finished)
        return j->result.kind == ERR_OK ? "" : j->result.text;
    return j->step_count > 0 ? j->steps[j->step_count - 1].name : "";
}

static bool print_table(const struct found *f, uint64_t now, struct err *err)
{
    static const char *const heads[] = {"JOB", "VM", "VERB", "HOST", "STATE", ">TOOK", "", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    if (f->count == 0) {
        puts("no jobs yet");
        return true;
    }
    for (size_t i = 0; i < f->count && good; i++) {
        const struct job *j = f->jobs[i];
        char took[OUTPUT_TEXT_MAX];
        duration(j, now, took);
        good = table_cell(t, "%s", j->id) && table_cell(t, "%s", j->vm) &&
               table_cell(t, "%s", j->verb) && table_cell(t, "%s", j->host) &&
               table_cell(t, "%s", job_state(j, now)) && table_cell(t, "%s", took) &&
               table_cell(t, "%s", remark(j));
    }
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    return true;
}

static bool run_jobs(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct found f CLEANUP(found_release) = {.jobs = NULL};
    uint64_t limit;
    if (!option_number(o, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX, &limit, err))
        return false;
    bool good = o->operand_count > 0 ? collect(call, o->operands[0], limit, &f, err)
                                     : collect_all(call, limit, &f, err);
    if (!good)
        return false;
    if (f.count > 0)
        qsort(f.jobs, f.count, sizeof *f.jobs, newest_first);
    while (f.count > limit)
        job_release(&f.jobs[--f.count]);
    return option_given(o, "json") ? print_json(&f, now_ms(call), err)
                                   : print_table(&f, now_ms(call), err);
}

const struct verb verb_jobs = {
    .name = "jobs",
    .summary = "List jobs, newest first",
    .operands = "[VM]",
    .operands_least = 0,
    .operands_most = 1,
    .options = jobs_options,
    .run = run_jobs,
};

/* --- job --- */

/* The VM that has it: `vm` is left open then. */
static bool find(const struct verb_call *call, const char *id, struct vm *vm, struct job **out,
                 struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    struct err first = ERR_NONE;
    if (!vm_names_list(call->paths, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        struct err why = ERR_NONE;
        if (open_vm(call, names.names[i], vm, &why)) {
            const struct doclog_vault vault = vm_vault(vm);
            if (job_load(&vault, id, out, &why))
                return true;
        }
        vm_release(vm);
        *vm = VM_NONE;
        if (first.kind == ERR_OK && why.kind != ERR_NOT_FOUND)
            first = why;
    }
    if (first.kind != ERR_OK) {
        *err = first;
        return false;
    }
    return err_set(err, ERR_NOT_FOUND, "no VM here has a job %.40s: farshore jobs lists them", id);
}

static void print_time(const char *what, uint64_t ms)
{
    char text[POINT_TIME_CHARS + 1];
    point_time_format(ms, text);
    printf("%s %s", what, text);
}

static void print_steps(const struct job *j, uint64_t now)
{
    for (size_t i = 0; i < j->step_count; i++) {
        const struct job_step *s = &j->steps[i];
        uint64_t end = i + 1u < j->step_count ? j->steps[i + 1].began_ms
                       : j->finished          ? j->finished_ms
                                              : now;
        uint64_t ms = end > s->began_ms ? end - s->began_ms : 0;
        printf("  %6llu.%llu s  %s%s%s", (unsigned long long)(ms / 1000),
               (unsigned long long)(ms / 100 % 10), s->name, s->text[0] ? ": " : "", s->text);
        if (s->total > 0)
            printf(" (%llu of %llu)", (unsigned long long)s->done, (unsigned long long)s->total);
        putchar('\n');
    }
}

static void print_values(const struct job *j)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, j->values)
    {
        char *text AUTO_FREE = cJSON_IsString(v) ? NULL : cJSON_PrintUnformatted(v);
        printf("  %s: %s\n", v->string, text ? text : cJSON_IsString(v) ? v->valuestring : "?");
    }
}

static void print_job(const struct job *j, uint64_t now)
{
    char took[OUTPUT_TEXT_MAX];
    const cJSON *arg;
    duration(j, now, took);
    printf("%s: %s of %s on host %s: %s, %s\n", j->id, j->verb, j->vm, j->host, job_state(j, now),
           took);
    print_time("asked", j->posted_ms);
    printf(" by %s\n", j->by);
    cJSON_ArrayForEach(arg, j->args)
        printf("  %s: %s\n", arg->string, cJSON_IsString(arg) ? arg->valuestring : "?");
    if (j->claimed) {
        print_time("taken", j->claimed_ms);
        printf(" by process %llu of %s", (unsigned long long)j->pid, j->runner);
        if (j->claims > 1)
            printf(", after %u that died", j->claims - 1);
        putchar('\n');
    }
    print_steps(j, now);
    if (j->finished && j->result.kind != ERR_OK)
        printf("%s: %s\n", err_kind_name(j->result.kind), j->result.text);
    print_values(j);
}

static bool wait_for_end(const struct verb_call *call, const struct vm *vm, struct job **j,
                         struct err *err)
{
    const struct doclog_vault vault = vm_vault(vm);
    struct job_shower shower = job_shower_begin(stderr);
    struct job *ended AUTO_JOB = NULL;
    uint64_t timeout_s;
    if (!option_number(call->options, "timeout", 0, 0, TIMEOUT_MAX_S, &timeout_s, err))
        return false;
    bool good =
        job_wait(&vault, (*j)->id, UINT64_MAX, timeout_s, job_shower_show, &shower, &ended, err);
    job_shower_end(&shower);
    if (!good)
        return false;
    job_release(j);
    *j = TAKE(ended);
    return true;
}

static bool run_job(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct vm vm AUTO_VM = VM_NONE;
    struct job *j AUTO_JOB = NULL;
    cJSON *json AUTO_JSON = NULL;
    bool waits = option_given(o, "wait");

    if (!job_id_valid(o->operands[0]))
        return err_set(err, ERR_INVALID, "%.40s is no job's id: farshore jobs lists them",
                       o->operands[0]);
    if (!find(call, o->operands[0], &vm, &j, err) || (waits && !wait_for_end(call, &vm, &j, err)))
        return false;
    if (option_given(o, "json")) {
        if (!job_json(j, now_ms(call), &json, err) || !json_print(json, err))
            return false;
    } else {
        print_job(j, now_ms(call));
    }
    if (!waits || j->result.kind == ERR_OK)
        return true;
    *err = j->result;
    return err_wrap(err, "job %s", j->id);
}

const struct verb verb_job = {
    .name = "job",
    .summary = "Show a job: its steps and what came of it",
    .operands = "ID",
    .operands_least = 1,
    .operands_most = 1,
    .options = job_options,
    .run = run_job,
};
