/* SPDX-License-Identifier: MIT */
#include "tests/support/cloud_rig.h"

#include "tests/support/check.h"

#include <stdio.h>
#include <string.h>

static char *environment(const char *name)
{
    static const char *const values[][2] = {
        {"AWS_ACCESS_KEY_ID", "AKRIG"},
        {"AWS_SECRET_ACCESS_KEY", CLOUD_RIG_SECRET},
        {"AWS_EC2_METADATA_DISABLED", "true"},
        {"AZURE_STORAGE_KEY", CLOUD_RIG_SECRET "=="},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (strcmp(values[i][0], name) == 0)
            return (char *)values[i][1];
    return NULL;
}

void cloud_rig_init(struct cloud_rig *r, enum http_dialect dialect, unsigned page)
{
    memset(r, 0, sizeof *r);
    clock_world_init(&r->world);
    r->host = (struct store_host){.world = &r->world.head, .env = environment};
    r->dialect = dialect;
    r->server = http_store_start(
        &(struct http_store_config){.dialect = dialect, .page = page, .seed = 1, .record = true});
    assert_non_null(r->server);
    unsigned port = http_store_port(r->server);
    if (dialect == HTTP_S3)
        snprintf(r->url, sizeof r->url, "s3://bucket/some/prefix?endpoint=http://127.0.0.1:%u",
                 port);
    else
        snprintf(r->url, sizeof r->url,
                 "azure://account/bucket/some/prefix?endpoint=http://127.0.0.1:%u/account", port);
    snprintf(r->container, sizeof r->container, "bucket/some/prefix/");
}

void cloud_rig_release(struct cloud_rig *r)
{
    http_store_stop(&r->server);
}

struct store *cloud_rig_open(struct cloud_rig *r)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    check_ok(store_open(&r->host, r->url, true, &s, &err), err);
    return s;
}

struct store *cloud_rig_open_retry(struct cloud_rig *r, const struct retry_policy *policy)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    check_ok(store_retry(r->host.world, cloud_rig_open(r), policy, &s, &err), err);
    return s;
}

const char *cloud_rig_name(const struct cloud_rig *r, const char *key)
{
    static _Thread_local char names[4][STORE_KEY_MAX + 64];
    static _Thread_local unsigned next;
    char *name = names[next++ % 4];
    snprintf(name, sizeof names[0], "%s%s", r->container, key);
    return name;
}

void cloud_rig_next(struct cloud_rig *r, enum http_fault which, const char *method,
                    const char *path, uint32_t next)
{
    struct http_rule rule = {
        .method = method, .path = path, .next = next, .status = 503, .at = HTTP_ANYWHERE};
    http_store_fault(r->server, which, &rule);
}

void cloud_rig_often(struct cloud_rig *r, enum http_fault which, const char *method,
                     uint32_t per_mille)
{
    struct http_rule rule = {
        .method = method, .per_mille = per_mille, .status = 503, .at = HTTP_ANYWHERE};
    http_store_fault(r->server, which, &rule);
}
