/* SPDX-License-Identifier: MIT
 * Numbered logs, the one mechanism for epochs and history records: entry n is made by
 * create-if-absent and carries the digest of entry n - 1. Entries are removed in order and never
 * the newest two. Because a removed slot is a free slot, an entry n put, settled or read counts
 * only if n - 1 is *afterwards* still there with the digest that n carries, and "n + 1 is absent"
 * means head only if n is *afterwards* still there (design 7). Point reads decide; a list is only
 * a hint of where to start.
 * The look back at entry n - 1 reads its first bytes alone when this log has seen it whole before:
 * a writer would else fetch what it has just sent.
 * A `struct numlog` is a plain value with borrowed members; one thread at a time. */
#ifndef BACKEND_HISTORY_NUMLOG_H
#define BACKEND_HISTORY_NUMLOG_H

#include "backend/store/store.h"
#include "common/digest.h"

/* How an entry begins: format, number and a salt that no other entry has. Objects do not change, so
 * these bytes tell whether the entry in a slot is still the one that was seen there. */
#define NUMLOG_HEAD_BYTES 64u

struct numlog {
    struct store *store;
    size_t bytes_max; /* of one entry */
    /* The key of entry n; out holds 256. */
    void (*key)(void *context, uint64_t n, char *out);
    void *context;
    /* --- the log's own: the newest entry that was put or read whole --- */
    struct {
        struct sha256 digest;
        size_t length; /* 0: none */
        uint8_t head[NUMLOG_HEAD_BYTES];
    } known;
};

/* All but DONE and ABSENT say why in `err`: TAKEN is ERR_EXISTS, OVERTAKEN is ERR_FENCED. */
enum numlog_result {
    NUMLOG_DONE,      /* put: it is ours and counts. read: `out` is entry n and it counts */
    NUMLOG_TAKEN,     /* put: another entry has slot n; `out` holds it */
    NUMLOG_ABSENT,    /* read: nothing in slot n, and n - 1 is still there: n - 1 is the head */
    NUMLOG_OVERTAKEN, /* n - 1 is gone or differs: the writer is fenced, a reader starts again */
    NUMLOG_DOUBT,     /* the store did not answer: settle before anything else */
    NUMLOG_FAILED,    /* refused; nothing was put */
};

/* Puts entry n (n > 0), whose bytes carry `previous`, the digest of entry n - 1. When the store
 * says EXISTS or nothing, the slot is read back: our own bytes there are success. Nothing there is
 * DOUBT, as the put may still arrive; putting the same bytes again is always right. An entry whose
 * put ends OVERTAKEN may stay behind as a stray that counts for nobody. `out` may be NULL. Entry 0
 * is put without a look at what comes before (`previous` NULL). */
enum numlog_result numlog_put(struct numlog *log, uint64_t n, struct span body,
                              const struct sha256 *previous, struct buf *out,
                              struct err *err) MUST_CHECK;

/* Reads entry n. `expected` is the digest of entry n - 1 that we know; NULL reads without the
 * look back (entry 0, or when the caller checks itself), and then ABSENT says no more than that
 * the slot is empty. Whether entry n carries `expected` is for the caller, who can decode it. */
enum numlog_result numlog_read(struct numlog *log, uint64_t n, const struct sha256 *expected,
                               struct buf *out, struct err *err) MUST_CHECK;

/* A number at or below the head to start reading from: the smallest that a list shows, else
 * `hint`; `last` is the largest, a hint as well. `prefix` is the list's prefix and ends in '/';
 * entries' names are 16 decimal digits behind it. */
bool numlog_start(const struct numlog *log, const char *prefix, uint64_t hint, uint64_t *first,
                  uint64_t *last, struct err *err) MUST_CHECK;

#endif
