/* SPDX-License-Identifier: MIT */
#include "tools/failover/availability.h"

#include "tools/failover/dispatch.h"

#include <stdio.h>
#include <string.h>

struct members {
    size_t count;
    struct placement_member rows[PLACEMENT_MEMBERS_MAX];
    char silent[VM_NAME_MAX + 1]; /* one that could not be asked; "": all could */
};

/* Where it runs, or is being started. */
static const char *host_of(const struct protection *p)
{
    bool starting = (p->state == PROTECTION_FAILED_OVER || p->state == PROTECTION_FAILING_BACK) &&
                    p->failover.started_ms == 0 && p->failover.host[0] != '\0';
    return starting ? p->failover.host : p->source_host;
}

static bool look(const struct verb_call *call, const char *name, struct protection **out,
                 struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    if (!vm_load(call, name, &vm, err) || !vm_open_targets(&vm, VM_GLANCES, err))
        return false;
    const struct doclog_vault vault = vm_vault(&vm);
    return protection_load(&vault, out, err);
}

static void add(const struct verb_call *call, const char *name, const char *set, struct members *m)
{
    struct protection *p AUTO_PROTECTION = NULL;
    struct err silent = ERR_NONE;
    if (!look(call, name, &p, &silent)) {
        snprintf(m->silent, sizeof m->silent, "%s", name);
        return;
    }
    const char *its = target_setting(&p->settings, "availability-set");
    if (its == NULL || strcmp(its, set) != 0 || m->count == PLACEMENT_MEMBERS_MAX)
        return;
    struct placement_member *row = &m->rows[m->count++];
    snprintf(row->vm, sizeof row->vm, "%s", name);
    snprintf(row->host, sizeof row->host, "%s", host_of(p));
}

static bool collect(const struct verb_call *call, const char *vm, const char *set,
                    struct members *m, struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    if (set == NULL)
        return true;
    if (!vm_names_list(call->paths, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++)
        if (strcmp(names.names[i], vm) != 0)
            add(call, names.names[i], set, m);
    return true;
}

bool availability_choose(const struct verb_call *call, const char *vm, const struct protection *p,
                         const char *asked, bool strict, struct placement *out, struct err *err)
{
    char names[PLACEMENT_HOSTS_MAX][HOST_NAME_CHARS_MAX + 1];
    const char *hosts[PLACEMENT_HOSTS_MAX];
    struct members *m AUTO_FREE = calloc(1, sizeof *m);
    const char *set = target_setting(&p->settings, "availability-set");
    size_t count = 0;

    *out = (struct placement){.host = ""};
    if (m == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    while (count < PLACEMENT_HOSTS_MAX &&
           target_setting_host(&p->settings, count, names[count], sizeof names[count])) {
        hosts[count] = names[count];
        count++;
    }
    if (count == 0 && asked == NULL)
        return true;
    struct placement_request r = {.vm = vm,
                                  .set = set,
                                  .hosts = hosts,
                                  .host_count = count,
                                  .members = m->rows,
                                  .asked = asked,
                                  .strict = strict && asked == NULL};
    if (!collect(call, vm, set, m, err))
        return false;
    r.member_count = m->count;
    if (!placement_choose(&r, out, err))
        return false;
    if (m->silent[0] != '\0' && out->warning[0] == '\0')
        snprintf(out->warning, sizeof out->warning,
                 "availability set %.63s: where %s runs could not be asked", set, m->silent);
    return true;
}
