/* SPDX-License-Identifier: MIT
 * A host for stores under test: no credentials folder, the environment as it is. */
#ifndef TESTS_SUPPORT_TEST_HOST_H
#define TESTS_SUPPORT_TEST_HOST_H

#include "backend/store/store.h"

#include <stdlib.h>

#define TEST_HOST(w) (&(struct store_host){.world = (w), .env = getenv})

#endif
