/* SPDX-License-Identifier: MIT
 * A VM as the verbs use it: settings, key, and, as far as they are asked for, open stores and the
 * history. One thread. */
#ifndef TOOLS_VM_H
#define TOOLS_VM_H

#include "backend/history/processor.h"
#include "backend/store/throttle.h"
#include "common/json.h"
#include "tools/control.h"
#include "tools/verb.h"

/* What a verb does with a VM's stores: how they are attached (backend/store/attach.h). */
enum vm_use {
    VM_GLANCES,   /* now, as they are, and not for long */
    VM_LOOKS,     /* now, as they are */
    VM_ENABLES,   /* made where missing, and proved fit for a processor */
    VM_PROCESSES, /* proved fit for a processor */
    VM_SHIPS,     /* when first used, and proved fit for a source then */
};

struct vm {
    const struct verb_call *call;
    struct settings settings;
    struct keys *keys;
    struct store *caches[VM_DISKS_MAX + 1];  /* settings.store_count of them, when opened */
    struct store *targets[VM_DISKS_MAX + 1]; /* likewise */
    struct history *history;
    struct bandwidth
        *bandwidth; /* of all stores, made with the first; NULL: VM_GLANCES, VM_LOOKS */
};

#define VM_NONE                                                                                    \
    (struct vm)                                                                                    \
    {                                                                                              \
        .call = NULL                                                                               \
    }

/* Settings and key. A VM whose enable has not finished is ERR_INVALID with the way on. */
bool vm_load(const struct verb_call *call, const char *name, struct vm *out,
             struct err *err) MUST_CHECK;
/* A VM that ships or processes keeps within its bandwidth, one bound for all its stores. */
bool vm_open_caches(struct vm *vm, enum vm_use use, struct err *err) MUST_CHECK;
bool vm_open_targets(struct vm *vm, enum vm_use use, struct err *err) MUST_CHECK;
/* Targets first. ERR_CORRUPT also when it was rolled back below what this host has seen of it. */
bool vm_open_history(struct vm *vm, struct err *err) MUST_CHECK;
/* What this host has seen of the vault counts no longer: it was begun anew. Targets first. */
bool vm_forget_seen(struct vm *vm, struct err *err) MUST_CHECK;
void vm_release(struct vm *vm);
#define AUTO_VM CLEANUP(vm_release)

/* A processor of the VM, whose stores are open; it does not put pending fences. */
struct processor_config vm_processor(struct vm *vm);

/* Waits until the processor has applied `epoch` of the VM's generation, as its progress objects in
 * the cache store say. ERR_TRANSIENT when `deadline_ns` (boot time) passes. */
bool vm_wait_applied(struct vm *vm, uint64_t epoch, uint64_t deadline_ns,
                     struct err *err) MUST_CHECK;

/* --wait[=target], the same for `point` and `unmount`. */
enum wait_for { WAIT_NOTHING, WAIT_CACHE, WAIT_TARGET };
bool option_wait(const struct options *o, enum wait_for *out, struct err *err) MUST_CHECK;

/* {"command": command}, to be filled further. */
bool command_make(const char *command, cJSON **out, struct err *err) MUST_CHECK;
/* Connects to a VM's mount. A mount whose worker has just died is waited for: the next one answers
 * in moments. ERR_NOT_FOUND: it is not mounted, or no worker comes back;
 * ERR_BUSY: a command is at work on its disks. */
bool vm_connect(const struct verb_call *call, const char *vm, struct control_client **out,
                struct err *err) MUST_CHECK;
/* The same, and asks it one thing: {"command": ...} and whatever else; `out` may be NULL. */
bool vm_ask(const struct verb_call *call, const char *vm, const cJSON *request, uint64_t timeout_ms,
            cJSON **out, struct err *err) MUST_CHECK;
/* The same for what may be asked twice: a worker that becomes the next one just now hangs up, and
 * then that one is asked, as long as the time lasts. */
bool vm_ask_again(const struct verb_call *call, const char *vm, const cJSON *request,
                  uint64_t timeout_ms, cJSON **out, struct err *err) MUST_CHECK;
/* Its mount's worker makes way for one that finds the settings as they are now; the guest notices
 * no more than of a kill. The next one may still be on its way. */
bool vm_restart(const struct verb_call *call, const char *vm, struct err *err) MUST_CHECK;

#endif
