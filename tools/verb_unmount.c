/* SPDX-License-Identifier: MIT */
#include "tools/control.h"
#include "tools/disk_lock.h"
#include "tools/mounts.h"
#include "tools/vm.h"

#include <errno.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#define TIMEOUT_DEFAULT_S 30u
#define TIMEOUT_MAX_S     86400u
#define ANSWER_MS         10000u
#define TICK_NS           100000000
#define END_TRIES         100u /* ticks, for the processes to end */
#define BUSY_TRIES        50u  /* ticks, for what uses it and was told to end */

static const struct option_spec options[] = {
    {"wait", "target", true, false,
     "Fail unless all is durable in the cache; =target: and applied there."},
    {"timeout", "SECONDS", false, false, "How long the last cut may take, 30 unless told."},
    OPTIONS_END,
};

static void pause_tick(void)
{
    nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
}

/* An ordinary user's FUSE mounts are unmounted by fusermount3. */
static int unmount_as_user(const char *point)
{
    char *argv[] = {(char[]){"fusermount3"}, (char[]){"-u"}, (char[]){"-q"},
                    (char[]){"--"},          (char *)point,  NULL};
    pid_t pid;
    int status;
    int failed = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (failed)
        return failed;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EBUSY;
}

static bool unmount(const char *point, struct err *err)
{
    int failed = umount2(point, UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
    if (failed == EPERM)
        failed = unmount_as_user(point);
    if (failed == EBUSY)
        return err_set(err, ERR_BUSY,
                       "%s is in use and stays mounted: stop the VM or close what uses it (fuser "
                       "-vm %s shows it)",
                       point, point);
    return failed == 0 || err_errno(err, failed, "%s", point);
}

/* *client stays NULL when no worker answers. */
static bool announce_once(const struct verb_call *call, const char *vm, const cJSON *request,
                          struct control_client **client, struct err *err)
{
    struct control_client *c AUTO_CONTROL = NULL;
    if (!vm_connect(call, vm, &c, err))
        return true;
    if (!control_send(c, request, err) || !control_receive(c, ANSWER_MS, NULL, err))
        return err->kind == ERR_TRANSIENT;
    *client = TAKE(c);
    return true;
}

/* Announces the unmount, so that the last cut has our bound. *client stays NULL when no worker
 * answers, nor the one that takes its place just then: then there is nobody to make a last cut, and
 * what is dirty is marked. */
static bool announce(const struct verb_call *call, const char *vm, uint64_t timeout_s,
                     struct control_client **client, struct err *err)
{
    cJSON *request AUTO_JSON = NULL;
    char point[PATH_MAX];
    uint64_t until_ns = call->world->ops->boottime_ns(call->world) + ANSWER_MS * 1000000ull;
    if (!command_make("unmount", &request, err) ||
        !json_add_u64(request, "timeout_ms", timeout_s * 1000, err))
        return false;
    while (announce_once(call, vm, request, client, err)) {
        if (*client != NULL || err->kind != ERR_TRANSIENT || !vm_locked(call->paths, vm, point) ||
            call->world->ops->boottime_ns(call->world) >= until_ns)
            return true;
        *err = ERR_NONE;
        pause_tick();
    }
    return false;
}

/* A process that is as good as gone, and no more to be seen, may hold its files a moment longer. Of
 * a source (`vm` not NULL) each try is announced anew: the worker may be another one by then. */
static bool unmount_soon(const struct verb_call *call, const char *point, const char *vm,
                         uint64_t timeout_s, struct control_client **client, struct err *err)
{
    for (unsigned i = 0;; i++) {
        bool good =
            (vm == NULL || announce(call, vm, timeout_s, client, err)) && unmount(point, err);
        if (good || err->kind != ERR_BUSY || i == BUSY_TRIES)
            return good;
        control_disconnect(client);
        *err = ERR_NONE;
        pause_tick();
    }
}

static void wait_for_end(const struct verb_call *call, const char *vm)
{
    char point[PATH_MAX];
    for (unsigned i = 0; i < END_TRIES && vm_locked(call->paths, vm, point); i++)
        pause_tick();
}

static bool unmount_source(const struct verb_call *call, const char *point, const char *name,
                           enum wait_for wait, uint64_t timeout_s, struct err *err)
{
    struct world *w = call->world;
    struct control_client *client AUTO_CONTROL = NULL;
    struct vm vm AUTO_VM = VM_NONE;
    cJSON *outcome AUTO_JSON = NULL;

    if (!unmount_soon(call, point, name, timeout_s, &client, err))
        return false;
    uint64_t deadline_ns = w->ops->boottime_ns(w) + timeout_s * 1000000000u, epoch;
    bool shipped = client ? control_receive(client, timeout_s * 1000 + ANSWER_MS, &outcome, err)
                          : err_set(err, ERR_TRANSIENT, "no worker answered");
    wait_for_end(call, name);
    if (!shipped) {
        err_wrap(err, "%s is unmounted, but not all is shipped%s", name,
                 err->kind == ERR_FENCED ? "" : "; the rest follows after the next mount");
        if (wait != WAIT_NOTHING)
            return false;
        fprintf(stderr, "farshore: %s\n", err->text);
        return true;
    }
    if (wait != WAIT_TARGET)
        return true;
    return json_u64(outcome, "epoch", &epoch, err) && vm_load(call, name, &vm, err) &&
           vm_open_caches(&vm, VM_LOOKS, err) && vm_wait_applied(&vm, epoch, deadline_ns, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    char point[PATH_MAX];
    struct mount_entry e;
    const char *vm;
    enum wait_for wait;
    uint64_t timeout_s;

    if (!option_wait(call->options, &wait, err) ||
        !option_number(call->options, "timeout", TIMEOUT_DEFAULT_S, 1, TIMEOUT_MAX_S, &timeout_s,
                       err) ||
        !mount_path(call->options->operands[0], point, err))
        return false;
    if (!mount_find(point, &e) || !mount_is_ours(&e, &vm))
        return err_set(err, ERR_NOT_FOUND,
                       "%s is no mount of farshore: farshore status shows where VMs are mounted",
                       point);
    struct control_client *nobody = NULL;
    if (!vm_name_valid(vm))
        return unmount_soon(call, point, NULL, 0, &nobody, err);
    return unmount_source(call, point, vm, wait, timeout_s, err);
}

const struct verb verb_unmount = {
    .name = "unmount",
    .summary = "Unmount, shipping what is left",
    .operands = "DIR",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
