/* SPDX-License-Identifier: MIT
 * What `farshore set VM target.KEY=VALUE` may say: how the VM looks at its target. Known keys only,
 * each value checked when it is set and again when it is read. A key that is not set has the
 * default that comes of the source. Plain values; one thread. */
#ifndef TOOLS_FAILOVER_TARGET_SETTINGS_H
#define TOOLS_FAILOVER_TARGET_SETTINGS_H

#include "common/json.h"

#define TARGET_SETTINGS_MAX 96u
#define TARGET_KEY_MAX      32u   /* with the NUL */
#define TARGET_VALUE_MAX    1024u /* with the NUL */
#define TARGET_PREFIX       "target."

/* Keys (for people without libvirt those that speak of networks say nothing):
 *   hosts             host names, comma between: who may take the VM over, first choice first
 *   resource-group    name that folder, domain metadata and units of the VM carry
 *   availability-set  name; VMs that share it are kept on different hosts
 *   name              of the domain at the target
 *   network, subnet   libvirt network, and subnet in it; for every NIC, or with .N for NIC N
 *   address           of NIC 0, or with .N of NIC N
 *   test-network      the isolated network of drills
 *   folder            where the disks' local files go: absolute path
 *   mount             where its disks are mounted: absolute path
 *   back-cache, back-target   stores of the way back: store URLs
 *   memory-check, cpu-check   on, off: whether the validator looks for room */

struct target_settings {
    uint16_t count;
    struct {
        char key[TARGET_KEY_MAX];
        char value[TARGET_VALUE_MAX];
    } rows[TARGET_SETTINGS_MAX]; /* in byte order of keys */
};

/* ERR_INVALID names the nearest key, or what is wrong with the value. */
bool target_setting_check(const char *key, const char *value, struct err *err) MUST_CHECK;
/* `key` without "target.". An empty value unsets it. */
bool target_setting_set(struct target_settings *s, const char *key, const char *value,
                        struct err *err) MUST_CHECK;
/* NULL: not set. */
const char *target_setting(const struct target_settings *s, const char *key);
/* KEY.N, else KEY where it speaks of every NIC (network, subnet) or N is 0 (address); else NULL. */
const char *target_setting_nic(const struct target_settings *s, const char *key, unsigned nic);
/* on unless it is set off */
bool target_setting_on(const struct target_settings *s, const char *key);
/* Name `index` of the setting `hosts`; false when there are not so many. */
bool target_setting_host(const struct target_settings *s, size_t index, char *out, size_t size);

/* An object of texts, both ways. */
bool target_settings_read(const cJSON *object, struct target_settings *out,
                          struct err *err) MUST_CHECK;
bool target_settings_add(cJSON *parent, const char *name, const struct target_settings *s,
                         struct err *err) MUST_CHECK;

#endif
