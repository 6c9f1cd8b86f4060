/* SPDX-License-Identifier: MIT
 * The seam itself: each call goes to the implementation behind the handle. */
#include "tools/failover/virt.h"

#include <assert.h>
#include <string.h>

#include "tools/failover/virt_libvirt.h"

#ifndef FARSHORE_LIBVIRT
bool virt_open(struct world *w, const char *uri, struct virt **out, struct err *err)
{
    (void)w;
    *out = NULL;
    return err_set(err, ERR_INVALID,
                   "%s: this farshore was built without libvirt; build it where libvirt-dev is "
                   "installed, or give the VM the settings start and stop",
                   uri);
}
#else
bool virt_open(struct world *w, const char *uri, struct virt **out, struct err *err)
{
    *out = NULL;
    if (strlen(uri) > VIRT_URI_MAX)
        return err_set(err, ERR_INVALID, "the libvirt URI is too long: %.100s...", uri);
    return libvirt_open(w, uri, out, err);
}
#endif

void virt_close(struct virt **v)
{
    if (*v != NULL)
        (*v)->ops->close(*v);
    *v = NULL;
}

const char *virt_state_name(enum virt_state s)
{
    static const char *const names[] = {
        [VIRT_OFF] = "off",       [VIRT_RUNNING] = "running", [VIRT_PAUSED] = "paused",
        [VIRT_ENDING] = "ending", [VIRT_CRASHED] = "crashed", [VIRT_OTHER] = "other",
    };
    assert((size_t)s < sizeof names / sizeof *names);
    return names[s];
}

bool virt_capacity(struct virt *v, struct virt_capacity *out, struct err *err)
{
    *out = (struct virt_capacity){.cpus = 0};
    return v->ops->capacity(v, out, err);
}

bool virt_list(struct virt *v, virt_list_fn *each, void *context, struct err *err)
{
    return v->ops->list(v, each, context, err);
}

bool virt_xml(struct virt *v, const char *domain, enum virt_xml which, char **out, struct err *err)
{
    *out = NULL;
    return v->ops->xml(v, domain, which, out, err);
}

bool virt_status(struct virt *v, const char *domain, struct virt_status *out, struct err *err)
{
    *out = (struct virt_status){.state = VIRT_OTHER};
    return v->ops->status(v, domain, out, err);
}

bool virt_define(struct virt *v, const char *xml, struct err *err)
{
    return v->ops->define(v, xml, err);
}

bool virt_undefine(struct virt *v, const char *domain, bool nvram_too, struct err *err)
{
    return v->ops->undefine(v, domain, nvram_too, err);
}

bool virt_start(struct virt *v, const char *domain, bool paused, uint64_t *resumed_ms,
                struct err *err)
{
    uint64_t unused;
    return v->ops->start(v, domain, paused, resumed_ms != NULL ? resumed_ms : &unused, err);
}

bool virt_resume(struct virt *v, const char *domain, uint64_t *resumed_ms, struct err *err)
{
    uint64_t unused;
    return v->ops->resume(v, domain, resumed_ms != NULL ? resumed_ms : &unused, err);
}

bool virt_shutdown(struct virt *v, const char *domain, uint64_t timeout_ms, struct err *err)
{
    return v->ops->shutdown(v, domain, timeout_ms, err);
}

bool virt_destroy(struct virt *v, const char *domain, struct err *err)
{
    return v->ops->destroy(v, domain, err);
}

bool virt_set_autostart(struct virt *v, const char *domain, bool on, struct err *err)
{
    return v->ops->set_autostart(v, domain, on, err);
}

bool virt_freeze(struct virt *v, const char *domain, struct err *err)
{
    return v->ops->freeze(v, domain, err);
}

bool virt_thaw(struct virt *v, const char *domain, struct err *err)
{
    return v->ops->thaw(v, domain, err);
}

bool virt_move_disk(struct virt *v, const char *domain, const char *target, const char *path,
                    virt_progress_fn *progress, void *context, struct err *err)
{
    return v->ops->move_disk(v, domain, target, path, progress, context, err);
}

bool virt_addresses(struct virt *v, const char *domain, enum virt_address_from from,
                    virt_address_fn *each, void *context, struct err *err)
{
    return v->ops->addresses(v, domain, from, each, context, err);
}

bool virt_networks(struct virt *v, virt_list_fn *each, void *context, struct err *err)
{
    return v->ops->networks(v, each, context, err);
}

bool virt_network_xml(struct virt *v, const char *network, char **out, struct err *err)
{
    *out = NULL;
    return v->ops->network_xml(v, network, out, err);
}

bool virt_network_make(struct virt *v, const char *xml, bool autostart, struct err *err)
{
    return v->ops->network_make(v, xml, autostart, err);
}

bool virt_network_start(struct virt *v, const char *network, struct err *err)
{
    return v->ops->network_start(v, network, err);
}

bool virt_network_remove(struct virt *v, const char *network, struct err *err)
{
    return v->ops->network_remove(v, network, err);
}

bool virt_network_host(struct virt *v, const char *network, int ip_index, const char *host_xml,
                       bool add, struct err *err)
{
    return v->ops->network_host(v, network, ip_index, host_xml, add, err);
}

bool virt_leases(struct virt *v, const char *network, virt_address_fn *each, void *context,
                 struct err *err)
{
    return v->ops->leases(v, network, each, context, err);
}
