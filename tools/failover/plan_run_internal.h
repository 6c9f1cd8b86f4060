/* SPDX-License-Identifier: MIT
 * What the files of plan_run.h share. No one else includes this header. */
#ifndef TOOLS_FAILOVER_PLAN_RUN_INTERNAL_H
#define TOOLS_FAILOVER_PLAN_RUN_INTERNAL_H

#include "tools/failover/plan_run.h"

/* What becomes of STATE/plans/NAME. */
void plan_run_path(const struct paths *p, const char *name, const char *ending,
                   char out[PATH_BYTES_MAX]);
bool plan_run_save(const struct plan_runner *x, const struct plan_run *r,
                   struct err *err) MUST_CHECK;

uint64_t plan_now_ms(const struct plan_runner *x);

#endif
