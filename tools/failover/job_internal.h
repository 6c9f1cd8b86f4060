/* SPDX-License-Identifier: MIT
 * What the files of job.h share. No one else includes this header. */
#ifndef TOOLS_FAILOVER_JOB_INTERNAL_H
#define TOOLS_FAILOVER_JOB_INTERNAL_H

#include "tools/failover/job.h"

/* Asks nothing of the store. */
void job_log_begin(struct doclog *l, const struct doclog_vault *v, const char *id);
/* The newest entry. ERR_NOT_FOUND: no such job. */
bool job_log_newest(struct doclog *l, const char *id, struct job **out, struct err *err) MUST_CHECK;
/* The text of a newer entry. */
bool job_log_parse(const struct doclog *l, struct span text, struct job **out,
                   struct err *err) MUST_CHECK;
/* Errors are those of doclog_append. */
bool job_log_append(struct doclog *l, struct job *j, struct err *err) MUST_CHECK;

/* A job as it is asked for, without id. */
bool job_from_request(const struct doclog_vault *v, const struct job_request *r, struct job **out,
                      struct err *err) MUST_CHECK;
/* Gives it an id and puts entry 0. */
bool job_put_first(struct doclog *l, const struct doclog_vault *v, struct job *j,
                   struct err *err) MUST_CHECK;

uint64_t job_now_ms(const struct doclog_vault *v);
/* Copies with what no document may hold replaced; cut to `size`. */
void job_text(const char *from, char *to, size_t size);

#endif
