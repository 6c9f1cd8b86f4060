/* SPDX-License-Identifier: MIT
 * The protection document for those who only show it: never waited for longer than told, whatever
 * the target store does, since a process of its own asks (`farshore glance VM`, which is ended when
 * it is late). What was read last is kept in STATE/vms/VM/protection.json and stands in when the
 * vault cannot be asked. One thread. */
#ifndef TOOLS_FAILOVER_GLANCE_H
#define TOOLS_FAILOVER_GLANCE_H

#include "tools/failover/states.h"
#include "tools/verb.h"

#define GLANCE_MS 2000u

/* Zeroed: nothing was asked. */
struct glance {
    char vm[VM_NAME_MAX + 1];
    int pid; /* 0: nobody asks */
    int fd;  /* his answer */
};

/* Begins to ask; several at once take no longer than one. */
void glance_begin(struct glance *g, const char *vm);
/* The document, as fresh as it could be had until `deadline_ns` (boot time); *fresh says whether
 * the vault was asked. NULL in *out: nothing is known here. Ends the asking. */
void glance_end(const struct verb_call *call, struct glance *g, uint64_t deadline_ns,
                struct protection **out, bool *fresh);
/* Whether the state of the failover allows the verb here (states.h). A VM that by all that is known
 * on this host is in no failover is not asked about, unless `always`; nor does a vault that does
 * not answer refuse anything: what must not be is refused where it would be done, too. */
bool glance_check(const struct verb_call *call, const struct settings *s, enum states_verb verb,
                  bool always, struct err *err) MUST_CHECK;
/* Whether the vault says that this source was left by a failover: then the fence is written (see
 * moved.h) and it is ERR_FENCED. True also when the vault does not answer in time. */
bool glance_here(const struct verb_call *call, const struct settings *s,
                 struct err *err) MUST_CHECK;
void glance_release(struct glance *g); /* without the answer */
#define AUTO_GLANCE CLEANUP(glance_release)

#endif
