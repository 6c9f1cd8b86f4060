/* SPDX-License-Identifier: MIT
 * How much memory this project's code has asked for at most: for tests that are linked with
 * `--wrap` of malloc, calloc, realloc and free (HEAP_PEAK_WRAP in tests/CMakeLists.txt). What
 * libraries take for themselves is not counted. One thread. */
#ifndef TESTS_SUPPORT_HEAP_PEAK_H
#define TESTS_SUPPORT_HEAP_PEAK_H

#include <stddef.h>

void heap_peak_begin(void);
/* Bytes above what there was at heap_peak_begin. */
size_t heap_peak(void);

#endif
