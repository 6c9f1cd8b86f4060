/* SPDX-License-Identifier: MIT
 * The presence record: a sparse file of pages, a bit per block, behind a head that says what it
 * belongs to. Bits are only ever set. A page torn by a power cut therefore shows each bit as it was
 * or as it became, and both are true when the data was synced before the page was written; that is
 * why pages carry no checksum. docs/FORMAT.md has the bytes. One thread per file. */
#ifndef FS_VIEW_PRESENCE_RECORD_H
#define FS_VIEW_PRESENCE_RECORD_H

#include "backend/history/keys.h"
#include "common/extent.h"
#include "common/file.h"

#define PRESENCE_PAGE_BYTES  4096u
#define PRESENCE_PAGE_BLOCKS (PRESENCE_PAGE_BYTES * 8u) /* 128 MiB of disk */
#define PRESENCE_HEAD_BYTES  4096u

/* What the record belongs to; every field must match when it is opened again. */
struct presence_head {
    uint8_t vm[VM_ID_BYTES];
    uint64_t generation_id;
    uint64_t epoch;
    uint16_t disk;
    uint64_t disk_bytes;
};

/* Makes the record with no bit set, whole and durably. */
bool presence_create(struct world *w, const char *path, const struct presence_head *head,
                     struct err *err) MUST_CHECK;

/* ERR_NOT_FOUND: no record. ERR_CORRUPT: damaged, or it belongs to another VM, point or disk.
 * *whole: every block is present, whatever the bits say. NULL: one that says so is foreign. */
bool presence_record_open(struct world *w, const char *path, const struct presence_head *head,
                          struct world_file **out, bool *whole, struct err *err) MUST_CHECK;
/* From here on the record says so, durably; before, all data is synced. For good. */
bool presence_record_whole(struct world_file *file, const struct presence_head *head,
                           struct err *err) MUST_CHECK;
/* Each page that the file has data for: the cost follows what was written, not the disk. `bits` is
 * PRESENCE_PAGE_BYTES; false ends it, as a failure that `page` has told in `err` its own way. */
typedef bool presence_page_fn(void *context, uint64_t index, const uint8_t *bits, struct err *err);
bool presence_record_pages(struct world_file *file, uint64_t page_count, presence_page_fn *page,
                           void *context, struct err *err) MUST_CHECK;
/* Writes one page; not synced. */
bool presence_record_put(struct world_file *file, uint64_t index, const uint8_t *bits,
                         struct err *err) MUST_CHECK;

#endif
