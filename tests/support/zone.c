/* SPDX-License-Identifier: MIT */
#include "tests/support/zone.h"

#include <stdlib.h>
#include <time.h>

void zone_set(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

int zone_use_utc(void **state)
{
    (void)state;
    zone_set("UTC0");
    return 0;
}
