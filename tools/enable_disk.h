/* SPDX-License-Identifier: MIT
 * The disks that enable is given: NAME=PATH[,cache=URL][,target=URL], checked without changing
 * anything. */
#ifndef TOOLS_ENABLE_DISK_H
#define TOOLS_ENABLE_DISK_H

#include "tools/verb.h"

/* Cuts ",cache=URL" and ",target=URL" off the end of `text`; what is not there stays as it was. */
void enable_disk_stores(char *text, const char **cache, const char **target);
/* A raw file or block device; sets its size. */
bool enable_disk_check(struct settings_disk *d, struct err *err) MUST_CHECK;
/* One as given into the next disk of `s`. */
bool enable_disk_add(struct settings *s, const char *given, struct err *err) MUST_CHECK;
/* No disk may belong to another VM of this host. */
bool enable_disk_others(const struct verb_call *call, const struct settings *s,
                        struct err *err) MUST_CHECK;

#endif
