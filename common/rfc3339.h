/* SPDX-License-Identifier: MIT
 * Times as people and scripts write them: RFC 3339, and farshore's fixed-width point form
 * `2026-11-22T20:05:03.250Z` (UTC, milliseconds, 24 characters), whose byte order is time order.
 * Years 1970 to 9999; a leap second counts as the second after it. Any thread may call. */
#ifndef COMMON_RFC3339_H
#define COMMON_RFC3339_H

#include <stdbool.h>
#include <stdint.h>

#define POINT_TIME_CHARS 24u

/* Milliseconds since 1970 -> fixed-width form; `out` holds POINT_TIME_CHARS + 1. What lies past the
 * year 9999 shows as its last millisecond. */
void point_time_format(uint64_t ms, char out[POINT_TIME_CHARS + 1]);
/* Exactly the fixed-width form. */
bool point_time_parse(const char *text, uint64_t *ms);
/* Any RFC 3339 time: fraction of any length, offset Z or +hh:mm, `T` or a space; cut to ms. */
bool rfc3339_parse(const char *text, uint64_t *ms);

#endif
