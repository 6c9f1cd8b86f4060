/* SPDX-License-Identifier: MIT
 * A store as the rest of farshore uses it: opened, proved fit for its role, tried again when it
 * fails, within a bound of bytes per second. From the outside in: lazy, retry, throttle, the store.
 *
 * `lazily`: it is opened when it is first used, and tried again when it could not be: a mount must
 * start, and serve its guest, while a store is out of reach. Until it is open every call fails with
 * ERR_TRANSIENT, whatever the reason was: a folder that is not mounted yet must not look like an
 * object that does not exist. Wrong credentials stay ERR_DENIED. */
#ifndef BACKEND_STORE_ATTACH_H
#define BACKEND_STORE_ATTACH_H

#include "backend/store/check.h"
#include "backend/store/retry.h"
#include "backend/store/throttle.h"

struct attach_config {
    struct store_host host;
    const char *url;
    bool create; /* the folder or container */
    bool lazily;
    bool check; /* prove it fit for `role` under `prefix` ("VM/") */
    enum store_role role;
    const char *prefix;          /* copied */
    uint32_t deadline_ms;        /* of one call with all its tries; 0: as RETRY_POLICY_DEFAULT */
    struct bandwidth *bandwidth; /* NULL: no bound */
};

bool store_attach(const struct attach_config *config, struct store **out,
                  struct err *err) MUST_CHECK;

#endif
