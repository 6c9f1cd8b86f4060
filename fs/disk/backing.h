/* SPDX-License-Identifier: MIT
 * The bytes of one disk of a source: a local file, whole, or *partly present* over an origin. Each
 * block is present, and then read from the file, or is read from the origin; a block becomes
 * present as a whole, by being written, zeroed or hydrated, and stays so. Without an origin every
 * call is the file's own.
 *
 * Present is: below the *watermark* (hydration has been there), or a bit is set. Bits and watermark
 * lie in memory that outlives a worker, set before a write is answered; the presence record beside
 * the file (fs/view/presence_record.h) holds the bits that were durable at the last sync:
 *   data, sync, presence record, sync, then the reply to fsync.
 * The other order would serve holes for data after a power cut. The watermark is not recorded: what
 * hydration jumped over is a hole of the origin, and what it copied has its bit. Once all is
 * present the record says that instead (backing_seal): a worker that has no origin sets no bits.
 *
 * Changes to one block are ordered by the caller's range lock; reads need none. Any thread. */
#ifndef FS_DISK_BACKING_H
#define FS_DISK_BACKING_H

#include "fs/disk/long_wait.h"
#include "fs/disk/origin.h"
#include "fs/disk/written.h"
#include "fs/view/presence_record.h"

struct backing;

struct backing_config {
    struct world *world;
    const char *path;
    uint64_t disk_bytes;
    /* NULL: the file is whole. Else its record is PATH.map and must be there, and belong to `head`.
     */
    const struct origin *origin;
    struct presence_head head;
    struct written *written; /* is told of each change of the file; NULL: nobody */
    void *memory; /* backing_memory_bytes of it, zeroed when fresh; with an origin only */
    bool fresh;   /* false: take over what a dead worker left there */
};

/* 32 MiB for a TiB, of which pages are touched as blocks become present. */
size_t backing_memory_bytes(uint64_t disk_bytes);

bool backing_open(const struct backing_config *config, struct backing **out,
                  struct err *err) MUST_CHECK;
void backing_close(struct backing **b); /* stores nothing */
/* Before others use it: whom its readers and writers tell that they wait, for the origin, a sync or
 * a hole. */
void backing_on_wait(struct backing *b, struct long_wait wait);
struct world_file *backing_file(const struct backing *b);
/* Whether anything may still be read from the origin. */
bool backing_partial(const struct backing *b);

bool backing_read(struct backing *b, uint64_t offset, struct mspan out, struct err *err) MUST_CHECK;
/* The range of whole blocks around it is locked. ERR_TRANSIENT: the rest of a block that is written
 * in part is out of reach. */
bool backing_write(struct backing *b, uint64_t offset, struct span data,
                   struct err *err) MUST_CHECK;
bool backing_zero(struct backing *b, uint64_t offset, uint64_t length, struct err *err) MUST_CHECK;
/* ERR_FULL: there was no room for the presence record, or no memory; nothing is lost, and the next
 * one may succeed. All else is a sync that failed: what was written since the last one is in doubt,
 * and it is not called again until the next worker: see source_flush. */
bool backing_sync(struct backing *b, struct err *err) MUST_CHECK;
/* As world_ops.next_data, over both. Bytes. */
bool backing_next_data(struct backing *b, uint64_t from, uint64_t *start, uint64_t *end,
                       bool *found, struct err *err) MUST_CHECK;

/* --- hydration; see hydrate.h --- */

uint64_t backing_watermark(const struct backing *b); /* a block */
/* Everything below is present, or a hole of the origin. Only ever rises; one thread. */
void backing_raise(struct backing *b, uint64_t block);
bool backing_present(struct backing *b, struct extent blocks, uint64_t *run);
/* Nothing is absent any more, and that is synced: the record says so for good, so that settings
 * which name the origin again, written by somebody who had not seen it go, do no harm. */
bool backing_seal(struct backing *b, struct err *err) MUST_CHECK;
/* Puts what the origin has into those of the blocks that are still absent; the range is locked. */
bool backing_fill(struct backing *b, struct extent blocks, struct span data,
                  struct err *err) MUST_CHECK;
/* The same where the origin has a hole. */
bool backing_fill_hole(struct backing *b, struct extent blocks, struct err *err) MUST_CHECK;
/* The first of the blocks in which the file has bytes, present or not: an absent one may have some,
 * of a write that a power cut or a kill ended half way. */
bool backing_next_bytes(struct backing *b, struct extent blocks, struct extent *out, bool *found,
                        struct err *err) MUST_CHECK;

#endif
