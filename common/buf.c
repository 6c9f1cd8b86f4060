/* SPDX-License-Identifier: MIT */
#include "common/buf.h"

#include <stdlib.h>

#define BUF_FIRST 256u

void buf_release(struct buf *b)
{
    free(b->data);
    *b = BUF_NONE;
}

void buf_wipe(struct buf *b)
{
    if (b->data != NULL)
        explicit_bzero(b->data, b->capacity);
    buf_release(b);
}

void buf_clear(struct buf *b)
{
    b->length = 0;
    b->failed = false;
}

bool buf_reserve(struct buf *b, size_t extra)
{
    if (b->failed)
        return false;
    if (b->data != NULL && extra <= b->capacity - b->length)
        return true;
    size_t want = b->capacity ? b->capacity : BUF_FIRST;
    if (extra > SIZE_MAX / 4 || b->length > SIZE_MAX / 4) {
        b->failed = true;
        return false;
    }
    while (want < b->length + extra)
        want *= 2;
    uint8_t *grown = realloc(b->data, want);
    if (grown == NULL) {
        b->failed = true;
        return false;
    }
    b->data = grown;
    b->capacity = want;
    return true;
}

uint8_t *buf_extend(struct buf *b, size_t length)
{
    if (!buf_reserve(b, length))
        return NULL;
    uint8_t *start = b->data + b->length;
    b->length += length;
    return start;
}

void buf_put(struct buf *b, const void *data, size_t length)
{
    if (length == 0)
        return;
    uint8_t *start = buf_extend(b, length);
    if (start != NULL)
        memcpy(start, data, length);
}

static void put_le(struct buf *b, uint64_t v, size_t width)
{
    uint8_t bytes[8];
    store_u64(bytes, v);
    buf_put(b, bytes, width);
}

void buf_put_u8(struct buf *b, uint8_t v)
{
    put_le(b, v, 1);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    put_le(b, v, 2);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void buf_put_text(struct buf *b, const char *text)
{
    size_t length = strlen(text);
    assert(length <= UINT16_MAX);
    buf_put_u16(b, (uint16_t)length);
    buf_put(b, text, length);
}

void buf_set_u32(struct buf *b, size_t offset, uint32_t v)
{
    if (b->failed)
        return;
    assert(offset + 4 <= b->length);
    store_u32(b->data + offset, v);
}

bool buf_ok(const struct buf *b, struct err *err)
{
    if (!b->failed)
        return true;
    return err_set(err, ERR_FULL, "out of memory");
}

struct span read_span(struct reader *r, size_t length)
{
    if (r->failed || length > r->length - r->offset) {
        r->failed = true;
        return span_of(NULL, 0);
    }
    struct span s = span_of(r->data + r->offset, length);
    r->offset += length;
    return s;
}

void read_bytes(struct reader *r, void *out, size_t length)
{
    struct span s = read_span(r, length);
    if (r->failed)
        memset(out, 0, length);
    else if (length > 0)
        memcpy(out, s.data, length);
}

static uint64_t read_le(struct reader *r, size_t width)
{
    uint8_t bytes[8] = {0};
    read_bytes(r, bytes, width);
    return load_u64(bytes);
}

uint8_t read_u8(struct reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t read_u16(struct reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t read_u32(struct reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t read_u64(struct reader *r)
{
    return read_le(r, 8);
}

void read_text(struct reader *r, char *out, size_t size)
{
    size_t length = read_u16(r);
    struct span s = read_span(r, length);
    if (!r->failed && (length >= size || (length > 0 && memchr(s.data, 0, length) != NULL)))
        r->failed = true;
    if (r->failed) {
        out[0] = '\0';
        return;
    }
    if (length > 0)
        memcpy(out, s.data, length);
    out[length] = '\0';
}
