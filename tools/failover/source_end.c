/* SPDX-License-Identifier: MIT */
#include "tools/failover/source_end.h"

#include "tools/failover/nvram.h"
#include "tools/failover/refresh.h"

#define GUEST_STOP_MS 300000u
#define POINT_WAIT_MS 600000u

/* What the firmware remembers goes with the VM. */
static bool change_nvram(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct buf *packed = context;
    *same = span_equal(buf_span(packed), buf_span(&p->nvram));
    buf_clear(&p->nvram);
    buf_put(&p->nvram, packed->data, packed->length);
    return buf_ok(&p->nvram, err);
}

static bool note_nvram(struct flow *f, struct virt *virt, const char *domain, struct err *err)
{
    char *xml AUTO_FREE = NULL;
    struct machine *m AUTO_MACHINE = NULL;
    struct buf packed AUTO_BUF = BUF_NONE;
    if (!virt_xml(virt, domain, VIRT_DEFINED, &xml, err) ||
        !machine_parse(span_of_text(xml), &m, err))
        return false;
    if (machine_facts(m)->nvram[0] == '\0')
        return true;
    if (nvram_read(f->call->world, machine_facts(m)->nvram, &packed, err))
        return flow_change(f, change_nvram, &packed, err);
    return err->kind == ERR_NOT_FOUND;
}

static bool stop_guest(struct flow *f, struct err *err)
{
    struct flow_machine m AUTO_FLOW_MACHINE = {.folder = ""};
    const char *name = m.machine.name;
    return flow_machine_open(f, &m, err) && flow_step(f, "guest", err, "shutting down %s", name) &&
           (runner_stop(&m.runner, &m.machine, false, GUEST_STOP_MS, err) ||
            err_wrap(err, "the guest does not shut down")) &&
           (m.runner.virt == NULL || note_nvram(f, m.runner.virt, name, err));
}

/* Nobody writes any more: this point holds everything. */
static bool last_point(struct flow *f, const char *label, struct source_end *out, struct err *err)
{
    cJSON *request AUTO_JSON = NULL, *answer AUTO_JSON = NULL;
    const char *id;
    if (!flow_step(f, "point", err, "the last one") || !command_make("point", &request, err) ||
        !json_add_bool(request, "application", true, err) ||
        !json_add_bool(request, "wait", true, err) ||
        !json_add_text(request, "label", label, err) ||
        !json_add_u64(request, "timeout_ms", POINT_WAIT_MS, err) ||
        !vm_ask(f->call, f->vm->settings.name, request, POINT_WAIT_MS + 10000, &answer, err) ||
        !json_text(answer, "id", &id, err) || !json_u64(answer, "epoch", &out->epoch, err))
        return false;
    snprintf(out->point, sizeof out->point, "%s", id);
    out->generation = f->vm->settings.generation;
    return true;
}

/* The target makes the machine as it is now, not as it was when it was enabled. One that cannot
 * move any more is found out while it still runs. */
static bool note_machine(struct flow *f, struct err *err)
{
    struct protection *now = NULL;
    if (f->protection->xml.length == 0)
        return true;
    if (!flow_step(f, "machine", err, "as it is now") || !refresh_machine(f->vm, err) ||
        !protection_load(&f->vault, &now, err))
        return false;
    protection_release(&f->protection);
    f->protection = now;
    return true;
}

bool source_end(struct flow *f, const char *label, struct source_end *out, struct err *err)
{
    return note_machine(f, err) && stop_guest(f, err) && flow_mount(f, err) &&
           last_point(f, label, out, err) &&
           flow_step(f, "unmount", err, "point %s is shipped", out->point) &&
           flow_unmount(f, true, err);
}
