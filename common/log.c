/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rfc3339.h"
#include "common/world.h"

#define LOG_LINE_MAX 2048u

/* Error texts carry bytes from stores and files: nothing in them may start a line of its own or
 * steer a terminal. */
static void make_printable(char *text)
{
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

__attribute__((format(printf, 2, 0))) static void write_line(const char *level, const char *format,
                                                             va_list args)
{
    char line[LOG_LINE_MAX];
    char when[POINT_TIME_CHARS + 1];
    struct world *w = world_real();

    point_time_format(w->ops->realtime_ns(w) / 1000000, when);
    int head = snprintf(line, sizeof line, "%s %s ", when, level);
    size_t room = sizeof line - (size_t)head - 1; /* keeps one byte for the newline */
    vsnprintf(line + head, room, format, args);
    make_printable(line);
    size_t length = strlen(line);
    line[length++] = '\n';
    /* One call keeps the line whole. A log that cannot be written has nowhere to say so. */
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        write_line(level, format, args);                                                           \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, "error")
LOG_FUNCTION(log_warning, "warning")
LOG_FUNCTION(log_info, "info")

void log_debug(const char *format, ...)
{
    const char *wanted = getenv("FARSHORE_DEBUG");
    if (wanted == NULL || strcmp(wanted, "1") != 0)
        return;
    va_list args;
    va_start(args, format);
    write_line("debug", format, args);
    va_end(args);
}
