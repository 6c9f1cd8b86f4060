/* SPDX-License-Identifier: MIT
 * Which target host takes a VM: the first of its list that can, and, for members of an availability
 * set, one where no other member is. Pure: any thread. */
#ifndef TOOLS_FAILOVER_PLACEMENT_H
#define TOOLS_FAILOVER_PLACEMENT_H

#include "tools/host_config.h"

#define PLACEMENT_HOSTS_MAX   64u
#define PLACEMENT_MEMBERS_MAX 256u
#define PLACEMENT_TEXT_MAX    512u

/* Another VM of the same set, and the host where it runs or will run when it is failed over. */
struct placement_member {
    char vm[VM_NAME_MAX + 1];
    char host[HOST_NAME_CHARS_MAX + 1]; /* "": nowhere yet */
};

struct placement_request {
    const char *vm;
    const char *set; /* its name; NULL or "": none, members are not looked at */
    /* Those that may take it, first choice first. */
    const char *const *hosts;
    size_t host_count;
    /* NULL: all can. Else whether host i can (it answers, it has room). */
    const bool *able;
    const struct placement_member *members; /* the VM itself among them does not count */
    size_t member_count;
    const char *asked; /* the host that a person named; NULL: choose. Need not be on the list. */
    bool strict;       /* refuse rather than put two members on one host */
};

struct placement {
    char host[HOST_NAME_CHARS_MAX + 1];
    char warning[PLACEMENT_TEXT_MAX]; /* what people should know; "" for nothing */
};

/* Without `strict`, members that cannot be kept apart share the host that has the fewest of them,
 * and the warning names them. ERR_INVALID, with what to do: no host at all, or, `strict`, none that
 * keeps them apart. */
bool placement_choose(const struct placement_request *r, struct placement *out,
                      struct err *err) MUST_CHECK;

#endif
