/* SPDX-License-Identifier: MIT
 * The program's time zone, for what goes by the local time of day. */
#ifndef TESTS_SUPPORT_ZONE_H
#define TESTS_SUPPORT_ZONE_H

void zone_set(const char *zone); /* as TZ */
int zone_use_utc(void **state);  /* a group's setup, for cmocka */

#endif
