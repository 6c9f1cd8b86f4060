/* SPDX-License-Identifier: MIT
 * Files through a world, whole or not at all, with errors that name the path. Any thread may call
 * with a file that it shares: nothing here keeps state. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include "common/buf.h"
#include "common/world.h"

void file_close(struct world_file **f); /* NULL inside is fine; leaves NULL */
#define AUTO_FILE CLEANUP(file_close)

bool file_open(struct world *w, const char *path, int flags, mode_t mode, struct world_file **out,
               struct err *err) MUST_CHECK;

/* Fills `out`; bytes past the end of the file read as zeros. */
bool file_read(struct world_file *f, struct mspan out, uint64_t offset, struct err *err) MUST_CHECK;
/* Writes all of `data`, through short writes and EINTR. */
bool file_write(struct world_file *f, struct span data, uint64_t offset,
                struct err *err) MUST_CHECK;
bool file_sync(struct world_file *f, struct err *err) MUST_CHECK;

/* The whole of a small file; longer than `bytes_max` is ERR_CORRUPT. Replaces what `out` held. */
bool file_load(struct world *w, const char *path, size_t bytes_max, struct buf *out,
               struct err *err) MUST_CHECK;
/* Replaces `path` atomically and durably: PATH.new written, synced, renamed, folder synced. */
bool file_replace(struct world *w, const char *path, mode_t mode, struct span data,
                  struct err *err) MUST_CHECK;
/* Makes a file that was not there, whole and durably: PATH.new written, synced, linked, folder
 * synced. ERR_EXISTS never touches what is there. After another failure it may be there, whole. */
bool file_create(struct world *w, const char *path, mode_t mode, struct span data,
                 struct err *err) MUST_CHECK;
/* Removes and syncs the folder; a missing file is success. */
bool file_remove(struct world *w, const char *path, struct err *err) MUST_CHECK;
/* Removes the files of a folder and syncs it; a missing folder is success. */
bool dir_empty(struct world *w, const char *path, struct err *err) MUST_CHECK;
/* mkdir -p, each new level durable; an existing folder is success. */
bool dir_make(struct world *w, const char *path, mode_t mode, struct err *err) MUST_CHECK;

#endif
