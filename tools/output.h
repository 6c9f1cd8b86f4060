/* SPDX-License-Identifier: MIT
 * What people read: tables, sizes, ages, a progress line. No colour; the progress line appears on
 * a terminal only, so that a pipe gets results and nothing else. Scripts use --json. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include "common/amount.h"
#include "common/json.h"
#include "common/world.h"

#include <stdio.h>

/* A word as a shell takes it: in quotes where it needs them. Cut to `size`. */
void shell_quote(const char *word, char *out, size_t size);

/* Cells are added row by row; columns are as wide as their widest cell. */
struct table;
/* `heads` ends with NULL; a head that starts with '>' is a column of numbers, set to the right. */
struct table *table_make(const char *const *heads); /* NULL: out of memory */
void table_release(struct table **t);
#define AUTO_TABLE CLEANUP(table_release)
bool table_cell(struct table *t, const char *format, ...)
    __attribute__((format(printf, 2, 3))) MUST_CHECK;
/* Rows as far as they are whole. Control characters in cells are shown as `?`. */
void table_print(const struct table *t, FILE *out);

/* Indented JSON and a newline on standard output. */
bool json_print(const cJSON *j, struct err *err) MUST_CHECK;

/* One line that rewrites itself, a few times a second, on a terminal. */
struct progress {
    FILE *out; /* NULL: say nothing */
    struct world *world;
    const char *what;
    uint64_t begun_ns, shown_ns;
};
struct progress progress_begin(struct world *w, FILE *out, const char *what);
/* Matches view_verify's callback: `context` is a struct progress. */
void progress_show(void *context, uint64_t done, uint64_t total);
void progress_end(struct progress *p);
/* The text alone: "verify: 1.2 GiB of 4.0 GiB, 200 MiB/s, 14 s left". */
void progress_format(const char *what, uint64_t done, uint64_t total, uint64_t elapsed_ns,
                     char out[160]);

#endif
