/* SPDX-License-Identifier: MIT */
#include "backend/store/check.h"

#include "common/digest.h"

#include <stdio.h>

static const char *const roles[STORE_ROLES] = {
    [STORE_ROLE_SOURCE] = "source",
    [STORE_ROLE_PROCESSOR] = "processor",
    [STORE_ROLE_VIEWER] = "viewer",
};

static const char *const properties[STORE_PROPERTIES] = {
    [STORE_CREATES] = "create", [STORE_READS] = "read",
    [STORE_RANGES] = "range",   [STORE_NEVER_REPLACES] = "never-replace",
    [STORE_LISTS] = "list",     [STORE_REMOVES] = "remove",
};

const char *store_role_name(enum store_role r)
{
    return roles[r];
}

bool store_role_parse(const char *name, enum store_role *out)
{
    for (enum store_role r = 0; r < STORE_ROLES; r++)
        if (strcmp(name, roles[r]) == 0) {
            *out = r;
            return true;
        }
    return false;
}

const char *store_property_name(enum store_property p)
{
    return properties[p];
}

static const char body[] = "farshore asks: is this store one that never replaces?";
static const char other[] = "If you read this, a second put has replaced the first!";

struct check {
    struct store *store;
    char key[STORE_KEY_MAX + 64];
    char prefix[STORE_KEY_MAX + 1];
    bool removes;
};

static bool lacks(const struct check *c, struct err *err, const char *property)
{
    return err_set(err, ERR_INVALID,
                   "store %s cannot be used: %s. Use a store that does, or update its software",
                   c->store->url, property);
}

/* Where nothing may be removed, the object of an earlier check is as good as a new one. */
static bool creates(const struct check *c, struct err *err)
{
    if (store_put(c->store, c->key, span_of(body, sizeof body), err))
        return true;
    return !c->removes && err->kind == ERR_EXISTS;
}

static bool reads(const struct check *c, struct err *err)
{
    uint8_t out[sizeof body];
    uint64_t bytes;

    bool good = store_size(c->store, c->key, &bytes, err);
    bool whole = good && bytes == sizeof body;
    if (whole)
        good = store_get(c->store, c->key, 0, mspan_of(out, sizeof out), err);
    if (!good && err->kind == ERR_NOT_FOUND)
        return lacks(c, err, "it does not find an object right after it was put");
    if (!good)
        return false;
    if (!whole || memcmp(out, body, sizeof out) != 0)
        return lacks(c, err, "it does not give back the bytes that were put");
    return true;
}

static bool ranges(const struct check *c, struct err *err)
{
    uint8_t out[sizeof body];

    if (!store_get(c->store, c->key, 9, mspan_of(out, 4), err))
        return false;
    if (memcmp(out, body + 9, 4) != 0)
        return lacks(c, err, "it does not read a part of an object as asked");
    if (store_get(c->store, c->key, 9, mspan_of(out, sizeof out), err))
        return lacks(c, err, "it reads past the end of an object");
    return err->kind == ERR_CORRUPT;
}

static bool never_replaces(const struct check *c, struct err *err)
{
    if (store_put(c->store, c->key, span_of(other, sizeof other), err))
        return lacks(c, err,
                     "it replaced an object although it was told to create only "
                     "(create-if-absent is ignored)");
    return err->kind == ERR_EXISTS && reads(c, err);
}

static bool see_nothing(void *context, const char *key, uint64_t bytes)
{
    (void)context, (void)key, (void)bytes;
    return false;
}

/* That the list is fresh is not asked: no decision rests on it. */
static bool lists(const struct check *c, struct err *err)
{
    return store_list(c->store, c->prefix, NULL, see_nothing, NULL, err);
}

static bool removes(const struct check *c, struct err *err)
{
    uint64_t bytes;
    if (!store_remove(c->store, c->key, err) || !store_remove(c->store, c->key, err))
        return false;
    if (store_size(c->store, c->key, &bytes, err))
        return lacks(c, err, "it still shows an object right after it was removed");
    return err->kind == ERR_NOT_FOUND;
}

static bool (*const proofs[STORE_PROPERTIES])(const struct check *c, struct err *err) = {
    [STORE_CREATES] = creates, [STORE_READS] = reads,
    [STORE_RANGES] = ranges,   [STORE_NEVER_REPLACES] = never_replaces,
    [STORE_LISTS] = lists,     [STORE_REMOVES] = removes,
};

static bool check_make(struct check *c, struct store *s, struct world *w, const char *prefix,
                       enum store_role role, struct err *err)
{
    char hex[2 * 8 + 1];
    uint8_t random[8];

    int result = w->ops->random(w, random, sizeof random);
    if (result < 0)
        return err_errno(err, -result, "cannot get random bytes to check store %s", s->url);
    hex_of(random, sizeof random, hex);
    c->store = s;
    c->removes = role != STORE_ROLE_SOURCE;
    snprintf(c->prefix, sizeof c->prefix, "%s%s", prefix, role == STORE_ROLE_VIEWER ? "pins/" : "");
    snprintf(c->key, sizeof c->key, "%s" STORE_CHECK_LASTING "%s%s", c->prefix,
             c->removes ? "-" : "", c->removes ? hex : "");
    return true;
}

bool store_check(struct store *s, struct world *w, const char *prefix, enum store_role role,
                 struct store_report *report, struct err *err)
{
    struct check c;
    struct err first = ERR_NONE;
    enum store_property failed = 0;
    bool made = false, reached = true;

    if (report != NULL)
        memset(report, 0, sizeof *report);
    if (!check_make(&c, s, w, prefix, role, err))
        return false;
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++) {
        struct err why = ERR_NONE;
        /* What was not created can be listed at most. */
        if ((p == STORE_REMOVES && !c.removes) ||
            (!made && p != STORE_CREATES && (p != STORE_LISTS || !reached)))
            continue;
        uint64_t begun_ns = w->ops->boottime_ns(w);
        bool good = proofs[p](&c, &why);
        made |= p == STORE_CREATES && good;
        reached &= why.kind != ERR_TRANSIENT;
        if (!good && first.kind == ERR_OK) {
            first = why;
            failed = p;
        }
        if (report == NULL)
            continue;
        report->properties[p].ms = (uint32_t)((w->ops->boottime_ns(w) - begun_ns) / 1000000);
        report->properties[p].verdict = good                      ? STORE_GOOD
                                        : why.kind == ERR_INVALID ? STORE_LACKS
                                                                  : STORE_UNKNOWN;
        if (!good)
            snprintf(report->properties[p].text, ERR_TEXT_MAX, "%s", why.text);
    }
    if (first.kind == ERR_OK)
        return true;
    if (err != NULL)
        *err = first;
    return err_wrap(err, "checking store as %s, \"%s\" fails", store_role_name(role),
                    store_property_name(failed));
}
