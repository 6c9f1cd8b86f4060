/* SPDX-License-Identifier: MIT
 * Where farshore keeps things on a host, and the settings of a VM: CONFIG/vms/VM.json, strict
 * JSON, replaced atomically; its key is CONFIG/keys/VM.key, its state lies in STATE/vms/VM, its
 * control socket is RUN/VM.sock. One thread per settings. */
#ifndef TOOLS_CONFIG_H
#define TOOLS_CONFIG_H

#include "backend/history/vault.h"
#include "backend/store/throttle.h"
#include "common/file.h"

#include <limits.h>

#define CUT_INTERVAL_DEFAULT_S 5u
#define CUT_INTERVAL_MAX_S     3600u
#define SETTINGS_BYTES_MAX     (2u << 20)
#define FOLDER_BYTES_MAX       1024u
#define PATH_BYTES_MAX         (FOLDER_BYTES_MAX + 128u)

struct paths {
    char config[FOLDER_BYTES_MAX];
    char state[FOLDER_BYTES_MAX];
    char run[FOLDER_BYTES_MAX];
    char credentials[FOLDER_BYTES_MAX + 16]; /* one file per store: backend/store/secrets.h */
};

/* FARSHORE_CONFIG, _STATE and _RUN name them; else root has /etc, /var/lib and /run/farshore, and
 * other users the XDG folders. Credentials are in CONFIG/credentials, or where
 * FARSHORE_CREDENTIALS says. Always absolute. */
bool paths_find(struct paths *out, struct err *err) MUST_CHECK;
/* The same from given facts, for tests. `env` is getenv or its like. */
bool paths_from(char *(*env)(const char *name), bool root, const char *cwd, struct paths *out,
                struct err *err) MUST_CHECK;

/* Names of a VM's own files. */
void path_settings(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX]);
void path_key(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX]);
void path_state(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX]);
void path_lock(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX]);

enum role {
    ROLE_ENABLING, /* an enable that has not finished: it is repeated with the same identity */
    ROLE_SOURCE,   /* its disks are here */
    ROLE_TARGET,   /* it is processed and recovered here */
};
const char *role_name(enum role r);

struct settings_disk {
    char name[DISK_NAME_MAX + 1];
    char path[PATH_MAX]; /* empty on a target */
    uint16_t number;     /* in runs and frames */
    uint16_t store;      /* index in `stores` */
    uint64_t size_bytes;
};

/* What a failed-over disk shows where it is not written or hydrated yet: a point of a vault. */
struct settings_origin {
    struct generation generation; /* number 0: none, the local files are whole */
    uint64_t epoch;
    uint64_t point_ms;
    uint16_t target_count; /* target stores of that vault, by the indices that its runs name */
    char (*targets)[STORE_URL_MAX]; /* room for VM_DISKS_MAX + 1 */
};

#define COMMAND_LINE_MAX 4096u
#define DOMAIN_NAME_MAX  200u

/* How the machine is started and stopped here; "" is none. */
struct settings_machine {
    char mount[FOLDER_BYTES_MAX];     /* where its disks are mounted: an absolute path */
    char domain[DOMAIN_NAME_MAX + 1]; /* of libvirt */
    char start[COMMAND_LINE_MAX];     /* without libvirt: the user's commands */
    char stop[COMMAND_LINE_MAX];
    char freeze[COMMAND_LINE_MAX];
    char thaw[COMMAND_LINE_MAX];
};

struct settings {
    char name[VM_NAME_MAX + 1];
    uint8_t vm[VM_ID_BYTES];
    enum role role;
    bool encrypted;
    uint64_t created_ms;
    struct generation generation; /* of a source; number 0 on a target */
    uint64_t cut_interval_s;
    char bandwidth[BANDWIDTH_SPEC_MAX]; /* backend/store/throttle.h; "" is no bound */
    uint16_t disk_count;
    struct settings_disk *disks; /* room for VM_DISKS_MAX */
    uint16_t store_count;
    struct vault_stores *stores; /* room for VM_DISKS_MAX + 1; 0 is the VM's own */
    bool replicate;              /* of a source: false between failover and reprotect */
    struct settings_origin origin;
    struct settings_machine *machine;
};

/* A spec also when there is no bound: "unlimited". */
const char *settings_bandwidth(const struct settings *s);
/* `spec` is checked; "unlimited" is no bound. */
bool settings_set_bandwidth(struct settings *s, const char *spec, struct err *err) MUST_CHECK;

/* A text of `machine` by its name: mount, domain, start, stop, freeze, thaw; NULL: none of them. */
const char *settings_machine_text(const struct settings *s, const char *name);
/* One line; `mount` is an absolute path; "" unsets. `name` is one of them (asserted). */
bool settings_set_machine(struct settings *s, const char *name, const char *value,
                          struct err *err) MUST_CHECK;

/* Whether both are of one VM, in one vault: its id and the target of its history. */
bool settings_same_vault(const struct settings *a, const struct settings *b);

bool settings_make(struct settings *out, struct err *err) MUST_CHECK; /* empty */
void settings_release(struct settings *s);
#define AUTO_SETTINGS CLEANUP(settings_release)

/* The vault object that says what these settings say, to be freed; NULL: out of memory. */
struct vault *settings_vault(const struct settings *s);

/* The text is the world: everything in it is checked. `out` was made empty. */
bool settings_parse(struct span text, struct settings *out, struct err *err) MUST_CHECK;
bool settings_write(const struct settings *s, struct buf *out, struct err *err) MUST_CHECK;

/* Makes `out`. ERR_NOT_FOUND lists the VMs that are known here. */
bool settings_load(struct world *w, const struct paths *p, const char *vm, struct settings *out,
                   struct err *err) MUST_CHECK;
bool settings_save(struct world *w, const struct paths *p, const struct settings *s,
                   struct err *err) MUST_CHECK;

/* Settings have several writers: verbs, the agent's jobs, and a worker that says that its disks are
 * whole. Who changes a part of them on a host where the VM may be mounted holds this lock from
 * settings_load to settings_save_locked. Waits; close *fd to let go. */
bool settings_lock(const struct paths *p, const char *vm, int *fd, struct err *err) MUST_CHECK;
bool settings_lock_remove(struct world *w, const struct paths *p, const char *vm,
                          struct err *err) MUST_CHECK; /* with the VM's settings, at its end */
bool settings_save_locked(struct world *w, const struct paths *p, const struct settings *s,
                          struct err *err) MUST_CHECK;
/* Of its disks, in order. */
void settings_sizes(const struct settings *s, uint64_t out[VM_DISKS_MAX]);
/* ERR_BUSY, with what to do, when its local disks still lie over a point: `what` must wait. */
bool settings_check_whole(const struct settings *s, const char *what, struct err *err) MUST_CHECK;

/* All of that: `change` alters them as they are now, and says false for nothing to save. */
typedef bool settings_change_fn(void *context, struct settings *s);
bool settings_change(struct world *w, const struct paths *p, const char *vm,
                     settings_change_fn *change, void *context, struct err *err) MUST_CHECK;

/* For who saves settings that were read before something long: takes the lock, loads what the
 * settings are now (the caller's to release), and takes from it what a person sets at any time:
 * interval, bandwidth, commands, mount. */
bool settings_retake(struct world *w, const struct paths *p, struct settings *s,
                     struct settings *now, int *lock, struct err *err) MUST_CHECK;

/* The VMs known here, in byte order. */
struct vm_names {
    char (*names)[VM_NAME_MAX + 1];
    size_t count;
};
bool vm_names_list(const struct paths *p, struct vm_names *out, struct err *err) MUST_CHECK;
/* The same of CONFIG/WHAT/NAME.json. */
bool config_names_list(const struct paths *p, const char *what, struct vm_names *out,
                       struct err *err) MUST_CHECK;
void vm_names_release(struct vm_names *n);
#define AUTO_VM_NAMES CLEANUP(vm_names_release)

/* Index of the pair of stores, added when new. ERR_INVALID: the table is full. */
bool settings_store(struct settings *s, const char *cache, const char *target, uint16_t *index,
                    struct err *err) MUST_CHECK;

#endif
