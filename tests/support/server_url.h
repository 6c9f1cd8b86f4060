/* SPDX-License-Identifier: MIT
 * The stores that tests/servers/with.sh names in the environment. */
#ifndef TESTS_SUPPORT_SERVER_URL_H
#define TESTS_SUPPORT_SERVER_URL_H

#include "backend/store/store.h"

/* Opens a store of the server, making its container; fails the test when it cannot. */
struct store *server_store_open(const char *url);

/* A store that the one at `url` can copy from: on S3 the other bucket; on Azure, where the two URLs
 * are of two accounts, another container of the same. False: this kind of server copies nothing. */
bool server_source_url(const char *url, char out[STORE_URL_MAX]);

#endif
