/* SPDX-License-Identifier: MIT
 * struct virt by libvirt's C API. virt_libvirt.c holds the connection, its events and its errors;
 * virt_libvirt_connect.c makes it, virt_libvirt_domain.c, _run.c and _network.c have the calls. */
#ifndef TOOLS_FAILOVER_VIRT_LIBVIRT_H
#define TOOLS_FAILOVER_VIRT_LIBVIRT_H

#include "tools/failover/virt.h"

#ifdef FARSHORE_LIBVIRT
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <string.h>

/* What happens to one domain while a call waits for it. */
struct virt_watch {
    struct virt_watch *next;
    unsigned char uuid[VIR_UUID_BUFLEN];
    uint64_t running_ms; /* when it began to run; 0: it has not */
    bool stopped;
};

struct libvirt {
    struct virt virt;
    virConnectPtr connection;
    int callback;         /* of the lifecycle events; -1: the hypervisor has none */
    unsigned users;       /* the handle's owner and the event loop; under `lock` */
    pthread_mutex_t lock; /* guards what follows; a leaf, only the clock is read under it */
    pthread_cond_t changed;
    struct virt_watch *watches;
};

bool libvirt_open(struct world *w, const char *uri, struct virt **out, struct err *err) MUST_CHECK;

#define LIBVIRT_CONNECT_MS 60000u /* one that has just begun loads its domains first */
/* ERR_TRANSIENT: nobody answers, or not in that time. The event loop runs. */
bool libvirt_connect(const char *uri, unsigned within_ms, virConnectPtr *out,
                     struct err *err) MUST_CHECK;

static inline struct libvirt *libvirt_of(struct virt *v)
{
    return (struct libvirt *)(void *)v;
}

/* The error that libvirt reported last in this thread, behind "what: "; returns false. */
bool libvirt_error(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
int libvirt_code(void); /* VIR_ERR_... of it */

void libvirt_domain_release(virDomainPtr *d);
#define AUTO_DOMAIN CLEANUP(libvirt_domain_release)
void libvirt_network_release(virNetworkPtr *n);
#define AUTO_NET CLEANUP(libvirt_network_release)
bool libvirt_domain(struct virt *v, const char *name, virDomainPtr *out,
                    struct err *err) MUST_CHECK;
bool libvirt_net(struct virt *v, const char *name, virNetworkPtr *out, struct err *err) MUST_CHECK;

void libvirt_watch(struct libvirt *l, virDomainPtr d, struct virt_watch *w);
void libvirt_unwatch(struct libvirt *l, struct virt_watch *w);
/* Until something happens to any watched domain, at most that long. */
void libvirt_wait(struct libvirt *l, unsigned ms);

bool libvirt_capacity(struct virt *v, struct virt_capacity *out, struct err *err);
bool libvirt_list(struct virt *v, virt_list_fn *each, void *context, struct err *err);
bool libvirt_xml(struct virt *v, const char *domain, enum virt_xml which, char **out,
                 struct err *err);
bool libvirt_status(struct virt *v, const char *domain, struct virt_status *out, struct err *err);
bool libvirt_define(struct virt *v, const char *xml, struct err *err);
bool libvirt_undefine(struct virt *v, const char *domain, bool nvram_too, struct err *err);
bool libvirt_start(struct virt *v, const char *domain, bool paused, uint64_t *resumed_ms,
                   struct err *err);
bool libvirt_resume(struct virt *v, const char *domain, uint64_t *resumed_ms, struct err *err);
bool libvirt_shutdown(struct virt *v, const char *domain, uint64_t timeout_ms, struct err *err);
bool libvirt_destroy(struct virt *v, const char *domain, struct err *err);
bool libvirt_set_autostart(struct virt *v, const char *domain, bool on, struct err *err);
bool libvirt_freeze(struct virt *v, const char *domain, struct err *err);
bool libvirt_thaw(struct virt *v, const char *domain, struct err *err);
bool libvirt_move_disk(struct virt *v, const char *domain, const char *target, const char *path,
                       virt_progress_fn *progress, void *context, struct err *err);
bool libvirt_addresses(struct virt *v, const char *domain, enum virt_address_from from,
                       virt_address_fn *each, void *context, struct err *err);
bool libvirt_networks(struct virt *v, virt_list_fn *each, void *context, struct err *err);
bool libvirt_network_xml(struct virt *v, const char *network, char **out, struct err *err);
bool libvirt_network_make(struct virt *v, const char *xml, bool autostart, struct err *err);
bool libvirt_network_start(struct virt *v, const char *network, struct err *err);
bool libvirt_network_remove(struct virt *v, const char *network, struct err *err);
bool libvirt_network_host(struct virt *v, const char *network, int ip_index, const char *host_xml,
                          bool add, struct err *err);
bool libvirt_leases(struct virt *v, const char *network, virt_address_fn *each, void *context,
                    struct err *err);
#endif
#endif
