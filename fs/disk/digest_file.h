/* SPDX-License-Identifier: MIT
 * The digest file of one disk: per block the keyed digest of what the source last shipped and saw
 * settled; a sparse file of 16 bytes a block behind a head. Zero: the replica holds zeros there
 * (never shipped, or shipped as a hole). All ones: unknown, ship whatever it is.
 * It says what the *replica* has, so it may never run ahead of it: digests of an epoch are written
 * after its entry is settled, and the journal that holds them goes away only after this file was
 * synced. One thread. */
#ifndef FS_DISK_DIGEST_FILE_H
#define FS_DISK_DIGEST_FILE_H

#include "backend/history/keys.h"
#include "common/extent.h"

struct digest_file;

/* Opens or makes. `key_id` and disk number are checked against the head: ERR_CORRUPT. */
bool digest_file_open(struct world *w, const char *path, uint64_t key_id, uint16_t disk,
                      struct digest_file **out, struct err *err) MUST_CHECK;
void digest_file_close(struct digest_file **f);

/* `count` entries from block `first`; what lies past the end is zero. */
bool digest_file_read(struct digest_file *f, uint64_t first, uint64_t count,
                      struct block_digest *out, struct err *err) MUST_CHECK;
bool digest_file_write(struct digest_file *f, uint64_t first, uint64_t count,
                       const struct block_digest *digests, struct err *err) MUST_CHECK;
/* Zeros for a shipped hole: frees room in the file. */
bool digest_file_hole(struct digest_file *f, uint64_t first, uint64_t count,
                      struct err *err) MUST_CHECK;
bool digest_file_sync(struct digest_file *f, struct err *err) MUST_CHECK;
/* The next blocks that may have a digest, at or after `from`: a quick way over the file's holes.
 * *found false: none to the end. */
bool digest_file_next(struct digest_file *f, uint64_t from, struct extent *out, bool *found,
                      struct err *err) MUST_CHECK;

static inline bool digest_is_zero(const struct block_digest *d)
{
    static const struct block_digest zero;
    return memcmp(d, &zero, sizeof zero) == 0;
}

bool digest_is_unknown(const struct block_digest *d);
extern const struct block_digest digest_unknown;

#endif
