/* SPDX-License-Identifier: MIT */
#include "tests/support/server_url.h"

#include "tests/support/check.h"

#include <stdio.h>

struct store *server_store_open(const char *url)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {
        .world = world_real(), .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv};
    check_ok(store_open(&host, url, true, &s, &err), err);
    return s;
}

bool server_source_url(const char *url, char out[STORE_URL_MAX])
{
    const char *cache = getenv("FARSHORE_TEST_CACHE"), *target = getenv("FARSHORE_TEST_TARGET");
    if (strncmp(url, "azure://", strlen("azure://")) == 0) {
        const char *container = strchr(url + strlen("azure://"), '/') + 1;
        snprintf(out, STORE_URL_MAX, "%.*sfrom-%s", (int)(container - url), url, container);
        return true;
    }
    snprintf(out, STORE_URL_MAX, "%s", strcmp(url, cache) == 0 ? target : cache);
    return strncmp(url, "s3://", strlen("s3://")) == 0;
}
