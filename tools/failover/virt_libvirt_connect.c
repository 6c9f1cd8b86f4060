/* SPDX-License-Identifier: MIT
 * Connecting, within a bound that libvirt itself does not have: a daemon that hangs takes the
 * connection and never answers. */
#include "tools/failover/virt_libvirt.h"

#include "common/deadline.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

struct attempt {
    char uri[VIRT_URI_MAX + 1];
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t change;
    bool over, forsaken; /* who comes second frees it */
    virConnectPtr connection;
    struct err err;
};

static void attempt_free(struct attempt *a)
{
    if (a->connection != NULL)
        virConnectClose(a->connection);
    pthread_cond_destroy(&a->change);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* A socket that is not there may come: its daemon is not running yet. */
static void note_error(struct attempt *a)
{
    libvirt_error(&a->err, "no connection to libvirt (%s)", a->uri);
    if (a->err.kind != ERR_DENIED)
        a->err.kind = ERR_TRANSIENT;
}

static void *run(void *context)
{
    struct attempt *a = context;
    a->connection = virConnectOpen(a->uri);
    if (a->connection == NULL)
        note_error(a);
    pthread_mutex_lock(&a->lock);
    bool forsaken = a->forsaken;
    a->over = true;
    pthread_cond_signal(&a->change);
    pthread_mutex_unlock(&a->lock);
    if (forsaken)
        attempt_free(a);
    return NULL;
}

/* Whether it is over; else it belongs to its thread from now on. */
static bool wait_for(struct attempt *a, unsigned within_ms)
{
    struct timespec until = deadline_after(within_ms);
    LOCK_SCOPE(&a->lock);
    while (!a->over && pthread_cond_timedwait(&a->change, &a->lock, &until) != ETIMEDOUT) {
    }
    a->forsaken = !a->over;
    return a->over;
}

bool libvirt_connect(const char *uri, unsigned within_ms, virConnectPtr *out, struct err *err)
{
    pthread_t thread;
    sigset_t all, before; /* signals are for the threads of the verbs */
    struct attempt *a = calloc(1, sizeof *a);

    if (a == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    snprintf(a->uri, sizeof a->uri, "%s", uri);
    pthread_mutex_init(&a->lock, NULL);
    deadline_cond_init(&a->change);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        attempt_free(a);
        return err_errno(err, failed, "connecting to libvirt");
    }
    pthread_detach(thread);
    if (!wait_for(a, within_ms))
        return err_set(err, ERR_TRANSIENT,
                       "no connection to libvirt (%s): its daemon has not answered in %u s; does "
                       "virsh answer? Else restart the daemon",
                       uri, within_ms / 1000);
    *out = TAKE(a->connection);
    if (*out == NULL && err != NULL)
        *err = a->err;
    attempt_free(a);
    return *out != NULL;
}
