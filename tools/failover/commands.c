/* SPDX-License-Identifier: MIT */
#include "tools/failover/commands.h"

#include "common/deadline.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define OUTPUT_FILE_MAX (16u << 20) /* printed so far, before it may print no more */
#define LOOK_MS         200         /* how often that is looked at */
#define TERM_MS         5000        /* from SIGTERM to SIGKILL */
#define DISK_PREFIX     "FARSHORE_DISK_"

extern char **environ;

/* --- the environment --- */

void command_disk_variable(const char *disk, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "%s", DISK_PREFIX);
    for (const char *p = disk; *p != '\0' && at + 1 < size; p++)
        out[at++] = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
    if (at < size)
        out[at] = '\0';
}

/* What execve wants: pointers to texts that are ours. */
struct environment {
    char **rows;
    size_t count, room;
};

static void environment_release(struct environment *e)
{
    for (size_t i = 0; i < e->count; i++)
        free(e->rows[i]);
    free(e->rows);
}

static bool add(struct environment *e, const char *name, const char *value, struct err *err)
{
    assert(e->count + 1 < e->room);
    if (asprintf(&e->rows[e->count], "%s=%s", name, value) < 0) {
        e->rows[e->count] = NULL;
        return err_set(err, ERR_FULL, "out of memory");
    }
    e->count++;
    return true;
}

/* Ours are the command's; those of a farshore around it (FARSHORE_CONFIG, ...) stay. */
static bool is_given(const struct command *c, const char *row)
{
    size_t length = strcspn(row, "=");
    if (strncmp(row, DISK_PREFIX, strlen(DISK_PREFIX)) == 0 ||
        (length == 11 && strncmp(row, "FARSHORE_VM", 11) == 0) ||
        (length == 14 && strncmp(row, "FARSHORE_DISKS", 14) == 0))
        return true;
    for (size_t i = 0; i < c->value_count; i++)
        if (strncmp(c->values[i].name, row, length) == 0 && c->values[i].name[length] == '\0')
            return true;
    return false;
}

static bool add_disks(const struct command *c, struct environment *e, struct err *err)
{
    struct buf names AUTO_BUF = BUF_NONE;
    char variable[128];

    for (size_t i = 0; i < c->disk_count; i++) {
        command_disk_variable(c->disks[i].name, variable, sizeof variable);
        size_t length = strlen(variable);
        for (size_t r = 0; r < e->count; r++)
            if (strncmp(e->rows[r], variable, length) == 0 && e->rows[r][length] == '=')
                return err_set(err, ERR_INVALID,
                               "two disks of %s are both %s for its commands: rename one", c->vm,
                               variable);
        if (!add(e, variable, c->disks[i].value, err))
            return false;
        buf_put(&names, " ", i > 0);
        buf_put(&names, c->disks[i].name, strlen(c->disks[i].name));
    }
    buf_put_u8(&names, 0);
    return buf_ok(&names, err) && add(e, "FARSHORE_DISKS", (const char *)names.data, err);
}

static bool environment_make(const struct command *c, struct environment *e, struct err *err)
{
    size_t inherited = 0;
    while (environ != NULL && environ[inherited] != NULL)
        inherited++;
    e->room = inherited + c->disk_count + c->value_count + 3;
    e->rows = calloc(e->room, sizeof *e->rows);
    if (e->rows == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!add(e, "FARSHORE_VM", c->vm, err) || !add_disks(c, e, err))
        return false;
    for (size_t i = 0; i < c->value_count; i++)
        if (!add(e, c->values[i].name, c->values[i].value, err))
            return false;
    for (size_t i = 0; i < inherited; i++) {
        if (is_given(c, environ[i]))
            continue;
        e->rows[e->count] = strdup(environ[i]);
        if (e->rows[e->count] == NULL)
            return err_set(err, ERR_FULL, "out of memory");
        e->count++;
    }
    return true;
}

/* --- the process --- */

struct child {
    pid_t pid;
    int pidfd;
    int output; /* a file in memory: a pipe's end would end what stays in the background */
};

static void child_release(struct child *c)
{
    cleanup_fd(&c->pidfd);
    cleanup_fd(&c->output);
}

/* Between fork and exec only calls that are safe there. */
static _Noreturn void become(const char *line, char **environment, int output, int nothing)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)line, NULL};
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;

    setsid();
    for (int s = 1; s < NSIG; s++)
        (void)sigaction(s, &standard, NULL); /* KILL and STOP refuse */
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(nothing, 0) == 0 && dup2(output, 1) == 1 && dup2(output, 2) == 2 &&
        close_range(3, ~0u, 0) == 0 && chdir("/") == 0)
        execve("/bin/sh", argv, environment);
    _exit(127);
}

static bool child_start(const struct command *c, struct environment *e, struct child *out,
                        struct err *err)
{
    int nothing AUTO_FD = open("/dev/null", O_RDONLY | O_CLOEXEC);
    out->output = memfd_create("farshore-command", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (nothing < 0 || out->output < 0 || fcntl(out->output, F_SETFL, O_APPEND) < 0)
        return err_errno(err, errno, "the command %s", c->what);
    out->pid = fork();
    if (out->pid == 0)
        become(c->line, e->rows, out->output, nothing);
    if (out->pid < 0)
        return err_errno(err, errno, "the command %s", c->what);
    out->pidfd = pidfd_open(out->pid, 0);
    return true;
}

/* True: it has ended. */
static bool wait_ended(const struct child *c, int ms)
{
    struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
    siginfo_t info = {.si_pid = 0};
    (void)poll_paced(&p, 1, ms); /* whatever it says, we look */
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == c->pid;
}

static uint64_t elapsed_ms(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)((now.tv_sec - since->tv_sec) * 1000 +
                      (now.tv_nsec - since->tv_nsec) / 1000000);
}

/* Until it ends, or for so long; what prints without end is stopped from printing. */
static bool child_wait(const struct child *c, uint64_t timeout_ms)
{
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        uint64_t gone = elapsed_ms(&begin), left = gone < timeout_ms ? timeout_ms - gone : 0;
        struct stat st;
        if (wait_ended(c, left < LOOK_MS ? (int)left : LOOK_MS))
            return true;
        if (left == 0)
            return false;
        if (fstat(c->output, &st) == 0 && st.st_size > (off_t)OUTPUT_FILE_MAX)
            (void)fcntl(c->output, F_ADD_SEALS, F_SEAL_GROW);
    }
}

/* The status; with all of its group gone when it did not end in time. */
static int child_end(const struct child *c, bool ended)
{
    int status = 0;
    if (!ended) {
        (void)kill(-c->pid, SIGTERM);
        (void)child_wait(c, TERM_MS);
        (void)kill(-c->pid, SIGKILL); /* also those that outlived the command itself */
    }
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    /* What stays in the background may print no more, and its memory does not grow. */
    (void)fcntl(c->output, F_ADD_SEALS, F_SEAL_GROW);
    return status;
}

/* --- what it printed --- */

static bool read_output(const struct child *c, struct buf *out, struct err *err)
{
    struct stat st;
    if (fstat(c->output, &st) < 0)
        return err_errno(err, errno, "the command's output");
    off_t size = st.st_size, from = 0;
    if (size > (off_t)COMMAND_OUTPUT_BYTES_MAX)
        from = size - (off_t)COMMAND_OUTPUT_BYTES_MAX;
    uint8_t *to = buf_extend(out, (size_t)(size - from));
    if (to == NULL)
        return buf_ok(out, err);
    ssize_t n = pread(c->output, to, (size_t)(size - from), from);
    return n == (ssize_t)(size - from) || err_set(err, ERR_IO, "the command's output is cut off");
}

/* For a text on one line. */
static void last_line(const struct buf *b, char *out, size_t size)
{
    size_t end = b->length, start, used = 0;
    while (end > 0 && isspace(b->data[end - 1]))
        end--;
    for (start = end; start > 0 && b->data[start - 1] != '\n'; start--)
        ;
    for (size_t i = start; i < end && used + 1 < size; i++)
        out[used++] = iscntrl(b->data[i]) ? ' ' : (char)b->data[i];
    out[used] = '\0';
}

static bool judge(const struct command *c, int status, bool ended, const struct buf *printed,
                  struct err *err)
{
    char said[240], line[256];
    last_line(printed, said, sizeof said);
    snprintf(line, sizeof line, "%s%s%s", said[0] != '\0' ? " (\"" : "", said,
             said[0] != '\0' ? "\")" : "");
    if (!ended)
        return err_set(err, ERR_TRANSIENT,
                       "the command %s of %s did not end within %llu s and was killed%s", c->what,
                       c->vm, (unsigned long long)(c->timeout_ms / 1000), line);
    if (WIFSIGNALED(status))
        return err_set(err, ERR_IO, "the command %s of %s was killed by signal %d%s", c->what,
                       c->vm, WTERMSIG(status), line);
    return WEXITSTATUS(status) == 0 ||
           err_set(err, ERR_IO, "the command %s of %s failed with exit code %d%s", c->what, c->vm,
                   WEXITSTATUS(status), line);
}

bool command_run(const struct command *c, struct buf *output, struct err *err)
{
    struct environment e CLEANUP(environment_release) = {.count = 0};
    struct child child CLEANUP(child_release) = {.pidfd = -1, .output = -1};
    struct buf printed AUTO_BUF = BUF_NONE;

    assert(c->disk_count <= COMMAND_DISKS_MAX && c->value_count <= COMMAND_VALUES_MAX);
    if (strlen(c->line) > COMMAND_BYTES_MAX)
        return err_set(err, ERR_INVALID, "the command %s of %s is longer than %u bytes", c->what,
                       c->vm, COMMAND_BYTES_MAX);
    if (!environment_make(c, &e, err) || !child_start(c, &e, &child, err))
        return false;
    bool ended = child_wait(&child, c->timeout_ms);
    int status = child_end(&child, ended);
    if (!read_output(&child, &printed, err))
        return false;
    if (output != NULL)
        buf_put(output, printed.data, printed.length);
    return judge(c, status, ended, &printed, err);
}
