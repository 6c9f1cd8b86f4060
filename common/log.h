/* SPDX-License-Identifier: MIT
 * One line per event, on standard error: RFC 3339 time, level, text. Any thread may call; a line
 * is written whole. Never pass a secret. Levels: an error wants a person, a warning may want one,
 * info is a change of state, debug (FARSHORE_DEBUG=1) is for the people who build farshore. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/err.h"

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
