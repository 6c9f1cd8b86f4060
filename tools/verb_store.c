/* SPDX-License-Identifier: MIT
 * store check: what a store must be able to do, tried and shown, before a VM rests on it. */
#include "backend/store/attach.h"
#include "tools/nearest.h"
#include "tools/output.h"
#include "tools/vm.h"

#define DEADLINE_MS    15000u /* of one call: somebody waits in front of it */
#define PREFIX_DEFAULT "farshore-check"

static const struct option_spec options[] = {
    {"role", "ROLE", false, false, "Who shall use it: source, processor (the default) or viewer."},
    {"prefix", "VM", false, false, "Try under the name of this VM, where rights are for it alone."},
    {"create", NULL, false, false, "Make the folder, container or bucket when it is missing."},
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

static const char *verdict_name(enum store_verdict v)
{
    static const char *const names[] = {[STORE_NOT_ASKED] = "not-asked",
                                        [STORE_GOOD] = "good",
                                        [STORE_LACKS] = "lacking",
                                        [STORE_UNKNOWN] = "failed"};
    return names[v];
}

static bool print_table(const struct store_report *report, struct err *err)
{
    static const char *const heads[] = {"PROPERTY", "VERDICT", ">MS", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    for (enum store_property p = 0; p < STORE_PROPERTIES && good; p++) {
        enum store_verdict v = report->properties[p].verdict;
        good = table_cell(t, "%s", store_property_name(p)) &&
               table_cell(t, "%s", verdict_name(v)) &&
               (v == STORE_NOT_ASKED ? table_cell(t, "-")
                                     : table_cell(t, "%u", report->properties[p].ms));
    }
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++)
        if (report->properties[p].text[0] != '\0')
            printf("%s: %s\n", store_property_name(p), report->properties[p].text);
    return true;
}

static bool add_property(cJSON *array, const struct store_report *report, enum store_property p,
                         struct err *err)
{
    cJSON *j;
    return json_append_object(array, &j, err) &&
           json_add_text(j, "property", store_property_name(p), err) &&
           json_add_text(j, "verdict", verdict_name(report->properties[p].verdict), err) &&
           json_add_u64(j, "ms", report->properties[p].ms, err) &&
           json_add_text(j, "text", report->properties[p].text, err);
}

/* `why` is ERR_OK for a store that may be used. */
static bool print_json(const char *url, enum store_role role, const struct store_report *report,
                       const struct err *why, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array;
    if (!json_make(&j, err) || !json_add_text(j, "url", url, err) ||
        !json_add_text(j, "role", store_role_name(role), err) ||
        !json_add_bool(j, "usable", why->kind == ERR_OK, err) ||
        !json_add_text(j, "error", why->kind == ERR_OK ? "" : err_kind_name(why->kind), err) ||
        !json_add_array(j, "properties", &array, err))
        return false;
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++)
        if (!add_property(array, report, p, err))
            return false;
    return json_print(j, err);
}

static bool read_options(const struct options *o, enum store_role *role, const char **prefix,
                         struct err *err)
{
    static const char *const subjects[] = {"check", NULL};
    static const char *const roles[] = {"source", "processor", "viewer", NULL};
    const char *name = option_value(o, "role", 0), *nearest;

    *prefix = option_value(o, "prefix", 0);
    *role = STORE_ROLE_PROCESSOR;
    if (strcmp(o->operands[0], "check") != 0) {
        nearest = word_nearest(o->operands[0], subjects);
        return err_set(err, ERR_INVALID, "store %.40s: %sfarshore store check URL%s",
                       o->operands[0], nearest ? "did you mean " : "there is only ",
                       nearest ? "?" : "");
    }
    if (name && !store_role_parse(name, role)) {
        nearest = word_nearest(name, roles);
        if (nearest)
            return err_set(err, ERR_INVALID, "--role %.40s: did you mean %s?", name, nearest);
        return err_set(err, ERR_INVALID, "--role %.40s: give source, processor or viewer", name);
    }
    return *prefix == NULL || vm_name_valid(*prefix) ||
           err_set(err, ERR_INVALID, "--prefix %.80s is no VM name", *prefix);
}

/* A source need not be able to remove its object; who can shall not leave one behind. */
static void clean_up(struct store *s, const char *prefix)
{
    char key[VM_NAME_MAX + 16];
    struct err ignored = ERR_NONE;
    snprintf(key, sizeof key, "%s%s", prefix, STORE_CHECK_LASTING);
    if (!store_remove(s, key, &ignored))
        return;
}

/* What is wrong in detail was shown. */
static bool sum_up(const char *url, enum store_role role, const struct store_report *report,
                   enum err_kind kind, struct err *err)
{
    char list[128] = "";
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++) {
        size_t used = strlen(list);
        if (report->properties[p].text[0] != '\0')
            snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "",
                     store_property_name(p));
    }
    return err_set(err, kind, "%s cannot be used as %s: %s", url, store_role_name(role), list);
}

static bool run(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct store *s AUTO_STORE = NULL;
    struct store_report report;
    struct err why = ERR_NONE;
    enum store_role role;
    const char *vm;
    char prefix[VM_NAME_MAX + 2];

    if (!read_options(o, &role, &vm, err))
        return false;
    snprintf(prefix, sizeof prefix, "%s/", vm ? vm : PREFIX_DEFAULT);
    const struct attach_config config = {
        .host = call->host,
        .url = o->operands[1],
        .create = option_given(o, "create"),
        .deadline_ms = DEADLINE_MS,
    };
    if (!store_attach(&config, &s, err))
        return false;
    bool usable = store_check(s, call->world, prefix, role, &report, &why);
    if (role == STORE_ROLE_SOURCE)
        clean_up(s, prefix);
    bool shown = option_given(o, "json") ? print_json(s->url, role, &report, &why, err)
                                         : print_table(&report, err);
    fflush(stdout); /* before the line that sums up */
    if (shown && !usable)
        return sum_up(s->url, role, &report, why.kind, err);
    if (shown && usable && !option_given(o, "json"))
        printf("%s can be used as %s\n", s->url, store_role_name(role));
    return shown && usable;
}

const struct verb verb_store = {
    .name = "store",
    .summary = "Try whether a store can be used",
    .operands = "check URL",
    .operands_least = 2,
    .operands_most = 2,
    .options = options,
    .run = run,
};
