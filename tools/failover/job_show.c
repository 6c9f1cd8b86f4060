/* SPDX-License-Identifier: MIT */
#include "tools/failover/job_show.h"

#include "tools/output.h"

#include <unistd.h>

struct job_shower job_shower_begin(FILE *out)
{
    return (struct job_shower){.out = out, .terminal = isatty(fileno(out)) == 1};
}

void job_shower_end(struct job_shower *s)
{
    if (s->open_line)
        fputc('\n', s->out);
    s->open_line = false;
    fflush(s->out);
}

void job_shower_show(void *context, const struct job *j)
{
    struct job_shower *s = context;
    char line[sizeof s->shown], progress[160];
    if (j->step_count == 0)
        return;
    const struct job_step *step = &j->steps[j->step_count - 1];
    snprintf(line, sizeof line, "%s%s%s", step->name, step->text[0] ? ": " : "", step->text);
    if (strcmp(line, s->shown) != 0) {
        job_shower_end(s);
        fprintf(s->out, "%s\n", line);
        fflush(s->out);
        snprintf(s->shown, sizeof s->shown, "%s", line);
    }
    if (!s->terminal || step->total == 0)
        return;
    uint64_t elapsed_ms = step->changed_ms > step->began_ms ? step->changed_ms - step->began_ms : 0;
    progress_format(step->name, step->done, step->total, elapsed_ms * 1000000, progress);
    fprintf(s->out, "\r%-78s", progress);
    s->open_line = true;
    fflush(s->out);
}
