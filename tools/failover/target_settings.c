/* SPDX-License-Identifier: MIT */
#include "tools/failover/target_settings.h"

#include "backend/history/epoch.h"
#include "backend/store/store.h"
#include "tools/host_config.h"
#include "tools/nearest.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define NIC_NUMBER_MAX 31u

/* Each says what is wrong with the value, or NULL. */
typedef const char *value_flaw_fn(const char *value);

static const char *name_flaw(const char *v)
{
    size_t length = strlen(v);
    bool plain = length <= 100 && strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789._-+") == length;
    return plain && v[0] != '.' && v[0] != '-'
               ? NULL
               : "must be a name: letters, digits and . _ - + within, at most 100";
}

/* A subnet is named, or is its CIDR. */
static const char *subnet_flaw(const char *v)
{
    size_t length = strlen(v);
    bool plain = length <= 100 && strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789._-+:/") == length;
    return plain && v[0] != '.' && v[0] != '-' ? NULL : "must be a subnet's name or its CIDR";
}

static const char *address_flaw(const char *v)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, v, bytes) == 1 || inet_pton(AF_INET6, v, bytes) == 1
               ? NULL
               : "must be an IPv4 or IPv6 address";
}

static const char *folder_flaw(const char *v)
{
    return v[0] == '/' && label_valid(v) ? NULL : "must be a path that starts with /";
}

static const char *store_flaw(const char *v)
{
    static const char *const schemes[] = {"file:///", "azure://", "s3://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncmp(v, schemes[i], strlen(schemes[i])) == 0 && strlen(v) > strlen(schemes[i]))
            return label_valid(v) ? NULL : "has characters that no URL has";
    return "must be a store's URL: file:///, azure:// or s3://";
}

static const char *switch_flaw(const char *v)
{
    return strcmp(v, "on") == 0 || strcmp(v, "off") == 0 ? NULL : "must be on or off";
}

/* Copies name `index` of a comma list. */
static bool list_item(const char *list, size_t index, char *out, size_t size)
{
    for (; index > 0; index--) {
        list = strchr(list, ',');
        if (list == NULL)
            return false;
        list++;
    }
    size_t length = strcspn(list, ",");
    if (length >= size)
        return false;
    memcpy(out, list, length);
    out[length] = '\0';
    return true;
}

static const char *hosts_flaw(const char *v)
{
    char name[HOST_NAME_CHARS_MAX + 1];
    size_t commas = 0;
    for (const char *p = v; *p; p++)
        commas += *p == ',';
    for (size_t i = 0; i <= commas; i++)
        if (!list_item(v, i, name, sizeof name) || !host_name_valid(name))
            return "must be host names with a comma between: b1,b2";
    return NULL;
}

static const struct setting_kind {
    const char *key;
    value_flaw_fn *flaw;
    bool per_nic;
} kinds[] = {
    {"address", address_flaw, true},   {"availability-set", name_flaw, false},
    {"back-cache", store_flaw, false}, {"back-target", store_flaw, false},
    {"cpu-check", switch_flaw, false}, {"folder", folder_flaw, false},
    {"hosts", hosts_flaw, false},      {"memory-check", switch_flaw, false},
    {"mount", folder_flaw, false},     {"name", name_flaw, false},
    {"network", name_flaw, true},      {"resource-group", name_flaw, false},
    {"subnet", subnet_flaw, true},     {"test-network", name_flaw, false},
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* The row that `key` belongs to, with its number taken off; NULL: none. */
static const struct setting_kind *kind_of(const char *key)
{
    char base[TARGET_KEY_MAX];
    const char *dot = strchr(key, '.');
    size_t length = dot ? (size_t)(dot - key) : strlen(key);
    if (length >= sizeof base || strlen(key) >= TARGET_KEY_MAX)
        return NULL;
    memcpy(base, key, length);
    base[length] = '\0';
    if (dot != NULL) {
        size_t digits = strspn(dot + 1, "0123456789");
        bool plain =
            digits > 0 && digits <= 2 && dot[1 + digits] == '\0' && (digits == 1 || dot[1] != '0');
        if (!plain || strtoul(dot + 1, NULL, 10) > NIC_NUMBER_MAX)
            return NULL;
    }
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].key, base) == 0)
            return dot == NULL || kinds[i].per_nic ? &kinds[i] : NULL;
    return NULL;
}

static bool unknown_key(const char *key, struct err *err)
{
    const char *known[KINDS + 1] = {NULL};
    char list[256] = "";
    for (size_t i = 0; i < KINDS; i++) {
        size_t used = strlen(list);
        known[i] = kinds[i].key;
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", kinds[i].key);
    }
    const char *nearest = word_nearest(key, known);
    if (nearest != NULL)
        return err_set(err, ERR_INVALID,
                       "no setting " TARGET_PREFIX "%.40s: did you mean " TARGET_PREFIX "%s?", key,
                       nearest);
    return err_set(err, ERR_INVALID, "no setting " TARGET_PREFIX "%.40s: there are %s", key, list);
}

bool target_setting_check(const char *key, const char *value, struct err *err)
{
    const struct setting_kind *kind = kind_of(key);
    if (kind == NULL)
        return unknown_key(key, err);
    if (strlen(value) >= TARGET_VALUE_MAX)
        return err_set(err, ERR_INVALID, TARGET_PREFIX "%s is longer than %u characters", key,
                       TARGET_VALUE_MAX - 1);
    const char *flaw = kind->flaw(value);
    return flaw == NULL ||
           err_set(err, ERR_INVALID, TARGET_PREFIX "%s %s, not %.80s", key, flaw, value);
}

/* The row of `key`, or where it would be. */
static size_t place(const struct target_settings *s, const char *key, bool *found)
{
    size_t i = 0;
    while (i < s->count && strcmp(s->rows[i].key, key) < 0)
        i++;
    *found = i < s->count && strcmp(s->rows[i].key, key) == 0;
    return i;
}

bool target_setting_set(struct target_settings *s, const char *key, const char *value,
                        struct err *err)
{
    bool found, unset = *value == '\0';
    if (unset ? kind_of(key) == NULL && !unknown_key(key, err)
              : !target_setting_check(key, value, err))
        return false;
    size_t i = place(s, key, &found);
    if (unset) {
        if (found)
            memmove(&s->rows[i], &s->rows[i + 1], (--s->count - i) * sizeof *s->rows);
        return true;
    }
    if (!found) {
        if (s->count == TARGET_SETTINGS_MAX)
            return err_set(err, ERR_FULL, "more than %u settings of the target",
                           TARGET_SETTINGS_MAX);
        memmove(&s->rows[i + 1], &s->rows[i], (s->count++ - i) * sizeof *s->rows);
        snprintf(s->rows[i].key, TARGET_KEY_MAX, "%s", key);
    }
    snprintf(s->rows[i].value, TARGET_VALUE_MAX, "%s", value);
    return true;
}

const char *target_setting(const struct target_settings *s, const char *key)
{
    bool found;
    size_t i = place(s, key, &found);
    return found ? s->rows[i].value : NULL;
}

const char *target_setting_nic(const struct target_settings *s, const char *key, unsigned nic)
{
    char own[TARGET_KEY_MAX];
    snprintf(own, sizeof own, "%s.%u", key, nic);
    const char *value = target_setting(s, own);
    bool of_all = strcmp(key, "address") != 0;
    return value != NULL || (!of_all && nic > 0) ? value : target_setting(s, key);
}

bool target_setting_on(const struct target_settings *s, const char *key)
{
    const char *value = target_setting(s, key);
    return value == NULL || strcmp(value, "off") != 0;
}

bool target_setting_host(const struct target_settings *s, size_t index, char *out, size_t size)
{
    const char *list = target_setting(s, "hosts");
    return list != NULL && list_item(list, index, out, size);
}

bool target_settings_read(const cJSON *object, struct target_settings *out, struct err *err)
{
    const cJSON *j;
    *out = (struct target_settings){.count = 0};
    cJSON_ArrayForEach(j, object)
    {
        const char *value;
        if (!json_text(object, j->string, &value, err))
            return false;
        if (*value == '\0')
            return err_set(err, ERR_INVALID, "\"%.40s\" is empty", j->string);
        if (!target_setting_set(out, j->string, value, err))
            return false;
    }
    return true;
}

bool target_settings_add(cJSON *parent, const char *name, const struct target_settings *s,
                         struct err *err)
{
    cJSON *j;
    if (!json_add_object(parent, name, &j, err))
        return false;
    for (size_t i = 0; i < s->count; i++)
        if (!json_add_text(j, s->rows[i].key, s->rows[i].value, err))
            return false;
    return true;
}
