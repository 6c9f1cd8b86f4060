/* SPDX-License-Identifier: MIT
 * Recovery plans: CONFIG/plans/NAME.json, strict JSON. Steps in order: a group of VMs that go
 * together, a script, or a pause in which a person decides. plan_run.h runs them. Plain structs,
 * made and released; one thread. */
#ifndef TOOLS_FAILOVER_PLAN_H
#define TOOLS_FAILOVER_PLAN_H

#include "common/json.h"
#include "tools/config.h"

#define PLAN_NAME_MAX      64u /* with the NUL; the rule of VM names */
#define PLAN_STEPS_MAX     64u
#define PLAN_VMS_MAX       64u   /* in a group */
#define PLAN_ROWS_MAX      512u  /* VMs, scripts and pauses of a plan */
#define PLAN_TEXT_MAX      1024u /* of a script's line or a pause's question, with the NUL */
#define PLAN_TIMEOUT_S     600u  /* of a script, unless told */
#define PLAN_TIMEOUT_MAX_S 86400u

enum plan_kind { PLAN_GROUP, PLAN_SCRIPT, PLAN_PAUSE };

struct plan_step {
    enum plan_kind kind;
    char text[PLAN_TEXT_MAX]; /* for /bin/sh -c, or what to ask */
    uint64_t timeout_s;       /* of a script */
    uint16_t vm_count;
    char vms[PLAN_VMS_MAX][VM_NAME_MAX + 1];
};

struct plan {
    char name[PLAN_NAME_MAX];
    uint16_t step_count;
    struct plan_step steps[PLAN_STEPS_MAX];
};

bool plan_make(const char *name, struct plan **out, struct err *err) MUST_CHECK; /* no steps */
void plan_release(struct plan **p);
#define AUTO_PLAN CLEANUP(plan_release)

/* `vms`: names with a comma between. ERR_INVALID also when a VM is in the plan already. */
bool plan_add_group(struct plan *p, const char *vms, struct err *err) MUST_CHECK;
bool plan_add_script(struct plan *p, const char *line, uint64_t timeout_s,
                     struct err *err) MUST_CHECK;
bool plan_add_pause(struct plan *p, const char *question, struct err *err) MUST_CHECK;

/* As a member of another tree, and as a file's text. */
bool plan_read(const cJSON *j, struct plan *out, struct err *err) MUST_CHECK;
bool plan_json(const struct plan *p, cJSON **out, struct err *err) MUST_CHECK;

bool plan_load(struct world *w, const struct paths *p, const char *name, struct plan **out,
               struct err *err) MUST_CHECK;
/* ERR_EXISTS: there is one and not `replace`. */
bool plan_save(struct world *w, const struct paths *p, const struct plan *plan, bool replace,
               struct err *err) MUST_CHECK;
bool plan_remove(struct world *w, const struct paths *p, const char *name,
                 struct err *err) MUST_CHECK;
/* In byte order. */
bool plan_names(const struct paths *p, struct vm_names *out, struct err *err) MUST_CHECK;

#endif
