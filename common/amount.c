/* SPDX-License-Identifier: MIT */
#include "common/amount.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

void size_format(uint64_t bytes, char out[OUTPUT_TEXT_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, OUTPUT_TEXT_MAX, "%" PRIu64 " B", bytes);
        return;
    }
    double v = (double)bytes / 1024;
    size_t unit = 0;
    while (v >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        v /= 1024;
        unit++;
    }
    snprintf(out, OUTPUT_TEXT_MAX, "%.1f %s", v, units[unit]);
}

void age_format(uint64_t seconds, char out[OUTPUT_TEXT_MAX])
{
    if (seconds < 120)
        snprintf(out, OUTPUT_TEXT_MAX, "%" PRIu64 " s", seconds);
    else if (seconds < 120 * 60)
        snprintf(out, OUTPUT_TEXT_MAX, "%" PRIu64 " min", seconds / 60);
    else if (seconds < 48 * 3600)
        snprintf(out, OUTPUT_TEXT_MAX, "%" PRIu64 " h", seconds / 3600);
    else
        snprintf(out, OUTPUT_TEXT_MAX, "%" PRIu64 " d", seconds / 86400);
}
