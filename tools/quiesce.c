/* SPDX-License-Identifier: MIT */
#include "tools/quiesce.h"

#include "tools/failover/commands.h"
#include "tools/failover/virt.h"
#include "tools/host_config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLACK_MS   5000u
#define THAW_TRIES 3

struct quiesce {
    pid_t pid;
    int fd;
};

/* What the process says: the outcome of the freeze, then of the thaw. */
struct answer {
    int kind; /* enum err_kind */
    char text[ERR_TEXT_MAX];
};

bool quiesce_possible(const struct settings *s)
{
    return s->machine->freeze[0] != '\0' || s->machine->domain[0] != '\0';
}

/* --- the process --- */

struct quieter {
    const struct verb_call *call;
    const struct settings *settings;
    struct virt *virt; /* NULL: commands */
};

static bool run_line(const struct settings *s, const char *what, uint64_t timeout_ms,
                     struct err *err)
{
    const struct command c = {.what = what,
                              .line = settings_machine_text(s, what),
                              .timeout_ms = timeout_ms,
                              .vm = s->name};
    return c.line[0] == '\0' || command_run(&c, NULL, err);
}

static bool freeze(struct quieter *q, struct err *err)
{
    struct host_config host;
    if (q->settings->machine->freeze[0] != '\0')
        return run_line(q->settings, "freeze", QUIESCE_FREEZE_MS, err);
    return host_config_load(q->call->world, q->call->paths, &host, err) &&
           virt_open(q->call->world, host.libvirt, &q->virt, err) &&
           virt_freeze(q->virt, q->settings->machine->domain, err);
}

/* Repeated, and after a freeze that failed half way as well. */
static bool thaw(struct quieter *q, struct err *err)
{
    for (int i = 0;; i++) {
        *err = ERR_NONE;
        bool good = q->virt ? virt_thaw(q->virt, q->settings->machine->domain, err)
                            : run_line(q->settings, "thaw", QUIESCE_THAW_MS, err);
        if (good || i + 1 == THAW_TRIES)
            return good;
    }
}

static void say(int fd, bool good, const struct err *err)
{
    struct answer a = {.kind = good ? ERR_OK : (int)err->kind};
    if (!good)
        snprintf(a.text, sizeof a.text, "%s", err->text);
    /* Whoever asked may be gone: what is to be done here is done all the same. */
    if (send(fd, &a, sizeof a, MSG_NOSIGNAL) < 0)
        return;
}

/* Until the other side hangs up or asks, or the time is over. */
static void hold(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    while (poll(&p, 1, QUIESCE_HOLD_MS) < 0 && errno == EINTR)
        ;
}

static void be_quieter(const struct verb_call *call, const struct settings *s, int fd)
{
    struct quieter q = {.call = call, .settings = s};
    struct err err = ERR_NONE, why = ERR_NONE;
    /* A ^C on the terminal is the command's to act on: it hangs up, and the guest is let go. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    bool frozen = freeze(&q, &err);
    say(fd, frozen, &err);
    if (frozen)
        hold(fd);
    bool thawed = (q.virt == NULL && s->machine->freeze[0] == '\0') || thaw(&q, &why);
    say(fd, thawed, &why);
    virt_close(&q.virt);
}

/* --- the command's side --- */

static bool receive(struct quiesce *q, uint64_t timeout_ms, struct err *err)
{
    struct answer a;
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    int ready;
    while ((ready = poll(&p, 1, (int)timeout_ms)) < 0 && errno == EINTR)
        ;
    if (ready == 0)
        return err_set(err, ERR_TRANSIENT, "the guest does not answer");
    if (ready < 0 || recv(q->fd, &a, sizeof a, 0) != (ssize_t)sizeof a)
        return err_set(err, ERR_IO, "the process that keeps the guest quiet has died");
    a.text[sizeof a.text - 1] = '\0';
    return a.kind == ERR_OK || err_set(err, (enum err_kind)a.kind, "%s", a.text);
}

bool quiesce_begin(const struct verb_call *call, const struct settings *s, struct quiesce **out,
                   struct err *err)
{
    int ends[2];
    struct quiesce *q AUTO_QUIESCE = calloc(1, sizeof *q);
    if (q != NULL)
        q->fd = -1;
    if (q == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return err_errno(err, q ? errno : ENOMEM, "a process that keeps the guest quiet");
    q->fd = ends[0];
    q->pid = fork();
    if (q->pid == 0) {
        close(ends[0]);
        be_quieter(call, s, ends[1]);
        _exit(0);
    }
    int failed = errno;
    close(ends[1]);
    if (q->pid < 0)
        return err_errno(err, failed, "a process that keeps the guest quiet");
    if (!receive(q, QUIESCE_FREEZE_MS + SLACK_MS, err))
        return err_wrap(err, "%s was not made quiet, and no point was made", s->name);
    *out = TAKE(q);
    return true;
}

/* The process ends by itself once we have hung up. */
static void finish(struct quiesce **q)
{
    if ((*q)->fd >= 0)
        close((*q)->fd);
    if ((*q)->pid > 0)
        while (waitpid((*q)->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    free(TAKE(*q));
}

bool quiesce_end(struct quiesce **q, struct err *err)
{
    /* It may have let go by itself already: then its word is there. No byte is sent, as one that it
     * left unread would take that word with it. */
    shutdown((*q)->fd, SHUT_WR);
    bool good = receive(*q, THAW_TRIES * QUIESCE_THAW_MS + SLACK_MS, err);
    finish(q);
    return good ||
           err_wrap(err, "the guest may still be frozen: let it go (virsh domfsthaw, or its thaw "
                         "command)");
}

void quiesce_release(struct quiesce **q)
{
    if (*q == NULL)
        return;
    finish(q);
}
