/* SPDX-License-Identifier: MIT
 * Who this host is: CONFIG/host.json, strict JSON. Jobs in the vault are addressed to its name, and
 * protection documents name it. One thread. */
#ifndef TOOLS_HOST_CONFIG_H
#define TOOLS_HOST_CONFIG_H

#include "tools/config.h"

#define HOST_NAME_CHARS_MAX 63u
#define LIBVIRT_URI_MAX     256u
#define LIBVIRT_URI_DEFAULT "qemu:///system"

struct host_config {
    char name[HOST_NAME_CHARS_MAX + 1];
    char libvirt[LIBVIRT_URI_MAX];
};

/* [a-z0-9][a-z0-9._-]{0,62} */
bool host_name_valid(const char *name);

/* The text is the world: everything in it is checked. */
bool host_config_parse(struct span text, struct host_config *out, struct err *err) MUST_CHECK;
/* Without the file: the host's short name in lower case, and LIBVIRT_URI_DEFAULT. ERR_INVALID: the
 * file is wrong, or the host's name is none that farshore takes, and `farshore host NAME` gives it
 * one. */
bool host_config_load(struct world *w, const struct paths *p, struct host_config *out,
                      struct err *err) MUST_CHECK;
bool host_config_save(struct world *w, const struct paths *p, const struct host_config *c,
                      struct err *err) MUST_CHECK;

#endif
