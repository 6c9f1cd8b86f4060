/* SPDX-License-Identifier: MIT
 * A cloud store's URL taken apart: SCHEME://AUTHORITY/PATH?NAME=VALUE&... Names of accounts and
 * buckets, a prefix within, and options; never a secret: user:password@ and `sig=` are refused with
 * words on where credentials belong. Plain values; any thread. */
#ifndef BACKEND_STORE_URL_H
#define BACKEND_STORE_URL_H

#include "backend/store/store.h"

#define URL_OPTIONS_MAX 12u

struct store_url {
    char authority[256];      /* account or bucket */
    char path[STORE_URL_MAX]; /* decoded, no slash at either end; may be empty */
    struct {
        char name[32];
        char value[512]; /* decoded */
    } options[URL_OPTIONS_MAX];
    size_t option_count;
};

/* `url` starts with `scheme` ("azure://"). ERR_INVALID names what is wrong with it. Only options
 * in `names` (NULL ends it) are taken, each once. */
bool store_url_parse(const char *url, const char *scheme, const char *const *names,
                     struct store_url *out, struct err *err) MUST_CHECK;
/* "SCHEME://HOST:PORT" of an http or https URL, with the port that is used when it names none. */
void url_origin(const char *url, char out[STORE_URL_MAX]);

/* NULL when it was not given. */
const char *store_url_option(const struct store_url *u, const char *name);

#endif
