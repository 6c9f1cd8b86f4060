/* SPDX-License-Identifier: MIT
 * The endpoint that a machine asks who it is: Azure's tokens of a managed identity, AWS's IMDSv2.
 */
#include "tests/support/http_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AZURE_PATH "/metadata/identity/oauth2/token"
#define AWS_TOKEN  "/latest/api/token"
#define AWS_ROLES  "/latest/meta-data/iam/security-credentials/"
#define AWS_ROLE   "farshore-role"
#define SESSION    "imds-session"
#define TOKEN      "secret-token-"

bool http_token_holds_locked(const struct http_store *s, const char *token)
{
    if (strncmp(token, TOKEN, strlen(TOKEN)) != 0)
        return true; /* none of ours: what it may do is not our business */
    unsigned long number = strtoul(token + strlen(TOKEN), NULL, 10);
    return number > s->tokens_revoked && number <= s->tokens;
}

static void refuse(struct exchange *x, unsigned status)
{
    x->status = status;
    answer_add(x, "{\"error\":\"no\"}");
}

/* {"expires_in":"3599"}: numbers are texts there. */
static void azure_locked(struct exchange *x)
{
    const char *mark = exchange_header(x, "Metadata");
    if (mark == NULL || strcmp(mark, "true") != 0 || exchange_parameter(x, "resource") == NULL)
        return refuse(x, 400);
    x->status = 200;
    if (x->store->token_text != NULL) {
        answer_add(x, "{\"access_token\":\"%s\",\"expires_in\":\"%u\"}", x->store->token_text,
                   x->store->token_lifetime_s);
        return;
    }
    answer_add(x,
               "{\"access_token\":\"" TOKEN "%u\",\"expires_in\":\"%u\",\"token_type\":\"Bearer\"}",
               ++x->store->tokens, x->store->token_lifetime_s);
}

static void credentials_locked(struct exchange *x)
{
    char until[32];
    time_t end = time(NULL) + x->store->skew_s + x->store->token_lifetime_s;
    struct tm utc;
    gmtime_r(&end, &utc);
    strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &utc);
    x->status = 200;
    unsigned number = ++x->store->tokens;
    answer_add(x,
               "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIA%u\","
               "\"SecretAccessKey\":\"secret-key-%u\",\"Token\":\"" TOKEN "%u\","
               "\"Expiration\":\"%s\"}",
               number, number, number, until);
}

static void aws_locked(struct exchange *x)
{
    const char *session = exchange_header(x, "X-aws-ec2-metadata-token");
    if (strcmp(x->path, AWS_TOKEN) == 0) {
        bool right = exchange_is(x, "PUT") &&
                     exchange_header(x, "X-aws-ec2-metadata-token-ttl-seconds") != NULL;
        if (!right)
            return refuse(x, 400);
        x->status = 200;
        answer_add(x, "%s", x->store->token_text != NULL ? x->store->token_text : SESSION);
    } else if (session == NULL || strcmp(session, SESSION) != 0) {
        refuse(x, 401);
    } else if (strcmp(x->path, AWS_ROLES) == 0) {
        x->status = 200;
        answer_add(x, AWS_ROLE);
    } else if (strcmp(x->path, AWS_ROLES AWS_ROLE) == 0) {
        credentials_locked(x);
    } else {
        refuse(x, 404);
    }
}

bool metadata_answer(struct exchange *x)
{
    LOCK_SCOPE(&x->store->lock);
    if (strcmp(x->path, AZURE_PATH) == 0)
        azure_locked(x);
    else if (strcmp(x->path, AWS_TOKEN) == 0 || strncmp(x->path, AWS_ROLES, strlen(AWS_ROLES)) == 0)
        aws_locked(x);
    else
        return false;
    return true;
}

void http_store_token_text(struct http_store *s, const char *text)
{
    LOCK_SCOPE(&s->lock);
    s->token_text = text;
}

void http_store_token_lifetime(struct http_store *s, uint32_t seconds)
{
    LOCK_SCOPE(&s->lock);
    s->token_lifetime_s = seconds;
}

unsigned http_store_tokens(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return s->tokens;
}

void http_store_revoke_tokens(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    s->tokens_revoked = s->tokens;
}
