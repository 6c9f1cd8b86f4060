/* SPDX-License-Identifier: MIT */
#include "backend/history/policy.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

static bool application_parse(const char *text, uint64_t *out, struct err *err)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > RETENTION_APPLICATION_MAX)
        return err_set(err, ERR_INVALID, "application is a number from 0 to %u, not '%.32s'",
                       RETENTION_APPLICATION_MAX, text);
    *out = value;
    return true;
}

/* One KEY=VALUE. */
static bool change(const char *word, struct retention *r, struct err *err)
{
    static const char keep[] = "keep=", application[] = "application=", grace[] = "grace=";
    if (strncmp(word, keep, sizeof keep - 1) == 0)
        return retention_parse_keep(word + sizeof keep - 1, r, err);
    if (strncmp(word, application, sizeof application - 1) == 0)
        return application_parse(word + sizeof application - 1, &r->application, err);
    if (strncmp(word, grace, sizeof grace - 1) == 0)
        return retention_parse_span(word + sizeof grace - 1, &r->grace_ms, err);
    return err_set(err, ERR_INVALID,
                   "'%.64s' is nothing of a policy: keep=, application= or grace=", word);
}

static bool changes(const struct verb_call *call, struct retention *r, struct err *err)
{
    for (size_t i = 1; i < call->options->operand_count; i++)
        if (!change(call->options->operands[i], r, err))
            return false;
    return true;
}

static bool print_policy(const struct retention *r, bool as_json, struct err *err)
{
    char keep[RETENTION_TEXT_MAX], grace[24];
    cJSON *j AUTO_JSON = NULL;
    retention_format_keep(r, keep);
    retention_format_span(r->grace_ms, grace);
    if (as_json)
        return json_make(&j, err) && json_add_text(j, "keep", keep, err) &&
               json_add_u64(j, "application", r->application, err) &&
               json_add_text(j, "grace", grace, err) && json_print(j, err);
    printf("keep=%s\napplication=%llu\ngrace=%s\n", keep, (unsigned long long)r->application,
           grace);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct retention r = retention_default();
    struct doclog log;
    bool sets = call->options->operand_count > 1;
    if (!changes(call, &r, err) || /* before a store is asked */
        !vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, sets ? VM_PROCESSES : VM_LOOKS, err) || !vm_open_history(&vm, err))
        return false;
    const struct vault *vault = history_vault(vm.history);
    struct doclog_vault where = {.world = call->world,
                                 .target = vm.targets[0],
                                 .keys = vm.keys,
                                 .vm = vault->name,
                                 .id = vault->vm};
    policy_log_begin(&log, &where);
    return policy_poll(&log, &r, err) && changes(call, &r, err) &&
           (!sets || policy_put(&log, &r, err)) &&
           print_policy(&r, option_given(call->options, "json"), err);
}

const struct verb verb_policy = {
    .name = "policy",
    .summary = "Show or set which recovery points are kept",
    .operands = "VM [KEY=VALUE ...]",
    .operands_least = 1,
    .operands_most = OPERANDS_MAX,
    .options = options,
    .run = run,
};
