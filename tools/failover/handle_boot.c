/* SPDX-License-Identifier: MIT
 * boot, begun by the agent when it starts, for a source VM that is not mounted here: after a start
 * of the host a VM that was failed over to it is mounted and started again, also when it went on
 * here after a failover away that was cancelled. A machine whose home this is has its own ways to
 * start (its unit, libvirt's autostart), and one that a person stopped stays mounted, and so is not
 * looked at. */
#include "tools/failover/handlers.h"

#include "tools/failover/flow.h"
#include "tools/failover/local_disks.h"

static bool is_ours(const struct flow *f)
{
    const struct protection_failover *o = &f->protection->failover;
    const struct settings *s = &f->vm->settings;
    bool cancelled = o->host[0] == '\0'; /* then the document says no more of how it came here */
    return strcmp(f->protection->source_host, f->host.name) == 0 &&
           s->generation.id == o->generation.id &&
           (cancelled ? local_disks_ours(s) : o->started_ms > 0);
}

static bool run_boot(const struct verb_call *call, struct vm *vm, struct job_run *job,
                     cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    uint64_t resumed_ms;
    (void)values;
    if (!flow_open(call, vm, job, &f, err) || !flow_alone(&f, err))
        return false;
    if (!is_ours(&f))
        return flow_step(&f, "boot", err, "nothing to do: no failover brought it here");
    return moved_check(call->world, call->paths, vm->settings.name, err) &&
           flow_step(&f, "mount", err, "after a start of this host") && flow_mount(&f, err) &&
           flow_machine_open(&f, &m, err) && flow_step(&f, "start", err, "%s", m.machine.name) &&
           runner_start(&m.runner, &m.machine, &resumed_ms, err);
}

const struct handler handler_boot = {.verb = "boot", .resumable = true, .run = run_boot};
