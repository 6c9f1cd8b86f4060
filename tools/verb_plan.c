/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "tools/failover/dispatch.h"
#include "tools/failover/plan_run.h"
#include "tools/nearest.h"
#include "tools/output.h"

#define DRILL_JOBS_MAX 64u /* of the newest, in which that of a drill is looked for */

static const struct option_spec options[] = {
    {"group", "VM,...", false, true, "create: VMs that go together, the next step of the plan."},
    {"script", "LINE", false, true, "create: a line for the shell, the next step."},
    {"pause", "TEXT", false, true, "create: a person decides, the next step."},
    {"file", "FILE", false, false, "create: the steps as JSON, as show --json prints them."},
    {"replace", NULL, false, false, "create: take the place of a plan of that name."},
    {"test", NULL, false, false, "run: a test failover of each VM."},
    {"planned", NULL, false, false, "run: a planned failover of each VM."},
    {"unplanned", NULL, false, false, "run: an unplanned failover of each VM."},
    {"cleanup", NULL, false, false, "run: end the drills, last group first."},
    {"commit", NULL, false, false, "run: commit each VM."},
    {"reprotect", NULL, false, false, "run: reprotect each VM."},
    {"point", "P", false, false, "run: the point to start from, as now-5m or a time."},
    {"resume", NULL, false, false, "run: go on with a run that failed or was cut off."},
    {"anew", NULL, false, false, "run: leave a run that has not ended, and begin another."},
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

/* --- create --- */

/* Options come in the order of the line: so do the steps. */
static bool add_steps(const struct options *o, struct plan *p, struct err *err)
{
    for (size_t i = 0; i < o->given_count; i++) {
        const char *name = o->given[i].spec->name, *value = o->given[i].value;
        bool good = strcmp(name, "group") == 0    ? plan_add_group(p, value, err)
                    : strcmp(name, "script") == 0 ? plan_add_script(p, value, PLAN_TIMEOUT_S, err)
                    : strcmp(name, "pause") == 0  ? plan_add_pause(p, value, err)
                                                  : true;
        if (!good)
            return false;
    }
    return true;
}

static bool read_file(const struct verb_call *call, const char *path, struct plan *p,
                      struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    return file_load(call->world, path, 1u << 20, &text, err) &&
           ((json_parse(buf_span(&text), &j, err) && plan_read(j, p, err)) ||
            err_wrap(err, "%s", path));
}

static bool all_known(const struct verb_call *call, const struct plan *p, struct err *err)
{
    for (size_t i = 0; i < p->step_count; i++)
        for (size_t k = 0; k < p->steps[i].vm_count; k++) {
            struct settings s AUTO_SETTINGS = {.disks = NULL};
            if (!settings_load(call->world, call->paths, p->steps[i].vms[k], &s, err))
                return err_wrap(err, "plan %s, step %zu", p->name, i + 1);
        }
    return true;
}

static bool create(const struct verb_call *call, const char *name, struct err *err)
{
    const char *file = option_value(call->options, "file", 0);
    struct plan *p AUTO_PLAN = NULL;
    if (!plan_make(name, &p, err) || (file != NULL && !read_file(call, file, p, err)) ||
        !add_steps(call->options, p, err) || !all_known(call, p, err) ||
        !plan_save(call->world, call->paths, p, option_given(call->options, "replace"), err))
        return false;
    printf("plan %s: %u steps; farshore plan run %s --test tries it\n", p->name, p->step_count,
           p->name);
    return true;
}

/* --- show, list, remove --- */

static void print_step(const struct plan_step *s, unsigned number)
{
    printf("%3u  ", number);
    if (s->kind == PLAN_SCRIPT)
        printf("script (at most %llu s): %s", (unsigned long long)s->timeout_s, s->text);
    else if (s->kind == PLAN_PAUSE)
        printf("pause: %s", s->text);
    else
        printf("group:");
    for (size_t i = 0; i < s->vm_count; i++)
        printf(" %s", s->vms[i]);
    putchar('\n');
}

static bool show(const struct verb_call *call, const char *name, struct err *err)
{
    struct plan *p AUTO_PLAN = NULL;
    cJSON *j AUTO_JSON = NULL;
    if (!plan_load(call->world, call->paths, name, &p, err))
        return false;
    if (option_given(call->options, "json"))
        return plan_json(p, &j, err) && json_print(j, err);
    printf("plan %s\n", p->name);
    for (unsigned i = 0; i < p->step_count; i++)
        print_step(&p->steps[i], i + 1);
    return true;
}

static bool list_json(const struct vm_names *names, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array, *row;
    if (!json_make(&j, err) || !json_add_array(j, "plans", &array, err))
        return false;
    for (size_t i = 0; i < names->count; i++)
        if (!json_append_object(array, &row, err) ||
            !json_add_text(row, "name", names->names[i], err))
            return false;
    return json_print(j, err);
}

static bool list(const struct verb_call *call, struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    if (!plan_names(call->paths, &names, err))
        return false;
    if (option_given(call->options, "json"))
        return list_json(&names, err);
    for (size_t i = 0; i < names.count; i++)
        puts(names.names[i]);
    if (names.count == 0)
        puts("no plans yet: farshore plan create NAME --group VM,VM ...");
    return true;
}

/* --- run, continue, report --- */

/* The newest job that makes a drill, posted since; NULL: there is none. */
static struct job *drill_job(const struct doclog_vault *vault, uint64_t since_ms)
{
    struct job_ids ids AUTO_JOB_IDS = {.count = 0};
    struct err unused = ERR_NONE;
    if (!job_list(vault, NULL, DRILL_JOBS_MAX, &ids, &unused))
        return NULL;
    for (size_t i = 0; i < ids.count; i++) {
        struct job *j AUTO_JOB = NULL;
        if (!job_load(vault, ids.ids[i], &j, &unused))
            continue;
        if (j->posted_ms < since_ms)
            break; /* and so are those behind it */
        if (strcmp(j->verb, "test-failover") == 0)
            return TAKE(j);
    }
    return NULL;
}

/* Not finished, and somebody is at work on it, or may take it. */
static bool goes_on(const struct verb_call *call, const struct job *j)
{
    const char *state = job_state(j, call->world->ops->realtime_ns(call->world) / 1000000);
    return strcmp(state, "waiting") == 0 ||
           (strcmp(state, "running") == 0 && !job_claimable(j, false));
}

/* Its job says so: the document has a drill from its beginning. One that another host is at work on
 * is waited for. */
static bool drill_done(const struct verb_call *call, const struct doclog_vault *vault,
                       uint64_t since_ms)
{
    struct job *j AUTO_JOB = drill_job(vault, since_ms);
    struct err unused = ERR_NONE;
    while (j != NULL && goes_on(call, j)) {
        struct job *now = NULL;
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
        if (!job_load(vault, j->id, &now, &unused))
            return false;
        job_release(&j);
        j = now;
    }
    return j != NULL && j->finished && j->result.kind == ERR_OK;
}

/* Whether a VM's vault shows that a verb whose process was lost from sight came to its end. Not so,
 * or the vault does not answer: the verb is given again, which refuses or resumes by itself. */
static bool reached(void *context, const char *name, enum plan_mode mode, uint64_t since_ms)
{
    const struct verb_call *call = context;
    struct vm vm AUTO_VM = VM_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    struct err unused = ERR_NONE;
    if (!vm_load(call, name, &vm, &unused) || !vm_open_targets(&vm, VM_LOOKS, &unused))
        return false;
    const struct doclog_vault vault = vm_vault(&vm);
    if (!protection_load(&vault, &p, &unused))
        return false;
    bool over = p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK;
    switch (mode) {
    case PLAN_PLANNED:
    case PLAN_UNPLANNED:
        return over && p->failover.started_ms >= since_ms;
    case PLAN_TEST:
        return drill_done(call, &vault, since_ms);
    case PLAN_CLEANUP:
        return p->test_count == 0;
    case PLAN_COMMIT:
        return p->state == PROTECTION_COMMITTED;
    default:
        return false; /* a reprotect goes on where it was */
    }
}

static void say(void *context, const struct plan_run *r, const struct plan_row *row)
{
    (void)context;
    if (row == NULL)
        return;
    const struct plan_step *s = &r->plan->steps[row->step];
    fprintf(stderr, "step %u: %s: %s%s%s\n", row->step + 1u,
            row->vm[0]               ? row->vm
            : s->kind == PLAN_SCRIPT ? "script"
                                     : "pause",
            plan_state_name(row->state), row->text[0] ? ": " : "", row->text);
}

static void seconds(uint64_t from_ms, uint64_t to_ms, char out[OUTPUT_TEXT_MAX])
{
    uint64_t ms = to_ms > from_ms ? to_ms - from_ms : 0;
    snprintf(out, OUTPUT_TEXT_MAX, "%llu.%llu s", (unsigned long long)(ms / 1000),
             (unsigned long long)(ms / 100 % 10));
}

static const char *what_of(const struct plan_run *r, const struct plan_row *row)
{
    return row->vm[0] ? row->vm : r->plan->steps[row->step].text;
}

static bool print_rows(const struct plan_run *r, uint64_t now, struct err *err)
{
    static const char *const heads[] = {">STEP", "WHAT", "STATE", ">TOOK", ">TRIES", "", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    for (size_t i = 0; i < r->row_count && good; i++) {
        const struct plan_row *row = &r->rows[i];
        char took[OUTPUT_TEXT_MAX] = "-";
        if (row->began_ms != 0)
            seconds(row->began_ms, row->ended_ms != 0 ? row->ended_ms : now, took);
        good = table_cell(t, "%u", row->step + 1u) && table_cell(t, "%.60s", what_of(r, row)) &&
               table_cell(t, "%s", plan_state_name(row->state)) && table_cell(t, "%s", took) &&
               table_cell(t, "%u", row->attempts) && table_cell(t, "%s", row->text);
    }
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    return true;
}

static bool print_report(const struct verb_call *call, const struct plan_run *r, struct err *err)
{
    char id[POINT_TIME_CHARS + 1], took[OUTPUT_TEXT_MAX], rto[OUTPUT_TEXT_MAX];
    uint64_t now = call->world->ops->realtime_ns(call->world) / 1000000;
    uint64_t end = r->ended_ms != 0 ? r->ended_ms : now;
    cJSON *j AUTO_JSON = NULL;
    if (option_given(call->options, "json"))
        return plan_run_json(r, now, &j, err) && json_print(j, err);
    point_time_format(r->began_ms, id);
    seconds(r->began_ms, end, took);
    seconds(r->began_ms + r->paused_ms, end, rto);
    printf("plan %s, %s, begun %s: %s\n", r->plan->name, plan_mode_name(r->mode), id,
           plan_state_name(r->state));
    if (!print_rows(r, now, err))
        return false;
    printf("took %s, %s without pauses (measured RTO)\n", took, rto);
    for (size_t i = 0; i < r->row_count; i++)
        if (r->rows[i].state == PLAN_PAUSED)
            printf("paused: %s\nfarshore plan continue %s goes on\n", what_of(r, &r->rows[i]),
                   r->plan->name);
    return true;
}

static struct plan_runner runner_of(const struct verb_call *call)
{
    return (struct plan_runner){.world = call->world,
                                .paths = call->paths,
                                .reached = reached,
                                .show = say,
                                .context = (void *)call};
}

static bool go(const struct verb_call *call, const char *name, bool answered, struct err *err)
{
    const struct plan_runner x = runner_of(call);
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    struct err why = ERR_NONE;
    bool good = plan_run_go(&x, name, answered, &r, err);
    if (r != NULL && !print_report(call, r, &why) && good) {
        *err = why;
        return false;
    }
    return good;
}

static bool mode_given(const struct options *o, enum plan_mode *mode, struct err *err)
{
    unsigned given = 0;
    for (int m = 0; m < PLAN_MODES; m++)
        if (option_given(o, plan_mode_name((enum plan_mode)m))) {
            *mode = (enum plan_mode)m;
            given++;
        }
    return given == 1 ||
           err_set(err, ERR_INVALID,
                   "plan run: one of --test, --planned, --unplanned, --cleanup, --commit, "
                   "--reprotect, or --resume");
}

static bool run_plan(const struct verb_call *call, const char *name, struct err *err)
{
    const struct options *o = call->options;
    const char *point = option_value(o, "point", 0);
    const struct plan_runner x = runner_of(call);
    struct plan *p AUTO_PLAN = NULL;
    enum plan_mode mode = PLAN_TEST;
    if (option_given(o, "resume"))
        return go(call, name, false, err);
    if (!mode_given(o, &mode, err))
        return false;
    if (point != NULL && mode != PLAN_TEST && mode != PLAN_UNPLANNED)
        return err_set(err, ERR_INVALID, "--point goes with --test and --unplanned");
    if (point != NULL && strlen(point) >= sizeof((struct plan_run *)NULL)->point)
        return err_set(err, ERR_INVALID, "--point %.80s is no point", point);
    return plan_load(call->world, call->paths, name, &p, err) && all_known(call, p, err) &&
           plan_run_begin(&x, &p, mode, point, option_given(o, "anew"), err) &&
           go(call, name, false, err);
}

static bool report(const struct verb_call *call, const char *name, struct err *err)
{
    const struct plan_runner x = runner_of(call);
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    return plan_run_load(&x, name, &r, err) && print_report(call, r, err);
}

/* --- the verb --- */

static bool run(const struct verb_call *call, struct err *err)
{
    static const char *const actions[] = {"create", "show",     "list",   "remove",
                                          "run",    "continue", "report", NULL};
    const struct options *o = call->options;
    const char *action = o->operands[0], *name = o->operands[1];
    if (strcmp(action, "list") == 0 && o->operand_count == 1)
        return list(call, err);
    for (size_t i = 0; actions[i] != NULL; i++)
        if (strcmp(action, actions[i]) == 0 && o->operand_count != 2)
            return err_set(err, ERR_INVALID, "plan %s: farshore plan %s%s", action, action,
                           strcmp(action, "list") == 0 ? "" : " NAME");
    if (strcmp(action, "create") == 0)
        return create(call, name, err);
    if (strcmp(action, "show") == 0)
        return show(call, name, err);
    if (strcmp(action, "remove") == 0)
        return plan_remove(call->world, call->paths, name, err);
    if (strcmp(action, "run") == 0)
        return run_plan(call, name, err);
    if (strcmp(action, "continue") == 0)
        return go(call, name, true, err);
    if (strcmp(action, "report") == 0)
        return report(call, name, err);
    const char *nearest = word_nearest(action, actions);
    return err_set(err, ERR_INVALID, "plan %.40s: did you mean %s?", action,
                   nearest ? nearest : "create, show, list, remove, run, continue or report");
}

const struct verb verb_plan = {
    .name = "plan",
    .summary = "Fail over many VMs in order: groups, scripts and pauses",
    .operands = "ACTION [NAME]",
    .operands_least = 1,
    .operands_most = 2,
    .options = options,
    .run = run,
};
