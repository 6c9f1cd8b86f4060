/* SPDX-License-Identifier: MIT
 * The policy of a VM where whoever thins its points finds it: documents in the vault, the log
 * `policy` (doclog.h), {"version", "keep", "application", "grace"}. There, because a processor may
 * run on any host; a log, so that two who set it do not undo each other unseen, and so that nobody
 * without the history key can let points go. None there: retention_default. One thread. */
#ifndef BACKEND_HISTORY_POLICY_H
#define BACKEND_HISTORY_POLICY_H

#include "backend/history/doclog.h"
#include "backend/history/retention.h"

void policy_log_begin(struct doclog *l, const struct doclog_vault *vault);
/* Takes what is new; `r` is the default when there is none, and stays as it was on failure. */
bool policy_poll(struct doclog *l, struct retention *r, struct err *err) MUST_CHECK;
/* Appends it behind the newest that `l` knows. ERR_EXISTS: another one was first; poll again. */
bool policy_put(struct doclog *l, const struct retention *r, struct err *err) MUST_CHECK;

#endif
