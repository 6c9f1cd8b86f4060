/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"

#include <stddef.h>
#include <string.h>

#define MS_PER_DAY 86400000ll
#define YEAR_FIRST 1970
#define YEAR_LAST  9999
#define MS_LAST    253402300799999ull /* 9999-12-31T23:59:59.999Z */

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int64_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Days from 1970-01-01 to the first of January of `year`. */
static int64_t days_to_year(int64_t year)
{
    int64_t before = year - 1;
    int64_t leap_days = before / 4 - before / 100 + before / 400;
    return (year - YEAR_FIRST) * 365 + leap_days - 477; /* 477 of them up to 1969 */
}

static int64_t days_to_date(int64_t year, int64_t month, int64_t day)
{
    int64_t days = days_to_year(year);
    for (int64_t m = 1; m < month; m++)
        days += days_in_month(year, m);
    return days + day - 1;
}

static void put_digits(char *out, size_t width, int64_t value)
{
    while (width-- > 0) {
        out[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

void point_time_format(uint64_t ms, char out[POINT_TIME_CHARS + 1])
{
    int64_t left = (int64_t)(ms < MS_LAST ? ms : MS_LAST);
    int64_t days = left / MS_PER_DAY;
    left %= MS_PER_DAY;
    int64_t year = YEAR_FIRST + days / 366; /* at or before the year sought */
    while (days_to_year(year + 1) <= days)
        year++;
    days -= days_to_year(year);
    int64_t month = 1;
    while (days >= days_in_month(year, month))
        days -= days_in_month(year, month++);

    memcpy(out, "0000-00-00T00:00:00.000Z", POINT_TIME_CHARS + 1);
    put_digits(out, 4, year);
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, days + 1);
    put_digits(out + 11, 2, left / 3600000);
    put_digits(out + 14, 2, left / 60000 % 60);
    put_digits(out + 17, 2, left / 1000 % 60);
    put_digits(out + 20, 3, left % 1000);
}

/* The take_ functions step over what they recognise; on false the text is refused as a whole. */
static bool take_digits(const char **p, int width, int64_t least, int64_t most, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < width; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return *out >= least && *out <= most;
}

static bool take_one_of(const char **p, const char *set)
{
    if (**p == '\0' || strchr(set, **p) == NULL)
        return false;
    (*p)++;
    return true;
}

static bool take_date(const char **p, int64_t *days)
{
    int64_t year, month, day;
    if (!take_digits(p, 4, 0, YEAR_LAST, &year) || !take_one_of(p, "-") ||
        !take_digits(p, 2, 1, 12, &month) || !take_one_of(p, "-") ||
        !take_digits(p, 2, 1, 31, &day))
        return false;
    /* One year earlier than the range: an offset may carry 1969-12-31 into it. */
    if (year < YEAR_FIRST - 1 || day > days_in_month(year, month))
        return false;
    *days = days_to_date(year, month, day);
    return true;
}

static void take_fraction(const char **p, int64_t *ms)
{
    for (int64_t unit = 100; **p >= '0' && **p <= '9'; (*p)++, unit /= 10)
        *ms += unit * (**p - '0');
}

static bool take_clock(const char **p, int64_t *ms, bool *leap_second)
{
    int64_t hour, minute, second;
    if (!take_digits(p, 2, 0, 23, &hour) || !take_one_of(p, ":") ||
        !take_digits(p, 2, 0, 59, &minute) || !take_one_of(p, ":") ||
        !take_digits(p, 2, 0, 60, &second))
        return false;
    *leap_second = second == 60;
    *ms = ((hour * 60 + minute) * 60 + second) * 1000;
    if (!take_one_of(p, "."))
        return true;
    if (**p < '0' || **p > '9')
        return false;
    take_fraction(p, ms);
    return true;
}

static bool take_offset(const char **p, int64_t *ms)
{
    int64_t hour, minute;
    *ms = 0;
    if (take_one_of(p, "Zz"))
        return true;
    int64_t sign = **p == '-' ? -1 : 1;
    if (!take_one_of(p, "+-") || !take_digits(p, 2, 0, 23, &hour) || !take_one_of(p, ":") ||
        !take_digits(p, 2, 0, 59, &minute))
        return false;
    *ms = sign * (hour * 60 + minute) * 60000;
    return true;
}

bool rfc3339_parse(const char *text, uint64_t *ms)
{
    const char *p = text;
    int64_t days, clock, offset;
    bool leap_second;

    if (!take_date(&p, &days) || !take_one_of(&p, "Tt ") || !take_clock(&p, &clock, &leap_second) ||
        !take_offset(&p, &offset) || *p != '\0')
        return false;
    int64_t sum = days * MS_PER_DAY + clock - offset;
    if (sum < 0 || sum > (int64_t)MS_LAST)
        return false;
    /* A leap second is inserted at the end of a UTC day only; it counts as the second after. */
    if (leap_second && sum % MS_PER_DAY >= 1000)
        return false;
    *ms = (uint64_t)sum;
    return true;
}

bool point_time_parse(const char *text, uint64_t *ms)
{
    char again[POINT_TIME_CHARS + 1];
    uint64_t parsed;
    if (!rfc3339_parse(text, &parsed))
        return false;
    point_time_format(parsed, again);
    if (strcmp(again, text) != 0)
        return false;
    *ms = parsed;
    return true;
}
