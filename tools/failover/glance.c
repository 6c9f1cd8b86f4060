/* SPDX-License-Identifier: MIT */
#include "tools/failover/glance.h"

#include "tools/failover/moved.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_TRIES 50 /* of 10 ms: one that hangs in the kernel is left to end by itself */

static void path_kept(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s/protection.json", p->state, (int)VM_NAME_MAX, vm);
}

void glance_begin(struct glance *g, const char *vm)
{
    char *argv[] = {(char[]){"farshore"}, (char[]){"glance"}, g->vm, NULL};
    posix_spawn_file_actions_t files;
    int ends[2];
    pid_t pid;

    *g = (struct glance){.pid = 0};
    snprintf(g->vm, sizeof g->vm, "%s", vm);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ) == 0) {
        g->pid = pid;
        g->fd = ends[0];
    } else {
        close(ends[0]);
    }
    close(ends[1]);
    posix_spawn_file_actions_destroy(&files);
}

/* All that is said until the end; false when that does not come in time. */
static bool collect(struct world *w, int fd, uint64_t deadline_ns, struct buf *out)
{
    for (;;) {
        uint64_t now = w->ops->boottime_ns(w);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int left = now < deadline_ns ? (int)((deadline_ns - now) / 1000000) : 0;
        int ready = poll(&p, 1, left);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || out->length > JSON_BYTES_MAX || !buf_reserve(out, 65536))
            return false;
        ssize_t n = read(fd, out->data + out->length, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        out->length += (size_t)n;
    }
}

/* *good: it said that it had the document. */
static void end(struct glance *g, bool *good)
{
    int status = 0;
    *good = false;
    if (g->pid == 0)
        return;
    close(g->fd);
    for (int i = 0; i < END_TRIES; i++) {
        if (waitpid(g->pid, &status, WNOHANG) == g->pid) {
            *good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    g->pid = 0;
}

void glance_release(struct glance *g)
{
    bool good;
    if (g->pid != 0)
        kill(g->pid, SIGKILL);
    end(g, &good);
}

/* To stand in for the vault. It is only for showing: a failure costs that. */
static void keep(const struct verb_call *call, const char *vm, struct span text)
{
    char path[PATH_BYTES_MAX];
    struct err ignored = ERR_NONE;
    path_state(call->paths, vm, path);
    if (access(path, F_OK) != 0)
        return;
    path_kept(call->paths, vm, path);
    if (!file_replace(call->world, path, 0600, text, &ignored))
        return;
}

static bool read_kept(const struct verb_call *call, const char *vm, struct protection *out)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct err ignored = ERR_NONE;
    path_kept(call->paths, vm, path);
    return file_load(call->world, path, JSON_BYTES_MAX, &text, &ignored) &&
           protection_parse(buf_span(&text), out, &ignored);
}

void glance_end(const struct verb_call *call, struct glance *g, uint64_t deadline_ns,
                struct protection **out, bool *fresh)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct err ignored = ERR_NONE;
    bool good = false;

    *fresh = false;
    *out = NULL;
    bool whole = g->pid != 0 && collect(call->world, g->fd, deadline_ns, &text);
    if (g->pid != 0 && !whole)
        kill(g->pid, SIGKILL);
    end(g, &good);
    if (!protection_make(out, &ignored))
        return;
    if (whole && good && protection_parse(buf_span(&text), *out, &ignored)) {
        *fresh = true;
        keep(call, g->vm, buf_span(&text));
        return;
    }
    protection_release(out); /* it may be half read */
    if (protection_make(out, &ignored) && !read_kept(call, g->vm, *out))
        protection_release(out);
}

/* Something on this host speaks of a failover: it was failed over to here or from here, or the
 * vault said so when it was last read. */
static bool is_suspect(const struct verb_call *call, const struct settings *s)
{
    struct moved moved;
    struct err ignored = ERR_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    bool there = false;
    if (!s->replicate || s->origin.generation.number != 0 ||
        !moved_read(call->world, call->paths, s->name, &moved, &there, &ignored) || there)
        return true;
    return protection_make(&p, &ignored) && read_kept(call, s->name, p) &&
           p->state != PROTECTION_NONE;
}

bool glance_check(const struct verb_call *call, const struct settings *s, enum states_verb verb,
                  bool always, struct err *err)
{
    struct protection *p AUTO_PROTECTION = NULL;
    struct glance glance AUTO_GLANCE = {.pid = 0};
    bool fresh;
    if (!always && !is_suspect(call, s))
        return true;
    glance_begin(&glance, s->name);
    glance_end(call, &glance, call->world->ops->boottime_ns(call->world) + GLANCE_MS * 1000000ull,
               &p, &fresh);
    if (!fresh)
        return true;
    return states_check(verb, s->name, p->state, (struct states_facts){.drills = p->test_count > 0},
                        err);
}

/* What would be written now is in no point when the revert goes on. */
static bool check_reverting(const struct settings *s, const struct protection *p, const char *host,
                            struct err *err)
{
    return !protection_reverts(p, host) || p->failover.generation.id == s->generation.id ||
           err_set(err, ERR_FENCED,
                   "a revert of %s to %s was begun: farshore revert %s --point %s goes on with it",
                   s->name, p->failover.point, s->name, p->failover.point);
}

bool glance_here(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct protection *p AUTO_PROTECTION = NULL;
    struct glance glance AUTO_GLANCE = {.pid = 0};
    struct host_config me;
    bool fresh;
    if (!host_config_load(call->world, call->paths, &me, err))
        return false;
    if (s->role == ROLE_SOURCE) {
        glance_begin(&glance, s->name);
        glance_end(call, &glance,
                   call->world->ops->boottime_ns(call->world) + GLANCE_MS * 1000000ull, &p, &fresh);
        if (fresh && (!moved_learn(call->world, call->paths, s, p, me.name, err) ||
                      !check_reverting(s, p, me.name, err)))
            return false;
    }
    return moved_check(call->world, call->paths, s->name, err);
}
