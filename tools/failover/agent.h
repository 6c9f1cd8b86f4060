/* SPDX-License-Identifier: MIT
 * The agent of a host: looks into the job logs of all VMs known here for what is addressed to it,
 * runs each such job in a process of its own (`farshore run-job`), keeps one `farshore process`
 * running for the VMs whose target this host is, puts fences that are pending, and has machines
 * started that should run here after a boot. It makes outbound connections only, and remembers
 * nothing across its own end: a job is found again in the vault. One thread steps it. */
#ifndef TOOLS_FAILOVER_AGENT_H
#define TOOLS_FAILOVER_AGENT_H

#include "tools/host_config.h"
#include "tools/verb.h"

struct agent;

struct agent_config {
    const struct verb_call *call; /* borrowed */
    const char *host;             /* borrowed */
    bool no_process;
    uint64_t interval_s; /* of the processor */
};

bool agent_make(const struct agent_config *config, struct agent **out, struct err *err) MUST_CHECK;
/* Looks at every VM once. What fails for one VM is logged, once, and tried again. */
void agent_round(struct agent *a);
/* Between rounds: sees which processes have ended and starts again what should run. */
void agent_tend(struct agent *a);
/* Ends the processes that it started, those of jobs after a while in which they may end by
 * themselves. */
void agent_release(struct agent **a);

#endif
