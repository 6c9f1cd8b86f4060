/* SPDX-License-Identifier: MIT
 * The part of a VM's settings that speaks of its machine and of a failover; for config.c alone. All
 * of it may be missing in the text. */
#ifndef TOOLS_CONFIG_MACHINE_H
#define TOOLS_CONFIG_MACHINE_H

#include "common/json.h"
#include "tools/config.h"

bool config_machine_make(struct settings *out, struct err *err) MUST_CHECK;
void config_machine_release(struct settings *s);
bool config_machine_parse(const cJSON *j, struct settings *out, struct err *err) MUST_CHECK;
bool config_machine_write(cJSON *j, const struct settings *s, struct err *err) MUST_CHECK;

#endif
