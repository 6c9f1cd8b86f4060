/* SPDX-License-Identifier: MIT
 * A view: one VM's disks as of one recovery point, read lazily from the target store. Opening one
 * reads no disk data. Blocks are authenticated (frame seal, sealed digest, block digest) before a
 * byte of them is served; decrypted blocks are kept in one cache shared by all views of a mount.
 * Any thread may read, several at once. */
#ifndef FS_VIEW_VIEW_H
#define FS_VIEW_VIEW_H

#include "backend/history/history.h"

/* Shared by all views of a process: decoded frames and open runs, bounded in bytes. */
struct view_cache;
bool view_cache_make(uint64_t bytes_max, struct view_cache **out, struct err *err) MUST_CHECK;
void view_cache_release(struct view_cache **c); /* after all views */

struct view_config {
    struct history *history;
    const struct keys *keys;
    struct store **targets; /* index 0: the vault's */
    size_t target_count;
    struct view_cache *cache;
};

struct view;
/* Config and what it points to outlive the view. */
bool view_open(const struct view_config *config, const struct history_point *point,
               struct view **out, struct err *err) MUST_CHECK;
void view_close(struct view **v);

size_t view_disks(const struct view *v);
const struct epoch_disk *view_disk(const struct view *v, size_t index);

/* `disk` is the index in view_disks. Past the end of the disk is asserted against: callers clip.
 * ERR_IO: the source could not read that block. ERR_CORRUPT: names disk and block; it was read
 * twice, and is where the vault's newest records say. */
bool view_read(struct view *v, size_t disk, uint64_t offset, struct mspan out,
               struct err *err) MUST_CHECK;
/* The first blocks at or after `from` that are not holes; *found false: none. */
bool view_next_data(struct view *v, size_t disk, uint64_t from, struct extent *out, bool *found,
                    struct err *err) MUST_CHECK;

/* Reads every live block of the point and checks it; progress(context, done, total) may be NULL;
 * `*bytes` gets how much data was proven. */
bool view_verify(struct view *v, void (*progress)(void *, uint64_t, uint64_t), void *context,
                 uint64_t *bytes, struct err *err) MUST_CHECK;

#endif
