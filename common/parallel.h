/* SPDX-License-Identifier: MIT
 * Several pieces of one piece of work at once, where each mostly waits (for a store's answer). */
#ifndef COMMON_PARALLEL_H
#define COMMON_PARALLEL_H

#include "common/err.h"

#include <stddef.h>

#define PARALLEL_THREADS_MAX 16u

/* Piece `index`; called on several threads at once, never twice for one index. */
typedef bool parallel_fn(void *context, size_t index, struct err *err);

/* Calls `each` for 0 to count - 1, begun in that order, at most `threads` at a time, of which the
 * caller's is one; returns when all that began have ended. After a failure no other piece is
 * begun; of several failures the one of the lowest index is told. Where no thread can be had the
 * pieces go one after another. */
bool parallel_each(size_t count, unsigned threads, parallel_fn *each, void *context,
                   struct err *err) MUST_CHECK;

#endif
