/* SPDX-License-Identifier: MIT */
#include "tools/failover/ask.h"

#include "tools/failover/availability.h"
#include "tools/output.h"

#define TIMEOUT_MAX_S 604800u

/* Verbs have different options. */
static bool has_option(const struct verb_call *call, const char *option)
{
    for (const struct option_spec *o = call->options->specs; o->name; o++)
        if (strcmp(o->name, option) == 0)
            return true;
    return false;
}

static const char *value_of(const struct verb_call *call, const char *option)
{
    return has_option(call, option) ? option_value(call->options, option, 0) : NULL;
}

static bool unknown_host(const char *vm, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID, "it is not known %s %s: name it with --host", what, vm);
}

/* Of the hosts that are set, one that keeps an availability set apart. A planned move has the time
 * to be refused; an emergency is told, and goes on. */
static bool choose_set(const struct verb_call *call, const struct vm *vm,
                       const struct protection *p, const char *given, char *out, size_t size,
                       struct err *err)
{
    struct placement chosen;
    bool planned = has_option(call, "planned") && option_given(call->options, "planned");
    if (!availability_choose(call, vm->settings.name, p, given, planned, &chosen, err))
        return false;
    if (chosen.warning[0] != '\0')
        fprintf(stderr, "farshore: %s\n", chosen.warning);
    snprintf(out, size, "%s", chosen.host);
    return true;
}

static bool is_failover(const struct protection *p)
{
    return (p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK) &&
           p->failover.host[0] != '\0';
}

static bool choose_target(const struct verb_call *call, const struct vm *vm,
                          const struct protection *p, const char *here, char *out, size_t size,
                          struct err *err)
{
    const char *given = value_of(call, "host");
    if (given && !host_name_valid(given))
        return err_set(err, ERR_INVALID, "--host %.80s is no host name", given);
    bool back = strcmp(p->source_host, p->home_host) != 0 && p->home_host[0] != '\0';
    if (given == NULL && is_failover(p)) /* it goes on there, or is done */
        snprintf(out, size, "%s", p->failover.host);
    else if (given == NULL && vm->settings.role == ROLE_TARGET && p->target_host[0] == '\0' &&
             target_setting(&p->settings, "hosts") == NULL)
        snprintf(out, size, "%s", here);
    else if (given == NULL && back)
        snprintf(out, size, "%s", p->home_host);
    else if (!choose_set(call, vm, p, given, out, size, err))
        return false;
    if (out[0] == '\0')
        snprintf(out, size, "%s", p->target_host);
    return out[0] != '\0' || unknown_host(vm->settings.name, "which host takes over", err);
}

static bool choose_drill(const struct verb_call *call, const struct vm *vm,
                         const struct protection *p, char *out, size_t size, struct err *err)
{
    const char *test = value_of(call, "test");
    for (uint16_t i = 0; i < p->test_count; i++)
        if (test == NULL || strcmp(p->tests[i].id, test) == 0) {
            snprintf(out, size, "%s", p->tests[i].host);
            return true;
        }
    return err_set(err, ERR_NOT_FOUND, "%s has no drill%s%s: farshore status %s", vm->settings.name,
                   test ? " " : "", test ? test : "", vm->settings.name);
}

bool ask_host(const struct verb_call *call, const struct vm *vm, const struct protection *p,
              enum ask_where where, char *out, size_t size, struct err *err)
{
    struct host_config me;
    if (!host_config_load(call->world, call->paths, &me, err))
        return false;
    switch (where) {
    case ASK_HERE:
        snprintf(out, size, "%s", me.name);
        return true;
    case ASK_TARGET:
        return choose_target(call, vm, p, me.name, out, size, err);
    case ASK_DRILL:
        return choose_drill(call, vm, p, out, size, err);
    case ASK_FAILOVER:
        snprintf(out, size, "%s", is_failover(p) ? p->failover.host : me.name);
        return true;
    case ASK_RUNNING:
        break;
    }
    snprintf(out, size, "%s", p->source_host);
    return out[0] != '\0' || unknown_host(vm->settings.name, "on which host runs", err);
}

static bool make_args(const struct verb_call *call, const struct ask *ask, cJSON **out,
                      struct err *err)
{
    const struct options *o = call->options;
    if (!json_make(out, err))
        return false;
    for (const char *const *name = ask->arguments; name && *name; name++) {
        const char *value = option_value(o, *name, 0);
        if (option_given(o, *name) && !json_add_text(*out, *name, value ? value : "yes", err))
            return false;
    }
    return ask->operand == NULL || o->operand_count < 2 ||
           json_add_text(*out, ask->operand, o->operands[1], err);
}

/* "lost_seconds" is read as "lost seconds"; what says nothing is left out. */
static void print_value(const cJSON *v)
{
    char name[OUTPUT_TEXT_MAX];
    snprintf(name, sizeof name, "%s", v->string);
    for (char *at = name; *at; at++)
        if (*at == '_')
            *at = ' ';
    if (cJSON_IsString(v) && v->valuestring[0] != '\0')
        printf("  %-14s %s\n", name, v->valuestring);
    else if (cJSON_IsBool(v))
        printf("  %-14s %s\n", name, cJSON_IsTrue(v) ? "yes" : "no");
    else if (cJSON_IsNumber(v))
        printf("  %-14s %.0f\n", name, v->valuedouble);
}

static bool print_result(const struct verb_call *call, const struct ask *ask, const struct job *job,
                         struct err *err)
{
    const cJSON *v;
    cJSON *j AUTO_JSON = NULL;
    if (!option_given(call->options, "json")) {
        printf("%s: %s (job %s)\n", job->vm, ask->done, job->id);
        cJSON_ArrayForEach(v, job->values) print_value(v);
        return true;
    }
    j = job->values ? cJSON_Duplicate(job->values, true) : cJSON_CreateObject();
    return (j != NULL || err_set(err, ERR_FULL, "out of memory")) &&
           json_add_text(j, "vm", job->vm, err) && json_add_text(j, "job", job->id, err) &&
           json_print(j, err);
}

bool ask_open(const struct verb_call *call, struct vm *vm, struct protection **p, struct err *err)
{
    if (!vm_load(call, call->options->operands[0], vm, err) || !vm_open_targets(vm, VM_LOOKS, err))
        return false;
    const struct doclog_vault vault = vm_vault(vm);
    if (!protection_load(&vault, p, err))
        return false;
    return (*p)->successor.target[0] == '\0' || (*p)->state == PROTECTION_REPROTECTING ||
           err_set(err, ERR_INVALID, "%s is replicated by way of %s now: farshore join that",
                   vm->settings.name, (*p)->successor.target);
}

bool ask_run(const struct verb_call *call, const struct ask *ask, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    struct job *done AUTO_JOB = NULL;
    cJSON *args AUTO_JSON = NULL;
    char host[HOST_NAME_CHARS_MAX + 1] = "";
    struct dispatch d = {.verb = ask->verb, .host = host};

    if (!option_number(call->options, "timeout", 0, 1, TIMEOUT_MAX_S, &d.timeout_s, err) ||
        !ask_open(call, &vm, &p, err))
        return false;
    if (!ask_host(call, &vm, p, ask->where, host, sizeof host, err) ||
        !make_args(call, ask, &args, err))
        return false;
    d.args = args;
    return dispatch(call, &vm, &d, &done, err) && print_result(call, ask, done, err);
}
