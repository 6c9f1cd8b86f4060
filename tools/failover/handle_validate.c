/* SPDX-License-Identifier: MIT
 * validate, on the target host: asked for by a person, or by the agent there. */
#include "tools/failover/handlers.h"

#include "tools/failover/validate.h"

static bool run_validate(const struct verb_call *call, struct vm *vm, struct job_run *job,
                         cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct findings *found AUTO_FREE = calloc(1, sizeof *found);
    if (found == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!flow_open(call, vm, job, &f, err))
        return false;
    validate_here(&f, found);
    return validated_write(&f, found, err) && json_make(values, err) &&
           json_add_text(*values, "host", f.host.name, err) &&
           findings_write(*values, "findings", found, err);
}

const struct handler handler_validate = {
    .verb = "validate", .resumable = true, .run = run_validate};
