/* SPDX-License-Identifier: MIT
 * What a host does when a job says so: a table by verb, one handler per file
 * tools/failover/handle_NAME.c or beside the verb that it belongs to. A handler is run by the agent
 * (`farshore host`) in a process of its own, or by the verb itself when it was given on the right
 * host; both through tools/failover/dispatch.h, and it cannot tell the two apart. */
#ifndef TOOLS_FAILOVER_HANDLERS_H
#define TOOLS_FAILOVER_HANDLERS_H

#include "tools/failover/job.h"
#include "tools/vm.h"

struct handler {
    const char *verb;
    /* Begun again from the start after its process died, it ends in the same state. Others get the
     * result "its process died: run it again", and a person decides. */
    bool resumable;
    /* A person decides by it: begun again only while that is news, and no other decision was made
     * since (dispatch_claimed). */
    bool decides;
    /* `vm` has settings, key and open targets (which stay open: the job is put there meanwhile); a
     * handler opens what else it needs. What it was
     * asked is in job_run_job(job)->args (job_arg); `call->options` belong to somebody else: not to
     * be used. *values (made by the handler, freed by the caller) goes into the result. Steps by
     * job_step, whose false ends the handler. The caller puts the result. */
    bool (*run)(const struct verb_call *call, struct vm *vm, struct job_run *job, cJSON **values,
                struct err *err);
};

/* NULL ends it. A row each: add yours in handlers.c. */
extern const struct handler *const handlers[];
const struct handler *handler_find(const char *verb); /* or NULL */

/* Answers what the validator asks of a target host: farshore, room, memory, processors. */
extern const struct handler handler_ping;
/* What a cancel without this host left here. */
extern const struct handler handler_undo;
/* Puts what a claim left pending (history_fence), until nothing is. */
extern const struct handler handler_fence;

/* On a target host. */
extern const struct handler handler_test_failover, handler_cleanup, handler_failover,
    handler_change_point, handler_cancel, handler_validate;
/* On any host that reaches the vault. */
extern const struct handler handler_commit;
/* Where the VM runs. */
extern const struct handler handler_reprotect, handler_revert, handler_boot;
/* The values of a reprotect. */
bool reprotect_result(const struct vault_stores *stores, struct generation generation,
                      cJSON **values, struct err *err) MUST_CHECK;
/* On a source host, for a failover: it stops; a cancelled one: it goes on; after a reprotect. A
 * seed that is whole begins this step before the host turns to the other vault, behind which nobody
 * looks into the one that has the job: so its result can be told without it. */
#define SEED_TURN_STEP "turn"
extern const struct handler handler_shutdown, handler_resume_source, handler_seed;

#endif
