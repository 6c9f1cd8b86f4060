/* SPDX-License-Identifier: MIT */
#include "tools/failover/refresh.h"

#include "tools/failover/dispatch.h"
#include "tools/failover/source_domain.h"

struct refreshing {
    const struct source_domain *source;
    const char *vm, *host;
};

static bool change(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct refreshing *r = context;
    *same = false;
    if (p->source_host[0] != '\0' && strcmp(p->source_host, r->host) != 0)
        return err_set(err, ERR_INVALID, "%s runs on host %s: give the command there", r->vm,
                       p->source_host);
    return source_domain_register(r->source, p, err);
}

static bool look_and_register(struct vm *vm, struct source_domain *d, struct err *err)
{
    struct host_config host;
    struct virt *virt AUTO_VIRT = NULL;
    struct doclog_vault vault = vm_vault(vm);
    if (!host_config_load(vm->call->world, vm->call->paths, &host, err) ||
        !virt_open(vm->call->world, host.libvirt, &virt, err) ||
        !source_domain_look(vm->call->world, virt, &vm->settings, d, err))
        return false;
    struct refreshing r = {.source = d, .vm = vm->settings.name, .host = host.name};
    return protection_change(&vault, change, &r, NULL, err);
}

bool refresh_machine(struct vm *vm, struct err *err)
{
    struct source_domain *d = calloc(1, sizeof *d); /* large */
    if (d == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    bool good = look_and_register(vm, d, err);
    source_domain_release(d);
    free(d);
    return good;
}
