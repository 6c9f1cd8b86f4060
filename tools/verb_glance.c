/* SPDX-License-Identifier: MIT
 * glance: writes the protection document of a VM to standard output, for tools/failover/glance.c,
 * which ends it when the store keeps it waiting. Never started by people. */
#include "tools/failover/dispatch.h"
#include "tools/failover/protection.h"

static const struct option_spec options[] = {
    OPTIONS_END,
};

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    struct buf text AUTO_BUF = BUF_NONE;
    if (!vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, VM_GLANCES, err))
        return false;
    struct doclog_vault vault = vm_vault(&vm);
    if (!protection_load(&vault, &p, err) || !protection_write(p, &text, err))
        return false;
    return fwrite(text.data, 1, text.length, stdout) == text.length ||
           err_set(err, ERR_IO, "standard output cannot be written");
}

const struct verb verb_glance = {
    .name = "glance",
    .summary = "Read what a VM's hosts agree on (started by status)",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .hidden = true,
    .run = run,
};
