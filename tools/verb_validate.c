/* SPDX-License-Identifier: MIT
 * validate: what a failover would run into. The target host looks at itself; here is asked whether
 * both hosts answer. */
#include "tools/failover/ask.h"
#include "tools/failover/findings.h"
#include "tools/output.h"

#define CLAIM_S   15u
#define TIMEOUT_S 120u

static const struct option_spec options[] = {
    {"host", "NAME", false, false, "The target host; else the one that is set, or this one."},
    {"json", NULL, false, false, "For scripts: one JSON object with the findings."},
    OPTIONS_END,
};

/* Needed for a planned failover, and told of a cancelled or a reprotected one. */
static void ask_source(const struct verb_call *call, struct vm *vm, const struct protection *p,
                       struct findings *out)
{
    const struct dispatch d = {.verb = "ping",
                               .host = p->source_host,
                               .claim_s = CLAIM_S,
                               .timeout_s = TIMEOUT_S,
                               .quiet = true};
    struct err err = ERR_NONE;
    if (p->source_host[0] == '\0')
        finding_add(out, false,
                    "it is not known where %s runs: farshore host NAME there, and "
                    "failover without --planned until then",
                    vm->settings.name);
    else if (!dispatch(call, vm, &d, NULL, &err))
        finding_add(out, false,
                    "host %s, where it runs, does not answer: a planned failover needs "
                    "farshore host there (%s)",
                    p->source_host, err.text);
}

static bool ask_target(const struct verb_call *call, struct vm *vm, const char *host,
                       struct findings *out, struct err *err)
{
    const struct dispatch d = {.verb = "validate",
                               .host = host,
                               .claim_s = CLAIM_S,
                               .timeout_s = TIMEOUT_S,
                               .quiet = true};
    struct job *done AUTO_JOB = NULL;
    struct err why = ERR_NONE;
    if (dispatch(call, vm, &d, &done, &why))
        return findings_read(done->values, "findings", out, err);
    finding_add(out, true, "%s", why.text);
    return true;
}

static bool print_json(const struct vm *vm, const char *host, const struct findings *found,
                       struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    return json_make(&j, err) && json_add_text(j, "vm", vm->settings.name, err) &&
           json_add_text(j, "host", host, err) &&
           json_add_u64(j, "errors", findings_errors(found), err) &&
           findings_write(j, "findings", found, err) && json_print(j, err);
}

static void print_findings(const struct vm *vm, const char *host, const struct findings *found)
{
    for (size_t i = 0; i < found->count; i++)
        printf("%s %s\n", found->rows[i].error ? "ERROR  " : "warning", found->rows[i].text);
    if (findings_errors(found) == 0)
        printf("%s: a failover to host %s would work\n", vm->settings.name, host);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    struct findings *found AUTO_FREE = calloc(1, sizeof *found);
    char host[HOST_NAME_CHARS_MAX + 1] = "";
    if (found == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!ask_open(call, &vm, &p, err) ||
        !ask_host(call, &vm, p, ASK_TARGET, host, sizeof host, err))
        return false;
    ask_source(call, &vm, p, found);
    if (!ask_target(call, &vm, host, found, err))
        return false;
    if (option_given(call->options, "json")) {
        if (!print_json(&vm, host, found, err))
            return false;
    } else {
        print_findings(&vm, host, found);
    }
    size_t errors = findings_errors(found);
    return errors == 0 ||
           err_set(err, ERR_IO, "%s: %zu thing%s in the way of a failover to host %s",
                   vm.settings.name, errors, errors == 1 ? "" : "s", host);
}

const struct verb verb_validate = {
    .name = "validate",
    .summary = "Look for what a failover would run into",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
