/* SPDX-License-Identifier: MIT
 * The contract's tests on the store whose URL is in the environment (tests/servers/with.sh). */
#include "tests/backend/store/contract.h"
#include "tests/support/check.h"
#include "tests/support/test_host.h"

#include <stdio.h>

static struct store *open_one(void *context)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {
        .world = world_real(), .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv};
    check_ok(store_open(&host, context, true, &s, &err), err);
    return s;
}

/* What is copied from: on S3 the other bucket; on Azure, where the two URLs are of two accounts,
 * another container of the same. */
static struct store *open_source(void *context)
{
    const char *url = context, *cache = getenv("FARSHORE_TEST_CACHE");
    char other[STORE_URL_MAX];
    int account;
    if (sscanf(url, "azure://%*[^/]/%n", &account) == 0 && strncmp(url, "azure", 5) == 0)
        snprintf(other, sizeof other, "%.*sfrom-%s", account, url, url + account);
    else
        snprintf(other, sizeof other, "%s",
                 strcmp(url, cache) == 0 ? getenv("FARSHORE_TEST_TARGET") : cache);
    return open_one(other);
}

int main(void)
{
    char *urls[] = {getenv("FARSHORE_TEST_CACHE"), getenv("FARSHORE_TEST_TARGET")};
    int failures = 0;
    for (size_t i = 0; i < 2; i++) {
        struct contract c = {
            .open = open_one, .context = urls[i], .racers = 8, .large_bytes = 20u << 20};
        const char *server = getenv("FARSHORE_TEST_SERVER");
        if (server != NULL && strcmp(server, "file") != 0)
            c.open_source = open_source;
        if (urls[i] == NULL) {
            puts("SKIP: run by tests/servers/with.sh SERVER");
            return 77;
        }
        failures += contract_run(urls[i], &c);
    }
    return failures;
}
