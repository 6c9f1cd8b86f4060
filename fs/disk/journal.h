/* SPDX-License-Identifier: MIT
 * The journal of attempts for the pending slot of the log. Before an end object is put, its digest
 * and the block digests that it would make true are recorded here and synced: so whoever comes
 * later can tell our own entry from a foreign one, and learn what the replica then holds. Every
 * attempt for a slot is kept until the slot is seen taken (an answer may come very late). One
 * thread. */
#ifndef FS_DISK_JOURNAL_H
#define FS_DISK_JOURNAL_H

#include "backend/history/epoch.h"
#include "fs/disk/cut.h"

#define JOURNAL_ATTEMPTS_MAX 4096u /* at least a day of tries */
#define JOURNAL_BYTES_MAX    (256u << 20)

/* What an epoch changes in the digest files, as it is collected: a byte string of its own. */
void changes_add_digests(struct buf *changes, uint16_t disk, uint64_t first, uint64_t count,
                         const struct block_digest *digests);
void changes_add_hole(struct buf *changes, uint16_t disk, uint64_t first, uint64_t count);

enum changes_use {
    CHANGES_APPLY, /* the entry is settled: this is what the replica holds */
    CHANGES_VOID,  /* in doubt: the blocks are unknown, whatever they held */
};
/* Writes the digest files and syncs them. */
bool changes_use(struct span changes, enum changes_use use, struct source *s,
                 struct err *err) MUST_CHECK;

struct journal_attempt {
    uint64_t attempt;
    struct sha256 digest; /* of the end object */
    enum epoch_kind kind;
    uint64_t point_ms;
    struct span changes; /* borrowed from the journal */
};

struct journal;

/* Loads what an earlier worker left. ERR_CORRUPT: damaged, or of another generation. */
bool journal_open(struct world *w, const char *path, struct generation g, struct journal **out,
                  struct err *err) MUST_CHECK;
void journal_close(struct journal **j);

uint64_t journal_slot(const struct journal *j); /* 0: nothing pending */
size_t journal_attempts(const struct journal *j);
const struct journal_attempt *journal_attempt(const struct journal *j, size_t i);

/* Durable when it returns true. `slot` is the pending one when there is one (asserted). At the
 * bound the oldest attempt goes: should its put still arrive, we are fenced, and nothing is lost.
 */
bool journal_add(struct journal *j, uint64_t slot, const struct journal_attempt *attempt,
                 struct err *err) MUST_CHECK;
/* The store has said for certain that the newest attempt was not put and never will be. What the
 * file says of it does no harm. */
void journal_refused(struct journal *j);
/* The changes of all attempts were voided in the digest files: of each only the digest is kept, and
 * should it be in the slot after all, its blocks stay unknown. */
void journal_voided(struct journal *j);
/* The slot is settled and the digest files are synced. */
bool journal_clear(struct journal *j, struct err *err) MUST_CHECK;

#endif
