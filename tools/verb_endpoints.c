/* SPDX-License-Identifier: MIT
 * endpoints: what a firewall must let out for a VM, by role. Nothing is connected to. */
#include "backend/store/check.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

#define ROWS_MAX (STORE_ROLES * 4u * (VM_DISKS_MAX + 1u))

struct row {
    enum store_role role;
    const char *what;             /* "cache", "target" or "metadata" */
    char endpoint[STORE_URL_MAX]; /* "": none, the store is a folder */
};

struct rows {
    struct row *all;
    size_t count;
};

static void rows_release(struct rows *r)
{
    free(TAKE(r->all));
}

static void add_row(struct rows *r, enum store_role role, const char *what, const char *endpoint)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->all[i].role == role && strcmp(r->all[i].what, what) == 0 &&
            strcmp(r->all[i].endpoint, endpoint) == 0)
            return;
    assert(r->count < ROWS_MAX);
    struct row *row = &r->all[r->count++];
    row->role = role;
    row->what = what;
    snprintf(row->endpoint, sizeof row->endpoint, "%s", endpoint);
}

/* Which of a VM's stores each role asks, as design 12 has it. */
static bool reaches(enum store_role role, bool cache)
{
    return role == STORE_ROLE_PROCESSOR || cache == (role == STORE_ROLE_SOURCE);
}

/* Whether this host has that role for the VM: only of itself does it know the credentials. */
static bool is_ours(const struct settings *s, enum store_role role)
{
    return (s->role == ROLE_TARGET) == (role != STORE_ROLE_SOURCE);
}

static bool add_store(const struct verb_call *call, const struct settings *s, enum store_role role,
                      bool cache, const char *url, struct rows *r, struct err *err)
{
    struct store_endpoint e;
    if (!reaches(role, cache))
        return true;
    if (!store_endpoint(&call->host, url, &e, err))
        return false;
    add_row(r, role, cache ? "cache" : "target", e.store);
    if (is_ours(s, role) && e.metadata[0] != '\0')
        add_row(r, role, "metadata", e.metadata);
    return true;
}

static bool collect(const struct verb_call *call, const struct settings *s, struct rows *r,
                    struct err *err)
{
    r->all = calloc(ROWS_MAX, sizeof *r->all);
    if (r->all == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (enum store_role role = 0; role < STORE_ROLES; role++)
        for (uint16_t i = 0; i < s->store_count; i++)
            if (!add_store(call, s, role, true, s->stores[i].cache, r, err) ||
                !add_store(call, s, role, false, s->stores[i].target, r, err))
                return err_wrap(err, "%s", s->name);
    return true;
}

/* --- proxies, as libcurl takes them from the environment --- */

static const char *const proxies[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy",
                                      "ALL_PROXY",   "no_proxy",    "NO_PROXY",   NULL};

/* The value without user and password; false when it is not set. */
static bool proxy_shown(const struct verb_call *call, const char *name, char out[STORE_URL_MAX])
{
    const char *value = call->host.env(name);
    if (value == NULL || *value == '\0')
        return false;
    const char *host = strstr(value, "://"), *at = strrchr(value, '@');
    size_t scheme = host ? (size_t)(host - value) + strlen("://") : 0;
    snprintf(out, STORE_URL_MAX, "%.*s%s", (int)scheme, value, at ? at + 1 : value + scheme);
    return true;
}

static bool print_json(const struct verb_call *call, const struct settings *s, const struct rows *r,
                       struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array, *row, *vars;
    char shown[STORE_URL_MAX];
    if (!json_make(&j, err) || !json_add_text(j, "vm", s->name, err) ||
        !json_add_array(j, "endpoints", &array, err) || !json_add_object(j, "proxies", &vars, err))
        return false;
    for (const struct row *at = r->all; at < r->all + r->count; at++)
        if (!json_append_object(array, &row, err) ||
            !json_add_text(row, "role", store_role_name(at->role), err) ||
            !json_add_bool(row, "this_host", is_ours(s, at->role), err) ||
            !json_add_text(row, "for", at->what, err) ||
            !json_add_text(row, "endpoint", at->endpoint, err))
            return false;
    for (const char *const *name = proxies; *name; name++)
        if (proxy_shown(call, *name, shown) && !json_add_text(vars, *name, shown, err))
            return false;
    return json_print(j, err);
}

static bool print_table(const struct verb_call *call, const struct settings *s,
                        const struct rows *r, struct err *err)
{
    static const char *const heads[] = {"ROLE", "FOR", "ENDPOINT", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    char shown[STORE_URL_MAX];
    bool good = t != NULL;
    for (const struct row *at = r->all; at < r->all + r->count && good; at++)
        good = table_cell(t, "%s%s", store_role_name(at->role),
                          is_ours(s, at->role) ? ", this host" : "") &&
               table_cell(t, "%s", at->what) &&
               table_cell(t, "%s", at->endpoint[0] ? at->endpoint : "none: the store is a folder");
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    for (const char *const *name = proxies; *name; name++)
        if (proxy_shown(call, *name, shown))
            printf("%s is set: %s\n", *name, shown);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    struct rows rows CLEANUP(rows_release) = {.all = NULL};
    if (!settings_load(call->world, call->paths, call->options->operands[0], &s, err) ||
        !collect(call, &s, &rows, err))
        return false;
    return option_given(call->options, "json") ? print_json(call, &s, &rows, err)
                                               : print_table(call, &s, &rows, err);
}

const struct verb verb_endpoints = {
    .name = "endpoints",
    .summary = "Show what a firewall must let out",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
