/* SPDX-License-Identifier: MIT
 * What the source knows of its own log between mounts: `ship.json` (head of the log, paused,
 * fenced) and, only after a clean stop, `clean.json` (what each local file looked like then). A
 * clean record is voided durably before the first write after it. One thread. */
#ifndef FS_DISK_SHIP_STATE_H
#define FS_DISK_SHIP_STATE_H

#include "backend/history/generation.h"
#include "common/digest.h"
#include "fs/disk/source.h"

struct ship_state {
    struct generation generation;
    bool begun;           /* false: entry 0 was not looked at yet */
    uint64_t epoch;       /* newest settled entry of ours */
    struct sha256 digest; /* of that entry as stored */
    uint64_t point_ms;    /* newest point; 0 = none yet */
    uint64_t point_epoch; /* its epoch; 0 = none yet */
    bool initial_done;    /* a point was made since replication (or a resync) began */
    bool pass_open;       /* a pass was shipped since the newest point */
    bool paused;
    bool compare_all; /* the digests are of another copy of the disks: mark everything first */
    char fenced[200]; /* why; empty = not fenced */
};

/* A missing file is a state that has not begun. ERR_CORRUPT, ERR_FENCED (another generation). */
bool ship_state_load(struct world *w, const char *folder, struct generation g,
                     struct ship_state *out, struct err *err) MUST_CHECK;
bool ship_state_save(struct world *w, const char *folder, const struct ship_state *state,
                     struct err *err) MUST_CHECK;

/* Removes what else a shipper left in the folder (journal, clean.json, held.json): it speaks of
 * another log. */
bool ship_state_forget(struct world *w, const char *folder, struct err *err) MUST_CHECK;

/* Records identity, size and times of every local file, with the log's head. The files are synced
 * and nobody writes any more. */
bool clean_record_make(struct world *w, const char *folder, const struct source *s,
                       const struct ship_state *state, struct err *err) MUST_CHECK;

enum clean_record {
    CLEAN_EQUAL,   /* stopped cleanly, and nothing was touched since */
    CLEAN_DIFFERS, /* stopped cleanly, then written behind our back: `why` says what differs */
    CLEAN_ABSENT,  /* not stopped cleanly, or never mounted */
};
bool clean_record_compare(struct world *w, const char *folder, const struct source *s,
                          const struct ship_state *state, enum clean_record *out, char why[200],
                          struct err *err) MUST_CHECK;
/* Removes the record durably: before the first write, and after the marks say what it said. */
bool clean_record_void(struct world *w, const char *folder, struct err *err) MUST_CHECK;

/* Which files the mount holds, for the one after a crash: an image that was put in the place of
 * another, as from a backup, has another inode. So have the marks when the state was put back from
 * a copy: they know of no write since then, and while the log has not moved on nothing else tells.
 * What is written over in place is for written.h; what is restored below the file system is not
 * seen. */
bool held_record_make(struct world *w, const char *folder, const struct source *s,
                      struct err *err) MUST_CHECK;
/* *replaced: some disk, or its marks, is another file than the last mount held; `why` names it. */
bool held_record_compare(struct world *w, const char *folder, const struct source *s,
                         bool *replaced, char why[200], struct err *err) MUST_CHECK;

#endif
