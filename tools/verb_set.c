/* SPDX-License-Identifier: MIT
 * set: the settings of a VM on this host, changed or shown. A running mount is told and takes them
 * up at once, a processor reads them anew in its next round. */
#include "tools/disk_lock.h"
#include "tools/nearest.h"
#include "tools/output.h"
#include "tools/vm.h"

#define ANSWER_MS 30000u

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

static void show_bandwidth(const struct settings *s, char out[BANDWIDTH_SPEC_MAX])
{
    snprintf(out, BANDWIDTH_SPEC_MAX, "%s", settings_bandwidth(s));
}

static void show_cut_interval(const struct settings *s, char out[BANDWIDTH_SPEC_MAX])
{
    snprintf(out, BANDWIDTH_SPEC_MAX, "%llu", (unsigned long long)s->cut_interval_s);
}

static const struct key {
    const char *name;
    bool source_only;
    bool (*set)(struct settings *s, const char *value, struct err *err);
    void (*show)(const struct settings *s, char out[BANDWIDTH_SPEC_MAX]);
} keys[] = {
    {"bandwidth", false, set_bandwidth, show_bandwidth},
    {"cut_interval", true, set_cut_interval, show_cut_interval},
};

#define KEYS (sizeof keys / sizeof *keys)

static bool has_key(const struct settings *s, const struct key *k)
{
    return s->role == ROLE_SOURCE || !k->source_only;
}

static bool unknown_key(const char *given, struct err *err)
{
    const char *names[KEYS + 1] = {NULL};
    for (size_t i = 0; i < KEYS; i++)
        names[i] = keys[i].name;
    const char *nearest = word_nearest(given, names);
    if (nearest)
        return err_set(err, ERR_INVALID, "unknown setting %s: did you mean %s?", given, nearest);
    return err_set(err, ERR_INVALID, "unknown setting %s: there are bandwidth and cut_interval",
                   given);
}

/* One KEY=VALUE. */
static bool take(struct settings *s, const char *given, struct err *err)
{
    const char *equals = strchr(given, '=');
    char name[40];
    if (equals == NULL)
        return err_set(err, ERR_INVALID, "%.40s: settings are written KEY=VALUE", given);
    snprintf(name, sizeof name, "%.*s", (int)(equals - given), given);
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (!has_key(s, &keys[i]))
            return err_set(err, ERR_INVALID, "%s belongs to the host where %s is enabled", name,
                           s->name);
        return keys[i].set(s, equals + 1, err);
    }
    return unknown_key(name, err);
}

/* --- showing --- */

static bool show(const struct settings *s, bool json, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    char value[BANDWIDTH_SPEC_MAX];
    if (json && (!json_make(&j, err) || !json_add_text(j, "vm", s->name, err)))
        return false;
    for (size_t i = 0; i < KEYS; i++) {
        if (!has_key(s, &keys[i]))
            continue;
        keys[i].show(s, value);
        if (!json)
            printf("%s=%s\n", keys[i].name, value);
        else if (!json_add_text(j, keys[i].name, value, err))
            return false;
    }
    return !json || json_print(j, err);
}

/* --- the running mount --- */

static bool tell_mount(const struct verb_call *call, const struct settings *s, struct err *err)
{
    char point[PATH_MAX];
    cJSON *request AUTO_JSON = NULL, *answer AUTO_JSON = NULL;
    uint64_t interval_s;
    if (s->role != ROLE_SOURCE || !vm_locked(call->paths, s->name, point))
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

static bool run(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    if (!settings_load(call->world, call->paths, o->operands[0], &s, err))
        return false;
    if (s.role == ROLE_ENABLING)
        return err_set(err, ERR_INVALID,
                       "%s: its enable has not finished: run the same farshore enable again",
                       s.name);
    for (size_t i = 1; i < o->operand_count; i++)
        if (!take(&s, o->operands[i], err))
            return false;
    if (o->operand_count > 1 &&
        (!settings_save(call->world, call->paths, &s, err) || !tell_mount(call, &s, err)))
        return false;
    return show(&s, option_given(o, "json"), err);
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
