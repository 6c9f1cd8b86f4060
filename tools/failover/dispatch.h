/* SPDX-License-Identifier: MIT
 * A verb's work where it belongs: in this process when the host is this one, else as a job that is
 * posted for the right host and waited for, with its progress on the terminal (standard error).
 * One thread. */
#ifndef TOOLS_FAILOVER_DISPATCH_H
#define TOOLS_FAILOVER_DISPATCH_H

#include "tools/failover/handlers.h"
#include "tools/failover/protection.h"

/* Of an open VM (targets opened); borrows from it. */
struct doclog_vault vm_vault(const struct vm *vm);

struct dispatch {
    const char *verb;   /* of a handler */
    const char *host;   /* who is to do it; this host's name: here and now */
    const cJSON *args;  /* an object of texts; NULL: none */
    uint64_t claim_s;   /* how long the other host may take to claim; 0: JOB_CLAIM_S */
    uint64_t timeout_s; /* 0: no bound */
    bool quiet;         /* no progress */
};

/* Runs it as a job. `out` (NULL: not wanted) is the finished job: its id and values. False when it
 * failed, with the job's error, or could not be begun. ERR_TRANSIENT from a host that does not
 * answer: the job was withdrawn, nothing was done. `vm` has its targets open. */
bool dispatch(const struct verb_call *call, struct vm *vm, const struct dispatch *d,
              struct job **out, struct err *err) MUST_CHECK;

/* Claims and runs one job that waits for this host; what the agent's child does. False only when it
 * could not be claimed or its result could not be put. */
bool dispatch_claimed(const struct verb_call *call, struct vm *vm, const char *id, bool still,
                      struct err *err) MUST_CHECK;

#endif
