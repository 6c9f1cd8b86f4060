/* SPDX-License-Identifier: MIT
 * What a failover to this host would run into, looked for without changing anything. One thread. */
#ifndef TOOLS_FAILOVER_VALIDATE_H
#define TOOLS_FAILOVER_VALIDATE_H

#include "tools/failover/findings.h"
#include "tools/failover/flow.h"

/* Every 12 hours the agent of a target host begins the job `validate`, and while there are errors
 * every ten minutes. */
#define VALIDATE_S       43200u
#define VALIDATE_AGAIN_S 600u

/* Adds what it finds. What cannot be looked at is a finding, too. */
void validate_here(struct flow *f, struct findings *out);

/* The same for a verb that has the time: warnings are steps of its job, and errors end it. */
bool validate_refuse(struct flow *f, struct err *err) MUST_CHECK;

/* The last validation on this host, for status: STATE/vms/VM/validated.json. */
struct validated {
    uint64_t ms; /* 0: none */
    uint64_t errors, warnings;
};
bool validated_write(struct flow *f, const struct findings *found, struct err *err) MUST_CHECK;
/* Nothing known, or nothing that can be read: ms 0. */
void validated_read(const struct verb_call *call, const char *vm, struct validated *out);
/* Whether that was less than VALIDATE_S ago, and without errors. */
bool validated_lately(const struct verb_call *call, const char *vm);

#endif
