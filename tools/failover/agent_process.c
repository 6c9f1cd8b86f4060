/* SPDX-License-Identifier: MIT */
#include "common/log.h"
#include "tools/failover/agent_internal.h"
#include "tools/failover/child.h"

#define SECOND_NS   1000000000ull
#define PAUSE_MAX_S 60u
#define STEADY_S    60u /* one that ran so long begins with the shortest pause again */
#define ENDING_MS   5000u

/* The VMs whose target this host is, each name with its NUL. */
static bool wanted_names(struct agent *a, struct buf *out)
{
    unsigned count = 0;
    for (size_t i = 0; i < a->vm_count && count + 4 < CHILD_ARGUMENTS_MAX; i++) {
        const struct agent_vm *v = a->vms[i];
        if (!v->target)
            continue;
        buf_put(out, v->name, strlen(v->name) + 1);
        count++;
    }
    return !out->failed;
}

static void start(struct agent *a)
{
    const char *arguments[CHILD_ARGUMENTS_MAX + 1] = {"process"};
    char interval[24];
    size_t count = 1;
    struct err err = ERR_NONE;
    const struct buf *names = &a->processor.names;

    snprintf(interval, sizeof interval, "%llu", (unsigned long long)a->config.interval_s);
    arguments[count++] = "--interval";
    arguments[count++] = interval;
    for (size_t at = 0; at < names->length;) {
        const char *name = (const char *)names->data + at;
        arguments[count++] = name;
        at += strlen(name) + 1;
    }
    a->processor.started_ns = agent_now_ns(a);
    if (child_start(arguments, true, &a->processor.pid, &err)) {
        log_info("the processor is started, process %d", (int)a->processor.pid);
        return;
    }
    a->processor.pid = 0;
    log_error("%s", err.text);
}

static void ended(struct agent *a, const char *how)
{
    uint64_t now_ns = agent_now_ns(a);
    bool steady = now_ns - a->processor.started_ns >= STEADY_S * SECOND_NS;
    uint64_t next = a->processor.pause_s * 2;
    a->processor.pid = 0;
    a->processor.pause_s = steady || next == 0 ? 1 : next > PAUSE_MAX_S ? PAUSE_MAX_S : next;
    a->processor.next_ns = now_ns + a->processor.pause_s * SECOND_NS;
    log_warning("the processor ended: %s; started again in %llu s", how,
                (unsigned long long)a->processor.pause_s);
}

void agent_tend_processor(struct agent *a)
{
    struct buf names AUTO_BUF = BUF_NONE;
    char how[32];

    if (a->config.no_process || !a->looked || !wanted_names(a, &names))
        return;
    if (child_ended(a->processor.pid, how, sizeof how))
        ended(a, how);
    if (!span_equal(buf_span(&names), buf_span(&a->processor.names))) {
        agent_end_processor(a);
        buf_release(&a->processor.names);
        a->processor.names = names;
        names = BUF_NONE;
        a->processor.next_ns = 0;
    }
    if (a->processor.pid <= 0 && a->processor.names.length > 0 &&
        agent_now_ns(a) >= a->processor.next_ns)
        start(a);
}

void agent_end_processor(struct agent *a)
{
    child_stop(a->processor.pid, ENDING_MS);
    a->processor.pid = 0;
}
