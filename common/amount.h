/* SPDX-License-Identifier: MIT
 * Sizes and ages as people read them. */
#ifndef COMMON_AMOUNT_H
#define COMMON_AMOUNT_H

#include <stdint.h>

#define OUTPUT_TEXT_MAX 32u

void size_format(uint64_t bytes, char out[OUTPUT_TEXT_MAX]);  /* "512 B", "1.5 GiB" */
void age_format(uint64_t seconds, char out[OUTPUT_TEXT_MAX]); /* "42 s", "3 min", "5 h", "12 d" */

#endif
