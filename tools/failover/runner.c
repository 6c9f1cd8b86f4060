/* SPDX-License-Identifier: MIT */
#include "tools/failover/runner.h"

#include "tools/failover/commands.h"
#include "tools/failover/runner_private.h"

#define COMMAND_TIMEOUT_MS 300000u

bool runner_open(struct vm *vm, const struct protection *p, struct runner *out, struct err *err)
{
    *out = (struct runner){.vm = vm, .protection = p};
    if (!host_config_load(vm->call->world, vm->call->paths, &out->host, err))
        return false;
    if (p->xml.length > 0)
        return virt_open(vm->call->world, out->host.libvirt, &out->virt, err);
    return vm->settings.machine->start[0] != '\0' ||
           err_set(err, ERR_INVALID,
                   "%s has no libvirt domain, and no command that starts it on this host: farshore "
                   "set %s start=COMMAND stop=COMMAND",
                   vm->settings.name, vm->settings.name);
}

void runner_close(struct runner *r)
{
    virt_close(&r->virt);
}

void runner_group(const struct runner *r, char *out, size_t size)
{
    const char *given = target_setting(&r->protection->settings, "resource-group");
    if (given)
        snprintf(out, size, "%s", given);
    else
        snprintf(out, size, "farshore-%s", r->vm->settings.name);
}

bool runner_note(struct buf *notes, struct err *err, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buf_put(notes, line, strlen(line));
    buf_put_u8(notes, '\n');
    return buf_ok(notes, err);
}

/* --- without libvirt --- */

static bool run_command(struct runner *r, const struct runner_machine *m, const char *what,
                        const char *line, uint64_t timeout_ms, struct err *err)
{
    const struct settings *s = &r->vm->settings;
    struct command_value disks[VM_DISKS_MAX];
    char(*paths)[PATH_BYTES_MAX] AUTO_FREE = calloc(VM_DISKS_MAX, sizeof *paths);
    const struct command_value values[] = {{"FARSHORE_POINT", m->point ? m->point : ""},
                                           {"FARSHORE_NAME", m->name},
                                           {"FARSHORE_TEST", m->drill ? m->drill : ""}};
    if (paths == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (line[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "%s has no command for this on this host: farshore set %s %s=COMMAND",
                       s->name, s->name, what);
    for (uint16_t i = 0; i < s->disk_count; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s.img", m->folder, s->disks[i].name);
        disks[i] = (struct command_value){s->disks[i].name, paths[i]};
    }
    const struct command c = {.what = what,
                              .line = line,
                              .timeout_ms = timeout_ms,
                              .vm = s->name,
                              .disks = disks,
                              .disk_count = s->disk_count,
                              .values = values,
                              .value_count = sizeof values / sizeof *values};
    return command_run(&c, NULL, err);
}

/* --- either --- */

static bool start_domain(struct runner *r, const struct runner_machine *m, uint64_t *resumed_ms,
                         struct err *err)
{
    if (virt_start(r->virt, m->name, false, resumed_ms, err))
        return true;
    if (err->kind != ERR_EXISTS)
        return false;
    *err = ERR_NONE; /* it runs already */
    *resumed_ms = r->vm->call->world->ops->realtime_ns(r->vm->call->world) / 1000000;
    return true;
}

bool runner_start(struct runner *r, const struct runner_machine *m, uint64_t *resumed_ms,
                  struct err *err)
{
    struct world *w = r->vm->call->world;
    if (r->virt)
        return start_domain(r, m, resumed_ms, err);
    if (!run_command(r, m, "start", r->vm->settings.machine->start, COMMAND_TIMEOUT_MS, err))
        return false;
    *resumed_ms = w->ops->realtime_ns(w) / 1000000;
    return true;
}

bool runner_stop(struct runner *r, const struct runner_machine *m, bool pull, uint64_t timeout_ms,
                 struct err *err)
{
    if (r->virt == NULL)
        return run_command(r, m, "stop", r->vm->settings.machine->stop, timeout_ms, err);
    if (pull)
        return virt_destroy(r->virt, m->name, err);
    return virt_shutdown(r->virt, m->name, timeout_ms, err) || err->kind == ERR_NOT_FOUND;
}

bool runner_remove(struct runner *r, const struct runner_machine *m, struct err *err)
{
    if (r->virt == NULL)
        return true;
    char *xml AUTO_FREE = NULL;
    if (virt_xml(r->virt, m->name, VIRT_DEFINED, &xml, err)) {
        if (!runner_release_addresses(r, xml, err) || !virt_undefine(r->virt, m->name, true, err))
            return false;
    } else if (err->kind != ERR_NOT_FOUND) {
        return false;
    }
    return m->drill == NULL || runner_remove_networks(r, m, err);
}
