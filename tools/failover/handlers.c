/* SPDX-License-Identifier: MIT */
#include "tools/failover/handlers.h"

#include <string.h>

const struct handler *const handlers[] = {
    &handler_ping,
    &handler_fence,
    NULL,
};

const struct handler *handler_find(const char *verb)
{
    for (size_t i = 0; handlers[i] != NULL; i++)
        if (strcmp(handlers[i]->verb, verb) == 0)
            return handlers[i];
    return NULL;
}
