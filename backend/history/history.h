/* SPDX-License-Identifier: MIT
 * The history of a VM as read from its vault: every applied epoch in order, the recovery points
 * among them, and the runs that make each point. It follows the records forward and can be
 * refreshed while in use. Epochs are only ever added, so an index stays valid; one that was merged
 * into a later one is *gone*: it is no point any more, and nothing leads to it. A point that is
 * *leaving* is about to be merged: it is not listed, and nobody begins to use it.
 * Thread-safe: one refresh at a time, any readers. */
#ifndef BACKEND_HISTORY_HISTORY_H
#define BACKEND_HISTORY_HISTORY_H

#include "backend/history/numlog.h"
#include "backend/history/record.h"
#include "backend/history/vault.h"

/* Bounds of memory: an epoch takes 20 to 40 bytes, an object that was dropped 24 to 48 (about as
 * many), and an epoch that is not gone about 250 more. */
#define HISTORY_EPOCHS_MAX      (1u << 22)
#define HISTORY_HELD_MAX        (1u << 20)
#define HISTORY_GENERATIONS_MAX 4096u
#define HISTORY_NONE            SIZE_MAX

struct history;

/* What the newest record says that somebody found who read it. */
enum point_verdict { POINT_UNPROVEN, POINT_VERIFIED, POINT_DAMAGED };

struct history_point {
    uint64_t ms;       /* the id */
    uint64_t until_ms; /* later when heartbeats said that it still held; else as ms */
    struct generation generation;
    uint64_t epoch;
    enum point_kind kind;
    char label[POINT_LABEL_MAX + 1];
    uint64_t data_bytes; /* stored bytes of this epoch (and of the passes before it) */
    enum point_verdict verdict;
    bool leaving;
    size_t index; /* of its epoch: see history_epoch */
};

/* A run where it lies: in an object of the VM's own target store. */
struct run_place {
    struct generation generation;
    struct record_run run;
};

/* `target` is borrowed. Reads vault and records. ERR_NOT_FOUND: no such VM in this store. */
bool history_open(struct world *w, struct store *target, const char *vm, const struct keys *keys,
                  struct history **out, struct err *err) MUST_CHECK;
void history_close(struct history **h);
/* Reads records that were added since. ERR_CORRUPT when the log is shorter or other than it was. */
bool history_refresh(struct history *h, struct err *err) MUST_CHECK;
/* Appends a record of which only `kind` and what that kind says is given, as the one of number
 * `at`: NUMLOG_TAKEN also when that slot was seen taken before. What was appended is taken in. */
enum numlog_result history_append(struct history *h, uint64_t at, struct record *r,
                                  struct err *err) MUST_CHECK;
/* Appends the record that `p` was read and found right as a whole, or damaged; what is said already
 * is not said again. */
bool history_append_verdict(struct history *h, const struct history_point *p,
                            enum point_verdict verdict, struct err *err) MUST_CHECK;

/* `vm` is the VM that the caller means (NULL: whichever this is): another's vault, also an earlier
 * one of the same name under the same key, is ERR_CORRUPT. From here on the history is held against
 * what this host has seen of it (seen.h), by a file in `folder`: now, and what a refresh adds is
 * kept there. ERR_CORRUPT: it was rolled back. */
bool history_remember(struct history *h, const uint8_t *vm, const char *folder,
                      struct err *err) MUST_CHECK;

const struct vault *history_vault(const struct history *h);
struct world *history_world(const struct history *h);
/* Points of the line that leads to the head; what a generation left behind in its parent, a branch,
 * is not among them. */
size_t history_points(struct history *h);
/* i from 0, oldest first; ms is 0 when there is none (a new generation left points behind). */
struct history_point history_point(struct history *h, size_t i);
/* How many of them have an epoch index below `index`: where a walk that had come so far goes on,
 * though points went meanwhile. */
size_t history_points_below(struct history *h, size_t index);
/* The newest point with ms <= at_ms that is not known to be damaged, or the one of that very id. */
bool history_find(struct history *h, uint64_t at_ms, bool exact, struct history_point *out);
/* `P` as users write it (design 14): a point id, an RFC 3339 time, now-5m, latest,
 * latest-application, latest-verified; or GENERATION/ID, a point of that generation, also one that
 * lies on a branch. A point that is known to be damaged has to be named. ERR_NOT_FOUND, ERR_INVALID
 * say what would do. */
bool history_resolve(struct history *h, const char *text, struct history_point *out,
                     struct err *err) MUST_CHECK;
/* The same with `now` given. */
bool history_resolve_at(struct history *h, uint64_t now_ms, const char *text,
                        struct history_point *out, struct err *err) MUST_CHECK;

/* Points that a generation left behind: those that are not on the line of the head. A new array,
 * by generation (in the order of their records) and epoch; free() it. */
bool history_branches(struct history *h, struct history_point **out, size_t *count,
                      struct err *err) MUST_CHECK;
/* The i-th of them that this generation made, from 0; false past the last. */
bool history_branch_point(struct history *h, struct generation generation, size_t i,
                          struct history_point *out);
/* The point that this epoch made, wherever it lies, also one that is leaving. ERR_NOT_FOUND: not
 * applied, no point, or gone. */
bool history_point_at(struct history *h, struct generation generation, uint64_t epoch,
                      struct history_point *out, struct err *err) MUST_CHECK;
/* The point of exactly that id among those of one generation. */
bool history_find_in(struct history *h, struct generation generation, uint64_t ms,
                     struct history_point *out);
/* `GENERATION/ID`. */
#define POINT_NAME_MAX 64u
void history_point_name(const struct history_point *p, char out[POINT_NAME_MAX]);

/* Generations in the order of their records; the last one is the head's. */
size_t history_generations(struct history *h);
struct history_generation {
    struct generation generation;
    struct generation parent; /* id 0: none */
    uint64_t parent_epoch;    /* 0: where the parent itself begins */
    uint64_t epoch;           /* newest applied; 0 none yet */
};
struct history_generation history_generation(struct history *h, size_t i);

size_t history_epochs(struct history *h);
/* How many more it may have; nobody may append a record that has more than these. *kept: those that
 * retention keeps are what takes the room. */
size_t history_room(struct history *h, bool *kept);
/* Copies of epoch `index` and of the disks as they were then; zeros, and no disk, when it is gone.
 */
struct record_epoch history_epoch(struct history *h, size_t index, struct generation *generation);
size_t history_disks(struct history *h, size_t index, struct epoch_disk out[VM_DISKS_MAX]);
/* One more than the highest number that a disk of any epoch ever had. */
unsigned history_disk_numbers(struct history *h);
/* The epoch before `index`, which is not gone, on its line that is not gone either, through
 * parents; HISTORY_NONE at the beginning. */
size_t history_before(struct history *h, size_t index);
/* Index of an applied epoch, also of one that is gone; HISTORY_NONE when there is none such. */
size_t history_index(struct history *h, struct generation generation, uint64_t epoch);
bool history_gone(struct history *h, size_t index);
/* Whether the epoch was made of the cache entry with this digest. Of one that is gone only the
 * first 8 bytes of it are known. */
bool history_entry_is(struct history *h, size_t index, const struct sha256 *digest);
/* The runs that make the state at epoch `index`, the newest first: of two that speak of a block the
 * first is right. A new array; free() it. ERR_NOT_FOUND: it is gone. */
bool history_runs(struct history *h, size_t index, struct run_place **out, size_t *count,
                  struct err *err) MUST_CHECK;
/* Whether a record says that the objects of this name, in whichever store, are dropped: then
 * nothing new may refer to one. */
bool history_dropped(struct history *h, const struct sha256 *digest);

/* Where the log stands: the next record's number, the digest of the last, and the last applied
 * epoch with the digest of its cache entry (epoch 0: entry 0 of the generation, digest zero when
 * not yet known). */
struct history_head {
    uint64_t next_record;
    struct sha256 last_record;
    struct generation generation;
    uint64_t epoch;
    struct sha256 entry;
    uint64_t point_ms;  /* newest point, or the later heartbeat until which it holds; 0 = none */
    uint64_t newest_ms; /* newest point's id; 0 = none. The next one is later */
};
struct history_head history_head(struct history *h);
/* The same for the end of another generation's line; false: there is none such. */
bool history_line(struct history *h, struct generation generation, struct history_head *out);
/* Index of the epoch that the next one of the head's line follows, perhaps one of an older
 * generation; HISTORY_NONE at the beginning. */
size_t history_tip(struct history *h);

/* A segment's name in a run of the target: which of the VM's stores, and the key below the VM:
 * `0:segments/HEX`. A run that lies behind its frames in one object cannot name that object by its
 * digest: it says RUN_SEGMENT_SELF. */
#define RUN_SEGMENT_SELF "self"
void segment_name_format(char out[RUN_SEGMENT_NAME_MAX], uint16_t store, const char *key);
bool segment_name_parse(const char *name, uint16_t *store, char key[RUN_SEGMENT_NAME_MAX]);

#endif
