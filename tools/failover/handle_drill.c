/* SPDX-License-Identifier: MIT
 * test-failover and cleanup, on the target host. A drill is written down before anything of it is
 * made, so that cleanup finds all of one that died half way. */
#include "tools/failover/handlers.h"

#include "common/rfc3339.h"
#include "tools/failover/flow.h"
#include "tools/failover/scratch.h"
#include "tools/failover/validate.h"
#include "tools/mounts.h"
#include "tools/self_run.h"
#include "tools/tree.h"

#include <errno.h>
#include <unistd.h>

#define STOP_MS 60000u

struct drill {
    struct flow *flow;
    struct protection_test test;
    struct history_point point;
    char folder[PATH_BYTES_MAX]; /* STATE/tests/VM/ID: the mount and the consoles' output */
    char scratch[PROTECTION_JOB_MAX + 8];
};

static void drill_paths(struct drill *d)
{
    snprintf(d->folder, sizeof d->folder, "%.900s/tests/%.63s/%.31s", d->flow->call->paths->state,
             d->flow->vm->settings.name, d->test.id);
    snprintf(d->test.mount, sizeof d->test.mount, "%.1000s/mount", d->folder);
    snprintf(d->scratch, sizeof d->scratch, "test-%s", d->test.id);
}

static void drill_machine(const struct drill *d, char folder[PATH_MAX], struct runner_machine *out)
{
    snprintf(folder, PATH_MAX, "%.1100s/%s/points/%s", d->test.mount, d->flow->vm->settings.name,
             d->test.point);
    *out = (struct runner_machine){
        .folder = folder, .point = d->test.point, .drill = d->test.id, .logs = d->folder};
    snprintf(out->name, sizeof out->name, "%s", d->test.domain);
}

/* --- beginning --- */

/* The smallest number that no drill has, nor what is left here of one that was forgotten. */
static bool change_add(void *context, struct protection *p, bool *same, struct err *err)
{
    struct drill *d = context;
    struct runner r = {.vm = d->flow->vm, .protection = p, .host = d->flow->host};
    unsigned number = 1;
    (void)same;
    if (!flow_allows(d->flow, STATES_TEST_FAILOVER, p, err))
        return false;
    do {
        snprintf(d->test.id, sizeof d->test.id, "%u", number++);
        drill_paths(d);
    } while (protection_test_find(p, d->test.id) || access(d->folder, F_OK) == 0);
    d->test.domain[0] = '\0';
    if (p->xml.length > 0)
        runner_name(&r, d->test.id, d->test.domain);
    return protection_test_add(p, &d->test, err);
}

static bool choose_point(struct drill *d, struct err *err)
{
    struct flow *f = d->flow;
    const char *asked = flow_arg(f, "point");
    if (!flow_history(f, err) ||
        !history_resolve(f->vm->history, asked[0] ? asked : "latest", &d->point, err))
        return false;
    flow_take_disks(f, &d->point);
    point_time_format(d->point.ms, d->test.point);
    snprintf(d->test.host, sizeof d->test.host, "%s", f->host.name);
    d->test.started_ms = f->call->world->ops->realtime_ns(f->call->world) / 1000000;
    return true;
}

static bool mount_drill(struct drill *d, struct err *err)
{
    struct flow *f = d->flow;
    return flow_folder_make(f, d->test.mount, err) &&
           self_run((const char *const[]){"recover", d->test.mount, "--vm", f->vm->settings.name,
                                          "--writable", d->scratch, NULL},
                    err);
}

static bool start_drill(struct drill *d, uint64_t *resumed_ms, struct err *err)
{
    struct flow *f = d->flow;
    struct runner r AUTO_RUNNER = {.virt = NULL};
    struct runner_machine m;
    struct protection_nic nics[PROTECTION_NICS_MAX];
    struct buf notes AUTO_BUF = BUF_NONE;
    char folder[PATH_MAX];
    drill_machine(d, folder, &m);
    return runner_open(f->vm, f->protection, &r, err) &&
           flow_step(f, "machine", err, "%s", r.virt ? m.name : "by the start command") &&
           runner_make(&r, &m, nics, &notes, err) && flow_notes(f, &notes, err) &&
           flow_step(f, "start", err, "%s", m.name) && runner_start(&r, &m, resumed_ms, err);
}

/* --- ending --- */

static bool change_remove(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct drill *d = context;
    (void)err;
    *same = protection_test_find(p, d->test.id) == NULL;
    protection_test_remove(p, d->test.id);
    return true;
}

static bool unmount_drill(const struct drill *d, struct err *err)
{
    struct mount_entry e;
    return !mount_find(d->test.mount, &e) ||
           self_run((const char *const[]){"unmount", d->test.mount, NULL}, err);
}

static bool remove_folder(const char *path, struct err *err)
{
    return rmdir(path) == 0 || errno == ENOENT || err_errno(err, errno, "%s", path);
}

/* Everything that the drill made, whatever of it is there. The document last. */
static bool end_drill(struct drill *d, struct err *err)
{
    struct flow *f = d->flow;
    struct runner r AUTO_RUNNER = {.virt = NULL};
    struct runner_machine m;
    char folder[PATH_MAX];
    const char *left = target_setting(&f->protection->settings, "back-target");
    drill_machine(d, folder, &m);
    return flow_step(f, "stop", err, "drill %s", d->test.id) &&
           runner_open(f->vm, f->protection, &r, err) && runner_stop(&r, &m, true, STOP_MS, err) &&
           runner_remove(&r, &m, err) && flow_step(f, "unmount", err, "%s", d->test.mount) &&
           unmount_drill(d, err) && remove_folder(d->test.mount, err) &&
           scratch_discard(f->vm, d->scratch, left, err) && tree_remove(d->folder, err) &&
           flow_change(f, change_remove, d, err);
}

/* Its host is lost, and with it whatever would end the drill: the document is rid of it. */
static bool forget_drill(struct drill *d, cJSON *values, struct err *err)
{
    const struct protection_test *t = &d->test;
    char name[sizeof t->id + 8], left[PATH_MAX];
    snprintf(name, sizeof name, "left_%s", t->id);
    snprintf(left, sizeof left,
             "on host %s machine %s, mount %s, STATE/scratch/test-%s; in the vault %s/pins/"
             "hold-test-%s-*",
             t->host, t->domain[0] ? t->domain : "of the start command", t->mount, t->id,
             d->flow->vm->settings.name, t->id);
    return flow_step(d->flow, "forget", err, "drill %s of host %s", t->id, t->host) &&
           flow_change(d->flow, change_remove, d, err) && json_add_text(values, name, left, err);
}

/* --- the handlers --- */

static bool result(const struct drill *d, uint64_t resumed_ms, cJSON **values, struct err *err)
{
    const struct job *job = job_run_job(d->flow->job);
    uint64_t rto_ms = resumed_ms > job->posted_ms ? resumed_ms - job->posted_ms : 0;
    return json_make(values, err) && json_add_text(*values, "test", d->test.id, err) &&
           json_add_text(*values, "point", d->test.point, err) &&
           json_add_text(*values, "host", d->test.host, err) &&
           json_add_text(*values, "domain", d->test.domain, err) &&
           json_add_text(*values, "mount", d->test.mount, err) &&
           json_add_u64(*values, "rto_ms", rto_ms, err);
}

/* A drill that cannot be started leaves nothing behind. */
static bool begin_drill(struct drill *d, cJSON **values, struct err *err)
{
    uint64_t resumed_ms;
    struct err undone = ERR_NONE;
    if (!flow_change(d->flow, change_add, d, err))
        return false;
    if (flow_step(d->flow, "mount", err, "%s at %s", d->test.point, d->test.mount) &&
        mount_drill(d, err) && start_drill(d, &resumed_ms, err))
        return result(d, resumed_ms, values, err);
    if (err->kind != ERR_FENCED && !end_drill(d, &undone))
        err_wrap(err, "drill %s is half made, and so far it stays (%.120s): farshore cleanup %s",
                 d->test.id, undone.text, d->flow->vm->settings.name);
    return false;
}

static bool run_test(const struct verb_call *call, struct vm *vm, struct job_run *job,
                     cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct drill *d AUTO_FREE = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    d->flow = &f;
    return flow_open(call, vm, job, &f, err) && flow_check(&f, STATES_TEST_FAILOVER, err) &&
           validate_refuse(&f, err) && choose_point(d, err) && begin_drill(d, values, err);
}

const struct handler handler_test_failover = {
    .verb = "test-failover", .resumable = false, .decides = true, .run = run_test};

/* Whose drills are ended: those of this host, or, when that one is done without, of the host of the
 * first. */
static void choose_host(const struct flow *f, const char *only, char out[HOST_NAME_CHARS_MAX + 1])
{
    const struct protection *p = f->protection;
    snprintf(out, HOST_NAME_CHARS_MAX + 1, "%s", f->host.name);
    if (flow_arg(f, "force")[0] == '\0')
        return;
    for (uint16_t i = p->test_count; i-- > 0;)
        if (only[0] == '\0' || strcmp(p->tests[i].id, only) == 0)
            snprintf(out, HOST_NAME_CHARS_MAX + 1, "%s", p->tests[i].host);
}

static bool end_or_forget(struct drill *d, cJSON *values, struct err *err)
{
    if (strcmp(d->test.host, d->flow->host.name) != 0)
        return forget_drill(d, values, err);
    drill_paths(d);
    return end_drill(d, err);
}

/* One drill, or all of a host. */
static bool run_cleanup(const struct verb_call *call, struct vm *vm, struct job_run *job,
                        cJSON **values, struct err *err)
{
    struct flow f AUTO_FLOW = {.call = NULL};
    struct drill *d AUTO_FREE = calloc(1, sizeof *d);
    char host[HOST_NAME_CHARS_MAX + 1];
    uint64_t ended = 0;
    if (d == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!flow_open(call, vm, job, &f, err) || !json_make(values, err))
        return false;
    bool over = job_run_job(job)->claims > 1 && f.protection->test_count == 0;
    if (!over && !flow_check(&f, STATES_CLEANUP, err))
        return false;
    d->flow = &f;
    const char *only = flow_arg(&f, "test");
    if (!over && only[0] != '\0' && protection_test_find(f.protection, only) == NULL)
        return err_set(err, ERR_NOT_FOUND, "%s has no drill %s", vm->settings.name, only);
    choose_host(&f, only, host);
    for (size_t i = f.protection->test_count; i-- > 0;) {
        d->test = f.protection->tests[i];
        if (strcmp(d->test.host, host) != 0 || (only[0] != '\0' && strcmp(d->test.id, only) != 0))
            continue;
        if (!end_or_forget(d, *values, err))
            return err_wrap(err, "drill %s", d->test.id);
        ended++;
    }
    return json_add_u64(*values, "ended", ended, err) &&
           json_add_text(*values, "note", flow_arg(&f, "note"), err);
}

const struct handler handler_cleanup = {
    .verb = "cleanup", .resumable = true, .decides = true, .run = run_cleanup};
