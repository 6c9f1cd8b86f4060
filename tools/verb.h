/* SPDX-License-Identifier: MIT
 * The verb table: one verb per file tools/verb_NAME.c. A verb gets its parsed options, does its
 * work, prints its result, and returns an error for verb_main to print and turn into an exit code.
 */
#ifndef TOOLS_VERB_H
#define TOOLS_VERB_H

#include "backend/store/store.h"
#include "tools/config.h"
#include "tools/options.h"

/* Documented in farshore(1). */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_MISSING = 3,
    EXIT_FENCED = 4,
    EXIT_UNREACHABLE = 5,
    EXIT_WRONG_KEY = 6,
    EXIT_CORRUPT = 7,
    EXIT_BUSY = 8,
};
enum exit_code exit_code_of(enum err_kind kind);

struct verb_call {
    struct world *world;
    struct store_host host; /* the same world, and where credentials are */
    const struct paths *paths;
    const struct options *options;
};

struct verb {
    const char *name;
    const char *summary;  /* one line for the list */
    const char *operands; /* "VM DIR"; "" for none */
    size_t operands_least, operands_most;
    const struct option_spec *options;
    bool hidden; /* started by farshore itself, not by people */
    bool (*run)(const struct verb_call *call, struct err *err);
};

extern const struct verb *const verbs[]; /* NULL ends it */

/* The whole command: argv as main has it. Returns the exit code. */
int verb_main(int argc, char **argv);

/* The name in the table nearest to `word`, or NULL when none is near. */
const char *verb_nearest(const char *word);

extern const struct verb verb_enable, verb_disable, verb_join, verb_mount, verb_unmount,
    verb_worker, verb_process, verb_status, verb_points, verb_point, verb_recover, verb_verify,
    verb_pause, verb_resume, verb_resync, verb_set, verb_disk, verb_store, verb_endpoints,
    verb_validate, verb_host, verb_jobs, verb_job, verb_run_job, verb_plan, verb_hook, verb_glance,
    verb_test_failover, verb_cleanup, verb_failover, verb_change_point, verb_commit, verb_cancel,
    verb_reprotect, verb_revert, verb_policy, verb_gc;

#endif
