/* SPDX-License-Identifier: MIT
 * The hypervisor of a host: libvirt behind a seam, so that verbs can be tested over another.
 * Domains and networks are known by name. A handle may be used by any thread, one call at a time
 * each; it does not outlive a fork, so open it after the last one. The process ignores SIGPIPE: a
 * libvirt that dies in a call would end it. Built without libvirt, virt_open says so and verbs run
 * the user's own commands (commands.h).
 *
 * Errors: NOT_FOUND no such domain or network · EXISTS the name or uuid is another's · TRANSIENT
 * libvirt or the guest did not answer in time · DENIED · INVALID not in this state, or not with
 * this hypervisor · IO the rest. err.text carries libvirt's own words, and what to do where that is
 * known; libvirt prints nothing. */
#ifndef TOOLS_FAILOVER_VIRT_H
#define TOOLS_FAILOVER_VIRT_H

#include "common/cleanup.h"
#include "common/err.h"
#include "common/world.h"

#define VIRT_URI_MAX     255u
#define VIRT_ADDRESS_MAX 45u /* an IP address as text */

struct virt;

enum virt_state {
    VIRT_OFF,
    VIRT_RUNNING,
    VIRT_PAUSED, /* also when a disk failed: see `io_error` */
    VIRT_ENDING, /* shutting down */
    VIRT_CRASHED,
    VIRT_OTHER,
};
const char *virt_state_name(enum virt_state s);

struct virt_status {
    enum virt_state state;
    bool persistent; /* defined: stays when it is off */
    bool autostart;  /* libvirt starts it with the host */
    bool io_error;   /* paused because a disk failed */
};

struct virt_capacity {
    uint64_t memory_kib;      /* of the host */
    uint64_t memory_free_kib; /* free now, what caches hold included where libvirt tells */
    unsigned cpus;
    bool kvm; /* guests of type kvm can run */
};

enum virt_xml {
    VIRT_DEFINED, /* what the next start will use */
    VIRT_LIVE,    /* what runs now; the defined one when it does not run */
};

enum virt_address_from {
    VIRT_FROM_LEASE, /* of libvirt's own DHCP */
    VIRT_FROM_AGENT, /* the guest says so */
};

/* A name for each call; false stops. `active`: it runs. */
typedef bool virt_list_fn(void *context, const char *name, bool active);
typedef bool virt_address_fn(void *context, const char *mac, const char *address);
/* While it goes on, about twice a second; bytes. False: give up, ERR_CANCELLED. */
typedef bool virt_progress_fn(void *context, uint64_t done, uint64_t total);

struct virt_ops {
    void (*close)(struct virt *v);
    bool (*capacity)(struct virt *v, struct virt_capacity *out, struct err *err);
    bool (*list)(struct virt *v, virt_list_fn *each, void *context, struct err *err);

    bool (*xml)(struct virt *v, const char *domain, enum virt_xml which, char **out,
                struct err *err);
    bool (*status)(struct virt *v, const char *domain, struct virt_status *out, struct err *err);
    bool (*define)(struct virt *v, const char *xml, struct err *err);
    bool (*undefine)(struct virt *v, const char *domain, bool nvram_too, struct err *err);
    bool (*start)(struct virt *v, const char *domain, bool paused, uint64_t *resumed_ms,
                  struct err *err);
    bool (*resume)(struct virt *v, const char *domain, uint64_t *resumed_ms, struct err *err);
    bool (*shutdown)(struct virt *v, const char *domain, uint64_t timeout_ms, struct err *err);
    bool (*destroy)(struct virt *v, const char *domain, struct err *err);
    bool (*set_autostart)(struct virt *v, const char *domain, bool on, struct err *err);
    bool (*freeze)(struct virt *v, const char *domain, struct err *err);
    bool (*thaw)(struct virt *v, const char *domain, struct err *err);
    bool (*move_disk)(struct virt *v, const char *domain, const char *target, const char *path,
                      virt_progress_fn *progress, void *context, struct err *err);
    bool (*addresses)(struct virt *v, const char *domain, enum virt_address_from from,
                      virt_address_fn *each, void *context, struct err *err);

    bool (*networks)(struct virt *v, virt_list_fn *each, void *context, struct err *err);
    bool (*network_xml)(struct virt *v, const char *network, char **out, struct err *err);
    bool (*network_make)(struct virt *v, const char *xml, bool autostart, struct err *err);
    bool (*network_start)(struct virt *v, const char *network, struct err *err);
    bool (*network_remove)(struct virt *v, const char *network, struct err *err);
    bool (*network_host)(struct virt *v, const char *network, int ip_index, const char *host_xml,
                         bool add, struct err *err);
    bool (*leases)(struct virt *v, const char *network, virt_address_fn *each, void *context,
                   struct err *err);
};

struct virt {
    const struct virt_ops *ops;
    struct world *world; /* the clock */
};

/* `uri` as virsh takes it: "qemu:///system". ERR_TRANSIENT: nobody answers there. */
bool virt_open(struct world *w, const char *uri, struct virt **out, struct err *err) MUST_CHECK;
void virt_close(struct virt **v); /* NULL inside is fine; leaves NULL */
#define AUTO_VIRT CLEANUP(virt_close)

bool virt_capacity(struct virt *v, struct virt_capacity *out, struct err *err) MUST_CHECK;
/* All domains, also those that are off. */
bool virt_list(struct virt *v, virt_list_fn *each, void *context, struct err *err) MUST_CHECK;

/* Text to be freed; secrets (of graphics, of disks) are in it. */
bool virt_xml(struct virt *v, const char *domain, enum virt_xml which, char **out,
              struct err *err) MUST_CHECK;
bool virt_status(struct virt *v, const char *domain, struct virt_status *out,
                 struct err *err) MUST_CHECK;
/* New, or in place of the one with the same name and uuid. A running one takes it at its next
 * start. */
bool virt_define(struct virt *v, const char *xml, struct err *err) MUST_CHECK;
/* A missing one is success. Firmware variables are kept unless `nvram_too`; ERR_INVALID: it runs.
 */
bool virt_undefine(struct virt *v, const char *domain, bool nvram_too, struct err *err) MUST_CHECK;
/* Returns once it runs (or is ready, `paused`). *resumed_ms (may be NULL) is when the hypervisor
 * reported that it runs, since 1970: the end of the measured RTO. ERR_EXISTS: it runs already. */
bool virt_start(struct virt *v, const char *domain, bool paused, uint64_t *resumed_ms,
                struct err *err) MUST_CHECK;
bool virt_resume(struct virt *v, const char *domain, uint64_t *resumed_ms,
                 struct err *err) MUST_CHECK;
/* Asks the guest, by its agent where that answers, else by the power button, and waits until it is
 * off. ERR_TRANSIENT when it is not by then: it still runs. One that is off is success. */
bool virt_shutdown(struct virt *v, const char *domain, uint64_t timeout_ms,
                   struct err *err) MUST_CHECK;
/* Pulls the plug. One that is off, or missing, is success. */
bool virt_destroy(struct virt *v, const char *domain, struct err *err) MUST_CHECK;
bool virt_set_autostart(struct virt *v, const char *domain, bool on, struct err *err) MUST_CHECK;
/* All file systems of the guest, by its agent. ERR_INVALID: it has none configured; ERR_TRANSIENT:
 * it does not answer. thaw of what is not frozen succeeds. */
bool virt_freeze(struct virt *v, const char *domain, struct err *err) MUST_CHECK;
bool virt_thaw(struct virt *v, const char *domain, struct err *err) MUST_CHECK;
/* A running domain's disk goes on in the raw file `path`, which exists and has the disk's size:
 * copied while the guest writes, then switched, in the running and in the defined machine. After
 * any error the guest is on the old disk as before. */
bool virt_move_disk(struct virt *v, const char *domain, const char *target, const char *path,
                    virt_progress_fn *progress, void *context, struct err *err) MUST_CHECK;
bool virt_addresses(struct virt *v, const char *domain, enum virt_address_from from,
                    virt_address_fn *each, void *context, struct err *err) MUST_CHECK;

/* Networks: networks.h has what stands in their XML. */
bool virt_networks(struct virt *v, virt_list_fn *each, void *context, struct err *err) MUST_CHECK;
bool virt_network_xml(struct virt *v, const char *network, char **out, struct err *err) MUST_CHECK;
/* Defines and starts; one that cannot start is not left behind. ERR_EXISTS: the name is taken. */
bool virt_network_make(struct virt *v, const char *xml, bool autostart, struct err *err) MUST_CHECK;
bool virt_network_start(struct virt *v, const char *network, struct err *err) MUST_CHECK;
/* Stops and undefines; a missing one is success. */
bool virt_network_remove(struct virt *v, const char *network, struct err *err) MUST_CHECK;
/* Adds or removes a <host> in the DHCP of the network's nth <ip>, now and for later starts. */
bool virt_network_host(struct virt *v, const char *network, int ip_index, const char *host_xml,
                       bool add, struct err *err) MUST_CHECK;
bool virt_leases(struct virt *v, const char *network, virt_address_fn *each, void *context,
                 struct err *err) MUST_CHECK;

#endif
