/* SPDX-License-Identifier: MIT
 * Points as users name them (design 14). */
#include "backend/history/history.h"
#include "common/rfc3339.h"

#include <ctype.h>

#define MS_PER_SECOND 1000u

/* `5m` -> ms. At most 9 digits, so that no product overflows. */
static bool ago_parse(const char *text, uint64_t *ms)
{
    uint64_t value = 0;
    size_t digits = 0;
    uint64_t seconds;

    for (; isdigit((unsigned char)text[digits]); digits++) {
        if (digits == 9)
            return false;
        value = value * 10 + (uint64_t)(text[digits] - '0');
    }
    if (digits == 0 || text[digits] == '\0' || text[digits + 1] != '\0')
        return false;
    switch (text[digits]) {
    case 's':
        seconds = 1;
        break;
    case 'm':
        seconds = 60;
        break;
    case 'h':
        seconds = 3600;
        break;
    case 'd':
        seconds = 86400;
        break;
    default:
        return false;
    }
    *ms = value * seconds * MS_PER_SECOND;
    return true;
}

enum wanted { WANTED_ANY, WANTED_APPLICATION, WANTED_VERIFIED };

static bool newest(struct history *h, enum wanted wanted, struct history_point *out)
{
    for (size_t i = history_points(h); i-- > 0;) {
        struct history_point p = history_point(h, i);
        if (p.ms == 0 || p.verdict == POINT_DAMAGED)
            continue;
        if (wanted == WANTED_ANY || (wanted == WANTED_APPLICATION && p.kind == POINT_APPLICATION) ||
            (wanted == WANTED_VERIFIED && p.verdict == POINT_VERIFIED)) {
            *out = p;
            return true;
        }
    }
    return false;
}

static bool none_at_all(struct history *h, struct err *err)
{
    return history_points(h) == 0
               ? err_set(err, ERR_NOT_FOUND, "there is no recovery point yet")
               : err_set(err, ERR_NOT_FOUND,
                         "every recovery point is marked as damaged; give the id of one to use it "
                         "nevertheless (see farshore points)");
}

static bool none_before(struct history *h, const char *text, struct err *err)
{
    char oldest[POINT_TIME_CHARS + 1];
    struct history_point sound;
    if (!newest(h, WANTED_ANY, &sound))
        return none_at_all(h, err);
    point_time_format(history_point(h, 0).ms, oldest);
    return err_set(err, ERR_NOT_FOUND, "no sound recovery point at or before %s; the oldest is %s",
                   text, oldest);
}

static bool resolve_latest(struct history *h, const char *text, struct history_point *out,
                           struct err *err)
{
    enum wanted wanted = WANTED_ANY;
    if (strcmp(text, "latest-application") == 0)
        wanted = WANTED_APPLICATION;
    else if (strcmp(text, "latest-verified") == 0)
        wanted = WANTED_VERIFIED;
    if (newest(h, wanted, out))
        return true;
    if (wanted == WANTED_ANY || !newest(h, WANTED_ANY, out))
        return none_at_all(h, err);
    return err_set(err, ERR_NOT_FOUND, "no recovery point is %s; 'latest' is any",
                   wanted == WANTED_VERIFIED ? "verified" : "application-consistent");
}

/* GENERATION/ID, cut at `slash`. */
static bool resolve_named(struct history *h, const char *text, const char *slash,
                          struct history_point *out, struct err *err)
{
    char name[GENERATION_NAME_MAX];
    struct generation generation;
    struct history_head head;
    uint64_t ms;

    if ((size_t)(slash - text) >= sizeof name)
        return err_set(err, ERR_INVALID, "'%.64s' names no generation before the slash", text);
    memcpy(name, text, (size_t)(slash - text));
    name[slash - text] = '\0';
    if (!generation_parse(name, &generation) || !point_time_parse(slash + 1, &ms))
        return err_set(err, ERR_INVALID,
                       "'%.64s' names no recovery point: behind a slash it is GENERATION/ID, as "
                       "`farshore points --branch` shows them",
                       text);
    if (!history_line(h, generation, &head))
        return err_set(err, ERR_NOT_FOUND, "there is no generation %s", name);
    return history_find_in(h, generation, ms, out) ||
           err_set(err, ERR_NOT_FOUND,
                   "generation %s made no recovery point %s, or it waits in the "
                   "cache still",
                   name, slash + 1);
}

bool history_resolve_at(struct history *h, uint64_t now_ms, const char *text,
                        struct history_point *out, struct err *err)
{
    const char *slash = strchr(text, '/');
    uint64_t ms = 0;

    if (slash != NULL)
        return resolve_named(h, text, slash, out, err);
    if (strcmp(text, "latest") == 0 || strcmp(text, "latest-application") == 0 ||
        strcmp(text, "latest-verified") == 0)
        return resolve_latest(h, text, out, err);
    if (strncmp(text, "now-", 4) == 0 && ago_parse(text + 4, &ms))
        return history_find(h, ms < now_ms ? now_ms - ms : 0, false, out) ||
               none_before(h, text, err);
    if (point_time_parse(text, &ms))
        return history_find(h, ms, true, out) ||
               err_set(err, ERR_NOT_FOUND,
                       "no recovery point has the id %s; a time of another form, as %.19sZ, means "
                       "the newest at or before it",
                       text, text);
    if (rfc3339_parse(text, &ms))
        return history_find(h, ms, false, out) || none_before(h, text, err);
    return err_set(err, ERR_INVALID,
                   "'%.64s' names no recovery point: give a point's id, an RFC 3339 time, now-5m "
                   "(s, m, h, d), latest, latest-application, latest-verified or GENERATION/ID",
                   text);
}
