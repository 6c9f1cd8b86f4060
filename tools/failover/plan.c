/* SPDX-License-Identifier: MIT */
#include "tools/failover/plan.h"

#include <stdio.h>
#include <stdlib.h>

#define PLAN_BYTES_MAX (1u << 20)

static const char *const kind_names[] = {"group", "script", "pause"};

bool plan_make(const char *name, struct plan **out, struct err *err)
{
    if (!vm_name_valid(name))
        return err_set(err, ERR_INVALID,
                       "%.80s is no plan's name: lower-case letters, digits, and . _ - within",
                       name);
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    snprintf((*out)->name, sizeof(*out)->name, "%s", name);
    return true;
}

void plan_release(struct plan **p)
{
    free(TAKE(*p));
}

/* --- steps --- */

static size_t rows(const struct plan *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->step_count; i++)
        n += p->steps[i].kind == PLAN_GROUP ? p->steps[i].vm_count : 1;
    return n;
}

static bool add_step(struct plan *p, enum plan_kind kind, struct plan_step **out, struct err *err)
{
    if (p->step_count == PLAN_STEPS_MAX || rows(p) >= PLAN_ROWS_MAX)
        return err_set(err, ERR_INVALID, "a plan has at most %u steps and %u VMs", PLAN_STEPS_MAX,
                       PLAN_ROWS_MAX);
    *out = &p->steps[p->step_count++];
    **out = (struct plan_step){.kind = kind};
    return true;
}

static bool has_vm(const struct plan *p, const char *vm)
{
    for (size_t i = 0; i < p->step_count; i++)
        for (size_t k = 0; k < p->steps[i].vm_count; k++)
            if (strcmp(p->steps[i].vms[k], vm) == 0)
                return true;
    return false;
}

static bool add_vm(struct plan *p, struct plan_step *s, const char *vm, struct err *err)
{
    if (!vm_name_valid(vm))
        return err_set(err, ERR_INVALID, "\"%.80s\" is no VM's name", vm);
    if (has_vm(p, vm))
        return err_set(err, ERR_INVALID, "%s is in the plan twice", vm);
    if (s->vm_count == PLAN_VMS_MAX || rows(p) >= PLAN_ROWS_MAX)
        return err_set(err, ERR_INVALID, "a group has at most %u VMs, a plan %u", PLAN_VMS_MAX,
                       PLAN_ROWS_MAX);
    snprintf(s->vms[s->vm_count++], sizeof *s->vms, "%s", vm);
    return true;
}

bool plan_add_group(struct plan *p, const char *vms, struct err *err)
{
    struct plan_step *s;
    if (!add_step(p, PLAN_GROUP, &s, err))
        return false;
    for (const char *at = vms;; at++) {
        char vm[VM_NAME_MAX + 2];
        size_t length = strcspn(at, ",");
        snprintf(vm, sizeof vm, "%.*s", (int)(length < sizeof vm ? length : sizeof vm - 1), at);
        if (!add_vm(p, s, vm, err))
            return false;
        at += length;
        if (*at == '\0')
            return true;
    }
}

static bool set_text(struct plan_step *s, const char *what, const char *text, struct err *err)
{
    if (*text == '\0' || strlen(text) >= sizeof s->text || !label_valid(text))
        return err_set(err, ERR_INVALID, "a %s is one line of 1 to %zu characters", what,
                       sizeof s->text - 1);
    snprintf(s->text, sizeof s->text, "%s", text);
    return true;
}

bool plan_add_script(struct plan *p, const char *line, uint64_t timeout_s, struct err *err)
{
    struct plan_step *s;
    if (timeout_s == 0 || timeout_s > PLAN_TIMEOUT_MAX_S)
        return err_set(err, ERR_INVALID, "a script may take 1 to %u seconds", PLAN_TIMEOUT_MAX_S);
    if (!add_step(p, PLAN_SCRIPT, &s, err) || !set_text(s, "script", line, err))
        return false;
    s->timeout_s = timeout_s;
    return true;
}

bool plan_add_pause(struct plan *p, const char *question, struct err *err)
{
    struct plan_step *s;
    return add_step(p, PLAN_PAUSE, &s, err) && set_text(s, "pause", question, err);
}

/* --- JSON: {"name": ..., "steps": [{"group": [VM, ...]} | {"script": LINE, "timeout_seconds": N} |
 * {"pause": QUESTION}]} --- */

static bool read_group(const cJSON *j, struct plan *p, struct err *err)
{
    static const char *const known[] = {"group", NULL};
    const cJSON *array, *vm;
    struct plan_step *s;
    if (!json_only(j, known, err) || !json_array(j, "group", &array, err) ||
        !add_step(p, PLAN_GROUP, &s, err))
        return false;
    cJSON_ArrayForEach(vm, array)
    {
        if (!cJSON_IsString(vm))
            return err_set(err, ERR_INVALID, "a group holds names of VMs");
        if (!add_vm(p, s, vm->valuestring, err))
            return false;
    }
    return s->vm_count > 0 || err_set(err, ERR_INVALID, "a group is empty");
}

static bool read_step(const cJSON *j, struct plan *p, struct err *err)
{
    static const char *const script[] = {"script", "timeout_seconds", NULL};
    static const char *const pause[] = {"pause", NULL};
    const char *text;
    uint64_t timeout_s = PLAN_TIMEOUT_S;
    if (json_has(j, "group"))
        return read_group(j, p, err);
    if (json_has(j, "pause"))
        return json_only(j, pause, err) && json_text(j, "pause", &text, err) &&
               plan_add_pause(p, text, err);
    return json_only(j, script, err) && json_text(j, "script", &text, err) &&
           (!json_has(j, "timeout_seconds") || json_u64(j, "timeout_seconds", &timeout_s, err)) &&
           plan_add_script(p, text, timeout_s, err);
}

bool plan_read(const cJSON *j, struct plan *out, struct err *err)
{
    static const char *const known[] = {"name", "steps", NULL};
    const cJSON *steps, *step;
    const char *name;
    if (!json_only(j, known, err) || !json_text(j, "name", &name, err) ||
        !json_array(j, "steps", &steps, err))
        return false;
    if (strcmp(name, out->name) != 0)
        return err_set(err, ERR_INVALID, "\"name\" is not %s", out->name);
    cJSON_ArrayForEach(step, steps)
    {
        if (!read_step(step, out, err))
            return err_wrap(err, "step %u", out->step_count);
    }
    return out->step_count > 0 || err_set(err, ERR_INVALID, "a plan without a step");
}

static bool add_json_step(cJSON *array, const struct plan_step *s, struct err *err)
{
    cJSON *j, *vms;
    if (!json_append_object(array, &j, err))
        return false;
    if (s->kind != PLAN_GROUP)
        return json_add_text(j, kind_names[s->kind], s->text, err) &&
               (s->kind == PLAN_PAUSE || json_add_u64(j, "timeout_seconds", s->timeout_s, err));
    if (!json_add_array(j, "group", &vms, err))
        return false;
    for (size_t i = 0; i < s->vm_count; i++) {
        cJSON *vm = cJSON_CreateString(s->vms[i]);
        if (vm == NULL || !cJSON_AddItemToArray(vms, vm)) {
            cJSON_Delete(vm);
            return err_set(err, ERR_FULL, "out of memory");
        }
    }
    return true;
}

bool plan_json(const struct plan *p, cJSON **out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *steps;
    if (!json_make(&j, err) || !json_add_text(j, "name", p->name, err) ||
        !json_add_array(j, "steps", &steps, err))
        return false;
    for (size_t i = 0; i < p->step_count; i++)
        if (!add_json_step(steps, &p->steps[i], err))
            return false;
    *out = TAKE(j);
    return true;
}

/* --- files --- */

static void plan_path(const struct paths *p, const char *name, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/plans/%.*s.json", p->config, (int)PLAN_NAME_MAX, name);
}

bool plan_load(struct world *w, const struct paths *p, const char *name, struct plan **out,
               struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct plan *plan AUTO_PLAN = NULL;
    cJSON *j AUTO_JSON = NULL;
    char path[PATH_BYTES_MAX];
    if (!plan_make(name, &plan, err))
        return false;
    plan_path(p, name, path);
    if (!file_load(w, path, PLAN_BYTES_MAX, &text, err))
        return err_wrap(err, "no plan %s: farshore plan list shows them", name);
    if (!json_parse(buf_span(&text), &j, err) || !plan_read(j, plan, err))
        return err_wrap(err, "%s", path);
    *out = TAKE(plan);
    return true;
}

bool plan_save(struct world *w, const struct paths *p, const struct plan *plan, bool replace,
               struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;
    char path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s/plans", p->config);
    plan_path(p, plan->name, path);
    if (plan->step_count == 0)
        return err_set(err, ERR_INVALID, "a plan without a step: --group, --script, --pause");
    if (!plan_json(plan, &j, err) || !json_write(j, true, &text, err) ||
        !dir_make(w, folder, 0700, err))
        return false;
    buf_put(&text, "\n", 1);
    if (!buf_ok(&text, err))
        return false;
    if (replace)
        return file_replace(w, path, 0600, buf_span(&text), err);
    return file_create(w, path, 0600, buf_span(&text), err) ||
           err_wrap(err, "the plan %s (--replace takes its place)", plan->name);
}

bool plan_remove(struct world *w, const struct paths *p, const char *name, struct err *err)
{
    struct plan *plan AUTO_PLAN = NULL;
    char path[PATH_BYTES_MAX];
    plan_path(p, name, path);
    return plan_load(w, p, name, &plan, err) && file_remove(w, path, err);
}

bool plan_names(const struct paths *p, struct vm_names *out, struct err *err)
{
    return config_names_list(p, "plans", out, err);
}
