/* SPDX-License-Identifier: MIT
 * Parts on their way to a cache store, several at once. Memory is bounded by the number in flight:
 * uploads_add waits for a free place. With no threads (a simulator's machine) a part is put within
 * uploads_add. Trying again is the store's work (backend/store/retry.h); the first failure is the
 * batch's result. One thread. */
#ifndef FS_DISK_UPLOADS_H
#define FS_DISK_UPLOADS_H

#include "backend/store/store.h"

#define UPLOADS_MAX 32u

struct uploads;

/* `threads` 0: inline; else at most UPLOADS_MAX. */
bool uploads_make(struct world *w, unsigned threads, struct uploads **out,
                  struct err *err) MUST_CHECK;
void uploads_release(struct uploads **u); /* waits for what is in flight */

/* Takes over `body`, whose digest it is told, and which stands for so many bytes of the disks.
 * After a failure in this batch parts are dropped; uploads_wait tells. */
void uploads_add(struct uploads *u, struct store *s, const char *key, struct buf *body,
                 const struct sha256 *digest, uint64_t plain_bytes);
/* Waits for all parts of the batch and starts a new one; false: the first failure. */
bool uploads_wait(struct uploads *u, struct err *err) MUST_CHECK;

/* Whether a part of this batch has failed already, and why: others of it may wait for their turn
 * for long. Any thread. */
bool uploads_failed(struct uploads *u, struct err *why);

/* What is in the store by now: bytes of the disks, and what they were stored as. Only ever rises.
 */
struct uploads_done {
    uint64_t plain_bytes, stored_bytes;
};
void uploads_count(struct uploads *u, struct uploads_done more); /* what went up by other ways */
struct uploads_done uploads_done(const struct uploads *u);       /* any thread */

#endif
