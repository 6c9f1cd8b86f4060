/* SPDX-License-Identifier: MIT */
#include "tools/failover/set_target.h"

#include "tools/failover/dispatch.h"
#include "tools/failover/states.h"

#include <stdio.h>
#include <string.h>

#define MAPPING_PREFIX TARGET_PREFIX "network."

struct place {
    char network[PROTECTION_NAME_MAX];
    char subnet[PROTECTION_NAME_MAX];
};

/* NETWORK[/SUBNET]; a subnet may be a CIDR, with a / of its own. */
static bool place_parse(const char *text, size_t length, struct place *out, struct err *err)
{
    const char *slash = memchr(text, '/', length);
    size_t network = slash ? (size_t)(slash - text) : length;
    size_t subnet = slash ? length - network - 1 : 0;
    *out = (struct place){.network = ""};
    if (network == 0 || network >= sizeof out->network || subnet >= sizeof out->subnet ||
        (slash && subnet == 0))
        return err_set(err, ERR_INVALID, "%.80s: give NETWORK or NETWORK/SUBNET", text);
    memcpy(out->network, text, network);
    if (slash)
        memcpy(out->subnet, slash + 1, subnet);
    /* The rules for names are those of the settings. */
    return target_setting_check("network", out->network, err) &&
           (subnet == 0 || target_setting_check("subnet", out->subnet, err));
}

/* Whether the VM runs at home: then "source" is the mapping's home side. */
static bool is_home(const struct protection *p)
{
    return strcmp(p->source_host, p->home_host) == 0;
}

static bool has_source(const struct protection *p, const struct protection_mapping *m,
                       const struct place *source)
{
    const char *network = is_home(p) ? m->home_network : m->away_network;
    const char *subnet = is_home(p) ? m->home_subnet : m->away_subnet;
    return strcmp(network, source->network) == 0 && strcmp(subnet, source->subnet) == 0;
}

static void remove_row(struct protection *p, uint16_t at)
{
    p->mapping_count--;
    memmove(&p->mappings[at], &p->mappings[at + 1],
            (size_t)(p->mapping_count - at) * sizeof *p->mappings);
}

static void fill_row(const struct protection *p, struct protection_mapping *m,
                     const struct place *source, const struct place *target)
{
    const struct place *home = is_home(p) ? source : target, *away = is_home(p) ? target : source;
    snprintf(m->home_network, sizeof m->home_network, "%s", home->network);
    snprintf(m->home_subnet, sizeof m->home_subnet, "%s", home->subnet);
    snprintf(m->away_network, sizeof m->away_network, "%s", away->network);
    snprintf(m->away_subnet, sizeof m->away_subnet, "%s", away->subnet);
}

/* A row without a subnet speaks of the whole network: rows that enable made for its subnets would
 * win over it, so they go. */
static void forget_subnets(struct protection *p, const struct place *source)
{
    for (uint16_t i = p->mapping_count; i-- > 0;) {
        const struct protection_mapping *m = &p->mappings[i];
        if (strcmp(is_home(p) ? m->home_network : m->away_network, source->network) == 0)
            remove_row(p, i);
    }
}

static bool take_mapping(struct protection *p, const char *from, size_t from_length,
                         const char *value, struct err *err)
{
    struct place source, target;
    if (!place_parse(from, from_length, &source, err))
        return false;
    if (value[0] != '\0' && !place_parse(value, strlen(value), &target, err))
        return false;
    for (uint16_t i = p->mapping_count; i-- > 0;)
        if (has_source(p, &p->mappings[i], &source))
            remove_row(p, i);
    if (value[0] == '\0')
        return true;
    if (source.subnet[0] == '\0')
        forget_subnets(p, &source);
    if (p->mapping_count == PROTECTION_MAPPINGS_MAX)
        return err_set(err, ERR_FULL, "more than %u rows of network mapping",
                       PROTECTION_MAPPINGS_MAX);
    fill_row(p, &p->mappings[p->mapping_count++], &source, &target);
    return true;
}

bool set_target_take(struct protection *p, const char *given, struct err *err)
{
    const char *equals = strchr(given, '=');
    const char *key = given + strlen(TARGET_PREFIX);
    char name[TARGET_KEY_MAX];
    if (equals == NULL || strncmp(given, TARGET_PREFIX, strlen(TARGET_PREFIX)) != 0)
        return err_set(err, ERR_INVALID, "%.60s: settings of the target are target.KEY=VALUE",
                       given);
    const char *from = given + strlen(MAPPING_PREFIX);
    if (strncmp(given, MAPPING_PREFIX, strlen(MAPPING_PREFIX)) == 0) {
        size_t length = (size_t)(equals - from);
        if (strspn(from, "0123456789") != length) /* else it is the number of a NIC */
            return take_mapping(p, from, length, equals + 1, err);
    }
    if ((size_t)(equals - key) >= sizeof name)
        return err_set(err, ERR_INVALID, "%.60s: no setting of the target has such a long name",
                       given);
    snprintf(name, sizeof name, "%.*s", (int)(equals - key), key);
    return target_setting_set(&p->settings, name, equals + 1, err);
}

struct change {
    const char *vm;
    const char *const *given;
    size_t count;
};

static bool change(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct change *c = context;
    const struct states_facts facts = {.drills = p->test_count > 0};
    *same = false;
    if (!states_check(STATES_SET, c->vm, p->state, facts, err))
        return false;
    for (size_t i = 0; i < c->count; i++)
        if (!set_target_take(p, c->given[i], err))
            return false;
    return true;
}

bool set_target(struct vm *vm, const char *const *given, size_t count, struct err *err)
{
    struct change c = {.vm = vm->settings.name, .given = given, .count = count};
    struct doclog_vault vault = vm_vault(vm);
    return protection_change(&vault, change, &c, NULL, err);
}
