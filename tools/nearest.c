/* SPDX-License-Identifier: MIT */
#include "tools/nearest.h"

#include <assert.h>
#include <string.h>

#define NEAR 3u /* further away is another word */

size_t word_distance(const char *word, const char *known)
{
    size_t row[NEAREST_WORD_MAX + 1];
    size_t length = strlen(known);
    assert(length <= NEAREST_WORD_MAX);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; word[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t best = diagonal + (word[i - 1] != known[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[length];
}

const char *word_nearest(const char *word, const char *const *known)
{
    const char *nearest = NULL;
    size_t least = NEAR;
    for (; *known; known++) {
        size_t d = word_distance(word, *known);
        if (d < least) {
            least = d;
            nearest = *known;
        }
    }
    return nearest;
}
