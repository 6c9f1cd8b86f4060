/* SPDX-License-Identifier: MIT
 * A failover verb as a person gives it, on whatever host: the host where it belongs is found, and
 * it runs there as a job. One thread. */
#ifndef TOOLS_FAILOVER_ASK_H
#define TOOLS_FAILOVER_ASK_H

#include "tools/failover/dispatch.h"
#include "tools/failover/protection.h"

enum ask_where {
    ASK_HERE,
    ASK_TARGET,   /* the host that takes the VM over: --host, else as it is set */
    ASK_FAILOVER, /* the host of the present failover; this one when there is none */
    ASK_DRILL,    /* the host of the drill --test, else of the first one */
    ASK_RUNNING,  /* where the VM runs */
};

struct ask {
    const char *verb;
    enum ask_where where;
    /* Options that go into the job's arguments by their names, NULL ends them: a flag is "yes". */
    const char *const *arguments;
    const char *operand; /* name of the argument that operand 1 is; NULL: none */
    const char *done;    /* what is printed before the values */
};

/* Options of every such verb: a row of the verb's own table. */
#define ASK_OPTIONS                                                                                \
    {"json", NULL, false, false, "For scripts: one JSON object with the result."},                 \
    {                                                                                              \
        "timeout", "SECONDS", false, false, "How long to wait for another host; it goes on there." \
    }

/* The parts of it, for verbs that do more. The VM that operand 0 names, its targets open, and its
 * document; refused where another vault has become the authority. */
bool ask_open(const struct verb_call *call, struct vm *vm, struct protection **p,
              struct err *err) MUST_CHECK;
bool ask_host(const struct verb_call *call, const struct vm *vm, const struct protection *p,
              enum ask_where where, char *out, size_t size, struct err *err) MUST_CHECK;

bool ask_run(const struct verb_call *call, const struct ask *ask, struct err *err) MUST_CHECK;

#endif
