/* SPDX-License-Identifier: MIT
 * What a validation found: each finding says what is wrong and what to do. A plain list; one
 * thread. */
#ifndef TOOLS_FAILOVER_FINDINGS_H
#define TOOLS_FAILOVER_FINDINGS_H

#include "common/json.h"

#define FINDINGS_MAX     64u
#define FINDING_TEXT_MAX 320u

struct finding {
    bool error; /* a failover would not work; else it would, but not as people may think */
    char text[FINDING_TEXT_MAX];
};

struct findings {
    size_t count;
    struct finding rows[FINDINGS_MAX];
};

/* One too many is left out: the first ones are enough to do. */
void finding_add(struct findings *f, bool error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t findings_errors(const struct findings *f);
/* The first error, and how many more there are; what a verb refuses with. */
bool findings_refuse(const struct findings *f, const char *vm, struct err *err) MUST_CHECK;

/* An array of {"error", "text"}, both ways. */
bool findings_write(cJSON *object, const char *name, const struct findings *f,
                    struct err *err) MUST_CHECK;
bool findings_read(const cJSON *object, const char *name, struct findings *out,
                   struct err *err) MUST_CHECK;

#endif
