/* SPDX-License-Identifier: MIT */
#include "tools/failover/child.h"
#include "tools/failover/plan_run_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

#define LOOK_MS       100u
#define KILL_MS       5000u
#define OUTPUT_KEEP   4096u
#define ARGUMENTS_MAX 8u

/* --- a new run --- */

static bool add_row(struct plan_run *r, size_t step, const char *vm, struct err *err)
{
    if (r->row_count == PLAN_ROWS_MAX)
        return err_set(err, ERR_INVALID, "a plan has at most %u VMs, scripts and pauses",
                       PLAN_ROWS_MAX);
    struct plan_row *row = &r->rows[r->row_count++];
    row->step = (uint16_t)step;
    snprintf(row->vm, sizeof row->vm, "%s", vm);
    return true;
}

static bool add_step(struct plan_run *r, size_t step, struct err *err)
{
    const struct plan_step *s = &r->plan->steps[step];
    if (s->kind != PLAN_GROUP)
        return r->mode > PLAN_UNPLANNED || add_row(r, step, "", err);
    for (size_t i = 0; i < s->vm_count; i++)
        if (!add_row(r, step, s->vms[i], err))
            return false;
    return true;
}

static bool add_rows(struct plan_run *r, struct err *err)
{
    size_t count = r->plan->step_count;
    for (size_t i = 0; i < count; i++)
        if (!add_step(r, r->mode == PLAN_CLEANUP ? count - 1 - i : i, err))
            return false;
    return r->row_count > 0 || err_set(err, ERR_INVALID, "the plan %s has no VM to %s",
                                       r->plan->name, plan_mode_name(r->mode));
}

/* Held by who changes the state of a plan's run. */
static bool lock(const struct plan_runner *x, const char *name, int *fd, struct err *err)
{
    char path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s/plans", x->paths->state);
    plan_run_path(x->paths, name, "lock", path);
    if (!dir_make(x->world, folder, 0700, err))
        return false;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_errno(err, errno, "%s", path);
    return flock(*fd, LOCK_EX | LOCK_NB) == 0 ||
           err_set(err, ERR_BUSY, "the plan %s is being run by another process", name);
}

static bool may_begin(const struct plan_runner *x, const char *name, bool anew, struct err *err)
{
    struct plan_run *before AUTO_PLAN_RUN = NULL;
    struct err why = ERR_NONE;
    if (anew)
        return true;
    if (!plan_run_load(x, name, &before, &why))
        return why.kind == ERR_NOT_FOUND ||
               err_set(err, why.kind, "%s (--anew begins without it)", why.text);
    return before->state == PLAN_DONE ||
           err_set(err, ERR_BUSY,
                   "the %s run of plan %s is %s: farshore plan continue %s, or --anew to leave it "
                   "as it is and begin another",
                   plan_mode_name(before->mode), name, plan_state_name(before->state), name);
}

bool plan_run_begin(const struct plan_runner *x, struct plan **plan, enum plan_mode mode,
                    const char *point, bool anew, struct err *err)
{
    int fd AUTO_FD = -1;
    struct plan_run *r AUTO_PLAN_RUN = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    r->plan = TAKE(*plan);
    r->mode = mode;
    r->began_ms = plan_now_ms(x);
    snprintf(r->point, sizeof r->point, "%s", point != NULL ? point : "");
    return lock(x, r->plan->name, &fd, err) && may_begin(x, r->plan->name, anew, err) &&
           add_rows(r, err) && plan_run_save(x, r, err);
}

/* --- one row --- */

static bool start_process(const struct plan_runner *x, const struct plan_run *r,
                          const struct plan_row *row, int output, pid_t *pid, struct err *err)
{
    static const char *const verbs[PLAN_MODES] = {"test-failover", "failover", "failover",
                                                  "cleanup",       "commit",   "reprotect"};
    const struct plan_step *s = &r->plan->steps[row->step];
    const char *arguments[ARGUMENTS_MAX] = {verbs[r->mode], row->vm};
    size_t count = 2;
    if (s->kind == PLAN_SCRIPT) {
        const char *const line[] = {"-c", s->text, NULL};
        const struct child_program shell = {.path = "/bin/sh", .arguments = line, .output = output};
        setenv("FARSHORE_PLAN", r->plan->name, 1);
        setenv("FARSHORE_PLAN_MODE", plan_mode_name(r->mode), 1);
        return child_start_program(&shell, pid, err);
    }
    if (r->mode == PLAN_PLANNED)
        arguments[count++] = "--planned";
    if (r->point[0] != '\0' && r->mode <= PLAN_UNPLANNED) {
        arguments[count++] = "--point";
        arguments[count++] = r->point;
    }
    const struct child_program verb = {
        .path = x->program, .arguments = arguments, .output = output};
    return child_start_program(&verb, pid, err);
}

static void output_path(const struct plan_runner *x, const struct plan_run *r,
                        const struct plan_row *row, char out[PATH_BYTES_MAX])
{
    char ending[32];
    snprintf(ending, sizeof ending, "%zu.log", (size_t)(row - r->rows));
    plan_run_path(x->paths, r->plan->name, ending, out);
}

/* The last line that it said goes into the row. */
static void keep_last_line(const struct plan_runner *x, const struct plan_run *r,
                           struct plan_row *row, const char *how)
{
    char path[PATH_BYTES_MAX], text[OUTPUT_KEEP + 1];
    output_path(x, r, row, path);
    int fd AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    ssize_t n =
        fd < 0 ? 0 : pread(fd, text, OUTPUT_KEEP, size > OUTPUT_KEEP ? size - OUTPUT_KEEP : 0);
    size_t length = n > 0 ? (size_t)n : 0;
    while (length > 0 && text[length - 1] == '\n')
        length--;
    text[length] = '\0';
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    snprintf(row->text, sizeof row->text, "%s%s%s", how, *line ? ": " : "", line);
    for (char *p = row->text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            *p = '?'; /* it goes into JSON, and to a terminal */
}

/* --- going on --- */

struct go {
    const struct plan_runner *x;
    struct plan_run *r;
    struct err *err;
};

static bool changed(struct go *g, struct plan_row *row)
{
    if (!plan_run_save(g->x, g->r, g->err))
        return false;
    if (g->x->show != NULL)
        g->x->show(g->x->context, g->r, row);
    return true;
}

/* Started, and the state says so before anything is waited for: after a kill the process is found
 * again. Killed between the two, the verb is run twice, and the second is refused or resumes. */
static bool start_row(struct go *g, struct plan_row *row)
{
    char path[PATH_BYTES_MAX];
    pid_t pid;
    output_path(g->x, g->r, row, path);
    int output AUTO_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (output < 0)
        return err_errno(g->err, errno, "%s", path);
    row->state = PLAN_RUNNING;
    row->began_ms = plan_now_ms(g->x);
    row->ended_ms = 0;
    row->text[0] = '\0';
    row->attempts++;
    if (!start_process(g->x, g->r, row, output, &pid, g->err))
        return false;
    row->pid = (uint64_t)pid;
    if (!process_start_time(row->pid, &row->pid_start))
        row->pid_start = 0;
    return changed(g, row);
}

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
}

static bool is_alive(const struct plan_row *row)
{
    uint64_t start;
    return row->pid != 0 && process_start_time(row->pid, &start) && start == row->pid_start;
}

static bool end_row(struct go *g, struct plan_row *row, bool good, const char *how)
{
    row->state = good ? PLAN_DONE : PLAN_FAILED;
    row->ended_ms = plan_now_ms(g->x);
    row->pid = 0;
    if (!good)
        keep_last_line(g->x, g->r, row, how);
    return changed(g, row);
}

static bool is_late(const struct go *g, const struct plan_row *row)
{
    const struct plan_step *s = &g->r->plan->steps[row->step];
    return s->kind == PLAN_SCRIPT && plan_now_ms(g->x) >= row->began_ms + s->timeout_s * 1000;
}

/* With all that it started, whoever's child it is. */
static bool end_late(struct go *g, struct plan_row *row)
{
    pid_t pid = (pid_t)row->pid;
    kill(-pid, SIGTERM);
    child_stop(pid, KILL_MS);
    kill(-pid, SIGKILL);
    return end_row(g, row, false, "it did not end in time");
}

static bool look_at_row(struct go *g, struct plan_row *row)
{
    char how[32];
    if (child_ended((pid_t)row->pid, how, sizeof how))
        return end_row(g, row, strcmp(how, "exit 0") == 0, how);
    return !is_late(g, row) || end_late(g, row);
}

/* A row that was running when an earlier process of this run was killed: its own process may go on
 * still, and is nobody's child. */
static bool adopt_row(struct go *g, struct plan_row *row)
{
    bool script = g->r->plan->steps[row->step].kind == PLAN_SCRIPT;
    while (is_alive(row)) {
        if (is_late(g, row))
            return end_late(g, row);
        pause_a_little();
    }
    if (!script && g->x->reached(g->x->context, row->vm, g->r->mode, row->began_ms))
        return end_row(g, row, true, "");
    row->state = PLAN_WAITING;
    row->pid = 0;
    return changed(g, row);
}

/* The rows of one step: [first, end). */
struct part {
    size_t first, end;
};

static size_t count_in(const struct go *g, struct part p, enum plan_state s)
{
    size_t n = 0;
    for (size_t i = p.first; i < p.end; i++)
        n += g->r->rows[i].state == s;
    return n;
}

static bool run_rows(struct go *g, struct part p)
{
    for (size_t i = p.first; i < p.end; i++)
        if (g->r->rows[i].state == PLAN_FAILED)
            g->r->rows[i].state = PLAN_WAITING;
    for (size_t i = p.first; i < p.end; i++)
        if (g->r->rows[i].state == PLAN_RUNNING && !adopt_row(g, &g->r->rows[i]))
            return false;
    while (count_in(g, p, PLAN_WAITING) + count_in(g, p, PLAN_RUNNING) > 0) {
        for (size_t i = p.first; i < p.end; i++) {
            struct plan_row *row = &g->r->rows[i];
            bool good = row->state == PLAN_RUNNING ? look_at_row(g, row) : true;
            if (row->state == PLAN_WAITING && count_in(g, p, PLAN_RUNNING) < PLAN_AT_ONCE)
                good = start_row(g, row);
            if (!good)
                return false;
        }
        pause_a_little();
    }
    return true;
}

/* Where the run stands at a pause. *stop: it waits for a person. */
static bool run_pause(struct go *g, struct plan_row *row, bool *answered, bool *stop)
{
    if (row->state == PLAN_PAUSED && *answered) {
        *answered = false;
        row->state = PLAN_DONE;
        row->ended_ms = plan_now_ms(g->x);
        g->r->paused_ms += row->ended_ms > row->began_ms ? row->ended_ms - row->began_ms : 0;
        return changed(g, row);
    }
    if (row->state != PLAN_PAUSED)
        row->began_ms = plan_now_ms(g->x);
    row->state = g->r->state = PLAN_PAUSED;
    *stop = true;
    return changed(g, row);
}

static bool failed_at(struct go *g, struct part p)
{
    for (size_t i = p.first; i < p.end; i++) {
        const struct plan_row *row = &g->r->rows[i];
        if (row->state == PLAN_FAILED)
            return err_set(g->err, ERR_IO, "the plan %s stopped at step %u: %s: %s",
                           g->r->plan->name, row->step + 1u, row->vm[0] ? row->vm : "script",
                           row->text);
    }
    return false;
}

static bool run_step(struct go *g, struct part p, bool *answered, bool *stop)
{
    struct plan_row *first = &g->r->rows[p.first];
    if (count_in(g, p, PLAN_DONE) == p.end - p.first)
        return true;
    if (g->r->plan->steps[first->step].kind == PLAN_PAUSE)
        return run_pause(g, first, answered, stop);
    if (!run_rows(g, p))
        return false;
    if (count_in(g, p, PLAN_FAILED) == 0)
        return true;
    g->r->state = PLAN_FAILED;
    g->r->ended_ms = plan_now_ms(g->x);
    return changed(g, first) && failed_at(g, p);
}

static bool run_all(struct go *g, bool answered)
{
    struct plan_run *r = g->r;
    bool stop = false;
    r->state = PLAN_RUNNING;
    r->ended_ms = 0;
    for (struct part p = {0, 0}; p.first < r->row_count && !stop; p.first = p.end) {
        while (p.end < r->row_count && r->rows[p.end].step == r->rows[p.first].step)
            p.end++;
        if (!run_step(g, p, &answered, &stop))
            return false;
    }
    if (stop)
        return true;
    r->state = PLAN_DONE;
    r->ended_ms = plan_now_ms(g->x);
    return changed(g, NULL);
}

bool plan_run_go(const struct plan_runner *x, const char *name, bool answered,
                 struct plan_run **out, struct err *err)
{
    int fd AUTO_FD = -1;
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    struct err why = ERR_NONE;
    struct go g = {.x = x, .err = &why};
    *out = NULL;
    if (!lock(x, name, &fd, err) || !plan_run_load(x, name, &r, err))
        return false;
    g.r = r;
    bool good = r->state == PLAN_DONE || run_all(&g, answered);
    if (!good && err != NULL)
        *err = why;
    *out = TAKE(r);
    return good;
}
