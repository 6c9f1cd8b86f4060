/* SPDX-License-Identifier: MIT */
#include "tools/verb.h"

#include "tools/nearest.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

const struct verb *const verbs[] = {
    &verb_enable,       &verb_join,
    &verb_mount,        &verb_unmount,
    &verb_process,      &verb_status,
    &verb_points,       &verb_point,
    &verb_recover,      &verb_verify,
    &verb_pause,        &verb_resume,
    &verb_resync,       &verb_set,
    &verb_disk,         &verb_disable,
    &verb_policy,       &verb_gc,
    &verb_store,        &verb_endpoints,
    &verb_validate,     &verb_test_failover,
    &verb_cleanup,      &verb_failover,
    &verb_change_point, &verb_commit,
    &verb_cancel,       &verb_reprotect,
    &verb_revert,       &verb_host,
    &verb_jobs,         &verb_job,
    &verb_plan,         &verb_hook,
    &verb_glance,       &verb_worker,
    &verb_run_job,      NULL,
};

enum exit_code exit_code_of(enum err_kind kind)
{
    switch (kind) {
    case ERR_OK:
        return EXIT_DONE;
    case ERR_INVALID:
        return EXIT_USAGE;
    case ERR_NOT_FOUND:
        return EXIT_MISSING;
    case ERR_FENCED:
        return EXIT_FENCED;
    case ERR_TRANSIENT:
        return EXIT_UNREACHABLE;
    case ERR_WRONG_KEY:
        return EXIT_WRONG_KEY;
    case ERR_CORRUPT:
        return EXIT_CORRUPT;
    case ERR_BUSY:
        return EXIT_BUSY;
    default:
        return EXIT_FAILED;
    }
}

const char *verb_nearest(const char *word)
{
    const char *known[sizeof verbs / sizeof *verbs];
    size_t count = 0;
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden)
            known[count++] = verbs[i]->name;
    known[count] = NULL;
    return word_nearest(word, known);
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; verbs[i]; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}

static void print_help(FILE *out)
{
    fputs("farshore keeps the disks of a host's virtual machines alive in another region.\n\n"
          "usage: farshore VERB [OPTIONS] ...\n\n",
          out);
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden)
            fprintf(out, "  %-13s %s\n", verbs[i]->name, verbs[i]->summary);
    fputs("\nfarshore VERB --help tells more of a verb; farshore --version prints the version.\n",
          out);
}

static void print_verb_help(const struct verb *v, FILE *out)
{
    fprintf(out, "%s\n\nusage: farshore %s%s%s [OPTIONS]\n\n", v->summary, v->name,
            *v->operands ? " " : "", v->operands);
    options_print(v->options, out);
}

static int fail(const struct err *err)
{
    bool told = err->kind != ERR_OK; /* else a defect of ours, which must not look like success */
    fprintf(stderr, "farshore: %s\n", told ? err->text : "it failed, and did not say why");
    return told ? (int)exit_code_of(err->kind) : EXIT_FAILED;
}

static bool run_verb(const struct verb *v, int argc, char **argv, struct err *err)
{
    struct options options;
    if (!options_parse(v->options, argc, argv, &options, err))
        return err_wrap(err, "%s", v->name);
    if (options.help) {
        print_verb_help(v, stdout);
        return true;
    }
    if (options.operand_count < v->operands_least || options.operand_count > v->operands_most)
        return err_set(err, ERR_INVALID, "%s: %s: farshore %s %s", v->name,
                       options.operand_count < v->operands_least ? "something is missing"
                                                                 : "too many words",
                       v->name, v->operands);
    struct paths paths;
    if (!paths_find(&paths, err))
        return false;
    struct verb_call call = {
        .world = world_real(),
        .host = {.world = world_real(), .credentials = paths.credentials, .env = getenv},
        .paths = &paths,
        .options = &options,
    };
    return v->run(&call, err);
}

static int unknown_verb(const char *word)
{
    struct err err = ERR_NONE;
    const char *nearest = verb_nearest(word);
    if (nearest)
        err_set(&err, ERR_INVALID, "unknown verb %s: did you mean %s?", word, nearest);
    else
        err_set(&err, ERR_INVALID, "unknown verb %s: farshore --help lists them", word);
    return fail(&err);
}

/* Keys and credentials are in the memory of nearly every verb, in buffers of libraries too, so no
 * process of ours is dumped whole, nor read by others of its user. exec gives it back, and each of
 * our processes comes by here. What of /proc/self we use, a process may use of itself all the same.
 */
static void keep_memory_private(void)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* cannot fail for 0 */
}

int verb_main(int argc, char **argv)
{
    keep_memory_private();
    signal(SIGPIPE, SIG_IGN); /* a peer that hangs up is an error to report, not a death */
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("farshore " FARSHORE_VERSION);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    const struct verb *v = find_verb(argv[1]);
    if (v == NULL)
        return unknown_verb(argv[1]);
    struct err err = ERR_NONE;
    if (!run_verb(v, argc - 2, argv + 2, &err))
        return fail(&err);
    if (fflush(stdout) != 0) {
        err_set(&err, ERR_IO, "standard output cannot be written");
        return fail(&err);
    }
    return EXIT_DONE;
}
