/* SPDX-License-Identifier: MIT
 * A faulty HTTP store and what opens it: a URL with its endpoint, a host whose environment has
 * credentials for it, clocks that a test sets. Aborts (a failed check) where nothing should fail.
 */
#ifndef TESTS_SUPPORT_CLOUD_RIG_H
#define TESTS_SUPPORT_CLOUD_RIG_H

#include "backend/store/retry.h"
#include "tests/support/clock_world.h"
#include "tests/support/http_store.h"

/* In every credential of the rig's host; no error text may hold it. */
#define CLOUD_RIG_SECRET "Secret/that/nobody/may/see"

struct cloud_rig {
    struct clock_world world;
    struct store_host host;
    enum http_dialect dialect;
    struct http_store *server;
    char url[STORE_URL_MAX];
    char container[64]; /* "CONTAINER/PREFIX/", what an object's name in the server begins with */
};

void cloud_rig_init(struct cloud_rig *r, enum http_dialect dialect, unsigned page);
void cloud_rig_release(struct cloud_rig *r);

/* Stores of their own on the same objects; the container is made. */
struct store *cloud_rig_open(struct cloud_rig *r); /* nothing is tried again */
struct store *cloud_rig_open_retry(struct cloud_rig *r, const struct retry_policy *policy);
/* The name of an object in the server; valid until the thread's fourth call from here. */
const char *cloud_rig_name(const struct cloud_rig *r, const char *key);

/* The fault for so many requests, or so many of a thousand of them; `method` and `path` NULL: all.
 */
void cloud_rig_next(struct cloud_rig *r, enum http_fault which, const char *method,
                    const char *path, uint32_t next);
void cloud_rig_often(struct cloud_rig *r, enum http_fault which, const char *method,
                     uint32_t per_mille);

#endif
