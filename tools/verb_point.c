/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "tools/disk_lock.h"
#include "tools/failover/glance.h"
#include "tools/quiesce.h"
#include "tools/vm.h"

#define TIMEOUT_DEFAULT_S 300u
#define TIMEOUT_MAX_S     86400u
/* The cut must come while the guest is quiet for certain. */
#define QUIET_MS (QUIESCE_HOLD_MS - 2000u)

static const struct option_spec options[] = {
    {"application", NULL, false, false, "Make the guest quiet for it: kind application."},
    {"label", "TEXT", false, false, "Words kept with the point, at most 128 bytes."},
    {"wait", "target", true, false,
     "Return once the point is durable in the cache; =target: applied there."},
    {"timeout", "SECONDS", false, false, "How long to wait, 300 unless told."},
    OPTIONS_END,
};

static bool make_request(const struct verb_call *call, enum wait_for wait, uint64_t timeout_s,
                         bool quiet, cJSON **out, struct err *err)
{
    const char *label = option_value(call->options, "label", 0);
    if (label && strlen(label) > POINT_LABEL_MAX)
        return err_set(err, ERR_INVALID, "--label is longer than %u bytes", POINT_LABEL_MAX);
    return command_make("point", out, err) &&
           json_add_bool(*out, "application", option_given(call->options, "application"), err) &&
           json_add_text(*out, "label", label ? label : "", err) &&
           json_add_bool(*out, "wait", wait != WAIT_NOTHING, err) &&
           (!quiet || json_add_u64(*out, "quiet_ms", QUIET_MS, err)) &&
           json_add_u64(*out, "timeout_ms", timeout_s * 1000, err);
}

/* The guest is quiet from before the request until the mount has made its cut, and no longer. */
static bool cut_quiet(const struct verb_call *call, const struct settings *s, const cJSON *request,
                      struct control_client **client, struct err *err)
{
    struct quiesce *q AUTO_QUIESCE = NULL;
    struct err why = ERR_NONE;
    if (!quiesce_begin(call, s, &q, err))
        return false;
    bool cut = vm_connect(call, s->name, client, err) && control_send(*client, request, err) &&
               control_receive(*client, QUIET_MS + 1000, NULL, err);
    if (quiesce_end(&q, &why))
        return cut;
    if (cut)
        *err = why;
    else
        fprintf(stderr, "farshore: %s\n", why.text);
    return false;
}

static bool ask(const struct verb_call *call, const struct settings *s, enum wait_for wait,
                uint64_t timeout_s, cJSON **answer, struct err *err)
{
    cJSON *request AUTO_JSON = NULL;
    struct control_client *client AUTO_CONTROL = NULL;
    bool quiet = option_given(call->options, "application") && quiesce_possible(s);
    char point[PATH_MAX];
    if (!make_request(call, wait, timeout_s, quiet, &request, err))
        return false;
    if (!quiet)
        return vm_ask(call, s->name, request, timeout_s * 1000 + 10000, answer, err);
    if (!vm_locked(call->paths, s->name, point)) /* before the guest is bothered */
        return err_set(err, ERR_NOT_FOUND, "%s is not mounted: farshore mount %s DIR first",
                       s->name, s->name);
    return cut_quiet(call, s, request, &client, err) &&
           control_receive(client, timeout_s * 1000 + 10000, answer, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    const char *name = call->options->operands[0];
    struct vm vm AUTO_VM = VM_NONE;
    struct settings settings AUTO_SETTINGS = {.disks = NULL};
    cJSON *answer AUTO_JSON = NULL;
    enum wait_for wait;
    uint64_t timeout_s, epoch;
    const char *id;

    if (!option_wait(call->options, &wait, err) ||
        !option_number(call->options, "timeout", TIMEOUT_DEFAULT_S, 1, TIMEOUT_MAX_S, &timeout_s,
                       err))
        return false;
    uint64_t deadline_ns = call->world->ops->boottime_ns(call->world) + timeout_s * 1000000000u;
    if (!settings_load(call->world, call->paths, name, &settings, err) ||
        !glance_check(call, &settings, STATES_POINT, false, err) ||
        !ask(call, &settings, wait, timeout_s, &answer, err))
        return false;
    if (wait == WAIT_NOTHING) {
        printf("%s: a point is being made; farshore points %s lists it once it is applied\n", name,
               name);
        return true;
    }
    if (!json_text(answer, "id", &id, err) || !json_u64(answer, "epoch", &epoch, err))
        return err_wrap(err, "the mount's answer");
    if (wait == WAIT_TARGET &&
        !(vm_load(call, name, &vm, err) && vm_open_caches(&vm, VM_LOOKS, err) &&
          vm_wait_applied(&vm, epoch, deadline_ns, err)))
        return false;
    printf("%s\n", id);
    return true;
}

const struct verb verb_point = {
    .name = "point",
    .summary = "Make a recovery point now",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
