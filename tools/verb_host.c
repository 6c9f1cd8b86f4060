/* SPDX-License-Identifier: MIT
 * The agent of a host, as a service: tools/failover/agent.h in a loop that signals end. */
#include "common/log.h"
#include "tools/daemon_log.h"
#include "tools/ending.h"
#include "tools/failover/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define INTERVAL_DEFAULT_S 5u
#define INTERVAL_MAX_S     3600u
#define TEND_MS            200u

static const struct option_spec options[] = {
    {"libvirt", "URI", false, false, "The hypervisor of this host, qemu:///system unless told."},
    {"foreground", NULL, false, false, "Stay in the foreground, until a signal ends it."},
    {"interval", "SECONDS", false, false,
     "How often to look for jobs, and the processor for epochs; 5 unless told."},
    {"no-process", NULL, false, false, "Run no processor: farshore process runs elsewhere."},
    OPTIONS_END,
};

/* What is given is kept for all verbs of this host, by who has its lock: an agent that runs goes on
 * under the name that it began with. */
static bool configure(const struct verb_call *call, struct host_config *c, struct err *err)
{
    const struct options *o = call->options;
    const char *libvirt = option_value(o, "libvirt", 0);
    struct err why = ERR_NONE;

    bool known = host_config_load(call->world, call->paths, c, &why);
    if (!known && (o->operand_count == 0 || why.kind != ERR_INVALID)) {
        *err = why;
        return false;
    }
    if (!known)
        *c = (struct host_config){.libvirt = LIBVIRT_URI_DEFAULT};
    if (o->operand_count > 0)
        snprintf(c->name, sizeof c->name, "%s", o->operands[0]);
    if (o->operand_count > 0 && strlen(o->operands[0]) >= sizeof c->name)
        return err_set(err, ERR_INVALID, "a host's name has at most %u characters",
                       HOST_NAME_CHARS_MAX);
    if (libvirt != NULL && (*libvirt == '\0' || strlen(libvirt) >= sizeof c->libvirt))
        return err_set(err, ERR_INVALID, "--libvirt has 1 to %u characters", LIBVIRT_URI_MAX - 1);
    if (libvirt != NULL)
        snprintf(c->libvirt, sizeof c->libvirt, "%s", libvirt);
    return host_config_save(call->world, call->paths, c, err);
}

/* One agent to a CONFIG: the lock is held as long as the process lives. */
static bool lock_host(const struct verb_call *call, int *fd, struct err *err)
{
    char path[PATH_BYTES_MAX], holder[96] = "";
    snprintf(path, sizeof path, "%s/host.lock", call->paths->run);
    if (!dir_make(call->world, call->paths->run, 0700, err))
        return false;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_errno(err, errno, "%s", path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    ssize_t n = pread(*fd, holder, sizeof holder - 1, 0);
    holder[n > 0 ? (size_t)n : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    return err_set(err, ERR_BUSY, "farshore host: another one runs here already%s%s",
                   holder[0] ? ": " : "", holder);
}

static void say_holder(int fd, const char *name)
{
    char text[96];
    int length = snprintf(text, sizeof text, "host %s, process %d\n", name, (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
        log_warning("the lock of this host cannot say who holds it: %s", strerror(errno));
}

/* The folders are named as they are now: the service leaves the present one. */
static bool keep_folders(const struct paths *p, struct err *err)
{
    if (setenv("FARSHORE_CONFIG", p->config, 1) != 0 ||
        setenv("FARSHORE_STATE", p->state, 1) != 0 || setenv("FARSHORE_RUN", p->run, 1) != 0 ||
        setenv("FARSHORE_CREDENTIALS", p->credentials, 1) != 0 || chdir("/") != 0)
        return err_errno(err, errno, "leaving the present folder");
    return true;
}

/* In the parent: until the service says that it runs. */
static bool wait_ready(int fd, const char *log, const char *name, struct err *err)
{
    char byte;
    ssize_t n;
    while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR)
        ;
    if (n != 1)
        return err_set(err, ERR_IO, "farshore host %s has not started: see %s", name, log);
    printf("host %s: runs in the background, its log is %s\n", name, log);
    return true;
}

static bool leave_terminal(int log, struct err *err)
{
    int null AUTO_FD = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        return err_errno(err, errno, "leaving the terminal");
    setsid();
    return true;
}

/* Forks: *parent has only to wait for `ready`, a pipe's end; the child goes on with the other. */
static bool go_background(const struct verb_call *call, char log[PATH_BYTES_MAX], bool *parent,
                          int *ready, struct err *err)
{
    int ends[2];
    snprintf(log, PATH_BYTES_MAX, "%s/host.log", call->paths->state);
    if (!dir_make(call->world, call->paths->state, 0700, err))
        return false;
    int fd AUTO_FD = daemon_log_open(log);
    if (fd < 0)
        return err_errno(err, errno, "%s", log);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, errno, "a pipe");
    pid_t pid = fork();
    *parent = pid != 0;
    *ready = ends[*parent ? 0 : 1];
    close(ends[*parent ? 1 : 0]);
    if (pid < 0)
        return err_errno(err, errno, "going to the background");
    return *parent || leave_terminal(fd, err);
}

static bool serve(const struct verb_call *call, const struct host_config *me, uint64_t interval_s,
                  int *ready, struct err *err)
{
    struct ending *ending AUTO_ENDING = NULL;
    struct agent *agent CLEANUP(agent_release) = NULL;
    const struct agent_config config = {.call = call,
                                        .host = me->name,
                                        .no_process = option_given(call->options, "no-process"),
                                        .interval_s = interval_s};
    if (!ending_begin(&ending, err) || !agent_make(&config, &agent, err))
        return false;
    log_info("host %s: looking for its jobs every %llu s", me->name,
             (unsigned long long)interval_s);
    if (*ready >= 0 && write(*ready, "r", 1) == 1)
        close(*ready);
    *ready = -1;
    for (bool end = false; !end;) {
        agent_round(agent);
        for (uint64_t ms = 0; ms < interval_s * 1000 && !end; ms += TEND_MS) {
            agent_tend(agent);
            end = ending_asked(ending, TEND_MS);
        }
    }
    log_info("host %s: ending", me->name);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct host_config me;
    char log[PATH_BYTES_MAX];
    bool parent = false;
    int lock AUTO_FD = -1, ready AUTO_FD = -1;
    uint64_t interval_s;

    if (!option_number(call->options, "interval", INTERVAL_DEFAULT_S, 1, INTERVAL_MAX_S,
                       &interval_s, err) ||
        !lock_host(call, &lock, err) || !configure(call, &me, err))
        return false;
    if (!option_given(call->options, "foreground") &&
        !go_background(call, log, &parent, &ready, err))
        return false;
    if (parent)
        return wait_ready(ready, log, me.name, err);
    say_holder(lock, me.name);
    return keep_folders(call->paths, err) && serve(call, &me, interval_s, &ready, err);
}

const struct verb verb_host = {
    .name = "host",
    .summary = "Run the jobs of this host, a service",
    .operands = "[NAME]",
    .operands_least = 0,
    .operands_most = 1,
    .options = options,
    .run = run,
};
