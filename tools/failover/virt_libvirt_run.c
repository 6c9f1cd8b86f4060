/* SPDX-License-Identifier: MIT
 * Domains that run: start, end, freeze, and a disk that moves under the guest. */
#include "tools/failover/virt_libvirt.h"

#include <stdio.h>

#include "tools/failover/machine.h"

#define EVENT_WAIT_MS   10000u /* an event comes within milliseconds, or never */
#define LOOK_AGAIN_MS   500u   /* events may be lost with a connection */
#define AGENT_TIMEOUT_S 30

static uint64_t boot_ms(struct virt *v)
{
    return v->world->ops->boottime_ns(v->world) / 1000000u;
}

/* Off, or no longer there, as a transient one is when it ends. */
static bool is_off(virDomainPtr d)
{
    int state, reason;
    if (virDomainGetState(d, &state, &reason, 0) < 0)
        return libvirt_code() == VIR_ERR_NO_DOMAIN;
    return state == VIR_DOMAIN_SHUTOFF;
}

/* When it began to run; now, when the hypervisor does not say. */
static uint64_t wait_running(struct virt *v, struct virt_watch *w)
{
    struct libvirt *l = libvirt_of(v);
    uint64_t running_ms = 0, end = boot_ms(v) + (l->callback >= 0 ? EVENT_WAIT_MS : 0);

    while (running_ms == 0 && boot_ms(v) < end) {
        pthread_mutex_lock(&l->lock);
        running_ms = w->running_ms;
        pthread_mutex_unlock(&l->lock);
        if (running_ms == 0)
            libvirt_wait(l, 50);
    }
    return running_ms != 0 ? running_ms : v->world->ops->realtime_ns(v->world) / 1000000u;
}

bool libvirt_start(struct virt *v, const char *domain, bool paused, uint64_t *resumed_ms,
                   struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    struct virt_watch w;

    *resumed_ms = 0;
    if (!libvirt_domain(v, domain, &d, err))
        return false;
    if (virDomainIsActive(d) == 1)
        return err_set(err, ERR_EXISTS, "%s runs already", domain);
    /* A saved memory would meet disks that have changed since. */
    if (virDomainHasManagedSaveImage(d, 0) == 1 && virDomainManagedSaveRemove(d, 0) < 0)
        return libvirt_error(err, "the saved memory of %s cannot be discarded", domain);
    libvirt_watch(libvirt_of(v), d, &w);
    bool good = virDomainCreateWithFlags(d, paused ? VIR_DOMAIN_START_PAUSED : 0) == 0;
    if (good && !paused)
        *resumed_ms = wait_running(v, &w);
    libvirt_unwatch(libvirt_of(v), &w);
    return good || libvirt_error(err, "%s does not start", domain);
}

bool libvirt_resume(struct virt *v, const char *domain, uint64_t *resumed_ms, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    struct virt_watch w;

    *resumed_ms = 0;
    if (!libvirt_domain(v, domain, &d, err))
        return false;
    libvirt_watch(libvirt_of(v), d, &w);
    bool good = virDomainResume(d) == 0;
    if (good)
        *resumed_ms = wait_running(v, &w);
    libvirt_unwatch(libvirt_of(v), &w);
    return good || libvirt_error(err, "%s does not go on", domain);
}

/* --- the end --- */

static bool wait_off(struct virt *v, virDomainPtr d, uint64_t end_ms)
{
    while (!is_off(d)) {
        uint64_t now = boot_ms(v);
        if (now >= end_ms)
            return false;
        uint64_t left = end_ms - now;
        libvirt_wait(libvirt_of(v), left < LOOK_AGAIN_MS ? (unsigned)left : LOOK_AGAIN_MS);
    }
    return true;
}

/* The agent first, which libvirt chooses when it is there; then the button, for a guest whose
 * agent took the request and did nothing. */
static bool ask_and_wait(struct virt *v, virDomainPtr d, const char *domain, uint64_t timeout_ms,
                         struct err *err)
{
    uint64_t begin = boot_ms(v);

    (void)virDomainAgentSetResponseTimeout(d, AGENT_TIMEOUT_S, 0); /* for hypervisors that can */
    if (virDomainShutdown(d) < 0 && !is_off(d))
        return libvirt_error(err, "%s cannot be shut down", domain);
    if (wait_off(v, d, begin + timeout_ms / 2))
        return true;
    (void)virDomainShutdownFlags(d, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN); /* the wait will tell */
    return wait_off(v, d, begin + timeout_ms) ||
           err_set(err, ERR_TRANSIENT,
                   "%s was asked to shut down and still runs after %llu s; shut it down from "
                   "within, or wait longer",
                   domain, (unsigned long long)(timeout_ms / 1000));
}

bool libvirt_shutdown(struct virt *v, const char *domain, uint64_t timeout_ms, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    struct virt_watch w;
    int state, reason;

    if (!libvirt_domain(v, domain, &d, err))
        return false;
    if (is_off(d))
        return true;
    if (virDomainGetState(d, &state, &reason, 0) == 0 && state == VIR_DOMAIN_PAUSED)
        return err_set(err, ERR_INVALID,
                       "%s is paused%s and cannot hear that it should shut down: resume or destroy "
                       "it (virsh resume, virsh destroy)",
                       domain, reason == VIR_DOMAIN_PAUSED_IOERROR ? " because a disk failed" : "");
    libvirt_watch(libvirt_of(v), d, &w);
    bool good = ask_and_wait(v, d, domain, timeout_ms, err);
    libvirt_unwatch(libvirt_of(v), &w);
    return good;
}

bool libvirt_destroy(struct virt *v, const char *domain, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    struct err why = ERR_NONE;

    if (!libvirt_domain(v, domain, &d, &why))
        return why.kind == ERR_NOT_FOUND || err_set(err, why.kind, "%s", why.text);
    return is_off(d) || virDomainDestroy(d) == 0 || is_off(d) ||
           libvirt_error(err, "%s cannot be stopped", domain);
}

/* --- the agent --- */

/* Without a channel for it libvirt says "not configured", which no waiting helps. */
static bool agent_error(const char *domain, const char *what, struct err *err)
{
    int code = libvirt_code();
    if (code == VIR_ERR_ARGUMENT_UNSUPPORTED || code == VIR_ERR_NO_SUPPORT)
        return err_set(err, ERR_INVALID,
                       "%s has no guest agent: install qemu-guest-agent in the guest and give the "
                       "domain a channel org.qemu.guest_agent.0",
                       domain);
    return libvirt_error(err, "the file systems of %s cannot be %s", domain, what);
}

bool libvirt_freeze(struct virt *v, const char *domain, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    if (!libvirt_domain(v, domain, &d, err))
        return false;
    (void)virDomainAgentSetResponseTimeout(d, AGENT_TIMEOUT_S, 0);
    return virDomainFSFreeze(d, NULL, 0, 0) >= 0 || agent_error(domain, "frozen", err);
}

bool libvirt_thaw(struct virt *v, const char *domain, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    return libvirt_domain(v, domain, &d, err) &&
           (virDomainFSThaw(d, NULL, 0, 0) >= 0 || agent_error(domain, "thawed", err));
}

/* --- a disk that moves --- */

/* The machine holding only what a block copy wants to know of its destination. */
static bool destination_xml(const char *path, char **out, struct err *err)
{
    static const char empty[] = "<domain><name>d</name><memory>1</memory><devices><disk "
                                "type='file' device='disk'><target dev='t'/></disk></devices>"
                                "</domain>";
    struct machine *m AUTO_MACHINE = NULL;
    char *text AUTO_FREE = NULL;

    if (!machine_parse(span_of_text(empty), &m, err) ||
        !machine_set_disk(m, "t", MACHINE_FILE, path, err) || !machine_write(m, &text, err))
        return false;
    const char *start = strstr(text, "<disk"), *end = strstr(text, "</disk>");
    assert(start != NULL && end != NULL);
    *out = strndup(start, (size_t)(end - start) + strlen("</disk>"));
    return *out != NULL || err_set(err, ERR_FULL, "out of memory");
}

struct move {
    struct virt *v;
    virDomainPtr domain;
    const char *name, *target;
    virt_progress_fn *progress;
    void *context;
};

/* False with ERR_OK: not yet. */
static bool try_pivot(const struct move *m, struct err *err)
{
    if (virDomainBlockJobAbort(m->domain, m->target, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) == 0)
        return true;
    if (libvirt_code() != VIR_ERR_BLOCK_COPY_ACTIVE)
        libvirt_error(err, "disk %s of %s cannot be switched", m->target, m->name);
    return false;
}

static bool copy_and_pivot(const struct move *m, struct err *err)
{
    uint64_t told_ms = 0;
    struct err why = ERR_NONE;
    for (;;) {
        virDomainBlockJobInfo info;
        int running = virDomainGetBlockJobInfo(m->domain, m->target, &info, 0);
        if (running < 0)
            return libvirt_error(err, "the copy of disk %s of %s", m->target, m->name);
        if (running == 0)
            return err_set(err, ERR_IO,
                           "the copy of disk %s of %s ended before its time: a read or write "
                           "failed, or the guest ended; libvirt's log of the domain says which",
                           m->target, m->name);
        uint64_t now = boot_ms(m->v);
        bool done = info.end > 0 && info.cur == info.end;
        if (m->progress != NULL && (done || now >= told_ms + LOOK_AGAIN_MS)) {
            told_ms = now;
            if (!m->progress(m->context, info.cur, info.end))
                return err_set(err, ERR_CANCELLED, "the copy of disk %s of %s was given up",
                               m->target, m->name);
        }
        if (done && try_pivot(m, &why))
            return true;
        if (why.kind != ERR_OK)
            return err_set(err, why.kind, "%s", why.text);
        libvirt_wait(libvirt_of(m->v), 50);
    }
}

/* libvirt changes the defined machine along with the running one when both had the same source. */
static bool move_defined(const struct move *m, const char *path, struct err *err)
{
    char *text AUTO_FREE = NULL, *changed AUTO_FREE = NULL;
    struct machine *machine AUTO_MACHINE = NULL;

    if (virDomainIsPersistent(m->domain) != 1)
        return true;
    if (!virt_xml(m->v, m->name, VIRT_DEFINED, &text, err) ||
        !machine_parse(span_of_text(text), &machine, err))
        return false;
    const struct machine_disk *d = machine_disk(machine, m->target);
    if (d == NULL || strcmp(d->path, path) == 0)
        return true; /* no such disk at the next start: nothing to move */
    return machine_set_disk(machine, m->target, MACHINE_FILE, path, err) &&
           machine_write(machine, &changed, err) && virt_define(m->v, changed, err);
}

/* Whether a copy to that file is under way: of one who died over it. It is gone on with. */
static bool is_copying(const struct move *m, const char *path)
{
    virDomainBlockJobInfo info;
    char *xml AUTO_FREE = NULL;
    struct err ignored = ERR_NONE; /* then a copy is begun, and that says what is wrong */
    if (virDomainGetBlockJobInfo(m->domain, m->target, &info, 0) <= 0 ||
        info.type != VIR_DOMAIN_BLOCK_JOB_TYPE_COPY ||
        !virt_xml(m->v, m->name, VIRT_LIVE, &xml, &ignored))
        return false;
    const char *mirror = strstr(xml, "<mirror ");
    return mirror != NULL && strstr(mirror, path) != NULL;
}

bool libvirt_move_disk(struct virt *v, const char *domain, const char *target, const char *path,
                       virt_progress_fn *progress, void *context, struct err *err)
{
    virDomainPtr d AUTO_DOMAIN = NULL;
    char *xml AUTO_FREE = NULL;
    struct move m = {v, NULL, domain, target, progress, context};

    if (!libvirt_domain(v, domain, &d, err) || !destination_xml(path, &xml, err))
        return false;
    m.domain = d;
    if (virDomainIsActive(d) != 1)
        return err_set(err, ERR_INVALID, "%s does not run: define it with its disk elsewhere",
                       domain);
    if (!is_copying(&m, path) && virDomainBlockCopy(d, target, xml, NULL, 0,
                                                    VIR_DOMAIN_BLOCK_COPY_REUSE_EXT |
                                                        VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB) < 0)
        return libvirt_error(err, "disk %s of %s cannot be copied", target, domain);
    if (!copy_and_pivot(&m, err)) {
        (void)virDomainBlockJobAbort(d, target, 0); /* ended by itself, when this fails */
        return false;
    }
    return move_defined(&m, path, err);
}
