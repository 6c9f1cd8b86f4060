/* SPDX-License-Identifier: MIT */
#include "tools/ending.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct ending {
    pthread_t thread;
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t change;
    bool asked; /* a signal came */
    bool over;  /* the work has ended */
};

static sigset_t signals(void)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGTERM);
    sigaddset(&s, SIGINT);
    return s;
}

/* False: until then nothing changed. */
static bool wait_locked(struct ending *e, const bool *what, uint64_t ms)
{
    struct timespec until = deadline_after(ms);
    while (!*what && pthread_cond_timedwait(&e->change, &e->lock, &until) != ETIMEDOUT)
        ;
    return *what;
}

static void *wait_for_signal(void *context)
{
    struct ending *e = context;
    sigset_t set = signals();
    int which;
    sigwait(&set, &which);
    LOCK_SCOPE(&e->lock);
    e->asked = true;
    pthread_cond_broadcast(&e->change);
    if (!wait_locked(e, &e->over, ENDING_PATIENCE_MS)) {
        log_info("ended while a store did not answer");
        _exit(0);
    }
    return NULL;
}

bool ending_begin(struct ending **out, struct err *err)
{
    struct ending *e = calloc(1, sizeof *e);
    sigset_t set = signals();
    if (e == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_mutex_init(&e->lock, NULL);
    deadline_cond_init(&e->change);
    int failed = pthread_create(&e->thread, NULL, wait_for_signal, e);
    if (failed == 0) {
        *out = e;
        return true;
    }
    pthread_cond_destroy(&e->change);
    pthread_mutex_destroy(&e->lock);
    free(e);
    return err_errno(err, failed, "cannot start a thread");
}

bool ending_asked(struct ending *e, uint64_t wait_ms)
{
    LOCK_SCOPE(&e->lock);
    return wait_locked(e, &e->asked, wait_ms);
}

void ending_release(struct ending **ending)
{
    struct ending *e = *ending;
    if (e == NULL)
        return;
    *ending = NULL;
    pthread_mutex_lock(&e->lock);
    e->over = true;
    pthread_cond_broadcast(&e->change);
    pthread_mutex_unlock(&e->lock);
    pthread_kill(e->thread, SIGTERM); /* in case none came */
    pthread_join(e->thread, NULL);
    pthread_cond_destroy(&e->change);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
