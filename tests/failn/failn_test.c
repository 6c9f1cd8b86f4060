/* SPDX-License-Identifier: MIT
 * Fault case 25: every allocation, system call and store call of enable, mount, write, ship,
 * process, recover, grow, thin and claim fails once, and for ever from there, one run for each call
 * stack. failn.h says what a call and a stack are, operations.h what an operation is.
 *
 * A run is two processes. The first prepares, lets the operation run with the failure, and ends it:
 * it neither crashes nor hangs (RUN_SECONDS), gives back its memory (where LeakSanitizer can see
 * it), descriptors and threads, and serves no wrong data. When the operation said that it
 * succeeded, the second one finds it done. In any case it then goes on with the state, without
 * failures.
 *
 * FAILN_SHARE=N     of N stacks one is run, the same each time (default 1: all)
 * FAILN_ONLY=OPERATION[:MODE:HASH]  what a finding names: only this, with its output shown
 * FAILN_DEEP=1      stacks go into libraries: each allocation of theirs fails (some hours)
 * FAILN_JOBS=N      runs at a time, else one per processor */
#include "tests/failn/failn.h"
#include "tests/failn/operations.h"
#include "tests/support/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_SECONDS  120u
#define JOBS_MAX     16u
#define STATUS_LEAKS 61
#define OUTPUT_SHOWN 3000

/* What the first process of a run says to the others. */
struct report {
    bool succeeded; /* as the operation said */
    struct err err; /* why not */
    unsigned lost_fds, lost_threads;
    struct err after; /* of the second process: what is not as it must be */
    bool after_good;
};

struct counts {
    _Atomic uint32_t runs[FAILN_CLASSES], missed[FAILN_CLASSES], findings[FAILN_CLASSES];
};

/* One of the processes that do runs, each with a place of its own. */
struct job {
    struct place place;
    struct failn_gate *gate;
    struct report *report;
    char output[PATH_MAX];
};

/* --- one run --- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
int __lsan_do_recoverable_leak_check(void);
static bool leaks(void)
{
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else nobody may look at us */
    return __lsan_do_recoverable_leak_check() != 0;
}
#define LEAKS_KNOWN
#endif
#endif
#ifndef LEAKS_KNOWN
static bool leaks(void)
{
    return false;
}
#endif

static unsigned entries(const char *folder)
{
    unsigned count = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d))
        count++;
    if (d)
        closedir(d);
    return count;
}

static void redirect(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        abort();
    close(fd);
}

/* One that was joined is seen a moment longer. */
static unsigned threads_now(unsigned before)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    unsigned now = entries("/proc/self/task");
    for (unsigned look = 0; look < 200 && now > before; look++) {
        nanosleep(&pause, NULL);
        now = entries("/proc/self/task");
    }
    return now;
}

static void first_process(const struct operation *o, struct job *j)
{
    struct report *r = j->report;
    failn_use(j->gate);
    o->prepare(&j->place);
    unsigned fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    failn_arm((uintptr_t)first_process);
    r->succeeded = o->run(&j->place, &r->err);
    failn_disarm();
    fflush(NULL);
    r->lost_fds = entries("/proc/self/fd") - fds;
    unsigned left = threads_now(threads); /* of `prepare` one may have gone meanwhile */
    r->lost_threads = left > threads ? left - threads : 0;
    o->end(&j->place);
    _exit(leaks() ? STATUS_LEAKS : 0);
}

static void second_process(const struct operation *o, struct job *j)
{
    struct report *r = j->report;
    bool fresh = !o->adopts || j->gate->mode == FAILN_EVER;
    failn_use(j->gate);
    if (r->succeeded && !o->check(&j->place, &r->after))
        err_wrap(&r->after, "SAID TO BE DONE, and is not");
    else
        r->after_good = o->after(&j->place, fresh, &r->after);
    fflush(NULL);
    _exit(0);
}

/* cmocka would go on with the next test. */
static void let_signals_kill(void)
{
    static const int deadly[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGABRT};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        signal(deadly[i], SIG_DFL);
}

typedef void process_fn(const struct operation *o, struct job *j);

static int in_process(process_fn *body, const struct operation *o, struct job *j)
{
    int status;
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        redirect(j->output);
        let_signals_kill();
        alarm(RUN_SECONDS);
        body(o, j);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            abort();
    return status;
}

static bool ended_well(int status, const char *which, char *finding, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(finding, size, "%s of its two processes %s (signal %d)", which,
                 WTERMSIG(status) == SIGALRM ? "hangs" : "crashes", WTERMSIG(status));
    else if (WEXITSTATUS(status) == STATUS_LEAKS)
        snprintf(finding, size, "memory is lost");
    else if (WEXITSTATUS(status) != 0)
        snprintf(finding, size, "%s of its two processes ends with %d", which, WEXITSTATUS(status));
    return finding[0] == '\0';
}

/* `finding` stays empty when all is well. */
static void run(const struct operation *o, struct job *j, char *finding, size_t size)
{
    struct report *r = j->report;
    place_empty(&j->place);
    memset(r, 0, sizeof *r);
    if (unlink(j->output) != 0 && errno != ENOENT)
        abort();
    finding[0] = '\0';
    if (!ended_well(in_process(first_process, o, j), "the first", finding, size))
        return;
    bool alone = j->gate->mode == FAILN_RECORD || (o->goes_on && j->gate->mode == FAILN_ONCE);
    if (j->place.truth->wrong[0])
        snprintf(finding, size, "wrong data served: %.400s", j->place.truth->wrong);
    else if (r->lost_fds > 0)
        snprintf(finding, size, "descriptors are lost: %d", (int)r->lost_fds);
    else if (r->lost_threads > 0)
        snprintf(finding, size, "threads are lost: %d", (int)r->lost_threads);
    else if (alone && !r->succeeded)
        snprintf(finding, size, "it does not succeed: %.400s", r->err.text);
    else if (!r->succeeded && r->err.text[0] == '\0')
        snprintf(finding, size, "it fails and does not say why");
    else if (ended_well(in_process(second_process, o, j), "the second", finding, size) &&
             !r->after_good)
        snprintf(finding, size, "afterwards: %.400s", r->after.text);
}

/* --- all runs of an operation --- */

static void show_stack(const struct failn_stack *s)
{
    char line[4096];
    size_t used = (size_t)snprintf(line, sizeof line, "addr2line -spfi -e /proc/%d/exe", getpid());
    for (size_t i = 0; i < FAILN_FRAMES_MAX && s->frames[i]; i++)
        used += (size_t)snprintf(line + used, sizeof line - used, " 0x%x", s->frames[i] - (i > 0));
    fflush(stdout);
    if (system(line) != 0)
        puts("(addr2line is not there)");
}

static void show_output(const struct job *j)
{
    char text[OUTPUT_SHOWN + 1];
    FILE *f = fopen(j->output, "r");
    if (f == NULL)
        return;
    size_t n = fread(text, 1, OUTPUT_SHOWN, f);
    text[n] = '\0';
    printf("%s\n", text);
    fclose(f);
}

static void fail_stack(const struct operation *o, struct job *j, const struct failn_stack *s,
                       enum failn_mode mode, struct counts *counts)
{
    char finding[700];
    struct failn_gate *g = j->gate;
    g->mode = mode;
    g->target = s->hash;
    g->kind = s->kind;
    atomic_store(&g->fired, false);
    atomic_store(&g->failed, 0);
    run(o, j, finding, sizeof finding);
    atomic_fetch_add(&counts->runs[s->kind], 1);
    if (!atomic_load(&g->fired))
        atomic_fetch_add(&counts->missed[s->kind], 1);
    if (getenv("FAILN_ONLY") && strchr(getenv("FAILN_ONLY"), ':')) {
        show_output(j);
        printf("calls that failed: %u; %s: %s\n", atomic_load(&g->failed),
               j->report->succeeded ? "it succeeded" : "it failed", j->report->err.text);
    }
    if (finding[0] == '\0')
        return;
    atomic_fetch_add(&counts->findings[s->kind], 1);
    printf("\nFINDING FAILN_ONLY=%s:%s:%016llx  %s fails: %s\n", o->name, failn_mode_names[mode],
           (unsigned long long)s->hash, s->name, finding);
    show_stack(s);
    show_output(j);
    fflush(stdout);
}

static unsigned number_of(const char *variable, unsigned otherwise)
{
    const char *text = getenv(variable);
    return text && atoi(text) > 0 ? (unsigned)atoi(text) : otherwise;
}

/* FAILN_ONLY=OPERATION[:MODE:HASH] */
static bool is_chosen(const struct operation *o, const struct failn_stack *s, enum failn_mode mode)
{
    char wanted[80];
    const char *only = getenv("FAILN_ONLY");
    if (only && strchr(only, ':')) {
        snprintf(wanted, sizeof wanted, "%s:%s:%016llx", o->name, failn_mode_names[mode],
                 (unsigned long long)s->hash);
        return strcmp(only, wanted) == 0;
    }
    return s->hash % number_of("FAILN_SHARE", 1) == 0;
}

static void job_make(struct job *j)
{
    place_make(&j->place);
    snprintf(j->output, sizeof j->output, "%s.out", j->place.dir.path);
    j->gate = failn_shared(sizeof *j->gate);
    j->gate->deep = getenv("FAILN_DEEP") != NULL;
    j->report = failn_shared(sizeof *j->report);
}

static void job_remove(struct job *j)
{
    place_remove(&j->place);
    unlink(j->output);
}

/* The stacks that come by when nothing fails. */
static void record(const struct operation *o, struct failn_stack *stacks)
{
    struct job j;
    char finding[700];
    job_make(&j);
    run(o, &j, finding, sizeof finding);
    if (finding[0])
        show_output(&j);
    job_remove(&j);
    if (finding[0] || j.gate->overflow)
        fail_msg("%s without failures: %s", o->name, finding[0] ? finding : "too many stacks");
    memcpy(stacks, j.gate->stacks, sizeof j.gate->stacks);
}

static void work(const struct operation *o, const struct failn_stack *stacks,
                 _Atomic uint32_t *next, struct counts *counts)
{
    struct job j;
    job_make(&j);
    for (;;) {
        uint32_t i = atomic_fetch_add(next, 1);
        if (i >= FAILN_STACKS_MAX)
            break;
        for (enum failn_mode mode = FAILN_ONCE; mode <= FAILN_EVER; mode++)
            if (stacks[i].hash && is_chosen(o, &stacks[i], mode))
                fail_stack(o, &j, &stacks[i], mode, counts);
    }
    job_remove(&j);
    fflush(stdout);
    _exit(0);
}

/* What came by in the run that noted it comes by again, but for turns of threads; and a stack that
 * was asked for by name is there. */
static void check_met(const struct counts *counts)
{
    uint32_t runs = 0, missed = 0;
    const char *only = getenv("FAILN_ONLY");
    for (enum failn_class k = 0; k < FAILN_CLASSES; k++) {
        runs += atomic_load(&counts->runs[k]);
        missed += atomic_load(&counts->missed[k]);
    }
    assert_true(missed * 10 <= runs);
    if (only && strchr(only, ':') && runs == 0)
        fail_msg("%s: this program has no such stack", only);
}

static uint32_t print_table(const struct operation *o, const struct failn_stack *stacks,
                            struct counts *counts)
{
    uint32_t findings = 0;
    for (enum failn_class k = 0; k < FAILN_CLASSES; k++) {
        uint32_t distinct = 0, calls = 0;
        for (size_t i = 0; i < FAILN_STACKS_MAX; i++)
            if (stacks[i].hash && stacks[i].kind == k) {
                distinct++;
                calls += stacks[i].calls;
            }
        printf("%-8s %-6s %6u calls %5u stacks %5u runs %4u not met %3u findings\n", o->name,
               failn_class_names[k], calls, distinct, atomic_load(&counts->runs[k]),
               atomic_load(&counts->missed[k]), atomic_load(&counts->findings[k]));
        findings += atomic_load(&counts->findings[k]);
    }
    fflush(stdout);
    return findings;
}

/* OpenSSL made ready, as it is in a process that has begun: all runs but those of enable begin so.
 */
static void warm_up(void)
{
    static const uint8_t key[VM_KEY_BYTES] = {1};
    static const struct seal_salt salt = {.bytes = {2}};
    struct keys *keys AUTO_KEYS = NULL;
    struct sealer *sealer AUTO_SEALER = NULL;
    struct err err = ERR_NONE;
    check_ok(keys_from_vm_key(key, &keys, &err), err);
    check_ok(sealer_make(keys, SEAL_DATA, &salt, &sealer, &err), err);
}

static void all_runs(void **state)
{
    const struct operation *o = *state;
    const char *only = getenv("FAILN_ONLY");
    if (only && strncmp(only, o->name, strcspn(only, ":")) != 0)
        return;
    struct failn_stack *stacks = failn_shared(FAILN_STACKS_MAX * sizeof *stacks);
    struct counts *counts = failn_shared(sizeof *counts);
    _Atomic uint32_t *next = failn_shared(sizeof *next);
    unsigned jobs = number_of("FAILN_JOBS", (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    if (!o->cold)
        warm_up();
    record(o, stacks);
    fflush(NULL);
    for (unsigned i = 0; i < jobs && i < JOBS_MAX; i++) {
        pid_t child = fork();
        if (child == 0)
            work(o, stacks, next, counts);
        assert_true(child > 0);
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    assert_int_equal(print_table(o, stacks, counts), 0);
    assert_int_equal(failed, 0);
    check_met(counts);
}

int main(void)
{
    struct CMUnitTest tests[OPERATIONS];
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1); /* memory: syncs cost nothing */
    for (size_t i = 0; i < OPERATIONS; i++)
        tests[i] = (struct CMUnitTest){.name = operations[i].name,
                                       .test_func = all_runs,
                                       .initial_state = (void *)(uintptr_t)&operations[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
