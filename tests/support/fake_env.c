/* SPDX-License-Identifier: MIT */
#include "tests/support/fake_env.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLES_MAX 8u

static struct {
    const char *name, *value;
} variables[VARIABLES_MAX];

void fake_env_clear(void)
{
    memset(variables, 0, sizeof variables);
}

void fake_env_set(const char *name, const char *value)
{
    for (size_t i = 0; i < VARIABLES_MAX; i++)
        if (variables[i].name == NULL || strcmp(variables[i].name, name) == 0) {
            variables[i].name = name;
            variables[i].value = value;
            return;
        }
    abort();
}

char *fake_env(const char *name)
{
    for (size_t i = 0; i < VARIABLES_MAX && variables[i].name != NULL; i++)
        if (strcmp(variables[i].name, name) == 0)
            return (char *)(uintptr_t)variables[i].value;
    return NULL;
}
