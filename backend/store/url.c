/* SPDX-License-Identifier: MIT */
#include "backend/store/url.h"

#include "common/digest.h"

#include <stdio.h>

#define SECRET_ADVICE                                                                              \
    "a store's URL is stored and shown, so it holds no secret: give it by the environment or a "   \
    "file in CONFIG/credentials (see docs/STORES.md)"

/* Decodes %XX of [from, from + length) into `out`; false when it does not fit, or holds a control
 * character or half an escape. */
static bool decode(const char *from, size_t length, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned c = (unsigned char)from[i];
        if (c == '%') {
            if (length - i < 3)
                return false;
            char pair[3] = {from[i + 1], from[i + 2], 0};
            uint8_t byte;
            if (!hex_parse(pair, &byte, 1))
                return false;
            c = byte;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f || used + 1 >= size)
            return false;
        out[used++] = (char)c;
    }
    out[used] = '\0';
    return true;
}

static bool known(const char *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

static bool refuse_unknown(const char *name, const char *const *names, struct err *err)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; names[i] != NULL && used < sizeof list; i++)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", names[i]);
    return err_set(err, ERR_INVALID, "\"%s\" is no option of this kind of store: it has %s", name,
                   list);
}

/* Whoever writes such an option means to give a secret. */
static bool names_secret(const char *name)
{
    return strcasecmp(name, "sig") == 0 || strcasecmp(name, "sas") == 0 ||
           strcasestr(name, "key") != NULL || strcasestr(name, "token") != NULL ||
           strcasestr(name, "secret") != NULL || strcasestr(name, "password") != NULL;
}

/* A SAS token, or a URL with user and password. */
static bool holds_secret(const char *value)
{
    return strcasestr(value, "sig=") != NULL ||
           (strstr(value, "://") != NULL && strchr(value, '@') != NULL);
}

/* One NAME=VALUE of `length` bytes. */
static bool take_option(struct store_url *u, const char *text, size_t length,
                        const char *const *names, struct err *err)
{
    const char *equals = memchr(text, '=', length);
    size_t name_length = equals != NULL ? (size_t)(equals - text) : length;
    char name[sizeof u->options[0].name];

    if (!decode(text, name_length, name, sizeof name) || equals == NULL || name[0] == '\0')
        return err_set(err, ERR_INVALID, "options are written ?NAME=VALUE&NAME=VALUE");
    if (names_secret(name))
        return err_set(err, ERR_INVALID, "the option %s: " SECRET_ADVICE, name);
    if (!known(name, names))
        return refuse_unknown(name, names, err);
    if (store_url_option(u, name) != NULL)
        return err_set(err, ERR_INVALID, "the option %s is given twice", name);
    if (u->option_count == URL_OPTIONS_MAX)
        return err_set(err, ERR_INVALID, "more than %u options", URL_OPTIONS_MAX);
    memcpy(u->options[u->option_count].name, name, sizeof name);
    if (!decode(equals + 1, length - name_length - 1, u->options[u->option_count].value,
                sizeof u->options[0].value))
        return err_set(err, ERR_INVALID, "the value of %s is too long or not well escaped", name);
    if (holds_secret(u->options[u->option_count].value))
        return err_set(err, ERR_INVALID, "the option %s: " SECRET_ADVICE, name);
    u->option_count++;
    return true;
}

static bool take_options(struct store_url *u, const char *query, const char *const *names,
                         struct err *err)
{
    if (holds_secret(query)) /* a whole SAS token, say */
        return err_set(err, ERR_INVALID, "its options: " SECRET_ADVICE);
    while (*query != '\0') {
        size_t length = strcspn(query, "&");
        if (length > 0 && !take_option(u, query, length, names, err))
            return false;
        query += length + (query[length] == '&');
    }
    return true;
}

/* A prefix, if any, obeys the rule of keys. */
static bool take_path(struct store_url *u, const char *text, size_t length, struct err *err)
{
    while (length > 0 && *text == '/')
        text++, length--;
    while (length > 0 && text[length - 1] == '/')
        length--;
    if (!decode(text, length, u->path, sizeof u->path))
        return err_set(err, ERR_INVALID, "its path is too long or not well escaped");
    return u->path[0] == '\0' || store_key_valid(u->path) ||
           err_set(err, ERR_INVALID,
                   "its path is longer than %u characters, or holds others than letters, digits, "
                   ". _ - and single slashes",
                   STORE_KEY_MAX);
}

bool store_url_parse(const char *url, const char *scheme, const char *const *names,
                     struct store_url *out, struct err *err)
{
    const char *authority = url + strlen(scheme);
    size_t length = strcspn(authority, "/?#");
    const char *path = authority + length;
    const char *query = path + strcspn(path, "?");
    bool good;

    *out = (struct store_url){.option_count = 0};
    assert(strncmp(url, scheme, strlen(scheme)) == 0);
    /* Not shown whole until it is known to hold no secret. */
    if (memchr(authority, '@', length) != NULL)
        return err_set(err, ERR_INVALID, "a store's URL with a user or password: " SECRET_ADVICE);
    good = decode(authority, length, out->authority, sizeof out->authority) &&
           out->authority[0] != '\0';
    for (size_t i = 0; good && out->authority[i] != '\0'; i++)
        good = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
                      out->authority[i]) != NULL;
    if (!good)
        return err_set(err, ERR_INVALID, "%sNAME/...: a name of letters, digits, . - _ is missing",
                       scheme);
    return (take_path(out, path, (size_t)(query - path), err) &&
            take_options(out, *query == '?' ? query + 1 : query, names, err)) ||
           err_wrap(err, "store %s%s", scheme, out->authority);
}

const char *store_url_option(const struct store_url *u, const char *name)
{
    for (size_t i = 0; i < u->option_count; i++)
        if (strcmp(u->options[i].name, name) == 0)
            return u->options[i].value;
    return NULL;
}

void url_origin(const char *url, char out[STORE_URL_MAX])
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + strlen("://") : url;
    size_t length = strcspn(host, "/?#");
    const char *bracket = memchr(host, ']', length); /* behind it an IPv6 address has no colon */
    const char *from = bracket != NULL ? bracket : host;
    bool port = memchr(from, ':', length - (size_t)(from - host)) != NULL;
    const char *standard = strncmp(url, "https://", strlen("https://")) == 0 ? ":443" : ":80";
    snprintf(out, STORE_URL_MAX, "%.*s%s", (int)(host - url) + (int)length, url,
             port ? "" : standard);
}
