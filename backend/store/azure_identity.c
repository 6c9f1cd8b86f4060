/* SPDX-License-Identifier: MIT */
#include "backend/store/azure_identity.h"

#include "backend/store/instance.h"
#include "backend/store/secrets.h"
#include "common/base64.h"
#include "common/json.h"

#include <stdio.h>

#define METADATA_DEFAULT "http://169.254.169.254"
#define TOKEN_PATH                                                                                 \
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2F"               \
    "storage.azure.com%2F"

struct azure_identity {
    enum azure_proof proof;
    struct buf secret; /* a SAS with its NUL, or a key */
    struct instance *instance;
    char metadata[256];
    char client_id[80];
    char place[320];
    char where[SECRETS_WHERE_MAX]; /* files that were looked for, of an instance */
};

/* --- managed identity --- */

/* {"access_token": "...", "expires_in": "3599", ...}: numbers are texts there. */
static bool take_json(struct span text, struct buf *out, uint64_t *holds_ms, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    const char *token, *seconds;
    char *end;

    if (!json_parse(text, &j, err) || !json_text(j, "access_token", &token, err) ||
        !json_text(j, "expires_in", &seconds, err))
        return err_wrap(err, "the machine's managed identity");
    unsigned long value = strtoul(seconds, &end, 10);
    if (end == seconds || *end != '\0' || value > 366ul * 86400)
        return err_set(err, ERR_CORRUPT, "the machine's managed identity: expires_in is no number");
    if (!instance_text_valid(token))
        return err_set(err, ERR_CORRUPT,
                       "the machine's managed identity: its access_token is none");
    *holds_ms = (uint64_t)value * 1000;
    buf_put(out, token, strlen(token) + 1);
    return buf_ok(out, err);
}

static bool fetch(void *context, struct http *h, struct buf *out, uint64_t *holds_ms,
                  struct err *err)
{
    const struct azure_identity *i = context;
    struct buf answer AUTO_SECRET_BUF = BUF_NONE;
    char url[640];

    snprintf(url, sizeof url, "%s%s%s%s", i->metadata, TOKEN_PATH,
             i->client_id[0] != '\0' ? "&client_id=" : "", i->client_id);
    return instance_ask(h, "GET", url, "Metadata", "true", &answer, err) &&
           take_json(buf_span(&answer), out, holds_ms, err);
}

static bool use_instance(const struct store_host *host, const char *metadata,
                         struct azure_identity *i, struct err *err)
{
    const char *client = host->env("AZURE_CLIENT_ID");
    snprintf(i->metadata, sizeof i->metadata, "%s", metadata != NULL ? metadata : METADATA_DEFAULT);
    if (client != NULL && strspn(client, "0123456789abcdefABCDEF-") == strlen(client))
        snprintf(i->client_id, sizeof i->client_id, "%s", client);
    snprintf(i->place, sizeof i->place, "the machine's managed identity");
    i->proof = AZURE_TOKEN;
    return instance_make(host->world, fetch, i, &i->instance, err);
}

/* --- all together --- */

static bool take_secret(struct azure_identity *i, const struct secrets *found, struct err *err)
{
    const char *sas = secrets_value(found, "AZURE_STORAGE_SAS_TOKEN");
    const char *key = secrets_value(found, "AZURE_STORAGE_KEY");
    snprintf(i->place, sizeof i->place, "%s", found->place);
    if (!buf_reserve(&i->secret, SECRETS_FILE_BYTES_MAX))
        return err_set(err, ERR_FULL, "out of memory");
    if (sas != NULL) {
        i->proof = AZURE_SAS;
        sas += *sas == '?';
        buf_put(&i->secret, sas, strlen(sas) + 1);
        return strpbrk(sas, " \t\"") == NULL ||
               err_set(err, ERR_INVALID, "AZURE_STORAGE_SAS_TOKEN from %s is no SAS token",
                       i->place);
    }
    i->proof = AZURE_KEY;
    return base64_parse(key, &i->secret) ||
           err_set(err, ERR_INVALID, "AZURE_STORAGE_KEY from %s is no account key: it is base64",
                   i->place);
}

bool azure_identity_make(const struct store_host *host, const char *account, const char *store,
                         const char *metadata, struct azure_identity **out, struct err *err)
{
    static const char *const names[] = {"AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_KEY",
                                        "AZURE_STORAGE_ACCOUNT", NULL};
    struct secrets found AUTO_SECRETS = {.text = BUF_NONE};
    struct azure_identity *i CLEANUP(azure_identity_release) = calloc(1, sizeof *i);

    if (i == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (!secrets_find(host, store, names, &found, err))
        return false;
    const char *whose = secrets_value(&found, "AZURE_STORAGE_ACCOUNT");
    bool any = secrets_value(&found, "AZURE_STORAGE_SAS_TOKEN") != NULL ||
               secrets_value(&found, "AZURE_STORAGE_KEY") != NULL;
    secrets_where(host, store, i->where);
    /* A credential of another account is not sent to this one. */
    bool ours = any && (whose == NULL || strcmp(whose, account) == 0);
    if (!(ours ? take_secret(i, &found, err) : use_instance(host, metadata, i, err)))
        return false;
    *out = TAKE(i);
    return true;
}

void azure_identity_release(struct azure_identity **identity)
{
    struct azure_identity *i = *identity;
    if (i == NULL)
        return;
    *identity = NULL;
    buf_wipe(&i->secret);
    instance_release(&i->instance);
    free(i);
}

enum azure_proof azure_identity_proof(const struct azure_identity *i)
{
    return i->proof;
}

const char *azure_identity_sas(const struct azure_identity *i)
{
    return (const char *)i->secret.data;
}

struct span azure_identity_key(const struct azure_identity *i)
{
    return buf_span(&i->secret);
}

bool azure_identity_token(struct azure_identity *i, struct buf *out, struct err *err)
{
    return instance_get(i->instance, out, err) ||
           err_wrap(err, "no credentials in %s, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY",
                    i->where);
}

void azure_identity_cancel(struct azure_identity *i, bool cancelled)
{
    if (i->instance != NULL)
        instance_cancel(i->instance, cancelled);
}

bool azure_identity_renew(struct azure_identity *i)
{
    if (i->instance == NULL)
        return false;
    instance_forget(i->instance);
    return true;
}

bool azure_identity_same(const struct azure_identity *a, const struct azure_identity *b)
{
    return a->proof == b->proof && span_equal(buf_span(&a->secret), buf_span(&b->secret)) &&
           strcmp(a->metadata, b->metadata) == 0 && strcmp(a->client_id, b->client_id) == 0;
}

const char *azure_identity_place(const struct azure_identity *i)
{
    return i->place;
}

const char *azure_identity_metadata(const struct azure_identity *i)
{
    return i->instance != NULL ? i->metadata : NULL;
}
