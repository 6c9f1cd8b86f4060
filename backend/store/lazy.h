/* SPDX-License-Identifier: MIT
 * A store that is opened when it is first used, and tried again when it could not be: a mount must
 * start, and serve its guest, while a store is out of reach. Until it is open every call fails with
 * ERR_TRANSIENT, whatever the reason was: a folder that is not mounted yet must not look like an
 * object that does not exist. Wrong credentials stay ERR_DENIED. */
#ifndef BACKEND_STORE_LAZY_H
#define BACKEND_STORE_LAZY_H

#include "backend/store/store.h"

/* Opens nothing yet; an URL that is too long is ERR_INVALID. */
bool store_lazy(const struct store_host *host, const char *url, struct store **out,
                struct err *err) MUST_CHECK;

#endif
