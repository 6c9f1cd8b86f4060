/* SPDX-License-Identifier: MIT
 * Histories of VMs whose target this host is, for who looks again and again: each is read once, and
 * then what was added since. One thread. */
#ifndef TOOLS_HISTORIES_H
#define TOOLS_HISTORIES_H

#include "tools/vm.h"

struct histories {
    struct vm *all;
    size_t count;
};

/* As of now; `settings` are the VM's, as just loaded. Borrowed until the next call. */
bool histories_read(struct histories *h, const struct verb_call *call,
                    const struct settings *settings, struct history **out,
                    struct err *err) MUST_CHECK;
void histories_release(struct histories *h);
#define AUTO_HISTORIES CLEANUP(histories_release)

#endif
