/* SPDX-License-Identifier: MIT
 * The contract's tests on the store whose URL is in the environment (tests/servers/with.sh). */
#include "tests/backend/store/contract.h"
#include "tests/support/check.h"
#include "tests/support/server_url.h"

#include <stdio.h>

static struct store *open_one(void *context)
{
    return server_store_open(context);
}

static struct store *open_source(void *context)
{
    char url[STORE_URL_MAX];
    assert_true(server_source_url(context, url));
    return server_store_open(url);
}

int main(void)
{
    char *urls[] = {getenv("FARSHORE_TEST_CACHE"), getenv("FARSHORE_TEST_TARGET")};
    int failures = 0;
    for (size_t i = 0; i < 2; i++) {
        struct contract c = {
            .open = open_one, .context = urls[i], .racers = 8, .large_bytes = 20u << 20};
        char source[STORE_URL_MAX];
        if (urls[i] == NULL) {
            puts("SKIP: run by tests/servers/with.sh SERVER");
            return 77;
        }
        if (server_source_url(urls[i], source))
            c.open_source = open_source;
        failures += contract_run(urls[i], &c);
    }
    return failures;
}
