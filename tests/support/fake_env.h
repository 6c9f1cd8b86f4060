/* SPDX-License-Identifier: MIT
 * An environment that a test fills, for a host's `env`. One for the program: tests clear it first.
 */
#ifndef TESTS_SUPPORT_FAKE_ENV_H
#define TESTS_SUPPORT_FAKE_ENV_H

void fake_env_clear(void);
/* Both texts outlive their use. */
void fake_env_set(const char *name, const char *value);
char *fake_env(const char *name); /* as getenv */

#endif
