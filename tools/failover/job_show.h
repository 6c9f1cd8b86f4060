/* SPDX-License-Identifier: MIT
 * A job's steps on a terminal or in a log: a line for each that begins or says something new, and a
 * progress line that rewrites itself where there is a terminal. One thread. */
#ifndef TOOLS_FAILOVER_JOB_SHOW_H
#define TOOLS_FAILOVER_JOB_SHOW_H

#include "tools/failover/job.h"

#include <stdio.h>

struct job_shower {
    FILE *out;
    bool terminal;
    bool open_line; /* a progress line without its end */
    char shown[JOB_NAME_MAX + JOB_TEXT_MAX + 8];
};

struct job_shower job_shower_begin(FILE *out);
/* A job_show_fn; `context` is a struct job_shower. */
void job_shower_show(void *context, const struct job *j);
void job_shower_end(struct job_shower *s);

#endif
