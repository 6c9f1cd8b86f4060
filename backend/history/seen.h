/* SPDX-License-Identifier: MIT
 * What this host has seen of a numbered log: its newest entry, in a small file of the VM's state
 * folder, so that a store that is rolled back below that is refused after a restart as well. One
 * file for each log of each store: FOLDER/seen-LOG-HEX, a line of number and digest
 * (docs/FORMAT.md, 15). Processes of
 * one host share it; it only ever rises. A plain value; one thread. */
#ifndef BACKEND_HISTORY_SEEN_H
#define BACKEND_HISTORY_SEEN_H

#include "backend/history/keys.h"
#include "backend/history/numlog.h"
#include "common/world.h"

#define SEEN_PATH_MAX 1280u

struct seen {
    struct world *world; /* NULL: nothing is remembered, and every call does nothing */
    char folder[SEEN_PATH_MAX];
    char path[SEEN_PATH_MAX];
    bool told;  /* that it could not be kept */
    bool known; /* false: this host sees the log for the first time */
    uint64_t number;
    struct sha256 digest;
};

/* Loads what was seen. To be called before the log is read: else what another process of this host
 * saw meanwhile looks like a rollback. `log` is a word, `url` the store's. An empty or NULL folder:
 * nothing is remembered. ERR_CORRUPT: the file is damaged. */
bool seen_begin(struct seen *s, struct world *w, const char *folder, const char *log,
                const char *url, const uint8_t vm[VM_ID_BYTES], struct err *err) MUST_CHECK;
/* The log was read: it has `count` entries, the newest with this digest (none when count is 0).
 * ERR_CORRUPT when it is shorter than it was seen, or when the entry that was the newest then is
 * another one now. One that was tidied away since is no contradiction. */
bool seen_check(const struct seen *s, const struct numlog *log, uint64_t count,
                const struct sha256 *digest, struct err *err) MUST_CHECK;
/* From now on at least that is known. A failure is logged, once: it costs the memory, not the work.
 */
void seen_keep(struct seen *s, uint64_t count, const struct sha256 *digest);
/* The log was begun anew, knowingly. */
bool seen_forget(struct seen *s, struct err *err) MUST_CHECK;

#endif
