/* SPDX-License-Identifier: MIT
 * What a misspelt word was meant to be. Pure; any thread. */
#ifndef TOOLS_NEAREST_H
#define TOOLS_NEAREST_H

#include <stddef.h>

#define NEAREST_WORD_MAX 32u /* characters of a known word */

/* How many letters must be put in, taken out or changed to make `known` of `word`. */
size_t word_distance(const char *word, const char *known);
/* The one of `known` (NULL ends it) nearest to `word`, or NULL when none is near. */
const char *word_nearest(const char *word, const char *const *known);

#endif
