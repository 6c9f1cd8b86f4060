/* SPDX-License-Identifier: MIT */
#include "tools/failover/handlers.h"

#include <string.h>

const struct handler *const handlers[] = {
    &handler_ping,
    &handler_fence,
    &handler_test_failover,
    &handler_cleanup,
    &handler_failover,
    &handler_change_point,
    &handler_commit,
    &handler_cancel,
    &handler_shutdown,
    &handler_resume_source,
    &handler_reprotect,
    &handler_seed,
    &handler_revert,
    &handler_validate,
    &handler_boot,
    &handler_undo,
    NULL,
};

const struct handler *handler_find(const char *verb)
{
    for (size_t i = 0; handlers[i] != NULL; i++)
        if (strcmp(handlers[i]->verb, verb) == 0)
            return handlers[i];
    return NULL;
}
