/* SPDX-License-Identifier: MIT */
#include "backend/history/retention.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    char letter;
    uint64_t ms;
} units[] = {{'d', 86400000}, {'h', 3600000}, {'m', 60000}, {'s', 1000}};

#define UNITS         (sizeof units / sizeof units[0])
#define SPAN_MAX_MS   (RETENTION_DAYS_MAX * 86400000ull)
#define SPAN_DIGITS   9u
#define TIER_SPAN_MAX 24u

struct retention retention_default(void)
{
    struct retention r = {.application = 24};
    struct err err = ERR_NONE;
    bool good = retention_parse_keep(RETENTION_KEEP_DEFAULT, &r, &err) &&
                retention_parse_span(RETENTION_GRACE_DEFAULT, &r.grace_ms, &err);
    assert(good);
    (void)good;
    return r;
}

/* --- text --- */

static bool span_parse(const char *text, size_t length, uint64_t *ms)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; digits < length && isdigit((unsigned char)text[digits]); digits++)
        value = value * 10 + (uint64_t)(text[digits] - '0');
    if (digits == 0 || digits > SPAN_DIGITS || digits + 1 != length)
        return false;
    for (size_t i = 0; i < UNITS; i++)
        if (text[digits] == units[i].letter) {
            *ms = value * units[i].ms;
            return value > 0 && *ms <= SPAN_MAX_MS;
        }
    return false;
}

bool retention_parse_span(const char *text, uint64_t *ms, struct err *err)
{
    return (strlen(text) <= SPAN_DIGITS + 1 && span_parse(text, strlen(text), ms)) ||
           err_set(err, ERR_INVALID,
                   "'%.32s' is no span of time: give a number and s, m, h or d, as 10m", text);
}

void retention_format_span(uint64_t ms, char out[24])
{
    size_t i = 0;
    while (i + 1 < UNITS && ms % units[i].ms != 0)
        i++;
    snprintf(out, 24, "%" PRIu64 "%c", ms / units[i].ms, units[i].letter);
}

/* One tier, `length` bytes long. */
static bool tier_parse(const char *text, size_t length, struct retention_tier *out)
{
    const char *colon = memchr(text, ':', length);
    if (colon == NULL || !span_parse(text, (size_t)(colon - text), &out->age_ms))
        return false;
    const char *slot = colon + 1;
    size_t left = length - (size_t)(slot - text);
    out->slot_ms = 0;
    return (left == 3 && memcmp(slot, "all", 3) == 0) || span_parse(slot, left, &out->slot_ms);
}

bool retention_parse_keep(const char *text, struct retention *out, struct err *err)
{
    struct retention r = *out;
    r.tier_count = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        struct retention_tier *tier = &r.tiers[r.tier_count];
        if (r.tier_count == RETENTION_TIERS_MAX)
            return err_set(err, ERR_INVALID, "more than %u tiers", RETENTION_TIERS_MAX);
        if (!tier_parse(at, length, tier))
            return err_set(err, ERR_INVALID,
                           "'%.*s' is no tier: give AGE:all or AGE:SLOT, as 2h:all or 1d:5m",
                           length < 32 ? (int)length : 32, at);
        if (r.tier_count > 0 && tier->age_ms <= tier[-1].age_ms)
            return err_set(err, ERR_INVALID, "'%.*s' is not older than the tier before it",
                           (int)length, at);
        r.tier_count++;
        at += length;
        if (*at == '\0')
            break;
    }
    *out = r;
    return true;
}

void retention_format_keep(const struct retention *r, char out[RETENTION_TEXT_MAX])
{
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < r->tier_count; i++) {
        char age[TIER_SPAN_MAX], slot[TIER_SPAN_MAX] = "all";
        retention_format_span(r->tiers[i].age_ms, age);
        if (r->tiers[i].slot_ms > 0)
            retention_format_span(r->tiers[i].slot_ms, slot);
        int more = snprintf(out + length, RETENTION_TEXT_MAX - length, "%s%s:%s", i > 0 ? "," : "",
                            age, slot);
        assert(more > 0 && length + (size_t)more < RETENTION_TEXT_MAX);
        length += (size_t)more;
    }
}

/* --- choosing --- */

/* The tier of a point of that age; NULL: it is older than all. One of the future is young. */
static const struct retention_tier *tier_of(const struct retention *r, uint64_t ms, uint64_t now_ms)
{
    uint64_t age_ms = ms < now_ms ? now_ms - ms : 0;
    for (size_t i = 0; i < r->tier_count; i++)
        if (age_ms <= r->tiers[i].age_ms)
            return &r->tiers[i];
    return NULL;
}

/* The oldest of a slot, whatever else lies in it: so nothing that comes later changes the answer. A
 * damaged one only when all in it are. */
static bool first_of_slot(const struct retention_tier *t, const struct retention_point *points,
                          size_t count, size_t i)
{
    if (t->slot_ms == 0)
        return true;
    uint64_t slot = points[i].ms / t->slot_ms;
    bool damaged = points[i].damaged;
    for (size_t k = i; k-- > 0 && points[k].ms / t->slot_ms == slot;)
        if (damaged || !points[k].damaged)
            return false;
    for (size_t k = i + 1; damaged && k < count && points[k].ms / t->slot_ms == slot; k++)
        if (!points[k].damaged)
            return false;
    return true;
}

void retention_choose(const struct retention *r, uint64_t now_ms, struct retention_point *points,
                      size_t count)
{
    uint64_t application = 0;
    for (size_t i = count; i-- > 0;) {
        struct retention_point *p = &points[i];
        const struct retention_tier *t = tier_of(r, p->ms, now_ms);
        bool consistent = p->application && !p->damaged;
        application += consistent;
        p->stays = p->needed || i + 1 == count || (consistent && application <= r->application) ||
                   (t != NULL && first_of_slot(t, points, count, i));
    }
}
