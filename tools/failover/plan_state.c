/* SPDX-License-Identifier: MIT
 * The state of a plan's run as a file. */
#include "tools/failover/plan_run_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define RUN_BYTES_MAX (4u << 20)

static const char *const mode_names[PLAN_MODES] = {"test",    "planned", "unplanned",
                                                   "cleanup", "commit",  "reprotect"};
static const char *const state_names[] = {"waiting", "running", "paused", "failed", "done"};

const char *plan_mode_name(enum plan_mode m)
{
    return mode_names[m];
}

const char *plan_state_name(enum plan_state s)
{
    return state_names[s];
}

uint64_t plan_now_ms(const struct plan_runner *x)
{
    return x->world->ops->realtime_ns(x->world) / 1000000;
}

void plan_run_release(struct plan_run **r)
{
    if (*r == NULL)
        return;
    plan_release(&(*r)->plan);
    free(TAKE(*r));
}

void plan_run_path(const struct paths *p, const char *name, const char *ending,
                   char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/plans/%.*s.%s", p->state, (int)PLAN_NAME_MAX, name, ending);
}

/* --- writing --- */

static bool add_row(cJSON *array, const struct plan_row *row, struct err *err)
{
    cJSON *j;
    return json_append_object(array, &j, err) && json_add_u64(j, "step", row->step, err) &&
           json_add_text(j, "vm", row->vm, err) &&
           json_add_text(j, "state", state_names[row->state], err) &&
           json_add_u64(j, "began_ms", row->began_ms, err) &&
           json_add_u64(j, "ended_ms", row->ended_ms, err) &&
           json_add_u64(j, "pid", row->pid, err) &&
           json_add_u64(j, "pid_start", row->pid_start, err) &&
           json_add_u64(j, "attempts", row->attempts, err) &&
           json_add_text(j, "text", row->text, err);
}

/* Moves a tree into a member. */
static bool give(cJSON *object, const char *name, cJSON **member, struct err *err)
{
    if (!cJSON_AddItemToObject(object, name, *member))
        return err_set(err, ERR_FULL, "out of memory");
    *member = NULL;
    return true;
}

static bool run_tree(const struct plan_run *r, cJSON **out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *plan AUTO_JSON = NULL;
    cJSON *rows;
    if (!json_make(&j, err) || !json_add_u64(j, "version", 1, err) ||
        !plan_json(r->plan, &plan, err) || !give(j, "plan", &plan, err) ||
        !json_add_text(j, "mode", mode_names[r->mode], err) ||
        !json_add_text(j, "point", r->point, err) ||
        !json_add_text(j, "state", state_names[r->state], err) ||
        !json_add_u64(j, "began_ms", r->began_ms, err) ||
        !json_add_u64(j, "ended_ms", r->ended_ms, err) ||
        !json_add_u64(j, "paused_ms", r->paused_ms, err) || !json_add_array(j, "rows", &rows, err))
        return false;
    for (size_t i = 0; i < r->row_count; i++)
        if (!add_row(rows, &r->rows[i], err))
            return false;
    *out = TAKE(j);
    return true;
}

bool plan_run_json(const struct plan_run *r, uint64_t now_ms, cJSON **out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    uint64_t end = r->ended_ms != 0 ? r->ended_ms : now_ms;
    uint64_t took = end > r->began_ms ? end - r->began_ms : 0;
    if (!run_tree(r, &j, err) || !json_add_u64(j, "took_ms", took, err) ||
        !json_add_u64(j, "rto_ms", took > r->paused_ms ? took - r->paused_ms : 0, err))
        return false;
    *out = TAKE(j);
    return true;
}

bool plan_run_save(const struct plan_runner *x, const struct plan_run *r, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    char path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s/plans", x->paths->state);
    plan_run_path(x->paths, r->plan->name, "json", path);
    return run_tree(r, &j, err) && json_write(j, true, &text, err) &&
           dir_make(x->world, folder, 0700, err) &&
           file_replace(x->world, path, 0600, buf_span(&text), err);
}

/* --- reading --- */

static bool word_of(const cJSON *j, const char *name, const char *const *words, int count, int *out,
                    struct err *err)
{
    const char *text;
    if (!json_text(j, name, &text, err))
        return false;
    for (*out = 0; *out < count; (*out)++)
        if (strcmp(text, words[*out]) == 0)
            return true;
    return err_set(err, ERR_INVALID, "\"%s\" is none of its words", name);
}

static bool read_row(const cJSON *j, struct plan_run *r, struct err *err)
{
    struct plan_row *row = &r->rows[r->row_count];
    uint64_t step, attempts;
    int state;
    if (r->row_count == PLAN_ROWS_MAX)
        return err_set(err, ERR_INVALID, "more than %u rows", PLAN_ROWS_MAX);
    if (!json_u64(j, "step", &step, err) || !json_u64(j, "attempts", &attempts, err) ||
        !json_copy(j, "vm", row->vm, sizeof row->vm, err) ||
        !word_of(j, "state", state_names, PLAN_DONE + 1, &state, err) ||
        !json_u64(j, "began_ms", &row->began_ms, err) ||
        !json_u64(j, "ended_ms", &row->ended_ms, err) || !json_u64(j, "pid", &row->pid, err) ||
        !json_u64(j, "pid_start", &row->pid_start, err) ||
        !json_copy(j, "text", row->text, sizeof row->text, err))
        return false;
    if (step >= r->plan->step_count)
        return err_set(err, ERR_INVALID, "a row of no step");
    row->step = (uint16_t)step;
    row->attempts = (uint32_t)attempts;
    row->state = (enum plan_state)state;
    r->row_count++;
    return true;
}

static bool read_run(const cJSON *j, struct plan_run *r, struct err *err)
{
    const cJSON *plan, *rows, *row;
    uint64_t version;
    int mode, state;
    if (!json_u64(j, "version", &version, err) || !json_object(j, "plan", &plan, err) ||
        !plan_read(plan, r->plan, err) || !word_of(j, "mode", mode_names, PLAN_MODES, &mode, err) ||
        !word_of(j, "state", state_names, PLAN_DONE + 1, &state, err) ||
        !json_copy(j, "point", r->point, sizeof r->point, err) ||
        !json_u64(j, "began_ms", &r->began_ms, err) ||
        !json_u64(j, "ended_ms", &r->ended_ms, err) ||
        !json_u64(j, "paused_ms", &r->paused_ms, err) || !json_array(j, "rows", &rows, err))
        return false;
    r->mode = (enum plan_mode)mode;
    r->state = (enum plan_state)state;
    cJSON_ArrayForEach(row, rows)
    {
        if (!read_row(row, r, err))
            return false;
    }
    return version == 1 || err_set(err, ERR_INVALID, "of a version that this farshore lacks");
}

bool plan_run_load(const struct plan_runner *x, const char *name, struct plan_run **out,
                   struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    struct plan_run *r AUTO_PLAN_RUN = calloc(1, sizeof *r);
    struct err why = ERR_NONE;
    char path[PATH_BYTES_MAX];
    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!plan_make(name, &r->plan, err))
        return false;
    plan_run_path(x->paths, name, "json", path);
    if (!file_load(x->world, path, RUN_BYTES_MAX, &text, &why)) {
        if (why.kind == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "the plan %s has not been run here", name);
        if (err != NULL)
            *err = why;
        return false;
    }
    if (!json_parse(buf_span(&text), &j, err) || !read_run(j, r, err))
        return err_wrap(err, "%s", path);
    *out = TAKE(r);
    return true;
}
