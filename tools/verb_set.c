/* SPDX-License-Identifier: MIT
 * set: the settings of a VM on this host, changed or shown. A running mount is told and takes them
 * up at once, a processor reads them anew in its next round. */
#include "tools/disk_lock.h"
#include "tools/failover/glance.h"
#include "tools/failover/refresh.h"
#include "tools/failover/set_target.h"
#include "tools/nearest.h"
#include "tools/output.h"
#include "tools/vm.h"

#define ANSWER_MS 30000u
#define VALUE_MAX (BANDWIDTH_SPEC_MAX > 24 ? BANDWIDTH_SPEC_MAX : 24)

static const struct option_spec options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object with the settings."},
    OPTIONS_END,
};

/* --- the settings by name --- */

static bool set_bandwidth(struct settings *s, const char *value, struct err *err)
{
    return settings_set_bandwidth(s, value, err);
}

static bool set_cut_interval(struct settings *s, const char *value, struct err *err)
{
    char *end;
    unsigned long seconds = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || seconds < 1 ||
        seconds > CUT_INTERVAL_MAX_S)
        return err_set(err, ERR_INVALID,
                       "cut_interval=%.40s: give a whole number of seconds from 1 to %u", value,
                       CUT_INTERVAL_MAX_S);
    s->cut_interval_s = seconds;
    return true;
}

static void show_bandwidth(const struct settings *s, char out[VALUE_MAX])
{
    snprintf(out, VALUE_MAX, "%s", settings_bandwidth(s));
}

static void show_cut_interval(const struct settings *s, char out[VALUE_MAX])
{
    snprintf(out, VALUE_MAX, "%llu", (unsigned long long)s->cut_interval_s);
}

static const struct key {
    const char *name;
    bool source_only;
    bool (*set)(struct settings *s, const char *value, struct err *err);
    void (*show)(const struct settings *s, char out[VALUE_MAX]);
} keys[] = {
    {"bandwidth", false, set_bandwidth, show_bandwidth},
    {"cut_interval", true, set_cut_interval, show_cut_interval},
};

#define KEYS (sizeof keys / sizeof *keys)

/* Texts of this host: where the VM is mounted, and the user's own commands. `domain` is enable's.
 */
static const char *const texts[] = {"mount", "start", "stop", "freeze", "thaw"};

#define TEXTS (sizeof texts / sizeof *texts)

static bool has_key(const struct settings *s, const struct key *k)
{
    return s->role == ROLE_SOURCE || !k->source_only;
}

static bool unknown_key(const char *given, struct err *err)
{
    const char *names[KEYS + TEXTS + 1] = {NULL};
    for (size_t i = 0; i < KEYS; i++)
        names[i] = keys[i].name;
    for (size_t i = 0; i < TEXTS; i++)
        names[KEYS + i] = texts[i];
    const char *nearest = word_nearest(given, names);
    if (nearest)
        return err_set(err, ERR_INVALID, "unknown setting %s: did you mean %s?", given, nearest);
    return err_set(err, ERR_INVALID,
                   "unknown setting %s: there are bandwidth, cut_interval, domain, mount, start, "
                   "stop, freeze, thaw and target.KEY",
                   given);
}

static bool is_target(const char *given)
{
    return strncmp(given, TARGET_PREFIX, strlen(TARGET_PREFIX)) == 0;
}

static bool take_number_or_text(struct settings *s, const char *name, const char *value,
                                struct err *err)
{
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (!has_key(s, &keys[i]))
            return err_set(err, ERR_INVALID, "%s belongs to the host where %s is enabled", name,
                           s->name);
        return keys[i].set(s, value, err);
    }
    if (strcmp(name, "domain") == 0)
        return (s->machine->domain[0] != '\0' && value[0] != '\0' &&
                settings_set_machine(s, name, value, err)) ||
               err_set(err, ERR_INVALID,
                       "domain=%.40s: the domain that a VM was enabled with can be read anew, not "
                       "given or taken away",
                       value);
    for (size_t i = 0; i < TEXTS; i++)
        if (strcmp(texts[i], name) == 0)
            return settings_set_machine(s, name, value, err);
    return unknown_key(name, err);
}

/* One KEY=VALUE of this host. */
static bool take(struct settings *s, const char *given, struct err *err)
{
    const char *equals = strchr(given, '=');
    char name[40];
    if (equals == NULL)
        return err_set(err, ERR_INVALID, "%.40s: settings are written KEY=VALUE", given);
    snprintf(name, sizeof name, "%.*s", (int)(equals - given), given);
    return take_number_or_text(s, name, equals + 1, err);
}

/* --- showing --- */

static bool show_pair(cJSON *j, const char *name, const char *value, struct err *err)
{
    if (j != NULL)
        return json_add_text(j, name, value, err);
    printf("%s=%s\n", name, value);
    return true;
}

static bool show_own(const struct settings *s, cJSON *j, struct err *err)
{
    char value[VALUE_MAX];
    for (size_t i = 0; i < KEYS; i++) {
        if (!has_key(s, &keys[i]))
            continue;
        keys[i].show(s, value);
        if (!show_pair(j, keys[i].name, value, err))
            return false;
    }
    if (s->machine->domain[0] && !show_pair(j, "domain", s->machine->domain, err))
        return false;
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text = settings_machine_text(s, texts[i]);
        if (text[0] && !show_pair(j, texts[i], text, err))
            return false;
    }
    return true;
}

/* As `set` takes them. */
static bool show_mapping(const struct protection *p, cJSON *j, struct err *err)
{
    bool home = strcmp(p->source_host, p->home_host) == 0;
    for (uint16_t i = 0; i < p->mapping_count; i++) {
        const struct protection_mapping *m = &p->mappings[i];
        char name[2 * PROTECTION_NAME_MAX + 32], value[2 * PROTECTION_NAME_MAX + 2];
        const char *from = home ? m->home_network : m->away_network;
        const char *in = home ? m->home_subnet : m->away_subnet;
        const char *to = home ? m->away_network : m->home_network;
        const char *at = home ? m->away_subnet : m->home_subnet;
        snprintf(name, sizeof name, "target.network.%s%s%s", from, in[0] ? "/" : "", in);
        snprintf(value, sizeof value, "%s%s%s", to, at[0] ? "/" : "", at);
        if (!show_pair(j, name, value, err))
            return false;
    }
    return true;
}

/* What the vault says, or said when it was last asked. */
static bool show_target(const struct verb_call *call, const struct settings *s, cJSON *j,
                        struct err *err)
{
    struct protection *p AUTO_PROTECTION = NULL;
    struct glance glance AUTO_GLANCE = {.pid = 0};
    bool fresh;
    glance_begin(&glance, s->name);
    glance_end(call, &glance, call->world->ops->boottime_ns(call->world) + GLANCE_MS * 1000000ull,
               &p, &fresh);
    if (!fresh && call->options->operand_count == 1)
        fprintf(stderr, "farshore: the vault of %s does not answer: settings of the target %s\n",
                s->name, p ? "are as they last were" : "are not shown");
    if (p == NULL)
        return true;
    for (uint16_t i = 0; i < p->settings.count; i++) {
        char name[TARGET_KEY_MAX + 16];
        snprintf(name, sizeof name, TARGET_PREFIX "%s", p->settings.rows[i].key);
        if (!show_pair(j, name, p->settings.rows[i].value, err))
            return false;
    }
    return show_mapping(p, j, err);
}

static bool show(const struct verb_call *call, const struct settings *s, bool json, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    if (json && (!json_make(&j, err) || !json_add_text(j, "vm", s->name, err)))
        return false;
    return show_own(s, j, err) && show_target(call, s, j, err) && (!json || json_print(j, err));
}

/* --- the running mount --- */

static bool tell_mount(const struct verb_call *call, const struct settings *s, struct err *err)
{
    char point[PATH_MAX];
    cJSON *request AUTO_JSON = NULL, *answer AUTO_JSON = NULL;
    uint64_t interval_s;
    if (s->role != ROLE_SOURCE || !vm_locked(call->paths, s->name, point) || point[0] == '\0')
        return true;
    if (!command_make("set", &request, err) ||
        !json_add_text(request, "bandwidth", settings_bandwidth(s), err) ||
        !json_add_u64(request, "cut_interval_seconds", s->cut_interval_s, err) ||
        !vm_ask(call, s->name, request, ANSWER_MS, &answer, err) ||
        !json_u64(answer, "cut_interval_seconds", &interval_s, err))
        return err_wrap(err, "set for the next mount, but the running one does not know");
    if (interval_s != s->cut_interval_s)
        fprintf(stderr,
                "farshore: %s was mounted with --cut-interval %llu and keeps to it until it is "
                "mounted anew\n",
                s->name, (unsigned long long)interval_s);
    return true;
}

/* Those of the target, together: all of them or none. */
static bool change_target(const struct verb_call *call, const char *name, struct err *err)
{
    const struct options *o = call->options;
    struct vm vm AUTO_VM = VM_NONE;
    const char *given[OPERANDS_MAX];
    size_t count = 0;
    for (size_t i = 1; i < o->operand_count; i++)
        if (is_target(o->operands[i]))
            given[count++] = o->operands[i];
    return count == 0 || (vm_load(call, name, &vm, err) && vm_open_targets(&vm, VM_LOOKS, err) &&
                          set_target(&vm, given, count, err));
}

/* domain=DOMAIN: the machine is read anew, under the name that it has now. */
static bool read_domain(const struct verb_call *call, const struct settings *s, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    return vm_load(call, s->name, &vm, err) &&
           settings_set_machine(&vm.settings, "domain", s->machine->domain, err) &&
           vm_open_targets(&vm, VM_LOOKS, err) && refresh_machine(&vm, err);
}

static bool change(const struct verb_call *call, struct settings *s, struct err *err)
{
    const struct options *o = call->options;
    size_t own = 0;
    bool domain = false;
    for (size_t i = 1; i < o->operand_count; i++) {
        if (is_target(o->operands[i]))
            continue;
        own++;
        domain = domain || strncmp(o->operands[i], "domain=", 7) == 0;
        if (!take(s, o->operands[i], err))
            return false;
    }
    return change_target(call, s->name, err) && (!domain || read_domain(call, s, err)) &&
           (own == 0 ||
            (settings_save_locked(call->world, call->paths, s, err) && tell_mount(call, s, err)));
}

static bool run(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    int lock AUTO_FD = -1;
    if (!settings_load(call->world, call->paths, o->operands[0], &s, err))
        return false;
    if (o->operand_count > 1) {
        settings_release(&s); /* read again under the lock */
        if (!settings_lock(call->paths, o->operands[0], &lock, err) ||
            !settings_load(call->world, call->paths, o->operands[0], &s, err))
            return false;
    }
    if (s.role == ROLE_ENABLING)
        return err_set(err, ERR_INVALID,
                       "%s: its enable has not finished: run the same farshore enable again",
                       s.name);
    return change(call, &s, err) && show(call, &s, option_given(o, "json"), err);
}

const struct verb verb_set = {
    .name = "set",
    .summary = "Change or show the settings of a VM",
    .operands = "VM [KEY=VALUE ...]",
    .operands_least = 1,
    .operands_most = OPERANDS_MAX,
    .options = options,
    .run = run,
};
