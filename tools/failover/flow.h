/* SPDX-License-Identifier: MIT
 * What the handlers of the failover verbs share: the VM, its job, its protection document and this
 * host's name. One thread. */
#ifndef TOOLS_FAILOVER_FLOW_H
#define TOOLS_FAILOVER_FLOW_H

#include "tools/failover/dispatch.h"
#include "tools/failover/machine.h"
#include "tools/failover/moved.h"
#include "tools/failover/runner.h"
#include "tools/failover/states.h"

struct flow {
    const struct verb_call *call;
    struct vm *vm; /* targets open */
    struct job_run *job;
    struct doclog_vault vault;
    struct host_config host;
    struct protection *protection; /* as it was last read */
    bool cache_silent; /* it was waited for in vain: whoever can do without does not wait again */
    bool alone;        /* `turn` is ours */
    int turn;
};

bool flow_open(const struct verb_call *call, struct vm *vm, struct job_run *job, struct flow *out,
               struct err *err) MUST_CHECK;
void flow_close(struct flow *f);
#define AUTO_FLOW CLEANUP(flow_close)

/* From here on no other process of this host makes or removes anything of the VM's failovers, until
 * flow_let_go or the end. What is known of settings and document is read anew: the one before us
 * may have changed both. ERR_BUSY: it does not end, or the VM has another vault since. */
bool flow_alone(struct flow *f, struct err *err) MUST_CHECK;
bool flow_alone_within(struct flow *f, uint64_t wait_ms, struct err *err) MUST_CHECK;
void flow_let_go(struct flow *f);

/* The failover that the document names is this job's own, and has come to its end: the process that
 * ran it died before it could say so. */
bool flow_done(const struct flow *f);

/* An argument of the job; "" when it was not given. */
const char *flow_arg(const struct flow *f, const char *name);
/* One step without measure; false: the job was taken over by another process. */
bool flow_step(struct flow *f, const char *name, struct err *err, const char *format, ...)
    __attribute__((format(printf, 4, 5))) MUST_CHECK;
/* Each line of `notes` as a step's text. */
bool flow_notes(struct flow *f, const struct buf *notes, struct err *err) MUST_CHECK;

/* Refuses in the wrong state; looks into the history for what the state alone does not tell. */
bool flow_check(struct flow *f, enum states_verb verb, struct err *err) MUST_CHECK;
/* The same for a document at hand. */
bool flow_allows(struct flow *f, enum states_verb verb, const struct protection *p,
                 struct err *err) MUST_CHECK;
/* Reads the document anew, lets `change` alter it, and appends: see protection_change. */
bool flow_change(struct flow *f, protection_change_fn *change, void *context,
                 struct err *err) MUST_CHECK;

/* Opens and refreshes the history. */
bool flow_history(struct flow *f, struct err *err) MUST_CHECK;
/* Opens the caches for a while only; false, with the reason in `err`: out of reach. */
bool flow_caches(struct flow *f, struct err *err) MUST_CHECK;

/* The settings' disks, in memory alone, become those that the VM had at that point: a target host
 * was not told of disks that were added, taken out or grown. */
void flow_take_disks(struct flow *f, const struct history_point *point);

/* Where this host mounts the VM: its setting, else a folder of its own. */
void flow_mount_point(const struct flow *f, char out[PATH_BYTES_MAX]);
/* A folder to mount in; of a domain one that the hypervisor's user can come by. */
bool flow_folder_make(struct flow *f, const char *folder, struct err *err) MUST_CHECK;
/* Mounts unless it is; unmounts if it is, waiting for what is dirty when `ship`. */
bool flow_mount(struct flow *f, struct err *err) MUST_CHECK;
bool flow_unmount(struct flow *f, bool ship, struct err *err) MUST_CHECK;
/* What the mount's worker says of itself, also one that only becomes it. */
bool flow_worker_status(struct flow *f, uint64_t timeout_ms, cJSON **answer,
                        struct err *err) MUST_CHECK;
/* The machine that runs on the mount, under the name that it has or gets here. */
struct flow_machine {
    struct runner runner;
    struct runner_machine machine;
    char folder[PATH_BYTES_MAX];
};
/* Used where it was opened: it points into itself. */
bool flow_machine_open(struct flow *f, struct flow_machine *out, struct err *err) MUST_CHECK;
void flow_machine_close(struct flow_machine *m);
#define AUTO_FLOW_MACHINE CLEANUP(flow_machine_close)

#endif
