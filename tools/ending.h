/* SPDX-License-Identifier: MIT
 * SIGTERM and SIGINT for a service that works in steps and may be stopped anywhere: they end it
 * between two steps, and should a step wait longer than a moment, for a store that does not answer,
 * the process ends without it. From ending_begin on both signals are blocked in the process. */
#ifndef TOOLS_ENDING_H
#define TOOLS_ENDING_H

#include "common/err.h"

#include <stdint.h>

#define ENDING_PATIENCE_MS 2000u

struct ending;

/* Before any other thread is started. */
bool ending_begin(struct ending **out, struct err *err) MUST_CHECK;
/* Whether a signal came, waiting for it at most that long. One thread. */
bool ending_asked(struct ending *e, uint64_t wait_ms);
void ending_release(struct ending **e); /* NULL inside is fine; leaves NULL */
#define AUTO_ENDING CLEANUP(ending_release)

#endif
