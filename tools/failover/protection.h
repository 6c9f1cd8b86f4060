/* SPDX-License-Identifier: MIT
 * The protection document of a VM: what its hosts agree on, as JSON in the log `VM/failover/N` of
 * the vault, where the newest entry is the truth. It says where the VM runs and which way it is
 * protected, how the machine looks, what is made of it at the target, which drills run, and how far
 * a failover has come. A VM enabled before there was such a document has the default one.
 *
 * A plain struct, made and released; one thread. Texts are "" when there is nothing to say. What is
 * read is the world and checked whole: unknown members are refused. */
#ifndef TOOLS_FAILOVER_PROTECTION_H
#define TOOLS_FAILOVER_PROTECTION_H

#include "backend/history/doclog.h"
#include "backend/history/vault.h"
#include "tools/failover/target_settings.h"
#include "tools/host_config.h"

#define PROTECTION_LOG          "failover"
#define PROTECTION_NICS_MAX     32u
#define PROTECTION_MAPPINGS_MAX 64u
#define PROTECTION_NETWORKS_MAX 16u
#define PROTECTION_TESTS_MAX    16u
#define PROTECTION_XML_MAX      (256u << 10)
#define PROTECTION_NVRAM_MAX    (1u << 20)
#define PROTECTION_NAME_MAX     128u /* of networks, subnets, domains, with the NUL */
#define PROTECTION_ADDRESS_MAX  64u
#define PROTECTION_POINT_MAX    64u /* an id, or GENERATION/ID on a branch */
#define PROTECTION_JOB_MAX      32u
#define PROTECTION_CHANGES_MAX  32u /* how often protection_change begins again */

/* Design 7. `failing-back` is what `failed-over` is called when the VM came back to its home. */
enum protection_state {
    PROTECTION_NONE,
    PROTECTION_TEST_RUNNING,
    PROTECTION_FAILED_OVER,
    PROTECTION_COMMITTED,
    PROTECTION_REPROTECTING,
    PROTECTION_FAILING_BACK,
    PROTECTION_STATES
};
const char *protection_state_name(enum protection_state s);
bool protection_state_parse(const char *name, enum protection_state *out);

/* As it is (or was last seen) where the VM runs. */
struct protection_nic {
    char network[PROTECTION_NAME_MAX];
    char subnet[PROTECTION_NAME_MAX];
    char mac[PROTECTION_ADDRESS_MAX];
    char address[PROTECTION_ADDRESS_MAX]; /* IPv4 or IPv6 */
};

/* A libvirt network of the host where the VM was enabled: what one like it is made from. */
struct protection_network {
    char name[PROTECTION_NAME_MAX];
    struct buf xml;
};

/* One row of the network mapping, home side and away side: used in both directions. */
struct protection_mapping {
    char home_network[PROTECTION_NAME_MAX], home_subnet[PROTECTION_NAME_MAX];
    char away_network[PROTECTION_NAME_MAX], away_subnet[PROTECTION_NAME_MAX];
};

struct protection_test {
    char id[PROTECTION_JOB_MAX]; /* chosen by test-failover, unique in the document */
    char host[HOST_NAME_CHARS_MAX + 1];
    char point[PROTECTION_POINT_MAX];
    char domain[PROTECTION_NAME_MAX]; /* "": start and stop commands */
    char mount[PATH_BYTES_MAX];
    uint64_t started_ms;
};

struct protection_disk {
    char name[DISK_NAME_MAX + 1];
    char path[PATH_BYTES_MAX]; /* of its local file */
};

/* Of the failover that runs, or of the last one. host "": there was none. */
struct protection_failover {
    char host[HOST_NAME_CHARS_MAX + 1]; /* where to */
    char from[HOST_NAME_CHARS_MAX + 1];
    bool planned;
    char point[PROTECTION_POINT_MAX];
    struct generation generation; /* begun by it; number 0: not yet */
    struct generation parent;     /* number 0: none */
    uint64_t parent_epoch;
    struct generation ends; /* the newest generation when it was decided: the old source's */
    uint64_t begun_ms;
    uint64_t started_ms;   /* the machine runs since; 0: not yet */
    bool fence_pending;    /* the old writer's log in the cache has no fence entry yet */
    uint64_t lost_seconds; /* the RPO that was met, as it was printed */
    char job[PROTECTION_JOB_MAX];
    uint16_t disk_count;
    struct protection_disk disks[VM_DISKS_MAX];
};

/* A planned failover that has told the source to stop, and is not begun: the state says nothing of
 * it yet. host "": it was cancelled, and the source is still to go on. job "": there is none. */
struct protection_leaving {
    char host[HOST_NAME_CHARS_MAX + 1]; /* where to */
    char job[PROTECTION_JOB_MAX];       /* of the failover; a newer command goes on with it */
    uint64_t asked; /* how often the source was told: what it was told before counts no more */
};

struct protection {
    enum protection_state state;
    char home_host[HOST_NAME_CHARS_MAX + 1];
    char source_host[HOST_NAME_CHARS_MAX + 1]; /* where the VM runs */
    char target_host[HOST_NAME_CHARS_MAX + 1]; /* of the present or last failover; setting `hosts`
                                                  lists those that may be */
    struct buf xml;                            /* domain XML; empty: no libvirt */
    struct buf nvram;                          /* firmware variables, empty: none */
    uint16_t nic_count;
    struct protection_nic nics[PROTECTION_NICS_MAX];
    uint16_t network_count;
    struct protection_network networks[PROTECTION_NETWORKS_MAX];
    struct target_settings settings;
    uint16_t mapping_count;
    struct protection_mapping mappings[PROTECTION_MAPPINGS_MAX];
    uint16_t test_count;
    struct protection_test tests[PROTECTION_TESTS_MAX];
    struct protection_failover failover;
    struct protection_leaving leaving;
    struct vault_stores successor; /* target "": this vault is the authority */
    uint64_t changed_ms;
    /* --- not in the document --- */
    uint64_t number; /* of its entry; DOCLOG_NONE: none yet, these are the defaults */
};

bool protection_make(struct protection **out, struct err *err) MUST_CHECK; /* state none */
void protection_release(struct protection **p); /* NULL inside is fine; leaves NULL */
#define AUTO_PROTECTION CLEANUP(protection_release)

/* `to` becomes the same in all but its number. */
bool protection_copy(struct protection *to, const struct protection *from,
                     struct err *err) MUST_CHECK;
bool protection_parse(struct span text, struct protection *out, struct err *err) MUST_CHECK;
bool protection_write(const struct protection *p, struct buf *out, struct err *err) MUST_CHECK;

/* Makes `out`. A vault without a document gives the defaults. */
bool protection_load(const struct doclog_vault *v, struct protection **out,
                     struct err *err) MUST_CHECK;
/* Puts it behind the entry that it was read from, and follows. ERR_EXISTS: it was changed since. */
bool protection_append(const struct doclog_vault *v, struct protection *p,
                       struct err *err) MUST_CHECK;

/* Reads, lets `change` decide and alter, and appends; again from the start, with what is there
 * then, when another host was first. So `change` looks at the state each time (states_check) and
 * has no effect but on `p`. False from it ends all with its error; *same set true ends with success
 * and nothing appended. `out` (NULL: not wanted) is the document as it is then. */
typedef bool protection_change_fn(void *context, struct protection *p, bool *same, struct err *err);
bool protection_change(const struct doclog_vault *v, protection_change_fn *change, void *context,
                       struct protection **out, struct err *err) MUST_CHECK;

/* What the shutdown job of this asking carries: of several that were posted the newest counts. */
#define PROTECTION_ASKED_MAX (PROTECTION_JOB_MAX + 24u)
void protection_asked(const struct protection_leaving *l, char out[PROTECTION_ASKED_MAX]);

/* The XML of a network by its name; NULL: not known. */
const struct buf *protection_network(const struct protection *p, const char *name);
/* Adds it, or replaces what is known of it. */
bool protection_network_add(struct protection *p, const char *name, struct span xml,
                            struct err *err) MUST_CHECK;

struct protection_test *protection_test_find(struct protection *p, const char *id); /* or NULL */
/* Both keep state and tests in step: none <-> test-running; other states stay. ERR_FULL. */
bool protection_test_add(struct protection *p, const struct protection_test *t,
                         struct err *err) MUST_CHECK;
void protection_test_remove(struct protection *p, const char *id);
/* A revert on that host was begun, and its machine does not run yet. */
bool protection_reverts(const struct protection *p, const char *host);
/* Of the failover nothing is left to do, the way back is protected or it was cancelled: none, or
 * test-running when drills run. */
void protection_settle(struct protection *p);

#endif
