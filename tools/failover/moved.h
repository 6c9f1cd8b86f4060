/* SPDX-License-Identifier: MIT
 * The fence of a host that a VM has left: the file STATE/vms/VM/moved. While it is there, `mount`
 * refuses the VM and the libvirt hook refuses to start its domain, by this local file alone,
 * whatever stores and other hosts do. Written when a planned failover has shut the VM down here,
 * and when the host learns that it was fenced; removed when the VM comes back. One thread. */
#ifndef TOOLS_FAILOVER_MOVED_H
#define TOOLS_FAILOVER_MOVED_H

#include "tools/failover/protection.h"

#define MOVED_REASON_MAX 256u

struct moved {
    char host[HOST_NAME_CHARS_MAX + 1]; /* where the VM runs now; "" when that is not known */
    char reason[MOVED_REASON_MAX];      /* for people: "planned failover", "fenced by ..." */
    uint64_t ms;                        /* when, since 1970 */
};

/* Durable when it returns. Replaces what is there. */
bool moved_write(struct world *w, const struct paths *p, const char *vm, const struct moved *m,
                 struct err *err) MUST_CHECK;
/* *there: whether the file is. One that cannot be understood is there, with that as its reason: a
 * fence that is torn is a fence. False only when it cannot be told. */
bool moved_read(struct world *w, const struct paths *p, const char *vm, struct moved *out,
                bool *there, struct err *err) MUST_CHECK;
bool moved_remove(struct world *w, const struct paths *p, const char *vm,
                  struct err *err) MUST_CHECK; /* a missing one is success */

/* The file's text; texts in it that are too long are cut. */
bool moved_parse(struct span text, struct moved *out, struct err *err) MUST_CHECK;

/* True when there is no such file. Else ERR_FENCED, which says where the VM went and why. */
bool moved_check(struct world *w, const struct paths *p, const char *vm,
                 struct err *err) MUST_CHECK;

/* When the document says that another host took the VM over from this source, `host`, and it has
 * not come back since: writes the fence, unless it is there. */
bool moved_learn(struct world *w, const struct paths *p, const struct settings *s,
                 const struct protection *protection, const char *host, struct err *err) MUST_CHECK;

#endif
