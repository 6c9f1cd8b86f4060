/* SPDX-License-Identifier: MIT
 * A verb's command line by table: each option has its help text beside it, so that --help is
 * generated and the manual pages can be checked against it. Long options only: `--name`,
 * `--name=value`, `--name value` (a required value); `--` ends them; options and operands mix. No
 * abbreviations: a script keeps its meaning when options are added.
 * Plain values that borrow argv; one thread. */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_GIVEN_MAX 128u
#define OPERANDS_MAX      256u

struct option_spec {
    const char *name;    /* without the dashes */
    const char *value;   /* what --help calls it; NULL: a flag */
    bool value_optional; /* then only as --name=value */
    bool many;           /* may be given more than once */
    const char *help;
};

#define OPTIONS_END                                                                                \
    {                                                                                              \
        .name = NULL                                                                               \
    }

struct options {
    const struct option_spec *specs;
    struct {
        const struct option_spec *spec;
        const char *value; /* NULL: none given */
    } given[OPTIONS_GIVEN_MAX];
    size_t given_count;
    const char *operands[OPERANDS_MAX];
    size_t operand_count;
    bool help; /* --help or -h was seen; nothing else is checked then */
};

/* ERR_INVALID says which word is wrong. `argv` without the program's and the verb's name. */
bool options_parse(const struct option_spec *specs, int argc, char **argv, struct options *out,
                   struct err *err) MUST_CHECK;

/* `name` is in the table (asserted). */
size_t option_count(const struct options *o, const char *name);
bool option_given(const struct options *o, const char *name);
/* Value `index` of those given, or NULL. */
const char *option_value(const struct options *o, const char *name, size_t index);
/* A whole number within [least, most]; `fallback` when not given. */
bool option_number(const struct options *o, const char *name, uint64_t fallback, uint64_t least,
                   uint64_t most, uint64_t *out, struct err *err) MUST_CHECK;

/* Bytes, or a whole number with K, M, G or T (of 1024); 1 to `most`. */
bool size_parse(const char *text, uint64_t most, uint64_t *out, struct err *err) MUST_CHECK;

/* The options part of --help. */
void options_print(const struct option_spec *specs, FILE *out);

#endif
