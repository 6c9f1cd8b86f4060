/* SPDX-License-Identifier: MIT
 * The policy: which recovery points stay. Tiers by age, as `2h:all,1d:5m,7d:1h,30d:1d`: points up
 * to 2 h old all stay; of those up to a day old the oldest of every 5 minutes, and so on; older
 * ones go. Slots are counted from 1970, so where the length of a tier's slot is a multiple of the
 * one before, thinning often ends as thinning once does. Pure functions. */
#ifndef BACKEND_HISTORY_RETENTION_H
#define BACKEND_HISTORY_RETENTION_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define RETENTION_TIERS_MAX       8u
#define RETENTION_TEXT_MAX        160u
#define RETENTION_APPLICATION_MAX 10000u
#define RETENTION_KEEP_DEFAULT    "2h:all,1d:5m,7d:1h,30d:1d"
#define RETENTION_GRACE_DEFAULT   "10m"
#define RETENTION_DAYS_MAX        36500u

struct retention_tier {
    uint64_t age_ms;  /* up to, rising from tier to tier */
    uint64_t slot_ms; /* 0: all */
};

struct retention {
    struct retention_tier tiers[RETENTION_TIERS_MAX];
    size_t tier_count;
    uint64_t application; /* so many of the newest application-consistent points stay as well */
    /* Between saying that something goes and its going: longer than any list of the store lags. */
    uint64_t grace_ms;
};

struct retention retention_default(void);

/* `SPAN:all` or `SPAN:SPAN`, separated by commas, ages rising; SPAN is digits and s, m, h or d.
 * ERR_INVALID says what is wrong. */
bool retention_parse_keep(const char *text, struct retention *out, struct err *err) MUST_CHECK;
void retention_format_keep(const struct retention *r, char out[RETENTION_TEXT_MAX]);
/* A SPAN, in ms. */
bool retention_parse_span(const char *text, uint64_t *ms, struct err *err) MUST_CHECK;
void retention_format_span(uint64_t ms, char out[24]);

struct retention_point {
    uint64_t ms;      /* its id */
    bool application; /* consistent */
    bool damaged;     /* as far as is known */
    bool needed;      /* pinned, or a generation goes on from it */
    bool stays;       /* the answer */
};

/* Which of the points of one generation, oldest first, stay at `now_ms`. The newest always does,
 * and so does what is needed. */
void retention_choose(const struct retention *r, uint64_t now_ms, struct retention_point *points,
                      size_t count);

#endif
