/* SPDX-License-Identifier: MIT
 * A run: the sorted map of what epochs [a..b] changed, one format for a delta, a merged history
 * and a full base. Entries are sorted by (disk, first block) and never overlap. The encoded run is
 * a byte string: a sealed root (segment table, salt table, page index, region filter) and sealed
 * pages of entries, each authenticated with the history key, so that a reader fetches the root and
 * then only the pages that it needs. It can lie inside an end object or at any offset of an
 * object. docs/FORMAT.md has the bytes. Same input and salt, same bytes. */
#ifndef BACKEND_HISTORY_RUN_H
#define BACKEND_HISTORY_RUN_H

#include "backend/history/frame.h"

enum run_kind {
    RUN_DATA = 1,   /* blocks of a frame */
    RUN_HOLE,       /* zero */
    RUN_UNREADABLE, /* the source could not read it: EIO in every view until shipped again */
};

/* One entry. For RUN_DATA [first, first + count) is the live part of the frame's own range
 * (frame.first, frame.blocks), count <= 16; digests[i] is that of block first + i. */
struct run_entry {
    enum run_kind kind;
    uint16_t disk;
    uint64_t first;
    uint64_t count;
    struct frame_id frame; /* RUN_DATA; vm is that of the run */
    uint32_t segment;      /* index in the run's segment table */
    uint32_t offset;       /* of the stored frame in the segment object */
    uint32_t stored_bytes;
    struct block_digest sealed_digest; /* of the stored bytes */
    struct block_digest digests[FRAME_BLOCKS_MAX];
};

#define RUN_SEGMENTS_MAX     65536u
#define RUN_SEGMENT_NAME_MAX 160u /* store key relative to the VM's prefix */
#define RUN_PAGE_BYTES_MAX   65536u
#define RUN_ROOT_BYTES_MAX   (32u << 20)

struct run_head {
    uint8_t vm[VM_ID_BYTES];
    uint64_t generation_id; /* of the newest epoch */
    uint64_t epoch_first;
    uint64_t epoch_last;
};

/* --- building: entries are added in order; memory grows with the entries --- */
struct run_builder;
bool run_builder_make(const struct run_head *head, struct run_builder **out,
                      struct err *err) MUST_CHECK;
void run_builder_release(struct run_builder **b);
#define AUTO_RUN_BUILDER CLEANUP(run_builder_release)
/* Index of a segment name in the table, added when new. */
bool run_builder_segment(struct run_builder *b, const char *name, uint32_t *index,
                         struct err *err) MUST_CHECK;
/* Adjacent holes join, and so do adjacent unreadable entries. Out of order or overlapping:
 * asserted. */
bool run_builder_add(struct run_builder *b, const struct run_entry *entry,
                     struct err *err) MUST_CHECK;
uint64_t run_builder_entries(const struct run_builder *b);
/* Whether it would be `bytes` long by now, about, or may take no other entry. */
bool run_builder_full(const struct run_builder *b, uint64_t bytes);
/* Appends the encoded run to `out`. Once: nothing is added afterwards. */
bool run_builder_finish(struct run_builder *b, const struct keys *keys,
                        const struct seal_salt *salt, struct buf *out, struct err *err) MUST_CHECK;

/* --- reading --- */

/* Where the encoded bytes are: memory, or a range of an object. `fetch` fills `out` whole from
 * `offset` of the run. Called under no lock of the run's; may block. */
struct run_source {
    bool (*fetch)(void *context, uint64_t offset, struct mspan out, struct err *err);
    void *context;
    uint64_t bytes; /* of the whole encoded run */
    /* Of the same, NULL when it is not known: compared when a run is so short that it is read
     * whole. Its seals bind a run to its epochs, this to the very run that a record names. */
    const struct sha256 *digest; /* read by run_open alone */
};

/* One that lies in memory; `encoded` and its bytes are borrowed and outlive the run. */
struct run_source run_in_memory(const struct span *encoded);

struct run; /* an open run: its root in memory, and decoded pages, cached up to a bound */

/* Reads and checks the root. Any thread may look up in one run at once. `keys` and what `source`
 * refers to are borrowed and outlive the run. */
bool run_open(const struct keys *keys, const uint8_t vm[VM_ID_BYTES], struct run_source source,
              struct run **out, struct err *err) MUST_CHECK;
void run_close(struct run **r);
#define AUTO_RUN CLEANUP(run_close)

const struct run_head *run_head(const struct run *r);
uint32_t run_segments(const struct run *r);
const char *run_segment_name(const struct run *r, uint32_t index);
uint64_t run_entries(const struct run *r);

/* False when the run surely holds nothing of that 1 MiB region (block / REGION_BLOCKS): asks the
 * filter in the root, fetches nothing. */
bool run_may_touch(const struct run *r, uint16_t disk, uint64_t region);

/* The entry that holds (disk, block), or the first one after it on the same disk: *found false
 * when there is none. */
bool run_find(struct run *r, uint16_t disk, uint64_t block, struct run_entry *out, bool *found,
              struct err *err) MUST_CHECK;

/* All entries in order, page by page. */
struct run_cursor {
    struct run *run;
    uint64_t next; /* entry index */
};
/* Said of a run that is read in order alone, by one thread: it keeps one page. */
void run_in_order(struct run *r);
bool run_next(struct run_cursor *c, struct run_entry *out, bool *found, struct err *err) MUST_CHECK;

/* Cuts `entry` to its overlap with [first, first + count); false when there is none. */
bool run_entry_clip(struct run_entry *entry, uint64_t first, uint64_t count);

#endif
