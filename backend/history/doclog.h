/* SPDX-License-Identifier: MIT
 * Documents that hosts agree on through the vault: a numbered log (numlog.h) in the target store,
 * `VM/NAME/0000000000000012`, with many writers. Each entry is one whole document, sealed with the
 * history key; it names its VM, log and number and carries the digest of the entry before. The
 * newest entry is the truth, and appending is compare-and-set: who finds the slot taken reads on
 * and decides again. Old entries may be tidied away. Before entry 0 goes, `VM/NAME/tidied` is put,
 * so that "the log is empty" and "entry 0 is the newest" rest on point reads, whatever a list
 * shows. docs/FORMAT.md has the bytes. A `struct doclog` is used where it was begun (it points into
 * itself), by one thread at a time. */
#ifndef BACKEND_HISTORY_DOCLOG_H
#define BACKEND_HISTORY_DOCLOG_H

#include "backend/history/generation.h"
#include "backend/history/keys.h"
#include "backend/history/numlog.h"
#include "backend/history/seen.h"

#define DOCLOG_NAME_CHARS_MAX 64u
#define DOCLOG_BYTES_MAX      (1u << 20) /* of an entry as stored */
#define DOCLOG_DOCUMENT_MAX   (4u << 20) /* of a document; they are stored compressed */
#define DOCLOG_KEEP           8u         /* newest entries that a tidied log keeps */
#define DOCLOG_NONE           UINT64_MAX

/* Whose log. What it points to is borrowed. */
struct doclog_vault {
    struct world *world;
    struct store *target; /* the VM's own, index 0 */
    const struct keys *keys;
    const char *vm;    /* its name */
    const uint8_t *id; /* VM_ID_BYTES */
    /* Where this host remembers what it has seen of the VM's logs (seen.h), but for those of jobs,
     * which come and go; "": nowhere. */
    char state[SEEN_PATH_MAX];
};

struct doclog {
    const struct doclog_vault *vault;
    char name[DOCLOG_NAME_CHARS_MAX + 1]; /* "failover", "jobs/ID" */
    /* --- its own --- */
    struct numlog log;
    uint64_t newest; /* the newest entry known; DOCLOG_NONE: none */
    struct sha256 digest;
};

/* `name` is a part of a key. Asks nothing of the store. */
void doclog_begin(struct doclog *l, const struct doclog_vault *vault, const char *name);

/* The newest document replaces what `out` held; l->newest is its number. ERR_NOT_FOUND: the log is
 * empty (l->newest is DOCLOG_NONE). ERR_CORRUPT also when it is shorter than it was, or than this
 * host has seen it. */
bool doclog_newest(struct doclog *l, struct buf *out, struct err *err) MUST_CHECK;
/* Looks behind the newest that is known: two small reads when there is nothing, and then `out` is
 * as it was. As doclog_newest when none is known. */
bool doclog_poll(struct doclog *l, struct buf *out, bool *changed, struct err *err) MUST_CHECK;
/* One document. ERR_NOT_FOUND: not there, or tidied away. Changes nothing that is known. */
bool doclog_read(struct doclog *l, uint64_t number, struct buf *out, struct err *err) MUST_CHECK;

/* Puts the document behind the newest that is known (or as entry 0). ERR_EXISTS: another writer was
 * first; read the newest and decide again. ERR_TRANSIENT: in doubt, it may be there or still come;
 * the next doclog_newest that finds it or another in its place knows. */
bool doclog_append(struct doclog *l, struct span document, struct err *err) MUST_CHECK;

/* Removes all but the newest DOCLOG_KEEP. */
bool doclog_tidy(struct doclog *l, struct err *err) MUST_CHECK;
/* Removes the whole log, for one that nobody will append to any more. */
bool doclog_remove(struct doclog *l, struct err *err) MUST_CHECK;
/* Whether that was begun: what it left is to be removed, and perhaps not to be read. */
bool doclog_removing(const struct doclog *l, bool *out, struct err *err) MUST_CHECK;

/* --- the bytes, for tests --- */

bool doclog_encode(const struct doclog_vault *vault, const char *name, uint64_t number,
                   const struct sha256 *previous, uint64_t written_ms, struct span document,
                   const struct seal_salt *salt, struct buf *out, struct err *err) MUST_CHECK;
/* Replaces what `document` held. ERR_CORRUPT also when it is another VM's, log's or number's. */
bool doclog_decode(const struct doclog_vault *vault, const char *name, uint64_t number,
                   struct span stored, struct sha256 *previous, struct buf *document,
                   struct err *err) MUST_CHECK;

#endif
