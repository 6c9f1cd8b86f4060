/* SPDX-License-Identifier: MIT */
#include "fs/mount/recovery_mount.h"

#include "common/deadline.h"
#include "common/log.h"
#include "fs/mount/daemon.h"
#include "fs/mount/mount_point.h"
#include "fs/mount/recovery_fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#define INIT_PATIENCE_MS 30000u /* for the kernel's first request; it comes with the mount */
#define END_LOOK_MS      500u   /* how late the end of the mount may be noticed */
#define END_PATIENCE_MS  2000u  /* then calls to stores that do not answer are ended */

/* --- the histories, looked at again and again --- */

struct refresher {
    struct recovery *recovery;
    pthread_t thread;
    pthread_mutex_t stop_lock;
    bool stop;
    pthread_cond_t stopped; /* CLOCK_MONOTONIC */
};

/* False: stop. */
static bool wait_for_next(struct refresher *f, uint64_t ms)
{
    struct timespec until = deadline_after(ms);
    LOCK_SCOPE(&f->stop_lock);
    while (!f->stop && pthread_cond_timedwait(&f->stopped, &f->stop_lock, &until) != ETIMEDOUT) {
    }
    return !f->stop;
}

static void *refresh_run(void *context)
{
    struct refresher *f = context;
    struct recovery *r = f->recovery;
    bool failing[RECOVERY_VMS_MAX] = {false};
    while (wait_for_next(f, r->config->refresh_ms)) {
        for (size_t i = 0; i < r->tree.vm_count; i++) {
            struct err err = ERR_NONE;
            bool failed = !history_refresh(r->tree.vms[i].view.history, &err);
            if (failed && !failing[i])
                log_warning("%s: new points do not appear: %s", r->tree.vms[i].name, err.text);
            else if (!failed && failing[i])
                log_info("%s: new points appear again", r->tree.vms[i].name);
            failing[i] = failed;
        }
        open_points_tend(r->points);
    }
    return NULL;
}

/* With every signal blocked in it: those that end the mount are for the thread that waits. */
static bool refresher_start(struct refresher *f, struct recovery *r, struct err *err)
{
    sigset_t all, before;
    f->recovery = r;
    pthread_mutex_init(&f->stop_lock, NULL);
    deadline_cond_init(&f->stopped);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&f->thread, NULL, refresh_run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure == 0 || err_errno(err, failure, "cannot start a thread");
}

static void refresher_stop(struct refresher *f)
{
    pthread_mutex_lock(&f->stop_lock);
    f->stop = true;
    pthread_cond_signal(&f->stopped);
    pthread_mutex_unlock(&f->stop_lock);
    pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->stopped);
    pthread_mutex_destroy(&f->stop_lock);
}

/* --- the end: no reader and no store may hold the process for long once it is unmounted --- */

struct ender {
    struct recovery *r;
    struct fuse_session *session;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t change; /* CLOCK_MONOTONIC */
    bool ended;            /* guarded by lock: no request is served any more */
    bool over;             /* likewise: everything has been given back */
};

/* Told to end, a session still waits for those of its threads that wait for a store.
 * The kernel that had an error for its first request asks nothing more, and lets everybody wait. */
static void wait_for_end_locked(struct ender *e)
{
    unsigned waited_ms = 0;
    while (!e->ended && !e->over && !fuse_session_exited(e->session)) {
        struct timespec until = deadline_after(END_LOOK_MS);
        if (pthread_cond_timedwait(&e->change, &e->lock, &until) != ETIMEDOUT ||
            atomic_load(&e->r->is_usable))
            continue;
        waited_ms += END_LOOK_MS;
        if (waited_ms == INIT_PATIENCE_MS)
            kill(getpid(), SIGTERM); /* for the thread that waits */
    }
}

static void *ender_run(void *context)
{
    struct ender *e = context;
    pthread_mutex_lock(&e->lock);
    wait_for_end_locked(e);
    struct timespec until = deadline_after(END_PATIENCE_MS);
    while (!e->over && pthread_cond_timedwait(&e->change, &e->lock, &until) != ETIMEDOUT) {
    }
    const struct recovery_mount_config *config = e->r->config;
    bool late = !e->over;
    pthread_mutex_unlock(&e->lock);
    if (late && config->cancel)
        config->cancel(config->context);
    return NULL;
}

/* Without a thread to spare, stores that do not answer end by their own time-outs. */
static void ender_start(struct ender *e, struct recovery *r, struct fuse_session *session)
{
    sigset_t all, before;
    *e = (struct ender){.r = r, .session = session};
    pthread_mutex_init(&e->lock, NULL);
    deadline_cond_init(&e->change);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    e->running = pthread_create(&e->thread, NULL, ender_run, e) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void ender_set(struct ender *e, bool *what)
{
    LOCK_SCOPE(&e->lock);
    *what = true;
    pthread_cond_signal(&e->change);
}

static void ender_stop(struct ender *e)
{
    ender_set(e, &e->over);
    if (e->running)
        pthread_join(e->thread, NULL);
    pthread_cond_destroy(&e->change);
    pthread_mutex_destroy(&e->lock);
}

/* --- serving --- */

static void report(int fd, const struct err *err)
{
    /* Nobody reads any more: then nobody needs it. */
    ssize_t ignored = write(fd, err, sizeof *err);
    (void)ignored;
}

static void report_usable(struct recovery *r)
{
    struct err none = ERR_NONE;
    atomic_store(&r->is_usable, true);
    if (*r->report_fd < 0)
        return;
    report(*r->report_fd, &none);
    close(*r->report_fd);
    *r->report_fd = -1;
}

static bool session_make(struct recovery *r, struct fuse_session **out, struct err *err)
{
    /* Only root, or who fuse.conf allows, may open the mount to others. */
    char options[128], name[] = "farshore", flag[] = "-o";
    snprintf(options, sizeof options,
             "fsname=farshore-recovery,subtype=farshore,default_permissions%s%s",
             geteuid() == 0 ? ",allow_other" : "", r->config->writable_name ? "" : ",ro");
    char *argv[] = {name, flag, options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    *out = fuse_session_new(&args, &recovery_fuse_ops, sizeof recovery_fuse_ops, r);
    fuse_opt_free_args(&args);
    return *out || err_set(err, ERR_IO, "cannot begin a FUSE session");
}

static bool session_loop(struct fuse_session *session, struct err *err)
{
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    if (!loop)
        return err_set(err, ERR_FULL, "no memory for a FUSE session");
    fuse_loop_cfg_set_clone_fd(loop, 0);
    fuse_loop_cfg_set_max_threads(loop, RECOVERY_THREADS);
    int result = fuse_session_loop_mt(session, loop);
    fuse_loop_cfg_destroy(loop);
    return result >= 0 || err_errno(err, -result, "serving the mount");
}

static bool serve_mounted(struct recovery *r, struct fuse_session *session, struct ender *ender,
                          struct err *err)
{
    struct refresher refresher = {.stop = false};
    if (fuse_set_signal_handlers(session) != 0)
        return err_set(err, ERR_IO, "cannot set signal handlers");
    bool ok = refresher_start(&refresher, r, err);
    if (ok) {
        ok = session_loop(session, err);
        ender_set(ender, &ender->ended);
        refresher_stop(&refresher);
    }
    if (ok && !atomic_load(&r->is_usable))
        ok = err_set(err, ERR_IO, "the mount ended before the kernel's first request was answered");
    fuse_remove_signal_handlers(session);
    return ok;
}

static bool config_check(const struct recovery_mount_config *config, struct err *err)
{
    if (config->vm_count > RECOVERY_VMS_MAX)
        return err_set(err, ERR_INVALID, "%zu VMs are more than one mount shows (%u): name some",
                       config->vm_count, RECOVERY_VMS_MAX);
    if (!config->writable_name)
        return true;
    if (!vm_name_valid(config->writable_name))
        return err_set(err, ERR_INVALID,
                       "\"%s\" cannot name overlays: lower-case letters, digits, and . _ - behind "
                       "the first, at most %u",
                       config->writable_name, VM_NAME_MAX);
    if (config->scratch_folder[0] != '/')
        return err_set(err, ERR_INVALID, "the scratch folder must be an absolute path, not %s",
                       config->scratch_folder);
    return true;
}

/* Opens, mounts, serves, and gives everything back. */
static bool serve(const struct recovery_mount_config *given, const char *absolute, int *report_fd,
                  struct err *err)
{
    struct recovery_mount_config own = *given;
    const struct recovery_mount_config *config = &own;
    if ((own.open && !own.open(own.context, &own, err)) || !config_check(config, err))
        return false;
    struct fuse_session *session = NULL;
    struct recovery *r AUTO_FREE = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_FULL, "no memory for a recovery mount");
    r->config = config;
    r->tree = (struct recovery_tree){.vms = config->vms, .vm_count = config->vm_count};
    r->usable = report_usable;
    r->report_fd = report_fd;
    pthread_mutex_init(&r->owned_lock, NULL);
    pthread_mutex_init(&r->said_lock, NULL);
    bool ok = open_points_make(config, &r->points, err) && session_make(r, &session, err);
    if (ok && fuse_session_mount(session, absolute) != 0)
        ok = err_set(err, ERR_IO, "cannot mount %s: is /dev/fuse there, and may you use it?",
                     absolute);
    else if (ok) {
        struct ender ender;
        ender_start(&ender, r, session);
        ok = serve_mounted(r, session, &ender, err);
        fuse_session_unmount(session);
        open_points_release(&r->points);
        ender_stop(&ender);
    }
    if (session)
        fuse_session_destroy(session);
    open_points_release(&r->points);
    pthread_mutex_destroy(&r->said_lock);
    pthread_mutex_destroy(&r->owned_lock);
    return ok;
}

/* --- the daemon --- */

static _Noreturn void daemon_live(const struct recovery_mount_config *config, const char *absolute,
                                  int report_fd)
{
    struct err err = ERR_NONE;
    daemon_enter(config->log_fd);
    bool ok = serve(config, absolute, &report_fd, &err);
    if (!ok && report_fd >= 0)
        report(report_fd, &err);
    else if (!ok)
        log_error("%s: %s", absolute, err.text);
    _exit(ok ? 0 : 1);
}

static bool daemon_run(const struct recovery_mount_config *config, const char *absolute,
                       struct err *err)
{
    struct err result;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, errno, "cannot make a pipe");
    int reader AUTO_FD = ends[0];
    pid_t pid = fork();
    if (pid == 0)
        daemon_live(config, absolute, ends[1]);
    close(ends[1]);
    if (pid < 0)
        return err_errno(err, errno, "cannot start the recovery mount");
    ssize_t length;
    do
        length = read(reader, &result, sizeof result);
    while (length < 0 && errno == EINTR);
    if (length == (ssize_t)sizeof result && result.kind == ERR_OK)
        return true;
    if (length != (ssize_t)sizeof result) {
        daemon_end(pid, true);
        return err_set(err, ERR_IO, "%s: the recovery mount died before it was usable", absolute);
    }
    waitpid(pid, NULL, 0);
    *err = result;
    return false;
}

bool recovery_mount_run(const struct recovery_mount_config *config, struct err *err)
{
    char absolute[PATH_MAX];
    if (!mount_point_prepare(config->mount_point, absolute, err))
        return false;
    int nobody = -1;
    return config->foreground ? serve(config, absolute, &nobody, err)
                              : daemon_run(config, absolute, err);
}
