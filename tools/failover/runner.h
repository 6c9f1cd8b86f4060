/* SPDX-License-Identifier: MIT
 * The machine of a VM on this host: a libvirt domain made from the protection document, or, where
 * there is no libvirt, the user's own commands. What is made here carries the VM's resource group
 * and is found and removed by name. One thread. */
#ifndef TOOLS_FAILOVER_RUNNER_H
#define TOOLS_FAILOVER_RUNNER_H

#include "tools/failover/networks.h"
#include "tools/failover/protection.h"
#include "tools/vm.h"

struct runner {
    struct vm *vm;
    const struct protection *protection;
    struct host_config host;
    struct virt *virt; /* NULL: commands */
};

/* Borrows `vm` and the document. A VM without domain XML is run by commands. */
bool runner_open(struct vm *vm, const struct protection *p, struct runner *out,
                 struct err *err) MUST_CHECK;
void runner_close(struct runner *r);
#define AUTO_RUNNER CLEANUP(runner_close)

/* What is to run. */
struct runner_machine {
    char name[PROTECTION_NAME_MAX]; /* of the domain */
    const char *folder;             /* its disks are FOLDER/DISK.img */
    const char *point;              /* for the commands */
    const char *drill; /* its id: runs beside the original, alone in its network; NULL */
    const char *logs;  /* of a drill: folder for what its consoles write */
};

/* The name under which it runs here: setting `name`, else the domain's own, else the VM's. */
void runner_name(const struct runner *r, const char *drill, char out[PROTECTION_NAME_MAX]);
/* "farshore-VM" unless it is set. */
void runner_group(const struct runner *r, char *out, size_t size);

/* Makes networks, addresses, firmware variables and the domain; repeatable. `notes` gets a line for
 * each thing that people should know; `nics` what each NIC came to (count as in the document). */
bool runner_make(struct runner *r, const struct runner_machine *m,
                 struct protection_nic nics[PROTECTION_NICS_MAX], struct buf *notes,
                 struct err *err) MUST_CHECK;
/* *resumed_ms: since when it runs, as the hypervisor says; by the clock for commands. One that runs
 * already is success. */
bool runner_start(struct runner *r, const struct runner_machine *m, uint64_t *resumed_ms,
                  struct err *err) MUST_CHECK;
/* Asks the guest to go and waits; `pull` ends it at once. One that is off, or not there, is
 * success. */
bool runner_stop(struct runner *r, const struct runner_machine *m, bool pull, uint64_t timeout_ms,
                 struct err *err) MUST_CHECK;
/* Stopped before. Removes domain, its firmware variables, a drill's networks, and reservations. */
bool runner_remove(struct runner *r, const struct runner_machine *m, struct err *err) MUST_CHECK;

#endif
