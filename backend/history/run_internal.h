/* SPDX-License-Identifier: MIT
 * What the builder and the reader of runs share, and the parsers of the plain root and pages, for
 * tests and fuzzers. docs/FORMAT.md has the bytes. Nothing else includes this header. */
#ifndef BACKEND_HISTORY_RUN_INTERNAL_H
#define BACKEND_HISTORY_RUN_INTERNAL_H

#include "backend/history/codec_internal.h"

#define RUN_MAGIC             "FSRUN"
#define RUN_HEAD_BYTES        (MAGIC_BYTES + 2 + 2 + 8 + SEAL_SALT_BYTES + 4 + 4 + 8)
#define RUN_AAD_BYTES         (RUN_HEAD_BYTES + VM_ID_BYTES + 4)
#define RUN_PAGE_REF_BYTES    (2 + 8 + 4 + 4)
#define RUN_PAGE_ENTRIES_MAX  2048u
#define RUN_SALTS_MAX         262144u
#define RUN_FILTER_RANGES_MAX 65536u
#define RUN_FILTER_SHIFT_MAX  30u /* one unit is a whole disk then */
#define RUN_BYTES_MAX         (1ull << 40)

/* Seal counters and the last field of the AAD: 0 for the root, page number + 1 for a page. */
#define RUN_ROOT_COUNTER 0u

enum run_entry_bits {
    RUN_ENTRY_KIND = 3,
    RUN_ENTRY_NEXT_DISK = 1 << 2,
};

/* Where the next entry's disk and block are counted from: the end of the one before it in the
 * page, zero at the start of a page. */
struct run_position {
    uint16_t disk;
    uint64_t block;
};

/* A row of touched units of 1 MiB << shift. */
struct run_range {
    uint16_t disk;
    uint32_t first;
    uint32_t count;
};

struct run_page_ref {
    uint64_t first_block; /* of its first entry */
    uint64_t first_entry; /* index in the run */
    uint64_t offset;      /* of the sealed page in the run */
    uint32_t entries;
    uint32_t bytes; /* plain */
    uint16_t disk;  /* of its first entry */
};

struct run_root {
    struct run_head head;
    uint64_t entries;
    uint32_t segment_count;
    uint32_t salt_count;
    uint32_t page_count;
    uint32_t range_count;
    uint8_t filter_shift;
    char *names; /* one after another, each with its NUL */
    uint32_t *name_offsets;
    struct seal_salt *salts;
    struct run_page_ref *pages;
    struct run_range *ranges;
};

/* Where entry i of a page lies, so that a search decodes only one. */
struct run_mark {
    uint64_t first;
    uint64_t end;
    uint32_t offset;
    uint16_t disk;
};

/* The AAD of the root and of each page. */
void run_aad(const uint8_t head[RUN_HEAD_BYTES], const uint8_t vm[VM_ID_BYTES], uint32_t counter,
             uint8_t out[RUN_AAD_BYTES]);

/* `page_count` and `total_bytes` are those of the clear head. */
bool run_root_parse(struct span plain, uint32_t page_count, uint64_t total_bytes,
                    struct run_root *out, struct err *err) MUST_CHECK;
void run_root_release(struct run_root *root);

/* Checks every entry of page `number` and fills marks[0 .. entries). */
bool run_page_parse(const struct run_root *root, uint32_t number, struct span plain,
                    struct run_mark *marks, struct err *err) MUST_CHECK;
/* Reads the entry at r and moves `at` to its end; a bad one fails the reader. */
void run_entry_read(struct reader *r, const struct run_root *root, struct run_position *at,
                    struct run_entry *out);

/* What a well-formed entry is, for builder and reader alike. */
bool run_entry_valid(const struct run_entry *e);

#endif
