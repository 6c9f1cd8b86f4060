/* SPDX-License-Identifier: MIT
 * enable --seed: the part of enable that begins a history with a copy of the disks
 * (fs/disk/seed.h). With --disk or --domain it runs on the source, which must reach the copy as a
 * file. Without, it runs near the target, where the copy is, and the source's own enable finds the
 * seed there: same name and stores, and the same key. */
#ifndef TOOLS_ENABLE_SEED_H
#define TOOLS_ENABLE_SEED_H

#include "tools/vm.h"

/* Whether enable runs where the disks are (--disk or --domain), not near a seed at the target. */
bool seed_at_source(const struct options *o);
/* --seed NAME=FILE of disk `d`, NULL when it has none. */
const char *seed_path(const struct options *o, const struct settings_disk *d);
/* Every --seed names a disk, and its file can be read. */
bool seed_check(const struct options *o, const struct settings *s, struct err *err) MUST_CHECK;

/* A vault of this name is there. When it holds a seed alone, made with this key for these disks and
 * stores, takes its identity into the settings; else ERR_EXISTS, or what differs. */
bool seed_claim(struct vm *vm, const struct keys *keys, struct err *err) MUST_CHECK;
/* After the vault was begun: writes what --seed names, and, on a source, learns what the vault
 * holds of a seed, by whoever made it. */
bool seed_apply(struct vm *vm, struct err *err) MUST_CHECK;
/* Removes what seeds of this VM have left on this host: once the settings say that it is enabled,
 * and when it is disabled. */
bool seed_tidy(const struct verb_call *call, const char *vm, struct err *err) MUST_CHECK;

#endif
