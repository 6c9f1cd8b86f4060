/* SPDX-License-Identifier: MIT
 * The connection: events and errors. libvirt's events come by an event loop of the process,
 * which one thread of ours runs from the first connection to the end. */
#include "tools/failover/virt_libvirt.h"

#include "common/deadline.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

/* --- errors --- */

static void quiet(void *context, virErrorPtr error)
{
    (void)context, (void)error; /* err.text has it */
}

int libvirt_code(void)
{
    virErrorPtr e = virGetLastError();
    return e != NULL ? e->code : VIR_ERR_OK;
}

/* What the kernel said to libvirt, or to its daemon. */
static enum err_kind kind_of_errno(int errnum)
{
    switch (errnum) {
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
        return ERR_FULL;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case EAGAIN:
        return ERR_TRANSIENT;
    default:
        return ERR_IO;
    }
}

static enum err_kind kind_of(int code, const virError *e)
{
    const char *message = e != NULL && e->message != NULL ? e->message : "";
    switch (code) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
        return ERR_NOT_FOUND;
    case VIR_ERR_DOM_EXIST:
    case VIR_ERR_NETWORK_EXIST:
        return ERR_EXISTS;
    case VIR_ERR_OPERATION_FAILED: /* also a name or uuid that is another's */
        return strstr(message, "already") != NULL ? ERR_EXISTS : ERR_IO;
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_OPERATION_DENIED:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_HOOK_SCRIPT_FAILED:
        return ERR_DENIED;
    case VIR_ERR_SYSTEM_ERROR:
        return e->domain == VIR_FROM_RPC ? ERR_TRANSIENT : kind_of_errno(e->int1);
    case VIR_ERR_INTERNAL_ERROR: /* so says a connection that was lost */
        return e->domain == VIR_FROM_RPC ? ERR_TRANSIENT : ERR_IO;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_RPC:
    case VIR_ERR_OPERATION_TIMEOUT:
    case VIR_ERR_AGENT_UNRESPONSIVE:
    case VIR_ERR_AGENT_UNSYNCED:
        return ERR_TRANSIENT;
    case VIR_ERR_RESOURCE_BUSY:
        return ERR_BUSY;
    case VIR_ERR_NO_MEMORY:
        return ERR_FULL;
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_INVALID_ARG:
    case VIR_ERR_OPERATION_INVALID:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
    case VIR_ERR_XML_INVALID_SCHEMA:
    case VIR_ERR_NO_NAME:
    case VIR_ERR_NO_OS:
    case VIR_ERR_NO_TARGET:
    case VIR_ERR_NO_SOURCE:
        return ERR_INVALID;
    default:
        return ERR_IO;
    }
}

static const char *advice(int code)
{
    switch (code) {
    case VIR_ERR_AGENT_UNRESPONSIVE:
        return "; is qemu-guest-agent running in the guest?";
    case VIR_ERR_HOOK_SCRIPT_FAILED:
        return "; a hook in /etc/libvirt/hooks refused it";
    default:
        return "";
    }
}

bool libvirt_error(struct err *err, const char *format, ...)
{
    virErrorPtr e = virGetLastError();
    const char *message = e != NULL && e->message != NULL ? e->message : "no reason given";
    int code = e != NULL ? e->code : VIR_ERR_OK;
    char what[256];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    /* On one line: QEMU's own words may end in a newline. */
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", message);
    for (char *p = text; *p != '\0'; p++)
        if (*p == '\n' || *p == '\r')
            *p = p[1] == '\0' ? '\0' : ' ';
    return err_set(err, kind_of(code, e), "%s: %s%s", what, text, advice(code));
}

/* --- events --- */

static void *run_events(void *unused)
{
    (void)unused;
    for (;;)
        if (virEventRunDefaultImpl() < 0) {
            const struct timespec pause = {.tv_nsec = 100000000};
            nanosleep(&pause, NULL);
        }
    return NULL;
}

static bool started;

static void start_libvirt(void)
{
    pthread_t thread;
    sigset_t all, before;

    virSetErrorFunc(NULL, quiet);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
        return;
    sigfillset(&all); /* signals are for the threads of the verbs */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&thread, NULL, run_events, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started)
        pthread_detach(thread);
}

static uint64_t now_ms(struct libvirt *l)
{
    return l->virt.world->ops->realtime_ns(l->virt.world) / 1000000u;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr d, int event, int detail,
                        void *context)
{
    struct libvirt *l = context;
    unsigned char uuid[VIR_UUID_BUFLEN];

    (void)connection, (void)detail;
    if (virDomainGetUUID(d, uuid) < 0)
        return 0;
    LOCK_SCOPE(&l->lock);
    uint64_t now = now_ms(l);
    for (struct virt_watch *w = l->watches; w != NULL; w = w->next) {
        if (memcmp(w->uuid, uuid, sizeof uuid) != 0)
            continue;
        if ((event == VIR_DOMAIN_EVENT_STARTED || event == VIR_DOMAIN_EVENT_RESUMED) &&
            w->running_ms == 0)
            w->running_ms = now;
        w->stopped |= event == VIR_DOMAIN_EVENT_STOPPED;
    }
    pthread_cond_broadcast(&l->changed);
    return 0;
}

void libvirt_watch(struct libvirt *l, virDomainPtr d, struct virt_watch *w)
{
    *w = (struct virt_watch){.next = NULL};
    if (virDomainGetUUID(d, w->uuid) < 0)
        memset(w->uuid, 0, sizeof w->uuid);
    LOCK_SCOPE(&l->lock);
    w->next = l->watches;
    l->watches = w;
}

void libvirt_unwatch(struct libvirt *l, struct virt_watch *w)
{
    LOCK_SCOPE(&l->lock);
    for (struct virt_watch **p = &l->watches; *p != NULL; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            return;
        }
}

void libvirt_wait(struct libvirt *l, unsigned ms)
{
    struct timespec end = deadline_after(ms);
    LOCK_SCOPE(&l->lock);
    (void)pthread_cond_timedwait(&l->changed, &l->lock, &end); /* the caller looks either way */
}

/* --- the connection --- */

/* The last of the two users frees it. */
static void drop(void *context)
{
    struct libvirt *l = context;
    pthread_mutex_lock(&l->lock);
    bool last = --l->users == 0;
    pthread_mutex_unlock(&l->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l);
}

static void libvirt_close(struct virt *v)
{
    struct libvirt *l = libvirt_of(v);
    if (l->callback >= 0)
        virConnectDomainEventDeregisterAny(l->connection, l->callback);
    if (l->connection != NULL)
        virConnectClose(l->connection);
    drop(l);
}

static const struct virt_ops ops = {
    .close = libvirt_close,
    .capacity = libvirt_capacity,
    .list = libvirt_list,
    .xml = libvirt_xml,
    .status = libvirt_status,
    .define = libvirt_define,
    .undefine = libvirt_undefine,
    .start = libvirt_start,
    .resume = libvirt_resume,
    .shutdown = libvirt_shutdown,
    .destroy = libvirt_destroy,
    .set_autostart = libvirt_set_autostart,
    .freeze = libvirt_freeze,
    .thaw = libvirt_thaw,
    .move_disk = libvirt_move_disk,
    .addresses = libvirt_addresses,
    .networks = libvirt_networks,
    .network_xml = libvirt_network_xml,
    .network_make = libvirt_network_make,
    .network_start = libvirt_network_start,
    .network_remove = libvirt_network_remove,
    .network_host = libvirt_network_host,
    .leases = libvirt_leases,
};

bool libvirt_open(struct world *w, const char *uri, struct virt **out, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct libvirt *l = calloc(1, sizeof *l);
    struct virt *v AUTO_VIRT = l != NULL ? &l->virt : NULL;

    if (l == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    l->virt = (struct virt){.ops = &ops, .world = w};
    l->callback = -1;
    l->users = 1;
    pthread_mutex_init(&l->lock, NULL);
    deadline_cond_init(&l->changed);
    pthread_once(&once, start_libvirt);
    if (!started)
        return err_set(err, ERR_IO, "libvirt cannot be used: its event loop does not start");
    if (!libvirt_connect(uri, LIBVIRT_CONNECT_MS, &l->connection, err))
        return false;
    (void)virConnectSetKeepAlive(l->connection, 5, 4); /* local drivers have none */
    pthread_mutex_lock(&l->lock); /* and so the event loop sees all that is written above */
    l->users = 2;
    pthread_mutex_unlock(&l->lock);
    l->callback =
        virConnectDomainEventRegisterAny(l->connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), l, drop);
    if (l->callback < 0)
        drop(l); /* one user less; waiting looks now and then */
    *out = TAKE(v);
    return true;
}

/* --- handles --- */

void libvirt_domain_release(virDomainPtr *d)
{
    if (*d != NULL)
        virDomainFree(*d);
    *d = NULL;
}

void libvirt_network_release(virNetworkPtr *n)
{
    if (*n != NULL)
        virNetworkFree(*n);
    *n = NULL;
}

bool libvirt_domain(struct virt *v, const char *name, virDomainPtr *out, struct err *err)
{
    *out = virDomainLookupByName(libvirt_of(v)->connection, name);
    if (*out != NULL)
        return true;
    if (libvirt_code() == VIR_ERR_NO_DOMAIN)
        return err_set(err, ERR_NOT_FOUND, "libvirt knows no domain %s", name);
    return libvirt_error(err, "domain %s", name);
}

bool libvirt_net(struct virt *v, const char *name, virNetworkPtr *out, struct err *err)
{
    *out = virNetworkLookupByName(libvirt_of(v)->connection, name);
    if (*out != NULL)
        return true;
    if (libvirt_code() == VIR_ERR_NO_NETWORK)
        return err_set(err, ERR_NOT_FOUND, "libvirt knows no network %s", name);
    return libvirt_error(err, "network %s", name);
}
