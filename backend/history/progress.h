/* SPDX-License-Identifier: MIT
 * Progress objects `VM/progress/N` in the cache store: how far the processor is, sealed with the
 * history key. N rises with each and is never below the writer's clock in ms; the newest
 * PROGRESS_KEEP stay (older ones go now and then: finding them takes a list, which is dear), so
 * that a reader whose list lags by half a minute still finds one. What reads them is in
 * processor.h. docs/FORMAT.md has the bytes. */
#ifndef BACKEND_HISTORY_PROGRESS_H
#define BACKEND_HISTORY_PROGRESS_H

#include "backend/history/processor.h"

#define PROGRESS_BYTES_MAX 4096u
#define PROGRESS_KEEP      32u
#define PROGRESS_TIDY_PUTS 16u
#define PROGRESS_TIDY_MAX  1024u /* removed at once; what is more is left for the next time */

bool progress_encode(const struct processor_progress *p, const char *vm, uint64_t number,
                     const struct keys *keys, const struct seal_salt *salt, struct buf *out,
                     struct err *err) MUST_CHECK;
bool progress_decode(struct span stored, const char *vm, uint64_t number, const struct keys *keys,
                     struct processor_progress *out, struct err *err) MUST_CHECK;

/* As progress_read, with the number of the one found; ERR_NOT_FOUND leaves *number 0. */
bool progress_newest(struct store *cache, const char *vm, const struct keys *keys,
                     struct processor_progress *out, uint64_t *number, struct err *err) MUST_CHECK;
/* Puts the next one behind *number (which follows). */
bool progress_put(const struct processor_config *config, const struct processor_progress *p,
                  uint64_t *number, struct err *err) MUST_CHECK;
/* Removes all but the newest: after PROGRESS_TIDY_PUTS of them. */
bool progress_tidy(struct store *cache, const char *vm, struct err *err) MUST_CHECK;

#endif
