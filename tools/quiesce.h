/* SPDX-License-Identifier: MIT
 * A guest made quiet around a cut: by the commands `freeze` and `thaw` where they are set, else by
 * the guest agent of the VM's domain. A process of its own does both, so that the guest is let go
 * also when the command that wanted it dies, and always within QUIESCE_HOLD_MS. One thread. */
#ifndef TOOLS_QUIESCE_H
#define TOOLS_QUIESCE_H

#include "tools/verb.h"

#define QUIESCE_FREEZE_MS 30000u /* until it is quiet */
#define QUIESCE_HOLD_MS   10000u /* that it stays quiet at most */
#define QUIESCE_THAW_MS   30000u

struct quiesce;

/* Whether this host knows a way: else the user makes the guest quiet. */
bool quiesce_possible(const struct settings *s);

/* Returns once the guest is quiet. After an error it is not. Opens libvirt in a process that is
 * forked here: call it before anything has threads. */
bool quiesce_begin(const struct verb_call *call, const struct settings *s, struct quiesce **out,
                   struct err *err) MUST_CHECK;
/* Lets the guest go. False: it may still be frozen, and the text says what to do. */
bool quiesce_end(struct quiesce **q, struct err *err) MUST_CHECK;
void quiesce_release(struct quiesce **q); /* the same, its outcome not asked */
#define AUTO_QUIESCE CLEANUP(quiesce_release)

#endif
