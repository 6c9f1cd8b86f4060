/* SPDX-License-Identifier: MIT
 * What the files of agent.h share. No one else includes this header. */
#ifndef TOOLS_FAILOVER_AGENT_INTERNAL_H
#define TOOLS_FAILOVER_AGENT_INTERNAL_H

#include "tools/failover/agent.h"
#include "tools/failover/dispatch.h"

#define AGENT_JOBS_MAX     256u /* newest jobs of a VM that are looked at */
#define AGENT_CHILDREN_MAX 16u  /* at once */

struct agent_job {
    char id[JOB_ID_MAX];
    bool settled;     /* finished, or for another host */
    uint64_t number;  /* of its newest entry */
    uint64_t seen_ns; /* boot time: when that number was first seen */
    uint64_t next_ns; /* not to be looked at before */
};

/* The vault that a reprotect or its seed has left, for as long as its job there has no result. */
struct agent_left {
    struct vm vm;
    char job[JOB_ID_MAX]; /* "": there is none */
    struct job_run *run;  /* ours, while its result cannot be put; NULL */
    uint64_t next_ns;     /* not to be looked at before */
};

struct agent_vm {
    char name[VM_NAME_MAX + 1];
    bool target; /* as its settings said last: processed here */
    bool open;
    struct vm vm;
    struct agent_left left;
    size_t job_count;
    struct agent_job jobs[AGENT_JOBS_MAX];
    bool begun;    /* what it needs after a start of the agent has its process, or needs none */
    bool reported; /* its present failure was said */
    uint64_t boot_pause_s; /* before the next try; 0: none has failed */
    uint64_t next_ns, next_boot_ns, next_fence_ns, next_tidy_ns, next_validate_ns;
};

struct agent_child {
    pid_t pid; /* 0: free */
    char vm[VM_NAME_MAX + 1];
    char what[JOB_ID_MAX]; /* id of the job, or the verb that it begins */
};

struct agent {
    struct agent_config config;
    struct agent_vm **vms;
    size_t vm_count;
    bool looked; /* at all of them once: before that nobody knows what to process */
    struct agent_child children[AGENT_CHILDREN_MAX];
    struct {
        pid_t pid;
        struct buf names; /* each with its NUL: what it was started with */
        uint64_t started_ns, next_ns, pause_s;
    } processor;
};

uint64_t agent_now_ns(const struct agent *a);

/* Jobs: agent_jobs.c. `v` is open. */
bool agent_look(struct agent *a, struct agent_vm *v, struct err *err) MUST_CHECK;
/* Begins a job of this host's own, once at a time. False: not now, there is no room for it. */
bool agent_begin_job(struct agent *a, struct agent_vm *v, const char *verb);
void agent_tend_children(struct agent *a);
void agent_end_children(struct agent *a);

/* Jobs of a vault that was left: agent_left.c. */
/* Closes the VM, whose settings name another vault now. */
void agent_leave(struct agent *a, struct agent_vm *v);
/* Gives the job there its result when its process is dead: a reprotect when the VM is protected by
 * the new one, a seed at once. `v` is open. */
void agent_settle_left(struct agent *a, struct agent_vm *v);
void agent_forget_left(struct agent_vm *v);
/* Whether its reprotect has turned the shipping round, and waits for the first point. */
bool agent_waits_for_point(const struct agent_vm *v, const struct protection *p);
void agent_vm_shut(struct agent_vm *v);

/* The processor: agent_process.c. */
void agent_tend_processor(struct agent *a);
void agent_end_processor(struct agent *a);

#endif
