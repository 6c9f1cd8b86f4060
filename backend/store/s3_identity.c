/* SPDX-License-Identifier: MIT */
#include "backend/store/s3_identity.h"

#include "backend/store/instance.h"
#include "backend/store/secrets.h"
#include "common/json.h"
#include "common/rfc3339.h"

#include <limits.h>
#include <stdio.h>
#include <strings.h>

#define METADATA_DEFAULT "http://169.254.169.254"
#define TOKEN_SECONDS    "21600"
#define ROLE_CHARS_MAX   64u
#define ROLE_PATH        "/latest/meta-data/iam/security-credentials/"

struct s3_identity {
    struct s3_credentials fixed; /* when `instance` is NULL */
    struct instance *instance;
    struct world *world;
    char metadata[256];
    char place[PATH_MAX];
    char where[SECRETS_WHERE_MAX]; /* files that were looked for, of an instance */
};

static const char *const variables[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN", NULL};

/* They become headers: a line end in one would be a header of its own. */
static bool printable(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

static bool copy(char *out, size_t size, const char *value)
{
    size_t length = value != NULL ? strlen(value) : 0;
    if (length >= size || !printable(value, length))
        return false;
    memcpy(out, value != NULL ? value : "", length + 1);
    return true;
}

static bool credentials_set(struct s3_credentials *c, const char *key_id, const char *secret,
                            const char *token)
{
    return copy(c->key_id, sizeof c->key_id, key_id) && copy(c->secret, sizeof c->secret, secret) &&
           copy(c->token, sizeof c->token, token) && c->key_id[0] != '\0' && c->secret[0] != '\0';
}

/* --- the shared credentials file --- */

static bool trim(const char **text, size_t *length)
{
    while (*length > 0 && (**text == ' ' || **text == '\t'))
        (*text)++, (*length)--;
    while (*length > 0 && strchr(" \t\r", (*text)[*length - 1]) != NULL)
        (*length)--;
    return *length > 0;
}

static bool keep(char *out, size_t size, const char *text, size_t length)
{
    if (!trim(&text, &length) || length >= size || !printable(text, length))
        return false;
    memcpy(out, text, length);
    out[length] = '\0';
    return true;
}

static bool take_setting(struct s3_credentials *c, const char *line, size_t length)
{
    const char *equals = memchr(line, '=', length);
    char name[64];
    if (equals == NULL || !keep(name, sizeof name, line, (size_t)(equals - line)))
        return true; /* nothing that we know */
    const char *value = equals + 1;
    length -= (size_t)(value - line);
    if (strcmp(name, "aws_access_key_id") == 0)
        return keep(c->key_id, sizeof c->key_id, value, length);
    if (strcmp(name, "aws_secret_access_key") == 0)
        return keep(c->secret, sizeof c->secret, value, length);
    if (strcmp(name, "aws_session_token") == 0)
        return keep(c->token, sizeof c->token, value, length);
    return true;
}

bool s3_profile_parse(struct span text, const char *profile, struct s3_credentials *out,
                      bool *found)
{
    bool inside = false;

    memset(out, 0, sizeof *out);
    *found = false;
    while (text.length > 0) {
        const uint8_t *stop = memchr(text.data, '\n', text.length);
        const char *line = (const char *)text.data;
        size_t length = stop != NULL ? (size_t)(stop - text.data) : text.length;
        size_t taken = length + (stop != NULL);
        text = span_part(text, taken, text.length - taken);
        if (!trim(&line, &length) || *line == '#' || *line == ';')
            continue;
        if (*line == '[') {
            inside = length == strlen(profile) + 2 && line[length - 1] == ']' &&
                     memcmp(line + 1, profile, length - 2) == 0;
            *found |= inside;
        } else if (inside && !take_setting(out, line, length)) {
            return false;
        }
    }
    return true;
}

static bool shared_path(const struct store_host *host, char out[PATH_MAX])
{
    const char *given = host->env("AWS_SHARED_CREDENTIALS_FILE"), *home = host->env("HOME");
    int length = given != NULL && *given != '\0'
                     ? snprintf(out, PATH_MAX, "%s", given)
                     : snprintf(out, PATH_MAX, "%s/.aws/credentials", home != NULL ? home : "");
    return length > 0 && length < PATH_MAX && (given != NULL || home != NULL);
}

/* *found: the file is there and has the profile. */
static bool from_shared_file(const struct store_host *host, struct s3_identity *i, bool *found,
                             struct err *err)
{
    struct secrets file AUTO_SECRETS = {.text = BUF_NONE}; /* wiped as one */
    const char *profile = host->env("AWS_PROFILE");
    bool named = profile != NULL && *profile != '\0';
    struct err why = ERR_NONE;

    *found = false;
    if (!shared_path(host, i->place))
        return true;
    if (!secrets_file_load(host->world, i->place, &file.text, &why)) {
        if (why.kind == ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    if (!s3_profile_parse(buf_span(&file.text), named ? profile : "default", &i->fixed, found))
        return err_set(err, ERR_INVALID, "%s: a value in it is empty, too long, or holds a space",
                       i->place);
    if (*found && (i->fixed.key_id[0] == '\0' || i->fixed.secret[0] == '\0'))
        return err_set(err, ERR_INVALID,
                       "%s: profile %s lacks aws_access_key_id or aws_secret_access_key", i->place,
                       named ? profile : "default");
    return *found || !named ||
           err_set(err, ERR_INVALID, "%s has no profile %s (AWS_PROFILE)", i->place, profile);
}

/* --- the instance's role --- */

/* One text of the endpoint; the token goes along where there is one. */
static bool ask(const struct s3_identity *i, struct http *h, const char *token, const char *path,
                struct buf *out, struct err *err)
{
    char url[1024];
    bool begin = token == NULL;
    snprintf(url, sizeof url, "%s%s", i->metadata, path);
    if (!instance_ask(h, begin ? "PUT" : "GET", url,
                      begin ? "X-aws-ec2-metadata-token-ttl-seconds" : "X-aws-ec2-metadata-token",
                      begin ? TOKEN_SECONDS : token, out, err))
        return false;
    buf_put_u8(out, 0);
    return buf_ok(out, err) &&
           (!begin || instance_text_valid((const char *)out->data) ||
            err_set(err, ERR_CORRUPT, "the machine's metadata endpoint: its token is none"));
}

/* "KEY-ID\0SECRET\0TOKEN\0" */
static bool take_json(struct http *h, struct span text, struct buf *out, uint64_t *holds_ms,
                      struct err *err)
{
    static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "Token"};
    cJSON *j AUTO_JSON = NULL;
    const char *value, *until;
    uint64_t until_ms, now_ms = http_now_ms(h);

    if (!json_parse(text, &j, err) || !json_text(j, "Expiration", &until, err))
        return err_wrap(err, "the instance's role");
    if (!rfc3339_parse(until, &until_ms))
        return err_set(err, ERR_CORRUPT, "the instance's role: its Expiration is no time");
    for (size_t i = 0; i < 3; i++) {
        if (!json_text(j, names[i], &value, err))
            return err_wrap(err, "the instance's role");
        buf_put(out, value, strlen(value) + 1);
    }
    *holds_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    return buf_ok(out, err);
}

static bool fetch(void *context, struct http *h, struct buf *out, uint64_t *holds_ms,
                  struct err *err)
{
    const struct s3_identity *i = context;
    struct buf token AUTO_SECRET_BUF = BUF_NONE, role AUTO_BUF = BUF_NONE;
    struct buf answer AUTO_SECRET_BUF = BUF_NONE, path AUTO_BUF = BUF_NONE;

    if (!ask(i, h, NULL, "/latest/api/token", &token, err) ||
        !ask(i, h, (const char *)token.data, ROLE_PATH, &role, err))
        return false;
    role.data[strcspn((const char *)role.data, "\r\n")] = '\0'; /* the first of several */
    if (!instance_text_valid((const char *)role.data) ||
        strlen((const char *)role.data) > ROLE_CHARS_MAX)
        return err_set(err, ERR_CORRUPT,
                       "the machine's metadata endpoint: its role's name is none");
    buf_put(&path, ROLE_PATH, strlen(ROLE_PATH));
    http_escape(&path, (const char *)role.data, false);
    buf_put_u8(&path, 0);
    return buf_ok(&path, err) &&
           ask(i, h, (const char *)token.data, (const char *)path.data, &answer, err) &&
           take_json(h, span_of(answer.data, answer.length - 1), out, holds_ms, err);
}

static bool use_instance(const struct store_host *host, const char *metadata, struct s3_identity *i,
                         struct err *err)
{
    const char *given = host->env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *off = host->env("AWS_EC2_METADATA_DISABLED");
    if (off != NULL && strcasecmp(off, "true") == 0)
        return err_set(err, ERR_DENIED, "no credentials for S3 in %s, AWS_ACCESS_KEY_ID or %s",
                       i->where, i->place);
    if (metadata == NULL)
        metadata = given != NULL && *given != '\0' ? given : METADATA_DEFAULT;
    snprintf(i->metadata, sizeof i->metadata, "%s", metadata);
    snprintf(i->place, sizeof i->place, "the instance's role");
    return instance_make(host->world, fetch, i, &i->instance, err);
}

/* --- all together --- */

bool s3_identity_make(const struct store_host *host, const char *store, const char *metadata,
                      struct s3_identity **out, struct err *err)
{
    struct secrets found AUTO_SECRETS = {.text = BUF_NONE};
    struct s3_identity *i CLEANUP(s3_identity_release) = calloc(1, sizeof *i);
    bool shared;

    if (i == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!secrets_find(host, store, variables, &found, err))
        return false;
    secrets_where(host, store, i->where);
    if (secrets_value(&found, "AWS_ACCESS_KEY_ID") != NULL) {
        snprintf(i->place, sizeof i->place, "%s", found.place);
        if (!credentials_set(&i->fixed, secrets_value(&found, variables[0]),
                             secrets_value(&found, variables[1]),
                             secrets_value(&found, variables[2])))
            return err_set(err, ERR_INVALID,
                           "%s: AWS_ACCESS_KEY_ID is there, but AWS_SECRET_ACCESS_KEY is missing, "
                           "or one is too long or holds a space or control character",
                           i->place);
    } else if (!from_shared_file(host, i, &shared, err) ||
               (!shared && !use_instance(host, metadata, i, err))) {
        return false;
    }
    *out = TAKE(i);
    return true;
}

void s3_identity_release(struct s3_identity **identity)
{
    struct s3_identity *i = *identity;
    if (i == NULL)
        return;
    *identity = NULL;
    instance_release(&i->instance);
    explicit_bzero(i, sizeof *i);
    free(i);
}

bool s3_identity_get(struct s3_identity *i, struct s3_credentials *out, struct err *err)
{
    struct buf text AUTO_SECRET_BUF = BUF_NONE;
    if (i->instance == NULL) {
        *out = i->fixed;
        return true;
    }
    if (!buf_reserve(&text, INSTANCE_ANSWER_MAX) || !instance_get(i->instance, &text, err))
        return err_wrap(err, "no credentials in %s, AWS_ACCESS_KEY_ID or ~/.aws/credentials",
                        i->where);
    const char *key_id = (const char *)text.data, *secret = key_id + strlen(key_id) + 1;
    return credentials_set(out, key_id, secret, secret + strlen(secret) + 1) ||
           err_set(err, ERR_CORRUPT,
                   "the instance's role: a credential is empty, too long, or none");
}

void s3_identity_cancel(struct s3_identity *i, bool cancelled)
{
    if (i->instance != NULL)
        instance_cancel(i->instance, cancelled);
}

bool s3_identity_renew(struct s3_identity *i)
{
    if (i->instance == NULL)
        return false;
    instance_forget(i->instance);
    return true;
}

const struct s3_credentials *s3_identity_fixed(const struct s3_identity *i)
{
    return i->instance == NULL ? &i->fixed : NULL;
}

const char *s3_identity_place(const struct s3_identity *i)
{
    return i->place;
}

const char *s3_identity_metadata(const struct s3_identity *i)
{
    return i->instance != NULL ? i->metadata : NULL;
}
