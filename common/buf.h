/* SPDX-License-Identifier: MIT
 * Growing bytes, and the little-endian codec for every stored format.
 * A `buf` grows as it is written and is released once. A `reader` walks borrowed bytes: the first
 * read past the end makes it `failed`, yields zeros from then on, and the caller asks once at the
 * end. No thread safety: one owner. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/cleanup.h"
#include "common/err.h"
#include "common/span.h"

struct buf {
    uint8_t *data;
    size_t length;
    size_t capacity;
    bool failed; /* an allocation failed or the bound was passed: the content is void */
};

#define BUF_NONE                                                                                   \
    (struct buf)                                                                                   \
    {                                                                                              \
        .data = NULL                                                                               \
    }

void buf_release(struct buf *b);
#define AUTO_BUF CLEANUP(buf_release)
/* Overwrites what it held, then releases it. Reserve enough before a secret goes in: a buffer that
 * grows leaves a copy behind. */
void buf_wipe(struct buf *b);
#define AUTO_SECRET_BUF CLEANUP(buf_wipe)

/* Makes room for `extra` more bytes; false (and failed) when memory is short. */
bool buf_reserve(struct buf *b, size_t extra);
/* Adds `length` bytes, uninitialised, and returns where they start; NULL when failed. */
uint8_t *buf_extend(struct buf *b, size_t length);
void buf_clear(struct buf *b); /* length 0, memory kept */

void buf_put(struct buf *b, const void *data, size_t length);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
/* u16 length, then the bytes; at most UINT16_MAX of them (asserted). */
void buf_put_text(struct buf *b, const char *text);
void buf_set_u32(struct buf *b, size_t offset, uint32_t v); /* overwrites; inside (asserted) */

static inline struct span buf_span(const struct buf *b)
{
    return span_of(b->data, b->length);
}

/* False with ERR_FULL when any write above failed. */
bool buf_ok(const struct buf *b, struct err *err) MUST_CHECK;

struct reader {
    const uint8_t *data;
    size_t length;
    size_t offset;
    bool failed;
};

static inline struct reader reader_of(struct span s)
{
    return (struct reader){.data = s.data, .length = s.length};
}

uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
void read_bytes(struct reader *r, void *out, size_t length); /* zeros `out` when failed */
struct span read_span(struct reader *r, size_t length);      /* borrowed; empty when failed */
/* Text written by buf_put_text into `out` of `size` bytes, NUL included; an embedded NUL or a text
 * that does not fit fails the reader. */
void read_text(struct reader *r, char *out, size_t size);

static inline size_t reader_left(const struct reader *r)
{
    return r->length - r->offset;
}

/* Unaligned little-endian access to memory. */
static inline uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t load_u64(const uint8_t *p)
{
    return (uint64_t)load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}

static inline void store_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline void store_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

#endif
